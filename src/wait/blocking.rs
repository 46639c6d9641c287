//! Blocks a thread until a future completes.

use std::pin::pin;
// `Wake` takes the `Arc` of std, also in models.
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Mutex;
#[cfg(feature = "tracing-writer")]
use tokio::task::unconstrained;

use crate::sync::unwind::catch;
use crate::sync::{AtomicBool, Ordering};

/// Blocks this thread until `future` completes; `what` names the public method, for the panic message.
///
/// # Panics
///
/// Panics where Tokio's own blocking methods do: on a thread that drives async tasks. It does not panic in
/// `spawn_blocking` or `block_in_place`, nor on a thread that only holds the guard of `Handle::enter`.
#[track_caller]
pub(crate) fn block_on<F: Future>(what: &str, future: F) -> F::Output {
    refuse_if_async(what);
    park_until_ready(None, future).expect("there is no deadline")
}

/// [`block_on`] for at most `limit`; returns nothing once that has passed.
#[track_caller]
pub(crate) fn block_on_timeout<F: Future>(what: &str, limit: Duration, future: F) -> Option<F::Output> {
    refuse_if_async(what);
    park_until_ready(Instant::now().checked_add(limit), future)
}

/// Polls `future`, and parks this thread while it is pending; returns nothing once the deadline has passed.
fn park_until_ready<F: Future>(deadline: Option<Instant>, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    // A future that is ready needs no parker.
    if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return Some(output);
    }
    let parker = Arc::new(Parker { thread: thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&parker));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            // This loop may have taken an unpark meant for an outer parker on this stack. A spurious one is harmless.
            parker.thread.unpark();
            return Some(output);
        }
        if !parker.park_until(deadline) {
            return None;
        }
    }
}

/// Blocks any thread until `future` completes; returns nothing once `limit` has passed.
///
/// The future must not depend on a task that only this thread can drive.
#[cfg(feature = "tracing-writer")]
pub(crate) fn block_on_any_thread<F: Future>(limit: Option<Duration>, future: F) -> Option<F::Output> {
    // Without `unconstrained`, Tokio defers the wake of a task without budget until it yields, which this thread cannot.
    park_until_ready(limit.map(|limit| Instant::now() + limit), unconstrained(future))
}

/// Panics on a thread that drives async tasks.
///
/// Tokio has no query for this, but its own locks panic when they block such a thread: a free lock is the probe.
#[track_caller]
fn refuse_if_async(what: &str) {
    if Handle::try_current().is_ok() && catch(|| drop(Mutex::new(()).blocking_lock())).is_err() {
        panic!(
            "`{what}` blocks its thread, and this one drives async tasks; await instead, or use `spawn_blocking`"
        );
    }
}

/// Parks one thread until its waker is called.
struct Parker {
    thread: Thread,
    /// Set by a wake. The token of the thread is not enough: polling can run user code that parks, and takes it.
    woken: AtomicBool,
}

impl Parker {
    fn park(&self) {
        // ORDERING: Acquire: pairs with the Release in `wake_by_ref`; makes the change that caused the wake visible.
        while !self.woken.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }

    /// Parks until a wake or `deadline`; returns whether there was a wake.
    fn park_until(&self, deadline: Option<Instant>) -> bool {
        let Some(deadline) = deadline else {
            self.park();
            return true;
        };
        // ORDERING: Acquire: see `park`.
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
        // ORDERING: Release: pairs with the Acquire in `park`. The unpark follows, so the thread reads the flag again.
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

#[cfg(all(test, not(turbostream_loom)))]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[test]
    fn wake_survives_user_code_that_parks_during_poll() {
        let mut polls = 0;
        block_on(
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
