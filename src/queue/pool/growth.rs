//! The small segments of a channel: each has its own capacity, twice that of the one before, and is used in this order.
//!
//! A small segment is never pooled. It is freed when its last reference is released, as a larger one is due by then.

use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// See the module.
pub(super) struct Growth {
    /// How many small segments there are. Their numbers are the first ones.
    small: usize,
    /// The next one. A hint: a number that is not vacant is skipped.
    next: AtomicUsize,
    /// Those without memory, one bit each.
    vacant: AtomicU64,
}

impl Growth {
    pub(super) fn new(small: usize) -> Self {
        Self { small, next: AtomicUsize::new(0), vacant: AtomicU64::new((1 << small) - 1) }
    }

    /// Whether the next segment is a small one.
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        // ORDERING: Relaxed: a hint.
        self.next.load(Ordering::Relaxed) < self.small
    }

    /// Takes the next small number that is vacant and `holds` a message.
    pub(super) fn take(&self, holds: impl Fn(usize) -> bool) -> Option<usize> {
        // ORDERING: Relaxed: a hint.
        let next = self.next.load(Ordering::Relaxed);
        let number = (next..self.small).find(|&number| holds(number) && self.take_vacant(number))?;
        // ORDERING: Relaxed: a hint. A thread that stores a lower number later only has vacant numbers tried again.
        self.next.store(number + 1, Ordering::Relaxed);
        Some(number)
    }

    fn take_vacant(&self, number: usize) -> bool {
        // ORDERING: Acquire: pairs with the Release in `put`; makes visible what was done to the segment before. Exchanges
        // on other bits in between continue the release sequence.
        self.vacant.fetch_and(!(1 << number), Ordering::Acquire) & (1 << number) != 0
    }

    /// Puts back a number whose segment has no memory.
    pub(super) fn put(&self, number: usize) {
        // ORDERING: Release: pairs with the Acquire in `take_vacant`; makes the freed memory and the reference count of 0
        // visible.
        let before = self.vacant.fetch_or(1 << number, Ordering::Release);
        debug_assert!(before & (1 << number) == 0, "put back twice");
    }

    /// Begins with the smallest again.
    pub(super) fn restart(&self) {
        // ORDERING: Relaxed: a hint.
        self.next.store(0, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(turbostream_loom)))]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_in_order_until_a_restart() {
        let growth = Growth::new(4);
        assert_eq!(growth.take(|_| true), Some(0));
        assert_eq!(
            growth.take(|number| number >= 2),
            Some(2),
            "a long message skips those that do not hold it"
        );
        growth.put(0);
        assert_eq!((growth.take(|_| true), growth.take(|_| true), growth.is_due()), (Some(3), None, false));
        growth.restart();
        growth.put(3);
        assert_eq!((growth.take(|_| true), growth.take(|_| true)), (Some(0), Some(1)));
        assert_eq!(growth.take(|_| true), Some(3), "another one is in use");
        assert!(!Growth::new(0).is_due());
    }
}
