//! A list of waiters for one kind of event. A wake wakes all that are asleep.
//!
//! A waiter passes in its attempt. The list makes the attempt again after it has registered the waiter, so no caller can
//! lose a wake between the two. A thread that changes something calls [`WaitList::wake`] after the change. Both take the
//! lock of the list: either the wake finds the waiter, or the attempt sees the change.
//!
//! A wake takes every waker out of the list. It hands over nothing: each woken waiter makes its attempt, and registers
//! again if that fails. So a waiter that was woken and is not polled any more keeps no other waiter asleep, and neither
//! does one whose registration was left in a handle.

use std::collections::VecDeque;
use std::marker::PhantomPinned;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

use crate::sync::short_lock::{ShortGuard, ShortLock};
use crate::sync::{AtomicUsize, Ordering};
use crate::telemetry::catch_panic::CatchPanic;

/// Tasks that wait for one kind of event.
pub(crate) struct WaitList {
    asleep: ShortLock<Asleep>,
    /// The number of waiters asleep. Written under the lock.
    waiting: AtomicUsize,
    wakers: CatchPanic,
}

/// The waiters that are asleep, by ticket.
#[derive(Default)]
struct Asleep {
    /// The ticket that was given out last. Waiters are woken in the order of their tickets.
    last_ticket: u64,
    wakers: VecDeque<(u64, Waker)>,
}

impl Asleep {
    /// Adds a waiter; returns its ticket.
    fn add(&mut self, waker: Waker) -> u64 {
        self.last_ticket += 1;
        self.wakers.push_back((self.last_ticket, waker));
        self.last_ticket
    }

    /// Returns where the waiter is, or would be.
    fn find(&self, ticket: u64) -> Result<usize, usize> {
        self.wakers.binary_search_by_key(&ticket, |(ticket, _)| *ticket)
    }
}

/// A waiter's registration. Its owner [deregisters](WaitList::deregister) it before dropping it.
#[derive(Debug, Default)]
pub(crate) struct PollWaiter {
    /// Its place, from its first registration until its attempt succeeds. A wake may have taken its waker since.
    ticket: Option<u64>,
}

impl PollWaiter {
    /// Whether it was registered by its last poll, and may have been woken since.
    pub(crate) fn is_registered(&self) -> bool {
        self.ticket.is_some()
    }
}

pin_project! {
    #[project = WaitUntilProjection]
    /// Waits as a registered waiter until `attempt` returns a value; see [`WaitList::wait_until`].
    ///
    /// Its drop gives up the registration, and drops `attempt` after that.
    pub(crate) struct WaitUntil<'a, F> {
        list: &'a WaitList,
        waiter: PollWaiter,
        // Nothing once it has returned a value.
        attempt: Option<F>,
        // No future of the user promises `Unpin`: a later one may be linked into the list.
        #[pin]
        pinned: PhantomPinned,
    }

    impl<F> PinnedDrop for WaitUntil<'_, F> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            this.list.deregister(this.waiter);
        }
    }
}

impl<T, F: FnMut(bool) -> Option<T>> Future for WaitUntil<'_, F> {
    type Output = T;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let WaitUntilProjection { list, waiter, attempt, .. } = self.project();
        let call = attempt.as_mut().expect("polled after it was done");
        let polled = if waiter.is_registered() {
            list.poll_wait(waiter, cx, call)
        } else {
            list.register(waiter, cx.waker());
            list.attempt_registered(waiter, call)
        };
        if polled.is_ready() {
            *attempt = None;
        }
        polled
    }
}

impl WaitList {
    pub(crate) fn new() -> Self {
        Self {
            asleep: ShortLock::new(Asleep::default()),
            waiting: AtomicUsize::new(0),
            wakers: CatchPanic::default(),
        }
    }

    /// Returns how many wakers have panicked.
    pub(crate) fn panics(&self) -> u64 {
        self.wakers.panics()
    }

    /// Returns how many waiters are asleep.
    #[inline]
    pub(crate) fn waiting(&self) -> usize {
        // ORDERING: Relaxed: a statistic; or a waiter's own thread asks, which sees its own registration.
        self.waiting.load(Ordering::Relaxed)
    }

