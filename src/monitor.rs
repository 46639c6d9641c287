//! Figures of a channel, apart from both of its ends.

use crate::channel::Core;
use crate::histogram::{Histogram, QUEUE_BOUNDS};
use crate::sync::Arc;

/// Reads a channel's figures. Cheap to clone and to poll; keeps neither end of the channel open, only its figures and a
/// task that sleeps.
///
/// # Examples
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (tx, rx) = turbostream::channel();
/// let monitor = tx.monitor();
/// tx.send("abc").await?;
/// tx.send("de").await?;
/// rx.recv().await;
/// let stats = monitor.stats();
/// assert_eq!((stats.sent_messages, stats.sent_bytes), (2, 5));
/// assert_eq!((stats.received_messages, stats.queued_bytes), (1, 2));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Monitor {
    core: Arc<Core>,
}

impl Monitor {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// The name given to the builder.
    pub fn name(&self) -> Option<&str> {
        self.core.name()
    }

    /// Reports what has changed to the channel's [`Recorder`](crate::Recorder) now, and not only at the next
    /// interval; does nothing on a channel without one. The recorder has been called when this returns; if another
    /// thread is calling it at this moment, that one calls it once more, and is waited for. Within a recorder it does
    /// not wait.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    /// use turbostream::{StatsDelta, Counter};
    ///
    /// static ACCEPTED: AtomicU64 = AtomicU64::new(0);
    /// let count = |changes: &StatsDelta<'_>| {
    ///     ACCEPTED.fetch_add(changes.counter(Counter::SentMessages), Relaxed);
    /// };
    /// let (tx, _rx) = turbostream::builder().recorder(count).build()?;
    /// tx.send("a").await?;
    /// tx.monitor().flush();
    /// assert_eq!(ACCEPTED.load(Relaxed), 1);
    /// # Ok(()) }
    /// ```
    pub fn flush(&self) {
        self.core.report_now();
    }

    /// All figures at one instant. While messages are on their way they may lag each other by those; at rest
    /// accepted = handed out + dropped + queued.
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").field("name", &self.name()).field("stats", &self.stats()).finish()
    }
}

/// Figures of a channel; message bytes are payload bytes, memory bytes are whole segments with their index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages that became part of the channel.
    pub sent_messages: u64,
    /// Payload bytes of the accepted messages.
    pub sent_bytes: u64,
    /// Messages that receivers got.
    pub received_messages: u64,
    /// Payload bytes of the messages handed out.
    pub received_bytes: u64,
    /// Messages that were accepted and dropped: by policy, or because the last receiver was dropped.
    pub dropped_messages: u64,
    /// Payload bytes of the dropped messages.
    pub dropped_bytes: u64,
    /// The dropped messages by what they were dropped for.
    pub drops: Drops,
    /// Messages accepted and neither handed out nor dropped.
    pub queued_messages: u64,
    /// Payload bytes of the queued messages.
    pub queued_bytes: u64,
    /// Queued messages that are in the active segment.
    pub active_messages: u64,
    /// Payload bytes of the queued messages in the active segment.
    pub active_message_bytes: u64,
    /// How long a segment's first message was queued before a receiver came for it, or it was dropped to make room: a sample
    /// for each segment.
    pub queue_time: Histogram,
    /// Messages that were not accepted, each told to its sender by an error.
    pub send_errors: SendErrors,
    /// Receives for which nothing came in time.
    pub recv_timeouts: u64,
    /// Switches made, by cause.
    pub switches: Switches,
    /// What a switch took: from the decision to make it until what was sealed could be read and whoever made it could
    /// write on. Where there is no memory to write on, it ends when that is known. A switch on demand is not timed: each
    /// counts as 0 s.
    pub switch_latency: Histogram,
    /// Looks of the timer at unread messages after which it made no switch.
    pub skipped_switches: u64,
    /// Segments that memory was allocated for, as no pooled one could be had or was to be used yet.
    pub allocated_segments: u64,
    /// Sealed segments, the one being read included.
    pub sealed_segments: usize,
    /// Memory of the active segment, unless all in it was read and some is still lent.
    pub active_bytes: usize,
    /// Memory of sealed segments, the one being read included.
    pub sealed_bytes: usize,
    /// Memory of segments all of which was read, and that a `Bytes` or `Batch` in user hands still refers to.
    pub lent_bytes: usize,
    /// Memory of free segments.
    pub pooled_bytes: usize,
    /// Bytes of the payloads that travel by reference and are queued.
    pub referenced_bytes: usize,
    /// The ceiling for the sum of active, sealed, lent, pooled and referenced bytes.
    pub max_bytes: usize,
    /// Senders waiting for room.
    pub waiting_senders: usize,
    /// Receivers waiting for a message.
    pub waiting_receivers: usize,
    /// Tasks in the background that are alive: the timer, callbacks, and the one that reports to a
    /// [`Recorder`](crate::Recorder).
    pub background_tasks: usize,
    /// Calls of a [`Callback`](crate::Callback) that panicked; their messages count as handed out.
    pub callback_panics: u64,
    /// Panics of code passed to the channel that were contained: of strategies, wakers, payloads that were dropped, and
    /// those counted in `callback_panics` and `recorder_panics`.
    pub panics: u64,
    /// Calls of a [`Recorder`](crate::Recorder) that panicked; what they were to take in counts as reported.
    pub recorder_panics: u64,
}

impl Stats {
    /// Of a channel that has done nothing.
    pub(crate) fn new() -> Self {
        Self { queue_time: Histogram::new(QUEUE_BOUNDS), ..Self::default() }
    }

    /// The memory that counts against `max_bytes`.
    pub fn memory_bytes(&self) -> usize {
        self.active_bytes + self.sealed_bytes + self.lent_bytes + self.pooled_bytes + self.referenced_bytes
    }
}

/// How often the active segment was switched, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Switches {
    /// The segment was full, or the memory: what was in it had to be read first.
    pub full: u64,
    /// The strategy said so.
    pub strategy: u64,
    /// A receiver was waiting, and nothing sealed was left.
    pub on_demand: u64,
    /// [`switch`](crate::Sender::switch), [`drained`](crate::Sender::drained) or the flush of a sink asked for it.
    pub requested: u64,
    /// The channel was closed.
    pub close: u64,
}

impl Switches {
    /// Switches of any cause.
    pub fn total(&self) -> u64 {
        self.full + self.strategy + self.on_demand + self.requested + self.close
    }
}

/// Messages that were not accepted, by the error that their sender got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendErrors {
    /// There was no room, and the call or the channel ([`WhenFull::Reject`](crate::WhenFull::Reject)) does not wait.
    pub full: u64,
    /// The channel was closed.
    pub closed: u64,
    /// Longer than `max_message_bytes`.
    pub too_large: u64,
    /// There was no room in time.
    pub timed_out: u64,
}

impl SendErrors {
    /// Messages refused for any reason.
    pub fn total(&self) -> u64 {
        self.full + self.closed + self.too_large + self.timed_out
    }
}

/// Messages that were dropped, by what for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drops {
    /// There was no room for them, by [`WhenFull::DropNewest`](crate::WhenFull::DropNewest), or because nothing older
    /// could be dropped.
    pub newest: u64,
    /// To make room for newer ones, by [`WhenFull::DropOldest`](crate::WhenFull::DropOldest).
    pub oldest: u64,
    /// The last receiver was gone.
    pub unread: u64,
}

impl Drops {
    /// Messages dropped for any reason.
    pub fn total(&self) -> u64 {
        self.newest + self.oldest + self.unread
    }
}
