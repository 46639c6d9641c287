//! A list of waiters for one kind of event.
//!
//! A waiter passes in its attempt. The list makes the attempt again after it has registered the waiter, so no caller can
//! lose a wake between the two. A thread that changes something calls [`WaitList::wake`] after the change.
//!
//! A wake transfers no permit. A woken waiter retries; if the retry fails, it re-queues ahead of waiters not woken yet.
//! A waiter that is dropped after a wake passes the wake on.

use std::future::poll_fn;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::pin::pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::sync::unwind::catch;
use crate::sync::{Arc, AtomicUsize, Notify, OnceLock, Ordering, OwnedNotified, fence, notified_owned};
use crate::telemetry::catch_panic::CatchPanic;

/// The most waiters that one [`wake`](WaitList::wake) wakes. They wake the next ones if anything is left.
pub(crate) const BATCH: usize = 64;

/// Tasks that wait for one kind of event, first come, first served.
pub(crate) struct WaitList {
    /// Created by the first waiter: most lists never have one.
    queue: OnceLock<Arc<Notify>>,
    /// Waiters that were woken and retried unsuccessfully.
    requeue: OnceLock<Arc<Notify>>,
    /// The number of waiters in both lists. Written by waiters, read by threads that wake.
    waiting: AtomicUsize,
    /// The number of waiters in `requeue`.
    requeued: AtomicUsize,
    wakers: CatchPanic,
}

/// The state of a waiter during an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaitState {
    /// It is registered, and sleeps if this attempt fails.
    pub(crate) registered: bool,
    /// It may take what others wait for: it was woken, even if it is re-queued since, or the list was empty when it
    /// registered (in `poll_wait` only for the attempt right after that).
    pub(crate) at_front: bool,
}

impl WaitState {
    const NEW: Self = Self { registered: false, at_front: false };
    const AGAIN: Self = Self { registered: true, at_front: false };
    const WOKEN: Self = Self { registered: false, at_front: true };
}

/// Counts its waiter while it lives. It is created after the registration, and dropped after it too.
struct WaiterGuard<'a> {
    list: &'a WaitList,
    requeued: bool,
}

impl Drop for WaiterGuard<'_> {
    fn drop(&mut self) {
        self.list.uncount(self.requeued);
    }
}

impl WaitList {
    pub(crate) fn new() -> Self {
        Self {
            queue: OnceLock::new(),
            requeue: OnceLock::new(),
            waiting: AtomicUsize::new(0),
            requeued: AtomicUsize::new(0),
            wakers: CatchPanic::default(),
        }
    }

    fn notify(&self, requeued: bool) -> &Arc<Notify> {
        let list = if requeued { &self.requeue } else { &self.queue };
        list.get_or_init(|| Arc::new(Notify::new()))
    }

    /// Returns how many wakers have panicked.
    pub(crate) fn panics(&self) -> u64 {
        self.wakers.panics()
    }

    #[inline]
    pub(crate) fn waiting(&self) -> usize {
        // ORDERING: Relaxed: a statistic; or ordered by a fence, or by a lock that both sides take.
        self.waiting.load(Ordering::Relaxed)
    }

    fn register(&self, requeued: bool) -> (WaiterGuard<'_>, WaitState) {
        let state = self.count(requeued);
        (WaiterGuard { list: self, requeued }, state)
    }

    fn count(&self, requeued: bool) -> WaitState {
        if requeued {
            self.requeued.fetch_add(1, Ordering::Relaxed);
        }
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        // ORDERING: SeqCst fence: pairs with the fence in `wake`. Either the waking thread sees this waiter, or the
        // attempt that follows sees the change.
        fence(Ordering::SeqCst);
        WaitState { registered: true, at_front: requeued || ahead == 0 }
    }

