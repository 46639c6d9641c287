//! The sending half: [`Sender`], the futures of its sends, and [`WeakSender`](weak::WeakSender).
//!
//! Every send tries to write without waiting. If there is no room, the sender registers in the channel's list of
//! senders that wait for room, and tries again each time it is woken.

mod parked;
mod send;
pub(crate) mod send_many;
pub(crate) mod weak;

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use self::parked::ParkedItem;
use self::send::SendOperation;
use crate::channel::payload::Payload;
use crate::channel::source::{ClosureSource, PayloadSource, Source};
use crate::channel::strategy::SwitchStrategy;
use crate::channel::{Core, Refusal};
use crate::error::{SendError, SendTimeoutError, TrySendError};
use crate::monitor::Monitor;
use crate::queue::head::DrainOutcome;
use crate::queue::pool::room_waiters::{Demand, RoomWaiter, Ticket};
use crate::sync::Arc;
use crate::wait::blocking;
use crate::wait::clock::Clock;
use crate::wait::coop::CoopBudget;
use crate::wait::timeout::timeout;

/// Sends byte messages to a channel.
///
/// Clone the sender for every task that sends. Messages are ordered as they are accepted, over all clones. The
/// channel closes when the last clone is dropped: receivers get the messages that were accepted, and then the end.
///
/// A sender is also a [`futures::Sink`](futures_sink::Sink) of [`Bytes`](bytes::Bytes). The section on that trait below
/// describes when it waits, and what becomes of an item if the channel is closed.
pub struct Sender {
    core: Arc<Core>,
    budget: CoopBudget,
    /// Set when this handle was closed as a sink. It does not hold the channel open any more.
    pub(crate) closed: bool,
    /// The item that this handle took last as a sink when there was no room. Later sends of this handle follow it.
    parked: Option<std::sync::Arc<ParkedItem>>,
    /// `closed` is set, or there is a parked item: a send takes the slow path.
    is_held: bool,
    waiter: RoomWaiter,
}

