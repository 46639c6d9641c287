//! The packed word of one ring slot: its phase, its segment, and what is reserved there.
//!
//! ```text
//!  63 62   61     60..48    47..28     27..0
//! ┌─────┬──────┬─────────┬──────────┬─────────┐
//! │phase│WAITER│ segment │ messages │  bytes  │   Open, Sealed, Closed
//! ├─────┼──────┼─────────┴──────────┴─────────┤
//! │phase│WAITER│     sequence (low 61 bits)   │   Ready
//! └─────┴──────┴──────────────────────────────┘
//!
//!            open (a sender)                seal (any thread)
//!   Ready ───────────────────▶ Open ────────────────────────▶ Sealed
//!    ▲ │                       │ ▲ │                             │
//!    │ │                       │ └─┘ reserve, cut, set_waiter    │
//!    │ └───── close ──▶ Closed                                   │
//!    └────────────── retire (under the head's lock), a lap later ┘
//! ```
//!
//! | phase | sender | sealing thread | thread that holds the head's lock | transitions |
//! |---|---|---|---|---|
//! | Ready: no segment yet | if `active` names it, opens it with a segment from the pool, and its own first entry reserved | nothing to seal | sets WAITER if receivers may cut, and sleeps | open → Open, close → Closed |
//! | Open: senders reserve in it | reserves: messages + 1, bytes + len; clears WAITER; if it was set, notifies receivers after its commit | seals it if its condition holds | if receivers may cut: cuts, which sets WAITER, and reads all that is reserved; or sets WAITER and sleeps if nothing is new. Otherwise sleeps | seal → Sealed |
//! | Sealed: messages and bytes are final | advances `active` | nothing to seal | reads it | retire → Ready, one lap later |
//! | Closed: the end of the ring | is refused | nothing to seal | reports the end of the channel | none |
//!
//! The thread that holds the head's lock is a receiver, a sender that retires segments or drops messages, or the
//! background task. If receivers may not cut (`on_demand` is off), a receiver sleeps without WAITER in the slot, and the
//! thread that seals the slot wakes it.
//!
//! Every transition is one read-modify-write of this word; only `retire` is a store, as no other thread changes a
//! sealed word. A reservation checks and reserves in one step, so nothing is ever reserved over the capacity, and a
//! failed reservation leaves no trace. WAITER needs no fence of its own: a receiver sets it, and the next reservation
//! clears it, in the word that counts the messages. The one exception is a WAITER that a cut has set before, see
//! [`AtomicSlotState::set_waiter`].

use crate::sync::{AtomicU64, Ordering};
use crate::wait::spin::back_off;

const BYTES_BITS: u32 = 28;
const MESSAGES_BITS: u32 = 20;
const SEGMENT_BITS: u32 = 13;

const MESSAGES_SHIFT: u32 = BYTES_BITS;
const SEGMENT_SHIFT: u32 = MESSAGES_SHIFT + MESSAGES_BITS;
/// Asks the next sender to notify receivers after its commit.
///
/// Set by a cut, by a receiver that goes to sleep, and for waiting receivers after the last readable message was taken.
/// A cut sets it even if no receiver waits: [`SlotState::is_fully_consumed`] relies on that.
const WAITER: u64 = 1 << (SEGMENT_SHIFT + SEGMENT_BITS);
const PHASE_SHIFT: u32 = SEGMENT_SHIFT + SEGMENT_BITS + 1;
const PHASE_MASK: u64 = 0b11 << PHASE_SHIFT;

const READY: u64 = 0b00 << PHASE_SHIFT;
const OPEN: u64 = 0b01 << PHASE_SHIFT;
const SEALED: u64 = 0b10 << PHASE_SHIFT;
const CLOSED: u64 = 0b11 << PHASE_SHIFT;

const BYTES_MASK: u64 = (1 << BYTES_BITS) - 1;
const MESSAGES_MASK: u64 = (1 << MESSAGES_BITS) - 1;
const SEGMENT_MASK: u64 = (1 << SEGMENT_BITS) - 1;
const SEQUENCE_MASK: u64 = WAITER - 1;

