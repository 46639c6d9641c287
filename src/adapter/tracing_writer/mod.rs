//! A writer for `tracing` subscribers: a channel, and a worker thread that writes its messages to `out`.
//!
//! ```text
//!   logging threads -- TracingWriter --> channel -- worker thread --> out
//!                                           ^             |
//!                      WorkerGuard --close--+             +--WriteReport--> WorkerGuard
//! ```

mod worker;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{self, ThreadId};
use std::time::Duration;

use tokio::sync::oneshot;
use tracing_subscriber::fmt::MakeWriter;

use self::worker::Worker;
use crate::builder::Builder;
use crate::channel::Refusal;
use crate::channel::source::PayloadSource;
use crate::error::{BuildError, SendError};
use crate::monitor::Monitor;
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::sync::unwind::CatchDrop;
use crate::sync::{AtomicU64, OnceLock, Ordering};
use crate::wait::blocking;

/// How long the drop of a guard waits for the worker thread.
const DROP_TIMEOUT: Duration = Duration::from_secs(1);

impl Builder {
    /// Builds a channel for the output of a `tracing` subscriber, and a thread that writes it to `out`.
    ///
    /// `out` is a file, standard output, a socket, or the like. A thread that logs only copies the formatted event into
    /// the channel. If `out` is too slow, [`when_full`](Self::when_full) decides whether logging waits or loses events;
    /// [`max_bytes`](Self::max_bytes) bounds what is queued.
    ///
    /// The worker thread writes all queued events at once with [`write_vectored`](io::Write::write_vectored), and flushes
    /// when nothing more is queued. `out` needs no buffer of its own if it takes many slices per call, as files and
    /// sockets do. The first event after a pause is written at once. Later events are coalesced for a millisecond at a
    /// time: to wake the worker thread for each would cost the logging thread more than the event itself. If `max_bytes`
    /// is below 1 MiB, events are not coalesced.
    ///
    /// The channel has no span and emits no events: a subscriber at TRACE writes what the program logged, and nothing about
    /// its own output. [`TracingWriter::monitor`] and the [`WriteReport`] count what was dropped.
    ///
    /// # Errors
    ///
    /// Those of [`build`](Self::build), and [`BuildError::NoThread`].
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use turbostream::WhenFull;
    /// let file = tempfile::tempfile()?;
    /// let (writer, guard) = turbostream::builder()
    ///     .max_bytes(4 << 20)
    ///     .when_full(WhenFull::DropNewest) // lose events rather than make a request wait
    ///     .tracing_writer(file)?;
    /// let subscriber = tracing_subscriber::fmt().with_writer(writer).finish();
    /// tracing::subscriber::with_default(subscriber, || {
    ///     tracing::info!(request = 17, "served");
    /// });
    ///
    /// let report = guard.shutdown().await;
    /// assert_eq!((report.written_messages, report.dropped_messages), (1, 0));
    /// assert!(report.error.is_none());
    /// # Ok(()) }
    /// ```
    pub fn tracing_writer(
        mut self,
        out: impl io::Write + Send + 'static,
    ) -> Result<(TracingWriter, WorkerGuard), BuildError> {
        self.is_silent = true;
        let (sender, receiver) = self.build()?;
        let shared = Arc::new(Shared::default());
        let (report_tx, report) = oneshot::channel();
        let worker = Worker::new(out, receiver.clone(), Arc::clone(&shared));
        thread::Builder::new()
            .name("tracing-writer".into())
            // The send fails if the guard is dropped already: its drop waits for a limited time only.
            .spawn(move || report_tx.send(CatchDrop::new(worker.run())))
            .map_err(|error| BuildError::NoThread(error.kind()))?;
        Ok((TracingWriter { sender, shared }, WorkerGuard { receiver, report: Some(report) }))
    }
}

/// A [`MakeWriter`] for the layers of `tracing_subscriber::fmt`; made by [`Builder::tracing_writer`].
///
/// Each write is one message. The layers of `tracing_subscriber::fmt` format an event and write it with one call, so each
/// event is one message. The writer works in tasks and on plain threads, also after the runtime has shut down.
///
/// If the channel is full, [`WhenFull`](crate::WhenFull) decides. With `Wait` the logging thread blocks until there is
/// room; no other task has to run for that. Otherwise an event is dropped and counted. The worker thread never waits for
/// itself: an event that `out` logs while the channel is full is dropped.
///
/// # Errors
///
/// Those of [`SendError`] as an [`io::Error`]: after the shutdown, if the event is longer than `max_message_bytes`, and
/// if a channel that [rejects](crate::WhenFull::Reject) is full. The event is counted as dropped, and the subscriber
/// reports the error on standard error.
#[derive(Clone)]
pub struct TracingWriter {
    sender: Sender,
    shared: Arc<Shared>,
}

/// State shared by the writers and the worker thread.
#[derive(Default)]
struct Shared {
    /// Messages that the channel refused.
    refused: AtomicU64,
    /// The worker thread, once it runs.
    worker: OnceLock<ThreadId>,
}