    /// Stops counting a waiter whose registration was dropped.
    fn uncount(&self, requeued: bool) {
        // ORDERING: Relaxed: a thread that counts one waiter too many in the queue does no harm.
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        if requeued {
            self.requeued.fetch_sub(1, Ordering::Relaxed);
            // ORDERING: SeqCst fence: pairs with the fence in `notify_each`. Either the waking thread sees that this
            // waiter has left, or this thread finds the wake that was left in `requeue`.
            fence(Ordering::SeqCst);
            if self.requeued.load(Ordering::Relaxed) == 0 {
                self.pass_to_queue();
            }
        }
    }

    /// Passes a wake that was left in `requeue` to the queue.
    fn pass_to_queue(&self) {
        let mut registration = pin!(Registration::new(self.notify(true).notified(), true));
        if registration.as_mut().notified().enable() {
            self.notify_one(self.notify(false));
        }
    }

    /// Repeats `attempt` until it returns a value, and sleeps in between.
    ///
    /// Cancel safe if `attempt` is: between two attempts this holds only a registration.
    pub(crate) async fn wait_until<T>(&self, mut attempt: impl FnMut(WaitState) -> Option<T>) -> T {
        let mut requeued = false;
        loop {
            {
                let notify = self.notify(requeued);
                // Declared before the registration, so that it is dropped after it.
                let (_guard, state);
                let mut registration = pin!(Registration::new(notify.notified(), requeued));
                // Polled with this task's waker at once, so that the list is locked only once.
                poll_fn(|cx| {
                    let mut notified = registration.as_mut().notified();
                    while notified.as_mut().poll(cx).is_ready() {
                        // A wake from before the registration: the attempt below sees its change.
                        notified.set(notify.notified());
                    }
                    Poll::Ready(())
                })
                .await;
                (_guard, state) = self.register(requeued);
                if let Some(value) = attempt(state) {
                    return value;
                }
                let mut polled_before = true;
                poll_fn(|cx| match mem::take(&mut polled_before) {
                    true => Poll::Pending,
                    false => registration.as_mut().notified().poll(cx),
                })
                .await;
            }
            if let Some(value) = attempt(WaitState::WOKEN) {
                return value;
            }
            requeued = true;
        }
    }

    /// [`wait_until`](Self::wait_until) for a caller that polls, and keeps its registration in `waiter`.
    ///
    /// It makes an attempt before it registers the waiter.
    pub(crate) fn poll_wait<T>(
        &self,
        waiter: &mut PollWaiter,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(WaitState) -> Option<T>,
    ) -> Poll<T> {
        // The caller's waker may panic, and so may `attempt`: then the waiter is not polled again.
        let unwinding = DeregisterOnPanic { waiter, list: self };
        let waiter = &mut *unwinding.waiter;
        let mut next = WaitState::NEW;
        if let Some(registration) = &mut waiter.registration {
            next = WaitState { at_front: registration.requeued, ..WaitState::AGAIN };
            if registration.as_mut().notified().poll(cx).is_ready() {
                waiter.deregister(self);
                next = WaitState::WOKEN;
            }
        }
        let polled = loop {
            if let Some(value) = attempt(next) {
                waiter.deregister(self);
                break Poll::Ready(value);
            }
            match &mut waiter.registration {
                None => next = waiter.register(self, next == WaitState::WOKEN),
                Some(registration) => {
                    if registration.as_mut().notified().poll(cx).is_pending() {
                        break Poll::Pending;
                    }
                    waiter.deregister(self);
                    next = WaitState::WOKEN;
                }
            }
        };
        mem::forget(unwinding);
        polled
    }

    /// Wakes up to `at_most` waiters, and at most [`BATCH`]; returns how many there were. Catches panics of wakers.
    pub(crate) fn wake(&self, at_most: usize) -> usize {
        // ORDERING: SeqCst fence: pairs with the fence in `count`.
        fence(Ordering::SeqCst);
        self.wake_after_fence(at_most)
    }

