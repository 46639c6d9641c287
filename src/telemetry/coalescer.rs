//! Coalesces requests for work: one thread at a time does it, without a lock.
//!
//! The counter holds the requests since the work was last idle:
//!
//! ```text
//!        request: 0 -> 1, run            no new request: n -> 0
//!   idle ----------------------> running ----------------------> idle
//!    0                           1, 2, ..
//!                                |      ^
//!                                +------+  request of another thread: n -> n+1, returns at once;
//!                                          the running thread sees it and does the work once more
//! ```
//!
//! Invariant: the work runs at least once after each request, and never on two threads at once. All requests that arrive
//! during one round are covered by the next round.

use crate::sync::{AtomicUsize, Ordering};

/// The number of requests since the work was last idle; 0: no thread runs it.
pub(crate) struct Coalescer(AtomicUsize);

impl Coalescer {
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Returns whether no thread runs the work, so that every request is covered.
    pub(crate) fn is_idle(&self) -> bool {
        // ORDERING: Acquire: pairs with the Release of the exchange in `run`; makes the finished work visible.
        self.0.load(Ordering::Acquire) == 0
    }

    /// Requests one run of `work`: on this thread, or on the thread that runs it already.
    ///
    /// That run starts after this call. `work` may itself call `run`, which returns at once. It must not panic: the
    /// counter would never return to 0.
    pub(crate) fn run(&self, mut work: impl FnMut()) {
        // ORDERING: Acquire: pairs with the Release of the exchange below, by the thread that ran the work before; makes
        // its work visible to this round.
        // Release: pairs with the failed exchange's Acquire in the running thread; makes what this thread did before the
        // request visible to the next round.
        if self.0.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        let mut requests = 1;
        loop {
            work();
            // ORDERING: Release on success: pairs with the Acquire of the next thread's `fetch_add` and of `is_idle`; makes
            // this work visible. Acquire on failure: pairs with the Release of the requests' `fetch_add`; makes what
            // their threads did before visible to the next round.
            match self.0.compare_exchange(requests, 0, Ordering::Release, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => requests = now,
            }
        }
    }
}

#[cfg(all(test, not(turbostream_loom)))]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn nested_request_runs_after_current_round() {
        let (coalescer, rounds, depth) = (Coalescer::new(), Cell::new(0), Cell::new(0));
        coalescer.run(|| {
            depth.set(depth.get() + 1);
            assert_eq!(depth.get(), 1, "one at a time");
            rounds.set(rounds.get() + 1);
            if rounds.get() < 3 {
                coalescer.run(|| panic!("the outer call runs its own work"));
            }
            depth.set(0);
        });
        assert_eq!(rounds.get(), 3);
        coalescer.run(|| rounds.set(10));
        assert_eq!(rounds.get(), 10);
    }
}