/// The most messages a segment can hold.
pub(crate) const MAX_MESSAGES: usize = MESSAGES_MASK as usize;
/// The fewest payload bytes a segment can hold.
pub(crate) const MIN_BYTES: usize = 64;
/// The most payload bytes a segment can hold.
pub(crate) const MAX_BYTES: usize = 64 << 20;
/// The most segments a channel can have; the last number stands for "none".
pub(crate) const MAX_SEGMENTS: usize = SEGMENT_MASK as usize;

const NO_SEGMENT: u64 = SEGMENT_MASK;

// The fields fill the word, and no count exceeds its field.
const _: () = {
    assert!(PHASE_SHIFT + 2 == u64::BITS);
    assert!(MAX_BYTES as u64 <= BYTES_MASK);
};

/// The phase of a ring slot: a row of the table above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Ready,
    Open,
    Sealed,
    Closed,
}

/// A value of the word, as it was at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotState(u64);

impl SlotState {
    pub(crate) const fn ready(sequence: u64) -> Self {
        Self(READY | (sequence & SEQUENCE_MASK))
    }

    #[inline]
    pub(crate) fn phase(self) -> Phase {
        match self.0 & PHASE_MASK {
            READY => Phase::Ready,
            OPEN => Phase::Open,
            SEALED => Phase::Sealed,
            _ => Phase::Closed,
        }
    }

    #[inline]
    pub(crate) fn is_open(self) -> bool {
        self.0 & PHASE_MASK == OPEN
    }

    pub(crate) fn is_ready_for(self, sequence: u64) -> bool {
        self.0 & PHASE_MASK == READY && self.0 & SEQUENCE_MASK == sequence & SEQUENCE_MASK
    }

    #[inline]
    pub(crate) fn has_waiter(self) -> bool {
        self.0 & WAITER != 0
    }

    /// Whether receivers have cut every message reserved so far.
    ///
    /// A cut sets WAITER, and the next reservation clears it.
    #[inline]
    pub(crate) fn is_fully_consumed(self) -> bool {
        self.has_waiter()
    }

    /// Returns how many messages are reserved; meaningless for Ready.
    #[inline]
    pub(crate) fn messages(self) -> usize {
        ((self.0 >> MESSAGES_SHIFT) & MESSAGES_MASK) as usize
    }

    /// Returns how many messages are reserved; 0 in a phase without messages.
    pub(crate) fn reserved_messages(self) -> usize {
        if matches!(self.phase(), Phase::Open | Phase::Sealed) { self.messages() } else { 0 }
    }

    /// Returns how many payload bytes are reserved; meaningless for Ready.
    #[inline]
    pub(crate) fn bytes(self) -> usize {
        (self.0 & BYTES_MASK) as usize
    }

    /// Whether another message of `len` bytes fits; meaningless for Ready.
    #[inline]
    pub(crate) fn has_room(self, len: usize, capacities: &Capacities) -> bool {
        let capacity = capacities.of(self.segment_number());
        self.messages() < capacity.messages && len <= capacity.bytes - self.bytes()
    }

    /// Returns how much more an open segment holds; nothing in another phase.
    pub(crate) fn room(self, capacities: &Capacities) -> Capacity {
        if !self.is_open() {
            return Capacity { messages: 0, bytes: 0 };
        }
        let capacity = capacities.of(self.segment_number());
        Capacity { messages: capacity.messages - self.messages(), bytes: capacity.bytes - self.bytes() }
    }

    /// Returns the number of the segment, if there is one; meaningless for Ready.
    #[inline]
    pub(crate) fn segment(self) -> Option<usize> {
        let number = self.segment_number();
        (number as u64 != NO_SEGMENT).then_some(number)
    }

    #[inline]
    fn segment_number(self) -> usize {
        ((self.0 >> SEGMENT_SHIFT) & SEGMENT_MASK) as usize
    }

    fn opened(self, segment: usize) -> Self {
        Self(OPEN | (self.0 & WAITER) | (segment as u64) << SEGMENT_SHIFT)
    }

    /// Adds one message of `len` bytes and clears WAITER. The caller reads WAITER from `self`.
    #[inline]
    fn reserved(self, len: usize) -> Self {
        Self((self.0 & !WAITER) + (1 << MESSAGES_SHIFT) + len as u64)
    }

