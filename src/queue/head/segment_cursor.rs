//! The segment being read: which of its messages were taken, and how the next one is taken.

use std::mem;
use std::task::Poll;

use bytes::Bytes;

use super::ahead::{Ahead, Returned};
use super::chunk::{ChunkCache, TakenRange, is_lent_when_safe};
use super::copy_arena::CopyArena;
use super::{Effects, Position, Readiness};
use crate::queue::limit::Limit;
use crate::queue::pool::ChannelRef;
use crate::queue::segment::{Content, ReadRange};
use crate::queue::{Queue, ReadMode};
use crate::telemetry::stats::Totals;
use crate::wait::spin::spin_until;

/// The fast path leaves the last readable message: after that one, a segment may have to be cut or retired.
const MIN_FOR_FAST: usize = 2;

/// The segment at the head, up to where it is known to be sealed or cut.
pub(super) struct SegmentCursor {
    range: ReadRange<ChannelRef>,
    chunks: ChunkCache,
    /// Payload bytes taken so far, without those of the `uncounted` messages.
    taken_bytes: u64,
    /// How many of the messages before the position were claimed one by one: their entries are not read under the lock of
    /// the head until their bytes are needed.
    uncounted: usize,
    /// How many abandoned messages were skipped so far.
    skipped: u64,
    /// Messages that were taken and dropped.
    dropped: Totals,
    /// How many messages must be readable for the fast path; `usize::MAX` disables it.
    min_for_fast: usize,
}

impl SegmentCursor {
    /// Makes a cursor at the start of `segment`, without messages.
    pub(super) fn new(segment: ChannelRef) -> Self {
        Self {
            range: ReadRange::new(segment),
            chunks: ChunkCache::default(),
            taken_bytes: 0,
            uncounted: 0,
            skipped: 0,
            dropped: Totals::default(),
            min_for_fast: MIN_FOR_FAST,
        }
    }

    /// Returns the number of the segment.
    pub(super) fn number(&self) -> usize {
        self.range.segment().number()
    }

    /// Adds the messages up to `end`, which were sealed or cut since.
    pub(super) fn extend(&mut self, end: usize) {
        self.range.extend(end);
    }

    /// Returns how many messages of the segment are known to be sealed or cut.
    pub(super) fn end(&self) -> usize {
        self.range.end()
    }

    /// Returns how many of them were taken or skipped.
    pub(super) fn position(&self) -> usize {
        self.range.position()
    }

    /// Disables the fast path if `condition` holds or there is padding; otherwise enables it.
    ///
    /// `take_fast` has no check of its own for this.
    pub(super) fn disable_fast_if(&mut self, condition: bool) {
        self.min_for_fast = if condition || self.has_padding() { usize::MAX } else { MIN_FOR_FAST };
    }

    /// Whether the segment has had padding so far.
    fn has_padding(&self) -> bool {
        self.range.segment().abandoned() > 0
    }

    /// Skips padding at the next position: it is possible that no receiver locks the head again to do so later.
    pub(super) fn skip_padding(&mut self) {
        if self.has_padding() {
            self.readiness();
        }
    }

    /// Returns how many known messages were not taken or skipped yet.
    pub(super) fn remaining(&self) -> usize {
        self.range.remaining()
    }

    /// Skips padding, and returns whether the next message can be taken; nothing if all known messages were.
    #[inline]
    pub(super) fn readiness(&mut self) -> Option<Readiness> {
        while self.range.remaining() > 0 {
            let is_committed = self.range.readable() > 0 || self.range.advance_committed() > 0;
            if !is_committed && !spin_until(|| self.range.advance_committed() > 0) {
                return Some(Readiness::Stalled);
            }
            // An abandoned message is counted before its commit.
            if !self.has_padding() {
                return Some(Readiness::Readable);
            }
            // Disables the fast path: it does not skip padding.
            self.min_for_fast = usize::MAX;
            if !matches!(self.range.get(0), Content::Abandoned) {
                return Some(Readiness::Readable);
            }
            self.count_taken();
            self.range.advance();
            self.skipped += 1;
        }
        None
    }

