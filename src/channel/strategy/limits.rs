//! The limits of a strategy, packed in one word that senders compare with the fill of the segment.
//!
//! ```text
//!  63..60   59..49       48         47..28     27..0
//! ┌───────┬──────────┬────────────┬──────────┬─────────┐
//! │ swaps │ sequence │counts bytes│ messages │  bytes  │
//! └───────┴──────────┴────────────┴──────────┴─────────┘
//! ```
//!
//! - *sequence* (low 11 bits): the segment that the limits belong to.
//! - *swaps*: how often the strategy was swapped, modulo 16. A thread that sets limits exchanges the word, so limits of an
//!   old strategy replace those of a newer one only if a multiple of 16 swaps was made meanwhile.
//! - *counts bytes*: whether the strategy named a limit of bytes.
//! - *messages*, *bytes*: the fill, counted from the start of the segment, at which a sender asks the strategy.

use super::SwitchLimits;
use crate::queue::segment::slot_state::Capacity;

const BYTES_BITS: u32 = 28;
const MESSAGES_SHIFT: u32 = BYTES_BITS;
const COUNTS_BYTES: u64 = 1 << 48;
const SEQUENCE_SHIFT: u32 = 49;
const SWAPS_SHIFT: u32 = 60;
const BYTES_MASK: u64 = (1 << BYTES_BITS) - 1;
const MESSAGES_MASK: u64 = (1 << 20) - 1;
const SEQUENCE_MASK: u64 = (1 << (SWAPS_SHIFT - SEQUENCE_SHIFT)) - 1;
const FILL_MASK: u64 = (1 << SEQUENCE_SHIFT) - 1;
const SWAPS_MASK: u64 = 0b1111 << SWAPS_SHIFT;

/// How full a segment is, up to and including a message that was just written.
pub(crate) struct FillLevel {
    sequence: u64,
    messages: usize,
    bytes: usize,
}

impl FillLevel {
    #[inline(always)]
    pub(crate) fn with(sequence: u64, (messages, bytes): (usize, usize)) -> Self {
        Self { sequence, messages, bytes }
    }
}

/// The fill of the active segment at which the strategy begins to count: the last cut.
#[derive(Clone, Copy, Default)]
pub(crate) struct CutOffset {
    /// Messages before the last cut.
    pub(crate) messages: usize,
    /// Reserved bytes before the cut, minus the payload bytes after it that exceed their reservations.
    ///
    /// An external payload reserves fewer bytes in the segment than it has, and the strategy counts all of them.
    pub(crate) bytes: isize,
}

/// The word itself; see the module.
#[derive(Clone, Copy)]
pub(crate) struct PackedLimits(pub(crate) u64);

impl PackedLimits {
    /// Converts limits that count from `offset` to ones that count from the start of the segment, at most its capacity.
    ///
    /// The sequence and the count of swaps are 0.
    pub(crate) fn after_cut(offset: CutOffset, limits: SwitchLimits, capacity: Capacity) -> Self {
        let messages = offset.messages.saturating_add(limits.messages).min(capacity.messages);
        let bytes = limits.bytes.min(isize::MAX as usize) as isize;
        let bytes = offset.bytes.saturating_add(bytes).clamp(0, capacity.bytes as isize);
        let counts_bytes = if limits.bytes < SwitchLimits::NEVER.bytes { COUNTS_BYTES } else { 0 };
        Self(counts_bytes | (messages as u64) << MESSAGES_SHIFT | bytes as u64)
    }

    /// Returns limits that belong to the segment before the first one, so to none that exists.
    pub(crate) fn before_first(first: u64) -> Self {
        Self((first.wrapping_sub(1) & SEQUENCE_MASK) << SEQUENCE_SHIFT)
    }

    /// Returns these limits for the segment at `sequence`, with the count of swaps of `seen`.
    pub(crate) fn for_segment(self, sequence: u64, seen: Self) -> Self {
        Self(seen.0 & SWAPS_MASK | (sequence & SEQUENCE_MASK) << SEQUENCE_SHIFT | self.0 & FILL_MASK)
    }

    /// Returns limits of 0, which make each message ask, with one more swap counted.
    pub(crate) fn after_swap(self) -> Self {
        Self((self.0 & SWAPS_MASK).wrapping_add(1 << SWAPS_SHIFT))
    }

    /// Returns these limits, with the count of swaps of `other`.
    pub(crate) fn with_swaps_of(self, other: Self) -> Self {
        Self(self.0 & !SWAPS_MASK | other.0 & SWAPS_MASK)
    }

    pub(crate) fn has_swaps_of(self, other: Self) -> bool {
        (self.0 ^ other.0) & SWAPS_MASK == 0
    }

    /// Whether these are the limits of the segment at `sequence`.
    #[inline(always)]
    pub(crate) fn belong_to(self, sequence: u64) -> bool {
        (self.0 >> SEQUENCE_SHIFT ^ sequence) & SEQUENCE_MASK == 0
    }

    /// Whether a sender has to ask the strategy: a limit is reached, or these belong to another segment.
    #[inline(always)]
    pub(crate) fn are_reached(self, fill: FillLevel) -> bool {
        !self.belong_to(fill.sequence)
            || fill.messages as u64 >= self.0 >> MESSAGES_SHIFT & MESSAGES_MASK
            || fill.bytes as u64 >= self.0 & BYTES_MASK
    }

    /// Whether the strategy counts bytes.
    #[inline(always)]
    pub(crate) fn count_bytes(self) -> bool {
        self.0 & COUNTS_BYTES != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_changes_the_count_of_swaps_and_makes_each_message_ask() {
        let mut limits = PackedLimits(!SWAPS_MASK);
        let mut counts = Vec::new();
        for _ in 0..16 {
            let swapped = limits.after_swap();
            assert!(!swapped.has_swaps_of(limits));
            assert_eq!(swapped.0 & !SWAPS_MASK, 0);
            assert!(swapped.are_reached(FillLevel::with(0, (1, 1))));
            counts.push(swapped.0 >> SWAPS_SHIFT);
            limits = PackedLimits(u64::MAX).with_swaps_of(swapped);
            assert!(limits.has_swaps_of(swapped));
            assert_eq!(limits.0 | SWAPS_MASK, u64::MAX);
        }
        assert_eq!(counts, (1..=16).map(|count| count % 16).collect::<Vec<_>>());
    }
}
