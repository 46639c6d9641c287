//! The packed word of one slot in the order of segments.
//!
//! ```text
//!  63 62   61     60..48    47..28     27..0
//! ┌─────┬──────┬─────────┬──────────┬─────────┐
//! │kind │awaits│ segment │ messages │  bytes  │   Open, Sealed, Closed
//! ├─────┼──────┼─────────┴──────────┴─────────┤
//! │kind │awaits│     sequence (low 61 bits)   │   Ready
//! └─────┴──────┴──────────────────────────────┘
//! ```
//!
//! | kind | a writer | a sealer | a receiver at the head | leaves it |
//! |---|---|---|---|---|
//! | Ready: its turn may have come, no segment yet | opens it with a pooled segment, if `active` names it | nothing to seal | sets `awaits` and sleeps | open → Open, close → Closed |
//! | Open: being written | reserves: messages + 1, bytes + len; clears `awaits`, and then tells who waits after its commit | seals if it is worth it | cuts: takes all there is and sets `awaits`; nothing more than that: sets `awaits` and sleeps | seal → Sealed, close → Closed |
//! | Sealed: messages and bytes are final | moves on to the next slot | nothing to seal | reads it | retire → Ready, one lap later |
//! | Closed: the end of the order; empty, but may still name the segment it was opened with | refuses | nothing to seal | end of the channel | never |
//!
//! Every transition is an exchange on this one word, so a count can neither be overdrawn nor polluted by a claim
//! that failed, and `awaits` needs no fence: it is set in, and taken from, the same word that messages are
//! counted in.

use crate::sync::{AtomicU64, Ordering};

const BYTES_BITS: u32 = 28;
const MESSAGES_BITS: u32 = 20;
const SEGMENT_BITS: u32 = 13;

const MESSAGES_SHIFT: u32 = BYTES_BITS;
const SEGMENT_SHIFT: u32 = MESSAGES_SHIFT + MESSAGES_BITS;
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
/// The most payload bytes a segment can hold.
pub(crate) const MAX_BYTES: usize = 64 << 20;
/// The most segments a channel can have; the last number stands for "none".
pub(crate) const MAX_SEGMENTS: usize = SEGMENT_MASK as usize;

const NO_SEGMENT: u64 = SEGMENT_MASK;

/// Which row of the table above a word is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Ready,
    Open,
    Sealed,
    Closed,
}

/// What a word said at one instant.
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

    /// Whether a receiver has cut off all messages there are: a cut sets `awaits`, and the next message takes it off.
    #[inline]
    pub(crate) fn is_fully_consumed(self) -> bool {
        self.messages() == 0 || self.has_waiter()
    }

    #[inline]
    pub(crate) fn messages(self) -> usize {
        ((self.0 >> MESSAGES_SHIFT) & MESSAGES_MASK) as usize
    }

    /// Messages reserved so far, of a word of any kind: none where there is no segment.
    pub(crate) fn messages_written(self) -> usize {
        if matches!(self.phase(), Phase::Open | Phase::Sealed) { self.messages() } else { 0 }
    }

    #[inline]
    pub(crate) fn bytes(self) -> usize {
        (self.0 & BYTES_MASK) as usize
    }

    /// Whether another message of `len` bytes fits.
    #[inline]
    pub(crate) fn has_room(self, len: usize, capacity: Capacity) -> bool {
        self.messages() < capacity.messages && len <= capacity.bytes - self.bytes()
    }

    /// The number of the segment, if there is one; meaningless for Ready.
    #[inline]
    pub(crate) fn segment(self) -> Option<usize> {
        let number = self.segment_number();
        (number as u64 != NO_SEGMENT).then_some(number)
    }

    /// The number of its segment, where there is one.
    #[inline]
    fn segment_number(self) -> usize {
        ((self.0 >> SEGMENT_SHIFT) & SEGMENT_MASK) as usize
    }

    fn opened(self, segment: usize) -> Self {
        Self(OPEN | (self.0 & WAITER) | (segment as u64) << SEGMENT_SHIFT)
    }

    /// One message of `len` bytes more; whoever awaited it is taken note of by the caller.
    #[inline]
    fn reserved(self, len: usize) -> Self {
        Self((self.0 & !WAITER) + (1 << MESSAGES_SHIFT) + len as u64)
    }

    /// With `messages` more, of `len` bytes together.
    fn reserved_range(self, messages: usize, len: usize) -> Self {
        Self((self.0 & !WAITER) + ((messages as u64) << MESSAGES_SHIFT) + len as u64)
    }

    fn awaited(self) -> Self {
        Self(self.0 | WAITER)
    }

    fn sealed(self) -> Self {
        Self(self.0 & !PHASE_MASK | SEALED)
    }

    fn closed(self) -> Self {
        let segment = if self.is_open() {
            self.0 & (SEGMENT_MASK << SEGMENT_SHIFT)
        } else {
            NO_SEGMENT << SEGMENT_SHIFT
        };
        Self(CLOSED | segment)
    }
}

