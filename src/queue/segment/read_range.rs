//! Reading what was sealed or cut of a segment: claims to its messages, and runs of bytes that are lent.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;

use bytes::Bytes;

use super::{Block, EMPTY, EXTERNAL, Entry, INLINE, Segment, WAITER};
use crate::sync::Ordering;

/// One message where it lies.
pub(crate) enum Content<'a> {
    /// Bytes in the segment.
    Inline(&'a [u8]),
    /// A payload that travels by reference. Not to be cloned where it lies, which may write to it: there are slices
    /// of the segment around it, see [`LentBytes`].
    External(&'a [u8]),
    /// Padding left by a writer that gave up.
    Abandoned,
}

/// Payload bytes, and those among them that travel by reference.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PayloadSize {
    pub(crate) bytes: usize,
    pub(crate) external_bytes: usize,
}

/// The right to read messages `next..end` of a segment, once, in order; nothing before `end` can change any more.
///
/// Exactly one claim to each message exists: the first is made by whoever adopts the segment, who also
/// [extends](Self::extend) it, and [`split`](Self::split) divides it.
pub(crate) struct ReadRange<K: Deref<Target = Segment>> {
    segment: K,
    /// The segment's memory, which stays where it is while `segment` is external.
    block: NonNull<Block>,
    next: usize,
    end: usize,
    /// Everything before is known to be committed.
    committed: usize,
}

impl<K: Deref<Target = Segment>> ReadRange<K> {
    /// To a segment that was just adopted, as yet to none of its messages.
    pub(crate) fn new(segment: K) -> Self {
        let block = NonNull::from(segment.block());
        Self { segment, block, next: 0, end: 0, committed: 0 }
    }

    /// Takes in the messages up to `end`, which came after those that the claim had.
    pub(crate) fn extend(&mut self, end: usize) {
        assert!(self.end <= end, "a claim does not shrink");
        self.end = end;
    }

    #[inline]
    fn block(&self) -> &Block {
        // SAFETY: see the field: the claim's keeper references the segment, so it is not `Exclusive`.
        unsafe { self.block.as_ref() }
    }

    /// The index of the next message.
    #[inline]
    pub(crate) fn position(&self) -> usize {
        self.next
    }

    pub(crate) fn segment(&self) -> &K {
        &self.segment
    }

    /// The index behind its last message.
    #[inline]
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    #[inline]
    pub(crate) fn remaining(&self) -> usize {
        self.end - self.next
    }

    /// How many messages can be read without waiting, as far as was looked.
    #[inline]
    pub(crate) fn readable(&self) -> usize {
        self.committed - self.next
    }

    #[inline]
    fn entry(&self, index: usize) -> Entry {
        // ORDERING: Acquire pairs with the Release of the commit: the message's bytes are there.
        Entry(self.block().index[index].load(Ordering::Acquire))
    }

    /// Looks how far messages are committed, and how many now can be read.
    #[inline]
    pub(crate) fn advance_committed(&mut self) -> usize {
        while self.committed < self.end && self.entry(self.committed).is_committed() {
            self.committed += 1;
        }
        self.readable()
    }

    /// Asks the writer of the next message for a wake; false if it has committed meanwhile.
    pub(crate) fn set_commit_waiter(&self) -> bool {
        let entry = &self.block().index[self.committed];
        // ORDERING: Release pairs with the Acquire of the commit, see there; an exchange even where the mark is
        // already set, so that the writer sees what this reader did last. Relaxed on failure: committed, and the caller
        // looks again.
        let mark = |from| entry.compare_exchange(from, WAITER, Ordering::Release, Ordering::Relaxed).is_ok();
        mark(EMPTY) || mark(WAITER)
    }

