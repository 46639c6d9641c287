//! The writing end.

use std::fmt;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;

use crate::blocking;
use crate::channel::{Core, Refusal, Standing};
#[cfg(doc)]
use crate::config::WhenFull;
use crate::error::{SendError, SendTimeoutError, TrySendError};
use crate::head::Passed;
use crate::monitor::Monitor;
use crate::pace::Pace;
use crate::payload::Payload;
use crate::quick::{Quick, QuickOr};
use crate::strategy::SwitchStrategy;
use crate::sync::Arc;
use crate::timer::Timer;
use crate::wake::{Attempt, PollWaiter};

/// A refusal leaves the payload where it was.
pub(crate) const KEPT: &str = "a refused payload is still here";

/// Sends byte messages; clone it for every task that writes.
///
/// The order of messages is the order in which sends were accepted, over all clones; dropping the last clone
/// closes the channel: receivers get what was accepted, and then the end. Also a [`futures::Sink`](futures_sink::Sink) of
/// [`Bytes`].
pub struct Sender {
    core: Arc<Core>,
    pub(crate) pace: Pace,
    /// Set when this handle was closed as a sink: it holds the channel open no longer.
    pub(crate) released: bool,
    /// What the sink took and the channel had no room for.
    pub(crate) parked: Option<Bytes>,
    pub(crate) waiter: PollWaiter,
}

