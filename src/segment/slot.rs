//! Places for messages in a segment, as they are reserved.

use super::state::State;

/// A place in a segment that nobody else has.
///
/// Only [`Word::reserve`](super::state::Word::reserve) makes one, once for each compare-exchange that succeeded, and
/// [`SlotRun`], once for each of its messages. Two words, so that it travels in registers.
#[derive(Debug)]
pub(crate) struct Slot {
    /// What the word said before: what lies before this slot, and in which segment.
    pub(super) before: State,
    pub(super) len: usize,
}

impl Slot {
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
    pub(crate) fn is_awaited(&self) -> bool {
        self.before.is_awaited()
    }

    /// Messages and bytes in the segment up to and with this one.
    #[inline(always)]
    pub(crate) fn filled(&self) -> (usize, usize) {
        (self.index() + 1, self.offset() + self.len)
    }
}

/// Places of messages one behind the other that nobody else has, by one reservation.
#[derive(Debug)]
pub(crate) struct SlotRun<'a> {
    /// Of the whole run: the slot of its first message and the length of all.
    pub(super) whole: Slot,
    /// Where each of the messages ends, from the start of the run.
    pub(super) ends: &'a [usize],
}

impl SlotRun<'_> {
    /// The number of their segment.
    pub(crate) fn segment(&self) -> usize {
        self.whole.segment()
    }

    pub(crate) fn messages(&self) -> usize {
        self.ends.len()
    }

    /// A receiver sleeps until the first of them is committed.
    pub(crate) fn is_awaited(&self) -> bool {
        self.whole.is_awaited()
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
    pub(crate) fn into_slots(self) -> impl Iterator<Item = Slot> {
        let Self { whole: Slot { before, .. }, ends } = self;
        ends.iter().enumerate().scan(0, move |start, (at, &end)| {
            let slot = Slot { before: before.reserved_run(at, *start), len: end - *start };
            *start = end;
            Some(slot)
        })
    }
}
