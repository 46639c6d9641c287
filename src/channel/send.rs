//! Sending: how one message, or several, get into the active segment.
//!
//! The fast path, [`Core::write_fast`], does nearly every `send`:
//!
//! ```text
//! active() ─▶ reserve ───────────▶ copy ───────────▶ commit ─────────▶ after_commit
//! load        compare-exchange     into the bytes    store to the      three tests,
//!             on the slot's word   that it reserved  entry             all false
//! ```
//!
//! 1. It loads the sequence of the active segment, and reserves an entry and a byte range by one compare-exchange on the
//!    word of that ring slot. The order of these exchanges is the order of messages.
//! 2. It copies the payload into the reserved bytes.
//! 3. It commits by one store to the message's entry.
//! 4. It compares what the segment holds now with the limits of the strategy.
//!
//! A message takes more than that in these cases:
//!
//! - **After a commit** ([`after_commit_cold`](Core::after_commit_cold)):
//!   - The WAITER bit was set in the ring slot, by a receiver that went to sleep or by a cut. If a receiver waits, it is
//!     woken. After a cut, what the strategy counts begins with this message.
//!   - The message is the first of its segment, and sets the limits of the strategy.
//!   - A limit is reached. If the segment holds its maximum of messages, it is sealed; otherwise the strategy decides about
//!     a switch.
//! - **No room in the active segment** ([`Core::try_write`]): the sender seals it, opens the next one with a segment from
//!   the pool, and reserves there; see [`reserve`](super::reserve).
//! - **A closure wrote the message**: a receiver may sleep for it, and is woken; see [`stall`](super::stall).
//! - **No memory for another segment**: the message is refused as full. The sender then waits for room, returns an error,
//!   or drops messages; see [`drop_policy`](super::drop_policy).
//! - **An external payload**: its bytes stay where they are and count against `max_bytes`, and its entry holds a reference.

use std::collections::VecDeque;
use std::mem;

use super::Core;
use super::payload::Payload;
use super::payload::sealed::Sealed;
use super::reserve::{Commit, Refusal};
use super::source::{PayloadSource, Reserve, Source, is_external};
use super::strategy::limits::FillLevel;
use crate::queue::pool::room_waiters::{Demand, Ticket};
use crate::queue::segment::EXTERNAL_BYTES;
use crate::queue::segment::slot_state::{EntryRange, EntrySlot, NotReserved};
use crate::sync::{Ordering, fence};

/// The most messages that one reservation takes.
///
/// The checkers see senders with more messages than that.
pub(crate) const MAX_RANGE_MESSAGES: usize =
    if cfg!(any(turbostream_loom, turbostream_shuttle)) { 2 } else { 32 };

/// Reserves in the active segment, if that has room.
struct InActiveSegment;

impl Reserve for InActiveSegment {
    type Refusal = NotReserved;

    #[inline(always)]
    fn reserve(self, core: &Core, len: usize) -> Result<(u64, EntrySlot), NotReserved> {
        let sequence = core.queue.ring.active();
        let entry = core.queue.ring.slot(sequence).reserve(len, core.queue.capacities())?;
        Ok((sequence, entry))
    }
}

/// Reserves in the next segment if it has to, in the turn of this sender.
struct InTurn(Option<Ticket>);

impl Reserve for InTurn {
    type Refusal = Refusal;

    #[inline(always)]
    fn reserve(self, core: &Core, len: usize) -> Result<(u64, EntrySlot), Refusal> {
        core.reserve(len, self.0)
    }
}

