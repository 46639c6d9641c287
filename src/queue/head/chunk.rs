//! How messages leave a segment: as slices of chunks, lent or copied.
//!
//! A chunk holds adjacent messages. It is made for the next message, with as many of the following ones as possible,
//! and each of them is a slice of it. So several messages share one reference to their segment, or one copy.

use std::ops::Deref;

use bytes::{Buf, Bytes};

use super::copy_arena::{CopyArena, SMALL_BELOW};
use crate::queue::pool::SegmentRef;
use crate::queue::segment::reference::Share;
use crate::queue::segment::{Content, ReadRange, Segment};
use crate::queue::{Queue, ReadMode};

/// Safe mode always lends a message that is longer than this.
const LENT_ABOVE: usize = 32 << 10;

/// Whether Safe mode lends a message of this length; see [`ReadMode::Safe`].
pub(super) fn is_lent_when_safe(queue: &Queue, segment: &Segment, len: usize) -> bool {
    len > LENT_ABOVE || (len >= SMALL_BELOW && queue.may_lend(segment))
}

/// Messages that a receiver took as they lie in the segment.
pub(crate) struct TakenRange {
    pub(crate) range: ReadRange<SegmentRef>,
    pub(crate) first_sequence: u64,
    pub(crate) payload_bytes: usize,
}

/// The chunks that hold the next messages of a segment.
#[derive(Default)]
pub(crate) struct ChunkCache {
    /// Bytes of the segment itself.
    lent: Option<Chunk>,
    /// Small messages, copied to a page; or one larger message, copied.
    copied: Option<Chunk>,
    /// The end of the last message that Safe mode decided to lend.
    lent_until: usize,
}

impl ChunkCache {
    /// Returns the message at this offset of the segment, if a chunk holds it already.
    #[inline(always)]
    pub(crate) fn message(&self, mode: ReadMode, offset: usize, len: usize) -> Option<Bytes> {
        if len == 0 {
            return Some(Bytes::new());
        }
        let chunk = match mode {
            ReadMode::Safe if offset >= self.lent_until => &self.copied,
            ReadMode::Safe | ReadMode::ZeroCopy => &self.lent,
        };
        chunk.as_ref()?.message(offset, len)
    }

    /// Has [`message`](Self::message) return the next message of `range`, at this offset, as a slice of the segment, also in
    /// Safe mode.
    pub(crate) fn prepare_lent<K>(&mut self, range: &ReadRange<K>, offset: usize, len: usize)
    where
        K: Share<Shared: Send + 'static>,
    {
        self.lent_until = offset + len;
        if !self.lent.as_ref().is_some_and(|lent| lent.holds(offset, len)) {
            let (bytes, start) = range.lend(0, usize::MAX);
            self.lent = Some(Chunk { bytes: Bytes::from_owner(bytes), start });
        }
    }

    /// Has [`message`](Self::message) return a copy of the next message of `range`, at this offset, in Safe mode.
    ///
    /// A small message shares its page with the messages that follow it.
    pub(crate) fn prepare_copied<K>(
        &mut self,
        range: &ReadRange<K>,
        offset: usize,
        len: usize,
        arena: &mut CopyArena,
    ) where
        K: Deref<Target = Segment>,
    {
        if self.copied.as_ref().is_some_and(|copied| copied.holds(offset, len)) {
            return;
        }
        self.copied = Some(if len < SMALL_BELOW {
            let (bytes, start) = range.contiguous_small(SMALL_BELOW, arena.make_room(len));
            Chunk { bytes: arena.copy(bytes), start }
        } else {
            let Content::Inline(bytes) = range.get(0) else { unreachable!("it has an offset") };
            Chunk { bytes: Bytes::copy_from_slice(bytes), start: offset }
        });
    }

    /// Returns the next message of `range`, which lies at this offset, as a slice of the segment.
    pub(crate) fn lend<K>(&mut self, range: &ReadRange<K>, offset: usize, len: usize) -> Bytes
    where
        K: Share<Shared: Send + 'static>,
    {
        if len == 0 {
            return Bytes::new();
        }
        if range.readable() == 1 && !self.lent.as_ref().is_some_and(|lent| lent.holds(offset, len)) {
            // No message follows that a chunk could serve.
            return Bytes::from_owner(range.lend(0, 1).0);
        }
        self.prepare_lent(range, offset, len);
        take(&mut self.lent, offset, len)
    }

    /// Returns a copy of the next message of `range`, which lies at this offset.
    pub(crate) fn copy<K>(
        &mut self,
        range: &ReadRange<K>,
        offset: usize,
        len: usize,
        arena: &mut CopyArena,
    ) -> Bytes
    where
        K: Deref<Target = Segment>,
    {
        if len == 0 {
            return Bytes::new();
        }
        self.prepare_copied(range, offset, len, arena);
        take(&mut self.copied, offset, len)
    }
}

/// The bytes of adjacent messages.
struct Chunk {
    bytes: Bytes,
    /// Its offset in the segment.
    start: usize,
}

impl Chunk {
    #[inline(always)]
    fn message(&self, offset: usize, len: usize) -> Option<Bytes> {
        let from = offset.checked_sub(self.start)?;
        (from + len <= self.bytes.len()).then(|| self.bytes.slice(from..from + len))
    }

    fn holds(&self, offset: usize, len: usize) -> bool {
        self.start <= offset && offset + len <= self.start + self.bytes.len()
    }

    /// Whether the message that ends at this offset is the last one in the chunk.
    fn ends_at(&self, offset: usize) -> bool {
        offset == self.start + self.bytes.len()
    }

    /// Turns the chunk into its last message, which starts at `offset`.
    fn into_last(mut self, offset: usize) -> Bytes {
        self.bytes.advance(offset - self.start);
        self.bytes
    }
}

/// Returns a message as a slice of `chunk`, which holds it. The last message takes the chunk.
fn take(chunk: &mut Option<Chunk>, offset: usize, len: usize) -> Bytes {
    match chunk.take_if(|chunk| chunk.ends_at(offset + len)) {
        Some(last) => last.into_last(offset),
        None => {
            chunk.as_ref().and_then(|chunk| chunk.message(offset, len)).expect("prepared for this message")
        }
    }
}
