//! Reports: one at a time, and none is left out.

use loom::thread;

use super::explore_within;
use crate::sync::{AccessLog, Arc, AtomicUsize, Ordering};
use crate::telemetry::coalescer::Coalescer;

struct Shared {
    combine: Coalescer,
    /// What is reported on.
    done: AtomicUsize,
    /// What was reported; written by whoever reports, which the log checks to be one at a time.
    reported: AtomicUsize,
    log: AccessLog,
}

impl Shared {
    fn act(&self) {
        // ORDERING: Relaxed: what is asked for orders it.
        self.done.fetch_add(1, Ordering::Relaxed);
        self.combine.run(|| {
            let done = self.done.load(Ordering::Relaxed);
            self.log.writing(0, || self.reported.store(done, Ordering::Relaxed));
        });
    }
}

/// Whoever reports sees what was done before any report that was asked for, and nobody reports beside it.
#[test]
fn every_requested_run_sees_prior_writes() {
    explore_within(3, "every_requested_run_sees_prior_writes", || {
        let shared = Arc::new(Shared {
            combine: Coalescer::new(),
            done: AtomicUsize::new(0),
            reported: AtomicUsize::new(0),
            log: AccessLog::for_messages(1),
        });
        let other = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.act()
        });
        shared.act();
        other.join().unwrap();
        assert_eq!(shared.reported.load(Ordering::Relaxed), 2);
    });
}