impl Sender {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, pace: Pace::default(), released: false, parked: None, waiter: PollWaiter::default() }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Sends one message, waiting for room while the channel is full.
    ///
    /// Small payloads are copied, owned ones of 32 KiB and more travel by reference count; see [`Payload`]. When
    /// `send` returns `Ok`, the message is accepted: it will be handed out, in order, unless the last receiver
    /// is dropped before, or [`WhenFull`] says that messages are dropped.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] if every receiver is gone or one closed the channel, [`SendError::TooLarge`] if the
    /// message is longer than `max_message_bytes`, and [`SendError::Full`] only on a channel that was built with
    /// [`WhenFull::Reject`]. Each gives the payload back. Where messages are dropped when the channel is full, `send`
    /// does not wait and is `Ok` also for one that was dropped.
    ///
    /// # Cancel safety
    ///
    /// A `send` that is dropped before it returned has not sent anything.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, rx) = turbostream::channel();
    /// tx.send(b"borrowed").await?;
    /// tx.send(vec![7; 100_000]).await?; // moves, is not copied
    /// assert_eq!(rx.recv().await.unwrap(), "borrowed");
    /// assert_eq!(rx.recv().await.unwrap().len(), 100_000);
    /// # Ok(()) }
    /// ```
    #[inline]
    pub fn send<P: Payload>(&self, payload: P) -> impl Future<Output = Result<(), SendError<P>>> {
        let one = SendOne { sender: self, payload: Some(payload) };
        QuickOr::new(one, |one| Box::pin(one.sender.wait_and_send(one.payload)))
    }

    /// Sends one message if there is room for it now. Works in and outside of a runtime.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] if there is no room, unless messages are dropped then ([`WhenFull`]);
    /// [`TrySendError::Closed`] and [`TrySendError::TooLarge`] as for [`send`](Self::send). Each gives the payload back.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// let (tx, rx) = turbostream::builder().max_message_bytes(10).build().unwrap();
    /// assert!(tx.try_send("short").is_ok());
    /// let refused = tx.try_send("much too long").unwrap_err();
    /// assert_eq!(refused.into_inner(), "much too long");
    /// # }
    /// ```
    #[inline]
    pub fn try_send<P: Payload>(&self, mut payload: P) -> Result<(), TrySendError<P>> {
        if self.write_quickly(&mut payload) {
            return Ok(());
        }
        let mut payload = Some(payload);
        self.attempt(&mut payload, Standing::Newcomer).map_err(|refusal| {
            let payload = payload.expect(KEPT);
            self.core.count_refusal(refusal);
            match refusal {
                Refusal::Full => TrySendError::Full(payload),
                Refusal::Closed => TrySendError::Closed(payload),
                Refusal::TooLarge { len, max } => TrySendError::TooLarge { payload, len, max },
            }
        })
    }

    /// Sends one message, waiting for room no longer than `limit`.
    ///
    /// # Errors
    ///
    /// [`SendTimeoutError::Timeout`] if there was no room in time, where the channel has senders wait for it
    /// ([`WhenFull::Wait`]); the others as for [`send`](Self::send).
    ///
    /// # Panics
    ///
    /// If there is no room, and the runtime that it is awaited in has no time driver (Tokio's `enable_time`). Outside of
    /// a runtime the one of the channel keeps the time, and Tokio panics if that shuts down meanwhile.
    ///
    /// # Cancel safety
    ///
    /// A `send_timeout` that is dropped before it returned has not sent anything.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// use std::time::Duration;
    /// let (tx, rx) = turbostream::channel();
    /// tx.send_timeout("soon", Duration::from_millis(100)).await.unwrap();
    /// # }
    /// ```
    pub async fn send_timeout<P: Payload>(
        &self,
        payload: P,
        limit: Duration,
    ) -> Result<(), SendTimeoutError<P>> {
        let mut payload = Some(payload);
        self.pace.keep().await;
        let result = match self.attempt(&mut payload, Standing::Newcomer) {
            Err(Refusal::Full) if !self.core.rejects_when_full() => {
                let timeout = timeout(self.core.timer(), limit, self.wait_to_send(&mut payload));
                timeout.await.ok_or(None).and_then(|sent| sent.map_err(Some))
            }
            result => result.map_err(Some),
        };
        result.map_err(|refusal| {
            let payload = payload.expect(KEPT);
            match refusal {
                None => self.core.count_send_timeout(),
                Some(refusal) => self.core.count_refusal(refusal),
            }
            match refusal {
                None => SendTimeoutError::Timeout(payload),
                Some(Refusal::Full) => SendTimeoutError::Full(payload),
                Some(Refusal::Closed) => SendTimeoutError::Closed(payload),
                Some(Refusal::TooLarge { len, max }) => SendTimeoutError::TooLarge { payload, len, max },
            }
        })
    }

    /// Sends one message from a plain thread, blocking it while the channel is full: [`send`](Self::send) without
    /// `await`, for threads of your own and for Tokio's `spawn_blocking`.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    ///
    /// # Panics
    ///
    /// If called where it would block async tasks, as Tokio's own blocking methods do, also where there is room: anywhere
    /// in an async task or in `block_on`, except inside `tokio::task::block_in_place`. A thread that has only entered a
    /// runtime by [`Handle::enter`](tokio::runtime::Handle::enter) may block.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// let (tx, rx) = turbostream::channel();
    /// let worker = std::thread::spawn(move || tx.blocking_send("from a thread").unwrap());
    /// assert_eq!(rx.recv().await.unwrap(), "from a thread");
    /// worker.join().unwrap();
    /// # }
    /// ```
    #[track_caller]
    pub fn blocking_send<P: Payload>(&self, payload: P) -> Result<(), SendError<P>> {
        blocking::on("Sender::blocking_send", self.send(payload))
    }

    /// Writes the payload to the active segment if that is all there is to do: the way of nearly all messages.
    #[inline(always)]
    pub(crate) fn write_quickly<P: Payload>(&self, payload: &mut P) -> bool {
        !self.released && self.core.write_quickly(payload)
    }

    /// Writes as far as the task has budget left; nothing if it has to be waited for.
    pub(crate) fn poll_without_waiting(
        &self,
        cx: &mut Context<'_>,
        write: impl FnOnce() -> Result<(), Refusal>,
    ) -> Poll<Option<Result<(), Refusal>>> {
        ready!(self.pace.poll_keep(cx));
        let waits = |written: &_| *written == Err(Refusal::Full) && !self.core.rejects_when_full();
        Poll::Ready(Some(write()).filter(|written| !waits(written)))
    }

    /// The rest of a `send` that found no room.
    #[cold]
    async fn wait_and_send<P: Payload>(&self, mut payload: Option<P>) -> Result<(), SendError<P>> {
        let sent = self.wait_to_send(&mut payload).await;
        sent.map_err(|refusal| self.refused(refusal, payload.expect(KEPT)))
    }

    /// Writes, waiting for room while the channel is full, unless it rejects then.
    pub(crate) async fn write_or_wait<T>(
        &self,
        mut write: impl FnMut(Standing) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        match write(Standing::Newcomer) {
            Err(Refusal::Full) if !self.core.rejects_when_full() => self.wait_to_write(write).await,
            result => result,
        }
    }

    #[inline]
    pub(crate) fn attempt<P: Payload>(
        &self,
        payload: &mut Option<P>,
        standing: Standing,
    ) -> Result<(), Refusal> {
        if self.released { Err(Refusal::Closed) } else { self.core.accept(payload, standing) }
    }

    /// An attempt to send from the list of waiting senders.
    pub(crate) fn attempt_from_list<P: Payload>(
        &self,
        payload: &mut Option<P>,
        attempt: Attempt,
    ) -> Option<Result<(), Refusal>> {
        self.write_from_list(attempt, |standing| self.attempt(payload, standing))
    }

    fn write_from_list<T>(
        &self,
        attempt: Attempt,
        write: impl FnOnce(Standing) -> Result<T, Refusal>,
    ) -> Option<Result<T, Refusal>> {
        let standing = if attempt.first { Standing::First } else { Standing::Newcomer };
        match write(standing) {
            Err(Refusal::Full) => {
                if attempt.enlisted {
                    self.core.look_for_trouble();
                    if !attempt.first {
                        // Those ahead pass their wakes on, unless they are not polled any more.
                        self.core.timer().watch_waiters();
                    }
                }
                None
            }
            result => Some(result),
        }
    }

    /// Waits until the message is accepted, or refused for another reason than being full.
    #[cold]
    async fn wait_to_send<P: Payload>(&self, payload: &mut Option<P>) -> Result<(), Refusal> {
        self.wait_to_write(|standing| self.attempt(payload, standing)).await
    }

    #[cold]
    pub(crate) async fn wait_to_write<T>(
        &self,
        mut write: impl FnMut(Standing) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let _next = WakesNext(self);
        self.core.pool().space.until(|attempt| self.write_from_list(attempt, &mut write)).await
    }

    /// After having waited: the next in the list may find room too.
    pub(crate) fn wake_next(&self) {
        let space = &self.core.pool().space;
        if space.waiting() == 0 {
            return;
        }
        if self.core.has_room() {
            space.wake(self.core.pool().capacity().messages);
        } else {
            // A segment may have been sealed after all of it was read, and no receiver come since: that wakes too.
            self.core.leave_what_was_read();
        }
    }

    /// Waits until the channel is closed: every receiver is gone, or one of them closed it.
    ///
    /// # Cancel safety
    ///
    /// Can be dropped and called again at any time.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// let (tx, rx) = turbostream::channel();
    /// drop(rx);
    /// tx.closed().await;
    /// assert!(tx.is_closed());
    /// # }
    /// ```
    pub async fn closed(&self) {
        self.core.closing.until(|_| self.is_closed().then_some(())).await;
    }

    /// Whether nothing more is accepted: of anybody, or of this handle, if it was closed as a sink.
    pub fn is_closed(&self) -> bool {
        self.released || self.core.is_closed()
    }

    /// Switches now, and waits until everything that was accepted before is out of the channel: handed out to receivers,
    /// or dropped by a [`WhenFull`] that says so. What is accepted later is not waited for.
    ///
    /// Returns at once where nothing is queued. On a closed channel it still waits for what was accepted before.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] if the last receiver is gone and some of it was dropped unread.
    ///
    /// # Cancel safety
    ///
    /// Can be dropped and called again at any time.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, rx) = turbostream::channel();
    /// let reader = tokio::spawn(async move {
    ///     let mut lines = 0;
    ///     while let Some(batch) = rx.recv_batch(64).await {
    ///         lines += batch.len();
    ///     }
    ///     lines
    /// });
    /// for line in 0..1000 {
    ///     tx.send(format!("line {line}")).await?;
    /// }
    /// tx.drained().await?;
    /// assert_eq!(tx.monitor().stats().received_messages, 1000);
    /// drop(tx);
    /// assert_eq!(reader.await?, 1000);
    /// # Ok(()) }
    /// ```
    pub async fn drained(&self) -> Result<(), SendError<()>> {
        match self.core.drained().await {
            Passed::Taken => Ok(()),
            Passed::Discarded => Err(SendError::Closed(())),
        }
    }

    /// Swaps the strategy of the running channel: it is asked from now on, also about what the active segment holds.
    ///
    /// No message is affected, and no other setting. On a closed channel there is nothing left to ask about.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use turbostream::MessageCount;
    /// let (tx, rx) = turbostream::builder().on_demand(false).strategy(MessageCount(1000)).build()?;
    /// tx.send("one").await?;
    /// tx.send("two").await?;
    /// assert!(rx.try_recv().is_err());
    /// tx.set_strategy(MessageCount(2));
    /// assert_eq!(rx.try_recv()?, "one");
    /// # Ok(()) }
    /// ```
    pub fn set_strategy(&self, strategy: impl SwitchStrategy) {
        self.core.set_strategy(Box::new(strategy));
    }

    /// Switches now, and waits for nobody: what was accepted and no receiver saw yet can be read from here on, also on
    /// a channel without [`on_demand`](crate::Builder::on_demand). Does nothing if there is no such message.
    ///
    /// Each switch takes a segment, however little is in it.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// use turbostream::TryRecvError;
    /// let (tx, rx) = turbostream::builder().on_demand(false).build().unwrap();
    /// tx.send("gathering").await.unwrap();
    /// assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    /// tx.switch();
    /// assert_eq!(rx.try_recv().unwrap(), "gathering");
    /// # }
    /// ```
    pub fn switch(&self) {
        self.core.switch();
    }

    /// Whether both handles send to the same channel.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// let ((one, _rx), (another, _rx2)) = (turbostream::channel(), turbostream::channel());
    /// assert!(one.same_channel(&one.clone()));
    /// assert!(!one.same_channel(&another));
    /// # }
    /// ```
    pub fn same_channel(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }

    /// Messages that were accepted and neither handed out nor dropped; one that is being written counts already.
    ///
    /// Locks the reading side and walks over the segments that hold them: for a look now and then, not for each message.
    pub fn len(&self) -> usize {
        self.core.queued().0 as usize
    }

    /// Whether all accepted messages were handed out or dropped. Takes as long as [`len`](Self::len).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Payload bytes that were accepted and neither handed out nor dropped. Takes as long as [`len`](Self::len).
    pub fn queued_bytes(&self) -> usize {
        self.core.queued().1 as usize
    }

    /// What a refused `send` returns.
    pub(crate) fn refused<P>(&self, refusal: Refusal, payload: P) -> SendError<P> {
        self.core.count_refusal(refusal);
        match refusal {
            Refusal::Full => SendError::Full(payload),
            Refusal::Closed => SendError::Closed(payload),
            Refusal::TooLarge { len, max } => SendError::TooLarge { payload, len, max },
        }
    }

    /// A view of the channel's figures that keeps neither end open.
    pub fn monitor(&self) -> Monitor {
        Monitor::new(Arc::clone(&self.core))
    }

    /// Gives up this handle's claim on the channel; nothing can be sent through it any more.
    pub(crate) fn release(&mut self) {
        if !self.released {
            self.released = true;
            if self.waiter.leave(&self.core.pool().space) {
                self.wake_next();
            }
            self.core.remove_sender();
        }
    }
}