impl Sender {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            budget: CoopBudget::default(),
            closed: false,
            parked: None,
            is_held: false,
            waiter: RoomWaiter::of_handle(),
        }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn budget(&self) -> &CoopBudget {
        &self.budget
    }

    fn clock(&self) -> &Clock {
        self.core.queue.clock()
    }

    /// Polls until the task's budget has paid for the next message.
    pub(crate) fn poll_pay(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.budget.poll_pay(self.clock(), cx)
    }

    /// Sends a message, waiting for room while the channel is full.
    ///
    /// Small payloads are copied. Owned payloads of 32 KiB and more travel by reference count; see [`Payload`]. After
    /// `send` has returned `Ok`, the message is accepted: it will be received, in order, unless the last receiver is
    /// dropped first or [`WhenFull`](crate::WhenFull) drops it.
    ///
    /// Senders that wait get memory in the order in which they asked for it: what is freed is kept for the first, however
    /// long its message. Room that is left in the open segment is for every sender. A future that was woken and is not
    /// polled keeps the memory for its own message, until it is dropped.
    ///
    /// On a channel that drops messages when it is full, `send` does not wait, and returns `Ok` also for a message
    /// that was dropped.
    ///
    /// # Errors
    ///
    /// Each error contains the payload, unless it is borrowed; see [`Payload::Returned`].
    ///
    /// - [`SendError::Closed`] if every receiver was dropped, or a handle closed the channel.
    /// - [`SendError::TooLarge`] if the message is longer than `max_message_bytes`.
    /// - [`SendError::Full`] if there is no room, on a channel built with
    ///   [`WhenFull::Reject`](crate::WhenFull::Reject).
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe. If the future is dropped before it completes, the message was not sent, and an owned
    /// payload is dropped with the future.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, mut rx) = turbostream::channel();
    /// tx.send(b"borrowed").await?;
    /// tx.send(vec![7; 100_000]).await?; // moved, not copied
    /// assert_eq!(rx.recv().await.unwrap(), "borrowed");
    /// assert_eq!(rx.recv().await.unwrap().len(), 100_000);
    /// # Ok(()) }
    /// ```
    #[inline]
    pub fn send<P: Payload>(&self, payload: P) -> impl Future<Output = Result<(), SendError<P::Returned>>> {
        SendOperation::start(self, PayloadSource(payload))
    }

    /// Sends a message that `write` writes directly into the channel, waiting for room while the channel is full.
    ///
    /// `write` gets a buffer of `max_len` zeroed bytes, and returns the length of the message, which starts at the
    /// beginning of the buffer. The remainder of the buffer stays unused until its segment is reused, so choose
    /// `max_len` close to the length.
    ///
    /// `write` is called once, when there is room, and not under a lock. Receivers get no later message before it
    /// returns. Therefore it should be quick, and it must not wait for a message of this channel to be received.
    ///
    /// If `max_len` is more than a segment holds, the message is external: it is written to an allocation of its own,
    /// and travels by reference count. If the channel drops the message
    /// ([`WhenFull::DropNewest`](crate::WhenFull::DropNewest)), `write` is not called, and the statistics count
    /// `max_len` bytes.
    ///
    /// A message is sent whatever `write` returns: after 0, an empty one. Only a panic sends none. So do what may fail or
    /// find nothing to send before the call. `write` is no future: it cannot read from an async source.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send). The error contains `write`, which was not called. If `write` borrows something, `?` into
    /// `anyhow::Error` or `Box<dyn Error>` needs `.map_err(SendError::without_payload)` before it, as below.
    /// [`SendError::TooLarge`] is returned if `max_len` is more than `max_message_bytes`, even if the message would be shorter.
    ///
    /// # Panics
    ///
    /// Panics if `write` panics, or if it returns more than `max_len`. Then no message is sent: its sequence number
    /// is skipped, receivers never see the bytes, and the channel keeps working.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe. If the future is dropped before it completes, `write` was not called and no
    /// message was sent.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::io::Write;
    /// let (tx, mut rx) = turbostream::channel();
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
    ///
    /// let header = [1, 2, 3]; // borrowed: the closure is not `'static`
    /// let write = |buf: &mut [u8]| {
    ///     buf.copy_from_slice(&header);
    ///     buf.len()
    /// };
    /// tx.send_with(3, write).await.map_err(turbostream::SendError::without_payload)?;
    /// assert_eq!(rx.recv().await.unwrap(), &header[..]);
    /// # Ok(()) }
    /// ```
    #[inline]
    pub fn send_with<F>(&self, max_len: usize, write: F) -> impl Future<Output = Result<(), SendError<F>>>
    where
        F: FnOnce(&mut [u8]) -> usize,
    {
        SendOperation::start(self, ClosureSource::new(max_len, write))
    }

    /// Sends a message if there is room for it now.
    ///
    /// This method works inside and outside of a runtime.
    ///
    /// # Errors
    ///
    /// Each error contains the payload, unless it is borrowed; see [`Payload::Returned`].
    ///
    /// - [`TrySendError::Full`] if there is no room, unless the channel drops messages then
    ///   ([`WhenFull`](crate::WhenFull)).
    /// - [`TrySendError::Closed`] and [`TrySendError::TooLarge`] as for [`send`](Self::send).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// let (tx, rx) = turbostream::builder().max_message_bytes(10).build().unwrap();
    /// assert!(tx.try_send("short").is_ok());
    /// let refused = tx.try_send(String::from("much too long")).unwrap_err();
    /// assert_eq!(refused.into_inner(), "much too long");
    /// # }
    /// ```
    #[inline]
    pub fn try_send<P: Payload>(&self, payload: P) -> Result<(), TrySendError<P::Returned>> {
        let mut source = PayloadSource(payload);
        if self.write_fast(&mut source) {
            return Ok(());
        }
        self.push(&mut source, None).map_err(|refusal| {
            let payload = source.into_returned();
            self.core.count_refusal(refusal);
            match refusal {
                Refusal::Full => TrySendError::Full(payload),
                Refusal::Closed => TrySendError::Closed(payload),
                Refusal::TooLarge { len, max } => TrySendError::TooLarge { payload, len, max },
            }
        })
    }

    /// Sends a message, waiting for room no longer than `limit`.
    ///
    /// If there is room, the message is sent even with a `limit` of zero. A `limit` of [`Duration::MAX`] waits as
    /// [`send`](Self::send) does.
    ///
    /// # Errors
    ///
    /// [`SendTimeoutError::Timeout`] if there was no room in time, on a channel whose senders wait
    /// ([`WhenFull::Wait`](crate::WhenFull::Wait)). The others are as for [`send`](Self::send).
    ///
    /// The error of a borrowed payload is a `SendTimeoutError<()>`. It can be compared in a test, and found in an
    /// `anyhow::Error` by `downcast_ref::<SendTimeoutError<()>>()`.
    ///
    /// # Panics
    ///
    /// Panics if there is no room and the current runtime has no time driver (Tokio's `enable_time`). Outside of a
    /// runtime, the timeout uses the runtime of the channel, and panics if that shuts down meanwhile.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe. If the future is dropped before it completes, the message was not sent, and an owned
    /// payload is dropped with the future.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), turbostream::BuildError> {
    /// use std::time::Duration;
    /// use turbostream::SendTimeoutError;
    /// let (tx, rx) = turbostream::builder().max_bytes(64 << 10).build()?;
    /// while tx.send_timeout("a line", Duration::ZERO).await.is_ok() {}
    /// let sent = tx.send_timeout("borrowed", Duration::from_millis(1)).await;
    /// assert_eq!(sent, Err(SendTimeoutError::Timeout(())));
    /// let sent = tx.send_timeout(String::from("owned"), Duration::from_millis(1)).await;
    /// assert_eq!(sent, Err(SendTimeoutError::Timeout(String::from("owned"))));
    /// drop(rx);
    /// assert_eq!(tx.send_timeout("late", Duration::from_millis(1)).await, Err(SendTimeoutError::Closed(())));
    /// # Ok(()) }
    /// ```
    pub async fn send_timeout<P: Payload>(
        &self,
        payload: P,
        limit: Duration,
    ) -> Result<(), SendTimeoutError<P::Returned>> {
        let mut source = PayloadSource(payload);
        poll_fn(|cx| self.budget.poll_consume(self.clock(), cx)).await;
        let result = match self.push(&mut source, None) {
            Err(Refusal::Full) if self.core.waits_when_full() => {
                let demand = self.core.demand(&source);
                let sent = self.wait_for_room(demand, |ticket| self.push(&mut source, ticket));
                let runtime = self.core.background().runtime();
                timeout(runtime, limit, sent).await.ok_or(None).and_then(|sent| sent.map_err(Some))
            }
            result => result.map_err(Some),
        };
        result.map_err(|refusal| {
            let payload = source.into_returned();
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

    /// Sends a message, blocking the current thread while the channel is full.
    ///
    /// This is [`send`](Self::send) for threads that run no async code: plain threads, and those of Tokio's
    /// `spawn_blocking`.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    ///
    /// # Panics
    ///
    /// Panics if called within an async task or within `block_on`, even if there is room, as Tokio's own blocking
    /// methods do. It may be called inside `tokio::task::block_in_place`, and on a thread that only entered a runtime
    /// by [`Handle::enter`](tokio::runtime::Handle::enter). The only way to detect such a context is a panic of Tokio, which
    /// is caught: a panic hook sees it before the panic of this method.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// let (tx, mut rx) = turbostream::channel();
    /// let worker = std::thread::spawn(move || tx.blocking_send("from a thread").unwrap());
    /// assert_eq!(rx.recv().await.unwrap(), "from a thread");
    /// worker.join().unwrap();
    /// # }
    /// ```
    #[track_caller]
    pub fn blocking_send<P: Payload>(&self, payload: P) -> Result<(), SendError<P::Returned>> {
        blocking::block_on("Sender::blocking_send", self.send(payload))
    }

    /// Writes a message in the common case: the active segment has room, and no slow path is needed.
    #[inline(always)]
    pub(crate) fn write_fast<S: Source>(&self, source: &mut S) -> bool {
        !self.is_held && self.core.write_fast(source)
    }

    /// Writes a message, or returns the reason why it was not accepted.
    #[inline]
    pub(crate) fn push<S: Source>(&self, source: &mut S, ticket: Option<Ticket>) -> Result<(), Refusal> {
        self.check_held()?;
        self.core.push(source, ticket)
    }

    /// Fails if this handle was closed, or while its parked item is not sent.
    fn check_held(&self) -> Result<(), Refusal> {
        match &self.parked {
            _ if self.closed => Err(Refusal::Closed),
            Some(parked) if !parked.is_done() => Err(Refusal::Full),
            _ => Ok(()),
        }
    }

    /// Calls `write`, and waits for `demand` while it returns `Full`, unless the channel rejects messages when full.
    pub(crate) async fn write_or_wait_for_room<T>(
        &self,
        demand: Demand,
        mut write: impl FnMut(Option<Ticket>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        match write(None) {
            Err(Refusal::Full) if self.core.waits_when_full() => self.wait_for_room(demand, write).await,
            result => result,
        }
    }

    /// Calls `write` until it does not return `Full`, and waits for `demand` between the calls.
    #[cold]
    pub(crate) async fn wait_for_room<T>(
        &self,
        demand: Demand,
        mut write: impl FnMut(Option<Ticket>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut waiting = StopWaitingOnDrop { core: &self.core, waiter: RoomWaiter::of_future() };
        poll_fn(|cx| self.core.poll_for_room(&mut waiting.waiter, cx, demand, &mut write)).await
    }

    /// Closes the channel for all senders.
    ///
    /// Sends fail from now on. Messages accepted before can still be received; then receivers get `None`. To close only this
    /// handle, drop it.
    ///
    /// This method takes precedence over [`SinkExt::close`](https://docs.rs/futures/latest/futures/sink/trait.SinkExt.html#method.close),
    /// which flushes and releases this handle only: call that as `SinkExt::close(&mut tx)`.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// let (tx, mut rx) = turbostream::channel();
    /// tx.send("before").await.unwrap();
    /// let other = tx.clone();
    /// tx.close();
    /// assert!(other.send("after").await.is_err());
    /// assert_eq!(rx.recv().await.unwrap(), "before");
    /// assert_eq!(rx.recv().await, None);
    /// # }
    /// ```
    pub fn close(&self) {
        self.core.close();
    }

    /// Waits until the channel is closed: every receiver was dropped, or a handle closed it.
    ///
    /// Returns at once if the channel is closed, or if this handle was closed as a sink. Messages may still be queued; to
    /// wait for them, use [`drained`](Self::drained).
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe. It can be dropped and called again at any time.
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

    /// Returns `true` if sends fail because the channel is closed, or because this handle was closed as a sink.
    pub fn is_closed(&self) -> bool {
        self.closed || self.core.is_closed()
    }

    /// Switches, and waits until all messages accepted before have left the channel.
    ///
    /// A message has left the channel when it was received, or dropped by a [`WhenFull`](crate::WhenFull) policy.
    /// Messages accepted later are not waited for. This method returns at once if no message is queued. On a closed
    /// channel it still waits for the messages accepted before.
    ///
    /// It waits for as long as receivers take no messages: to give up, wrap it in [`tokio::time::timeout`]. A message that
    /// was received may not be processed yet.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] if the last receiver was dropped, and some of these messages were dropped unread.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe. It can be dropped and called again at any time.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, mut rx) = turbostream::channel();
    /// let receiver = tokio::spawn(async move {
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
    /// assert_eq!(receiver.await?, 1000);
    /// # Ok(()) }
    /// ```
    pub async fn drained(&self) -> Result<(), SendError<()>> {
        match self.core.drained().await {
            DrainOutcome::Taken => Ok(()),
            DrainOutcome::Discarded => Err(SendError::Closed(())),
        }
    }

    /// Replaces the switch strategy of the running channel.
    ///
    /// The new strategy applies at once, also to the messages in the active segment. No message and no other setting
    /// is affected. On a closed channel this has no effect.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use turbostream::MessageCount;
    /// let (tx, mut rx) = turbostream::builder().on_demand(false).strategy(MessageCount(1000)).build()?;
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

    /// Switches now: all messages accepted before become readable, also without
    /// [`on_demand`](crate::Builder::on_demand).
    ///
    /// This method does not wait for receivers. It does nothing if there is no message that receivers could not read
    /// yet. Otherwise it seals the active segment, even if that holds few messages.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// use turbostream::TryRecvError;
    /// let (tx, mut rx) = turbostream::builder().on_demand(false).build().unwrap();
    /// tx.send("buffered").await.unwrap();
    /// assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    /// tx.switch();
    /// assert_eq!(rx.try_recv().unwrap(), "buffered");
    /// # }
    /// ```
    pub fn switch(&self) {
        self.core.switch();
    }

    /// Returns `true` if both handles send to the same channel.
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

    /// Returns the number of queued messages: accepted, and neither received nor dropped.
    ///
    /// A message that is still being written counts. This method locks the head and walks over all segments that hold
    /// queued messages, so call it now and then, not for each message.
    pub fn len(&self) -> usize {
        self.core.queued().0 as usize
    }

    /// Returns `true` if no message is queued. Costs as much as [`len`](Self::len).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the payload bytes of the queued messages. Costs as much as [`len`](Self::len).
    pub fn queued_bytes(&self) -> usize {
        self.core.queued().1 as usize
    }

    /// Returns `true` if a small message would find no room now.
    ///
    /// That is so if neither the active segment has room nor another one can be opened, or if senders that wait for memory
    /// are to be served first. A long message may find no room although this returns `false`. Whether the channel is
    /// closed makes no difference.
    ///
    /// This costs a few loads while there is room, and otherwise as much as a [`try_send`](crate::Sender::try_send) that is
    /// refused. Another handle may take or make room at any time.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// let (tx, mut rx) = turbostream::channel();
    /// while !tx.is_full() {
    ///     tx.try_send([7; 1000]).unwrap_or_default();
    /// }
    /// assert!(rx.is_full());
    /// while rx.try_recv().is_ok() {}
    /// assert!(!tx.is_full());
    /// # }
    /// ```
    pub fn is_full(&self) -> bool {
        !self.core.has_room(None)
    }

    /// Returns the number of senders that hold the channel open, this one included.
    ///
    /// A handle that was closed as a sink does not count, nor does a [`WeakSender`](weak::WeakSender). On a channel that a
    /// handle closed, this is the number of senders left. The number may have changed by the time it is returned.
    pub fn sender_count(&self) -> usize {
        self.core.senders()
    }

    /// Returns the number of receivers of the channel.
    ///
    /// The number may have changed by the time it is returned.
    pub fn receiver_count(&self) -> usize {
        self.core.receivers()
    }

    /// Returns the limit on the memory of the channel, as set by [`Builder::max_bytes`](crate::Builder::max_bytes).
    pub fn max_bytes(&self) -> usize {
        self.core.max_bytes()
    }

    /// Counts a refusal, and makes the error that the caller gets.
    pub(crate) fn refused<P>(&self, refusal: Refusal, payload: P) -> SendError<P> {
        self.core.count_refusal(refusal);
        match refusal {
            Refusal::Full => SendError::Full(payload),
            Refusal::Closed => SendError::Closed(payload),
            Refusal::TooLarge { len, max } => SendError::TooLarge { payload, len, max },
        }
    }

    /// Returns a [`Monitor`] of the channel's statistics, which does not keep the channel open.
    pub fn monitor(&self) -> Monitor {
        Monitor::new(Arc::clone(&self.core))
    }

    /// Closes this handle: it does not hold the channel open any more, and sends fail.
    pub(crate) fn release(&mut self) {
        if !self.closed {
            (self.closed, self.is_held) = (true, true);
            self.stop_waiting();
            self.core.remove_sender();
        }
    }
}

/// Removes the waiter of a future from those that wait for room.
struct StopWaitingOnDrop<'a> {
    core: &'a Core,
    waiter: RoomWaiter,
}

impl Drop for StopWaitingOnDrop<'_> {
    fn drop(&mut self) {
        self.core.stop_waiting(&mut self.waiter);
    }
}

impl Clone for Sender {
    /// Returns another handle of the same channel.
    ///
    /// An item that this handle took as a sink precedes the sends of this handle only. The clone of a handle that was closed as a
    /// sink (`SinkExt::close`) is closed too.
    fn clone(&self) -> Self {
        let mut clone = Self::new(Arc::clone(&self.core));
        (clone.closed, clone.is_held) = (self.closed, self.closed);
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
