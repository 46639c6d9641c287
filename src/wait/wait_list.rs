//! Waiting and waking, written once.
//!
//! Whoever waits passes in the attempt itself, which is made again after the waiter was registered: a caller
//! cannot write the gap that loses a wakeup. Whoever changes something calls [`WaitList::wake`] afterwards.
//!
//! A wake hands over nothing: a woken waiter tries again, and one that is dropped instead passes the wake on. One that
//! tries in vain comes before all that were not woken yet.

use std::future::poll_fn;
use std::mem;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::pin::Pin;
use std::pin::pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::sync::{Arc, AtomicUsize, Notify, OnceLock, Ordering, OwnedNotified, fence, notified_owned};
use crate::telemetry::catch_panic::CatchPanic;

/// The most waiters that one event wakes; they wake the next ones if anything is left.
pub(crate) const BATCH: usize = 64;

/// TaskCount waiting for one kind of event, first come first served.
pub(crate) struct WaitList {
    /// Made by the first to wait: for most things nobody ever does.
    queue: OnceLock<Arc<Notify>>,
    /// Those who were woken and tried in vain.
    requeue: OnceLock<Arc<Notify>>,
    /// How many wait in either. Written by waiters, read by wakers.
    waiting: AtomicUsize,
    /// How many of them in front.
    requeued: AtomicUsize,
    wakers: CatchPanic,
}

/// What a waiter may take for granted in an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaitState {
    /// It is in the list, and sleeps if this attempt fails.
    pub(crate) registered: bool,
    /// Nobody who came before still waits for a wake: none was in the list, or this one was woken.
    pub(crate) at_front: bool,
}

impl WaitState {
    const NEW: Self = Self { registered: false, at_front: false };
    const AGAIN: Self = Self { registered: true, at_front: false };
    const WOKEN: Self = Self { registered: false, at_front: true };
}

