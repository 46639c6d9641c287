//! Whether it is worth to look again for a moment before waiting.

use crate::sync::{AtomicU32, Ordering, spin_limit, spin_loop};

/// After a lull that did not end at once, so many waits go by before one is looked through again; twice as many each
/// time.
const SKIPPED_AT_FIRST: u32 = 4;
const SKIPPED_AT_MOST: u32 = 1024;

/// Remembers whether messages came soon after there was none.
#[derive(Default)]
pub(crate) struct Lull {
    /// Waits that will go by unlooked.
    skip: AtomicU32,
    /// How many that was the last time.
    skipped: AtomicU32,
}

impl Lull {
    /// Looks a few times, for a few microseconds at most, whether something has come; mostly not at all if that was in
    /// vain the last time, and never on one core.
    pub(crate) fn ends(&self, come: impl Fn() -> bool) -> bool {
        if spin_limit() == 0 {
            return false;
        }
        // ORDERING: Relaxed: hints, and no two receivers need the same.
        let skip = self.skip.load(Ordering::Relaxed);
        if skip > 0 {
            self.skip.store(skip - 1, Ordering::Relaxed);
            return false;
        }
        let mut pause = 4;
        while pause <= 2 * spin_limit() {
            for _ in 0..pause {
                spin_loop();
            }
            if come() {
                self.skipped.store(0, Ordering::Relaxed);
                return true;
            }
            // Each look takes the cache line away from who may be writing it.
            pause *= 2;
        }
        let skipped = (2 * self.skipped.load(Ordering::Relaxed)).clamp(SKIPPED_AT_FIRST, SKIPPED_AT_MOST);
        self.skipped.store(skipped, Ordering::Relaxed);
        self.skip.store(skipped, Ordering::Relaxed);
        false
    }
}
