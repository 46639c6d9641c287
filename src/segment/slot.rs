//! Places for messages in a segment, as they are reserved.

/// A place in the segment with this number that nobody else has: message `index` at `offset`.
///
/// Only [`Word::reserve`](super::state::Word::reserve) makes one, once for each compare-exchange that succeeded, and [`SlotRun`], once for each of
/// its messages.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) segment: usize,
    pub(crate) index: usize,
    pub(crate) offset: usize,
    pub(crate) len: usize,
    /// A receiver sleeps until this very message is committed.
    pub(crate) awaited: bool,
}

impl Slot {
    /// Messages and bytes in the segment up to and with this one.
    #[inline]
    pub(crate) fn filled(&self) -> (usize, usize) {
        (self.index + 1, self.offset + self.len)
    }
}

/// Places of messages one behind the other that nobody else has, by one reservation.
#[derive(Debug)]
pub(crate) struct SlotRun<'a> {
    /// Of the whole run: the place of its first message and the length of all.
    pub(super) whole: Slot,
    /// Where each of the messages ends, from the start of the run.
    pub(super) ends: &'a [usize],
}

impl SlotRun<'_> {
    pub(crate) fn messages(&self) -> usize {
        self.ends.len()
    }

    /// A receiver sleeps until the first of them is committed.
    pub(crate) fn is_awaited(&self) -> bool {
        self.whole.awaited
    }

    /// Index and offset of the first of them.
    pub(crate) fn start(&self) -> (usize, usize) {
        (self.whole.index, self.whole.offset)
    }

    /// Messages and bytes in the segment up to and with the last one.
    pub(crate) fn filled(&self) -> (usize, usize) {
        (self.whole.index + self.ends.len(), self.whole.offset + self.whole.len)
    }

    /// Each message's own place, in order.
    pub(crate) fn into_slots(self) -> impl Iterator<Item = Slot> {
        let Self { whole: Slot { segment, index, offset, .. }, ends } = self;
        ends.iter().enumerate().scan(0, move |start, (at, &end)| {
            let slot = Slot {
                segment,
                index: index + at,
                offset: offset + *start,
                len: end - *start,
                awaited: false,
            };
            *start = end;
            Some(slot)
        })
    }
}
