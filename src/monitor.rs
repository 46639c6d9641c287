//! Figures of a channel, apart from both of its ends.

use crate::channel::Core;
use crate::sync::Arc;
use crate::telemetry::stats::Stats;

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
