//! Writing: what goes into a reserved slot, and who is told of it.

use std::collections::VecDeque;

use super::Core;
use super::limits::Fill;
use super::reserve::{Refusal, Reservation, Standing};
use crate::payload::Payload;
use crate::payload::sealed::Sealed;
use crate::segment::{ATTACHED_BYTES, Slot, SlotRun, write_checked};
use crate::sync::{Ordering, fence};

/// An owned payload of this length travels by reference count.
pub(crate) const BY_REFERENCE_FROM: usize = 32 << 10;

/// The most messages that one reservation takes.
pub(crate) const RUN_MESSAGES: usize = 32;

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

    /// `write_quickly` for a payload that travels by reference.
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
        Reservation::new(self, sequence, slot, len).attach(payload.take_bytes());
        true
    }

    #[inline(always)]
    fn write_inline(&self, sequence: u64, slot: Slot, bytes: &[u8]) {
        let awaited = self.pool.segment(slot.segment()).fill(&slot, bytes);
        self.wrote(sequence, slot, awaited, false);
    }

    /// After a commit: tells whoever waits for it or its slot, and asks the strategy if that is due.
    #[inline(always)]
    pub(super) fn wrote(&self, sequence: u64, slot: Slot, awaited: bool, attached: bool) {
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

    /// `try_write_with` where the active segment has room, and there is no more to do than that; otherwise false, and
    /// `write` is still there.
    #[inline(always)]
    pub(crate) fn write_in_place_quickly<F>(&self, max_len: usize, write: &mut Option<F>) -> bool
    where
        F: FnOnce(&mut [u8]) -> usize,
    {
        if write.is_none() || max_len > self.max_message_bytes {
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
        Reservation::new(self, sequence, slot, 0).fill_in_place(write);
    }

    /// Before a reservation that may come to less than what is reserved.
    fn note_in_place(&self) {
        // ORDERING: Relaxed with a Release fence before the reservation: `count_queue` sees that by the Acquire of
        // the word's `load`, and this too.
        if !self.in_place.load(Ordering::Relaxed) {
            self.in_place.store(true, Ordering::Relaxed);
        }
        fence(Ordering::Release);
    }

    /// What a writer that panics does, without the panic: loom cannot change threads while one unwinds.
    #[cfg(all(test, turbostream_loom))]
    pub(crate) fn give_up(&self, len: usize) {
        let (sequence, slot) = self.reserve(len, Standing::Newcomer).unwrap();
        drop(Reservation::new(self, sequence, slot, 0));
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