    /// Adds `messages` messages with `len` bytes in total, and clears WAITER.
    fn reserved_range(self, messages: usize, len: usize) -> Self {
        Self((self.0 & !WAITER) + ((messages as u64) << MESSAGES_SHIFT) + len as u64)
    }

    fn with_waiter(self) -> Self {
        Self(self.0 | WAITER)
    }

    fn sealed(self) -> Self {
        Self(self.0 & !PHASE_MASK | SEALED)
    }

    const fn closed() -> Self {
        Self(CLOSED | (NO_SEGMENT << SEGMENT_SHIFT))
    }
}

/// The most messages and payload bytes that one segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// The capacity of a channel's first segment, if its segments grow. The checkers see a channel grow from one message.
const FIRST: Capacity = match cfg!(any(turbostream_loom, turbostream_shuttle)) {
    true => Capacity { messages: 1, bytes: MIN_BYTES },
    false => Capacity { messages: 64, bytes: 4 << 10 },
};

/// The capacity of each segment of a channel, by its number.
///
/// The first numbers belong to small segments, each twice as large as the one before; all others have the full capacity.
/// The capacity of a number never changes. So a sender that has seen a number in the word of a ring slot knows the
/// capacity without a load, however long ago it saw the word: if the word is still the same, or the same again one lap
/// later, so is the capacity.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacities {
    full: Capacity,
    small: usize,
}

impl Capacities {
    /// All segments have the full capacity.
    pub(crate) fn equal(full: Capacity) -> Self {
        Self { full, small: 0 }
    }

    /// Segments grow from [`FIRST`] to the full capacity, by at most `steps` small segments.
    pub(crate) fn growing(full: Capacity, steps: usize) -> Self {
        let unbounded = Self { full, small: steps };
        let small = (0..steps).find(|&number| unbounded.of(number) == full).unwrap_or(steps);
        Self { full, small }
    }

    /// Returns how many of the first numbers belong to small segments.
    #[inline(always)]
    pub(crate) fn small(&self) -> usize {
        self.small
    }

    pub(crate) fn full(&self) -> Capacity {
        self.full
    }

    #[inline(always)]
    pub(crate) fn of(&self, number: usize) -> Capacity {
        if number >= self.small { self.full } else { self.of_small(number) }
    }

    #[cold]
    #[inline(never)]
    fn of_small(&self, number: usize) -> Capacity {
        Capacity {
            messages: self.full.messages.min(FIRST.messages << number),
            bytes: self.full.bytes.min(FIRST.bytes << number),
        }
    }
}

/// Why nothing was reserved.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotReserved {
    /// The ring slot is Open, without room for this message.
    NoRoom,
    /// The ring slot is Ready, Sealed or Closed.
    NotOpen(SlotState),
}

/// A reserved entry: one message's position in a segment, which this value owns until the commit.
///
/// Only [`AtomicSlotState::reserve`], [`AtomicSlotState::open`] and [`EntryRange::into_entries`] make one: once per
/// successful compare-exchange, and once per message of a range. It is two words, so it travels in registers.
#[derive(Debug)]
pub(crate) struct EntrySlot {
    /// The state before the reservation: the segment, and what precedes this entry.
    before: SlotState,
    len: usize,
}

impl EntrySlot {
    #[inline(always)]
    pub(crate) fn segment(&self) -> usize {
        self.before.segment_number()
    }

    /// Returns how many messages of the segment precede this one.
    #[inline(always)]
    pub(crate) fn index(&self) -> usize {
        self.before.messages()
    }

    #[inline(always)]
    pub(crate) fn offset(&self) -> usize {
        self.before.bytes()
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether the reservation cleared WAITER: a receiver may sleep until this message is committed.
    #[inline(always)]
    pub(crate) fn has_waiter(&self) -> bool {
        self.before.has_waiter()
    }

    /// Returns the messages and bytes of the segment up to and including this one.
    #[inline(always)]
    pub(crate) fn filled(&self) -> (usize, usize) {
        (self.index() + 1, self.offset() + self.len)
    }
}

/// Adjacent entries of one reservation, which this value owns until the commit.
#[derive(Debug)]
pub(crate) struct EntryRange<'a> {
    /// The first entry, with the length of the whole range.
    whole: EntrySlot,
    /// The end of each message, relative to the start of the range.
    ends: &'a [usize],
}

