//! Room for what is to be written: a slot in the active segment or in the next one, and memory for what travels by
//! reference.

use bytes::Bytes;

use super::Core;
use super::config::WhenFull;
use crate::queue::segment::EXTERNAL_BYTES;
use crate::queue::segment::slot_state::{AtomicSlotState, EntrySlot, NotReserved, Phase, SlotState};
use crate::telemetry::stats::SwitchCause;

/// Whether a sender has waited for memory, or would overtake those who have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueuePosition {
    Barging,
    Front,
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
    pub(super) fn reserve_external(
        &self,
        len: usize,
        position: QueuePosition,
    ) -> Result<Reservation<'_>, Refusal> {
        if self.is_closed() {
            return Err(Refusal::Closed);
        }
        // Room in a segment first: what is given back below could otherwise be what this sender waits for.
        let opened = self.open_with_room(EXTERNAL_BYTES, position)?;
        let reserved = !self.must_queue(position)
            && (self.queue.pool.reserve_external(len) || {
                self.retire_drained_segments();
                self.queue.pool.free_for_external(len)
            });
        if !reserved {
            // Only a reader can make room, and it may be waiting for this very segment to be full; unless what is older
            // than this segment is dropped first.
            if self.when_full != WhenFull::DropOldest {
                self.switch_slot(self.queue.ring.active(), SwitchCause::Full);
            }
            if opened {
                // Smaller messages of others may wait for what this one cannot use.
                self.queue.pool.wake_senders(self.queue.capacity().messages);
            }
            return Err(Refusal::Full);
        }
        let (sequence, slot) = match self.reserve(EXTERNAL_BYTES, position) {
            Ok(reserved) => reserved,
            Err(refusal) => {
                // Held on to while waiting, it could keep a segment from being had for ever.
                self.queue.pool.release_external(len);
                return Err(refusal);
            }
        };
        Ok(Reservation::new(self, sequence, slot, len))
    }

    /// Reserves a slot for `len` bytes, switching to the next segment if need be.
    #[inline(always)]
    pub(super) fn reserve(&self, len: usize, position: QueuePosition) -> Result<(u64, EntrySlot), Refusal> {
        self.reserve_with(position, |slot| slot.reserve(len, self.queue.capacity()))
    }

    #[inline(always)]
    pub(super) fn reserve_with<T>(
        &self,
        position: QueuePosition,
        reserve: impl Fn(&AtomicSlotState) -> Result<T, NotReserved>,
    ) -> Result<(u64, T), Refusal> {
        // Timed until this writer has its slot.
        let mut timer = None;
        loop {
            let sequence = self.queue.ring.active();
            match reserve(self.queue.ring.slot(sequence)) {
                Ok(reserved) => return Ok((sequence, reserved)),
                Err(NotReserved::NoRoom) => timer = self.begin_switch(sequence, SwitchCause::Full).or(timer),
                Err(NotReserved::NotOpen(state)) => _ = self.open_next(sequence, state, position)?,
            }
        }
    }

    /// Sees to it that the active segment has room for `len` bytes, without taking it; true if it had to be opened.
    fn open_with_room(&self, len: usize, position: QueuePosition) -> Result<bool, Refusal> {
        let (mut opened, mut timer) = (false, None);
        loop {
            let sequence = self.queue.ring.active();
            let state = self.queue.ring.slot(sequence).load();
            if !state.is_open() {
                opened |= self.open_next(sequence, state, position)?;
            } else if state.has_room(len, self.queue.capacity()) {
                return Ok(opened);
            } else {
                timer = self.begin_switch(sequence, SwitchCause::Full).or(timer);
            }
        }
    }

    /// Whether there is somebody waiting for memory who comes before.
    pub(super) fn must_queue(&self, position: QueuePosition) -> bool {
        position == QueuePosition::Barging && self.queue.pool.room_waiters.waiting() > 0
    }

    /// One step towards an open slot, from the slot at `sequence` that was seen not to be; true if it was the last.
    fn open_next(&self, sequence: u64, state: SlotState, position: QueuePosition) -> Result<bool, Refusal> {
        let mut opened = false;
        match state.phase() {
            Phase::Closed => return Err(Refusal::Closed),
            Phase::Sealed => self.queue.ring.advance(sequence),
            Phase::Ready if self.must_queue(position) => return Err(Refusal::Full),
            Phase::Ready if state.is_ready_for(sequence) => {
                let again = || if self.retire_drained_segments() { self.queue.pool.acquire() } else { None };
                let segment = self.queue.pool.acquire().or_else(again).ok_or(Refusal::Full)?;
                self.background.start();
                opened = self.queue.open(sequence, segment);
            }
            // The slot has moved on since `active` was read, or is open by now.
            Phase::Ready | Phase::Open => {}
        }
        Ok(opened)
    }
}

/// A reserved slot that becomes padding if nothing is put there.
pub(super) struct Reservation<'a> {
    core: &'a Core,
    sequence: u64,
    slot: Option<EntrySlot>,
    /// Bytes reserved for a payload by reference.
    external: usize,
}

impl<'a> Reservation<'a> {
    #[inline(always)]
    pub(super) fn new(core: &'a Core, sequence: u64, slot: EntrySlot, external: usize) -> Self {
        Self { core, sequence, slot: Some(slot), external }
    }

    /// Puts a payload there that is no longer than what was reserved for it.
    #[inline(always)]
    pub(super) fn write_external(&mut self, bytes: Bytes) {
        let slot = self.slot.take().expect("a reserved slot");
        let unused = self.external - bytes.len();
        let commit_waiter = self.core.queue.pool.segment(slot.segment()).write_external(&slot, bytes);
        if unused > 0 {
            self.core.queue.pool.release_external(unused);
        }
        self.core.after_commit(self.sequence, slot, commit_waiter, true);
    }

    /// Has the message written there. Nothing is, if `write` panics.
    #[inline(always)]
    pub(super) fn write_in_place(&mut self, write: impl FnOnce(&mut [u8]) -> usize) {
        let slot = self.slot.as_ref().expect("a reserved slot");
        let commit_waiter = self.core.queue.pool.segment(slot.segment()).write_in_place(slot, write);
        if let Some(slot) = self.slot.take() {
            self.core.after_commit(self.sequence, slot, commit_waiter, false);
        }
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            let commit_waiter = self.core.queue.pool.segment(slot.segment()).abandon(&slot);
            if self.external > 0 {
                self.core.queue.pool.release_external(self.external);
            }
            self.core.after_commit(self.sequence, slot, commit_waiter, false);
            self.core.abandoned();
        }
    }
}
