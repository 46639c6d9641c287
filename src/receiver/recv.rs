//! How a receiver takes messages: its futures, and how it waits.
//!
//! A receive tries three steps, in this order:
//!
//! - The *fast path* takes an external payload, or a slice of the chunk that the head has copied or lent before.
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
use crate::channel::Core;
use crate::error::RecvTimeoutError;
use crate::queue::Queue;
use crate::queue::head::{Effects, Head};
use crate::sync::MutexGuard;
use crate::wait::fast_path::{FastPath, FastThenWait, SlowPath};
use crate::wait::timeout::timeout;
use crate::wait::wait_list::PollWaiter;

/// The operation of [`Receiver::recv`].
pub(super) struct RecvOperation<'a>(&'a Receiver);

impl<'a> RecvOperation<'a> {
    #[inline(always)]
    pub(super) fn start(receiver: &'a Receiver) -> impl Future<Output = Option<Bytes>> + use<'a> {
        FastThenWait::new(Self(receiver), |Self(receiver)| {
            receiver.wait(|registered| receiver.poll_take(registered))
        })
    }
}

impl FastPath for RecvOperation<'_> {
    type Output = Option<Bytes>;

    #[inline(always)]
    fn try_fast(&mut self) -> Poll<Self::Output> {
        if self.0.budget.is_due() {
            return Poll::Pending;
        }
        match self.0.core.take_fast(self.0.read_mode()) {
            Some(message) => {
                self.0.budget.count_one();
                Poll::Ready(Some(message))
            }
            None => Poll::Pending,
        }
    }

    fn try_slow(self, cx: &mut Context<'_>) -> SlowPath<Self::Output, Self> {
        if self.0.budget.poll_consume(self.0.clock(), cx).is_pending() {
            return SlowPath::Yield(self);
        }
        if self.0.expects_message() {
            if let Poll::Ready(received) = self.0.poll_take(false) {
                return SlowPath::Done(received);
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
    /// Takes the next message. `registered` says that this receiver is in the list of waiters.
    ///
    /// If there is no message and this receiver is registered, the thread that makes the next one readable wakes a
    /// receiver; see [`Core::poll_with_head`].
    #[inline]
    pub(super) fn poll_take(&self, registered: bool) -> Poll<Option<Bytes>> {
        let mode = self.read_mode();
        self.core.poll_with_head(registered, |queue, head, effects| head.take(queue, mode, effects))
    }

    /// Takes the next message by the fast path.
    ///
    /// Takes nothing if this handle is registered, as `poll_wait` has to complete the registration.
    pub(super) fn poll_fast(&self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        ready!(self.budget.poll_pay(self.clock(), cx));
        if self.own_waiter().is_registered() {
            return Poll::Ready(None);
        }
        let message = self.core.take_fast(self.read_mode());
        if message.is_some() {
            self.budget.count_one();
        }
        Poll::Ready(message)
    }

    /// Takes the next message by the fast path.
    pub(crate) fn try_take_fast(&self) -> Option<Bytes> {
        self.core.take_fast(self.read_mode()).inspect(|_| self.budget.count_one())
    }

    /// Pays for the messages before, and waits for the result of `take`, which counts the messages that it takes.
    pub(super) async fn recv_with<T>(
        &self,
        mut take: impl FnMut(&Queue, &mut Head, &mut Effects) -> T,
    ) -> Option<T> {
        self.budget.pay(self.clock()).await;
        self.spin_then_wait(|registered| self.core.poll_with_head(registered, &mut take)).await
    }

    /// Awaits `receive` for at most `limit`.
    pub(super) async fn recv_within<T>(
        &self,
        limit: Duration,
        receive: impl Future<Output = Option<T>>,
    ) -> Result<T, RecvTimeoutError> {
        self.result_in_time(timeout(self.core.background().runtime(), limit, receive).await)
    }

    /// Converts what was received within a time limit, `None` if that has passed.
    pub(super) fn result_in_time<T>(&self, received: Option<Option<T>>) -> Result<T, RecvTimeoutError> {
        match received {
            Some(received) => received.ok_or(RecvTimeoutError::Closed),
            None => {
                self.core.count_recv_timeout();
                Err(RecvTimeoutError::Timeout)
            }
        }
    }

    /// Polls once for the result of `take`, which counts the messages that it takes, with the registration of this handle.
    pub(super) fn poll_own<T>(
        &self,
        cx: &mut Context<'_>,
        take: impl FnMut(&Queue, &mut Head, &mut Effects) -> T,
    ) -> Poll<Option<T>> {
        self.with_own_waiter(|waiter| self.poll_wait(waiter, cx, take))
    }

    /// Calls `poll` with the registration of this handle. Of concurrent polls, the latest keeps its registration.
    fn with_own_waiter<T>(&self, poll: impl FnOnce(&mut PollWaiter) -> T) -> T {
        // Polling runs code of the caller's waker, so the lock is not held meanwhile.
        let mut waiter = mem::take(&mut *self.own_waiter());
        let polled = poll(&mut waiter);
        mem::swap(&mut waiter, &mut self.own_waiter());
        self.core.receivers_waiting().deregister(&mut waiter);
        polled
    }

    fn own_waiter(&self) -> MutexGuard<'_, PollWaiter> {
        self.waiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives up the registration of this handle, as the handle is not polled any more.
    pub(crate) fn deregister_own_waiter(&self) {
        let mut waiter = mem::take(&mut *self.own_waiter());
        self.deregister(&mut waiter);
    }

    /// Gives up a registration that is not polled any more.
    ///
    /// Has the background task watch unread messages again.
    fn deregister(&self, waiter: &mut PollWaiter) {
        if self.core.receivers_waiting().deregister(waiter) {
            self.core.stopped_waiting();
        }
    }

    /// Polls once for the result of `take`, which counts the messages that it takes. Registers if there are none.
    fn poll_wait<T>(
        &self,
        waiter: &mut PollWaiter,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&Queue, &mut Head, &mut Effects) -> T,
    ) -> Poll<Option<T>> {
        ready!(self.budget.poll_pay(self.clock(), cx));
        let attempt = poll_fn(|cx| {
            self.core.receivers_waiting().poll_wait(waiter, cx, |registered| {
                ready_value(self.core.poll_with_head(registered, &mut take))
            })
        });
        // Dropped without `forget` if the caller's waker panics.
        let waiting = StopWaitingOnDrop(&self.core);
        let polled = pin!(attempt).poll(cx);
        mem::forget(waiting);
        polled
    }

    /// Calls `poll` once if a message is expected soon. Waits if it is not ready.
    async fn spin_then_wait<T>(&self, mut poll: impl FnMut(bool) -> Poll<Option<T>>) -> Option<T> {
        if self.expects_message() {
            if let Poll::Ready(received) = poll(false) {
                return received;
            }
        }
        self.wait(poll).await
    }

    /// Whether a message is there, or arrives during a spin.
    fn expects_message(&self) -> bool {
        !self.core.seems_empty() || self.core.spin_for_message()
    }

    /// Waits as a registered receiver until `poll` is ready.
    #[cold]
    pub(super) async fn wait<T>(&self, mut poll: impl FnMut(bool) -> Poll<Option<T>>) -> Option<T> {
        let waiting = StopWaitingOnDrop(&self.core);
        let received =
            self.core.receivers_waiting().wait_until(|registered| ready_value(poll(registered))).await;
        mem::forget(waiting);
        received
    }
}

fn ready_value<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
