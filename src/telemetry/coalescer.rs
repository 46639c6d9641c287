//! Work that is done by one thread at a time, without a lock: whoever comes meanwhile has that thread do it once
//! more, and goes on.

use crate::sync::{AtomicUsize, Ordering};

/// How often the work was asked for since whoever does it last began; 0: nobody does it.
pub(crate) struct Coalescer(AtomicUsize);

impl Coalescer {
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Whether everything that was asked for is done.
    pub(crate) fn is_idle(&self) -> bool {
        // ORDERING: Acquire pairs with the Release of whoever did it last.
        self.0.load(Ordering::Acquire) == 0
    }

    /// Has `work` done, all of it after this was called: here, or by the thread that does it already.
    ///
    /// It may itself ask for more, and must not panic.
    pub(crate) fn run(&self, mut work: impl FnMut()) {
        // ORDERING: AcqRel: Acquire takes over from whoever did the work before, Release hands what was to be worked
        // on to whoever does it now.
        if self.0.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        let mut asked = 1;
        loop {
            work();
            // ORDERING: Release hands over to the next; Acquire on failure sees what whoever came meanwhile did before.
            match self.0.compare_exchange(asked, 0, Ordering::Release, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => asked = now,
            }
        }
    }
}

#[cfg(all(test, not(turbostream_loom)))]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn work_that_asks_for_more_is_done_once_more_and_not_within_itself() {
        let (combine, rounds, depth) = (Coalescer::new(), Cell::new(0), Cell::new(0));
        combine.run(|| {
            depth.set(depth.get() + 1);
            assert_eq!(depth.get(), 1, "one at a time");
            rounds.set(rounds.get() + 1);
            if rounds.get() < 3 {
                combine.run(|| panic!("it is done by the one outside"));
            }
            depth.set(0);
        });
        assert_eq!(rounds.get(), 3);
        combine.run(|| rounds.set(10));
        assert_eq!(rounds.get(), 10);
    }
}
