//! How a receiver takes messages: its futures, and how it waits.
//!
//! A receive tries three steps, in this order:
//!
//! - The *fast path* takes a message that this handle has claimed. If there is none, it claims the next ones from the head.
//! - The *slow path* also makes messages readable: it moves the head to the next segment, or cuts the active one. It
//!   is skipped if the channel seems empty, and stays so during a short spin.
//! - The receiver *waits*: it registers, tries the slow path again, and sleeps until it is woken.

use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::sync::PoisonError;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;

use super::Receiver;
use super::message_ref::MessageRef;
use crate::channel::Core;
use crate::error::RecvTimeoutError;
use crate::queue::head::ahead::Ahead;
use crate::queue::head::{Effects, Head};
use crate::queue::{Queue, ReadMode};
use crate::sync::Mutex;
use crate::wait::fast_path::{FastPath, FastThenWait, SlowPath};
use crate::wait::timeout::timeout;

/// The operation of [`Receiver::recv`].
pub(super) struct RecvOperation<'a>(&'a mut Receiver);

impl<'a> RecvOperation<'a> {
    #[inline(always)]
    pub(super) fn start(receiver: &'a mut Receiver) -> impl Future<Output = Option<Bytes>> + use<'a> {
        FastThenWait::new(Self(receiver), |Self(receiver)| receiver.wait_for_one())
    }
}

impl FastPath for RecvOperation<'_> {
    type Output = Option<Bytes>;

    #[inline(always)]
    fn try_fast(&mut self) -> Poll<Self::Output> {
        if self.0.budget.is_due() {
            return Poll::Pending;
        }
        match self.0.take_ahead(self.0.read_mode()) {
            Some(message) => {
                self.0.budget.count_one();
                Poll::Ready(Some(message))
            }
            None => Poll::Pending,
        }
    }

    #[inline(always)]
    fn try_into(&mut self, received: &mut Poll<Self::Output>) -> bool {
        let receiver = &mut *self.0;
        let ahead = ahead_of(&mut receiver.ahead);
        if !ahead.is_barred()
            || receiver.budget.is_due()
            || !receiver.core.take_external_into(ahead, received)
        {
            return false;
        }
        receiver.budget.count_one();
        true
    }

    fn try_slow(self, cx: &mut Context<'_>) -> SlowPath<Self::Output, Self> {
        if self.0.budget.poll_consume(self.0.clock(), cx).is_pending() {
            return SlowPath::Yield(self);
        }
        if self.0.expects_message() {
            let mode = self.0.read_mode();
            if let Poll::Ready(received) = self.0.poll_one(mode) {
                return SlowPath::Done(received);
            }
        }
        SlowPath::Wait(self)
    }
}

/// The operation of [`Receiver::recv_ref`]. The receiver is there until the fast path has succeeded.
pub(super) struct RecvRefOperation<'a>(Option<&'a mut Receiver>);

impl<'a> RecvRefOperation<'a> {
    #[inline(always)]
    pub(super) fn start(
        receiver: &'a mut Receiver,
    ) -> impl Future<Output = Option<MessageRef<'a>>> + use<'a> {
        FastThenWait::new(Self(Some(receiver)), |operation| async {
            let receiver = operation.into_receiver();
            receiver.wait_for_one().await.map(MessageRef::owned)
        })
    }

    fn receiver(&mut self) -> &mut Receiver {
        self.0.as_mut().expect("polled after it was done")
    }

    fn into_receiver(self) -> &'a mut Receiver {
        self.0.expect("polled after it was done")
    }
}

impl<'a> FastPath for RecvRefOperation<'a> {
    type Output = Option<MessageRef<'a>>;

    #[inline(always)]
    fn try_fast(&mut self) -> Poll<Self::Output> {
        let receiver = self.receiver();
        if receiver.budget.is_due() || !receiver.has_ahead() {
            return Poll::Pending;
        }
        receiver.budget.count_one();
        let receiver = self.0.take().expect("it was there above");
        Poll::Ready(Some(MessageRef::in_place(receiver.take_ahead_ref())))
    }

