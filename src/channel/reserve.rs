//! Reservations: an entry in the active segment or the next one, and memory for an external payload.
//!
//! A sender reserves in the ring slot that `active` names. If that fails, it takes one step, by the phase of the slot, and
//! tries again:
//!
//! - Open without room: the sender seals the slot.
//! - Sealed: it advances `active`.
//! - Ready: it takes a segment from the pool and opens the slot, with its own entry reserved. If there is no memory for a
//!   segment beyond what is kept for senders that wait, the message is refused as full.
//! - Closed: the message is refused.
//!
//! If another sender takes the step first, that serves as well.

use bytes::Bytes;

use super::Core;
use crate::queue::pool::room_waiters::{Demand, OpenRoom, Ticket};
use crate::queue::segment::EXTERNAL_BYTES;
use crate::queue::segment::slot_state::{AtomicSlotState, EntrySlot, NotReserved, Phase, SlotState};
use crate::telemetry::stats::SwitchCause;

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
    pub(super) is_external: bool,
}

impl Core {
    /// Reserves an entry for an external payload, and memory for its `len` bytes.
    ///
    /// An entry of the open segment is reserved after the memory. If no segment is open, memory for both is taken at once:
    /// two senders that each kept one while they wait for the other could keep each other from getting it.
    #[inline(always)]
    pub(super) fn reserve_external(
        &self,
        len: usize,
        ticket: Option<Ticket>,
    ) -> Result<Reservation<'_>, Refusal> {
        if self.is_closed() {
            return Err(Refusal::Closed);
        }
        let (mut charged, mut timer) = (false, None);
        let refusal = loop {
            let sequence = self.queue.ring.active();
            let slot = self.queue.ring.slot(sequence);
            let state = slot.load();
            if !state.is_open() {
                let external = Demand { len, is_external: true };
                let demand = if charged { Demand::copied(EXTERNAL_BYTES) } else { external };
                let open = |slot: &AtomicSlotState, segment| slot.open(sequence, segment, EXTERNAL_BYTES);
                match self.open_next(sequence, state, ticket, demand, open) {
                    Ok(Step::Opened(entry)) => return Ok(Reservation::new(self, sequence, entry, len)),
                    Ok(Step::Lost) => charged = true,
                    Ok(Step::Again) => {}
                    Err(refusal) => break refusal,
                }
            } else if !state.has_room(EXTERNAL_BYTES, self.queue.capacities()) {
                timer = self.begin_switch(sequence, SwitchCause::Full).or(timer);
            } else {
                charged = charged || self.take_external(state, len, ticket);
                if !charged {
                    break Refusal::Full;
                }
                if let Ok(entry) = slot.reserve(EXTERNAL_BYTES, self.queue.capacities()) {
                    return Ok(Reservation::new(self, sequence, entry, len));
                }
            }
        };
        if charged {
            // With the open segment known: otherwise this sender would wake itself, before there is an entry for it.
            self.queue.pool.refund_external_without_wake(len);
            self.queue.wake_senders();
        } else if refusal == Refusal::Full && !self.when_full.drops_oldest() {
            // Only receivers can make room, and they may wait for this segment to be full. Under `DropOldest` older
            // segments are dropped before this one, so it stays open.
            self.switch_slot(self.queue.ring.active(), SwitchCause::Full);
        }
        Err(refusal)
    }

    /// Charges an external payload whose entry is in the active segment.
    fn take_external(&self, active: SlotState, len: usize, ticket: Option<Ticket>) -> bool {
        let room = OpenRoom::Known(active.room(self.queue.capacities()));
        let take = || self.queue.pool.take_external(ticket, room, len);
        take() || (self.retire_drained_segments() && take())
    }

    /// Reserves an entry for `len` bytes, in the next segment if the active one has no room.
    #[inline(always)]
    pub(super) fn reserve(&self, len: usize, ticket: Option<Ticket>) -> Result<(u64, EntrySlot), Refusal> {
        self.reserve_with(
            Demand::copied(len),
            ticket,
            |slot| slot.reserve(len, self.queue.capacities()),
            |slot, sequence, segment| slot.open(sequence, segment, len),
        )
    }

    /// Calls `reserve` with the active ring slot until it succeeds, taking the steps in between; or calls `open` with the
    /// next slot and a segment for it. `demand` is the first message.
    #[inline(always)]
    pub(super) fn reserve_with<T>(
        &self,
        demand: Demand,
        ticket: Option<Ticket>,
        reserve: impl Fn(&AtomicSlotState) -> Result<T, NotReserved>,
        open: impl Fn(&AtomicSlotState, u64, usize) -> Option<T>,
    ) -> Result<(u64, T), Refusal> {
        // The switch is measured until this sender has its entry.
        let mut timer = None;
        loop {
            let sequence = self.queue.ring.active();
            match reserve(self.queue.ring.slot(sequence)) {
                Ok(reserved) => return Ok((sequence, reserved)),
                Err(NotReserved::NoRoom) => timer = self.begin_switch(sequence, SwitchCause::Full).or(timer),
                Err(NotReserved::NotOpen(state)) => {
                    let open = |slot: &AtomicSlotState, segment| open(slot, sequence, segment);
                    let step = self.open_next(sequence, state, ticket, demand, open)?;
                    if let Step::Opened(reserved) = step {
                        return Ok((sequence, reserved));
                    }
                }
            }
        }
    }

    /// Takes one step from a ring slot that is not open towards one that is.
    ///
    /// `open` opens the slot with a segment, and reserves what the caller needs.
    fn open_next<T>(
        &self,
        sequence: u64,
        state: SlotState,
        ticket: Option<Ticket>,
        demand: Demand,
        open: impl FnOnce(&AtomicSlotState, usize) -> Option<T>,
    ) -> Result<Step<T>, Refusal> {
        match state.phase() {
            Phase::Closed => return Err(Refusal::Closed),
            Phase::Sealed => self.queue.ring.advance(sequence),
            Phase::Ready if state.is_ready_for(sequence) => {
                let take = || self.queue.pool.take_segment(ticket, demand);
                let reclaim = || if self.retire_drained_segments() { take() } else { None };
                let Some(segment) = take().or_else(reclaim) else {
                    // The last free segment may be that with which another sender opens the slot.
                    self.queue.pool.spin_while_opening();
                    let is_ready = self.queue.ring.slot(sequence).load().is_ready_for(sequence);
                    return if is_ready { Err(Refusal::Full) } else { Ok(Step::Again) };
                };
                if !self.queue.pool.is_kept_when_idle(segment) {
                    // Before others can write to it.
                    self.start_background();
                }
                let opened = self.queue.open(sequence, segment, |slot| open(slot, segment));
                return Ok(opened.map_or(Step::Lost, Step::Opened));
            }
            // The slot was reused for a later sequence since `active` was loaded, or is open by now.
            Phase::Ready | Phase::Open => {}
        }
        Ok(Step::Again)
    }
}