/// How much one segment takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// Why nothing was reserved.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotReserved {
    /// Open, but without room for this message.
    NoRoom,
    /// Not open: Ready, Sealed or Closed.
    NotOpen(SlotState),
}

/// A slot in a segment that nobody else has.
///
/// Only [`AtomicSlotState::reserve`](AtomicSlotState::reserve) makes one, once for each compare-exchange that succeeded, and
/// [`EntryRange`], once for each of its messages. Two words, so that it travels in registers.
#[derive(Debug)]
pub(crate) struct EntrySlot {
    /// What the word said before: what lies before this slot, and in which segment.
    before: SlotState,
    len: usize,
}

impl EntrySlot {
    /// The number of its segment.
    #[inline(always)]
    pub(crate) fn segment(&self) -> usize {
        self.before.segment_number()
    }

    /// How many messages of the segment lie before this one.
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

    /// A receiver sleeps until this very message is committed.
    #[inline(always)]
    pub(crate) fn has_waiter(&self) -> bool {
        self.before.has_waiter()
    }

    /// Messages and bytes in the segment up to and with this one.
    #[inline(always)]
    pub(crate) fn filled(&self) -> (usize, usize) {
        (self.index() + 1, self.offset() + self.len)
    }
}

/// Places of messages one behind the other that nobody else has, by one reservation.
#[derive(Debug)]
pub(crate) struct EntryRange<'a> {
    /// Of the whole run: the slot of its first message and the length of all.
    whole: EntrySlot,
    /// Where each of the messages ends, from the start of the run.
    ends: &'a [usize],
}

impl EntryRange<'_> {
    /// The number of their segment.
    pub(crate) fn segment(&self) -> usize {
        self.whole.segment()
    }

    pub(crate) fn messages(&self) -> usize {
        self.ends.len()
    }

    /// A receiver sleeps until the first of them is committed.
    pub(crate) fn has_waiter(&self) -> bool {
        self.whole.has_waiter()
    }

    /// Index and offset of the first of them.
    pub(crate) fn start(&self) -> (usize, usize) {
        (self.whole.index(), self.whole.offset())
    }

    /// Messages and bytes in the segment up to and with the last one.
    pub(crate) fn filled(&self) -> (usize, usize) {
        (self.whole.index() + self.ends.len(), self.whole.offset() + self.whole.len)
    }

    /// Each message's own slot, in order.
    pub(crate) fn into_slots(self) -> impl Iterator<Item = EntrySlot> {
        let Self { whole: EntrySlot { before, .. }, ends } = self;
        ends.iter().enumerate().scan(0, move |start, (at, &end)| {
            let slot = EntrySlot { before: before.reserved_range(at, *start), len: end - *start };
            *start = end;
            Some(slot)
        })
    }
}

/// The word itself. See the module for who may do what.
#[derive(Debug)]
pub(crate) struct AtomicSlotState(AtomicU64);

impl AtomicSlotState {
    pub(crate) fn new(state: SlotState) -> Self {
        Self(AtomicU64::new(state.0))
    }

    /// What the word says, with everything its last writer did before visible.
    #[inline]
    pub(crate) fn load(&self) -> SlotState {
        // ORDERING: Acquire pairs with the Release of `open`, `seal`, `close` and `retire`: whoever sees the new kind
        // also sees the segment prepared, or where `active` is by now.
        SlotState(self.0.load(Ordering::Acquire))
    }

