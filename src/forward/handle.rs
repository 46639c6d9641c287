//! [`ForwardHandle`]: flush, shutdown and statistics of a running forwarder.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::error::{FlushError, ForwardError};
use super::shared::{Flush, Progress, Shared};
use super::stats::{ForwardReport, ForwardStats};
use crate::monitor::Monitor;
use crate::sync::Arc;

/// A handle to a running [`Forwarder`](super::Forwarder).
///
/// Dropping it leaves the forwarder running, as dropping a [`JoinHandle`](tokio::task::JoinHandle) leaves its task
/// running. The forwarder ends by itself after the last sender was dropped, or the channel was closed, once everything is
/// confirmed or rejected.
///
/// A forwarder that ended with an error gives back the receiver to the first call of [`shutdown`](Self::shutdown),
/// [`shutdown_timeout`](Self::shutdown_timeout) or [`join`](Self::join). Until then, or until the handle is dropped, the
/// channel stays open, and senders wait once it is full. A program that can do without the destination for long calls
/// `join` in a task of its own.
pub struct ForwardHandle {
    shared: Arc<Shared>,
    /// Reaches the channel, and keeps neither end open.
    channel: Monitor,
}

/// A moment in the life of a forwarder, for [`ForwardHandle::flush_since`].
#[derive(Clone, Copy, Debug)]
pub struct FlushPoint {
    /// How many messages were rejected by then.
    rejected: u64,
}

impl ForwardHandle {
    pub(super) fn new(shared: Arc<Shared>, channel: Monitor) -> Self {
        Self { shared, channel }
    }

    /// Waits until every message that the channel accepted before this call is confirmed by the engine, or rejected.
    ///
    /// Messages that a [`WhenFull`](crate::WhenFull) policy dropped are not waited for, and neither are those that
    /// other receivers of the channel took. Messages that are accepted while this method waits may be waited for as well.
    ///
    /// This method waits for as long as the destination confirms nothing: to give up, wrap it in
    /// [`tokio::time::timeout`].
    ///
    /// # Errors
    ///
    /// - [`FlushError::Rejected`] if messages were rejected while this method waited; the others are confirmed. One that was
    ///   rejected before the call is not reported: see [`flush_since`](Self::flush_since).
    /// - [`FlushError::Ended`] if the forwarder ended first.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe. It can be dropped and called again at any time.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[doc = include_str!("example.md")]
    /// let (tx, rx) = turbostream::channel();
    /// let forwarder = Forwarder::new(rx, destination).spawn();
    /// tx.send("to be kept").await?;
    /// forwarder.flush().await?;
    /// assert_eq!(stored.lock().unwrap().len(), 1);
    /// # Ok(()) }
    /// ```
    pub async fn flush(&self) -> Result<(), FlushError> {
        self.flush_since(self.flush_point()).await
    }

    /// Notes this moment, for a [`flush_since`](Self::flush_since) that follows.
    pub fn flush_point(&self) -> FlushPoint {
        FlushPoint { rejected: self.shared.counters.rejected() }
    }

    /// [`flush`](Self::flush), which also reports the messages that were rejected between `point` and this call.
    ///
    /// A message may be rejected before `flush` is called for it. So a program that answers its own clients notes a point
    /// before the first `send`. If it returns `Ok`, everything that was sent after the point is confirmed. If messages of other
    /// senders were rejected meanwhile, it returns an error as well: [`on_rejected`](super::Forwarder::on_rejected) says which,
    /// and was called for each before this method returns.
    ///
    /// # Errors
    ///
    /// As for [`flush`](Self::flush).
    ///
    /// # Cancel safety
    ///
    /// As for [`flush`](Self::flush).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[doc = include_str!("example.md")]
    /// let (tx, rx) = turbostream::channel();
    /// let forwarder = Forwarder::new(rx, destination).spawn();
    ///
    /// let point = forwarder.flush_point();
    /// tx.send("a line of a client").await?;
    /// forwarder.flush_since(point).await?; // the line is stored: answer the client
    /// # Ok(()) }
    /// ```
    pub async fn flush_since(&self, point: FlushPoint) -> Result<(), FlushError> {
        let shared = &*self.shared;
        let outcome = |rejected: u64| match rejected - point.rejected {
            0 => Ok(()),
            messages => Err(FlushError::Rejected { messages }),
        };
        let ended = || match shared.progress() {
            Progress::Running => None,
            Progress::Completed => Some(outcome(shared.counters.rejected())),
            Progress::Failed => Some(Err(shared.failure())),
        };
        {
            let mut drained = pin!(self.channel.core().drained());
            let mut end = pin!(shared.waiting.wait_until(|_| ended()));
            let early = poll_fn(|cx| match drained.as_mut().poll(cx) {
                Poll::Ready(_) => Poll::Ready(None),
                Poll::Pending => end.as_mut().poll(cx).map(Some),
            });
            if let Some(early) = early.await.or_else(ended) {
                return early;
            }
        }
        // The task has taken these messages in a turn that has begun. In its next one it notes what it has taken.
        let flush = Arc::new(Flush::default());
        shared.request(|requests| requests.flushes.push(Arc::clone(&flush)));
        shared.waiting.wait_until(|_| flush.rejected().map(outcome).or_else(ended)).await
    }

