//! Figures of a channel, apart from both of its ends.

use crate::channel::Core;
use crate::sync::Arc;

/// Reads a channel's figures. Cheap to clone and to poll; keeps neither end of the channel open.
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
/// assert_eq!((stats.accepted_messages, stats.accepted_bytes), (2, 5));
/// assert_eq!((stats.handed_out_messages, stats.queued_bytes), (1, 2));
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
    pub accepted_messages: u64,
    /// Their bytes.
    pub accepted_bytes: u64,
    /// Messages that receivers got.
    pub handed_out_messages: u64,
    /// Their bytes.
    pub handed_out_bytes: u64,
    /// Messages that were accepted and dropped: by policy, or because the last receiver was dropped.
    pub dropped_messages: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
    /// Messages accepted and neither handed out nor dropped.
    pub queued_messages: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// Switches made, by cause.
    pub switches: Switches,
    /// Memory of the active segment, unless all in it was read and some is still lent.
    pub active_bytes: usize,
    /// Memory of sealed segments, the one being read included.
    pub sealed_bytes: usize,
    /// Memory of segments all of which was read, and that a `Bytes` or `Batch` in user hands still refers to.
    pub lent_bytes: usize,
    /// Memory of free segments.
    pub pooled_bytes: usize,
    /// Payloads that travel by reference and are queued.
    pub referenced_bytes: usize,
    /// The ceiling for the sum of the five above.
    pub max_bytes: usize,
    /// Senders waiting for room.
    pub waiting_senders: usize,
    /// Receivers waiting for a message.
    pub waiting_receivers: usize,
    /// Calls of a [`Callback`](crate::Callback) that panicked; their messages count as handed out.
    pub callback_panics: u64,
    /// Panics of code passed to the channel that were contained: of strategies, wakers, callbacks, and payloads that
    /// were dropped.
    pub panics: u64,
}

impl Stats {
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
    /// All of them.
    pub fn total(&self) -> u64 {
        self.full + self.strategy + self.on_demand + self.requested + self.close
    }
}
