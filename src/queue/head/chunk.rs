//! How messages leave a segment: as slices of pieces of it, lent or copied.

use std::ops::Deref;

use bytes::{Buf, Bytes};

use super::copy_arena::{CopyArena, SMALL_BELOW};
use crate::queue::ReadMode;
use crate::queue::segment::{Content, ReadRange, Segment};

/// The pieces that the next messages of a segment are slices of.
#[derive(Default)]
pub(crate) struct ChunkCache {
    /// Where the messages lie.
    lent: Option<Chunk>,
    /// Small messages, copied to a page.
    copied: Option<Chunk>,
}

impl ChunkCache {
    /// The message at this offset of the segment, if it is in a chunk already.
    #[inline(always)]
    pub(crate) fn message(&self, mode: ReadMode, offset: usize, len: usize) -> Option<Bytes> {
        if len == 0 {
            return Some(Bytes::new());
        }
        let chunk = match mode {
            ReadMode::ZeroCopy => &self.lent,
            ReadMode::Safe => &self.copied,
        };
        chunk.as_ref()?.message(offset, len)
    }

    /// The next message of `range`, which lies at this offset, as a slice of the segment.
    pub(crate) fn lend<K>(&mut self, range: &ReadRange<K>, offset: usize, len: usize) -> Bytes
    where
        K: Deref<Target = Segment> + Clone + Send + 'static,
    {
        if len == 0 {
            return Bytes::new();
        }
        slice(&mut self.lent, offset, len, || {
            let (bytes, start) = range.lend();
            Chunk { bytes: Bytes::from_owner(bytes), start }
        })
    }

    /// The next message of `range`, which lies at this offset, as a copy; a small one shares its page with those
    /// behind it.
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
        if len >= SMALL_BELOW {
            let Content::Inline(bytes) = range.get(0) else { unreachable!("it has an offset") };
            return Bytes::copy_from_slice(bytes);
        }
        slice(&mut self.copied, offset, len, || {
            let (bytes, start) = range.contiguous_small(SMALL_BELOW, arena.make_room(len));
            Chunk { bytes: arena.copy(bytes), start }
        })
    }
}

/// Bytes that messages one behind the other are slices of.
struct Chunk {
    bytes: Bytes,
    /// The offset in the segment that it starts at.
    start: usize,
}

impl Chunk {
    #[inline(always)]
    fn message(&self, offset: usize, len: usize) -> Option<Bytes> {
        let from = offset.checked_sub(self.start)?;
        (from + len <= self.bytes.len()).then(|| self.bytes.slice(from..from + len))
    }

    /// Whether no message after the one that ends at this offset is in it.
    fn ends_at(&self, offset: usize) -> bool {
        offset == self.start + self.bytes.len()
    }

    /// Becomes its last message, which starts at `offset`: nobody needs the chunk any more.
    fn into_last(mut self, offset: usize) -> Bytes {
        self.bytes.advance(offset - self.start);
        self.bytes
    }
}

/// A message out of `chunk`, which is made anew if it does not hold it, and given up with its last message.
fn slice(chunk: &mut Option<Chunk>, offset: usize, len: usize, make: impl FnOnce() -> Chunk) -> Bytes {
    let holds = |chunk: &Chunk| chunk.start <= offset && offset + len <= chunk.start + chunk.bytes.len();
    if !chunk.as_ref().is_some_and(holds) {
        *chunk = Some(make());
    }
    match chunk.take_if(|chunk| chunk.ends_at(offset + len)) {
        Some(last) => last.into_last(offset),
        None => chunk.as_ref().and_then(|chunk| chunk.message(offset, len)).expect("made for this message"),
    }
}