    /// Whether a closure writes the next message that is not committed.
    pub(super) fn is_in_place(&self) -> bool {
        self.range.is_in_place()
    }

    /// See [`Head::take_fast`](super::Head::take_fast).
    #[inline(always)]
    pub(super) fn take_fast(&mut self, mode: ReadMode, released: &mut usize) -> Option<Bytes> {
        if self.range.readable() < self.min_for_fast {
            return None;
        }
        self.count_taken();
        let Some((offset, len)) = self.range.inline_next() else {
            let payload = self.range.take_external()?;
            self.taken_bytes += payload.len() as u64;
            *released += payload.len();
            return Some(payload);
        };
        let message = self.chunks.message(mode, offset, len)?;
        self.taken_bytes += len as u64;
        self.range.advance();
        Some(message)
    }

    /// See [`Head::take_external_into`](super::Head::take_external_into). Returns the length of the payload.
    #[inline(always)]
    pub(super) fn take_external_into(&mut self, received: &mut Poll<Option<Bytes>>) -> Option<usize> {
        if self.range.readable() < self.min_for_fast {
            return None;
        }
        self.count_taken();
        debug_assert!(received.is_pending());
        // Nothing is dropped: the check would make the compiler move the payload twice.
        let put = |payload| mem::forget(mem::replace(received, Poll::Ready(Some(payload))));
        let len = self.range.move_external(put)?;
        self.taken_bytes += len as u64;
        Some(len)
    }

    /// Moves up to `limit` inline messages to `ahead`; returns false if that is not possible now.
    ///
    /// The last readable message stays, and the fast path must be enabled.
    #[inline]
    pub(super) fn claim(&mut self, limit: usize, first: (Position, u64), ahead: &mut Ahead) -> bool {
        let readable = self.range.readable();
        if readable < self.min_for_fast {
            return false;
        }
        let messages = self.range.inline_messages(limit.min(readable - 1));
        if messages == 0 {
            return false;
        }
        let mut bytes = 0;
        if messages == 1 {
            self.uncounted += 1;
        } else {
            self.count_taken();
            bytes = self.range.payload(messages).bytes;
            self.taken_bytes += bytes as u64;
        }
        ahead.fill(&mut self.range, messages, bytes, first);
        true
    }

    /// Counts the bytes of what was claimed, before other messages are taken.
    #[inline]
    fn count_taken(&mut self) {
        if self.uncounted > 0 {
            self.taken_bytes += self.range.bytes_before(self.uncounted) as u64;
            self.uncounted = 0;
        }
    }

    /// Moves what is left in `ahead` back if it directly precedes the next message; otherwise returns it.
    pub(super) fn take_back(&mut self, ahead: &mut Ahead) -> Option<Returned> {
        let bytes = ahead.left_bytes();
        let returned = ahead.give_back(Some(&mut self.range));
        if returned.is_none() {
            self.taken_bytes -= bytes;
        }
        returned
    }

    /// Takes the next message, which is readable. Adds the bytes of an external payload to `released`.
    #[inline]
    pub(super) fn take(
        &mut self,
        queue: &Queue,
        mode: ReadMode,
        arena: &mut CopyArena,
        released: &mut usize,
    ) -> Bytes {
        self.count_taken();
        let Some((offset, len)) = self.range.inline_next() else {
            let payload = self.range.take_external().expect("neither padding nor inline");
            self.taken_bytes += payload.len() as u64;
            *released += payload.len();
            return payload;
        };
        let message = if mode == ReadMode::ZeroCopy || is_lent_when_safe(queue, self.range.segment(), len) {
            self.chunks.lend(&self.range, offset, len)
        } else {
            self.chunks.copy(&self.range, offset, len, arena)
        };
        self.range.advance();
        self.taken_bytes += len as u64;
        message
    }