    /// The message `at` messages after the next one, which has to be readable.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> Content<'_> {
        assert!(at < self.readable(), "reading a message that was not committed");
        let index = self.next + at;
        let entry = self.entry(index);
        let block = self.block();
        let from = block.at(entry.offset(), entry.len());
        block.log.reading(index, || match entry.kind() {
            INLINE => {
                // SAFETY: committed, so its writer is done with these bytes, which nobody changes until the segment
                // is cleared; that takes every reference, and the claim's keeper is one that outlives the slice.
                let bytes = unsafe { std::slice::from_raw_parts(from, entry.len()) };
                Content::Inline(bytes)
            }
            // SAFETY: as above; a committed external entry points to a `Bytes` that only `take_external` of this
            // very claim moves out, after which the message is no longer part of it.
            EXTERNAL => Content::External(unsafe { &*from.cast::<Bytes>() }),
            _ => Content::Abandoned,
        })
    }

    /// Offset and length of the next message, which has to be readable, if it lies in the segment.
    #[inline]
    pub(crate) fn inline_next(&self) -> Option<(usize, usize)> {
        assert!(self.readable() > 0, "reading a message that was not committed");
        let entry = self.entry(self.next);
        (entry.kind() == INLINE).then(|| (entry.offset(), entry.len()))
    }

    /// The next messages that lie in the segment and are shorter than `short`, one behind the other in `most`
    /// bytes, and the offset they start at. Empty if the next one is none of them.
    pub(crate) fn contiguous_small(&self, short: usize, most: usize) -> (&[u8], usize) {
        let block = self.block();
        let start = self.entry(self.next).offset();
        let mut end = start;
        for index in self.next..self.committed {
            let entry = self.entry(index);
            let entry_end = entry.offset() + entry.len();
            let is_next = entry.kind() == INLINE && entry.offset() == end;
            if !is_next || entry.len() >= short || entry_end - start > most {
                break;
            }
            block.log.reading(index, || end = entry_end);
        }
        let from = block.at(start, end - start);
        // SAFETY: each of these messages begins where the one before it ends; all are committed, so that their
        // writers are done with them, and see `get` for how long.
        (unsafe { std::slice::from_raw_parts(from, end - start) }, start)
    }

    /// Leaves the next message behind; it must not be external.
    #[inline]
    pub(crate) fn advance(&mut self) {
        assert!(self.readable() > 0);
        self.next += 1;
    }

    /// Moves the next message's payload out, if it travels by reference.
    pub(crate) fn take_external(&mut self) -> Option<Bytes> {
        assert!(self.readable() > 0, "reading a message that was not committed");
        let entry = self.entry(self.next);
        if entry.kind() != EXTERNAL {
            return None;
        }
        let block = self.block();
        let from = block.at(entry.offset(), entry.len()).cast::<Bytes>();
        // SAFETY: the entry says that there is a committed `Bytes`; advancing past it makes this the only copy.
        let payload = block.log.reading(self.next, || unsafe { from.read() });
        self.next += 1;
        Some(payload)
    }

    /// Takes the next `messages`, which have to be readable, out of this claim into one of its own.
    pub(crate) fn split(&mut self, messages: usize) -> Self
    where
        K: Clone,
    {
        assert!(messages <= self.readable());
        let end = self.next + messages;
        let head =
            Self { segment: self.segment.clone(), block: self.block, next: self.next, end, committed: end };
        self.next = end;
        head
    }

    /// How many of the next messages, up to `limit`, can be taken as they lie: readable and none abandoned.
    pub(crate) fn whole_messages(&self, limit: usize) -> usize {
        let limit = limit.min(self.readable());
        if self.segment.is_contiguous() {
            return limit;
        }
        (0..limit).find(|&at| matches!(self.get(at), Content::Abandoned)).unwrap_or(limit)
    }

    /// What the readable messages of the claim carry.
    pub(crate) fn payload(&self) -> PayloadSize {
        let mut payload = PayloadSize::default();
        if self.readable() > 0 && self.segment.is_contiguous() {
            let (first, last) = (self.entry(self.next), self.entry(self.committed - 1));
            payload.bytes = last.offset() + last.len() - first.offset();
            return payload;
        }
        for at in 0..self.readable() {
            match self.get(at) {
                Content::Inline(bytes) => payload.bytes += bytes.len(),
                Content::External(bytes) => {
                    payload.bytes += bytes.len();
                    payload.external_bytes += bytes.len();
                }
                Content::Abandoned => {}
            }
        }
        payload
    }

    /// The segment, all of whose messages were taken.
    pub(crate) fn into_segment(self) -> K {
        assert_eq!(self.remaining(), 0, "messages are left");
        let claim = ManuallyDrop::new(self);
        // SAFETY: the claim is not used or dropped again, so the keeper moves out once; there is nothing left
        // for its drop to do.
        unsafe { std::ptr::read(&claim.segment) }
    }

    /// All readable bytes of the claim in one piece, kept alive by a reference of its own, and the offset it
    /// starts at.
    pub(crate) fn lend(&self) -> (LentBytes<K>, usize)
    where
        K: Clone,
    {
        assert!(self.readable() > 0);
        let (first, last) = (self.entry(self.next), self.entry(self.committed - 1));
        let offset = first.offset();
        (
            LentBytes { segment: self.segment.clone(), offset, len: last.offset() + last.len() - offset },
            offset,
        )
    }
}

impl<K: Deref<Target = Segment>> Drop for ReadRange<K> {
    fn drop(&mut self) {
        if self.remaining() == 0 {
            return;
        }
        self.advance_committed();
        if self.segment.is_contiguous() {
            return;
        }
        while self.readable() > 0 {
            if self.take_external().is_none() {
                self.advance();
            }
        }
    }
}

// SAFETY: the pointer is to memory that the keeper references and that is shared between threads under the
// protocol of this module, see `Segment`.
unsafe impl<K: Deref<Target = Segment> + Send> Send for ReadRange<K> {}
// SAFETY: as above; `&ReadRange` only reads.
unsafe impl<K: Deref<Target = Segment> + Sync> Sync for ReadRange<K> {}

/// Committed bytes of a segment in one piece: the owner behind the `Bytes` that are lent.
pub(crate) struct LentBytes<K: Deref<Target = Segment>> {
    segment: K,
    offset: usize,
    len: usize,
}

impl<K: Deref<Target = Segment>> AsRef<[u8]> for LentBytes<K> {
    fn as_ref(&self) -> &[u8] {
        let from = self.segment.block().at(self.offset, self.len);
        // SAFETY: made by `ReadRange::run`: every message in the range is committed, gaps between and in them were zeroed, a
        // `Bytes` among them has no gaps, and nobody writes to it again before the segment is cleared, for which this
        // reference has to go: nor to a `Bytes`, see `Content::External`.
        unsafe { std::slice::from_raw_parts(from, self.len) }
    }
}
