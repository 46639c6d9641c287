//! A stand-in for Tokio's `Notify` that checkers can observe.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::{Arc, Mutex};

/// The part of `tokio::sync::Notify` that this crate uses, as documented by Tokio.
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

impl Default for Notify {
    fn default() -> Self {
        Self::new()
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
        self.get_mut().register(None)
    }

    /// Takes the permit or joins the queue, under one lock; returns whether it has taken the permit, now or earlier.
    fn register(&mut self, waker: Option<Waker>) -> bool {
        if self.id.is_none() && !self.done {
            let mut waiters = self.notify.0.lock().unwrap();
            if waiters.permit {
                waiters.permit = false;
                self.done = true;
            } else {
                let id = waiters.next_id;
                waiters.next_id += 1;
                waiters.queue.push_back(Waiter { id, notified: false, waker });
                drop(waiters);
                self.id = Some(id);
            }
        }
        self.done
    }
}

impl<N: std::ops::Deref<Target = Notify> + Unpin> Future for Notified<N> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let Some(id) = this.id else {
            return if this.register(Some(cx.waker().clone())) { Poll::Ready(()) } else { Poll::Pending };
        };
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
