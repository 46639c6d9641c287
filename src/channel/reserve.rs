//! Room for what is to be written: a slot in the active segment or in the next one, and memory for what travels by
//! reference.

use bytes::Bytes;

use super::{Core, SwitchCause};
use crate::config::WhenFull;
use crate::segment::state::{Kind, NotReserved, State, Word};
use crate::segment::{ATTACHED_BYTES, Slot};

/// Whether a sender has waited for memory, or would overtake those who have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
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
    /// Reserves a slot for a payload by reference, and memory for its `len` bytes.
    #[inline(always)]
    pub(super) fn reserve_attached(
        &self,
        len: usize,
        standing: Standing,
    ) -> Result<Reservation<'_>, Refusal> {
        if self.is_closed() {
            return Err(Refusal::Closed);
        }
        // Room in a segment first: what is given back below could otherwise be what this sender waits for.
        let opened = self.make_room(ATTACHED_BYTES, standing)?;
        let reserved = !self.is_after_others(standing)
            && (self.pool.reserve_referenced(len) || {
                self.leave_what_was_read();
                self.pool.free_for_referenced(len)
            });
        if !reserved {
            // Only a reader can make room, and it may be waiting for this very segment to be full; unless what is older
            // than this segment is dropped first.
            if self.when_full != WhenFull::DropOldest {
                self.switch_place(self.pending.active(), SwitchCause::Full);
            }
            if opened {
                // Smaller messages of others may wait for what this one cannot use.
                self.pool.wake_senders(self.capacity.messages);
            }
            return Err(Refusal::Full);
        }
        let (sequence, slot) = match self.reserve(ATTACHED_BYTES, standing) {
            Ok(reserved) => reserved,
            Err(refusal) => {
                // Held on to while waiting, it could keep a segment from being had for ever.
                self.pool.release_referenced(len);
                return Err(refusal);
            }
        };
        Ok(Reservation::new(self, sequence, slot, len))
    }

    /// Reserves a slot for `len` bytes, switching to the next segment if need be.
    #[inline(always)]
    pub(super) fn reserve(&self, len: usize, standing: Standing) -> Result<(u64, Slot), Refusal> {
        self.reserve_with(standing, |word| word.reserve(len, self.capacity))
    }

    #[inline(always)]
    pub(super) fn reserve_with<T>(
        &self,
        standing: Standing,
        reserve: impl Fn(&Word) -> Result<T, NotReserved>,
    ) -> Result<(u64, T), Refusal> {
        // Timed until this writer has its slot.
        let mut underway = None;
        loop {
            let sequence = self.pending.active();
            match reserve(self.pending.place(sequence)) {
                Ok(reserved) => return Ok((sequence, reserved)),
                Err(NotReserved::NoRoom) => {
                    underway = self.begin_switch(sequence, SwitchCause::Full).or(underway)
                }
                Err(NotReserved::NotOpen(state)) => _ = self.open_next(sequence, state, standing)?,
            }
        }
    }

    /// Sees to it that the active segment has room for `len` bytes, without taking it; true if it had to be opened.
    fn make_room(&self, len: usize, standing: Standing) -> Result<bool, Refusal> {
        let (mut opened, mut underway) = (false, None);
        loop {
            let sequence = self.pending.active();
            let state = self.pending.place(sequence).load();
            if !state.is_open() {
                opened |= self.open_next(sequence, state, standing)?;
            } else if state.has_room(len, self.capacity) {
                return Ok(opened);
            } else {
                underway = self.begin_switch(sequence, SwitchCause::Full).or(underway);
            }
        }
    }

    /// Whether there is somebody waiting for memory who comes before.
    pub(super) fn is_after_others(&self, standing: Standing) -> bool {
        standing == Standing::Newcomer && self.pool.space.waiting() > 0
    }

    /// One step towards an open place, from the place at `sequence` that was seen not to be; true if it was the last.
    fn open_next(&self, sequence: u64, state: State, standing: Standing) -> Result<bool, Refusal> {
        let mut opened = false;
        match state.kind() {
            Kind::Closed => return Err(Refusal::Closed),
            Kind::Sealed => self.pending.advance(sequence),
            Kind::Ready if self.is_after_others(standing) => return Err(Refusal::Full),
            Kind::Ready if state.is_ready_for(sequence) => {
                let again = || if self.leave_what_was_read() { self.pool.acquire() } else { None };
                let segment = self.pool.acquire().or_else(again).ok_or(Refusal::Full)?;
                self.timer.start();
                self.pool.segment(segment).set_opened_at(self.clock.nanos());
                opened = self.pending.place(sequence).open(sequence, segment);
                if !opened {
                    self.pool.give_back(segment);
                }
            }
            // The place has moved on since `active` was read, or is open by now.
            Kind::Ready | Kind::Open => {}
        }
        Ok(opened)
    }
}

/// A reserved slot that becomes padding if nothing is put there.
pub(super) struct Reservation<'a> {
    core: &'a Core,
    sequence: u64,
    slot: Option<Slot>,
    /// Bytes reserved for a payload by reference.
    referenced: usize,
}

impl<'a> Reservation<'a> {
    #[inline(always)]
    pub(super) fn new(core: &'a Core, sequence: u64, slot: Slot, referenced: usize) -> Self {
        Self { core, sequence, slot: Some(slot), referenced }
    }

    /// Puts a payload there that is no longer than what was reserved for it.
    #[inline(always)]
    pub(super) fn attach(&mut self, bytes: Bytes) {
        let slot = self.slot.take().expect("a reserved slot");
        let unused = self.referenced - bytes.len();
        let awaited = self.core.pool.segment(slot.segment()).attach(&slot, bytes);
        if unused > 0 {
            self.core.pool.release_referenced(unused);
        }
        self.core.wrote(self.sequence, slot, awaited, true);
    }

    /// Has the message written there. Nothing is, if `write` panics.
    #[inline(always)]
    pub(super) fn fill_in_place(&mut self, write: impl FnOnce(&mut [u8]) -> usize) {
        let slot = self.slot.as_ref().expect("a reserved slot");
        let awaited = self.core.pool.segment(slot.segment()).fill_in_place(slot, write);
        if let Some(slot) = self.slot.take() {
            self.core.wrote(self.sequence, slot, awaited, false);
        }
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            let awaited = self.core.pool.segment(slot.segment()).abandon(&slot);
            if self.referenced > 0 {
                self.core.pool.release_referenced(self.referenced);
            }
            self.core.wrote(self.sequence, slot, awaited, false);
            self.core.abandoned();
        }
    }
}
