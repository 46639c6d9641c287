//! The reading side: which messages come next, and how they are handed out.
//!
//! All receivers of a channel take turns at one [`Head`]. A turn is short, waits for nothing and runs no user
//! code: what might (waking a task, dropping a payload) is noted in [`Effects`] and done after the turn.

pub(crate) mod chunk;
pub(crate) mod copy_arena;
mod drop_oldest;
mod effects;
mod position;
mod segment_cursor;

use std::mem;
use std::time::Duration;

use bytes::Bytes;

use self::copy_arena::CopyArena;
pub(crate) use self::effects::Effects;
pub(crate) use self::position::{DrainOutcome, Position};
use self::segment_cursor::SegmentCursor;
pub(crate) use self::segment_cursor::TakenRange;
use super::pool::SegmentRef;
use super::segment::slot_state::{Phase, SlotState};
use super::{Queue, ReadMode};
use crate::sync::Arc;
use crate::telemetry::events::Switched;
use crate::telemetry::histogram::{Histogram, QUEUE_BOUNDS};
use crate::telemetry::stats::{SwitchCause, Totals};
use crate::wait::spin::spin_backoff_until;

/// A receiver that finds the active segment growing lets it grow by this many messages before it cuts.
const COALESCE_MAX: usize = 1024;
/// Turns of a spin before it first looks whether that goes on.
const COALESCE_FIRST_PAUSE: usize = 8;

/// The pool is told of payloads that are out of the channel once they come to this part of `max_bytes`.
const RELEASED_PART: usize = 8;

/// Whether there is a message to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// The next message can be taken.
    Readable,
    /// Its writer reserved it and has not committed it yet.
    Stalled,
    /// Nothing is sealed, and nothing can be cut.
    Empty,
    /// Everything was handed out, and nothing more will come.
    Closed,
}

/// The state that receivers take turns at.
pub(crate) struct Head {
    /// Of the segment that is read, or will be next.
    sequence: u64,
    /// The sequence of that segment's first message.
    first_message: u64,
    current: Option<SegmentCursor>,
    arena: CopyArena,
    /// From segments that are done with.
    handed_out: Totals,
    dropped: Totals,
    /// Those of the dropped messages that made room for newer ones.
    dropped_oldest: u64,
    /// How long the first message of each segment was queued.
    queue_time: Histogram,
    /// Where whoever waits for a mark wants to be told.
    drain_target: Option<Position>,
    /// The first message that was dropped because nobody was left to read it.
    discarded_from: Option<Position>,
    /// Bytes of payloads that travelled by reference and are out of the channel, which the pool still counts.
    released: usize,
}

impl Head {
    pub(crate) fn new(first_sequence: u64) -> Self {
        Self {
            sequence: first_sequence,
            first_message: first_sequence,
            current: None,
            arena: CopyArena::default(),
            handed_out: Totals::default(),
            dropped: Totals::default(),
            dropped_oldest: 0,
            queue_time: Histogram::new(QUEUE_BOUNDS),
            drain_target: None,
            discarded_from: None,
            released: 0,
        }
    }

    /// Finds the next message, cutting the active segment if it has to and may.
    pub(crate) fn poll_readable(&mut self, queue: &Queue, effects: &mut Effects) -> Readiness {
        self.find_readable(queue, effects, queue.on_demand())
    }

    /// Finds the next message for somebody who takes nothing: without a cut.
    fn poll_without_cut(&mut self, queue: &Queue, effects: &mut Effects) -> Readiness {
        self.find_readable(queue, effects, false)
    }

    /// Leaves behind what is sealed and was read, without dropping anything; true if that made room.
    pub(crate) fn retire_drained_segments(&mut self, queue: &Queue, effects: &mut Effects) -> bool {
        self.poll_without_cut(queue, effects);
        effects.released += mem::take(&mut self.released);
        effects.recycled > 0 || effects.released > 0
    }

    /// Bytes of payloads that are out of the channel, which the pool still counts.
    pub(crate) fn released(&self) -> usize {
        self.released
    }

    /// How many of them the pool is to be told of now: all if a sender waits for memory, otherwise none until they are
    /// many, as each time takes the count's cache line away from the senders. Until then the memory is had by
    /// [`retire_drained_segments`](Self::retire_drained_segments).
    #[inline(always)]
    pub(crate) fn take_released(&mut self, queue: &Queue) -> usize {
        let pool = &queue.pool;
        let due = self.released > 0
            && (pool.room_waiters.waiting() > 0 || self.released >= pool.max_bytes() / RELEASED_PART);
        if due { mem::take(&mut self.released) } else { 0 }
    }

