//! Writing: room in the active segment, or the next one, or a refusal.

use std::collections::VecDeque;

use bytes::Bytes;

use super::plan::Fill;
use super::{Core, SwitchCause};
use crate::config::WhenFull;
use crate::payload::Payload;
use crate::payload::sealed::Sealed;
use crate::segment::state::{Kind, NotReserved, State, Word};
use crate::segment::{ATTACHED_BYTES, Slot, SlotRun, write_checked};
use crate::sync::{Ordering, fence};

/// An owned payload of this length travels by reference count.
pub(crate) const BY_REFERENCE_FROM: usize = 32 << 10;

/// The most messages that one reservation takes.
pub(crate) const RUN_MESSAGES: usize = 32;

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
    /// Writes a message to the active segment if there is room for it; false, and it is still there, if there is more to
    /// do than that.
    #[inline(always)]
    pub(crate) fn write_quickly<P: Payload>(&self, payload: &mut P) -> bool {
        let bytes = payload.as_slice();
        if bytes.len() > self.max_message_bytes {
            return false;
        }
        if self.goes_by_reference(payload) {
            return payload.is_owned() && self.attach_quickly(payload);
        }
        let sequence = self.pending.active();
        let Ok(slot) = self.pending.place(sequence).reserve(bytes.len(), self.capacity) else { return false };
        self.write_inline(sequence, slot, bytes);
        true
    }

    /// Accepts a message, or says why not and leaves the payload where it is.
    ///
    /// Only the `First` get memory that others wait for; room in the open segment is anybody's.
    pub(crate) fn try_write<P: Payload>(
        &self,
        payload: &mut Option<P>,
        standing: Standing,
    ) -> Result<(), Refusal> {
        let bytes = payload.as_ref().expect("a payload to send").as_slice();
        let len = bytes.len();
        if len > self.max_message_bytes {
            return Err(Refusal::TooLarge { len, max: self.max_message_bytes });
        }
        if payload.as_ref().is_some_and(|payload| self.goes_by_reference(payload)) {
            return self.write_attached(payload, len, standing);
        }
        let (sequence, slot) = self.reserve(len, standing)?;
        self.write_inline(sequence, slot, bytes);
        *payload = None;
        Ok(())
    }

    #[inline(always)]
    pub(super) fn goes_by_reference<P: Payload>(&self, payload: &P) -> bool {
        let len = payload.as_slice().len();
        (payload.is_owned() && len >= BY_REFERENCE_FROM) || len > self.capacity.bytes
    }

    /// The same for one that travels by reference.
    fn attach_quickly<P: Payload>(&self, payload: &mut P) -> bool {
        let len = payload.as_slice().len();
        if self.is_after_others(Standing::Newcomer) || !self.pool.reserve_referenced(len) {
            return false;
        }
        let sequence = self.pending.active();
        let Ok(slot) = self.pending.place(sequence).reserve(ATTACHED_BYTES, self.capacity) else {
            self.pool.release_referenced(len);
            return false;
        };
        Reservation { core: self, sequence, slot: Some(slot), referenced: len }.attach(payload.take_bytes());
        true
    }

    #[inline(always)]
    fn write_inline(&self, sequence: u64, slot: Slot, bytes: &[u8]) {
        let awaited = self.pool.segment(slot.segment()).fill(&slot, bytes);
        self.wrote(sequence, slot, awaited, false);
    }

    /// After a commit: tells whoever waits for it or its slot, and asks the strategy if that is due.
    #[inline(always)]
    fn wrote(&self, sequence: u64, slot: Slot, awaited: bool, attached: bool) {
        if awaited | slot.is_awaited() | (slot.index() == 0) | self.is_to_ask(sequence, &slot, attached) {
            self.tell_and_ask(sequence, slot, awaited, attached);
        }
    }

    #[inline(always)]
    fn is_to_ask(&self, sequence: u64, slot: &Slot, attached: bool) -> bool {
        self.plan.is_due(Fill::with(sequence, slot.filled()), attached)
    }

    /// Accepts the first of `payloads`, and with it those behind it that the same reservation has room for, or says why
    /// not even the first; takes out what was accepted, and returns how many that is.
    pub(crate) fn try_write_run<P: Payload>(
        &self,
        payloads: &mut VecDeque<P>,
        standing: Standing,
    ) -> Result<usize, Refusal> {
        let (mut ends, mut small, mut end) = ([0; RUN_MESSAGES], 0, 0);
        for (payload, into) in payloads.iter().zip(&mut ends) {
            let len = payload.as_slice().len();
            if self.goes_by_reference(payload) || len > self.max_message_bytes {
                break;
            }
            end += len;
            (*into, small) = (end, small + 1);
        }
        if small == 0 {
            let mut first = payloads.pop_front();
            let written = self.try_write(&mut first, standing);
            if let Some(refused) = first {
                payloads.push_front(refused);
            }
            return written.map(|()| 1);
        }
        let (sequence, run) =
            self.reserve_with(standing, |word| word.reserve_run(&ends[..small], self.capacity))?;
        let messages = run.messages();
        self.write_run(sequence, run, payloads);
        // Last: to drop a payload may run user code.
        payloads.drain(..messages);
        Ok(messages)
    }

    /// Fills a run of slots with the first of `payloads`.
    fn write_run<P: Payload>(&self, sequence: u64, run: SlotRun<'_>, payloads: &VecDeque<P>) {
        let (start, slot_awaited, filled) = (run.start(), run.is_awaited(), run.filled());
        let commit_awaited =
            self.pool.segment(run.segment()).fill_run(run, payloads.iter().map(Sealed::as_slice));
        self.tell(sequence, start, slot_awaited, commit_awaited);
        if self.plan.is_due(Fill::with(sequence, filled), false) {
            self.consider_switch(sequence);
        }
    }

    /// Accepts a message by reference.
    #[cold]
    pub(super) fn write_attached<P: Payload>(
        &self,
        payload: &mut Option<P>,
        len: usize,
        standing: Standing,
    ) -> Result<(), Refusal> {
        let mut reservation = self.reserve_attached(len, standing)?;
        let bytes = payload.take().expect("a payload to send").take_bytes();
        reservation.attach(bytes);
        Ok(())
    }

    /// Has a message of at most `max_len` bytes written where it will lie, or says why not and leaves `write` where it
    /// is.
    pub(crate) fn try_write_with<F>(
        &self,
        max_len: usize,
        write: &mut Option<F>,
        standing: Standing,
    ) -> Result<(), Refusal>
    where
        F: FnOnce(&mut [u8]) -> usize,
    {
        let mut take = || write.take().expect("something to write with");
        if max_len > self.max_message_bytes {
            return Err(Refusal::TooLarge { len: max_len, max: self.max_message_bytes });
        }
        self.note_in_place();
        if max_len > self.capacity.bytes {
            let mut reservation = self.reserve_attached(max_len, standing)?;
            let mut bytes = vec![0; max_len];
            let len = write_checked(&mut bytes, take());
            bytes.truncate(len);
            reservation.attach(bytes.take_bytes());
            return Ok(());
        }
        let (sequence, slot) = self.reserve(max_len, standing)?;
        self.write_in_place(sequence, slot, take());
        Ok(())
    }

    /// The same if the active segment has room, and there is no more to do than that; false, and `write` is still there,
    /// otherwise.
    #[inline(always)]
    pub(crate) fn write_in_place_quickly<F>(&self, max_len: usize, write: &mut Option<F>) -> bool
    where
        F: FnOnce(&mut [u8]) -> usize,
    {
        if write.is_none() || max_len > self.max_message_bytes || max_len > self.capacity.bytes {
            return false;
        }
        self.note_in_place();
        let sequence = self.pending.active();
        let Ok(slot) = self.pending.place(sequence).reserve(max_len, self.capacity) else { return false };
        self.write_in_place(sequence, slot, write.take().expect("just looked"));
        true
    }

    #[inline(always)]
    fn write_in_place(&self, sequence: u64, slot: Slot, write: impl FnOnce(&mut [u8]) -> usize) {
        Reservation { core: self, sequence, slot: Some(slot), referenced: 0 }.fill_in_place(write);
    }

    /// Before a reservation that may come to less than what is reserved.
    fn note_in_place(&self) {
        // ORDERING: Relaxed with a Release fence before the reservation: `count_queue` sees that by the Acquire of the word's
        // `load`, and this too.
        if !self.in_place.load(Ordering::Relaxed) {
            self.in_place.store(true, Ordering::Relaxed);
        }
        fence(Ordering::Release);
    }

    /// What a writer that panics does, without the panic: loom cannot change threads while one unwinds.
    #[cfg(all(test, turbostream_loom))]
    pub(crate) fn give_up(&self, len: usize) {
        let (sequence, slot) = self.reserve(len, Standing::Newcomer).unwrap();
        drop(Reservation { core: self, sequence, slot: Some(slot), referenced: 0 });
    }

    /// Reserves a slot for a payload by reference, and memory for its `len` bytes.
    #[inline(always)]
    fn reserve_attached(&self, len: usize, standing: Standing) -> Result<Reservation<'_>, Refusal> {
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
        Ok(Reservation { core: self, sequence, slot: Some(slot), referenced: len })
    }

    /// Reserves a slot for `len` bytes, switching to the next segment if need be.
    #[inline(always)]
    fn reserve(&self, len: usize, standing: Standing) -> Result<(u64, Slot), Refusal> {
        self.reserve_with(standing, |word| word.reserve(len, self.capacity))
    }

    #[inline(always)]
    fn reserve_with<T>(
        &self,
        standing: Standing,
        reserve: impl Fn(&Word) -> Result<T, NotReserved>,
    ) -> Result<(u64, T), Refusal> {
        let mut switch = None;
        loop {
            let sequence = self.pending.active();
            match reserve(self.pending.place(sequence)) {
                Ok(reserved) => return Ok((sequence, reserved)),
                Err(NotReserved::NoRoom) => {
                    switch = self.begin_switch(sequence, SwitchCause::Full).or(switch)
                }
                Err(NotReserved::NotOpen(state)) => _ = self.open_next(sequence, state, standing)?,
            }
        }
    }

    /// Sees to it that the active segment has room for `len` bytes, without taking it; true if it had to be opened.
    fn make_room(&self, len: usize, standing: Standing) -> Result<bool, Refusal> {
        let (mut opened, mut switch) = (false, None);
        loop {
            let sequence = self.pending.active();
            let state = self.pending.place(sequence).load();
            if !state.is_open() {
                opened |= self.open_next(sequence, state, standing)?;
            } else if state.has_room(len, self.capacity) {
                return Ok(opened);
            } else {
                switch = self.begin_switch(sequence, SwitchCause::Full).or(switch);
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

    #[cold]
    fn tell_and_ask(&self, sequence: u64, slot: Slot, awaited: bool, attached: bool) {
        self.tell(sequence, (slot.index(), slot.offset()), slot.is_awaited(), awaited);
        if self.is_to_ask(sequence, &slot, attached) {
            self.consider_switch(sequence);
        }
    }

    /// Tells whoever waits for messages that were committed: for their slot, or for their commit. The first of them is
    /// at `start`, an index and an offset.
    fn tell(&self, sequence: u64, start: (usize, usize), slot_awaited: bool, commit_awaited: bool) {
        let first = start.0 == 0;
        if commit_awaited && self.receivers() == 0 {
            self.discard();
        }
        if first || slot_awaited {
            self.switching.cut.put(sequence, start);
        }
        if first {
            self.plan.begin(sequence);
        }
        if commit_awaited || slot_awaited {
            self.announce();
        } else if first && self.is_timed() {
            self.timer.watch_unread();
        }
    }
}

/// A reserved slot that becomes padding if nothing is put there.
struct Reservation<'a> {
    core: &'a Core,
    sequence: u64,
    slot: Option<Slot>,
    /// Bytes reserved for a payload by reference.
    referenced: usize,
}

impl Reservation<'_> {
    /// Puts a payload there that is no longer than what was reserved for it.
    #[inline(always)]
    fn attach(&mut self, bytes: Bytes) {
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
    fn fill_in_place(&mut self, write: impl FnOnce(&mut [u8]) -> usize) {
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
