//! The writing end.

mod send;
pub(crate) mod send_many;
pub(crate) mod weak;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use self::send::SendOperation;
use crate::channel::payload::Payload;
use crate::channel::source::{ClosureSource, PayloadSource, Source};
use crate::channel::strategy::SwitchStrategy;
use crate::channel::{Core, QueuePosition, Refusal};
use crate::error::{SendError, SendTimeoutError, TrySendError};
use crate::monitor::Monitor;
use crate::queue::head::DrainOutcome;
use crate::sync::Arc;
use crate::wait::blocking;
use crate::wait::coop::CoopBudget;
use crate::wait::timeout::timeout;
use crate::wait::wait_list::{PollWaiter, WaitState};

/// Sends byte messages; clone it for every task that writes.
///
/// The order of messages is the order in which sends were accepted, over all clones; dropping the last clone
/// closes the channel: receivers get what was accepted, and then the end. Also a [`futures::Sink`](futures_sink::Sink) of
/// [`Bytes`].
pub struct Sender {
    core: Arc<Core>,
    pub(crate) budget: CoopBudget,
    /// Set when this handle was closed as a sink: it holds the channel open no longer.
    pub(crate) closed: bool,
    /// What the sink took and the channel had no room for.
    pub(crate) pending_item: Option<Bytes>,
    pub(crate) waiter: PollWaiter,
}

