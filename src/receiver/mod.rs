//! The receiving half: [`Receiver`], the futures of its receives, and [`Batch`].
//!
//! All receivers of a channel share one head, the state of the reading side. A handle claims messages from it, and gives back
//! those that it has not handed out when it is cloned, takes messages in another way, or is dropped. A future holds no message,
//! so it can be dropped at any time.

pub(crate) mod batch;
mod many;
pub(crate) mod message_ref;
mod recv;
#[cfg(feature = "forward")]
mod retained;

use std::fmt;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;

use self::message_ref::MessageRef;
use self::recv::{RecvOperation, RecvRefOperation, ahead_of, take_one};
use crate::channel::Core;
use crate::error::{RecvTimeoutError, TryRecvError};
use crate::monitor::Monitor;
use crate::queue::ReadMode;
use crate::queue::head::ahead::Ahead;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};
use crate::wait::blocking;
use crate::wait::clock::Clock;
use crate::wait::coop::CoopBudget;
use crate::wait::wait_list::PollWaiter;

/// Receives byte messages from a channel, in the order in which they were accepted.
///
/// Clones compete: each message goes to exactly one of them, and together they take the messages in order. The
/// channel closes when the last clone is dropped, and unread messages are dropped with it. Received [`Bytes`] may
/// outlive the channel and the runtime.
///
/// All methods that take messages take `&mut self`: a task that receives has a handle of its own.
///
/// A receiver is also a [`futures::Stream`](futures_core::Stream) of [`Bytes`].
pub struct Receiver {
    core: Arc<Core>,
    /// The read mode of this handle: [`ReadMode::ZeroCopy`] if set, otherwise [`ReadMode::Safe`].
    zero_copy: AtomicBool,
    budget: CoopBudget,
    /// The registration of a caller that polls this handle.
    waiter: PollWaiter,
    /// What this handle has claimed. All that takes messages has exclusive access to the handle, and needs no lock; only
    /// `clone` locks it.
    ahead: Mutex<Ahead>,
    /// Set when a stream over this handle has returned `None`.
    pub(crate) terminated: bool,
}

impl Receiver {
    pub(crate) fn new(core: Arc<Core>, mode: ReadMode) -> Self {
        Self {
            core,
            zero_copy: AtomicBool::new(mode == ReadMode::ZeroCopy),
            budget: CoopBudget::default(),
            waiter: PollWaiter::default(),
            ahead: Mutex::new(Ahead::default()),
            terminated: false,
        }
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    fn clock(&self) -> &Clock {
        self.core.queue.clock()
    }

    /// Receives the next message, waiting until there is one.
    ///
    /// Returns `None` if the channel is closed and all its messages were received.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe. If the future is dropped before it completes, no message was taken, and a wake
    /// that it may have got is passed on.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, mut rx) = turbostream::channel();
    /// tx.send("hello").await?;
    /// drop(tx);
    /// assert_eq!(rx.recv().await.unwrap(), "hello");
    /// assert_eq!(rx.recv().await, None);
    /// # Ok(()) }
    /// ```
    #[inline]
    pub fn recv(&mut self) -> impl Future<Output = Option<Bytes>> {
        RecvOperation::start(self)
    }

    /// Receives the next message if there is one now.
    ///
    /// A message whose send has returned is there. If another thread is in the middle of copying the message before it,
    /// this method waits for that copy, and yields its thread meanwhile. With `on_demand(false)` a message is there once its
    /// segment was switched. This method works inside and outside of a runtime.
    ///
    /// # Errors
    ///
    /// - [`TryRecvError::Empty`] if no message can be read now. With `on_demand(false)` messages may be queued.
    /// - [`TryRecvError::Busy`] if the next message is still being written by the closure of a
    ///   [`send_with`](crate::Sender::send_with). Where no closure may be slow, treat it as `Empty`.
    /// - [`TryRecvError::Closed`] if the channel is closed and all its messages were received.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// let (tx, mut rx) = turbostream::channel();
    /// assert_eq!(rx.try_recv(), Err(turbostream::TryRecvError::Empty));
    /// tx.try_send("now").unwrap();
    /// assert_eq!(rx.try_recv().unwrap(), "now");
    /// drop(tx);
    /// assert_eq!(rx.try_recv(), Err(turbostream::TryRecvError::Closed));
    /// # }
    /// ```
    #[inline]
    pub fn try_recv(&mut self) -> Result<Bytes, TryRecvError> {
        let mode = self.read_mode();
        if let Some(message) = self.take_claimed_or_fast(mode) {
            return Ok(message);
        }
        self.core.try_with_head(ahead_of(&mut self.ahead), take_one(mode))
    }

    /// Receives the next message, waiting until there is one, and lends it until the next call.
    ///
    /// This is the fastest way to receive messages one by one: most of them are neither copied nor counted, and the
    /// [`MessageRef`] borrows them where they lie, in either read mode. Returns `None` if the channel is closed and all its
    /// messages were received.
    ///
    /// # Cancel safety
    ///
    /// As for [`recv`](Self::recv).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, mut rx) = turbostream::channel();
    /// tx.send_many(["one", "and", "more"]).await?;
    /// drop(tx);
    /// let mut bytes = 0;
    /// while let Some(message) = rx.recv_ref().await {
    ///     bytes += message.len();
    /// }
    /// assert_eq!(bytes, 10);
    /// # Ok(()) }
    /// ```
    #[inline]
    pub fn recv_ref(&mut self) -> impl Future<Output = Option<MessageRef<'_>>> {
        RecvRefOperation::start(self)
    }