impl EntryRange<'_> {
    pub(crate) fn segment(&self) -> usize {
        self.whole.segment()
    }

    pub(crate) fn messages(&self) -> usize {
        self.ends.len()
    }

    /// Whether the reservation cleared WAITER: a receiver may sleep until the first message is committed.
    pub(crate) fn has_waiter(&self) -> bool {
        self.whole.has_waiter()
    }

    /// Returns the index and the offset of the first message.
    pub(crate) fn start(&self) -> (usize, usize) {
        (self.whole.index(), self.whole.offset())
    }

    /// Returns the messages and bytes of the segment up to and including the last one.
    pub(crate) fn filled(&self) -> (usize, usize) {
        (self.whole.index() + self.ends.len(), self.whole.offset() + self.whole.len)
    }

    /// Splits the range into its entries, in order.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = EntrySlot> {
        let Self { whole: EntrySlot { before, .. }, ends } = self;
        ends.iter().enumerate().scan(0, move |start, (at, &end)| {
            let entry = EntrySlot { before: before.reserved_range(at, *start), len: end - *start };
            *start = end;
            Some(entry)
        })
    }
}

/// The word of one ring slot. The module documents which thread may make which transition.
#[derive(Debug)]
pub(crate) struct AtomicSlotState(AtomicU64);

impl AtomicSlotState {
    pub(crate) fn new(state: SlotState) -> Self {
        Self(AtomicU64::new(state.0))
    }

    /// Loads the state, with everything visible that preceded its last `open`, `seal`, `close` or `retire`.
    #[inline]
    pub(crate) fn load(&self) -> SlotState {
        // ORDERING: Acquire: pairs with the Release in `open`, `seal`, `close` and `retire`; makes visible the segment
        // that was prepared for `open`, what preceded the seal or the close, and after `retire` that `active` has
        // advanced. It also pairs with the Release fence in `Core::note_in_place`, which precedes a reservation; makes
        // the `in_place` flag visible.
        SlotState(self.0.load(Ordering::Acquire))
    }

