//! The order of segments: a ring of slots indexed by sequence, and the one that is active.
//!
//! At most one slot is open at any instant, and slots open in sequence: a slot opens only when `active`
//! names it, and `active` moves on only from a sealed slot. Whichever segment a writer reserves in, late or
//! not, is therefore the active one at that instant, and the order of reservations is the order of messages.

use super::segment::slot_state::{AtomicSlotState, SlotState};
use crate::sync::{AtomicU64, CachePadded, OnceLock, Ordering};

pub(crate) struct SegmentRing {
    /// Made by the first use. At least one more than there can be segments, so a slot is retired before its next lap.
    slots: OnceLock<Box<[AtomicSlotState]>>,
    len: usize,
    first: u64,
    /// The sequence being written, or next to be opened. Moved by whoever finds its slot sealed.
    active: AtomicU64,
    /// The sequence that is read next. Moved by the receiver whose turn it is.
    head: CachePadded<AtomicU64>,
}

impl SegmentRing {
    pub(crate) fn new(segments: usize, first: u64) -> Self {
        let len = (segments + 1).next_power_of_two();
        Self {
            slots: OnceLock::new(),
            len,
            first,
            active: AtomicU64::new(first),
            head: CachePadded(AtomicU64::new(first)),
        }
    }

    #[inline]
    fn slots(&self) -> &[AtomicSlotState] {
        match self.slots.get() {
            Some(slots) => slots,
            None => self.make_slots(),
        }
    }

    #[cold]
    fn make_slots(&self) -> &[AtomicSlotState] {
        self.slots.get_or_init(|| {
            let lap = |at: usize| at.wrapping_sub(self.first as usize) & (self.len - 1);
            let sequence = |at| self.first.wrapping_add(lap(at) as u64);
            (0..self.len).map(|at| AtomicSlotState::new(SlotState::ready(sequence(at)))).collect()
        })
    }

    #[inline]
    pub(crate) fn slot(&self, sequence: u64) -> &AtomicSlotState {
        let slots = self.slots();
        &slots[sequence as usize & (slots.len() - 1)]
    }

    /// The sequence being written, or next to be opened.
    #[inline]
    pub(crate) fn active(&self) -> u64 {
        // ORDERING: Acquire pairs with the Release in `advance`: the slot named is seen retired from its last lap,
        // as fewer segments than slots exist, one was reused since, and slots are retired in their order. A sealed
        // word bears no sequence: who still saw the one of the last lap would move on past a slot that was never
        // opened.
        self.active.load(Ordering::Acquire)
    }

    /// Moves on from `sequence`, whose slot is sealed. Whoever comes second changes nothing.
    pub(crate) fn advance(&self, sequence: u64) {
        let next = sequence.wrapping_add(1);
        // ORDERING: Release: see `active`; the exchanges after it continue its release sequence. Failure needs nothing:
        // somebody else has moved on.
        let _ = self.active.compare_exchange(sequence, next, Ordering::Release, Ordering::Relaxed);
    }

    /// `sequence` was read: its slot is ready for the next lap.
    pub(crate) fn retire(&self, sequence: u64) {
        self.slot(sequence).retire(sequence.wrapping_add(self.len as u64));
        // ORDERING: Relaxed: a hint; `Core::consider_switch` and `Core::apply_effects` have the fences it needs.
        self.head.store(sequence.wrapping_add(1), Ordering::Relaxed);
    }

    /// The sequence that is read next, about.
    pub(crate) fn head(&self) -> u64 {
        // ORDERING: Relaxed: see `retire`.
        self.head.load(Ordering::Relaxed)
    }

    /// How many sealed segments wait to be read, about.
    pub(crate) fn backlog(&self) -> u64 {
        // By the time it is read, the head may have passed what was active.
        let ahead = self.active().wrapping_sub(self.head());
        (ahead as i64).max(0) as u64
    }
}
