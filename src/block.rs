//! Waiting on a plain thread.

use std::panic::catch_unwind;
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use tokio::runtime::Handle;

use crate::sync::{AtomicBool, Ordering};

/// Wakes a thread that is parked.
struct Parked {
    thread: Thread,
    /// Beside the thread's own token, which code that runs in a poll may have taken for itself.
    woken: AtomicBool,
}

impl Wake for Parked {
    fn wake(self: std::sync::Arc<Self>) {
        // ORDERING: Release pairs with the Acquire in `on`: what was done before the wake is seen by the next poll.
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Waits for `future` on this thread, which may be one for blocking work; `what` names the caller.
///
/// Panics on a thread that runs asynchronous tasks: all of them would wait too.
#[track_caller]
pub(crate) fn on<F: Future>(what: &str, future: F) -> F::Output {
    // Nothing but Tokio knows whether the thread only knows a runtime, or runs it.
    if Handle::try_current().is_ok()
        && catch_unwind(|| drop(tokio::sync::Mutex::new(()).blocking_lock())).is_err()
    {
        panic!(
            "`{what}` would block a thread that runs asynchronous tasks: await there, or use `spawn_blocking`"
        );
    }
    let mut future = pin!(future);
    // Mostly there is nothing to wait for, and no need of a waker.
    if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return output;
    }
    let parked = std::sync::Arc::new(Parked { thread: thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(std::sync::Arc::clone(&parked));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        // ORDERING: Acquire pairs with the Release in `wake`.
        while !parked.woken.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
}