    /// Reserves the next entry for a message of `len` bytes.
    #[inline(always)]
    pub(crate) fn reserve(&self, len: usize, capacities: &Capacities) -> Result<EntrySlot, NotReserved> {
        // ORDERING: Relaxed: a guess; the compare-exchange below decides.
        let mut seen = SlotState(self.0.load(Ordering::Relaxed));
        loop {
            if !seen.is_open() {
                return Err(NotReserved::NotOpen(self.load()));
            }
            if !seen.has_room(len, capacities) {
                return Err(NotReserved::NoRoom);
            }
            // ORDERING: Acquire: pairs with the Release in `open`; makes the segment's memory and its cleared index
            // visible. All changes since then are read-modify-writes, which continue the release sequence of `open`.
            // It also pairs with the Release in `set_waiter` (the receiver's registration), `cut` (what was recorded
            // for the cut) and `fence_rmw` (the strategy). No Release: nothing of this thread is published through
            // this word; the commit publishes the message. Relaxed on failure: the loop starts again with a guess.
            let exchanged = self.0.compare_exchange_weak(
                seen.0,
                seen.reserved(len).0,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            if exchanged.is_ok() {
                return Ok(EntrySlot { before: seen, len });
            }
            back_off();
            // ORDERING: Relaxed: a guess, as above.
            seen = SlotState(self.0.load(Ordering::Relaxed));
        }
    }

    /// Reserves entries for as many messages as fit, in one step.
    ///
    /// `ends` holds the end of each message, relative to the start of the first.
    pub(crate) fn reserve_range<'a>(
        &self,
        ends: &'a [usize],
        capacities: &Capacities,
    ) -> Result<EntryRange<'a>, NotReserved> {
        // ORDERING: Relaxed: a guess; the compare-exchange below decides.
        let mut seen = SlotState(self.0.load(Ordering::Relaxed));
        loop {
            if !seen.is_open() {
                return Err(NotReserved::NotOpen(self.load()));
            }
            let (index, offset) = (seen.messages(), seen.bytes());
            let capacity = capacities.of(seen.segment_number());
            let ends = &ends[..ends.len().min(capacity.messages - index)];
            let fitting = &ends[..ends.partition_point(|end| *end <= capacity.bytes - offset)];
            let Some(&len) = fitting.last() else { return Err(NotReserved::NoRoom) };
            let next = seen.reserved_range(fitting.len(), len);
            // ORDERING: Acquire: pairs with the Release in `open`; makes the segment's memory and its cleared index
            // visible. The other partners, and why no Release is needed: as in `reserve`.
            let exchanged =
                self.0.compare_exchange_weak(seen.0, next.0, Ordering::Acquire, Ordering::Relaxed);
            if exchanged.is_ok() {
                return Ok(EntryRange { whole: EntrySlot { before: seen, len }, ends: fitting });
            }
            back_off();
            // ORDERING: Relaxed: a guess, as above.
            seen = SlotState(self.0.load(Ordering::Relaxed));
        }
    }

    /// Ready for `sequence` → Open with `segment`, and the first entry reserved for a message of `len` bytes.
    ///
    /// The thread that opens a segment so gets an entry in it, however many others reserve at once. Clears WAITER, as a
    /// reservation does.
    pub(crate) fn open(&self, sequence: u64, segment: usize, len: usize) -> Option<EntrySlot> {
        let mut before = None;
        self.change(|seen| {
            let opened = seen.is_ready_for(sequence).then(|| seen.opened(segment))?;
            before = Some(opened);
            Some(opened.reserved(len))
        })?;
        before.map(|before| EntrySlot { before, len })
    }

    /// [`open`](Self::open), with entries for as many messages as fit, of those that end at `ends`.
    pub(crate) fn open_range<'a>(
        &self,
        sequence: u64,
        segment: usize,
        ends: &'a [usize],
        capacities: &Capacities,
    ) -> Option<EntryRange<'a>> {
        let capacity = capacities.of(segment);
        let ends = &ends[..ends.len().min(capacity.messages)];
        let fitting = &ends[..ends.partition_point(|end| *end <= capacity.bytes)];
        let len = *fitting.last()?;
        let mut before = None;
        self.change(|seen| {
            let opened = seen.is_ready_for(sequence).then(|| seen.opened(segment))?;
            before = Some(opened);
            Some(opened.reserved_range(fitting.len(), len))
        })?;
        before.map(|before| EntryRange { whole: EntrySlot { before, len }, ends: fitting })
    }

    /// Open, and `condition` holds → Sealed. Returns the final state.
    pub(crate) fn seal(&self, condition: impl Fn(SlotState) -> bool) -> Option<SlotState> {
        self.change(|seen| (seen.is_open() && condition(seen)).then(|| seen.sealed()))
    }

    /// Cuts: fixes the messages that a receiver may read now, and sets WAITER.
    ///
    /// WAITER lets the sender of the next message know that it is the first after the cut. Only the thread that
    /// holds the head's lock calls this. Returns Open, or Sealed if another thread sealed the slot meanwhile.
    pub(crate) fn cut(&self) -> SlotState {
        // ORDERING: Release: pairs with the Acquire in `reserve`; makes what the receiver recorded for the cut visible
        // to the sender of the next message. Acquire: pairs with the Release in `seal`; a receiver that finds the slot
        // sealed advances `active`, which then publishes what preceded the seal. In a sealed slot WAITER has no effect,
        // and `retire` clears it.
        SlotState(self.0.fetch_or(WAITER, Ordering::AcqRel))
    }

    /// Returns the state by a read-modify-write that changes nothing.
    ///
    /// A reservation precedes it in the modification order of this word, and is then seen here; or it follows, and
    /// its sender sees what this thread did before.
    pub(crate) fn fence_rmw(&self) -> SlotState {
        // ORDERING: Release: pairs with the Acquire in `reserve`, `reserve_range`, `open` and `seal`; makes what this
        // thread did before (a new strategy) visible. Acquire: pairs with the Release in `seal`; a thread that finds
        // the slot sealed advances `active`, which then publishes what preceded the seal.
        SlotState(self.0.fetch_or(0, Ordering::AcqRel))
    }

    /// Ready for `sequence` → Closed. Returns whether this thread closed it.
    pub(crate) fn close(&self, sequence: u64) -> bool {
        self.change(|seen| seen.is_ready_for(sequence).then_some(SlotState::closed())).is_some()
    }

    /// Sets WAITER, while the slot holds no more than the `taken` messages; returns false if it holds more.
    ///
    /// The slot must be Ready for `sequence`, or Open. If this returns true, the sender of the next message notifies
    /// receivers; otherwise the caller must not sleep.
    ///
    /// If a cut has set WAITER before, the lock of the wait list replaces the exchange. The caller has registered under it
    /// before the load here. The sender clears WAITER by its reservation, and takes that lock to wake. So either this load
    /// sees the reservation, or that sender finds the registration.
    pub(crate) fn set_waiter(&self, sequence: u64, taken: usize) -> bool {
        let nothing_new =
            |seen: SlotState| seen.is_ready_for(sequence) || (seen.is_open() && seen.messages() == taken);
        let seen = self.load();
        (seen.has_waiter() && nothing_new(seen))
            || self.change(|seen| nothing_new(seen).then(|| seen.with_waiter())).is_some()
    }

    /// Sealed and read → Ready for the `sequence` one lap later.
    pub(crate) fn retire(&self, sequence: u64) {
        // ORDERING: Release: pairs with the Acquire in `load`; makes visible that `active` has advanced, so a late
        // sender that finds the slot ready for its next lap reloads a newer `active` and does not retry here forever.
        // A plain store is enough: only the thread that holds the head's lock changes a sealed word. A concurrent
        // `fence_rmw` writes back what it read, in one step before or after the store.
        self.0.store(SlotState::ready(sequence).0, Ordering::Release);
    }

    /// Applies `step` until its exchange succeeds; returns the new state, or nothing if `step` declines.
    fn change(&self, mut step: impl FnMut(SlotState) -> Option<SlotState>) -> Option<SlotState> {
        // ORDERING: Relaxed: a guess; the compare-exchange below decides. `step` may decline such a guess: a caller
        // that needs the reason calls `load`.
        let mut seen = SlotState(self.0.load(Ordering::Relaxed));
        loop {
            let next = step(seen)?;
            // ORDERING: Release: pairs with the Acquire in `load`, `reserve` and this function; makes visible what this
            // thread prepared for the transition: the segment for `open`, the registration for `set_waiter`, all work
            // before `seal` and `close`. Acquire: pairs with the Release of the transition that it follows, such as
            // `open` or `fence_rmw`; makes what preceded that transition visible.
            match self.0.compare_exchange_weak(seen.0, next.0, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Some(next),
                Err(now) => seen = SlotState(now),
            }
        }
    }
}

