//! [`Monitor`]: access to statistics without a sender or receiver.

use crate::channel::Core;
use crate::sync::Arc;
use crate::telemetry::stats::Stats;

/// Reads the statistics of a channel.
///
/// A monitor is cheap to clone. It keeps neither end of the channel open: only its statistics stay
/// readable, and an idle background task stays alive.
///
/// # Examples
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (tx, mut rx) = turbostream::channel();
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

    #[cfg(feature = "forward")]
    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// Returns the [name](crate::Builder::name) of the channel, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.core.name()
    }

    /// Reports changes to the channel's [`Recorder`](crate::Recorder) now instead of at the next interval.
    ///
    /// The recorder has been called when this method returns. If another thread is reporting at the same time, that
    /// thread reports once more, and this method waits for it. Called from within a recorder, it does not wait, and
    /// reports at most 4096 samples. It does nothing on a channel without a recorder.
    ///
    /// This method does not return, and blocks its thread, before all changes were reported. If the recorder takes long
    /// for each of many samples, leave them to the task that reports at intervals, which yields.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    /// use turbostream::{StatsDelta, Counter};
    ///
    /// static SENT: AtomicU64 = AtomicU64::new(0);
    /// let count = |delta: &StatsDelta<'_>| {
    ///     SENT.fetch_add(delta.counter(Counter::SentMessages), Relaxed);
    /// };
    /// let (tx, _rx) = turbostream::builder().recorder(count).build()?;
    /// tx.send("a").await?;
    /// tx.monitor().flush();
    /// assert_eq!(SENT.load(Relaxed), 1);
    /// # Ok(()) }
    /// ```
    pub fn flush(&self) {
        self.core.report_now();
    }

    /// Returns a snapshot of all statistics.
    ///
    /// This method locks the head and walks over all segments that hold queued messages, so call it now and then, not
    /// for each message.
    ///
    /// While messages are in transit, statistics may differ from each other by those messages. At rest, the sent
    /// messages are those received, dropped and queued together. For rates, see [`Stats::since`].
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").field("name", &self.name()).field("stats", &self.stats()).finish()
    }
}
