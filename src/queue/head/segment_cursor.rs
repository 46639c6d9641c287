//! The segment being read: what was taken from it, and how a message leaves it.

use bytes::Bytes;

use super::chunk::ChunkCache;
use super::copy_arena::{CopyArena, SMALL_BELOW};
use super::{Effects, Readiness};
use crate::queue::pool::SegmentRef;
use crate::queue::segment::{Content, ReadRange};
use crate::queue::{Queue, ReadMode};
use crate::telemetry::stats::Totals;
use crate::wait::spin::spin_until;

/// Above this length a message is lent in Safe mode.
const LENT_ABOVE: usize = 32 << 10;
/// The last message that is known to be readable is not taken quickly: more is to be done behind it.
const FAST_FROM: usize = 2;

/// Messages that a receiver took where they lie.
pub(crate) struct TakenRange {
    pub(crate) range: ReadRange<SegmentRef>,
    pub(crate) first_sequence: u64,
    pub(crate) payload_bytes: usize,
}

/// The segment at the head, as far as it was sealed or cut.
pub(super) struct SegmentCursor {
    range: ReadRange<SegmentRef>,
    chunks: ChunkCache,
    /// Bytes taken from it so far.
    taken_bytes: u64,
    /// Messages skipped in it so far, as they were abandoned.
    skipped: u64,
    /// What was taken and dropped.
    dropped: Totals,
    /// How many readable messages there have to be for one to be taken quickly.
    fast_from: usize,
}

impl SegmentCursor {
    /// Of the segment behind `lease`, as yet without messages.
    pub(super) fn new(lease: SegmentRef) -> Self {
        Self {
            range: ReadRange::new(lease),
            chunks: ChunkCache::default(),
            taken_bytes: 0,
            skipped: 0,
            dropped: Totals::default(),
            fast_from: FAST_FROM,
        }
    }

    /// More messages of the segment were sealed or cut: all up to `end`.
    pub(super) fn extend(&mut self, end: usize) {
        self.range.extend(end);
    }

    /// How many messages of the segment are known to be sealed or cut.
    pub(super) fn end(&self) -> usize {
        self.range.end()
    }

    /// How many of them were taken or skipped.
    pub(super) fn position(&self) -> usize {
        self.range.position()
    }

    /// Whether messages can be taken quickly at all, which costs `take_fast` nothing.
    pub(super) fn set_fast_unless(&mut self, slowly: bool) {
        self.fast_from = if slowly || self.has_padding() { usize::MAX } else { FAST_FROM };
    }

    /// Whether there is padding among the messages that are known to be committed.
    fn has_padding(&self) -> bool {
        self.range.segment().abandoned() > 0
    }

    /// Leaves padding behind that comes next: whoever took the last message before it may never come again.
    pub(super) fn skip_padding(&mut self) {
        if self.has_padding() {
            self.readiness();
        }
    }

    /// How many of them were not taken yet.
    pub(super) fn remaining(&self) -> usize {
        self.range.remaining()
    }

    /// Whether the next message can be taken; nothing if all were.
    pub(super) fn readiness(&mut self) -> Option<Readiness> {
        while self.range.remaining() > 0 {
            if self.range.readable() == 0 && !spin_until(|| self.range.advance_committed() > 0) {
                return Some(Readiness::Stalled);
            }
            if self.has_padding() {
                // Of what is taken quickly nobody looks what lies behind.
                self.fast_from = usize::MAX;
            }
            if !matches!(self.range.get(0), Content::Abandoned) {
                return Some(Readiness::Readable);
            }
            self.range.advance();
            self.skipped += 1;
        }
        None
    }