    #[inline]
    fn find_readable(&mut self, queue: &Queue, effects: &mut Effects, may_cut: bool) -> Readiness {
        loop {
            if let Some(readiness) = self.current.as_mut().and_then(SegmentCursor::readiness) {
                return readiness;
            }
            let slot = queue.ring.slot(self.sequence);
            let state = slot.load();
            match state.phase() {
                Phase::Sealed => {
                    self.extend_to(queue, state);
                    self.after_take(queue, effects);
                }
                Phase::Open if state.messages() > self.known_end() && may_cut => {
                    coalesce(self.known_end(), state, || slot.load());
                    let state = queue.cut(self.sequence);
                    let messages = state.messages() - self.known_end();
                    queue.spin().record(messages);
                    let (cause, sequence) = (SwitchCause::OnDemand, self.sequence);
                    effects.note(state.is_open().then_some(Switched { cause, sequence, messages }));
                    self.extend_to(queue, state);
                }
                Phase::Closed => return Readiness::Closed,
                Phase::Open | Phase::Ready => return Readiness::Empty,
            }
        }
    }

    /// How many messages of the segment at the head are known to be sealed or cut.
    #[inline]
    fn known_end(&self) -> usize {
        self.current.as_ref().map_or(0, SegmentCursor::end)
    }

    /// Whether everything that is known to be sealed or cut was taken.
    #[inline]
    pub(crate) fn is_caught_up(&self) -> bool {
        self.current.as_ref().is_none_or(|current| current.remaining() == 0)
    }

    /// Whether there is a segment with nothing but messages that were taken.
    #[inline]
    pub(crate) fn has_drained_active(&self, queue: &Queue) -> bool {
        let nothing_new = || queue.ring.slot(self.sequence).load().messages() == self.known_end();
        self.current.is_some() && self.is_caught_up() && nothing_new()
    }

    /// Goes on to read the segment at the head up to what `state` says, which is final or a cut.
    fn extend_to(&mut self, queue: &Queue, state: SlotState) {
        let current = self.current.get_or_insert_with(|| {
            let number = state.segment().expect("a slot with messages names its segment");
            let lease = SegmentRef::adopt(Arc::clone(&queue.pool), number);
            self.queue_time.record(Duration::from_nanos(queue.clock().nanos_since(lease.opened_at())));
            SegmentCursor::new(lease)
        });
        current.extend(state.messages());
        if state.phase() == Phase::Sealed {
            // Whoever sealed it may not have got to that yet, and writers look for the slot that `active` names.
            queue.ring.advance(self.sequence);
        }
        self.apply_drain_target();
    }

    /// Leaves the current segment behind, which is sealed and all of which was taken.
    fn retire(&mut self, queue: &Queue, effects: &mut Effects) {
        let Some(current) = self.current.take() else { return };
        queue.ring.retire(self.sequence);
        effects.retired = true;
        self.sequence = self.sequence.wrapping_add(1);
        self.handed_out += current.handed_out();
        let (lease, messages) = current.into_lease();
        self.first_message = self.first_message.wrapping_add(messages as u64);
        lease.retire(messages);
        effects.recycled += usize::from(lease.recycle_without_wake());
    }

    /// After a message was taken, or came into sight: leaves the current segment behind if that was its last.
    fn after_take(&mut self, queue: &Queue, effects: &mut Effects) {
        let Some(current) = &mut self.current else { return };
        current.skip_padding();
        if current.remaining() == 0 {
            current.drop_chunks();
            self.retire_if_sealed(queue, effects);
        }
    }

    /// Leaves the current segment behind, all of which was taken, if no more can come.
    fn retire_if_sealed(&mut self, queue: &Queue, effects: &mut Effects) {
        let state = queue.ring.slot(self.sequence).load();
        if state.phase() == Phase::Sealed && state.messages() == self.known_end() {
            self.extend_to(queue, state);
            self.retire(queue, effects);
        }
    }

    /// Gives the rest of the active segment up if all of its messages were taken, so that its memory can be freed.
    pub(crate) fn release_drained_active(&mut self, queue: &Queue, effects: &mut Effects) {
        if self.has_drained_active(queue) {
            let known = self.known_end();
            let _ = queue.ring.slot(self.sequence).seal(|seen| seen.messages() == known);
            self.retire_if_sealed(queue, effects);
        }
    }

    /// Takes the next message where that needs nothing but a slice, and something behind it is known to be committed:
    /// the way of nearly all messages.
    #[inline(always)]
    pub(crate) fn take_fast(&mut self, mode: ReadMode) -> Option<Bytes> {
        self.current.as_mut()?.take_fast(mode, &mut self.released)
    }