impl Sender {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            budget: CoopBudget::default(),
            closed: false,
            pending_item: None,
            waiter: PollWaiter::default(),
        }
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
        SendOperation::start(self, PayloadSource(payload))
    }

    /// Has `write` put one message where it will lie, without a copy, waiting for room while the channel is full.
    ///
    /// `write` gets `max_len` zeroed bytes and returns how many of them, from the start, are the message. What it leaves
    /// of them stays unused until its segment is used again, so `max_len` should be a good guess. It is called once,
    /// when there is room, and under no lock; but receivers get nothing from behind its message before it returned, so
    /// it should be quick, and must not wait for anything to be received from this channel.
    ///
    /// Where a message has to be dropped, as [`WhenFull::DropNewest`](crate::WhenFull::DropNewest) says, `write` is not
    /// called, and the message counts with `max_len` bytes.
    ///
    /// Where `max_len` is more than a segment holds, the message is written to an allocation of its own, and travels by
    /// reference.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send), with `write` inside, which then was not called; [`SendError::TooLarge`] if
    /// `max_len` is more than `max_message_bytes`, however short the message would have come out.
    ///
    /// # Panics
    ///
    /// If `write` does, or if it returns more than `max_len`. Then nothing was sent: receivers never see what was
    /// written, nothing but its sequence is missing, and the channel goes on.
    ///
    /// # Cancel safety
    ///
    /// A `send_with` that is dropped before it returned has neither called `write` nor sent anything.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::io::Write;
    /// let (tx, rx) = turbostream::channel();
    /// for reading in [3.25, 14.5] {
    ///     tx.send_with(64, move |mut buf| {
    ///         let room = buf.len();
    ///         write!(buf, "reading {reading}").expect("64 bytes are enough");
    ///         room - buf.len()
    ///     })
    ///     .await?;
    /// }
    /// assert_eq!(rx.recv().await.unwrap(), "reading 3.25");
    /// assert_eq!(rx.recv().await.unwrap(), "reading 14.5");
    /// # Ok(()) }
    /// ```
    #[inline]
    pub fn send_with<F>(&self, max_len: usize, write: F) -> impl Future<Output = Result<(), SendError<F>>>
    where
        F: FnOnce(&mut [u8]) -> usize,
    {
        SendOperation::start(self, ClosureSource::new(max_len, write))
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
    pub fn try_send<P: Payload>(&self, payload: P) -> Result<(), TrySendError<P>> {
        let mut source = PayloadSource(payload);
        if self.write_fast(&mut source) {
            return Ok(());
        }
        self.push(&mut source, QueuePosition::Barging).map_err(|refusal| {
            let payload = source.into_input();
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
        let mut source = PayloadSource(payload);
        self.budget.consume().await;
        let result = match self.push(&mut source, QueuePosition::Barging) {
            Err(Refusal::Full) if !self.core.rejects_when_full() => {
                let sent = self.wait_for_room(|position| self.push(&mut source, position));
                let runtime = self.core.background().runtime();
                timeout(runtime, limit, sent).await.ok_or(None).and_then(|sent| sent.map_err(Some))
            }
            result => result.map_err(Some),
        };
        result.map_err(|refusal| {
            let payload = source.into_input();
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

    /// Writes a message if the active segment has room for it and nothing else is to be done.
    #[inline(always)]
    pub(crate) fn write_fast<S: Source>(&self, source: &mut S) -> bool {
        !self.closed && self.core.write_fast(source)
    }

    /// Writes a message, or says why not.
    #[inline]
    pub(crate) fn push<S: Source>(&self, source: &mut S, position: QueuePosition) -> Result<(), Refusal> {
        if self.closed { Err(Refusal::Closed) } else { self.core.push(source, position) }
    }

    /// Writes, and waits for room while the channel is full, unless it rejects then.
    pub(crate) async fn write_or_wait_for_room<T>(
        &self,
        mut write: impl FnMut(QueuePosition) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        match write(QueuePosition::Barging) {
            Err(Refusal::Full) if !self.core.rejects_when_full() => self.wait_for_room(write).await,
            result => result,
        }
    }

    /// Calls `write` until it is not refused for want of room, and waits in between.
    #[cold]
    pub(crate) async fn wait_for_room<T>(
        &self,
        mut write: impl FnMut(QueuePosition) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let _next = WakeNextOnDrop(self);
        self.core.room_waiters().wait_until(|state| self.try_from_queue(state, &mut write)).await
    }

    /// Calls `write` for a waiter; `None` if it has to wait on.
    pub(crate) fn try_from_queue<T>(
        &self,
        state: WaitState,
        write: impl FnOnce(QueuePosition) -> Result<T, Refusal>,
    ) -> Option<Result<T, Refusal>> {
        let position = if state.at_front { QueuePosition::Front } else { QueuePosition::Barging };
        match write(position) {
            Err(Refusal::Full) => {
                if state.registered {
                    self.core.arm_watchdog();
                    if !state.at_front {
                        // Waiters ahead pass their wakes on, unless they are not polled any more.
                        self.core.background().watch_waiters();
                    }
                }
                None
            }
            result => Some(result),
        }
    }

    /// After having waited: the next in the list may find room too.
    pub(crate) fn wake_next(&self) {
        let room_waiters = self.core.room_waiters();
        if room_waiters.waiting() == 0 {
            return;
        }
        if self.core.has_room() {
            room_waiters.wake(self.core.queue.capacity().messages);
        } else {
            // A segment may have been sealed after all of it was read, and no receiver come since: that wakes too.
            self.core.retire_drained_segments();
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
        self.core.closing.wait_until(|_| self.is_closed().then_some(())).await;
    }

    /// Whether nothing more is accepted: of anybody, or of this handle, if it was closed as a sink.
    pub fn is_closed(&self) -> bool {
        self.closed || self.core.is_closed()
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
            DrainOutcome::Taken => Ok(()),
            DrainOutcome::Discarded => Err(SendError::Closed(())),
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
        if !self.closed {
            self.closed = true;
            if self.waiter.deregister(self.core.room_waiters()) {
                self.wake_next();
            }
            self.core.remove_sender();
        }
    }
}

/// Whoever is next is not to wait for one that has left: that was done, given up, or panicked.
pub(crate) struct WakeNextOnDrop<'a>(pub(crate) &'a Sender);

impl Drop for WakeNextOnDrop<'_> {
    fn drop(&mut self) {
        self.0.wake_next();
    }
}

impl Clone for Sender {
    /// Another handle of the same channel. What a sink handle has pending_item stays with it; the clone of one that was closed
    /// (`SinkExt::close`) is closed as well.
    fn clone(&self) -> Self {
        let mut clone = Self::new(Arc::clone(&self.core));
        clone.closed = self.closed;
        if !self.closed {
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
