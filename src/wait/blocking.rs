//! Waiting on a thread of one's own, for what is otherwise awaited.

use std::panic::catch_unwind;
use std::pin::pin;
// `Wake` wants the `Arc` of std, also in models.
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
#[cfg(feature = "tracing-writer")]
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Mutex;
#[cfg(feature = "tracing-writer")]
use tokio::task::unconstrained;

use crate::sync::{AtomicBool, Ordering};

/// Blocks this thread until `future` is done; `what` is the method that the caller of the crate called.
///
/// # Panics
///
/// Where tokio's own blocking methods do: on a thread that drives async tasks. Not in `spawn_blocking` or
/// `block_in_place`, and not on a thread that merely holds the guard of `Handle::enter`.
#[track_caller]
pub(crate) fn on<F: Future>(what: &str, future: F) -> F::Output {
    refuse_if_async(what);
    let mut future = pin!(future);
    // What is ready needs nobody to be woken, and no parker.
    if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return output;
    }
    let parker = Arc::new(Parker { thread: thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&parker));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        parker.park();
    }
}

/// Blocks any thread until `future` is done, for which no task of this thread may be needed; nothing once `limit` has
/// passed.
#[cfg(feature = "tracing-writer")]
pub(crate) fn anywhere<F: Future>(limit: Option<Duration>, future: F) -> Option<F::Output> {
    // Tokio would put off the wake of a task that has used up its budget until that task yields, which it cannot.
    let mut future = pin!(unconstrained(future));
    let deadline = limit.map(|limit| Instant::now() + limit);
    let parker = Arc::new(Parker { thread: thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&parker));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            // Whoever waits further out on this stack may have been woken meanwhile: parking can end without reason.
            parker.thread.unpark();
            return Some(output);
        }
        if !parker.park_until(deadline) {
            return None;
        }
    }
}

/// Tokio does not tell whether a thread drives tasks, but its own locks refuse to block it then: a free one is asked.
#[track_caller]
fn refuse_if_async(what: &str) {
    if Handle::try_current().is_ok() && catch_unwind(|| drop(Mutex::new(()).blocking_lock())).is_err() {
        panic!(
            "`{what}` blocks its thread, and this one drives async tasks; await instead, or use `spawn_blocking`"
        );
    }
}

struct Parker {
    thread: Thread,
    /// Beside the token of the thread, which somebody else may have taken meanwhile: polling can run code of the user
    /// that parks too.
    woken: AtomicBool,
}

impl Parker {
    fn park(&self) {
        // ORDERING: Acquire pairs with the Release in `wake_by_ref`: the next poll sees what the wake was about.
        while !self.woken.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }

    /// Parks until there was a wake, or until `deadline`; whether there was a wake.
    #[cfg(feature = "tracing-writer")]
    fn park_until(&self, deadline: Option<Instant>) -> bool {
        let Some(deadline) = deadline else {
            self.park();
            return true;
        };
        // ORDERING: Acquire, as in `park`.
        while !self.woken.swap(false, Ordering::Acquire) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            thread::park_timeout(left);
        }
        true
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // ORDERING: Release, see `park`. That the thread is unparked after it makes sure that it looks again.
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

#[cfg(all(test, not(turbostream_loom)))]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[test]
    fn a_wake_is_not_lost_to_code_that_parks_while_it_is_polled() {
        let mut polls = 0;
        on(
            "a test",
            poll_fn(|cx| {
                polls += 1;
                match polls {
                    1 => return Poll::Pending,
                    2 => {}
                    _ => return Poll::Ready(()),
                }
                cx.waker().wake_by_ref();
                thread::park(); // takes the token
                Poll::Pending
            }),
        );
        assert_eq!(polls, 3);
    }
}