/// What became of a step towards an open ring slot.
enum Step<T> {
    /// This thread opened the slot, and has reserved this.
    Opened(T),
    /// Another thread opened the slot first. The segment is in the pool again; external bytes stay charged.
    Lost,
    /// The slot, or `active`, has changed.
    Again,
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

    /// Marks the entry before a closure makes its payload.
    pub(super) fn mark_in_place(&self) {
        let entry = self.entry.as_ref().expect("a reservation is used once");
        self.core.queue.segment(entry.segment()).mark_in_place(entry);
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
        self.after_commit(entry, has_waiter, true);
    }

    /// Has `write` write the message in place, and commits it. If `write` panics, the drop commits padding.
    #[inline(always)]
    pub(super) fn write_in_place(&mut self, write: impl FnOnce(&mut [u8]) -> usize) {
        let entry = self.entry.as_ref().expect("a reservation is used once");
        let has_waiter = self.core.queue.segment(entry.segment()).write_in_place(entry, write);
        if let Some(entry) = self.entry.take() {
            self.after_commit(entry, has_waiter, false);
        }
    }

    /// Does what is needed after a commit; `has_waiter` says whether a receiver sleeps for the closure.
    #[inline(always)]
    fn after_commit(&self, entry: EntrySlot, has_waiter: bool, is_external: bool) {
        if has_waiter {
            self.core.wake_after_closure();
        }
        self.core.after_commit(Commit { sequence: self.sequence, entry, is_external });
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            let has_waiter = self.core.queue.segment(entry.segment()).abandon(&entry);
            if self.external > 0 {
                self.core.queue.pool.refund_external(self.external);
            }
            self.after_commit(entry, has_waiter, false);
            self.core.pass_padding();
        }
    }
}
