//! The same names as in `sync.rs`, on loom's model of them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

pub(crate) use loom::cell::UnsafeCell;
pub(crate) use loom::hint::spin_loop;
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use loom::sync::{Arc, Mutex, MutexGuard, RwLock};

/// Spinning only adds interleavings that sleeping has too.
pub(crate) fn spin_limit() -> usize {
    0
}

pub(crate) fn zeroed_words(count: usize) -> Box<[AtomicU64]> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

/// One cell for each message, accessed whenever its bytes are.
pub(crate) struct AccessLog(Box<[UnsafeCell<()>]>);

impl AccessLog {
    pub(crate) fn for_messages(count: usize) -> Self {
        Self((0..count).map(|_| UnsafeCell::new(())).collect())
    }
    pub(crate) fn writing<R>(&self, message: usize, access: impl FnOnce() -> R) -> R {
        self.0[message].with_mut(|_| access())
    }
    pub(crate) fn reading<R>(&self, message: usize, access: impl FnOnce() -> R) -> R {
        self.0[message].with(|_| access())
    }
}

/// What this crate uses of `tokio::sync::Notify`, by its documentation, so that loom sees inside.
pub(crate) struct Notify(Mutex<Waiters>);

#[derive(Default)]
struct Waiters {
    permit: bool,
    next_id: u64,
    queue: VecDeque<Waiter>,
}

struct Waiter {
    id: u64,
    notified: bool,
    waker: Option<Waker>,
}

impl Waiters {
    fn notify_one(&mut self) -> Option<Waker> {
        match self.queue.iter_mut().find(|waiter| !waiter.notified) {
            Some(waiter) => {
                waiter.notified = true;
                waiter.waker.take()
            }
            None => {
                self.permit = true;
                None
            }
        }
    }
}

impl Notify {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Waiters::default()))
    }

    pub(crate) fn notified(&self) -> Notified<&Self> {
        Notified { notify: self, id: None, done: false }
    }

    pub(crate) fn notify_one(&self) {
        let waker = self.0.lock().unwrap().notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

pub(crate) fn notified_owned(notify: &Arc<Notify>) -> OwnedNotified {
    Notified { notify: Arc::clone(notify), id: None, done: false }
}

pub(crate) type OwnedNotified = Notified<Arc<Notify>>;

pub(crate) struct Notified<N: std::ops::Deref<Target = Notify> + Unpin> {
    notify: N,
    id: Option<u64>,
    done: bool,
}

impl<N: std::ops::Deref<Target = Notify> + Unpin> Notified<N> {
    pub(crate) fn enable(self: Pin<&mut Self>) -> bool {
        let this = self.get_mut();
        if this.id.is_none() && !this.done {
            let mut waiters = this.notify.0.lock().unwrap();
            if waiters.permit {
                waiters.permit = false;
                this.done = true;
            } else {
                let id = waiters.next_id;
                waiters.next_id += 1;
                waiters.queue.push_back(Waiter { id, notified: false, waker: None });
                drop(waiters);
                this.id = Some(id);
            }
        }
        this.done
    }
}

impl<N: std::ops::Deref<Target = Notify> + Unpin> Future for Notified<N> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.as_mut().enable();
        let this = self.get_mut();
        let Some(id) = this.id else { return Poll::Ready(()) };
        let mut waiters = this.notify.0.lock().unwrap();
        let at = waiters.queue.iter().position(|waiter| waiter.id == id).unwrap();
        if waiters.queue[at].notified {
            waiters.queue.remove(at);
            drop(waiters);
            (this.id, this.done) = (None, true);
            return Poll::Ready(());
        }
        waiters.queue[at].waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<N: std::ops::Deref<Target = Notify> + Unpin> Drop for Notified<N> {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let mut waiters = self.notify.0.lock().unwrap();
        let at = waiters.queue.iter().position(|waiter| waiter.id == id).unwrap();
        let gone = waiters.queue.remove(at).unwrap();
        let waker = if gone.notified { waiters.notify_one() } else { None };
        drop(waiters);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
