//! Waiting and waking, written once.
//!
//! Whoever waits passes in the attempt itself, which is made again after the waiter was enlisted: a caller
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
use crate::user_code::UserCode;

/// The most waiters that one event wakes; they wake the next ones if anything is left.
pub(crate) const BATCH: usize = 64;

/// Tasks waiting for one kind of event, first come first served.
pub(crate) struct WaitList {
    /// Made by the first to wait: for most things nobody ever does.
    queue: OnceLock<Arc<Notify>>,
    /// Those who were woken and tried in vain.
    front: OnceLock<Arc<Notify>>,
    /// How many wait in either. Written by waiters, read by wakers.
    waiting: AtomicUsize,
    /// How many of them in front.
    in_front: AtomicUsize,
    wakers: UserCode,
}

/// What a waiter may take for granted in an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// It is in the list, and sleeps if this attempt fails.
    pub(crate) enlisted: bool,
    /// Nobody who came before still waits for a wake: none was in the list, or this one was woken.
    pub(crate) first: bool,
}

impl Attempt {
    const NEWCOMER: Self = Self { enlisted: false, first: false };
    const AGAIN: Self = Self { enlisted: true, first: false };
    const WOKEN: Self = Self { enlisted: false, first: true };
}

/// Has its waiter counted for as long as it lives. It is made before the spot and dropped after it.
struct Enlisted<'a> {
    list: &'a WaitList,
    in_front: bool,
}

impl Drop for Enlisted<'_> {
    fn drop(&mut self) {
        self.list.uncount(self.in_front);
    }
}

impl WaitList {
    pub(crate) fn new() -> Self {
        Self {
            queue: OnceLock::new(),
            front: OnceLock::new(),
            waiting: AtomicUsize::new(0),
            in_front: AtomicUsize::new(0),
            wakers: UserCode::default(),
        }
    }

