//! Reservations: an entry in the active segment or the next one, and memory for an external payload.
//!
//! A sender reserves in the ring slot that `active` names. If that fails, it takes one step, by the phase of the slot, and
//! tries again:
//!
//! - Open without room: the sender seals the slot.
//! - Sealed: it advances `active`.
//! - Ready: it takes a segment from the pool and opens the slot. If the pool has none, or other senders wait for one, the
//!   message is refused as full.
//! - Closed: the message is refused.
//!
//! If another sender takes the step first, that serves as well.

use bytes::Bytes;

use super::Core;
use crate::queue::segment::EXTERNAL_BYTES;
use crate::queue::segment::slot_state::{AtomicSlotState, EntrySlot, NotReserved, Phase, SlotState};
use crate::telemetry::stats::SwitchCause;

/// Where a sender stands among those that wait for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueuePosition {
    /// It has not waited yet, or others that wait are ahead. It must not take memory that those could use.
    Barging,
    /// It was woken, or registered when the list was empty. It may take memory.
    Front,
}

/// Why a message was not accepted; the payload stays with the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full,
    Closed,
    TooLarge { len: usize, max: usize },
}

/// A committed entry.
pub(super) struct Commit {
    pub(super) sequence: u64,
    pub(super) entry: EntrySlot,
    /// WAITER was set in the entry: a receiver sleeps for it, or the last one has left.
    pub(super) has_waiter: bool,
    pub(super) is_external: bool,
}

impl Core {
    /// Reserves an entry for an external payload, and memory for its `len` bytes.
    ///
    /// It opens a segment with room first, then reserves the memory, and reserves the entry last.
    #[inline(always)]
    pub(super) fn reserve_external(
        &self,
        len: usize,
        position: QueuePosition,
    ) -> Result<Reservation<'_>, Refusal> {
        if self.is_closed() {
            return Err(Refusal::Closed);
        }
        // Room in a segment first. With the memory first, a sender that finds no segment would give the memory back and
        // wake the next waiter for it, which may be itself.
        let opened = self.open_with_room(EXTERNAL_BYTES, position)?;
        let reserved = !self.must_queue(position)
            && (self.queue.pool.charge_external(len) || {
                self.retire_drained_segments();
                self.queue.pool.evict_for_external(len)
            });
        if !reserved {
            // Only receivers can make room, and they may wait for this segment to be full. Under `DropOldest` older
            // segments are dropped before this one, so it stays open.
            if !self.when_full.drops_oldest() {
                self.switch_slot(self.queue.ring.active(), SwitchCause::Full);
            }
            if opened {
                // This sender cannot use the segment that it opened; waiting senders with smaller messages can.
                self.queue.pool.wake_senders(self.queue.capacity().messages);
            }
            return Err(Refusal::Full);
        }
        let (sequence, entry) = match self.reserve(EXTERNAL_BYTES, position) {
            Ok(reserved) => reserved,
            Err(refusal) => {
                // Two senders that kept their memory while they wait for a segment could keep each other from getting one.
                self.queue.pool.refund_external(len);
                return Err(refusal);
            }
        };
        Ok(Reservation::new(self, sequence, entry, len))
    }

    /// Reserves an entry for `len` bytes, in the next segment if the active one has no room.
    #[inline(always)]
    pub(super) fn reserve(&self, len: usize, position: QueuePosition) -> Result<(u64, EntrySlot), Refusal> {
        self.reserve_with(position, |slot| slot.reserve(len, self.queue.capacity()))
    }

    /// Calls `reserve` with the active ring slot until it succeeds, taking the steps in between.
    #[inline(always)]
    pub(super) fn reserve_with<T>(
        &self,
        position: QueuePosition,
        reserve: impl Fn(&AtomicSlotState) -> Result<T, NotReserved>,
    ) -> Result<(u64, T), Refusal> {
        // The switch is measured until this sender has its entry.
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

    /// Makes the active segment one with room for `len` bytes; returns whether this thread opened it.
    ///
    /// Nothing is reserved, so another sender may still take the room.
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

    /// Whether other senders wait for memory and get it first.
    pub(super) fn must_queue(&self, position: QueuePosition) -> bool {
        position == QueuePosition::Barging && self.room_waiters().waiting() > 0
    }

    /// Takes one step from a ring slot that is not open towards one that is; returns whether this thread opened it.
    fn open_next(&self, sequence: u64, state: SlotState, position: QueuePosition) -> Result<bool, Refusal> {
        let mut opened = false;
        match state.phase() {
            Phase::Closed => return Err(Refusal::Closed),
            Phase::Sealed => self.queue.ring.advance(sequence),
            Phase::Ready if self.must_queue(position) => return Err(Refusal::Full),
            Phase::Ready if state.is_ready_for(sequence) => {
                let reclaim =
                    || if self.retire_drained_segments() { self.queue.pool.acquire() } else { None };
                let segment = self.queue.pool.acquire().or_else(reclaim).ok_or(Refusal::Full)?;
                self.background.start();
                opened = self.queue.open(sequence, segment);
            }
            // The slot was reused for a later sequence since `active` was loaded, or is open by now.
            Phase::Ready | Phase::Open => {}
        }
        Ok(opened)
    }
}

/// A reserved entry; commits padding if it is dropped without a message.
pub(super) struct Reservation<'a> {
    core: &'a Core,
    sequence: u64,
    entry: Option<EntrySlot>,
    /// Bytes reserved for an external payload.
    external: usize,
}

impl<'a> Reservation<'a> {
    #[inline(always)]
    pub(super) fn new(core: &'a Core, sequence: u64, entry: EntrySlot, external: usize) -> Self {
        Self { core, sequence, entry: Some(entry), external }
    }

    /// Commits an external payload, which is no longer than what was reserved for it.
    #[inline(always)]
    pub(super) fn write_external(&mut self, bytes: Bytes) {
        let entry = self.entry.take().expect("a reservation is used once");
        let unused = self.external - bytes.len();
        let has_waiter = self.core.queue.segment(entry.segment()).write_external(&entry, bytes);
        if unused > 0 {
            self.core.queue.pool.refund_external(unused);
        }
        self.core.after_commit(Commit { sequence: self.sequence, entry, has_waiter, is_external: true });
    }

    /// Has `write` write the message in place, and commits it. If `write` panics, the drop commits padding.
    #[inline(always)]
    pub(super) fn write_in_place(&mut self, write: impl FnOnce(&mut [u8]) -> usize) {
        let entry = self.entry.as_ref().expect("a reservation is used once");
        let has_waiter = self.core.queue.segment(entry.segment()).write_in_place(entry, write);
        if let Some(entry) = self.entry.take() {
            self.core.after_commit(Commit { sequence: self.sequence, entry, has_waiter, is_external: false });
        }
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            let has_waiter = self.core.queue.segment(entry.segment()).abandon(&entry);
            if self.external > 0 {
                self.core.queue.pool.refund_external(self.external);
            }
            self.core.after_commit(Commit { sequence: self.sequence, entry, has_waiter, is_external: false });
            self.core.pass_padding();
        }
    }
}