    fn try_slow(mut self, cx: &mut Context<'_>) -> SlowPath<Self::Output, Self> {
        let receiver = self.receiver();
        if receiver.budget.poll_consume(receiver.core.queue.clock(), cx).is_pending() {
            return SlowPath::Yield(self);
        }
        if receiver.has_ahead() {
            return SlowPath::Done(Some(MessageRef::in_place(self.into_receiver().take_ahead_ref())));
        }
        if receiver.expects_message() {
            if let Poll::Ready(received) = receiver.poll_one(ReadMode::ZeroCopy) {
                return SlowPath::Done(received.map(MessageRef::owned));
            }
        }
        SlowPath::Wait(self)
    }
}

/// Has the background task watch unread messages again when a waiting receiver is dropped.
///
/// While a receiver waits, messages wake it, and the background task does not watch them.
struct StopWaitingOnDrop<'a>(&'a Core);

impl Drop for StopWaitingOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stopped_waiting();
    }
}

impl Receiver {
    #[inline(always)]
    pub(super) fn ahead(&mut self) -> &mut Ahead {
        ahead_of(&mut self.ahead)
    }

    /// Takes the next message that this handle has claimed, or claims the next ones.
    #[inline(always)]
    pub(super) fn take_ahead(&mut self, mode: ReadMode) -> Option<Bytes> {
        let (core, ahead) = (&self.core, ahead_of(&mut self.ahead));
        if ahead.is_empty() && !core.claim(ahead) {
            return None;
        }
        let message = ahead.take(&core.queue, mode)?;
        if ahead.may_end_drain() {
            core.end_drain();
        }
        Some(message)
    }

    /// Whether this handle has claimed a message, or claims some now.
    #[inline(always)]
    pub(super) fn has_ahead(&mut self) -> bool {
        let (core, ahead) = (&self.core, ahead_of(&mut self.ahead));
        !ahead.is_empty() || core.claim(ahead)
    }

    /// Takes the next message, which this handle has claimed, as a slice of its segment.
    #[inline(always)]
    pub(super) fn take_ahead_ref(&mut self) -> &[u8] {
        let (core, ahead) = (&self.core, ahead_of(&mut self.ahead));
        ahead.take_ref(|| core.end_drain())
    }

    /// Takes the next message that this handle has claimed, or can claim or take without a full visit of the head.
    #[inline]
    pub(super) fn take_claimed_or_fast(&mut self, mode: ReadMode) -> Option<Bytes> {
        self.take_ahead(mode).or_else(|| self.core.take_fast(mode, ahead_of(&mut self.ahead)))
    }

    /// Takes the next message if there is one; see [`Core::poll_with_head`].
    #[inline]
    fn poll_one(&mut self, mode: ReadMode) -> Poll<Option<Bytes>> {
        // A handle whose task had to yield has messages ahead.
        if let Some(message) = self.take_claimed_or_fast(mode) {
            return Poll::Ready(Some(message));
        }
        self.core.poll_with_head(false, ahead_of(&mut self.ahead), take_one(mode))
    }

    /// Takes the next message by the fast path.
    ///
    /// Takes nothing if this handle is registered, as `poll_wait` has to complete the registration.
    pub(super) fn poll_fast(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        ready!(self.budget.poll_pay(self.clock(), cx));
        if self.waiter.is_registered() {
            return Poll::Ready(None);
        }
        Poll::Ready(self.try_take_fast())
    }

    /// Takes the next message by the fast path.
    pub(crate) fn try_take_fast(&mut self) -> Option<Bytes> {
        let message = self.take_claimed_or_fast(self.read_mode());
        if message.is_some() {
            self.budget.count_one();
        }
        message
    }

