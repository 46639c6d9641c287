//! Writing: room in the active segment, or the next one, or a refusal.

use super::plan::reaches;
use super::{Core, Switch};
use crate::config::WhenFull;
use crate::payload::Payload;
use crate::segment::ATTACHED_BYTES;
use crate::segment::state::{Kind, NotReserved, Slot, State};

/// An owned payload of this length travels by reference count.
const BY_REFERENCE_FROM: usize = 32 << 10;

/// Whether a sender has waited for memory, or would overtake those who have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Newcomer,
    First,
}

/// Why a message was not accepted. The payload stays with the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full,
    Closed,
    TooLarge { len: usize, max: usize },
}

impl Core {
    /// Copies a message into the active segment if there is room for it; false if there is more to do than that.
    #[inline(always)]
    pub(crate) fn write_quickly<P: Payload>(&self, bytes: &[u8]) -> bool {
        if self.goes_by_reference::<P>(bytes.len()) || bytes.len() > self.max_message_bytes {
            return false;
        }
        let sequence = self.pending.active();
        let Ok(slot) = self.pending.place(sequence).reserve(bytes.len(), self.capacity) else { return false };
        self.write_inline(sequence, slot, bytes);
        true
    }

    /// Accepts a message, or says why not and leaves the payload where it is.
    ///
    /// Only those whose `turn` it is get memory that others wait for; room in the open segment is anybody's.
    pub(crate) fn try_write<P: Payload>(&self, payload: &mut Option<P>, turn: Turn) -> Result<(), Refusal> {
        let bytes = payload.as_ref().expect("a payload to send").as_slice();
        let len = bytes.len();
        if len > self.max_message_bytes {
            return Err(Refusal::TooLarge { len, max: self.max_message_bytes });
        }
        if self.goes_by_reference::<P>(len) {
            return self.write_attached(payload, len, turn);
        }
        let (sequence, slot) = self.reserve(len, turn)?;
        self.write_inline(sequence, slot, bytes);
        *payload = None;
        Ok(())
    }

    #[inline(always)]
    pub(super) fn goes_by_reference<P: Payload>(&self, len: usize) -> bool {
        (P::OWNED && len >= BY_REFERENCE_FROM) || len > self.capacity.bytes
    }

    #[inline(always)]
    fn write_inline(&self, sequence: u64, slot: Slot, bytes: &[u8]) {
        let awaited = self.pool.segment(slot.segment).fill(&slot, bytes);
        let (messages, bytes) = slot.filled();
        if awaited | slot.awaited | (slot.index == 0) | reaches(self.load_limits(), messages, bytes) {
            self.wrote(sequence, slot, awaited);
        }
    }

    /// Accepts a message by reference.
    #[cold]
    pub(super) fn write_attached<P: Payload>(
        &self,
        payload: &mut Option<P>,
        len: usize,
        turn: Turn,
    ) -> Result<(), Refusal> {
        if self.is_closed() {
            return Err(Refusal::Closed);
        }
        // Room in a segment first: what is given back below could otherwise be what this sender waits for.
        self.make_room(ATTACHED_BYTES, turn)?;
        if self.is_after_others(turn) || !self.pool.reserve_referenced(len) {
            // Only a reader can make room, and it may be waiting for this very segment to be full; unless what is older
            // than this segment is dropped first.
            if self.when_full != WhenFull::DropOldest {
                self.switch_place(self.pending.active(), Switch::Full);
            }
            return Err(Refusal::Full);
        }
        let (sequence, slot) = match self.reserve(ATTACHED_BYTES, turn) {
            Ok(reserved) => reserved,
            Err(refusal) => {
                // Held on to while waiting, it could keep a segment from being had for ever.
                self.pool.release_referenced(len);
                return Err(refusal);
            }
        };
        let mut reservation = Reservation { core: self, sequence, slot: Some(slot), referenced: len };
        let bytes = payload.take().expect("a payload to send").into_bytes();
        let slot = reservation.slot.take().expect("just reserved");
        let awaited = self.pool.segment(slot.segment).attach(&slot, bytes);
        self.wrote(sequence, slot, awaited);
        Ok(())
    }

    /// Reserves a place for `len` bytes, switching to the next segment if need be.
    fn reserve(&self, len: usize, turn: Turn) -> Result<(u64, Slot), Refusal> {
        loop {
            let sequence = self.pending.active();
            match self.pending.place(sequence).reserve(len, self.capacity) {
                Ok(slot) => return Ok((sequence, slot)),
                Err(NotReserved::NoRoom) => self.switch_place(sequence, Switch::Full),
                Err(NotReserved::NotOpen(state)) => self.open_next(sequence, state, turn)?,
            }
        }
    }

    /// What is left of a writer that panicked, for models, which cannot look into a panic.
    #[cfg(all(test, turbostream_loom))]
    pub(crate) fn reserve_and_give_up(&self) {
        let (sequence, slot) = self.reserve(1, Turn::Newcomer).unwrap();
        drop(Reservation { core: self, sequence, slot: Some(slot), referenced: 0 });
    }

    /// Sees to it that the active segment has room for `len` bytes, without taking it.
    pub(super) fn make_room(&self, len: usize, turn: Turn) -> Result<(), Refusal> {
        loop {
            let sequence = self.pending.active();
            let state = self.pending.place(sequence).load();
            if !state.is_open() {
                self.open_next(sequence, state, turn)?;
            } else if state.has_room(len, self.capacity) {
                return Ok(());
            } else {
                self.switch_place(sequence, Switch::Full);
            }
        }
    }

    /// Whether there is somebody waiting for memory whose turn comes before.
    pub(super) fn is_after_others(&self, turn: Turn) -> bool {
        turn == Turn::Newcomer && self.pool.space.waiting() > 0
    }

    /// One step towards an open place, from the place at `sequence` that was seen not to be.
    pub(super) fn open_next(&self, sequence: u64, state: State, turn: Turn) -> Result<(), Refusal> {
        match state.kind() {
            Kind::Closed => return Err(Refusal::Closed),
            Kind::Sealed => self.pending.advance(sequence),
            Kind::Ready if self.is_after_others(turn) => return Err(Refusal::Full),
            Kind::Ready if state.is_ready_for(sequence) => {
                let segment = self.pool.acquire().ok_or(Refusal::Full)?;
                self.timer.start();
                if !self.pending.place(sequence).open(sequence, segment) {
                    self.pool.give_back(segment);
                }
            }
            // The place has moved on since `active` was read, or is open by now.
            Kind::Ready | Kind::Open => {}
        }
        Ok(())
    }

    /// After a commit that somebody waits for, or that is the first of its segment, or that reaches a limit.
    #[cold]
    pub(super) fn wrote(&self, sequence: u64, slot: Slot, awaited: bool) {
        if awaited && self.receivers() == 0 {
            self.discard();
        }
        if awaited || slot.awaited {
            self.announce();
        } else if slot.index == 0 && self.is_timed() {
            self.timer.watch_unread();
        }
        let (messages, bytes) = slot.filled();
        if slot.len == ATTACHED_BYTES || reaches(self.load_limits(), messages, bytes) {
            self.consider_switch(sequence);
        }
    }
}

/// A reserved place that becomes padding if nothing is put there.
struct Reservation<'a> {
    core: &'a Core,
    sequence: u64,
    slot: Option<Slot>,
    referenced: usize,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            let awaited = self.core.pool.segment(slot.segment).abandon(&slot);
            self.core.pool.release_referenced(self.referenced);
            self.core.wrote(self.sequence, slot, awaited);
            self.core.abandoned();
        }
    }
}
