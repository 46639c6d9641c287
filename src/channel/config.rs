//! The checked settings of a channel, and what it does when it is full.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::channel::strategy::SwitchStrategy;
use crate::queue::ReadMode;
use crate::queue::segment::slot_state::Capacity;
use crate::telemetry::recorder::Recorder;

/// What happens to a message when the channel is full.
///
/// A channel is full for a message if the active segment has no room for it, and [`max_bytes`](crate::Builder::max_bytes)
/// leaves no memory for another segment. It is also full for an external payload that `max_bytes` leaves no memory for,
/// and while other senders wait for the memory that the message needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// The sender waits for room. This is the default.
    ///
    /// Waiting senders get memory for another segment first come, first served. Room left in the active segment is open
    /// to every sender, so a short message may overtake a longer one whose sender waits.
    #[default]
    Wait,
    /// [`send`](crate::Sender::send) returns [`SendError::Full`](crate::SendError::Full) at once.
    Reject,
    /// The message is dropped and counted, and its sender gets `Ok` at once.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use turbostream::WhenFull;
    /// let (tx, mut rx) = turbostream::builder().max_bytes(64 << 10).when_full(WhenFull::DropNewest).build()?;
    /// for number in 0..100_000 {
    ///     tx.send(number.to_string()).await?;
    /// }
    /// assert_eq!(rx.recv().await.unwrap(), "0");
    /// let stats = tx.monitor().stats();
    /// assert_eq!(stats.dropped_messages, 100_000 - 1 - stats.queued_messages);
    /// # Ok(()) }
    /// ```
    DropNewest,
    /// The oldest messages are dropped and counted, a segment at a time, and the sender gets `Ok` at once.
    ///
    /// The channel drops the oldest sealed segment, or the unread part of it.
    /// [`Batch::first_sequence`](crate::Batch::first_sequence) shows the gap. It does so only to make room:
    /// memory that a `Bytes` or `Batch` of the user refers to is never taken back. The new message is dropped instead
    /// if only such memory is left, or if another sender still writes to the oldest segment.
    ///
    /// The sender does not learn which messages were dropped, and they may be those of other senders: to count drops for each
    /// source, put its id and a number into the message.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use turbostream::WhenFull;
    /// let (tx, mut rx) = turbostream::builder().max_bytes(64 << 10).when_full(WhenFull::DropOldest).build()?;
    /// for number in 0..100_000 {
    ///     tx.send(number.to_string()).await?;
    /// }
    /// let dropped = tx.monitor().stats().dropped_messages;
    /// let batch = rx.recv_batch(1).await.unwrap();
    /// assert_eq!(batch.first_sequence(), dropped);
    /// assert_eq!(batch.get(0).unwrap(), dropped.to_string().as_bytes());
    /// # Ok(()) }
    /// ```
    DropOldest,
}

/// What each policy decides. What a policy drops is in `channel/drop_policy.rs` and `queue/head/drop_oldest.rs`.
impl WhenFull {
    /// Whether senders wait for room.
    pub(crate) fn waits(self) -> bool {
        match self {
            Self::Wait => true,
            Self::Reject | Self::DropNewest | Self::DropOldest => false,
        }
    }

    /// Whether the channel drops messages, so that no sender waits.
    pub(crate) fn drops(self) -> bool {
        match self {
            Self::DropNewest | Self::DropOldest => true,
            Self::Wait | Self::Reject => false,
        }
    }

    /// Whether the channel drops older messages to make room for a new one.
    pub(crate) fn drops_oldest(self) -> bool {
        match self {
            Self::DropOldest => true,
            Self::Wait | Self::Reject | Self::DropNewest => false,
        }
    }
}

/// Settings that [`Builder`](crate::Builder) has checked.
pub(crate) struct Config {
    pub(crate) name: Option<String>,
    pub(crate) capacity: Capacity,
    pub(crate) max_bytes: usize,
    pub(crate) max_message_bytes: usize,
    pub(crate) strategy: Box<dyn SwitchStrategy>,
    pub(crate) on_demand: bool,
    pub(crate) read_mode: ReadMode,
    pub(crate) when_full: WhenFull,
    pub(crate) lend_ttl: Duration,
    pub(crate) pool_idle: Duration,
    pub(crate) prefetch: usize,
    pub(crate) runtime: Option<Handle>,
    /// The recorder, and the interval of its reports.
    pub(crate) recorder: Option<(Arc<dyn Recorder>, Duration)>,
    /// The first segment and message sequence. Models start near the wrap.
    pub(crate) first_sequence: u64,
    /// The channel emits no events.
    pub(crate) is_silent: bool,
}