    /// Pays for the messages before, and waits for the result of `take`; `count` returns how many messages that has.
    pub(super) async fn recv_with<T>(
        &mut self,
        mut take: impl FnMut(&Queue, &mut Head, &mut Effects) -> T,
        count: impl Fn(&T) -> usize,
    ) -> Option<T> {
        self.budget.pay(self.core.queue.clock()).await;
        let expects = self.expects_message();
        let (core, ahead) = (&*self.core, ahead_of(&mut self.ahead));
        let mut poll = |registered| core.poll_with_head(registered, ahead, &mut take);
        let received = match expects.then(|| poll(false)) {
            Some(Poll::Ready(received)) => received,
            _ => wait(core, poll).await,
        };
        self.budget.count(received.as_ref().map_or(0, count));
        received
    }

    /// Awaits `receive` for at most `limit`.
    pub(super) async fn recv_within<T>(
        core: &Core,
        limit: Duration,
        receive: impl Future<Output = Option<T>>,
    ) -> Result<T, RecvTimeoutError> {
        Self::result_in_time(core, timeout(core.background().runtime(), limit, receive).await)
    }

    /// Converts what was received within a time limit, `None` if that has passed.
    pub(super) fn result_in_time<T>(core: &Core, received: Option<Option<T>>) -> Result<T, RecvTimeoutError> {
        match received {
            Some(received) => received.ok_or(RecvTimeoutError::Closed),
            None => {
                core.count_recv_timeout();
                Err(RecvTimeoutError::Timeout)
            }
        }
    }

    /// Polls once for the result of `take` with the registration of this handle; `count` returns how many messages that has.
    pub(super) fn poll_own<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&Queue, &mut Head, &mut Effects) -> T,
        count: impl Fn(&T) -> usize,
    ) -> Poll<Option<T>> {
        ready!(self.budget.poll_pay(self.clock(), cx));
        let (core, ahead, waiter) = (&self.core, ahead_of(&mut self.ahead), &mut self.waiter);
        let attempt = poll_fn(|cx| {
            core.receivers_waiting().poll_wait(waiter, cx, |registered| {
                ready_value(core.poll_with_head(registered, ahead, &mut take))
            })
        });
        // Dropped without `forget` if the caller's waker panics.
        let waiting = StopWaitingOnDrop(core);
        let polled = pin!(attempt).poll(cx);
        mem::forget(waiting);
        if let Poll::Ready(Some(taken)) = &polled {
            self.budget.count(count(taken));
        }
        polled
    }

    /// Gives up the registration of this handle, as the handle is not polled any more.
    ///
    /// Has the background task watch unread messages again.
    pub(crate) fn deregister_own_waiter(&mut self) {
        if self.core.receivers_waiting().deregister(&mut self.waiter) {
            self.core.stopped_waiting();
        }
    }

    /// Whether a message is there, or arrives during a spin.
    fn expects_message(&mut self) -> bool {
        !self.ahead().is_empty() || !self.core.seems_empty() || self.core.spin_for_message()
    }

    /// Waits for one message as a registered receiver.
    fn wait_for_one(&mut self) -> impl Future<Output = Option<Bytes>> + use<'_> {
        let mode = self.read_mode();
        let (core, ahead) = (&*self.core, ahead_of(&mut self.ahead));
        wait(core, move |registered| core.poll_with_head(registered, ahead, take_one(mode)))
    }
}

#[inline(always)]
pub(super) fn ahead_of(ahead: &mut Mutex<Ahead>) -> &mut Ahead {
    ahead.get_mut().unwrap_or_else(PoisonError::into_inner)
}

/// Returns what takes one message, for a receiver that visits the head.
pub(super) fn take_one(mode: ReadMode) -> impl FnMut(&Queue, &mut Head, &mut Effects) -> Bytes {
    move |queue, head, effects| head.take(queue, mode, effects)
}

/// Waits as a registered receiver until `poll` is ready.
fn wait<T>(core: &Core, mut poll: impl FnMut(bool) -> Poll<Option<T>>) -> impl Future<Output = Option<T>> {
    let mut waiting = Some(StopWaitingOnDrop(core));
    core.receivers_waiting().wait_until(move |registered| {
        let received = ready_value(poll(registered))?;
        mem::forget(waiting.take());
        Some(received)
    })
}

fn ready_value<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
