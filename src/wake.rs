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

use pin_project_lite::pin_project;

use crate::sync::{Arc, AtomicUsize, Notify, Ordering, OwnedNotified, fence, notified_owned};

/// The most waiters that one event wakes; they wake the next ones if anything is left.
pub(crate) const BATCH: usize = 64;

/// Tasks waiting for one kind of event, first come first served.
pub(crate) struct WaitList {
    notify: Arc<Notify>,
    /// How many wait. Written by waiters, read by wakers.
    waiting: AtomicUsize,
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

    fn enlist(&self) -> (Enlisted<'_>, Attempt) {
        let attempt = self.count();
        (Enlisted(&self.waiting), attempt)
    }

    fn count(&self) -> Attempt {
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        // ORDERING: SeqCst fence, against the one in `wake`: either the waker sees this waiter, or the attempt
        // that follows sees what the waker did.
        fence(Ordering::SeqCst);
        Attempt { enlisted: true, first: ahead == 0 }
    }

    /// Makes `attempt` until it returns something, and sleeps in between.
    ///
    /// Cancel safe as far as `attempt` is: between two attempts nothing is held but a place in the list.
    pub(crate) async fn until<T>(&self, mut attempt: impl FnMut(Attempt) -> Option<T>) -> T {
        loop {
            {
                let mut place = pin!(Place::new(self.notify.notified()));
                let mut notified = place.as_mut().notified();
                while notified.as_mut().enable() {
                    // A wake from before, when nobody waited for it: the attempt below sees what it was about.
                    notified.set(self.notify.notified());
                }
                let (_enlisted, last) = self.enlist();
                if let Some(value) = attempt(last) {
                    return value;
                }
                notified.await;
            }
            if let Some(value) = attempt(Attempt::WOKEN) {
                return value;
            }
        }
    }

    /// The same for a caller that polls and keeps its place in `waiter`; with an attempt before it is enlisted.
    pub(crate) fn poll_until<T>(
        &self,
        waiter: &mut PollWaiter,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(Attempt) -> Option<T>,
    ) -> Poll<T> {
        let mut next = Attempt::NEWCOMER;
        if let Some(place) = &mut waiter.place {
            next = Attempt::AGAIN;
            if place.as_mut().notified().poll(cx).is_ready() {
                waiter.leave(self);
                next = Attempt::WOKEN;
            }
        }
        loop {
            if let Some(value) = attempt(next) {
                waiter.leave(self);
                return Poll::Ready(value);
            }
            match &mut waiter.place {
                None => next = waiter.enlist(self),
                Some(place) => {
                    ready!(place.as_mut().notified().poll(cx));
                    waiter.leave(self);
                    next = Attempt::WOKEN;
                }
            }
        }
    }

    /// Wakes up to `at_most` waiters, and never more than [`BATCH`]; returns how many there were. A waker that panics
    /// is contained.
    pub(crate) fn wake(&self, at_most: usize) -> usize {
        // ORDERING: SeqCst fence, against the one in `count`.
        fence(Ordering::SeqCst);
        self.wake_behind_fence(at_most)
    }

    /// The same for a caller whose own SeqCst fence came after the change.
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

    fn notify_each(&self, waiters: usize) {
        for _ in 0..waiters {
            let _ = catch_unwind(AssertUnwindSafe(|| self.notify.notify_one()));
        }
    }
}

pin_project! {
    /// A place in a list. Who gives it up may pass a wake on, and has no part in it if the next one's waker panics.
    struct Place<N> {
        #[pin]
        notified: Option<N>,
    }

    impl<N> PinnedDrop for Place<N> {
        fn drop(this: Pin<&mut Self>) {
            let _ = catch_unwind(AssertUnwindSafe(|| this.project().notified.set(None)));
        }
    }
}

impl<N> Place<N> {
    fn new(notified: N) -> Self {
        Self { notified: Some(notified) }
    }

    fn notified(self: Pin<&mut Self>) -> Pin<&mut N> {
        self.project().notified.as_pin_mut().expect("there until the place is dropped")
    }
}

/// A place in a list for a caller that polls; whoever owns it calls [`leave`](Self::leave) before dropping it.
#[derive(Default)]
pub(crate) struct PollWaiter {
    place: Option<Pin<Box<Place<OwnedNotified>>>>,
}

impl PollWaiter {
    fn enlist(&mut self, list: &WaitList) -> Attempt {
        let mut place = Box::pin(Place::new(notified_owned(&list.notify)));
        let mut notified = place.as_mut().notified();
        while notified.as_mut().enable() {
            // See `until`.
            notified.set(notified_owned(&list.notify));
        }
        self.place = Some(place);
        list.count()
    }

    pub(crate) fn is_enlisted(&self) -> bool {
        self.place.is_some()
    }

    /// Gives the place up, and tells whether there was one; a wake that came meanwhile goes to the next in the list.
    pub(crate) fn leave(&mut self, list: &WaitList) -> bool {
        let place = self.place.take();
        let was_enlisted = place.is_some();
        if was_enlisted {
            drop(Enlisted(&list.waiting));
        }
        was_enlisted
    }
}
