//! What `tracing` subscribers write, as messages of a channel that a thread writes out.

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
use crate::channel::source::PayloadSource;
use crate::channel::{QueuePosition, Refusal};
use crate::error::{BuildError, SendError};
use crate::monitor::Monitor;
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::sync::{AtomicU64, OnceLock, Ordering};
use crate::wait::blocking;

/// How long a guard that is dropped waits for what is still to be written.
const DROP_LIMIT: Duration = Duration::from_secs(1);

impl Builder {
    /// Makes a channel for what a `tracing` subscriber writes, and a thread that writes it to `out`: a file, standard
    /// output, a socket. Whoever logs only copies the formatted event into the channel.
    ///
    /// Whether that waits or loses events when `out` is too slow is up to [`when_full`](Self::when_full), and how much
    /// lies in between to [`max_bytes`](Self::max_bytes).
    ///
    /// The thread writes all that is there at once, by [`write_vectored`](io::Write::write_vectored), and flushes
    /// when nothing more is queued. `out` needs no buffer of its own, if it takes many slices at once as files and
    /// sockets do. The first event after a pause is written at once; those behind it gather for a millisecond at a
    /// time, as waking the thread for each would cost whoever logs more than the event does. Below 1 MiB of
    /// `max_bytes` they do not.
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
        self,
        out: impl io::Write + Send + 'static,
    ) -> Result<(TracingWriter, WorkerGuard), BuildError> {
        let (sender, receiver) = self.build()?;
        let shared = Arc::new(Shared::default());
        let (ended_tx, ended) = oneshot::channel();
        let worker = Worker::new(out, receiver.clone(), Arc::clone(&shared));
        thread::Builder::new()
            .name("tracing-writer".into())
            // Nobody may be there to be told: the guard does not wait for ever.
            .spawn(move || ended_tx.send(worker.run()))
            .map_err(|error| BuildError::NoThread(error.kind()))?;
        Ok((TracingWriter { sender, shared }, WorkerGuard { receiver, ended: Some(ended) }))
    }
}

/// A [`MakeWriter`] for the layers of `tracing_subscriber::fmt`, whose output another thread writes; made by
/// [`Builder::tracing_writer`].
///
/// Each write is one message. The layers of `tracing_subscriber::fmt` format an event first and write it in one go: one
/// event, one message. It may be used wherever events are logged: in tasks, on threads, also when the runtime has shut
/// down.
///
/// When the channel is full, [`WhenFull`](crate::WhenFull) decides: with `Wait` the thread that logs is blocked until
/// there is room, which needs no other task to run; with the others an event is lost and counted. The thread that writes
/// never waits for itself: what it logs, in `out`, is lost when the channel is full.
///
/// # Errors
///
/// Those of [`SendError`] as an [`io::Error`]: after the shutdown, and for an event that is longer than
/// `max_message_bytes` or finds a channel that [rejects](crate::WhenFull::Reject) full. It is counted as dropped, and a
/// subscriber tells of it on standard error.
#[derive(Clone)]
pub struct TracingWriter {
    sender: Sender,
    shared: Arc<Shared>,
}

/// What both sides look at.
#[derive(Default)]
struct Shared {
    /// Messages that the channel did not accept.
    refused: AtomicU64,
    /// The thread that writes, once it runs.
    worker: OnceLock<ThreadId>,
}

impl Shared {
    fn is_worker(&self) -> bool {
        self.worker.get() == Some(&thread::current().id())
    }

    fn refused(&self) -> u64 {
        // ORDERING: Relaxed: a figure.
        self.refused.load(Ordering::Relaxed)
    }
}

impl TracingWriter {
    /// A view of the channel's figures: what is queued, what was dropped, where the memory is.
    pub fn monitor(&self) -> Monitor {
        self.sender.monitor()
    }

    fn send(&self, message: &[u8]) -> Result<(), SendError<()>> {
        if self.sender.write_fast(&mut PayloadSource(message)) {
            return Ok(());
        }
        self.send_slow(message).map_err(|refusal| self.sender.refused(refusal, ()))
    }

    #[cold]
    fn send_slow(&self, message: &[u8]) -> Result<(), Refusal> {
        let mut source = PayloadSource(message);
        if self.shared.is_worker() {
            return self.sender.push(&mut source, QueuePosition::Barging);
        }
        let sending = self.sender.write_or_wait_for_room(|position| self.sender.push(&mut source, position));
        blocking::anywhere(None, sending).expect("there is no limit")
    }
}

impl io::Write for &TracingWriter {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        if message.is_empty() {
            return Ok(0);
        }
        self.send(message).map(|()| message.len()).map_err(|error| {
            // ORDERING: Relaxed: a figure.
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
            error.into()
        })
    }

    /// Does nothing: the thread that writes flushes when nothing more is queued.
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

/// Sees to it that everything logged is written; made by [`Builder::tracing_writer`], to be kept to the end of `main`.
///
/// [`shutdown`](Self::shutdown) is the way to end: it waits for all of it, and tells what became of it. Dropping the
/// guard, as a panic or an early return does, closes the channel too, and blocks its thread until everything is written,
/// but no longer than a second; what is still to be written then goes on being written as long as the process lives.
/// Nothing is written once the process has exited: `std::process::exit` drops no guard.
#[must_use = "what was logged is written in the background only for as long as the guard is there"]
pub struct WorkerGuard {
    receiver: Receiver,
    ended: Option<oneshot::Receiver<WriteReport>>,
}

impl WorkerGuard {
    /// Closes the channel, and waits until everything accepted before is written and flushed.
    ///
    /// Whatever is logged from now on is refused, though subscribers may still hold the [`TracingWriter`].
    ///
    /// # Cancel safety
    ///
    /// A `shutdown` that is dropped before it returned has closed the channel, once it was polled; the thread goes on
    /// writing what was accepted, and nobody waits for it.
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
        let ended = self.ended.take().expect("taken by its end only");
        ended.await.expect("the thread that writes contains every panic")
    }
}

impl Drop for WorkerGuard {
    fn drop(&mut self) {
        if let Some(ended) = self.ended.take() {
            self.receiver.close();
            let _ = blocking::anywhere(Some(DROP_LIMIT), ended);
        }
    }
}

impl fmt::Debug for WorkerGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerGuard").field("receiver", &self.receiver).finish_non_exhaustive()
    }
}

/// What became of everything that was logged: each message was written, dropped, or failed.
#[derive(Debug, Default)]
#[non_exhaustive]
#[must_use = "it tells what was lost"]
pub struct WriteReport {
    /// Messages that `out` took in full.
    pub written_messages: u64,
    /// Bytes that `out` took.
    pub written_bytes: u64,
    /// Messages that never reached `out`: the channel was full, or closed already, or they were too long.
    pub dropped_messages: u64,
    /// Messages that `out` refused, or took a part of only.
    pub failed_messages: u64,
    /// The first error of `out`, be it from writing or from flushing. A panic is one too.
    pub error: Option<io::Error>,
}

impl WriteReport {
    /// Whether nothing was lost.
    pub fn is_complete(&self) -> bool {
        self.dropped_messages == 0 && self.failed_messages == 0 && self.error.is_none()
    }
}