    /// Takes the next message; [`look`](Self::look) has found it readable.
    pub(crate) fn take(&mut self, queue: &Queue, mode: ReadMode, effects: &mut Effects) -> Bytes {
        let current = self.current.as_mut().expect("a readable message has a segment");
        let (message, released) = current.take(queue, mode, &mut self.arena);
        self.released += released;
        self.after_take(queue, effects);
        message
    }

    /// Takes up to `limit` messages as they lie; the first is readable, and so is the batch.
    pub(crate) fn take_range(&mut self, queue: &Queue, limit: usize, effects: &mut Effects) -> TakenRange {
        let current = self.current.as_mut().expect("a readable message has a segment");
        let (batch, released) = current.take_range(limit, self.first_message);
        self.released += released;
        self.after_take(queue, effects);
        batch
    }

    /// Drops all that can be read. Ends early at a message that is not committed; its writer goes on from there.
    pub(crate) fn discard(&mut self, queue: &Queue, effects: &mut Effects) {
        loop {
            match self.poll_readable(queue, effects) {
                Readiness::Readable => self.discard_one(queue, effects),
                Readiness::Stalled if self.set_commit_waiter() => return,
                Readiness::Stalled => {}
                Readiness::Empty | Readiness::Closed => return,
            }
        }
    }

    fn discard_one(&mut self, queue: &Queue, effects: &mut Effects) {
        let position = self.position();
        self.discarded_from.get_or_insert(position);
        let current = self.current.as_mut().expect("a readable message has a segment");
        let len = current.discard_one(effects);
        self.dropped += Totals::of(1, len);
        self.after_take(queue, effects);
    }

    /// The sequence of the next message, if it was seen reserved and is not committed.
    pub(crate) fn stalled_message(&mut self) -> Option<u64> {
        let current = self.current.as_mut()?;
        let is_stalled = current.readiness() == Some(Readiness::Stalled);
        is_stalled.then(|| self.first_message.wrapping_add(current.position() as u64))
    }

    /// Asks the writer of the next message for a wake; false if it has committed meanwhile.
    pub(crate) fn set_commit_waiter(&self) -> bool {
        self.current.as_ref().is_some_and(SegmentCursor::set_commit_waiter)
    }

    /// Asks the writer of the next message for a wake; false if there is one already.
    pub(crate) fn set_waiter(&self, queue: &Queue) -> bool {
        queue.ring.slot(self.sequence).set_waiter(self.sequence, self.known_end())
    }

    /// Messages that another receiver could take at once.
    pub(crate) fn left(&self, queue: &Queue) -> usize {
        let remaining = self.current.as_ref().map_or(0, SegmentCursor::remaining);
        if remaining > 0 {
            return remaining;
        }
        let state = queue.ring.slot(self.sequence).load();
        match state.phase() {
            Phase::Open if !queue.on_demand() => 0,
            Phase::Sealed | Phase::Open => state.messages() - self.known_end(),
            _ => 0,
        }
    }

    /// Whether the active segment is the one at the head, holds nothing unread, and is still referred to by messages
    /// that were handed out.
    pub(crate) fn is_lent_after_all_read(&self, sequence: u64, active: SlotState) -> bool {
        let lent =
            |current: &SegmentCursor| current.end() == active.messages() && current.is_lent_after_all_read();
        sequence == self.sequence && self.current.as_ref().is_some_and(lent)
    }

    pub(crate) fn handed_out(&self) -> Totals {
        self.handed_out + self.current.as_ref().map_or_else(Totals::default, SegmentCursor::handed_out)
    }

    pub(crate) fn dropped(&self) -> Totals {
        self.dropped
    }

    pub(crate) fn dropped_oldest(&self) -> u64 {
        self.dropped_oldest
    }

    pub(crate) fn queue_time(&self) -> Histogram {
        self.queue_time
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What was already taken of the segment at the head.
    pub(crate) fn taken(&self) -> Totals {
        self.current.as_ref().map_or_else(Totals::default, SegmentCursor::taken)
    }

    pub(crate) fn has_arena(&self) -> bool {
        !self.arena.is_empty()
    }

    pub(crate) fn drop_arena(&mut self) {
        self.arena = CopyArena::default();
    }
}

/// Lets the active segment gather more messages while it grows, for a few microseconds at most.
///
/// Cutting off two or three at a time costs both sides more than the messages themselves.
fn coalesce(known: usize, mut seen: SlotState, mut load: impl FnMut() -> SlotState) {
    if seen.messages() - known < 2 {
        return;
    }
    spin_backoff_until(COALESCE_FIRST_PAUSE, || {
        let now = load();
        let grown = now.messages() > seen.messages();
        seen = now;
        !grown || now.messages() - known >= COALESCE_MAX || !now.is_open()
    });
}
