//! The checked settings of a channel.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::channel::strategy::SwitchStrategy;
use crate::queue::ReadMode;
use crate::queue::segment::slot_state::Capacity;
use crate::telemetry::recorder::Recorder;

/// What happens to a message that fits in no segment that `max_bytes` allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// `send` waits for room, first come first served: the default.
    ///
    /// They wait for memory, that is for another segment. Room in the segment that is being written is for whoever comes,
    /// so a short message may pass a long one that waits.
    #[default]
    Wait,
    /// `send` returns [`SendError::Full`](crate::SendError::Full) at once.
    Reject,
    /// The message is dropped, and its sender gets `Ok` at once.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use turbostream::WhenFull;
    /// let (tx, rx) = turbostream::builder().max_bytes(64 << 10).when_full(WhenFull::DropNewest).build()?;
    /// for number in 0..100_000 {
    ///     tx.send(number.to_string()).await?;
    /// }
    /// assert_eq!(rx.recv().await.unwrap(), "0");
    /// let stats = tx.monitor().stats();
    /// assert_eq!(stats.dropped_messages, 100_000 - 1 - stats.queued_messages);
    /// # Ok(()) }
    /// ```
    DropNewest,
    /// The oldest messages are dropped, a segment at a time, and its sender gets `Ok` at once.
    ///
    /// What goes is the oldest sealed segment, or what is unread of it;
    /// [`Batch::first_sequence`](crate::Batch::first_sequence) shows the gap. Nothing goes that would make no room:
    /// memory that a `Bytes` or `Batch` in your hands refers to is never taken back. Where only such memory is in the
    /// way, or the oldest segment is still being written to by another sender, it is the new message that is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use turbostream::WhenFull;
    /// let (tx, rx) = turbostream::builder().max_bytes(64 << 10).when_full(WhenFull::DropOldest).build()?;
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

/// Settings that were checked.
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
    pub(crate) runtime: Option<Handle>,
    /// Who is told of figures, and how often.
    pub(crate) recorder: Option<(Arc<dyn Recorder>, Duration)>,
    /// Where segment and message sequences start; models start near their wrap.
    pub(crate) first_sequence: u64,
}