    /// See [`Head::take_fast`](super::Head::take_fast).
    #[inline(always)]
    pub(super) fn take_fast(&mut self, mode: ReadMode, released: &mut usize) -> Option<Bytes> {
        if self.range.readable() < self.fast_from {
            return None;
        }
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

    /// Takes the next message, which is readable. Also returns how many bytes of it travelled by reference.
    pub(super) fn take(&mut self, queue: &Queue, mode: ReadMode, arena: &mut CopyArena) -> (Bytes, usize) {
        let (message, released) = match self.range.take_external() {
            Some(payload) => {
                let len = payload.len();
                (payload, len)
            }
            None => {
                let (offset, len) = self.range.inline_next().expect("neither padding nor external");
                let message = if mode == ReadMode::ZeroCopy || self.is_lent_when_safe(queue, len) {
                    self.chunks.lend(&self.range, offset, len)
                } else {
                    self.chunks.copy(&self.range, offset, len, arena)
                };
                self.range.advance();
                (message, 0)
            }
        };
        self.taken_bytes += message.len() as u64;
        (message, released)
    }

    /// See [`ReadMode::Safe`].
    fn is_lent_when_safe(&self, queue: &Queue, len: usize) -> bool {
        len > LENT_ABOVE || (len >= SMALL_BELOW && queue.may_lend(self.range.segment()))
    }

    /// Takes up to `limit` messages where they lie; the first is readable. Also returns how many bytes are external.
    pub(super) fn take_range(&mut self, limit: usize, first_in_segment: u64) -> (TakenRange, usize) {
        let range = self.range.split(self.range.whole_messages(limit));
        let first_sequence = first_in_segment.wrapping_add(range.position() as u64);
        let payload = range.payload();
        self.taken_bytes += payload.bytes as u64;
        (TakenRange { range, first_sequence, payload_bytes: payload.bytes }, payload.external_bytes)
    }

    /// Takes the next message, which is readable, to drop it.
    pub(super) fn discard_one(&mut self, effects: &mut Effects) -> usize {
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

    /// Whether all messages that are left are committed.
    pub(super) fn is_committed(&mut self) -> bool {
        spin_until(|| self.range.advance_committed() == self.range.remaining())
    }

    /// Whether taking all that is left would free no memory, as long as somebody refers to what was taken before.
    pub(super) fn is_lent_alone(&self) -> bool {
        self.range.segment().is_shared() && self.range.segment().is_contiguous()
    }

    /// Takes all messages that are left, which are committed, to drop them.
    pub(super) fn discard_rest(&mut self, effects: &mut Effects) -> Totals {
        if !self.range.segment().is_contiguous() {
            let mut rest = Totals::default();
            while self.readiness() == Some(Readiness::Readable) {
                rest += Totals::of(1, self.discard_one(effects));
            }
            return rest;
        }
        let rest = self.range.split(self.range.remaining());
        let dropped = Totals::of(rest.remaining(), rest.payload().bytes);
        self.taken_bytes += dropped.bytes;
        self.dropped += dropped;
        dropped
    }

    /// Once all messages were taken, or before they are given up.
    pub(super) fn drop_chunks(&mut self) {
        self.chunks = ChunkCache::default();
    }

    /// Whether all messages known of were taken, and some are still referred to.
    pub(super) fn is_lent_after_all_read(&self) -> bool {
        self.remaining() == 0 && self.range.segment().is_shared()
    }

    /// Asks the writer of the next message for a wake; false if it has committed meanwhile.
    pub(super) fn set_commit_waiter(&self) -> bool {
        self.range.set_commit_waiter()
    }

    /// The segment, all of whose messages were taken, and how many there were.
    pub(super) fn into_lease(self) -> (SegmentRef, usize) {
        let messages = self.range.end();
        (self.range.into_segment(), messages)
    }

    /// Messages taken from the segment, handed out or dropped.
    pub(super) fn taken(&self) -> Totals {
        Totals { messages: self.range.position() as u64 - self.skipped, bytes: self.taken_bytes }
    }

    pub(super) fn handed_out(&self) -> Totals {
        self.taken() - self.dropped
    }
}
