//! The ring: one slot per segment sequence, and the sequence that is active.
//!
//! ```text
//!            head               active
//!              ▼                   ▼
//!  ┌───────┬────────┬────────┬────────┬───────┬───────┐
//!  │ Ready │ Sealed │ Sealed │  Open  │ Ready │ Ready │   slot = sequence mod len
//!  └───────┴────────┴────────┴────────┴───────┴───────┘
//!  receivers read from `head`           senders reserve in `active`
//! ```
//!
//! 1. A sender opens the slot that `active` names, and senders reserve in it.
//! 2. A thread seals it. Any thread that finds it sealed advances `active` to the next sequence.
//! 3. A receiver reads it. The thread that finds it read, under the head's lock, retires it: the slot is Ready for the
//!    sequence one lap later.
//!
//! At most one slot is open at any instant, and slots open in sequence: a slot opens only while `active` names it, and
//! `active` advances only from a sealed slot. So the segment in which a sender reserves, however late, is the active
//! one at that instant, and the order of reservations is the order of messages.

use super::segment::slot_state::{AtomicSlotState, SlotState};
use crate::sync::{AtomicU64, CachePadded, OnceLock, Ordering, SAVES_EXCHANGES};

pub(crate) struct SegmentRing {
    /// Made at the first use. There are more slots than segments, so a slot is retired before it is opened again.
    slots: OnceLock<Box<[AtomicSlotState]>>,
    len: usize,
    first: u64,
    /// The sequence that senders reserve in, or open next. Advanced by any thread that finds its slot sealed.
    active: AtomicU64,
    /// The sequence that is read next. Advanced by the thread that has locked the head.
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

    /// Returns the sequence that senders reserve in, or open next.
    #[inline]
    pub(crate) fn active(&self) -> u64 {
        // ORDERING: Acquire: pairs with the Release in `advance`; makes visible that the slot named here was retired
        // from its last lap. `active` names the slot again only after all other slots were opened and sealed. Segments
        // are fewer than slots, so one of these slots reused a segment that was retired from this slot's last lap, or
        // from a later slot. Slots are retired in sequence, so this slot was retired first. Retirement, release, reuse,
        // open and seal each synchronize with the next. Without this a thread could still see the Sealed state of the
        // last lap, which holds no sequence, and advance past a slot that was never opened.
        self.active.load(Ordering::Acquire)
    }

    /// Advances `active` from `sequence`, whose slot is sealed. Has no effect if another thread has done so.
    pub(crate) fn advance(&self, sequence: u64) {
        // ORDERING: Relaxed: as a failed exchange.
        if SAVES_EXCHANGES && self.active.load(Ordering::Relaxed) != sequence {
            return;
        }
        let next = sequence.wrapping_add(1);
        // ORDERING: Release: pairs with the Acquire in `active`; makes visible what this thread acquired with the
        // sealed state. Later exchanges are read-modify-writes and continue the release sequence. Relaxed on failure:
        // another thread has advanced it, and nothing is read.
        let _ = self.active.compare_exchange(sequence, next, Ordering::Release, Ordering::Relaxed);
    }

    /// Retires the slot at `sequence`, which was read: it is Ready for the next lap.
    pub(crate) fn retire(&self, sequence: u64) {
        self.slot(sequence).retire(sequence.wrapping_add(self.len as u64));
        // ORDERING: Relaxed: a hint. Where it matters, the SeqCst fences in `Pool::wake_senders_with` (which
        // `Core::apply_effects` calls after this store) and `Core::consider_switch` (before its load) order it.
        self.head.store(sequence.wrapping_add(1), Ordering::Relaxed);
    }

    /// Returns about which sequence is read next.
    pub(crate) fn head(&self) -> u64 {
        // ORDERING: Relaxed: a hint; see `retire` for the fences.
        self.head.load(Ordering::Relaxed)
    }

    /// Returns about how many sealed segments wait to be read.
    pub(crate) fn backlog(&self) -> u64 {
        // `head` is loaded second and may already be past the loaded `active`: that counts as 0.
        let ahead = self.active().wrapping_sub(self.head());
        (ahead as i64).max(0) as u64
    }
}