    fn notify(&self, in_front: bool) -> &Arc<Notify> {
        let list = if in_front { &self.front } else { &self.queue };
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

    fn enlist(&self, in_front: bool) -> (Enlisted<'_>, Attempt) {
        let attempt = self.count(in_front);
        (Enlisted { list: self, in_front }, attempt)
    }

    fn count(&self, in_front: bool) -> Attempt {
        if in_front {
            self.in_front.fetch_add(1, Ordering::Relaxed);
        }
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        // ORDERING: SeqCst fence, against the one in `wake`: either the waker sees this waiter, or the attempt
        // that follows sees what the waker did.
        fence(Ordering::SeqCst);
        Attempt { enlisted: true, first: in_front || ahead == 0 }
    }

    /// After the spot was given up.
    fn uncount(&self, in_front: bool) {
        // ORDERING: Relaxed: a waker that still counts a waiter too many in the queue does no harm.
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        if in_front {
            self.in_front.fetch_sub(1, Ordering::Relaxed);
            // ORDERING: SeqCst fence, against the one in `notify_each`: either the waker sees that this one has left, or
            // the wake that it left in front is found here.
            fence(Ordering::SeqCst);
            if self.in_front.load(Ordering::Relaxed) == 0 {
                self.pass_to_queue();
            }
        }
    }

    /// A wake that found nobody in front any more goes to the queue.
    fn pass_to_queue(&self) {
        let mut spot = pin!(Spot::new(self.notify(true).notified(), true));
        if spot.as_mut().notified().enable() {
            self.notify_one(self.notify(false));
        }
    }

    /// Makes `attempt` until it returns something, and sleeps in between.
    ///
    /// Cancel safe as far as `attempt` is: between two attempts nothing is held but a spot in the list.
    pub(crate) async fn until<T>(&self, mut attempt: impl FnMut(Attempt) -> Option<T>) -> T {
        let mut in_front = false;
        loop {
            {
                let notify = self.notify(in_front);
                // Before the spot, so that it is dropped after it.
                let (_enlisted, last);
                let mut spot = pin!(Spot::new(notify.notified(), in_front));
                // With this task's waker at once, so that the list is locked once.
                poll_fn(|cx| {
                    let mut notified = spot.as_mut().notified();
                    while notified.as_mut().poll(cx).is_ready() {
                        // A wake from before, when nobody waited for it: the attempt below sees what it was about.
                        notified.set(notify.notified());
                    }
                    Poll::Ready(())
                })
                .await;
                (_enlisted, last) = self.enlist(in_front);
                if let Some(value) = attempt(last) {
                    return value;
                }
                let mut polled_before = true;
                poll_fn(|cx| match mem::take(&mut polled_before) {
                    true => Poll::Pending,
                    false => spot.as_mut().notified().poll(cx),
                })
                .await;
            }
            if let Some(value) = attempt(Attempt::WOKEN) {
                return value;
            }
            in_front = true;
        }
    }

    /// [`until`](Self::until) for a caller that polls and keeps its spot in `waiter`; with an attempt before it is
    /// enlisted.
    pub(crate) fn poll_until<T>(
        &self,
        waiter: &mut PollWaiter,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(Attempt) -> Option<T>,
    ) -> Poll<T> {
        // The caller's waker may panic, and so may `attempt`: then nobody is left to poll.
        let unwinding = Leaves { waiter, list: self };
        let waiter = &mut *unwinding.waiter;
        let mut next = Attempt::NEWCOMER;
        if let Some(spot) = &mut waiter.spot {
            next = Attempt { first: spot.in_front, ..Attempt::AGAIN };
            if spot.as_mut().notified().poll(cx).is_ready() {
                waiter.leave(self);
                next = Attempt::WOKEN;
            }
        }
        let polled = loop {
            if let Some(value) = attempt(next) {
                waiter.leave(self);
                break Poll::Ready(value);
            }
            match &mut waiter.spot {
                None => next = waiter.enlist(self, next == Attempt::WOKEN),
                Some(spot) => {
                    if spot.as_mut().notified().poll(cx).is_pending() {
                        break Poll::Pending;
                    }
                    waiter.leave(self);
                    next = Attempt::WOKEN;
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
        self.wake_behind_fence(at_most)
    }

    /// [`wake`](Self::wake) for a caller whose own SeqCst fence came after the change.
    #[inline]
    pub(crate) fn wake_behind_fence(&self, at_most: usize) -> usize {
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
        let in_front = self.in_front.load(Ordering::Relaxed).min(waiters);
        let mut in_queue = waiters - in_front;
        if in_front > 0 {
            (0..in_front).for_each(|_| self.notify_one(self.notify(true)));
            // ORDERING: SeqCst fence, against the one in `uncount`. Those in front who left meanwhile may have had no
            // wake: as many of the queue get one.
            fence(Ordering::SeqCst);
            in_queue += in_front.saturating_sub(self.in_front.load(Ordering::Relaxed));
        }
        (0..in_queue).for_each(|_| self.notify_one(self.notify(false)));
    }

    fn notify_one(&self, notify: &Notify) {
        self.wakers.call(|| notify.notify_one());
    }
}

pin_project! {
    /// A spot in a list. Who gives it up may pass a wake on, and has no part in it if the next one's waker panics.
    struct Spot<N> {
        #[pin]
        notified: Option<N>,
        in_front: bool,
    }

    impl<N> PinnedDrop for Spot<N> {
        fn drop(this: Pin<&mut Self>) {
            let _ = catch_unwind(AssertUnwindSafe(|| this.project().notified.set(None)));
        }
    }
}

impl<N> Spot<N> {
    fn new(notified: N, in_front: bool) -> Self {
        Self { notified: Some(notified), in_front }
    }

    fn notified(self: Pin<&mut Self>) -> Pin<&mut N> {
        self.project().notified.as_pin_mut().expect("there until the spot is given up")
    }
}

/// A spot in a list for a caller that polls; whoever owns it calls [`leave`](Self::leave) before dropping it.
#[derive(Default)]
pub(crate) struct PollWaiter {
    spot: Option<Pin<Box<Spot<OwnedNotified>>>>,
}

// A poll that panics gives the spot up.
impl UnwindSafe for PollWaiter {}
impl RefUnwindSafe for PollWaiter {}

/// Gives a spot up.
struct Leaves<'a> {
    waiter: &'a mut PollWaiter,
    list: &'a WaitList,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.waiter.leave(self.list);
    }
}

impl PollWaiter {
    fn enlist(&mut self, list: &WaitList, in_front: bool) -> Attempt {
        let notify = list.notify(in_front);
        let mut spot = Box::pin(Spot::new(notified_owned(notify), in_front));
        let mut notified = spot.as_mut().notified();
        while notified.as_mut().enable() {
            // See `until`.
            notified.set(notified_owned(notify));
        }
        self.spot = Some(spot);
        list.count(in_front)
    }

    pub(crate) fn is_enlisted(&self) -> bool {
        self.spot.is_some()
    }

    /// Gives the spot up, and tells whether there was one; a wake that came meanwhile goes to the next in the list.
    pub(crate) fn leave(&mut self, list: &WaitList) -> bool {
        let Some(spot) = self.spot.take() else { return false };
        let in_front = spot.in_front;
        drop(spot);
        list.uncount(in_front);
        true
    }
}