#[cfg(all(test, not(turbostream_loom)))]
mod tests {
    use super::*;

    fn capacities(messages: usize, bytes: usize) -> Capacities {
        Capacities::equal(Capacity { messages, bytes })
    }

    #[test]
    fn reservations_count_exactly_up_to_the_capacity() {
        let capacities = capacities(3, 10);
        let slot = AtomicSlotState::new(SlotState::ready(u64::MAX));
        assert!(slot.open(0, 7, 4).is_none(), "ready for another sequence");
        assert!(slot.set_waiter(u64::MAX, 0));
        let first = slot.open(u64::MAX, 7, 4).unwrap();
        assert_eq!((first.segment(), first.index(), first.offset(), first.has_waiter()), (7, 0, 0, true));
        assert_eq!(slot.reserve(7, &capacities).unwrap_err(), NotReserved::NoRoom);
        let second = slot.reserve(6, &capacities).unwrap();
        assert_eq!((second.index(), second.offset(), second.has_waiter()), (1, 4, false));
        assert!(!slot.set_waiter(u64::MAX, 1) && slot.set_waiter(u64::MAX, 2));
        assert_eq!((slot.cut().messages(), slot.cut().has_waiter()), (2, true));
        assert!(slot.reserve(0, &capacities).unwrap().has_waiter(), "the first after the cut");
        assert_eq!(slot.reserve(0, &capacities).unwrap_err(), NotReserved::NoRoom);
        assert!(slot.seal(|seen| seen.messages() > 3).is_none());
        let sealed = slot.seal(|_| true).unwrap();
        assert_eq!(
            (sealed.phase(), sealed.messages(), sealed.bytes(), sealed.segment()),
            (Phase::Sealed, 3, 10, Some(7))
        );
        assert!(slot.seal(|_| true).is_none() && !slot.close(0) && !slot.set_waiter(0, 3));
        assert_eq!(slot.cut().phase(), Phase::Sealed);
        slot.retire(5);
        assert!(slot.load().is_ready_for(5) && !slot.load().has_waiter());
        assert!(slot.close(5));
        assert_eq!(slot.load().phase(), Phase::Closed);
    }