    /// Receives the next message if there is one now, and lends it until the next call; see [`recv_ref`](Self::recv_ref).
    ///
    /// # Errors
    ///
    /// As for [`try_recv`](Self::try_recv).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// let (tx, mut rx) = turbostream::channel();
    /// tx.try_send("lent").unwrap();
    /// assert_eq!(*rx.try_recv_ref().unwrap(), *b"lent");
    /// assert_eq!(rx.try_recv_ref().unwrap_err(), turbostream::TryRecvError::Empty);
    /// # }
    /// ```
    #[inline]
    pub fn try_recv_ref(&mut self) -> Result<MessageRef<'_>, TryRecvError> {
        if self.has_ahead() {
            return Ok(MessageRef::in_place(self.take_ahead_ref()));
        }
        if let Some(message) = self.core.take_fast(ReadMode::ZeroCopy, ahead_of(&mut self.ahead)) {
            return Ok(MessageRef::owned(message));
        }
        self.core
            .try_with_head(ahead_of(&mut self.ahead), take_one(ReadMode::ZeroCopy))
            .map(MessageRef::owned)
    }

    /// Receives the next message, waiting for it no longer than `limit`.
    ///
    /// A message that is there is received even with a `limit` of zero. A `limit` of [`Duration::MAX`] waits as
    /// [`recv`](Self::recv) does.
    ///
    /// # Errors
    ///
    /// - [`RecvTimeoutError::Timeout`] if there was no message in time.
    /// - [`RecvTimeoutError::Closed`] if the channel is closed and all its messages were received.
    ///
    /// # Panics
    ///
    /// Panics if the current runtime has no time driver (Tokio's `enable_time`), even if there is a message. Outside
    /// of a runtime, the timeout uses the runtime of the channel, and panics if that shuts down meanwhile.
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
    /// let (tx, mut rx) = turbostream::channel();
    /// let nothing = rx.recv_timeout(Duration::from_millis(1)).await;
    /// assert_eq!(nothing, Err(turbostream::RecvTimeoutError::Timeout));
    /// # }
    /// ```
    pub async fn recv_timeout(&mut self, limit: Duration) -> Result<Bytes, RecvTimeoutError> {
        let core = Arc::clone(&self.core);
        Self::recv_within(&core, limit, self.recv()).await
    }

    /// Receives the next message, blocking the current thread until there is one.
    ///
    /// This is [`recv`](Self::recv) for threads that run no async code: plain threads, and those of
    /// [`spawn_blocking`](tokio::task::spawn_blocking). Returns `None` if the channel is closed and all its messages
    /// were received.
    ///
    /// A message wakes the thread without a runtime. Only switches by time, with
    /// [`on_demand(false)`](crate::Builder::on_demand), need the runtime of the channel.
    ///
    /// # Panics
    ///
    /// Panics if called within an async task or within `block_on`, even if there is a message, as Tokio's own
    /// blocking methods do. It may be called inside `tokio::task::block_in_place`, and on a thread that only entered
    /// a runtime by [`Handle::enter`](tokio::runtime::Handle::enter). The only way to detect such a context is a panic of
    /// Tokio, which is caught: a panic hook sees it before the panic of this method.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, mut rx) = turbostream::channel();
    /// let receiver = std::thread::spawn(move || {
    ///     let mut messages = 0;
    ///     while let Some(message) = rx.blocking_recv() {
    ///         assert_eq!(message, "to a thread");
    ///         messages += 1;
    ///     }
    ///     messages
    /// });
    /// tx.send("to a thread").await?;
    /// drop(tx);
    /// assert_eq!(receiver.join().unwrap(), 1);
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn blocking_recv(&mut self) -> Option<Bytes> {
        blocking::block_on("Receiver::blocking_recv", self.recv())
    }

    /// Receives the next message, blocking the current thread for no longer than `limit`.
    ///
    /// This is [`recv_timeout`](Self::recv_timeout) for threads that run no async code; see
    /// [`blocking_recv`](Self::blocking_recv). It needs no runtime, and measures the time of the system also where Tokio's
    /// clock is paused.
    ///
    /// # Errors
    ///
    /// As for [`recv_timeout`](Self::recv_timeout).
    ///
    /// # Panics
    ///
    /// As for [`blocking_recv`](Self::blocking_recv).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// use std::time::Duration;
    /// use turbostream::RecvTimeoutError;
    /// let (tx, mut rx) = turbostream::channel();
    /// let receiver = std::thread::spawn(move || rx.blocking_recv_timeout(Duration::from_millis(1)));
    /// assert_eq!(receiver.join().unwrap(), Err(RecvTimeoutError::Timeout));
    /// # }
    /// ```
    #[track_caller]
    pub fn blocking_recv_timeout(&mut self, limit: Duration) -> Result<Bytes, RecvTimeoutError> {
        let received = blocking::block_on_timeout("Receiver::blocking_recv_timeout", limit, self.recv());
        Self::result_in_time(&self.core, received)
    }

    /// Polls for the next message.
    ///
    /// Returns `Poll::Ready(None)` if the channel is closed and all its messages were received. If it returns
    /// `Poll::Pending`, the waker of the latest call is woken when a message may be there.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// let (tx, mut rx) = turbostream::channel();
    /// tx.send("polled").await.unwrap();
    /// let message = std::future::poll_fn(|cx| rx.poll_recv(cx)).await;
    /// assert_eq!(message.unwrap(), "polled");
    /// # }
    /// ```
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(message) = ready!(self.poll_fast(cx)) {
            return Poll::Ready(Some(message));
        }
        let mode = self.read_mode();
        self.poll_own(cx, take_one(mode), |_| 1)
    }

    /// Sets the read mode of this handle. Other clones keep theirs.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use turbostream::ReadMode;
    /// let (tx, mut rx) = turbostream::channel();
    /// tx.send_many(["copied", "lent"]).await?;
    /// let copied = rx.recv().await; // Safe, the default: a copy, which pins no segment
    /// rx.set_read_mode(ReadMode::ZeroCopy);
    /// assert_eq!(rx.recv().await.unwrap(), "lent"); // a slice of its segment
    /// assert_eq!(copied.unwrap(), "copied");
    /// # Ok(()) }
    /// ```
    pub fn set_read_mode(&self, mode: ReadMode) {
        // ORDERING: Relaxed: the mode publishes no other data.
        self.zero_copy.store(mode == ReadMode::ZeroCopy, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn read_mode(&self) -> ReadMode {
        // ORDERING: Relaxed: the mode publishes no other data.
        if self.zero_copy.load(Ordering::Relaxed) { ReadMode::ZeroCopy } else { ReadMode::Safe }
    }

    /// Closes the channel.
    ///
    /// Sends fail from now on. Messages accepted before can still be received; then receivers get `None`.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// let (tx, mut rx) = turbostream::channel();
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

    /// Returns `true` if the channel accepts no more messages. There may still be messages to receive.
    pub fn is_closed(&self) -> bool {
        self.core.is_closed()
    }

    /// Returns the number of queued messages: accepted, and neither received nor dropped.
    ///
    /// This method locks the head and walks over all segments that hold queued messages, so call it now and then, not
    /// for each message.
    pub fn len(&self) -> usize {
        self.core.queued().0 as usize
    }

    /// Returns `true` if no message is queued. Costs as much as [`len`](Self::len).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns `true` if a small message would find no room now; see [`Sender::is_full`](crate::Sender::is_full).
    pub fn is_full(&self) -> bool {
        !self.core.has_room(None)
    }

    /// Returns the number of senders that hold the channel open.
    ///
    /// A handle that was closed as a sink does not count. The number may have changed by the time it is returned.
    pub fn sender_count(&self) -> usize {
        self.core.senders()
    }

    /// Returns the number of receivers of the channel, this one included.
    ///
    /// The number may have changed by the time it is returned.
    pub fn receiver_count(&self) -> usize {
        self.core.receivers()
    }

    /// Returns the limit on the memory of the channel, as set by [`Builder::max_bytes`](crate::Builder::max_bytes).
    pub fn max_bytes(&self) -> usize {
        self.core.max_bytes()
    }

    /// Returns `true` if both handles receive from the same channel.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// let ((_tx, one), (_tx2, another)) = (turbostream::channel(), turbostream::channel());
    /// assert!(one.same_channel(&one.clone()));
    /// assert!(!one.same_channel(&another));
    /// assert_eq!((one.sender_count(), one.receiver_count()), (1, 1));
    /// # }
    /// ```
    pub fn same_channel(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }

    /// Returns a [`Monitor`] of the channel's statistics, which does not keep the channel open.
    pub fn monitor(&self) -> Monitor {
        Monitor::new(Arc::clone(&self.core))
    }
}

impl Clone for Receiver {
    /// Returns another handle of the same channel, in the same read mode.
    fn clone(&self) -> Self {
        self.core.give_back(&self.ahead);
        self.core.add_receiver();
        Self::new(Arc::clone(&self.core), self.read_mode())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.deregister_own_waiter();
        self.core.end_claims(ahead_of(&mut self.ahead));
        self.core.remove_receiver();
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("name", &self.core.name())
            .field("mode", &self.read_mode())
            .field("closed", &self.is_closed())
            .field("senders", &self.sender_count())
            .finish()
    }
}
