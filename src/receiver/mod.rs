//! The reading end.

pub(crate) mod batch;
mod recv;

use std::fmt;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::coop;

use self::batch::Batch;
use self::recv::RecvOperation;
use crate::channel::Core;
use crate::error::{RecvTimeoutError, TryRecvError};
use crate::monitor::Monitor;
use crate::queue::head::{Effects, Head, Readiness};
use crate::queue::{Queue, ReadMode};
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};
use crate::wait::blocking;
use crate::wait::coop::CoopBudget;
use crate::wait::timeout::timeout;
use crate::wait::wait_list::PollWaiter;

/// Receives byte messages in the order in which they were accepted.
///
/// Clones compete: each message goes to exactly one of them, and they take in that order. Dropping the last
/// clone closes the channel and drops what was not read. Also a [`futures::Stream`](futures_core::Stream) of
/// [`Bytes`]. What was received may outlive the channel and the runtime.
pub struct Receiver {
    core: Arc<Core>,
    /// [`ReadMode::ZeroCopy`], else [`ReadMode::Safe`]; this handle's own.
    zero_copy: AtomicBool,
    budget: CoopBudget,
    /// The spot in the list of a caller that polls.
    waiter: Mutex<PollWaiter>,
    /// The stream has returned `None`.
    pub(crate) terminated: bool,
}

impl Receiver {
    pub(crate) fn new(core: Arc<Core>, mode: ReadMode) -> Self {
        Self {
            core,
            zero_copy: AtomicBool::new(mode == ReadMode::ZeroCopy),
            budget: CoopBudget::default(),
            waiter: Mutex::default(),
            terminated: false,
        }
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// Receives the next message, waiting for it; `None` once the channel is closed and everything accepted was
    /// handed out.
    ///
    /// # Cancel safety
    ///
    /// A `recv` that is dropped before it returned has taken nothing, and passes on the wake it may have got.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, rx) = turbostream::channel();
    /// tx.send("hello").await?;
    /// drop(tx);
    /// assert_eq!(rx.recv().await.unwrap(), "hello");
    /// assert_eq!(rx.recv().await, None);
    /// # Ok(()) }
    /// ```
    #[inline]
    pub fn recv(&self) -> impl Future<Output = Option<Bytes>> {
        RecvOperation::start(self)
    }

    /// Receives the next message if there is one now. Works in and outside of a runtime.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] if nothing can be read at the moment, [`TryRecvError::Closed`] if nothing ever
    /// will be.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// let (tx, rx) = turbostream::channel();
    /// assert_eq!(rx.try_recv(), Err(turbostream::TryRecvError::Empty));
    /// tx.try_send("now").unwrap();
    /// assert_eq!(rx.try_recv().unwrap(), "now");
    /// # }
    /// ```
    #[inline]
    pub fn try_recv(&self) -> Result<Bytes, TryRecvError> {
        if let Some(message) = self.core.take_fast(self.read_mode()) {
            return Ok(message);
        }
        match self.poll_take(false) {
            Poll::Ready(Some(message)) => Ok(message),
            Poll::Ready(None) => Err(TryRecvError::Closed),
            Poll::Pending => Err(TryRecvError::Empty),
        }
    }

    /// Receives the next message, waiting for it no longer than `limit`.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`] if nothing came in time, [`RecvTimeoutError::Closed`] if nothing ever will.
    ///
    /// # Panics
    ///
    /// If the runtime that it is awaited in has no time driver (Tokio's `enable_time`), also where there is a message.
    /// Outside of a runtime the one of the channel keeps the time, and Tokio panics if that shuts down meanwhile.
    ///
    /// # Cancel safety
    ///
    /// As for [`recv`](Self::recv).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// use std::time::Duration;
    /// let (tx, rx) = turbostream::channel();
    /// let nothing = rx.recv_timeout(Duration::from_millis(1)).await;
    /// assert_eq!(nothing, Err(turbostream::RecvTimeoutError::Timeout));
    /// # }
    /// ```
    pub async fn recv_timeout(&self, limit: Duration) -> Result<Bytes, RecvTimeoutError> {
        match timeout(self.core.background().runtime(), limit, self.recv()).await {
            Some(Some(message)) => Ok(message),
            Some(None) => Err(RecvTimeoutError::Closed),
            None => {
                self.core.count_recv_timeout();
                Err(RecvTimeoutError::Timeout)
            }
        }
    }

    /// Receives the next message, blocking the thread until there is one; `None` once the channel is closed and
    /// everything accepted was handed out. For threads that run no async code: a plain one, or one of
    /// [`spawn_blocking`](tokio::task::spawn_blocking).
    ///
    /// Needs no runtime to be woken by a message; but what is sealed by time alone, with
    /// [`on_demand(false)`](crate::Builder::on_demand), is sealed by the channel's runtime.
    ///
    /// # Panics
    ///
    /// If called where it would block async tasks, as Tokio's own blocking methods do, also where there is a message:
    /// anywhere in an async task or in `block_on`, except inside `tokio::task::block_in_place`. A thread that has only
    /// entered a runtime by [`Handle::enter`](tokio::runtime::Handle::enter) may block.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, rx) = turbostream::channel();
    /// let reader = std::thread::spawn(move || {
    ///     let mut messages = 0;
    ///     while let Some(message) = rx.blocking_recv() {
    ///         assert_eq!(message, "to a thread");
    ///         messages += 1;
    ///     }
    ///     messages
    /// });
    /// tx.send("to a thread").await?;
    /// drop(tx);
    /// assert_eq!(reader.join().unwrap(), 1);
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn blocking_recv(&self) -> Option<Bytes> {
        blocking::on("Receiver::blocking_recv", self.recv())
    }

    /// Polls for the next message. The waker of the latest call is the one that is woken.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// let (tx, rx) = turbostream::channel();
    /// tx.send("polled").await.unwrap();
    /// let message = std::future::poll_fn(|cx| rx.poll_recv(cx)).await;
    /// assert_eq!(message.unwrap(), "polled");
    /// # }
    /// ```
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(message) = ready!(self.poll_fast(cx)) {
            return Poll::Ready(Some(message));
        }
        let mode = self.read_mode();
        self.with_own_waiter(|waiter| {
            self.poll_wait(waiter, cx, |queue, head, effects| head.take(queue, mode, effects))
        })
    }

