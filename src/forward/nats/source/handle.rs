//! What the user holds of a running source: the handle, its statistics, the report and the error at the end.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use tokio::sync::{mpsc, watch};

use crate::forward::BoxError;
use crate::sender::Sender;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// A running [`JetStreamSource`](super::JetStreamSource). Dropping it leaves the source running.
pub struct SourceHandle {
    shared: Arc<Shared>,
    stops: mpsc::UnboundedSender<Option<Duration>>,
    ended: watch::Receiver<bool>,
}

/// The task's side of a [`SourceHandle`].
pub(super) struct TaskEnd {
    pub(super) shared: Arc<Shared>,
    /// A request to stop, with a time limit.
    pub(super) stops: mpsc::UnboundedReceiver<Option<Duration>>,
    ended: watch::Sender<bool>,
}

pub(super) struct Shared {
    pub(super) counters: Counters,
    /// Unknown until the first message has arrived.
    client: OnceLock<Client>,
    /// Whether the server answered last, while the client is unknown. Statistics only: every access is relaxed.
    answers: AtomicBool,
    outcome: Mutex<Outcome>,
}

enum Outcome {
    Running,
    Ended(Result<SourceReport, SourceError>),
    Taken,
}

impl Shared {
    pub(super) fn note_connection(&self, client: Option<&Client>, answers: bool) {
        match client {
            Some(client) => _ = self.client.get_or_init(|| client.clone()),
            // ORDERING: Relaxed: statistic only.
            None => self.answers.store(answers, Ordering::Relaxed),
        }
    }

    fn stats(&self) -> SourceStats {
        let connected = match self.client.get() {
            Some(client) => client.connection_state() == State::Connected,
            // ORDERING: Relaxed: statistic only.
            None => self.answers.load(Ordering::Relaxed),
        };
        self.counters.stats(connected)
    }
}

/// Statistics only: every access is relaxed.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) pulled: Count,
    pub(super) pulled_bytes: Count,
    pub(super) redelivered: Count,
    pub(super) accepted: Count,
    pub(super) acknowledged: Count,
    pub(super) returned: Count,
    pub(super) rejected: Count,
    pub(super) skipped: Count,
    pub(super) unacknowledged: Count,
    pub(super) pull_failures: Count,
}

#[derive(Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, n: usize) {
        // ORDERING: Relaxed: statistic only.
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(super) fn set(&self, n: usize) {
        // ORDERING: Relaxed: statistic only.
        self.0.store(n as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        // ORDERING: Relaxed: statistic only.
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    fn stats(&self, connected: bool) -> SourceStats {
        SourceStats {
            pulled: self.pulled.get(),
            pulled_bytes: self.pulled_bytes.get(),
            redelivered: self.redelivered.get(),
            accepted: self.accepted.get(),
            acknowledged: self.acknowledged.get(),
            returned: self.returned.get(),
            rejected: self.rejected.get(),
            skipped: self.skipped.get(),
            unacknowledged: self.unacknowledged.get(),
            pull_failures: self.pull_failures.get(),
            connected,
        }
    }
}

/// Statistics of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceStats {
    /// Messages that arrived from the server.
    pub pulled: u64,
    /// The bytes of their payloads.
    pub pulled_bytes: u64,
    /// Messages among those pulled that the server had delivered before, to this source or another.
    pub redelivered: u64,
    /// Messages that the channel accepted. With [`unpack`](super::JetStreamSource::unpack) they may be more than those pulled.
    pub accepted: u64,
    /// Messages whose acknowledgement was handed to the client, those skipped included.
    pub acknowledged: u64,
    /// Messages given back to the server by a negative acknowledgement when the source stopped.
    pub returned: u64,
    /// Messages that can never be sent; see [`SourceRejection`](super::SourceRejection).
    pub rejected: u64,
    /// Messages that [`filter_map`](super::JetStreamSource::filter_map) skipped.
    pub skipped: u64,
    /// Messages that arrived and are neither acknowledged, returned nor rejected now.
    pub unacknowledged: u64,
    /// How often the source had to start pulling anew: the connection was lost, the server did not answer or refused.
    pub pull_failures: u64,
    /// Whether the client is connected now. Until the first message has arrived, whether the server answered last.
    pub connected: bool,
}

/// Why a source ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceEnd {
    /// [`SourceHandle::stop`] or [`SourceHandle::stop_timeout`] was called.
    Stopped,
    /// The channel was closed: every receiver was dropped, or a handle closed it.
    ChannelClosed,
}

/// What a source did until it ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct SourceReport {
    /// Why the source ended.
    pub end: SourceEnd,
    /// The statistics at the end.
    pub stats: SourceStats,
    /// Whether the server confirmed the last acknowledgement, and so has received all of them. If `false`, the server may
    /// deliver some of the acknowledged messages again. A source that got no message has nothing to confirm.
    pub confirmed: bool,
    /// The sender that was given to the source.
    pub sender: Sender,
}

/// Why a source ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceErrorKind {
    /// The consumer does not exist or was deleted, and possibly created anew.
    ConsumerNotFound,
    /// The consumer's stream does not exist, or was deleted.
    StreamNotFound,
    /// The consumer cannot be used: its `ack_policy` is not `Explicit`, or it is not a pull consumer.
    UnsuitableConsumer,
    /// The senders of the channel do not wait when it is full.
    UnsuitableChannel,
    /// The client was closed: it was drained, or gave up to connect.
    ClientClosed,
    /// A callback of the source panicked.
    Panicked,
    /// The source's task was cancelled with its runtime.
    Cancelled,
    /// The source has ended, and another call has taken its outcome.
    AlreadyTaken,
}