    /// Returns the statistics of the forwarder.
    pub fn stats(&self) -> ForwardStats {
        self.shared.counters.load()
    }

    /// Closes the channel, and waits until everything that it accepted is confirmed or rejected; the report has the number of
    /// both.
    ///
    /// Sends fail from now on. This method waits for as long as the destination confirms nothing, unless
    /// [`give_up_after`](super::Forwarder::give_up_after) was set; [`shutdown_timeout`](Self::shutdown_timeout) sets a
    /// limit.
    ///
    /// # Errors
    ///
    /// A [`ForwardError`] if the forwarder ended before everything was confirmed. It gives back the messages that were
    /// taken out of the channel and not confirmed, and the receiver. The first of several calls gets the outcome; the
    /// others get [`AlreadyTaken`](super::ForwardErrorKind::AlreadyTaken).
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe. If the future is dropped, the channel stays closed, and the forwarder goes on to its
    /// end. Call this method or [`join`](Self::join) again for the outcome.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[doc = include_str!("example.md")]
    /// let (tx, rx) = turbostream::channel();
    /// let forwarder = Forwarder::new(rx, destination).spawn();
    /// tx.send_many(["one", "and", "more"]).await?;
    /// let report = forwarder.shutdown().await?;
    /// assert_eq!(report.stats.confirmed, 3);
    /// # Ok(()) }
    /// ```
    pub async fn shutdown(&self) -> Result<ForwardReport, ForwardError> {
        self.channel.core().close();
        self.join().await
    }

    /// Closes the channel, and waits until everything that it accepted is confirmed or rejected, but no longer than
    /// `limit`.
    ///
    /// The time is that of the forwarder's runtime, and runs from when the forwarder's task reads the request. Of several
    /// limits the one that ends first counts.
    ///
    /// # Errors
    ///
    /// As for [`shutdown`](Self::shutdown). If the limit has passed, the kind is
    /// [`TimedOut`](super::ForwardErrorKind::TimedOut): what is not confirmed comes back with the error.
    ///
    /// # Cancel safety
    ///
    /// As for [`shutdown`](Self::shutdown). The limit stays set.
    pub async fn shutdown_timeout(&self, limit: Duration) -> Result<ForwardReport, ForwardError> {
        self.channel.core().close();
        self.shared.request(|requests| {
            requests.limit = Some(requests.limit.map_or(limit, |earlier| earlier.min(limit)));
        });
        self.join().await
    }

    /// Waits for the end of the forwarder, and returns its outcome. Does not close the channel.
    ///
    /// # Errors
    ///
    /// As for [`shutdown`](Self::shutdown).
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe. It can be dropped and called again at any time.
    pub async fn join(&self) -> Result<ForwardReport, ForwardError> {
        self.shared.waiting.wait_until(|_| self.shared.take_outcome()).await
    }

    /// Returns whether the forwarder has ended.
    ///
    /// How it ended, and what it gives back, is what [`join`](Self::join) or [`shutdown`](Self::shutdown) returns then.
    pub fn is_finished(&self) -> bool {
        self.shared.progress() != Progress::Running
    }
}

impl fmt::Debug for ForwardHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardHandle")
            .field("name", &self.channel.name())
            .field("progress", &self.shared.progress())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