    /// Receives up to `limit` messages at once into `messages`; returns how many, 0 only if the channel is closed
    /// and drained, or if `limit` is 0. Waits for the first only.
    ///
    /// # Cancel safety
    ///
    /// As for [`recv`](Self::recv).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, rx) = turbostream::channel();
    /// for message in ["a", "b", "c"] {
    ///     tx.send(message).await?;
    /// }
    /// let mut messages = Vec::new();
    /// assert_eq!(rx.recv_many(&mut messages, 2).await, 2);
    /// assert_eq!(messages, ["a", "b"]);
    /// # Ok(()) }
    /// ```
    pub async fn recv_many(&self, messages: &mut Vec<Bytes>, limit: usize) -> usize {
        if limit == 0 {
            return 0;
        }
        coop::consume_budget().await;
        let mode = self.read_mode();
        let mut many = |queue: &Queue, head: &mut Head, effects: &mut Effects| {
            let before = messages.len();
            while messages.len() - before < limit {
                let message = match head.take_fast(mode) {
                    Some(message) => message,
                    None if head.poll_readable(queue, effects) == Readiness::Readable => {
                        head.take(queue, mode, effects)
                    }
                    None => break,
                };
                messages.push(message);
            }
            messages.len() - before
        };
        self.spin_then_wait(|registered| self.core.poll_with_head(registered, &mut many)).await.unwrap_or(0)
    }