    /// Takes messages within `limit` as they lie in the segment. The first must be readable, and is always taken.
    ///
    /// Also returns how many of their bytes are external.
    pub(super) fn take_range(&mut self, limit: Limit, first_in_segment: u64) -> (TakenRange, usize) {
        self.count_taken();
        let range = self.range.split(self.range.whole_messages(limit));
        let first_sequence = first_in_segment.wrapping_add(range.position() as u64);
        let payload = range.payload(range.remaining());
        self.taken_bytes += payload.bytes as u64;
        (TakenRange { range, first_sequence, payload_bytes: payload.bytes }, payload.external_bytes)
    }

    /// Returns the length of the next message, which is readable.
    pub(super) fn next_len(&self) -> usize {
        self.range.get(0).bytes().map_or(0, <[u8]>::len)
    }

    /// Takes the next message, which is readable, to drop it; returns its length.
    pub(super) fn discard_one(&mut self, effects: &mut Effects) -> usize {
        self.count_taken();
        let len = match self.range.take_external() {
            Some(payload) => {
                let len = payload.len();
                effects.released += len;
                effects.discarded.push(payload);
                len
            }
            None => {
                let (_, len) = self.range.inline_next().expect("neither padding nor external");
                self.range.advance();
                len
            }
        };
        self.taken_bytes += len as u64;
        self.dropped += Totals::of(1, len);
        len
    }

    /// Whether all remaining messages are committed.
    pub(super) fn is_committed(&mut self) -> bool {
        spin_until(|| self.range.advance_committed() == self.range.remaining())
    }

    /// Returns the number of the segment if received messages refer to it. Drops the cached chunks, which refer to it too.
    pub(super) fn lent_segment(&mut self) -> Option<usize> {
        self.drop_chunks();
        let segment = self.range.segment();
        segment.is_shared().then(|| segment.number())
    }

    /// Whether dropping the remaining messages would free no memory.
    ///
    /// That is so if received messages still refer to the segment, and no external payload lies in it.
    pub(super) fn frees_nothing_if_dropped(&self) -> bool {
        self.range.segment().is_shared() && self.range.segment().is_contiguous()
    }

    /// Takes the remaining messages, which are committed, to drop them.
    pub(super) fn discard_remaining(&mut self, effects: &mut Effects) -> Totals {
        self.count_taken();
        if !self.range.segment().is_contiguous() {
            let mut dropped = Totals::default();
            while self.readiness() == Some(Readiness::Readable) {
                dropped += Totals::of(1, self.discard_one(effects));
            }
            return dropped;
        }
        let remaining = self.range.split(self.range.remaining());
        let messages = remaining.remaining();
        let dropped = Totals::of(messages, remaining.payload(messages).bytes);
        self.taken_bytes += dropped.bytes;
        self.dropped += dropped;
        dropped
    }

    /// Drops the cached chunks, once all messages were taken or before they are dropped.
    #[inline]
    pub(super) fn drop_chunks(&mut self) {
        self.chunks = ChunkCache::default();
    }

    /// Whether all known messages were taken, and received messages still refer to the segment.
    pub(super) fn is_lent_after_all_read(&self) -> bool {
        self.remaining() == 0 && self.range.segment().is_shared()
    }

    /// Records that a thread waits for the stalled message; returns false if it was committed meanwhile.
    pub(super) fn set_awaited(&self) -> bool {
        self.range.set_awaited()
    }

    /// Returns the segment, whose messages must all have been taken, and how many there were.
    pub(super) fn into_segment(self) -> (ChannelRef, usize) {
        let messages = self.range.end();
        (self.range.into_segment(), messages)
    }

    /// Returns the messages taken from the segment, received or dropped.
    pub(super) fn taken(&self) -> Totals {
        let bytes = self.taken_bytes + self.range.bytes_before(self.uncounted) as u64;
        Totals { messages: self.range.position() as u64 - self.skipped, bytes }
    }

    /// Returns the messages that receivers got from the segment.
    pub(super) fn received(&self) -> Totals {
        self.taken() - self.dropped
    }
}