impl Core {
    /// Writes a message if the active segment has room for it; otherwise returns false.
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
        source.write(self, InActiveSegment).is_ok()
    }

    /// Writes a message, in the next segment if it has to; returns why if it cannot.
    ///
    /// A sender that waits passes its ticket. Room in the open segment is for any sender; further memory is taken in turn.
    pub(crate) fn try_write<S: Source>(&self, source: &mut S, ticket: Option<Ticket>) -> Result<(), Refusal> {
        let len = source.max_len();
        if len > self.max_message_bytes {
            return Err(Refusal::TooLarge { len, max: self.max_message_bytes });
        }
        if S::IN_PLACE {
            self.note_in_place();
        }
        if source.is_external(self.queue.capacity()) {
            return self.write_external(source, len, ticket);
        }
        source.write(self, InTurn(ticket))
    }

    #[cold]
    fn write_external<S: Source>(
        &self,
        source: &mut S,
        len: usize,
        ticket: Option<Ticket>,
    ) -> Result<(), Refusal> {
        let mut reservation = self.reserve_external(len, ticket)?;
        if S::IN_PLACE {
            reservation.mark_in_place();
            // Not after the closure, which may take long.
            self.queue.wake_senders();
        }
        reservation.write_external(source.take_external());
        Ok(())
    }

    /// [`write_fast`](Self::write_fast) for an external payload. Not inlined: that would slow down the path of a copy.
    #[inline(never)]
    fn write_external_fast<S: Source>(&self, source: &mut S) -> bool {
        let len = source.max_len();
        if self.room_waiters().waiting() > 0 || !self.queue.pool.charge(len) {
            return false;
        }
        let sequence = self.queue.ring.active();
        let slot = self.queue.ring.slot(sequence);
        let Ok(entry) = slot.reserve(EXTERNAL_BYTES, self.queue.capacities()) else {
            self.queue.pool.refund_external(len);
            return false;
        };
        // Without a `Reservation`: no user code runs before the commit.
        if self.queue.segment(entry.segment()).write_external(&entry, source.take_external()) {
            self.wake_after_closure();
        }
        self.after_commit(Commit { sequence, entry, is_external: true });
        true
    }

    /// Copies a payload into its entry and commits it.
    #[inline(always)]
    pub(super) fn write_copy(&self, sequence: u64, entry: EntrySlot, bytes: &[u8]) {
        self.queue.segment(entry.segment()).write(&entry, bytes);
        self.after_commit(Commit { sequence, entry, is_external: false });
    }

    /// Does what is needed after a commit, which is nothing for most messages.
    #[inline(always)]
    pub(super) fn after_commit(&self, commit: Commit) {
        let Commit { sequence, entry, is_external } = commit;
        if entry.has_waiter() | (entry.index() == 0) | self.strategy_due(sequence, &entry, is_external) {
            self.after_commit_cold(sequence, entry, is_external);
        }
    }

    #[inline(always)]
    fn strategy_due(&self, sequence: u64, entry: &EntrySlot, is_external: bool) -> bool {
        self.strategy.is_due(FillLevel::with(sequence, entry.filled()), is_external)
    }

    /// Writes the first payloads, as many as one reservation holds, and removes them from `payloads`.
    ///
    /// Returns how many were written, or why the first one could not be. An external payload is written alone.
    pub(crate) fn try_write_range<P: Payload>(
        &self,
        payloads: &mut VecDeque<P>,
        ticket: Option<Ticket>,
    ) -> Result<usize, Refusal> {
        let (mut ends, mut candidates, mut end) = ([0; MAX_RANGE_MESSAGES], 0, 0);
        for (payload, into) in payloads.iter().zip(&mut ends) {
            let len = payload.as_slice().len();
            if is_external(payload, self.queue.capacity()) || len > self.max_message_bytes {
                break;
            }
            end += len;
            (*into, candidates) = (end, candidates + 1);
        }
        if candidates == 0 {
            let Some(first) = payloads.pop_front() else { return Ok(0) };
            let mut first = PayloadSource(first);
            let written = self.try_write(&mut first, ticket);
            if written.is_err() {
                payloads.push_front(first.0);
            }
            return written.map(|()| 1);
        }
        let (ends, capacities) = (&ends[..candidates], self.queue.capacities());
        let (sequence, range) = self.reserve_with(
            Demand::copied(ends[0]),
            ticket,
            |slot| slot.reserve_range(ends, capacities),
            |slot, sequence, segment| slot.open_range(sequence, segment, ends, capacities),
        )?;
        let messages = range.messages();
        self.write_range(sequence, range, payloads);
        // Last: dropping a payload may run user code.
        if mem::needs_drop::<P>() {
            payloads.drain(..messages).for_each(|payload| self.drop_payload(payload));
        } else {
            payloads.drain(..messages);
        }
        Ok(messages)
    }

    /// Copies the first payloads into a range of entries and commits them.
    fn write_range<P: Payload>(&self, sequence: u64, range: EntryRange<'_>, payloads: &VecDeque<P>) {
        let (start, has_waiter, filled) = (range.start(), range.has_waiter(), range.filled());
        self.queue.segment(range.segment()).write_range(range, payloads.iter().map(Sealed::as_slice));
        self.notify_readers(sequence, start, has_waiter);
        if self.strategy.is_due(FillLevel::with(sequence, filled), false) {
            self.consider_switch(sequence);
        }
    }

    /// Notes that messages are written in place, before one of them is reserved.
    ///
    /// Such a message may turn out shorter than its reservation, or be abandoned.
    fn note_in_place(&self) {
        // ORDERING: Relaxed, followed by a Release fence before the reservation: pairs with the Acquire in the load of
        // the slot's word by `count_queue`; a thread that counts the reservation there sees this flag too.
        if !self.in_place.load(Ordering::Relaxed) {
            self.in_place.store(true, Ordering::Relaxed);
        }
        fence(Ordering::Release);
    }

    /// Reserves and abandons an entry, as a sender whose closure panics does.
    ///
    /// It does so without a panic, because loom cannot change threads while one unwinds.
    #[cfg(all(test, turbostream_loom))]
    pub(crate) fn abandon_reservation(&self, len: usize) {
        let (sequence, entry) = self.reserve(len, None).unwrap();
        drop(super::reserve::Reservation::new(self, sequence, entry, 0));
    }

    #[cold]
    fn after_commit_cold(&self, sequence: u64, entry: EntrySlot, is_external: bool) {
        self.notify_readers(sequence, (entry.index(), entry.offset()), entry.has_waiter());
        if self.strategy_due(sequence, &entry, is_external) {
            self.consider_switch(sequence);
        }
    }

    /// Wakes receivers for committed messages if their reservation cleared the waiter bit of the ring slot.
    ///
    /// The first of the messages is at `start`, an index and an offset. If it is the first of its segment or the first
    /// after a cut, what the strategy counts begins with it.
    #[inline]
    fn notify_readers(&self, sequence: u64, start: (usize, usize), has_waiter: bool) {
        let first = start.0 == 0;
        if first || has_waiter {
            self.queue.note_cut(sequence, start);
            self.silence_if_emitting();
        }
        if first {
            self.strategy.begin_segment(sequence);
            // The segment that this thread has opened has room for more.
            self.wake_senders();
        }
        if has_waiter && self.receivers_waiting().wake() > 0 {
            return;
        }
        if first || has_waiter {
            self.queue.note_first_written();
            if self.is_timed() {
                self.watch_unread();
            }
        }
    }
}