    /// Receives up to `limit` messages as they lie in their segment, in order and without a copy. Waits for the
    /// first only; `None` once the channel is closed and drained. A limit of 0 counts as 1.
    ///
    /// This is the fastest way to read, and fit for vectored writes: see [`Batch`].
    ///
    /// # Cancel safety
    ///
    /// As for [`recv`](Self::recv).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, rx) = turbostream::channel();
    /// tx.send("a").await?;
    /// tx.send("b").await?;
    /// let batch = rx.recv_batch(100).await.unwrap();
    /// assert_eq!(batch.iter().collect::<Vec<_>>(), [b"a", b"b"]);
    /// # Ok(()) }
    /// ```
    pub async fn recv_batch(&self, limit: usize) -> Option<Batch> {
        coop::consume_budget().await;
        let mode = self.read_mode();
        let batch = |queue: &Queue, head: &mut Head, effects: &mut Effects| {
            Batch::new(head.take_range(queue, limit.max(1), effects), mode)
        };
        self.spin_then_wait(|registered| self.core.poll_with_head(registered, batch)).await
    }

    /// How this handle gets messages from now on; clones made before keep their own mode.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use turbostream::ReadMode;
    /// let (tx, rx) = turbostream::channel();
    /// tx.send_many(["kept", "looked at"]).await?;
    /// let kept = rx.recv().await; // Safe, the default: a copy, which pins no segment
    /// rx.set_read_mode(ReadMode::ZeroCopy);
    /// assert_eq!(rx.recv().await.unwrap(), "looked at"); // where it lies
    /// assert_eq!(kept.unwrap(), "kept");
    /// # Ok(()) }
    /// ```
    pub fn set_read_mode(&self, mode: ReadMode) {
        // ORDERING: Relaxed: nothing else goes with it.
        self.zero_copy.store(mode == ReadMode::ZeroCopy, Ordering::Relaxed);
    }

    #[inline]
    fn read_mode(&self) -> ReadMode {
        // ORDERING: Relaxed, as above.
        if self.zero_copy.load(Ordering::Relaxed) { ReadMode::ZeroCopy } else { ReadMode::Safe }
    }

    /// Closes the channel: senders get `Closed`. What was accepted can still be received, then comes `None`.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// let (tx, rx) = turbostream::channel();
    /// tx.send("before").await.unwrap();
    /// rx.close();
    /// assert!(tx.send("after").await.is_err());
    /// assert_eq!(rx.recv().await.unwrap(), "before");
    /// assert_eq!(rx.recv().await, None);
    /// # }
    /// ```
    pub fn close(&self) {
        self.core.close();
    }

    /// Whether nothing more is accepted; there may still be messages to receive.
    pub fn is_closed(&self) -> bool {
        self.core.is_closed()
    }

    /// Messages that were accepted and neither handed out nor dropped.
    ///
    /// Locks the reading side and walks over the segments that hold them: for a look now and then, not for each message.
    pub fn len(&self) -> usize {
        self.core.queued().0 as usize
    }

    /// Whether all accepted messages were handed out or dropped. Takes as long as [`len`](Self::len).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A view of the channel's figures that keeps neither end open.
    pub fn monitor(&self) -> Monitor {
        Monitor::new(Arc::clone(&self.core))
    }
}

impl Clone for Receiver {
    /// Another handle of the same channel, in the same read mode.
    fn clone(&self) -> Self {
        self.core.add_receiver();
        Self::new(Arc::clone(&self.core), self.read_mode())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.deregister_own_waiter();
        self.core.remove_receiver();
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("name", &self.core.name())
            .field("mode", &self.read_mode())
            .field("closed", &self.is_closed())
            .finish()
    }
}

#[cfg(all(test, not(turbostream_loom)))]
mod tests {
    use crate::ReadMode;

    /// A writer that panics between its reservation and its commit leaves padding.
    #[tokio::test]
    async fn many_are_received_around_padding() {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let (tx, rx) = crate::builder().read_mode(mode).build().unwrap();
            tx.try_send("1").unwrap();
            tx.try_send("2").unwrap();
            let core = tx.core();
            let slot = core.queue.ring.slot(core.queue.ring.active());
            let slot = slot.reserve(1, core.queue.capacity()).unwrap();
            core.queue.pool.segment(slot.segment()).abandon(&slot);
            tx.try_send("3").unwrap();
            let mut messages = Vec::new();
            assert_eq!(rx.recv_many(&mut messages, 10).await, 3);
            assert_eq!(messages, ["1", "2", "3"]);
        }
    }
}
