//! The reading end.

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::sync::PoisonError;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::coop;

use crate::batch::Batch;
use crate::channel::Core;
use crate::config::ReadMode;
use crate::error::{RecvTimeoutError, TryRecvError};
use crate::head::{Aftermath, Head, Outlook};
use crate::monitor::Monitor;
use crate::pace::Pace;
use crate::quick::{Quick, QuickOr};
use crate::sender::timeout;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};
use crate::wake::PollWaiter;

/// Receives byte messages in the order in which they were accepted.
///
/// Clones compete: each message goes to exactly one of them, and they take in that order. Dropping the last
/// clone closes the channel and drops what was not read. Also a [`futures::Stream`](futures_core::Stream) of
/// [`Bytes`], which may outlive the channel and the runtime.
pub struct Receiver {
    core: Arc<Core>,
    /// [`ReadMode::ZeroCopy`], else [`ReadMode::Safe`]; this handle's own.
    zero_copy: AtomicBool,
    pace: Pace,
    /// The place in the list of a caller that polls.
    waiter: Mutex<PollWaiter>,
    /// The stream has returned `None`.
    pub(crate) terminated: bool,
}

impl Receiver {
    pub(crate) fn new(core: Arc<Core>, mode: ReadMode) -> Self {
        Self {
            core,
            zero_copy: AtomicBool::new(mode == ReadMode::ZeroCopy),
            pace: Pace::default(),
            waiter: Mutex::default(),
            terminated: false,
        }
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
        QuickOr::new(RecvOne(self), |one| one.0.recv_slowly())
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
        if let Some(message) = self.core.take_quickly(self.read_mode()) {
            return Ok(message);
        }
        match self.turn(false) {
            Some(Some(message)) => Ok(message),
            Some(None) => Err(TryRecvError::Closed),
            None => Err(TryRecvError::Empty),
        }
    }

    /// Receives the next message, waiting for it no longer than `limit`.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`] if nothing came in time, [`RecvTimeoutError::Closed`] if nothing ever will.
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
        match timeout(self.core.timer(), limit, self.recv()).await {
            Some(Some(message)) => Ok(message),
            Some(None) => Err(RecvTimeoutError::Closed),
            None => Err(RecvTimeoutError::Timeout),
        }
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
        // Out of its lock while it is used, as polling runs code of the caller's waker.
        let mut waiter = mem::take(&mut *self.waiter.lock().unwrap_or_else(PoisonError::into_inner));
        let readers = self.core.readers();
        let attempt =
            poll_fn(|cx| readers.poll_until(&mut waiter, cx, |attempt| self.turn(attempt.enlisted)));
        let polled = pin!(coop::cooperative(attempt)).poll(cx);
        mem::swap(&mut waiter, &mut self.waiter.lock().unwrap_or_else(PoisonError::into_inner));
        waiter.leave(readers);
        polled
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
        let mut many = |core: &Core, head: &mut Head, after: &mut Aftermath| {
            let before = messages.len();
            let mut readable = true;
            loop {
                // What is left behind this may be padding: not a message to be taken before it was looked at.
                match head.take_quickly(mode) {
                    Some(message) => messages.push(message),
                    None if readable || head.look(core, after) == Outlook::Readable => {
                        messages.push(head.take(core, mode, after));
                    }
                    None => return messages.len() - before,
                }
                readable = false;
                if messages.len() - before == limit {
                    return limit;
                }
            }
        };
        self.wait(|sleeping| self.core.turn(sleeping, &mut many)).await.unwrap_or(0)
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
        let batch = |core: &Core, head: &mut Head, after: &mut Aftermath| {
            head.take_batch(core, limit.max(1), mode, after)
        };
        self.wait(|sleeping| self.core.turn(sleeping, batch)).await
    }

    /// How this handle gets messages from now on; clones made before keep their own mode.
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

    /// Messages that were accepted and not yet handed out.
    pub fn len(&self) -> usize {
        self.core.queued().0 as usize
    }

    /// Whether all accepted messages were handed out.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A view of the channel's figures that keeps neither end open.
    pub fn monitor(&self) -> Monitor {
        Monitor::new(Arc::clone(&self.core))
    }

    #[cold]
    async fn recv_slowly(&self) -> Option<Bytes> {
        coop::consume_budget().await;
        self.wait(|sleeping| self.turn(sleeping)).await
    }

    #[inline]
    fn turn(&self, sleeping: bool) -> Option<Option<Bytes>> {
        let mode = self.read_mode();
        self.core.turn(sleeping, |core, head, after| head.take(core, mode, after))
    }

    /// Takes a turn that has a result, waiting in the list of receivers where none can be expected soon.
    async fn wait<T>(&self, mut turn: impl FnMut(bool) -> Option<Option<T>>) -> Option<T> {
        if !self.core.seems_empty() || self.core.is_lull_over() {
            if let Some(result) = turn(false) {
                return result;
            }
        }
        self.sleep(turn).await
    }

    /// Waits in the list of receivers; if dropped, sees to it that nobody relies on this one.
    #[cold]
    async fn sleep<T>(&self, mut turn: impl FnMut(bool) -> Option<Option<T>>) -> Option<T> {
        struct Waiting<'a>(&'a Core);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.stopped_waiting();
            }
        }
        let waiting = Waiting(&self.core);
        let received = self.core.readers().until(|attempt| turn(attempt.enlisted)).await;
        mem::forget(waiting);
        received
    }
}

/// One message to be received.
struct RecvOne<'a>(&'a Receiver);

impl Quick for RecvOne<'_> {
    type Output = Option<Bytes>;

    #[inline(always)]
    fn try_at_once(&self) -> Option<Self::Output> {
        if self.0.pace.is_due() {
            return None;
        }
        self.0.core.take_quickly(self.0.read_mode()).map(Some)
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
        mem::take(&mut *self.waiter.lock().unwrap_or_else(PoisonError::into_inner))
            .leave(self.core.readers());
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