    /// [`wake`](Self::wake) for a caller that has passed a SeqCst fence after the change.
    #[inline]
    pub(crate) fn wake_after_fence(&self, at_most: usize) -> usize {
        let waiting = self.waiting();
        self.notify_each(waiting.min(at_most).min(BATCH));
        waiting
    }

    /// Wakes all waiters, one by one, so that a waker that panics keeps no other waiter asleep.
    pub(crate) fn wake_all(&self) {
        // ORDERING: SeqCst fence: pairs with the fence in `count`. A waiter that is not seen here sees the change.
        fence(Ordering::SeqCst);
        self.notify_each(self.waiting());
    }

    /// Wakes that many waiters, re-queued waiters first.
    fn notify_each(&self, waiters: usize) {
        // ORDERING: Relaxed: follows the caller's fence, as the load of `waiting` does.
        let requeued = self.requeued.load(Ordering::Relaxed).min(waiters);
        let mut in_queue = waiters - requeued;
        if requeued > 0 {
            (0..requeued).for_each(|_| self.notify_one(self.notify(true)));
            // ORDERING: SeqCst fence: pairs with the fence in `uncount`. Re-queued waiters that left meanwhile may not
            // have received a wake: as many waiters of the queue are woken.
            fence(Ordering::SeqCst);
            in_queue += requeued.saturating_sub(self.requeued.load(Ordering::Relaxed));
        }
        (0..in_queue).for_each(|_| self.notify_one(self.notify(false)));
    }

    fn notify_one(&self, notify: &Notify) {
        self.wakers.call(|| notify.notify_one());
    }
}

pin_project! {
    /// A registration in a list. Its drop may pass a wake on, and catches a panic of the next waiter's waker.
    struct Registration<N> {
        #[pin]
        notified: Option<N>,
        requeued: bool,
    }

    impl<N> PinnedDrop for Registration<N> {
        fn drop(this: Pin<&mut Self>) {
            let _ = catch(|| this.project().notified.set(None));
        }
    }
}

impl<N> Registration<N> {
    fn new(notified: N, requeued: bool) -> Self {
        Self { notified: Some(notified), requeued }
    }

    fn notified(self: Pin<&mut Self>) -> Pin<&mut N> {
        self.project().notified.as_pin_mut().expect("present until the registration is dropped")
    }
}

/// A registration in a list for a caller that polls. Its owner calls [`deregister`](Self::deregister) before dropping it.
#[derive(Default)]
pub(crate) struct PollWaiter {
    registration: Option<Pin<Box<Registration<OwnedNotified>>>>,
}

// A poll that panics drops the registration.
impl UnwindSafe for PollWaiter {}
impl RefUnwindSafe for PollWaiter {}

/// Deregisters a waiter when a poll panics.
struct DeregisterOnPanic<'a> {
    waiter: &'a mut PollWaiter,
    list: &'a WaitList,
}

impl Drop for DeregisterOnPanic<'_> {
    fn drop(&mut self) {
        self.waiter.deregister(self.list);
    }
}

impl PollWaiter {
    fn register(&mut self, list: &WaitList, requeued: bool) -> WaitState {
        let notify = list.notify(requeued);
        let mut registration = Box::pin(Registration::new(notified_owned(notify), requeued));
        let mut notified = registration.as_mut().notified();
        while notified.as_mut().enable() {
            // See `wait_until`.
            notified.set(notified_owned(notify));
        }
        self.registration = Some(registration);
        list.count(requeued)
    }

    pub(crate) fn is_registered(&self) -> bool {
        self.registration.is_some()
    }

    /// Drops the registration; returns whether there was one. A wake that it has received goes to the next waiter.
    pub(crate) fn deregister(&mut self, list: &WaitList) -> bool {
        let Some(registration) = self.registration.take() else { return false };
        let requeued = registration.requeued;
        drop(registration);
        list.uncount(requeued);
        true
    }
}