/// Has its waiter counted for as long as it lives. It is made before the registration and dropped after it.
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

    /// How many wakers of waiters have panicked.
    pub(crate) fn panics(&self) -> u64 {
        self.wakers.panics()
    }

    #[inline]
    pub(crate) fn waiting(&self) -> usize {
        // ORDERING: Relaxed: a figure, or a hint after a lock that both sides took.
        self.waiting.load(Ordering::Relaxed)
    }

    fn register(&self, requeued: bool) -> (WaiterGuard<'_>, WaitState) {
        let attempt = self.count(requeued);
        (WaiterGuard { list: self, requeued }, attempt)
    }

    fn count(&self, requeued: bool) -> WaitState {
        if requeued {
            self.requeued.fetch_add(1, Ordering::Relaxed);
        }
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        // ORDERING: SeqCst fence, against the one in `wake`: either the waker sees this waiter, or the attempt
        // that follows sees what the waker did.
        fence(Ordering::SeqCst);
        WaitState { registered: true, at_front: requeued || ahead == 0 }
    }

    /// After the registration was given up.
    fn uncount(&self, requeued: bool) {
        // ORDERING: Relaxed: a waker that still counts a waiter too many in the queue does no harm.
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        if requeued {
            self.requeued.fetch_sub(1, Ordering::Relaxed);
            // ORDERING: SeqCst fence, against the one in `notify_each`: either the waker sees that this one has left, or
            // the wake that it left in front is found here.
            fence(Ordering::SeqCst);
            if self.requeued.load(Ordering::Relaxed) == 0 {
                self.pass_to_queue();
            }
        }
    }

    /// A wake that found nobody in front any more goes to the queue.
    fn pass_to_queue(&self) {
        let mut registration = pin!(Registration::new(self.notify(true).notified(), true));
        if registration.as_mut().notified().enable() {
            self.notify_one(self.notify(false));
        }
    }

    /// Makes `attempt` until it returns something, and sleeps in between.
    ///
    /// Cancel safe as far as `attempt` is: between two attempts nothing is held but a registration in the list.
    pub(crate) async fn wait_until<T>(&self, mut attempt: impl FnMut(WaitState) -> Option<T>) -> T {
        let mut requeued = false;
        loop {
            {
                let notify = self.notify(requeued);
                // Before the registration, so that it is dropped after it.
                let (_enlisted, last);
                let mut registration = pin!(Registration::new(notify.notified(), requeued));
                // With this task's waker at once, so that the list is locked once.
                poll_fn(|cx| {
                    let mut notified = registration.as_mut().notified();
                    while notified.as_mut().poll(cx).is_ready() {
                        // A wake from before, when nobody waited for it: the attempt below sees what it was about.
                        notified.set(notify.notified());
                    }
                    Poll::Ready(())
                })
                .await;
                (_enlisted, last) = self.register(requeued);
                if let Some(value) = attempt(last) {
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

    /// [`until`](Self::until) for a caller that polls and keeps its registration in `waiter`; with an attempt before it is
    /// registered.
    pub(crate) fn poll_wait<T>(
        &self,
        waiter: &mut PollWaiter,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(WaitState) -> Option<T>,
    ) -> Poll<T> {
        // The caller's waker may panic, and so may `attempt`: then nobody is left to poll.
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

    /// Wakes up to `at_most` waiters, and never more than [`BATCH`]; returns how many there were. A waker that panics
    /// is contained.
    pub(crate) fn wake(&self, at_most: usize) -> usize {
        // ORDERING: SeqCst fence, against the one in `count`.
        fence(Ordering::SeqCst);
        self.wake_after_fence(at_most)
    }

    /// [`wake`](Self::wake) for a caller whose own SeqCst fence came after the change.
    #[inline]
    pub(crate) fn wake_after_fence(&self, at_most: usize) -> usize {
        let waiting = self.waiting();
        self.notify_each(waiting.min(at_most).min(BATCH));
        waiting
    }

    /// Wakes everybody: something ended. One by one, so that a waker that panics keeps no other from being woken.
    pub(crate) fn wake_all(&self) {
        // ORDERING: SeqCst fence, against the one in `count`: who is not seen here sees the end.
        fence(Ordering::SeqCst);
        self.notify_each(self.waiting());
    }

    /// Those in front first.
    fn notify_each(&self, waiters: usize) {
        // ORDERING: Relaxed, behind the fence as `waiting` is.
        let requeued = self.requeued.load(Ordering::Relaxed).min(waiters);
        let mut in_queue = waiters - requeued;
        if requeued > 0 {
            (0..requeued).for_each(|_| self.notify_one(self.notify(true)));
            // ORDERING: SeqCst fence, against the one in `uncount`. Those in front who left meanwhile may have had no
            // wake: as many of the queue get one.
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
    /// A registration in a list. Who gives it up may pass a wake on, and has no part in it if the next one's waker panics.
    struct Registration<N> {
        #[pin]
        notified: Option<N>,
        requeued: bool,
    }

    impl<N> PinnedDrop for Registration<N> {
        fn drop(this: Pin<&mut Self>) {
            let _ = catch_unwind(AssertUnwindSafe(|| this.project().notified.set(None)));
        }
    }
}

impl<N> Registration<N> {
    fn new(notified: N, requeued: bool) -> Self {
        Self { notified: Some(notified), requeued }
    }

    fn notified(self: Pin<&mut Self>) -> Pin<&mut N> {
        self.project().notified.as_pin_mut().expect("there until the registration is given up")
    }
}

/// A registration in a list for a caller that polls; whoever owns it calls [`leave`](Self::leave) before dropping it.
#[derive(Default)]
pub(crate) struct PollWaiter {
    registration: Option<Pin<Box<Registration<OwnedNotified>>>>,
}

// A poll that panics gives the registration up.
impl UnwindSafe for PollWaiter {}
impl RefUnwindSafe for PollWaiter {}

/// Gives a registration up.
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
            // See `until`.
            notified.set(notified_owned(notify));
        }
        self.registration = Some(registration);
        list.count(requeued)
    }

    pub(crate) fn is_registered(&self) -> bool {
        self.registration.is_some()
    }

    /// Gives the registration up, and tells whether there was one; a wake that came meanwhile goes to the next in the list.
    pub(crate) fn deregister(&mut self, list: &WaitList) -> bool {
        let Some(registration) = self.registration.take() else { return false };
        let requeued = registration.requeued;
        drop(registration);
        list.uncount(requeued);
        true
    }
}
