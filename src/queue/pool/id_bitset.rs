//! A set of segment numbers, one bit each, shared by all threads.
//!
//! Numbers are taken in rotation, so the number that was put in first is taken about first. Each bit changes by one
//! atomic operation and depends on no other: a thread that stops between two operations blocks no other thread, and
//! there is no link that could be stale (no ABA).

use std::ops::Range;

use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// See the module.
pub(super) struct IdBitset {
    words: Box<[AtomicU64]>,
    /// The number at which the next search starts. A hint.
    next: AtomicUsize,
}

impl IdBitset {
    /// Creates a set of these numbers, for all numbers up to their end.
    pub(super) fn new(numbers: Range<usize>) -> Self {
        let below = |end: usize, word: usize| match end.saturating_sub(word * 64) {
            64.. => u64::MAX,
            remaining => (1 << remaining) - 1,
        };
        let bits = |word| below(numbers.end, word) & !below(numbers.start, word);
        let words = (0..numbers.end.div_ceil(64)).map(|word| AtomicU64::new(bits(word))).collect();
        Self { words, next: AtomicUsize::new(0) }
    }

    /// Removes a number, if one is found. A number that is put in meanwhile may be missed.
    pub(super) fn take(&self) -> Option<usize> {
        // ORDERING: Relaxed: a hint.
        let start = self.next.load(Ordering::Relaxed);
        let from_start = u64::MAX << (start % 64);
        (0..=self.words.len()).find_map(|step| {
            let word = (start / 64 + step) % self.words.len();
            let searched = match step {
                0 => from_start,
                _ if step == self.words.len() => !from_start,
                _ => u64::MAX,
            };
            self.take_from(word, searched)
        })
    }

    fn take_from(&self, word: usize, searched: u64) -> Option<usize> {
        // ORDERING: Relaxed: a guess; the fetch_and below decides.
        let mut seen = self.words[word].load(Ordering::Relaxed);
        while seen & searched != 0 {
            let at = (seen & searched).trailing_zeros() as usize;
            // ORDERING: Acquire: pairs with the Release in `put`; makes visible what was done to the segment before.
            // Exchanges on other bits of the word in between continue the release sequence.
            seen = self.words[word].fetch_and(!(1 << at), Ordering::Acquire);
            if seen & (1 << at) != 0 {
                let number = word * 64 + at;
                // ORDERING: Relaxed: a hint.
                self.next.store((number + 1) % (self.words.len() * 64), Ordering::Relaxed);
                return Some(number);
            }
        }
        None
    }

    /// Inserts a number that is not in the set.
    pub(super) fn put(&self, number: usize) {
        // ORDERING: Release: pairs with the Acquire in `take_from`; makes visible what this thread did to the segment:
        // its memory that was allocated or freed, and its reference count of 0.
        let before = self.words[number / 64].fetch_or(1 << (number % 64), Ordering::Release);
        debug_assert!(before & (1 << (number % 64)) == 0, "put in twice");
    }
}

#[cfg(all(test, not(turbostream_loom)))]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_in_rotation_and_each_once() {
        for count in [1, 2, 63, 64, 65, 200] {
            let set = IdBitset::new(0..count);
            assert_eq!(
                (0..count).map(|_| set.take()).collect::<Option<Vec<_>>>(),
                Some((0..count).collect())
            );
            assert_eq!(set.take(), None);
            // The rotation continues, in whatever order the numbers are put back.
            (0..count).rev().for_each(|number| set.put(number));
            let first = set.take().unwrap();
            set.put(first);
            let remaining: Vec<_> = std::iter::from_fn(|| set.take()).collect();
            assert_eq!((remaining.len(), remaining.last()), (count, Some(&first)));
        }
        assert_eq!(IdBitset::new(70..70).take(), None);
        let set = IdBitset::new(66..70);
        assert_eq!((0..5).map_while(|_| set.take()).collect::<Vec<_>>(), [66, 67, 68, 69]);
    }
}
