//! `Coalescer`: runs one at a time, and one after each request.

use loom::thread;

use super::explore_within;
use crate::sync::{AccessLog, Arc, AtomicUsize, Ordering};
use crate::telemetry::coalescer::Coalescer;

struct Shared {
    coalescer: Coalescer,
    /// What a run reports.
    done: AtomicUsize,
    /// What was reported. The log checks that only one thread at a time writes it.
    reported: AtomicUsize,
    log: AccessLog,
}

impl Shared {
    fn act(&self) {
        // ORDERING: Relaxed: ordered by the request that follows.
        self.done.fetch_add(1, Ordering::Relaxed);
        self.coalescer.run(|| {
            let done = self.done.load(Ordering::Relaxed);
            self.log.writing(0, || self.reported.store(done, Ordering::Relaxed));
        });
    }
}

/// Each run sees what was done before every request that it serves, and no two runs overlap.
#[test]
fn every_requested_run_sees_prior_writes() {
    explore_within(3, "every_requested_run_sees_prior_writes", || {
        let shared = Arc::new(Shared {
            coalescer: Coalescer::new(),
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
