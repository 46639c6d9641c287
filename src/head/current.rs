//! The segment being read: what was taken from it, and how a message leaves it.

use bytes::Bytes;

use super::{Aftermath, Outlook};
use crate::batch::Batch;
use crate::channel::Core;
use crate::config::ReadMode;
use crate::page::{Pages, SMALL_BELOW};
use crate::piece::Pieces;
use crate::pool::Lease;
use crate::segment::{Claim, Content};
use crate::spin;
use crate::volume::Volume;

/// Above this length a message is lent in Safe mode.
const LENT_ABOVE: usize = 32 << 10;
/// The last message that is known to be readable is not taken quickly: more is to be done behind it.
const QUICK_FROM: usize = 2;

/// The segment at the head, as far as it was sealed or cut.
pub(super) struct Current {
    claim: Claim<Lease>,
    pieces: Pieces,
    /// Bytes taken from it so far.
    taken_bytes: u64,
    /// Messages skipped in it so far, as they were abandoned.
    skipped: u64,
    /// What was taken and dropped.
    dropped: Volume,
    /// How many readable messages there have to be for one to be taken quickly.
    quick_from: usize,
}

impl Current {
    /// Of the segment behind `lease`, as yet without messages.
    pub(super) fn new(lease: Lease) -> Self {
        Self {
            claim: Claim::new(lease),
            pieces: Pieces::default(),
            taken_bytes: 0,
            skipped: 0,
            dropped: Volume::default(),
            quick_from: QUICK_FROM,
        }
    }

    /// More messages of the segment were sealed or cut: all up to `end`.
    pub(super) fn extend(&mut self, end: usize) {
        self.claim.extend(end);
    }

    /// How many messages of the segment are known to be sealed or cut.
    pub(super) fn end(&self) -> usize {
        self.claim.end()
    }

    /// How many of them were taken or skipped.
    pub(super) fn position(&self) -> usize {
        self.claim.position()
    }

    /// Whether messages can be taken quickly at all, which costs `take_quickly` nothing.
    pub(super) fn take_quickly_unless(&mut self, slowly: bool) {
        self.quick_from = if slowly || self.has_padding() { usize::MAX } else { QUICK_FROM };
    }

    /// Whether there is padding among the messages that are known to be committed.
    fn has_padding(&self) -> bool {
        self.claim.segment().abandoned() > 0
    }

    /// Leaves padding behind that comes next: whoever took the last message before it may never come again.
    pub(super) fn skip_padding(&mut self) {
        if self.has_padding() {
            self.outlook();
        }
    }

    /// How many of them were not taken yet.
    pub(super) fn remaining(&self) -> usize {
        self.claim.remaining()
    }

    /// Whether the next message can be taken; nothing if all were.
    pub(super) fn outlook(&mut self) -> Option<Outlook> {
        while self.claim.remaining() > 0 {
            if self.claim.readable() == 0 && !spin::look_until(|| self.claim.look() > 0) {
                return Some(Outlook::Stalled);
            }
            if self.has_padding() {
                // Of what is taken quickly nobody looks what lies behind.
                self.quick_from = usize::MAX;
            }
            if !matches!(self.claim.get(0), Content::Abandoned) {
                return Some(Outlook::Readable);
            }
            self.claim.advance();
            self.skipped += 1;
        }
        None
    }

    /// See [`Head::take_quickly`](super::Head::take_quickly).
    #[inline(always)]
    pub(super) fn take_quickly(&mut self, mode: ReadMode, released: &mut usize) -> Option<Bytes> {
        if self.claim.readable() < self.quick_from {
            return None;
        }
        let Some((offset, len)) = self.claim.inline_next() else {
            let payload = self.claim.take_attached()?;
            self.taken_bytes += payload.len() as u64;
            *released += payload.len();
            return Some(payload);
        };
        let message = self.pieces.message(mode, offset, len)?;
        self.taken_bytes += len as u64;
        self.claim.advance();
        Some(message)
    }

