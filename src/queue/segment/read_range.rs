//! Reading the sealed or cut messages of a segment: ranges of messages, and bytes that are lent.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;
use std::thread;

use bytes::Bytes;

use super::reference::Share;
use super::{Block, EXTERNAL, Entry, INLINE, Segment};
use crate::queue::limit::Limit;
use crate::sync::unwind::catch;
use crate::sync::{LentAccess, Ordering};

/// One message, as it lies in the segment.
pub(crate) enum Content<'a> {
    /// The bytes lie in the segment.
    Inline(&'a [u8]),
    /// An external payload. A clone of the `Bytes` may write to it where it lies, as no slice of the segment surrounds it;
    /// see [`ReadRange::lend`].
    External(&'a Bytes),
    /// Padding of an abandoned reservation.
    Abandoned,
}

impl<'a> Content<'a> {
    /// Returns the bytes of the message; nothing for padding.
    #[inline]
    pub(crate) fn bytes(&self) -> Option<&'a [u8]> {
        match *self {
            Content::Inline(bytes) => Some(bytes),
            Content::External(payload) => Some(payload),
            Content::Abandoned => None,
        }
    }
}

/// Payload bytes, and how many of them are external.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PayloadSize {
    pub(crate) bytes: usize,
    pub(crate) external_bytes: usize,
}

/// The right to read the messages `next..end` of a segment, once and in order.
///
/// ```text
///      already read     readable       reserved, not seen committed     not in this range yet
///  ├────────────────┼───────────────┼────────────────────────────────┼───────────────────────▶
///  0               next         committed                           end
/// ```
///
/// All messages before `end` are sealed or cut, so their entries are reserved. Each becomes committed, and does not change
/// after that.
/// Exactly one range contains each message: the thread that adopts the segment makes the first range and
/// [extends](Self::extend) it, and [`split`](Self::split) divides it.
///
/// `K` is a counted reference to the segment: while it is held, the segment is not reused. In a channel it is a
/// [`ChannelRef`](super::reference::ChannelRef) or a [`SegmentRef`](super::reference::SegmentRef).
pub(crate) struct ReadRange<K: Deref<Target = Segment>> {
    segment: K,
    /// The segment's memory, which is neither moved nor freed while `segment` is held.
    block: NonNull<Block>,
    next: usize,
    end: usize,
    /// All messages before this one are known to be committed.
    committed: usize,
    /// So are all before this one, which belong to other ranges, and are lent together with those of this range.
    lent_until: usize,
}

impl<K: Deref<Target = Segment>> ReadRange<K> {
    /// Makes the first range of a segment that was just adopted, without messages.
    pub(crate) fn new(segment: K) -> Self {
        let block = NonNull::from(segment.block());
        Self { segment, block, next: 0, end: 0, committed: 0, lent_until: 0 }
    }

    /// Adds the messages up to `end`, which were sealed or cut since.
    pub(crate) fn extend(&mut self, end: usize) {
        assert!(self.end <= end, "a read range does not shrink");
        self.end = end;
    }

    #[inline]
    fn block(&self) -> &Block {
        // SAFETY: `self.segment` is a reference to the segment, so no `Exclusive` exists that could change or free the
        // block, for as long as `self` is borrowed.
        unsafe { self.block.as_ref() }
    }

    /// Returns the index of the next message.
    #[inline]
    pub(crate) fn position(&self) -> usize {
        self.next
    }

    pub(crate) fn segment(&self) -> &K {
        &self.segment
    }

    /// Returns the index after the last message.
    #[inline]
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    #[inline]
    pub(crate) fn remaining(&self) -> usize {
        self.end - self.next
    }

    /// Returns how many messages are known to be readable without waiting.
    #[inline]
    pub(crate) fn readable(&self) -> usize {
        self.committed - self.next
    }

    #[inline]
    fn entry(&self, index: usize) -> Entry {
        // ORDERING: Acquire: pairs with the Release in `Segment::commit`; makes the message's bytes, or its `Bytes`,
        // visible. For a later entry of an `EntryRange`, the commit of the first one, which this range has read
        // before, publishes them.
        Entry(self.block().index[index].load(Ordering::Acquire))
    }

    /// Checks how far messages are committed; returns how many are readable now.
    #[inline]
    pub(crate) fn advance_committed(&mut self) -> usize {
        while self.committed < self.end && self.entry(self.committed).is_committed() {
            self.committed += 1;
        }
        self.readable()
    }