/// A source that ended by itself. What it had not acknowledged, the server delivers again.
pub struct SourceError {
    kind: SourceErrorKind,
    source: Option<BoxError>,
    sender: Option<Sender>,
}

impl SourceError {
    pub(super) fn new(kind: SourceErrorKind, source: Option<BoxError>) -> Self {
        Self { kind, source, sender: None }
    }

    pub(super) fn with_sender(self, sender: Sender) -> Self {
        Self { sender: Some(sender), ..self }
    }

    /// Returns why the source ended.
    pub fn kind(&self) -> SourceErrorKind {
        self.kind
    }

    /// Gives back the sender that was given to the source, unless its task panicked or was cancelled, or its outcome was
    /// already taken.
    pub fn into_sender(self) -> Option<Sender> {
        self.sender
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            SourceErrorKind::ConsumerNotFound => "the consumer was not found",
            SourceErrorKind::StreamNotFound => "the stream of the consumer was not found",
            SourceErrorKind::UnsuitableConsumer => {
                "the consumer is not a pull consumer with explicit acknowledgement"
            }
            SourceErrorKind::UnsuitableChannel => "the senders of the channel do not wait when it is full",
            SourceErrorKind::ClientClosed => "the client was closed",
            SourceErrorKind::Panicked => "a callback of the source panicked",
            SourceErrorKind::Cancelled => "the source's task was cancelled with its runtime",
            SourceErrorKind::AlreadyTaken => "the outcome of the source was already taken",
        })?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceError")
            .field("kind", &self.kind)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl Error for SourceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

impl SourceHandle {
    pub(super) fn new(client: Option<Client>) -> (Self, TaskEnd) {
        let shared = Arc::new(Shared {
            counters: Counters::default(),
            client: client.map_or_else(OnceLock::new, OnceLock::from),
            answers: AtomicBool::new(false),
            outcome: Mutex::new(Outcome::Running),
        });
        let (stops, stop_requests) = mpsc::unbounded_channel();
        let (ended, end) = watch::channel(false);
        let task_end = TaskEnd { shared: Arc::clone(&shared), stops: stop_requests, ended };
        (Self { shared, stops, ended: end }, task_end)
    }

    /// Stops the source: it pulls no more, waits until what the channel has accepted was received and acknowledges it, and
    /// gives the other messages back to the server, which delivers them again at once.
    ///
    /// It waits for as long as receivers take no messages; [`stop_timeout`](Self::stop_timeout) does not. Before the first
    /// message of a source made with [`new`](super::JetStreamSource::new), it waits for up to 3 seconds, until the server keeps
    /// no request of the source. The report gives back the sender.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after it was polled, the source stops all the same. [`join`](Self::join) returns its
    /// outcome.
    pub async fn stop(&self) -> Result<SourceReport, SourceError> {
        // The task does not take requests any more once it has ended.
        let _ = self.stops.send(None);
        self.join().await
    }

    /// Stops the source as [`stop`](Self::stop) does, and waits for receivers no longer than `limit`.
    ///
    /// Messages that were accepted and not received by then are given back to the server too. They stay in the channel,
    /// so they are received twice if its receivers go on. The exchange with the server takes up to 5 seconds more
    /// if that does not answer.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    ///
    /// # Cancel safety
    ///
    /// As [`stop`](Self::stop).
    pub async fn stop_timeout(&self, limit: Duration) -> Result<SourceReport, SourceError> {
        let _ = self.stops.send(Some(limit));
        self.join().await
    }

    /// Waits until the source has ended.
    ///
    /// # Errors
    ///
    /// [`SourceError`] if the source ended by itself, or another call has taken the outcome.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: the outcome is taken only by a call that returns it.
    pub async fn join(&self) -> Result<SourceReport, SourceError> {
        // An error says that the task has dropped its end, which it does last.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
        let mut outcome = self.shared.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *outcome, Outcome::Taken) {
            Outcome::Ended(outcome) => outcome,
            Outcome::Running => Err(SourceError::new(SourceErrorKind::Cancelled, None)),
            Outcome::Taken => Err(SourceError::new(SourceErrorKind::AlreadyTaken, None)),
        }
    }

    /// Returns whether the source has ended.
    pub fn is_finished(&self) -> bool {
        *self.ended.borrow() || self.ended.has_changed().is_err()
    }

    /// Returns the statistics now.
    pub fn stats(&self) -> SourceStats {
        self.shared.stats()
    }
}

impl fmt::Debug for SourceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceHandle").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl TaskEnd {
    /// Notes the outcome, for [`SourceHandle::join`].
    pub(super) fn end(self, outcome: Result<(SourceEnd, bool), SourceError>, sender: Sender) {
        let stats = self.shared.stats();
        self.set(match outcome {
            Ok((end, confirmed)) => Ok(SourceReport { end, stats, confirmed, sender }),
            Err(error) => Err(error.with_sender(sender)),
        });
    }

    fn set(&self, outcome: Result<SourceReport, SourceError>) {
        *self.shared.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Outcome::Ended(outcome);
        self.ended.send_replace(true);
    }
}

impl Drop for TaskEnd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.set(Err(SourceError::new(SourceErrorKind::Panicked, None)));
        }
    }
}
