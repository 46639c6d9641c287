//! From what fill of a segment on writers ask the strategy: the word that they compare with what they have filled.
//!
//! ```text
//!  63..60   59..49       48         47..28     27..0
//! ┌───────┬──────────┬────────────┬──────────┬─────────┐
//! │ swaps │ sequence │counts bytes│ messages │  bytes  │
//! └───────┴──────────┴────────────┴──────────┴─────────┘
//! ```
//!
//! They hold for the segment whose sequence (low 11 bits) they bear. *Swaps* counts how often the strategy was swapped, so
//! that what an old strategy said does not take the slot of what a newer one says.

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

/// How full the segment at a sequence is with a message that was just written.
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

/// What an active segment is filled to where a strategy begins to count.
#[derive(Clone, Copy, Default)]
pub(crate) struct CutOffset {
    /// Messages before the last cut.
    pub(crate) messages: usize,
    /// Reserved bytes before it, less what the messages behind it have more bytes than they reserved: a payload that
    /// travels by reference takes less room in the segment than it has bytes.
    pub(crate) bytes: isize,
}

#[derive(Clone, Copy)]
pub(crate) struct PackedLimits(pub(crate) u64);

impl PackedLimits {
    /// Of what comes on top of `base`, as far as a segment goes; of the first sequence and before the first swap.
    pub(crate) fn on_top_of(base: CutOffset, limits: SwitchLimits, capacity: Capacity) -> Self {
        let messages = base.messages.saturating_add(limits.messages).min(capacity.messages);
        let bytes = limits.bytes.min(isize::MAX as usize) as isize;
        let bytes = base.bytes.saturating_add(bytes).clamp(0, capacity.bytes as isize);
        let counts_bytes = if limits.bytes < SwitchLimits::NEVER.bytes { COUNTS_BYTES } else { 0 };
        Self(counts_bytes | (messages as u64) << MESSAGES_SHIFT | bytes as u64)
    }

    /// Of no segment that there will be soon, where the first is the one at that sequence.
    pub(crate) fn before(first: u64) -> Self {
        Self((first.wrapping_sub(1) & SEQUENCE_MASK) << SEQUENCE_SHIFT)
    }

    /// These for the segment at `sequence`, after as many swaps as `seen`.
    pub(crate) fn of(self, sequence: u64, seen: Self) -> Self {
        Self(seen.0 & SWAPS_MASK | (sequence & SEQUENCE_MASK) << SEQUENCE_SHIFT | self.0 & FILL_MASK)
    }

    /// That each message asks, after one swap more.
    pub(crate) fn swapped(self) -> Self {
        Self((self.0 & SWAPS_MASK).wrapping_add(1 << SWAPS_SHIFT))
    }

    /// These, after as many swaps as `other`.
    pub(crate) fn with_swaps_of(self, other: Self) -> Self {
        Self(self.0 & !SWAPS_MASK | other.0 & SWAPS_MASK)
    }

    pub(crate) fn has_swaps_of(self, other: Self) -> bool {
        (self.0 ^ other.0) & SWAPS_MASK == 0
    }

    #[inline(always)]
    pub(crate) fn are_of(self, sequence: u64) -> bool {
        (self.0 >> SEQUENCE_SHIFT ^ sequence) & SEQUENCE_MASK == 0
    }

    /// Whether the strategy is to be asked, or these are of another segment.
    #[inline(always)]
    pub(crate) fn are_reached(self, fill: FillLevel) -> bool {
        !self.are_of(fill.sequence)
            || fill.messages as u64 >= self.0 >> MESSAGES_SHIFT & MESSAGES_MASK
            || fill.bytes as u64 >= self.0 & BYTES_MASK
    }

    #[inline(always)]
    pub(crate) fn count_bytes(self) -> bool {
        self.0 & COUNTS_BYTES != 0
    }
}