    fn lock(&self) -> ShortGuard<'_, Asleep> {
        self.asleep.lock()
    }

    fn count(&self, asleep: &Asleep) {
        // ORDERING: Relaxed: see `waiting`.
        self.waiting.store(asleep.wakers.len(), Ordering::Relaxed);
    }

    /// Repeats `attempt` until it returns a value, and sleeps in between.
    ///
    /// `attempt` is called with whether the waiter is registered, and sleeps if this attempt fails. The first call is for a
    /// registered waiter: the caller has made an attempt before.
    ///
    /// Cancel safe if `attempt` is: between two attempts this holds only a registration.
    pub(crate) fn wait_until<T, F: FnMut(bool) -> Option<T>>(&self, attempt: F) -> WaitUntil<'_, F> {
        WaitUntil { list: self, waiter: PollWaiter::default(), attempt: Some(attempt), pinned: PhantomPinned }
    }

    /// [`wait_until`](Self::wait_until) for a caller that polls, and keeps its registration in `waiter`.
    ///
    /// It makes an attempt before it registers the waiter.
    #[inline]
    pub(crate) fn poll_wait<T>(
        &self,
        waiter: &mut PollWaiter,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(bool) -> Option<T>,
    ) -> Poll<T> {
        if !self.is_asleep(waiter) {
            if let Some(value) = attempt(false) {
                waiter.ticket = None;
                return Poll::Ready(value);
            }
        }
        self.register(waiter, cx.waker());
        self.attempt_registered(waiter, attempt)
    }

    #[inline]
    fn attempt_registered<T>(
        &self,
        waiter: &mut PollWaiter,
        mut attempt: impl FnMut(bool) -> Option<T>,
    ) -> Poll<T> {
        match attempt(true) {
            Some(value) => {
                self.deregister(waiter);
                Poll::Ready(value)
            }
            None => Poll::Pending,
        }
    }

    /// Whether no wake has taken the waiter's waker since it was registered.
    fn is_asleep(&self, waiter: &PollWaiter) -> bool {
        // As in `deregister`.
        waiter.ticket.is_some_and(|ticket| self.waiting() > 0 && self.lock().find(ticket).is_ok())
    }

    /// Registers the waiter, or replaces its waker if it is asleep. A waiter that was woken and found nothing keeps its place.
    fn register(&self, waiter: &mut PollWaiter, waker: &Waker) {
        // A waker's `clone` and `drop` are user code, and run under no lock.
        let waker = waker.clone();
        let mut asleep = self.lock();
        let replaced = match waiter.ticket {
            None => {
                waiter.ticket = Some(asleep.add(waker));
                None
            }
            Some(ticket) => match asleep.find(ticket) {
                Ok(at) => Some(mem::replace(&mut asleep.wakers[at].1, waker)),
                Err(at) => {
                    asleep.wakers.insert(at, (ticket, waker));
                    None
                }
            },
        };
        self.count(&asleep);
        drop(asleep);
        if replaced.is_some() {
            self.wakers.call(|| drop(replaced));
        }
    }

    /// Gives up a registration; returns whether there was one, asleep or woken.
    pub(crate) fn deregister(&self, waiter: &mut PollWaiter) -> bool {
        let Some(ticket) = waiter.ticket.take() else { return false };
        // A waiter that is asleep is counted, and its own thread sees that.
        if self.waiting() > 0 {
            let mut asleep = self.lock();
            let removed = asleep.find(ticket).ok().and_then(|at| asleep.wakers.remove(at));
            self.count(&asleep);
            drop(asleep);
            self.wakers.call(|| drop(removed));
        }
        true
    }

    /// Wakes all waiters; returns how many there were. Catches panics of wakers.
    ///
    /// It takes the lock even if there is no waiter: one that registers later then sees the change.
    pub(crate) fn wake(&self) -> usize {
        let mut asleep = self.lock();
        let Some((_, first)) = asleep.wakers.pop_front() else { return 0 };
        // Most lists have one waiter: its wake keeps the memory of the list.
        let others = (!asleep.wakers.is_empty()).then(|| mem::take(&mut asleep.wakers));
        self.count(&asleep);
        drop(asleep);
        self.call_waker(first);
        others.map_or(1, |others| 1 + self.wake_each(others))
    }

    #[cold]
    fn wake_each(&self, wakers: VecDeque<(u64, Waker)>) -> usize {
        let woken = wakers.len();
        wakers.into_iter().for_each(|(_, waker)| self.call_waker(waker));
        woken
    }

    fn call_waker(&self, waker: Waker) {
        self.wakers.call(|| waker.wake());
    }
}
