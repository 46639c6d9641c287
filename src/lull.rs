//! Whether it is worth to look again for a moment before waiting.

use crate::spin;
use crate::sync::{AtomicU32, Ordering};

/// After a look that was not worth it, so many waits go by before one is looked through again; twice as many each time.
const SKIPPED_AT_FIRST: u32 = 4;
const SKIPPED_AT_MOST: u32 = 1024;
/// A look is worth it if at least so many messages came. Where they come one by one, each an answer to the last or
/// at their own pace, two cores that look at each other are slower than one that runs both sides in turn.
const WORTH: usize = 2;
/// Turns of a spin before the first look.
const FIRST_PAUSE: usize = 4;

/// Remembers whether several messages came soon after there was none.
#[derive(Default)]
pub(crate) struct Lull {
    /// Waits that will go by unlooked.
    skip: AtomicU32,
    /// How many that was the last time.
    skipped: AtomicU32,
}

impl Lull {
    /// Looks a few times, for a few microseconds at most, whether something has come; mostly not at all if that was not
    /// worth it the last time, and never on one core.
    pub(crate) fn ends(&self, come: impl Fn() -> bool) -> bool {
        if !spin::is_possible() {
            return false;
        }
        // ORDERING: Relaxed: hints, and no two receivers need the same.
        let skip = self.skip.load(Ordering::Relaxed);
        if skip > 0 {
            self.skip.store(skip - 1, Ordering::Relaxed);
            return false;
        }
        let skipped = (2 * self.skipped.load(Ordering::Relaxed)).clamp(SKIPPED_AT_FIRST, SKIPPED_AT_MOST);
        self.skipped.store(skipped, Ordering::Relaxed);
        self.skip.store(skipped, Ordering::Relaxed);
        spin::look_seldom_until(FIRST_PAUSE, come)
    }

    /// So many messages were there when they were taken.
    #[inline]
    pub(crate) fn came(&self, messages: usize) {
        if messages >= WORTH {
            // ORDERING: Relaxed, as above.
            self.skipped.store(0, Ordering::Relaxed);
            self.skip.store(0, Ordering::Relaxed);
        }
    }
}