    /// Takes the next message, which is readable. Also returns how many bytes of it travelled by reference.
    pub(super) fn take(&mut self, core: &Core, mode: ReadMode, pages: &mut Pages) -> (Bytes, usize) {
        let (message, released) = match self.claim.take_attached() {
            Some(payload) => {
                let len = payload.len();
                (payload, len)
            }
            None => {
                let (offset, len) = self.claim.inline_next().expect("neither padding nor attached");
                let message = if mode == ReadMode::ZeroCopy || self.is_lent_when_safe(core, len) {
                    self.pieces.lend(&self.claim, offset, len)
                } else {
                    self.pieces.copy(&self.claim, offset, len, pages)
                };
                self.claim.advance();
                (message, 0)
            }
        };
        self.taken_bytes += message.len() as u64;
        (message, released)
    }

    /// See [`ReadMode::Safe`].
    fn is_lent_when_safe(&self, core: &Core, len: usize) -> bool {
        len > LENT_ABOVE || (len >= SMALL_BELOW && core.may_lend(self.claim.segment()))
    }

    /// Takes up to `limit` messages as they lie; the first is readable, and so is the batch. Also returns how many bytes
    /// of it travelled by reference.
    pub(super) fn take_batch(
        &mut self,
        limit: usize,
        mode: ReadMode,
        first_in_segment: u64,
    ) -> (Batch, usize) {
        let claim = self.claim.split(self.claim.whole_messages(limit));
        let first = first_in_segment.wrapping_add(claim.position() as u64);
        let payload = claim.payload();
        self.taken_bytes += payload.bytes as u64;
        (Batch::new(claim, first, payload.bytes, mode), payload.attached_bytes)
    }

    /// Takes the next message, which is readable, to drop it.
    pub(super) fn discard_one(&mut self, after: &mut Aftermath) -> usize {
        let len = match self.claim.take_attached() {
            Some(payload) => {
                let len = payload.len();
                after.released += len;
                after.discarded.push(payload);
                len
            }
            None => {
                let (_, len) = self.claim.inline_next().expect("neither padding nor attached");
                self.claim.advance();
                len
            }
        };
        self.taken_bytes += len as u64;
        self.dropped += Volume::of(1, len);
        len
    }

    /// Whether all messages that are left are committed.
    pub(super) fn is_committed(&mut self) -> bool {
        spin::look_until(|| self.claim.look() == self.claim.remaining())
    }

    /// Whether taking all that is left would free no memory, as long as somebody refers to what was taken before.
    pub(super) fn is_lent_alone(&self) -> bool {
        self.claim.segment().is_shared() && self.claim.segment().is_plain()
    }

    /// Takes all messages that are left, which are committed, to drop them.
    pub(super) fn discard_rest(&mut self, after: &mut Aftermath) -> Volume {
        if !self.claim.segment().is_plain() {
            let mut rest = Volume::default();
            while self.outlook() == Some(Outlook::Readable) {
                rest += Volume::of(1, self.discard_one(after));
            }
            return rest;
        }
        let rest = self.claim.split(self.claim.remaining());
        let dropped = Volume::of(rest.remaining(), rest.payload().bytes);
        self.taken_bytes += dropped.bytes;
        self.dropped += dropped;
        dropped
    }

    /// Once all messages were taken, or before they are given up.
    pub(super) fn let_pieces_go(&mut self) {
        self.pieces = Pieces::default();
    }

    /// Whether all messages known of were taken, and some are still referred to.
    pub(super) fn has_lent_all(&self) -> bool {
        self.remaining() == 0 && self.claim.segment().is_shared()
    }

    /// Asks the writer of the next message for a wake; false if it has committed meanwhile.
    pub(super) fn await_commit(&self) -> bool {
        self.claim.await_commit()
    }

    /// The segment, all of whose messages were taken, and how many there were.
    pub(super) fn into_lease(self) -> (Lease, usize) {
        let messages = self.claim.end();
        (self.claim.into_segment(), messages)
    }

    /// Messages taken from the segment, handed out or dropped.
    pub(super) fn taken(&self) -> Volume {
        Volume { messages: self.claim.position() as u64 - self.skipped, bytes: self.taken_bytes }
    }

    pub(super) fn handed_out(&self) -> Volume {
        self.taken() - self.dropped
    }
}