    /// Reserves the next slot for a message of `len` bytes.
    #[inline(always)]
    pub(crate) fn reserve(&self, len: usize, capacity: Capacity) -> Result<EntrySlot, NotReserved> {
        // ORDERING: Relaxed is enough to guess; the exchange below decides.
        let mut seen = SlotState(self.0.load(Ordering::Relaxed));
        loop {
            if !seen.is_open() {
                return Err(NotReserved::NotOpen(self.load()));
            }
            if !seen.has_room(len, capacity) {
                return Err(NotReserved::NoRoom);
            }
            // ORDERING: Acquire pairs with the Release of `open` (every exchange in between continues its
            // release sequence): the segment's memory is there and its index cleared. Nothing of ours has to
            // be visible through this word yet, the commit publishes the message.
            let exchanged = self.0.compare_exchange_weak(
                seen.0,
                seen.reserved(len).0,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            match exchanged {
                Ok(_) => return Ok(EntrySlot { before: seen, len }),
                Err(now) => seen = SlotState(now),
            }
        }
    }

    /// Reserves slots for as many messages as fit, in one step. They end at `ends`, counted from the start of the first.
    pub(crate) fn reserve_range<'a>(
        &self,
        ends: &'a [usize],
        capacity: Capacity,
    ) -> Result<EntryRange<'a>, NotReserved> {
        // ORDERING: Relaxed is enough to guess, as in `reserve`.
        let mut seen = SlotState(self.0.load(Ordering::Relaxed));
        loop {
            if !seen.is_open() {
                return Err(NotReserved::NotOpen(self.load()));
            }
            let (index, offset) = (seen.messages(), seen.bytes());
            let slots = &ends[..ends.len().min(capacity.messages - index)];
            let fitting = &slots[..slots.partition_point(|end| *end <= capacity.bytes - offset)];
            let Some(&len) = fitting.last() else { return Err(NotReserved::NoRoom) };
            let next = seen.reserved_range(fitting.len(), len);
            // ORDERING: Acquire pairs with the Release of `open`, and nothing has to be visible yet, as in `reserve`.
            match self.0.compare_exchange_weak(seen.0, next.0, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Ok(EntryRange { whole: EntrySlot { before: seen, len }, ends: fitting }),
                Err(now) => seen = SlotState(now),
            }
        }
    }

    /// Ready for `sequence` → Open with `segment`. Keeps `awaits`.
    pub(crate) fn open(&self, sequence: u64, segment: usize) -> bool {
        self.change(|seen| seen.is_ready_for(sequence).then(|| seen.opened(segment))).is_some()
    }

    /// Open with messages, and `worth` it → Sealed; returns the final state.
    pub(crate) fn seal(&self, worth: impl Fn(SlotState) -> bool) -> Option<SlotState> {
        self.change(|seen| (seen.is_open() && seen.messages() > 0 && worth(seen)).then(|| seen.sealed()))
    }

    /// What is there now, for a receiver to take: the writer of the next message is told that it is the first
    /// after the cut. To be called by the receiver at the head alone; returns Open or Sealed.
    pub(crate) fn cut(&self) -> SlotState {
        // ORDERING: Release lets the next writer see what was done for the cut. Acquire is for the caller that finds
        // the slot sealed and moves `active` on, as for `fence_rmw`. There the mark tells nobody anything, and `retire`
        // takes it off.
        SlotState(self.0.fetch_or(WAITER, Ordering::AcqRel))
    }

    /// What the word says, as a step in the order of its changes: whoever reserves later sees what was done before.
    pub(crate) fn fence_rmw(&self) -> SlotState {
        // ORDERING: AcqRel: Release pairs with the Acquire of `reserve`, `open` and `seal`. An exchange for the same, so
        // that it changes nothing for anybody, and a reservation lies either before it, and is seen, or behind it.
        SlotState(self.0.fetch_or(0, Ordering::AcqRel))
    }

    /// Ready for `sequence`, or Open and empty → Closed; returns that, which names the segment that was open.
    pub(crate) fn close(&self, sequence: u64) -> Option<SlotState> {
        self.change(|seen| {
            let empty = seen.is_ready_for(sequence) || (seen.is_open() && seen.messages() == 0);
            empty.then(|| seen.closed())
        })
    }

    /// Asks for a wake by the writer of the next message, while there are no more than those `taken`: Ready for
    /// `sequence`, or Open. False if there is something else to do than to sleep.
    ///
    /// Where a cut has asked already, that is enough: the caller registered behind a SeqCst fence, and the writer who
    /// takes the mark off looks who waits behind another.
    pub(crate) fn set_waiter(&self, sequence: u64, taken: usize) -> bool {
        let nothing_new =
            |seen: SlotState| seen.is_ready_for(sequence) || (seen.is_open() && seen.messages() == taken);
        let seen = self.load();
        (seen.has_waiter() && nothing_new(seen))
            || self.change(|seen| nothing_new(seen).then(|| seen.awaited())).is_some()
    }

    /// Sealed and read → Ready for the `sequence` one lap later.
    pub(crate) fn retire(&self, sequence: u64) {
        // ORDERING: Release pairs with the Acquire in `load`: a writer that comes late, and finds the slot ready for
        // another lap, also sees that `active` has moved on, and does not look for it again and again. A plain store:
        // nobody changes a sealed word but the reader at the head.
        self.0.store(SlotState::ready(sequence).0, Ordering::Release);
    }

    /// Applies `step` until it sticks; returns the new state, or nothing where `step` declined.
    fn change(&self, mut step: impl FnMut(SlotState) -> Option<SlotState>) -> Option<SlotState> {
        // ORDERING: Relaxed is enough to guess, as in `reserve`, and to decline: who needs to know why looks again.
        let mut seen = SlotState(self.0.load(Ordering::Relaxed));
        loop {
            let next = step(seen)?;
            // ORDERING: AcqRel, as each transition both follows what it saw, such as the opening or a `fence_rmw`, and
            // publishes what was prepared for it, such as the segment on open.
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

    const CAPACITY: Capacity = Capacity { messages: 3, bytes: 10 };

    #[test]
    fn a_word_counts_exactly_up_to_its_capacity() {
        let word = AtomicSlotState::new(SlotState::ready(u64::MAX));
        assert!(!word.open(0, 7), "another sequence's turn");
        assert!(word.open(u64::MAX, 7));
        assert!(word.set_waiter(u64::MAX, 0));
        let first = word.reserve(4, CAPACITY).unwrap();
        assert_eq!((first.segment(), first.index(), first.offset(), first.has_waiter()), (7, 0, 0, true));
        assert_eq!(word.reserve(7, CAPACITY).unwrap_err(), NotReserved::NoRoom);
        let second = word.reserve(6, CAPACITY).unwrap();
        assert_eq!((second.index(), second.offset(), second.has_waiter()), (1, 4, false));
        assert!(!word.set_waiter(u64::MAX, 1) && word.set_waiter(u64::MAX, 2));
        assert_eq!((word.cut().messages(), word.cut().has_waiter()), (2, true));
        assert!(word.reserve(0, CAPACITY).unwrap().has_waiter(), "the first after the cut");
        assert_eq!(word.reserve(0, CAPACITY).unwrap_err(), NotReserved::NoRoom);
        assert!(word.seal(|seen| seen.messages() > 3).is_none());
        let sealed = word.seal(|_| true).unwrap();
        assert_eq!(
            (sealed.phase(), sealed.messages(), sealed.bytes(), sealed.segment()),
            (Phase::Sealed, 3, 10, Some(7))
        );
        assert!(word.seal(|_| true).is_none() && word.close(0).is_none() && !word.set_waiter(0, 3));
        assert_eq!(word.cut().phase(), Phase::Sealed);
        word.retire(5);
        assert!(word.load().is_ready_for(5) && !word.load().has_waiter());
        assert_eq!(word.close(5).unwrap().segment(), None);
        assert_eq!(word.load().phase(), Phase::Closed);
    }

    #[test]
    fn a_run_takes_what_fits_in_one_step() {
        let capacity = Capacity { messages: 5, bytes: 10 };
        let word = AtomicSlotState::new(SlotState::ready(0));
        assert!(matches!(word.reserve_range(&[1], capacity), Err(NotReserved::NotOpen(_))));
        assert!(word.open(0, 7) && word.set_waiter(0, 0));
        let run = word.reserve_range(&[2, 2, 5], capacity).unwrap();
        assert!(run.has_waiter() && run.start() == (0, 0) && !word.load().has_waiter());
        assert_eq!((run.messages(), run.filled()), (3, (3, 5)));
        let slots: Vec<_> =
            run.into_slots().map(|slot| (slot.segment(), slot.index(), slot.offset(), slot.len())).collect();
        assert_eq!(slots, [(7, 0, 0, 2), (7, 1, 2, 0), (7, 2, 2, 3)]);
        assert_eq!(word.reserve_range(&[6, 6], capacity).unwrap_err(), NotReserved::NoRoom, "bytes");
        let run = word.reserve_range(&[4, 6], capacity).unwrap();
        assert!(!run.has_waiter() && run.start().0 > 0);
        assert_eq!((run.messages(), run.filled()), (1, (4, 9)));
        let run = word.reserve_range(&[0, 0, 0], capacity).unwrap();
        assert_eq!((run.messages(), run.filled()), (1, (5, 9)));
        assert_eq!(word.reserve_range(&[0], capacity).unwrap_err(), NotReserved::NoRoom, "messages");
    }

    #[test]
    fn the_largest_values_fit() {
        let word = AtomicSlotState::new(SlotState::ready(0));
        assert!(word.open(0, MAX_SEGMENTS - 1));
        let capacity = Capacity { messages: MAX_MESSAGES, bytes: MAX_BYTES };
        word.reserve(MAX_BYTES, capacity).unwrap();
        for _ in 1..MAX_MESSAGES {
            word.reserve(0, capacity).unwrap();
        }
        let sealed = word.seal(|_| true).unwrap();
        assert_eq!((sealed.messages(), sealed.bytes()), (MAX_MESSAGES, MAX_BYTES));
        assert_eq!(sealed.segment(), Some(MAX_SEGMENTS - 1));
    }
}