/// Whoever is next is not to wait for one that has left: that was done, given up, or panicked.
pub(crate) struct WakesNext<'a>(pub(crate) &'a Sender);

impl Drop for WakesNext<'_> {
    fn drop(&mut self) {
        self.0.wake_next();
    }
}

/// One message to be sent.
struct SendOne<'a, P> {
    sender: &'a Sender,
    /// There until it is accepted.
    payload: Option<P>,
}

impl<P: Payload> Quick for SendOne<'_, P> {
    type Output = Result<(), SendError<P>>;

    #[inline(always)]
    fn try_at_once(&mut self) -> Option<Self::Output> {
        let (sender, payload) = (self.sender, self.payload.as_mut()?);
        if sender.pace.is_due() || !sender.write_quickly(payload) {
            return None;
        }
        sender.pace.tick();
        Some(Ok(()))
    }

    fn try_further(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::Output>> {
        let (sender, payload) = (self.sender, &mut self.payload);
        let tried = ready!(sender.poll_without_waiting(cx, || sender.attempt(payload, Standing::Newcomer)));
        let refused = |refusal| sender.refused(refusal, payload.take().expect(KEPT));
        Poll::Ready(tried.map(|sent| sent.map_err(refused)))
    }
}

impl Clone for Sender {
    /// Another handle of the same channel. What a sink handle has parked stays with it; the clone of one that was closed
    /// (`SinkExt::close`) is closed as well.
    fn clone(&self) -> Self {
        let mut clone = Self::new(Arc::clone(&self.core));
        clone.released = self.released;
        if !self.released {
            self.core.add_sender();
        }
        clone
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.release();
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("name", &self.core.name()).field("closed", &self.is_closed()).finish()
    }
}

/// `future`, or nothing once `limit` has passed; on the channel's own runtime where there is no other.
pub(crate) async fn timeout<T>(timer: &Timer, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let timeout = {
        let elsewhere = tokio::runtime::Handle::try_current().is_err();
        let _context = timer.runtime().filter(|_| elsewhere).map(|runtime| runtime.enter());
        tokio::time::timeout(limit, future)
    };
    timeout.await.ok()
}
