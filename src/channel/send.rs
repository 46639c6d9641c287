//! Writing: what goes into a reserved slot, and who is told of it.

use std::collections::VecDeque;

use super::Core;
use super::payload::Payload;
use super::payload::sealed::Sealed;
use super::reserve::{QueuePosition, Refusal, Reservation};
use super::source::{PayloadSource, Source, is_external};
use super::strategy::limits::FillLevel;
use crate::queue::segment::EXTERNAL_BYTES;
use crate::queue::segment::slot_state::{EntryRange, EntrySlot, NotReserved};
use crate::sync::{Ordering, fence};

/// The most messages that one reservation takes.
pub(crate) const MAX_RANGE_MESSAGES: usize = 32;

impl Core {
    /// Writes a message if the active segment has room for it and nothing else is to be done; otherwise `false`.
    #[inline(always)]
    pub(crate) fn write_fast<S: Source>(&self, source: &mut S) -> bool {
        let len = source.max_len();
        if len > self.max_message_bytes {
            return false;
        }
        if source.moves() && source.is_external(self.queue.capacity()) {
            return self.write_external_fast(source);
        }
        if S::IN_PLACE {
            self.note_in_place();
        }
        let reserve = |len| {
            let sequence = self.queue.ring.active();
            let slot = self.queue.ring.slot(sequence).reserve(len, self.queue.capacity())?;
            Ok::<_, NotReserved>((sequence, slot))
        };
        source.write(self, reserve).is_ok()
    }

    /// Writes a message, or says why not.
    ///
    /// Only a sender at the front gets memory that others wait for; room in the open segment is for any sender.
    pub(crate) fn try_write<S: Source>(
        &self,
        source: &mut S,
        position: QueuePosition,
    ) -> Result<(), Refusal> {
        let len = source.max_len();
        if len > self.max_message_bytes {
            return Err(Refusal::TooLarge { len, max: self.max_message_bytes });
        }
        if S::IN_PLACE {
            self.note_in_place();
        }
        if source.is_external(self.queue.capacity()) {
            return self.write_external(source, len, position);
        }
        source.write(self, |len| self.reserve(len, position))
    }

    /// Writes an external payload.
    #[cold]
    fn write_external<S: Source>(
        &self,
        source: &mut S,
        len: usize,
        position: QueuePosition,
    ) -> Result<(), Refusal> {
        let mut reservation = self.reserve_external(len, position)?;
        reservation.write_external(source.take_external());
        Ok(())
    }

    /// [`write_fast`](Self::write_fast) for an external payload.
    fn write_external_fast<S: Source>(&self, source: &mut S) -> bool {
        let len = source.max_len();
        if self.must_queue(QueuePosition::Barging) || !self.queue.pool.reserve_external(len) {
            return false;
        }
        let sequence = self.queue.ring.active();
        let slot = self.queue.ring.slot(sequence);
        let Ok(slot) = slot.reserve(EXTERNAL_BYTES, self.queue.capacity()) else {
            self.queue.pool.release_external(len);
            return false;
        };
        Reservation::new(self, sequence, slot, len).write_external(source.take_external());
        true
    }

    /// Copies a payload into its entry and commits it.
    #[inline(always)]
    pub(super) fn write_copy(&self, sequence: u64, slot: EntrySlot, bytes: &[u8]) {
        let commit_waiter = self.queue.segment(slot.segment()).write(&slot, bytes);
        self.after_commit(sequence, slot, commit_waiter, false);
    }

    /// After a commit: tells whoever waits for it or its slot, and asks the strategy if that is due.
    #[inline(always)]
    pub(super) fn after_commit(&self, sequence: u64, slot: EntrySlot, commit_waiter: bool, external: bool) {
        if commit_waiter
            | slot.has_waiter()
            | (slot.index() == 0)
            | self.strategy_due(sequence, &slot, external)
        {
            self.after_commit_cold(sequence, slot, commit_waiter, external);
        }
    }

    #[inline(always)]
    fn strategy_due(&self, sequence: u64, slot: &EntrySlot, external: bool) -> bool {
        self.strategy.is_due(FillLevel::with(sequence, slot.filled()), external)
    }

    /// Accepts the first of `payloads`, and with it those behind it that the same reservation has room for, or says why
    /// not even the first; takes out what was accepted, and returns how many that is.
    pub(crate) fn try_write_range<P: Payload>(
        &self,
        payloads: &mut VecDeque<P>,
        position: QueuePosition,
    ) -> Result<usize, Refusal> {
        let (mut ends, mut small, mut end) = ([0; MAX_RANGE_MESSAGES], 0, 0);
        for (payload, into) in payloads.iter().zip(&mut ends) {
            let len = payload.as_slice().len();
            if is_external(payload, self.queue.capacity()) || len > self.max_message_bytes {
                break;
            }
            end += len;
            (*into, small) = (end, small + 1);
        }
        if small == 0 {
            let Some(first) = payloads.pop_front() else { return Ok(0) };
            let mut first = PayloadSource(first);
            let written = self.try_write(&mut first, position);
            if written.is_err() {
                payloads.push_front(first.into_input());
            }
            return written.map(|()| 1);
        }
        let (sequence, run) =
            self.reserve_with(position, |slot| slot.reserve_range(&ends[..small], self.queue.capacity()))?;
        let messages = run.messages();
        self.write_range(sequence, run, payloads);
        // Last: to drop a payload may run user code.
        payloads.drain(..messages);
        Ok(messages)
    }

    /// Fills a run of slots with the first of `payloads`.
    fn write_range<P: Payload>(&self, sequence: u64, run: EntryRange<'_>, payloads: &VecDeque<P>) {
        let (start, reserve_waiter, filled) = (run.start(), run.has_waiter(), run.filled());
        let commit_waiter =
            self.queue.pool.segment(run.segment()).write_range(run, payloads.iter().map(Sealed::as_slice));
        self.notify_readers(sequence, start, reserve_waiter, commit_waiter);
        if self.strategy.is_due(FillLevel::with(sequence, filled), false) {
            self.consider_switch(sequence);
        }
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
        let (sequence, slot) = self.reserve(len, QueuePosition::Barging).unwrap();
        drop(Reservation::new(self, sequence, slot, 0));
    }

    #[cold]
    fn after_commit_cold(&self, sequence: u64, slot: EntrySlot, commit_waiter: bool, external: bool) {
        self.notify_readers(sequence, (slot.index(), slot.offset()), slot.has_waiter(), commit_waiter);
        if self.strategy_due(sequence, &slot, external) {
            self.consider_switch(sequence);
        }
    }

    /// Tells whoever waits for messages that were committed: for their slot, or for their commit. The first of them is
    /// at `start`, an index and an offset.
    fn notify_readers(
        &self,
        sequence: u64,
        start: (usize, usize),
        reserve_waiter: bool,
        commit_waiter: bool,
    ) {
        let first = start.0 == 0;
        if commit_waiter && self.receivers() == 0 {
            self.discard();
        }
        if first || reserve_waiter {
            self.queue.note_cut(sequence, start);
        }
        if first {
            self.strategy.begin(sequence);
        }
        if commit_waiter || reserve_waiter {
            self.wake_one_or_arm_timer();
        } else if first && self.is_timed() {
            self.background.watch_unread();
        }
    }
}