    #[test]
    fn range_reserves_what_fits_in_one_step() {
        let capacities = capacities(5, 10);
        let slot = AtomicSlotState::new(SlotState::ready(0));
        assert!(matches!(slot.reserve_range(&[1], &capacities), Err(NotReserved::NotOpen(_))));
        assert!(slot.set_waiter(0, 0));
        let range = slot.open_range(0, 7, &[2, 2, 5], &capacities).unwrap();
        assert!(range.has_waiter() && range.start() == (0, 0) && !slot.load().has_waiter());
        assert_eq!((range.messages(), range.filled()), (3, (3, 5)));
        let entries: Vec<_> = range
            .into_entries()
            .map(|entry| (entry.segment(), entry.index(), entry.offset(), entry.len()))
            .collect();
        assert_eq!(entries, [(7, 0, 0, 2), (7, 1, 2, 0), (7, 2, 2, 3)]);
        assert_eq!(slot.reserve_range(&[6, 6], &capacities).unwrap_err(), NotReserved::NoRoom, "bytes");
        let range = slot.reserve_range(&[4, 6], &capacities).unwrap();
        assert!(!range.has_waiter() && range.start().0 > 0);
        assert_eq!((range.messages(), range.filled()), (1, (4, 9)));
        let range = slot.reserve_range(&[0, 0, 0], &capacities).unwrap();
        assert_eq!((range.messages(), range.filled()), (1, (5, 9)));
        assert_eq!(slot.reserve_range(&[0], &capacities).unwrap_err(), NotReserved::NoRoom, "messages");
    }

    #[test]
    fn largest_values_fit_the_word() {
        let slot = AtomicSlotState::new(SlotState::ready(0));
        let capacities = capacities(MAX_MESSAGES, MAX_BYTES);
        slot.open(0, MAX_SEGMENTS - 1, MAX_BYTES).unwrap();
        for _ in 1..MAX_MESSAGES {
            slot.reserve(0, &capacities).unwrap();
        }
        let sealed = slot.seal(|_| true).unwrap();
        assert_eq!((sealed.messages(), sealed.bytes()), (MAX_MESSAGES, MAX_BYTES));
        assert_eq!(sealed.segment(), Some(MAX_SEGMENTS - 1));
    }

    #[test]
    fn capacities_double_up_to_the_full_one() {
        let all = |full, steps| {
            let growing = Capacities::growing(full, steps);
            (0..=growing.small()).map(|number| growing.of(number)).collect::<Vec<_>>()
        };
        let full = Capacity { messages: 500, bytes: 10_000 };
        let doubled = |number: usize| Capacity { messages: 64_usize << number, bytes: 4096_usize << number };
        let third = Capacity { messages: 256, bytes: 10_000 };
        assert_eq!(all(full, 100), [doubled(0), doubled(1), third, full]);
        assert_eq!(all(full, 1), [doubled(0), full]);
        for full in [doubled(0), Capacity { messages: 2, bytes: 64 }] {
            assert_eq!(all(full, 100), [full], "nothing is smaller");
        }
        assert_eq!(all(Capacity { messages: 2, bytes: 5000 }, 100).len(), 2);
        assert_eq!(all(Capacity { messages: MAX_MESSAGES, bytes: MAX_BYTES }, 100).len(), 15);
    }
}
