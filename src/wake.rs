//! Waiting and waking, written once.
//!
//! Whoever waits passes in the attempt itself, which is made again after the waiter was enlisted: a caller
//! cannot write the gap that loses a wakeup. Whoever changes something calls [`WaitList::wake`] afterwards.
//!
//! A wake hands over nothing: a woken waiter tries again, and one that is dropped instead passes the wake on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use crate::sync::{Arc, AtomicUsize, Notify, Ordering, OwnedNotified, fence, notified_owned};

/// The most waiters that one event wakes; they wake the next ones if anything is left.
pub(crate) const BATCH: usize = 64;

/// Tasks waiting for one kind of event, first come first served.
pub(crate) struct WaitList {
    notify: Arc<Notify>,
    /// How many wait. Written by waiters, read by wakers.
    waiting: AtomicUsize,
}

/// Counts its waiter for as long as it lives.
struct Enlisted<'a>(&'a AtomicUsize);

impl Drop for Enlisted<'_> {
    fn drop(&mut self) {
        // ORDERING: Relaxed: a waker that still counts a waiter too many does no harm.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl WaitList {
    pub(crate) fn new() -> Self {
        Self { notify: Arc::new(Notify::new()), waiting: AtomicUsize::new(0) }
    }

    #[inline]
    pub(crate) fn waiting(&self) -> usize {
        // ORDERING: Relaxed: a figure, or a hint after a lock that both sides took.
        self.waiting.load(Ordering::Relaxed)
    }

    fn enlist(&self) -> Enlisted<'_> {
        self.count();
        Enlisted(&self.waiting)
    }

    fn count(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // ORDERING: SeqCst fence, against the one in `wake`: either the waker sees this waiter, or the attempt
        // that follows sees what the waker did.
        fence(Ordering::SeqCst);
    }

    /// Makes `attempt` until it returns something, and sleeps in between. The argument tells whether the
    /// waiter is enlisted, so that the attempt is the last one before it sleeps.
    ///
    /// Cancel safe as far as `attempt` is: between two attempts nothing is held but a place in the list.
    pub(crate) async fn until<T>(&self, mut attempt: impl FnMut(bool) -> Option<T>) -> T {
        loop {
            {
                let mut notified = pin!(self.notify.notified());
                notified.as_mut().enable();
                let _enlisted = self.enlist();
                if let Some(value) = attempt(true) {
                    return value;
                }
                notified.await;
            }
            if let Some(value) = attempt(false) {
                return value;
            }
        }
    }

    /// The same for a caller that polls and keeps its place in `waiter`.
    pub(crate) fn poll_until<T>(
        &self,
        waiter: &mut PollWaiter,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(bool) -> Option<T>,
    ) -> Poll<T> {
        if waiter.enlisted.is_none() {
            if let Some(value) = attempt(false) {
                return Poll::Ready(value);
            }
        }
        loop {
            let notified = waiter.enlist(self);
            if let Some(value) = attempt(true) {
                waiter.leave(self);
                return Poll::Ready(value);
            }
            ready!(notified.poll(cx));
            waiter.leave(self);
        }
    }

    /// Wakes up to `at_most` waiters, and never more than [`BATCH`]. A waker that panics is contained.
    pub(crate) fn wake(&self, at_most: usize) {
        // ORDERING: SeqCst fence, against the one in `count`.
        fence(Ordering::SeqCst);
        self.wake_behind_fence(at_most);
    }

    /// The same for a caller whose own SeqCst fence came after the change.
    #[inline]
    pub(crate) fn wake_behind_fence(&self, at_most: usize) {
        self.notify_each(self.waiting().min(at_most).min(BATCH));
    }

    /// Wakes everybody: something ended. One by one, so that a waker that panics keeps no other from being woken.
    pub(crate) fn wake_all(&self) {
        // ORDERING: SeqCst fence, against the one in `count`: who is not seen here sees the end.
        fence(Ordering::SeqCst);
        self.notify_each(self.waiting());
    }

    fn notify_each(&self, waiters: usize) {
        for _ in 0..waiters {
            let _ = catch_unwind(AssertUnwindSafe(|| self.notify.notify_one()));
        }
    }
}

/// A place in a list for a caller that polls; whoever owns it calls [`leave`](Self::leave) before dropping it.
#[derive(Default)]
pub(crate) struct PollWaiter {
    enlisted: Option<Pin<Box<OwnedNotified>>>,
}

impl PollWaiter {
    fn enlist(&mut self, list: &WaitList) -> Pin<&mut OwnedNotified> {
        self.enlisted
            .get_or_insert_with(|| {
                let mut notified = Box::pin(notified_owned(&list.notify));
                notified.as_mut().enable();
                list.count();
                notified
            })
            .as_mut()
    }

    /// Gives the place up; a wake that came meanwhile goes to the next in the list.
    pub(crate) fn leave(&mut self, list: &WaitList) {
        if self.enlisted.take().is_some() {
            drop(Enlisted(&list.waiting));
        }
    }
}
