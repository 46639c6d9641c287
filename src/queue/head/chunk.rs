//! How messages leave a segment: as slices of chunks, lent or copied.
//!
//! A chunk holds adjacent messages. It is made for the next message, with as many of the following ones as possible,
//! and each of them is a slice of it. So several messages share one reference to their segment, or one copy.

use std::ops::Deref;

use bytes::{Buf, Bytes};

use super::copy_arena::{CopyArena, SMALL_BELOW};
use crate::queue::ReadMode;
use crate::queue::segment::{Content, ReadRange, Segment};

/// The chunks that hold the next messages of a segment.
#[derive(Default)]
pub(crate) struct ChunkCache {
    /// Bytes of the segment itself.
    lent: Option<Chunk>,
    /// Small messages, copied to a page.
    copied: Option<Chunk>,
}

impl ChunkCache {
    /// Returns the message at this offset of the segment, if a chunk holds it already.
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

    /// Returns the next message of `range`, which lies at this offset, as a slice of the segment.
    pub(crate) fn lend<K>(&mut self, range: &ReadRange<K>, offset: usize, len: usize) -> Bytes
    where
        K: Deref<Target = Segment> + Clone + Send + 'static,
    {
        if len == 0 {
            return Bytes::new();
        }
        slice(&mut self.lent, offset, len, || {
            let (bytes, start) = range.lend(0, usize::MAX);
            Chunk { bytes: Bytes::from_owner(bytes), start }
        })
    }

    /// Returns a copy of the next message of `range`, which lies at this offset.
    ///
    /// A small message shares its page with the messages that follow it.
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

/// Returns a message as a slice of `chunk`. Makes a new chunk if this one does not hold the message.
///
/// The last message takes the chunk.
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