impl Shared {
    /// Returns whether this thread is the worker thread.
    fn is_worker(&self) -> bool {
        self.worker.get() == Some(&thread::current().id())
    }

    fn refused(&self) -> u64 {
        // ORDERING: Relaxed: statistic only.
        self.refused.load(Ordering::Relaxed)
    }
}

impl TracingWriter {
    /// Returns a view of the channel's statistics: queued and dropped messages, memory by state.
    pub fn monitor(&self) -> Monitor {
        self.sender.monitor()
    }

    fn send(&self, message: &[u8]) -> Result<(), SendError<()>> {
        if self.sender.write_fast(&mut PayloadSource(message)) {
            return Ok(());
        }
        self.send_slow(message).map_err(|refusal| self.sender.refused(refusal, ()))
    }

    /// Sends, and blocks while the channel is full; on the worker thread it does not block.
    #[cold]
    fn send_slow(&self, message: &[u8]) -> Result<(), Refusal> {
        let mut source = PayloadSource(message);
        if self.shared.is_worker() {
            return self.sender.push(&mut source, None);
        }
        let demand = self.sender.core().demand(&source);
        let sending =
            self.sender.write_or_wait_for_room(demand, |ticket| self.sender.push(&mut source, ticket));
        blocking::block_on_any_thread(None, sending).expect("no time limit is set")
    }
}

impl io::Write for &TracingWriter {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        if message.is_empty() {
            return Ok(0);
        }
        self.send(message).map(|()| message.len()).map_err(|error| {
            // ORDERING: Relaxed: statistic only.
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
            error.into()
        })
    }

    /// Does nothing: the worker thread flushes when nothing more is queued.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for TracingWriter {
    type Writer = &'a TracingWriter;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl fmt::Debug for TracingWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TracingWriter").field("sender", &self.sender).finish_non_exhaustive()
    }
}

/// Keeps the channel of a [`TracingWriter`] open; made by [`Builder::tracing_writer`].
///
/// Keep it until the end of `main`, and end with [`shutdown`](Self::shutdown): it waits until everything is written, and
/// reports what was lost. Dropping the guard, for example by a panic or an early return, closes the channel too. The drop
/// blocks its thread until everything is written, but no longer than a second. The worker thread then writes the
/// remaining messages as long as the process runs. Nothing is written after the process has exited:
/// `std::process::exit` drops no guard.
#[must_use = "dropping the guard closes the channel, after which nothing more is logged"]
pub struct WorkerGuard {
    receiver: Receiver,
    /// What the worker thread sends when it ends; `None` once a shutdown waits for it.
    ///
    /// The report may contain an error of the output, whose drop is user code.
    report: Option<oneshot::Receiver<CatchDrop<WriteReport>>>,
}

impl WorkerGuard {
    /// Closes the channel, and waits until every accepted message is written and flushed.
    ///
    /// Later events are refused. Subscribers may still hold the [`TracingWriter`].
    ///
    /// # Cancel safety
    ///
    /// The first poll closes the channel. If the future is dropped after that, the worker thread still writes what was
    /// accepted, and no caller waits for it.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::io::Write;
    /// let (writer, guard) = turbostream::builder().tracing_writer(std::io::stdout())?;
    /// (&writer).write_all(b"the last words\n")?;
    /// let report = guard.shutdown().await;
    /// assert!(report.is_complete(), "{report:?}");
    /// assert!((&writer).write_all(b"too late\n").is_err());
    /// # Ok(()) }
    /// ```
    pub async fn shutdown(mut self) -> WriteReport {
        self.receiver.close();
        let report = self.report.take().expect("only the shutdown and the drop take it");
        report.await.expect("the worker thread catches every panic").into_inner()
    }
}

impl Drop for WorkerGuard {
    fn drop(&mut self) {
        if let Some(report) = self.report.take() {
            self.receiver.close();
            let _ = blocking::block_on_any_thread(Some(DROP_TIMEOUT), report);
        }
    }
}

impl fmt::Debug for WorkerGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerGuard").field("receiver", &self.receiver).finish_non_exhaustive()
    }
}

/// The outcome of everything logged: each message was written, dropped, or failed.
#[derive(Debug, Default)]
#[non_exhaustive]
#[must_use = "the report says what was lost"]
pub struct WriteReport {
    /// Messages written to `out` in full.
    pub written_messages: u64,
    /// Bytes written to `out`.
    pub written_bytes: u64,
    /// Messages that never reached `out`: the channel was full or closed, or they were too long.
    pub dropped_messages: u64,
    /// Messages that `out` failed to write, or wrote in part only.
    pub failed_messages: u64,
    /// The first error of `out`, from a write or a flush. A panic of `out` counts as an error.
    pub error: Option<io::Error>,
}

impl WriteReport {
    /// Returns whether nothing was lost and no error occurred.
    pub fn is_complete(&self) -> bool {
        self.dropped_messages == 0 && self.failed_messages == 0 && self.error.is_none()
    }
}