    /// Records that a thread waits for the next uncommitted message; returns false if it was committed meanwhile.
    ///
    /// The caller has locked the head, and requests the stall watcher: the sender of a copy does not check what is recorded
    /// here, and the sender of a closure may be about to commit.
    pub(crate) fn set_awaited(&self) -> bool {
        // ORDERING: Release: pairs with the Acquire in `Segment::is_awaited`; makes this receiver's registration, or that the
        // last receiver has left, visible to the sender.
        self.segment.awaited.store(self.committed as u32 + 1, Ordering::Release);
        !self.entry(self.committed).is_committed()
    }

    /// Whether a closure writes the next uncommitted message.
    pub(crate) fn is_in_place(&self) -> bool {
        self.committed < self.end && self.entry(self.committed).is_in_place()
    }

    /// Returns the message `at` positions after the next one. It must be readable.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> Content<'_> {
        assert!(at < self.readable(), "reading a message that was not committed");
        let index = self.next + at;
        let entry = self.entry(index);
        let block = self.block();
        let from = block.at(entry.offset(), entry.stored_len());
        block.log.reading(index, || match entry.kind() {
            INLINE => {
                // SAFETY: the message is committed, so its sender does not access these bytes any more. No thread
                // changes them until the segment is cleared. That needs every reference to be released, and `segment`
                // is one that outlives the slice.
                let bytes = unsafe { std::slice::from_raw_parts(from, entry.len()) };
                Content::Inline(bytes)
            }
            // SAFETY: as above. A committed EXTERNAL entry points to a `Bytes`. Only `take_external` of this same range
            // moves it out, and the message is not in the range after that.
            EXTERNAL => Content::External(unsafe { &*from.cast::<Bytes>() }),
            _ => Content::Abandoned,
        })
    }

    /// Returns offset and length of the next message, which must be readable, if it is inline.
    #[inline]
    pub(crate) fn inline_next(&self) -> Option<(usize, usize)> {
        assert!(self.readable() > 0, "reading a message that was not committed");
        let entry = self.entry(self.next);
        (entry.kind() == INLINE).then(|| (entry.offset(), entry.len()))
    }

    /// Returns the bytes of the next message, which must be readable and inline, and advances past it.
    #[inline(always)]
    pub(crate) fn take_inline_ref(&mut self) -> &[u8] {
        assert!(self.readable() > 0, "reading a message that was not committed");
        let (index, entry) = (self.next, self.entry(self.next));
        assert_eq!(entry.kind(), INLINE, "lending a message that lies elsewhere");
        self.next += 1;
        let block = self.block();
        let from = block.at(entry.offset(), entry.len());
        // SAFETY: as in `get`: the message is committed, and `segment` outlives the slice, which borrows this range.
        block.log.reading(index, || unsafe { std::slice::from_raw_parts(from, entry.len()) })
    }

    /// Returns the bytes of the next adjacent inline messages that are shorter than `below`, and their offset.
    ///
    /// They take at most `max_bytes`. The slice is empty if the next message is not such a message.
    pub(crate) fn contiguous_small(&self, below: usize, max_bytes: usize) -> (&[u8], usize) {
        let block = self.block();
        let start = self.entry(self.next).offset();
        let mut end = start;
        for index in self.next..self.next + self.readable() {
            let entry = self.entry(index);
            let entry_end = entry.offset() + entry.len();
            let is_next = entry.kind() == INLINE && entry.offset() == end;
            if !is_next || entry.len() >= below || entry_end - start > max_bytes {
                break;
            }
            block.log.reading(index, || end = entry_end);
        }
        let from = block.at(start, end - start);
        // SAFETY: each of these messages starts where the one before it ends. All are committed, so their senders do
        // not access these bytes any more. No thread changes them while `segment` is held, see `get`.
        (unsafe { std::slice::from_raw_parts(from, end - start) }, start)
    }

    /// Advances past the next message, which must be readable and not external.
    #[inline]
    pub(crate) fn advance(&mut self) {
        assert!(self.readable() > 0);
        self.next += 1;
    }

    /// Moves the next message's payload out, if it is external. The message must be readable.
    #[inline]
    pub(crate) fn take_external(&mut self) -> Option<Bytes> {
        let mut taken = None;
        self.move_external(|payload| taken = Some(payload));
        taken
    }

    /// Moves the next message's payload out by `put`, if it is external; returns its length. The message must be readable.
    ///
    /// Does not read the payload, so that the compiler moves it in one piece from the segment to where `put` stores it.
    #[inline(always)]
    pub(crate) fn move_external(&mut self, put: impl FnOnce(Bytes)) -> Option<usize> {
        assert!(self.readable() > 0, "reading a message that was not committed");
        let entry = self.entry(self.next);
        if entry.kind() != EXTERNAL {
            return None;
        }
        let block = self.block();
        let from = block.at(entry.offset(), entry.stored_len()).cast::<Bytes>();
        // SAFETY: a committed EXTERNAL entry points to a `Bytes`, aligned by `write_external`. This range alone
        // contains the message, and advances past it below, so the `Bytes` is moved out once.
        let payload = block.log.reading(self.next, || unsafe { from.read() });
        self.next += 1;
        put(payload);
        Some(entry.len())
    }

    /// Drops the external payloads of the readable messages, each of them even if the drop of another one panics.
    ///
    /// The first panic continues after the last drop, unless this thread unwinds already: that would abort.
    fn drop_external(&mut self) {
        let mut first_panic = None;
        while self.readable() > 0 {
            match self.take_external() {
                Some(payload) => {
                    if let Err(panic) = catch(|| drop(payload)) {
                        first_panic.get_or_insert(panic);
                    }
                }
                None => self.advance(),
            }
        }
        match first_panic {
            Some(panic) if !thread::panicking() => panic.resume(),
            _ => {}
        }
    }

    /// Moves the next `messages`, which must be readable, into a range of their own.
    pub(crate) fn split(&mut self, messages: usize) -> ReadRange<K::Shared>
    where
        K: Share,
    {
        assert!(messages <= self.readable());
        let end = self.next + messages;
        let taken = ReadRange {
            segment: self.segment.share(),
            block: self.block,
            next: self.next,
            end,
            committed: end,
            lent_until: end,
        };
        self.next = end;
        taken
    }

    /// Returns how many of the next messages are inline, and before the first one that is not; at most `limit`, which must be
    /// readable.
    #[inline]
    pub(crate) fn inline_messages(&self, limit: usize) -> usize {
        assert!(limit <= self.readable());
        if self.segment.is_contiguous() { limit } else { self.count_inline(limit) }
    }

    #[cold]
    fn count_inline(&self, limit: usize) -> usize {
        (self.next..self.next + limit).take_while(|&index| self.entry(index).kind() == INLINE).count()
    }

    /// [`split`](Self::split) for a range that also lends the committed messages after its own.
    pub(crate) fn split_lent(&mut self, messages: usize) -> ReadRange<K::Shared>
    where
        K: Share,
    {
        let mut taken = self.split(messages);
        taken.lent_until = self.committed;
        taken
    }

    /// Whether `other` is a range of the same segment. While both exist, the segment is not reused.
    #[inline]
    pub(crate) fn is_of_segment_of<L: Deref<Target = Segment>>(&self, other: &ReadRange<L>) -> bool {
        self.block == other.block
    }

    /// Moves the next `messages`, which must be readable, into `into`: a range of the same segment, without messages.
    #[inline]
    pub(crate) fn move_to<L: Deref<Target = Segment>>(&mut self, messages: usize, into: &mut ReadRange<L>) {
        assert!(messages <= self.readable() && into.remaining() == 0 && self.is_of_segment_of(into));
        let end = self.next + messages;
        (into.next, into.end, into.committed, into.lent_until) = (self.next, end, end, self.committed);
        self.next = end;
    }

    /// Moves the remaining messages of `from`, a range of the same segment, back into this one if they directly precede it.
    ///
    /// Returns whether they do.
    pub(crate) fn move_back<L: Deref<Target = Segment>>(&mut self, from: &mut ReadRange<L>) -> bool {
        let precede = self.is_of_segment_of(from) && from.end == self.next;
        if precede {
            self.next = from.next;
            from.next = from.end;
        }
        precede
    }

    /// Returns how many of the next messages are readable before the next padding, within `limit`: at least one.
    ///
    /// The next message must be readable.
    pub(crate) fn whole_messages(&self, limit: Limit) -> usize {
        let messages = limit.messages.clamp(1, self.readable());
        if limit.bytes == usize::MAX && self.segment.is_contiguous() {
            return messages;
        }
        let mut bytes = 0;
        let is_within = |at: &usize| {
            let message = self.get(*at).bytes();
            bytes += message.map_or(0, <[u8]>::len);
            message.is_some() && bytes <= limit.bytes
        };
        (0..messages).take_while(is_within).count().max(1)
    }

    /// Returns the payload bytes of the `messages` before the next one. They must have been inline.
    pub(crate) fn bytes_before(&self, messages: usize) -> usize {
        if messages == 0 {
            return 0;
        }
        let first = self.next - messages;
        if self.segment.is_contiguous() {
            let (first, last) = (self.entry(first), self.entry(self.next - 1));
            return last.offset() + last.len() - first.offset();
        }
        (first..self.next).map(|index| self.entry(index).len()).sum()
    }

    /// Returns the payload bytes of the next `messages`, which must be readable.
    pub(crate) fn payload(&self, messages: usize) -> PayloadSize {
        let mut payload = PayloadSize::default();
        if messages > 0 && self.segment.is_contiguous() {
            let (first, last) = (self.entry(self.next), self.entry(self.next + messages - 1));
            payload.bytes = last.offset() + last.len() - first.offset();
            return payload;
        }
        for at in 0..messages {
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

    /// Returns the segment. All messages of the range must have been read.
    pub(crate) fn into_segment(self) -> K {
        assert_eq!(self.remaining(), 0, "messages are left");
        let range = ManuallyDrop::new(self);
        // SAFETY: `range` is not used again and not dropped, so `segment` is moved out once. The drop would have
        // nothing else to do, as no message is left.
        unsafe { std::ptr::read(&range.segment) }
    }

    /// Lends the bytes of the message `at` positions after the next one, and of those that follow it, as one slice with
    /// its own reference; also returns its offset.
    ///
    /// The first message must be readable and inline. The slice has up to `messages` of them, and ends before an external
    /// payload.
    pub(crate) fn lend(&self, at: usize, messages: usize) -> (LentBytes<K::Shared>, usize)
    where
        K: Share,
    {
        assert!(at < self.readable() && messages > 0, "lending a message that was not committed");
        let first = self.next + at;
        let mut end = self.committed.max(self.lent_until).min(first.saturating_add(messages));
        let entry = self.entry(first);
        assert_eq!(entry.kind(), INLINE, "lending a message that lies elsewhere");
        if !self.segment.is_contiguous() {
            let external = (first..end).find(|&index| self.entry(index).kind() == EXTERNAL);
            end = external.unwrap_or(end);
        }
        let (from, first, last) = (first, entry, self.entry(end - 1));
        let offset = first.offset();
        (
            LentBytes {
                segment: self.segment.share(),
                offset,
                len: last.offset() + last.len() - offset,
                access: LentAccess::to(from..end),
            },
            offset,
        )
    }
}

/// Drops the external payloads that were not moved out.
impl<K: Deref<Target = Segment>> Drop for ReadRange<K> {
    fn drop(&mut self) {
        if self.remaining() == 0 {
            return;
        }
        self.advance_committed();
        if self.segment.is_contiguous() {
            return;
        }
        self.drop_external();
    }
}

// SAFETY: `block` points to memory that `segment` keeps alive, and that threads share under the protocol of the
// module `segment`; see `Segment`.
unsafe impl<K: Deref<Target = Segment> + Send> Send for ReadRange<K> {}
// SAFETY: as for Send; a shared `ReadRange` only reads, and names the awaited entry by an atomic store.
unsafe impl<K: Deref<Target = Segment> + Sync> Sync for ReadRange<K> {}

/// Committed bytes of a segment as one slice: the owner that a lent `Bytes` refers to.
pub(crate) struct LentBytes<K: Deref<Target = Segment>> {
    segment: K,
    offset: usize,
    len: usize,
    access: LentAccess,
}

impl<K: Deref<Target = Segment>> Drop for LentBytes<K> {
    fn drop(&mut self) {
        // The user may have read the bytes until now.
        self.access.end(&self.segment.block().log);
    }
}

impl<K: Deref<Target = Segment>> AsRef<[u8]> for LentBytes<K> {
    fn as_ref(&self) -> &[u8] {
        let from = self.segment.block().at(self.offset, self.len);
        // SAFETY: made by `ReadRange::lend`, so every message in the slice was seen committed. All of its bytes are
        // initialized: gaps between and in messages were zeroed, and no `Bytes` of an external payload is among them. No
        // thread writes to them before the segment is cleared, for which `self.segment` must be released first.
        unsafe { std::slice::from_raw_parts(from, self.len) }
    }
}
