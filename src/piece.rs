//! How messages leave a segment: as slices of pieces of it, lent or copied.

use std::ops::Deref;

use bytes::{Buf, Bytes};

use crate::config::ReadMode;
use crate::page::{Pages, SMALL_BELOW};
use crate::segment::{Claim, Content, Segment};

/// The pieces that the next messages of a segment are slices of.
#[derive(Default)]
pub(crate) struct Pieces {
    /// Where the messages lie.
    lent: Option<Piece>,
    /// Small messages, copied to a page.
    copied: Option<Piece>,
}

impl Pieces {
    /// The message at this offset of the segment, if it is in a piece already.
    #[inline(always)]
    pub(crate) fn message(&self, mode: ReadMode, offset: usize, len: usize) -> Option<Bytes> {
        if len == 0 {
            return Some(Bytes::new());
        }
        let piece = match mode {
            ReadMode::ZeroCopy => &self.lent,
            ReadMode::Safe => &self.copied,
        };
        piece.as_ref()?.message(offset, len)
    }

    /// The next message of `claim`, which lies at this offset, as a slice of the segment.
    pub(crate) fn lend<K>(&mut self, claim: &Claim<K>, offset: usize, len: usize) -> Bytes
    where
        K: Deref<Target = Segment> + Clone + Send + 'static,
    {
        if len == 0 {
            return Bytes::new();
        }
        slice(&mut self.lent, offset, len, || {
            let (run, start) = claim.run();
            Piece { bytes: Bytes::from_owner(run), start }
        })
    }

    /// The next message of `claim`, which lies at this offset, as a copy; a small one shares its page with those
    /// behind it.
    pub(crate) fn copy<K>(&mut self, claim: &Claim<K>, offset: usize, len: usize, pages: &mut Pages) -> Bytes
    where
        K: Deref<Target = Segment>,
    {
        if len == 0 {
            return Bytes::new();
        }
        if len >= SMALL_BELOW {
            let Content::Inline(bytes) = claim.get(0) else { unreachable!("it has an offset") };
            return Bytes::copy_from_slice(bytes);
        }
        slice(&mut self.copied, offset, len, || {
            let (bytes, start) = claim.stretch(SMALL_BELOW, pages.make_room(len));
            Piece { bytes: pages.copy(bytes), start }
        })
    }
}

/// Bytes that messages one behind the other are slices of.
struct Piece {
    bytes: Bytes,
    /// The offset in the segment that it starts at.
    start: usize,
}

impl Piece {
    #[inline(always)]
    fn message(&self, offset: usize, len: usize) -> Option<Bytes> {
        let from = offset.checked_sub(self.start)?;
        (from + len <= self.bytes.len()).then(|| self.bytes.slice(from..from + len))
    }

    /// Whether no message after the one that ends at this offset is in it.
    fn ends_at(&self, offset: usize) -> bool {
        offset == self.start + self.bytes.len()
    }

    /// Becomes its last message, which starts at `offset`: nobody needs the piece any more.
    fn into_last(mut self, offset: usize) -> Bytes {
        self.bytes.advance(offset - self.start);
        self.bytes
    }
}

/// A message out of `piece`, which is made anew if it does not hold it, and given up with its last message.
fn slice(piece: &mut Option<Piece>, offset: usize, len: usize, make: impl FnOnce() -> Piece) -> Bytes {
    let holds = |piece: &Piece| piece.start <= offset && offset + len <= piece.start + piece.bytes.len();
    if !piece.as_ref().is_some_and(holds) {
        *piece = Some(make());
    }
    match piece.take_if(|piece| piece.ends_at(offset + len)) {
        Some(last) => last.into_last(offset),
        None => piece.as_ref().and_then(|piece| piece.message(offset, len)).expect("made for this message"),
    }
}
