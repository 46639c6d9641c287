//! The head: the state of the reading side, shared by all receivers of a channel.
//!
//! A receiver locks the [`Head`] for each message or batch, in most cases for some tens of instructions. It holds the
//! lock longer where it spins for microseconds, copies up to 64 KiB, takes up to 256 messages or discards the backlog. Under
//! the lock it neither sleeps nor runs user code:
//!
//! 1. It finds the next message ([`poll_readable`](Head::poll_readable)). If all messages up to `readable_end` were
//!    read, it moves that end: to the end of a sealed segment, or by a cut of the active one.
//! 2. It takes the message, or several at once. Padding is skipped.
//! 3. If that was the last message of a sealed segment, it retires the segment and continues at the next ring slot.
//! 4. It unlocks the head, and applies the [`Effects`]: wakes, payload drops and events, which may run user code.
//!
//! | [`Readiness`] | state at the head | a receiver that waits |
//! |---|---|---|
//! | Readable | the next message is committed | does not wait |
//! | Stalled | the next message is reserved and not committed | stores the index of the entry in `Segment::awaited`, requests the stall watcher, and sleeps |
//! | Empty | the ring slot is Ready, or Open without messages to cut | sets WAITER in the ring slot if receivers may cut, and sleeps |
//! | Closed | the ring slot is Closed | reports the end of the channel |
//!
//! No message is ever held by a receiver that waits, so a future or a clone can be dropped at any time, and clones
//! receive in order.

pub(crate) mod ahead;
pub(crate) mod chunk;
pub(crate) mod copy_arena;
mod drop_oldest;
mod effects;
pub(crate) mod many;
mod position;
mod segment_cursor;

use std::mem;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;

use self::ahead::{Ahead, Claim, ReturnedQueue};
use self::chunk::TakenRange;
use self::copy_arena::CopyArena;
pub(crate) use self::effects::Effects;
pub(crate) use self::position::{DrainOutcome, Position};
use self::segment_cursor::SegmentCursor;
use super::limit::Limit;
use super::pool::ChannelRef;
use super::segment::slot_state::{Phase, SlotState};
use super::{Queue, ReadMode};
use crate::sync::Arc;
use crate::telemetry::events::Switched;
use crate::telemetry::histogram::{Histogram, QUEUE_BOUNDS};
use crate::telemetry::stats::{SwitchCause, Totals};
use crate::wait::spin::spin_backoff_until;

/// A receiver that sees the active segment grow lets it grow by this many messages before it cuts.
const COALESCE_MAX: usize = 1024;
/// Iterations of a spin before its first check whether the segment grows.
const COALESCE_FIRST_PAUSE: usize = 8;

/// Released external payloads are passed to the pool once they reach `max_bytes` divided by this.
const RELEASE_DIVISOR: usize = 8;

/// Whether there is a message to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// The next message can be taken.
    Readable,
    /// A sender has reserved the next message and not committed it yet.
    Stalled,
    /// No message is sealed, and none can be cut.
    Empty,
    /// All messages were taken, and the channel is closed.
    Closed,
}

/// What was claimed and not handed out.
#[derive(Clone, Copy, Default)]
pub(crate) struct Claimed {
    pub(crate) all: Totals,
    /// The part of it that lies in the segment at the head.
    pub(crate) at_head: Totals,
}

/// The state that receivers lock.
pub(crate) struct Head {
    /// The sequence of the segment that is read, or is read next.
    sequence: u64,
    /// The sequence of that segment's first message.
    first_message: u64,
    current: Option<SegmentCursor>,
    /// The pages of Safe mode, while no receiver has them.
    arena: CopyArena,
    /// What the handles have claimed and not handed out.
    claims: Vec<Option<Claim>>,
    /// Messages that were claimed and given back, in front of the position of the head.
    returned: ReturnedQueue,
    /// Messages received from retired segments.
    received: Totals,
    dropped: Totals,
    /// Messages that were dropped after they had been claimed.
    dropped_returned: Totals,
    /// How many of the dropped messages made room for newer ones.
    dropped_oldest: u64,
    /// How long the first message of each segment was queued.
    queue_time: Histogram,
    /// The first position that a drainer waits for.
    drain_target: Option<Position>,
    /// The first message that was dropped because the last receiver had left.
    discarded_from: Option<Position>,
    /// Bytes of external payloads that have left the channel and that the pool still counts.
    released: usize,
}

impl Head {
    pub(crate) fn new(first_sequence: u64) -> Self {
        Self {
            sequence: first_sequence,
            first_message: first_sequence,
            current: None,
            arena: CopyArena::default(),
            claims: Vec::new(),
            returned: ReturnedQueue::default(),
            received: Totals::default(),
            dropped: Totals::default(),
            dropped_returned: Totals::default(),
            dropped_oldest: 0,
            queue_time: Histogram::new(QUEUE_BOUNDS),
            drain_target: None,
            discarded_from: None,
            released: 0,
        }
    }

    /// Finds the next message. Cuts the active segment if that is necessary and allowed.
    pub(crate) fn poll_readable(&mut self, queue: &Queue, effects: &mut Effects) -> Readiness {
        if !self.returned.is_empty() {
            return Readiness::Readable;
        }
        self.find_readable(queue, effects, queue.on_demand())
    }

    /// Finds the next message without a cut, for a thread that takes none.
    fn poll_without_cut(&mut self, queue: &Queue, effects: &mut Effects) -> Readiness {
        self.find_readable(queue, effects, false)
    }

    /// Retires sealed segments whose messages were all read, and drops none; returns whether that made room.
    pub(crate) fn retire_drained_segments(&mut self, queue: &Queue, effects: &mut Effects) -> bool {
        self.poll_without_cut(queue, effects);
        effects.released += mem::take(&mut self.released);
        effects.recycled || effects.released > 0
    }

    /// Returns the bytes of external payloads that have left the channel and that the pool still counts.
    pub(crate) fn released(&self) -> usize {
        self.released
    }

    /// Takes the released bytes that are to be passed to the pool now.
    ///
    /// These are all if a sender sleeps. Otherwise there are none until they are many: each update of the
    /// pool's count takes its cache line away from senders. Until then a sender that finds no memory gets them by
    /// [`retire_drained_segments`](Self::retire_drained_segments). No sender misses them: it registers
    /// and then locks the head for its attempt, and a receiver checks for sleeping senders under the same lock. So
    /// either the sender finds the bytes, or the receiver sees the sender. One that was woken makes another attempt.
    #[inline(always)]
    pub(crate) fn take_released(&mut self, queue: &Queue) -> usize {
        let pool = &queue.pool;
        let due = self.released > 0
            && (pool.room_waiters.has_sleeper() || self.released >= pool.max_bytes() / RELEASE_DIVISOR);
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
                Phase::Open if state.messages() > self.readable_end() && may_cut => {
                    let seen = coalesce(self.readable_end(), state, || slot.load());
                    let state = queue.cut(self.sequence, seen);
                    let messages = state.messages() - self.readable_end();
                    queue.spin().record(messages);
                    let (cause, sequence) = (SwitchCause::OnDemand, self.sequence);
                    effects.switches.add(state.is_open().then_some(Switched { cause, sequence, messages }));
                    self.extend_to(queue, state);
                }
                Phase::Closed => return Readiness::Closed,
                Phase::Open | Phase::Ready => return Readiness::Empty,
            }
        }
    }

    /// Returns how many messages of the segment at the head are known to be sealed or cut: receivers may read these.
    #[inline]
    fn readable_end(&self) -> usize {
        self.current.as_ref().map_or(0, SegmentCursor::end)
    }

    /// Whether all messages known to be sealed or cut were taken.
    #[inline]
    pub(crate) fn is_caught_up(&self) -> bool {
        self.returned.is_empty() && self.current.as_ref().is_none_or(|current| current.remaining() == 0)
    }

    /// Whether the segment at the head holds only messages that were taken.
    #[inline]
    pub(crate) fn has_drained_active(&self, queue: &Queue) -> bool {
        let nothing_new = || queue.ring.slot(self.sequence).load().messages() == self.readable_end();
        self.current.is_some() && self.is_caught_up() && nothing_new()
    }

    /// Whether an idle channel may keep the segment at the head.
    pub(crate) fn is_kept_when_idle(&self, queue: &Queue) -> bool {
        self.current.as_ref().is_some_and(|current| queue.pool.is_kept_when_idle(current.number()))
    }

    /// Extends the messages to read, in the segment at the head, to those in `state`: a sealed state or a cut.
    #[inline]
    fn extend_to(&mut self, queue: &Queue, state: SlotState) {
        let current = self.current.get_or_insert_with(|| {
            let number = state.segment().expect("a slot with messages names its segment");
            let segment = ChannelRef::adopt(Arc::clone(&queue.pool), number);
            self.queue_time.record(Duration::from_nanos(queue.clock().nanos_since(segment.opened_at())));
            SegmentCursor::new(segment)
        });
        current.extend(state.messages());
        if state.phase() == Phase::Sealed {
            // The sealing thread might not have advanced `active` yet, and senders open only the slot that it names.
            queue.ring.advance(self.sequence);
        }
        self.apply_drain_target();
    }

    /// Retires the current segment, which is sealed and whose messages were all taken.
    fn retire(&mut self, queue: &Queue, effects: &mut Effects) {
        let Some(current) = self.current.take() else { return };
        queue.ring.retire(self.sequence);
        effects.retired = true;
        self.sequence = self.sequence.wrapping_add(1);
        self.received += current.received();
        let (segment, messages) = current.into_segment();
        self.first_message = self.first_message.wrapping_add(messages as u64);
        effects.recycled |= segment.retire(messages);
    }

    /// Skips padding, and retires the current segment if its last message was taken.
    ///
    /// Called after a message was taken, or became known.
    #[inline]
    fn after_take(&mut self, queue: &Queue, effects: &mut Effects) {
        let Some(current) = &mut self.current else { return };
        current.skip_padding();
        if current.remaining() == 0 {
            current.drop_chunks();
            self.retire_if_sealed(queue, effects);
        }
    }

    /// Retires the current segment, whose known messages were all taken, if it is sealed without further ones.
    #[inline]
    fn retire_if_sealed(&mut self, queue: &Queue, effects: &mut Effects) {
        let state = queue.ring.slot(self.sequence).load();
        if state.phase() == Phase::Sealed && state.messages() == self.readable_end() {
            self.extend_to(queue, state);
            self.retire(queue, effects);
        }
    }

    /// Seals and retires the active segment if all of its messages were taken: its memory can then be freed.
    pub(crate) fn release_drained_active(&mut self, queue: &Queue, effects: &mut Effects) {
        if self.has_drained_active(queue) {
            let end = self.readable_end();
            effects.sealed |= queue.ring.slot(self.sequence).seal(|seen| seen.messages() == end).is_some();
            self.retire_if_sealed(queue, effects);
        }
    }

    /// Has `ahead` claim up to `limit` messages; returns false if that is not possible now.
    ///
    /// After the head was unlocked, [`Ahead::end_claim`] follows.
    #[inline]
    pub(crate) fn claim(&mut self, limit: usize, ahead: &mut Ahead) -> bool {
        if !self.returned.is_empty() {
            return false;
        }
        // While a drainer waits, no more is claimed than is handed out at once: what is claimed has to be handed out first.
        let limit = if self.drain_target.is_some() { 1 } else { limit };
        let first = (Position { sequence: self.sequence, messages: 0 }, self.first_message);
        if !self.current.as_mut().is_some_and(|current| current.claim(limit, first, ahead)) {
            return false;
        }
        ahead.take_arena(&mut self.arena);
        ahead.register(&mut self.claims);
        true
    }

    /// Takes back what `ahead` has claimed and not handed out.
    ///
    /// Returns whether others have passed it: they may have found nothing else, and sleep.
    #[inline]
    pub(crate) fn take_back(&mut self, ahead: &mut Ahead) -> bool {
        let returned = match &mut self.current {
            _ if ahead.is_empty() => None,
            Some(current) => current.take_back(ahead),
            None => ahead.give_back(None),
        };
        ahead.return_arena(&mut self.arena);
        let was_passed = returned.is_some();
        if let Some(returned) = returned {
            self.returned.add(returned);
        }
        was_passed
    }

    /// Whether messages that were given back are left.
    pub(crate) fn has_returned(&self) -> bool {
        !self.returned.is_empty()
    }

    /// Forgets a handle that is dropped, and that has given back its claim.
    pub(crate) fn remove_claims(&mut self, ahead: &mut Ahead) {
        ahead.deregister(&mut self.claims);
    }

    /// Whether a handle has claimed messages that it has not handed out.
    pub(crate) fn has_claims(&self) -> bool {
        self.claims.iter().flatten().any(|claim| claim.left().1.messages > 0)
    }

    /// Whether all that was claimed before `target` was handed out.
    fn has_handed_out_claims(&self, target: Position) -> bool {
        self.returned.reaches(target) && self.claims.iter().flatten().all(|claim| claim.reaches(target))
    }

    /// Returns what was claimed and not handed out. That decreases also while the head is locked.
    pub(crate) fn claimed(&self) -> Claimed {
        let mut claimed = Claimed::default();
        for (sequence, left) in self.claims.iter().flatten().map(Claim::left).chain(self.returned.left()) {
            claimed.all += left;
            if sequence == self.sequence {
                claimed.at_head += left;
            }
        }
        claimed
    }

    /// Takes the next message if it is external or a chunk holds it, and another one is known to be committed after it.
    ///
    /// In ZeroCopy mode the chunk is lent; in Safe mode it holds copied messages, each below 1 KiB.
    #[inline(always)]
    pub(crate) fn take_fast(&mut self, mode: ReadMode) -> Option<Bytes> {
        if !self.returned.is_empty() {
            return None;
        }
        self.current.as_mut()?.take_fast(mode, &mut self.released)
    }

    /// [`take_fast`](Self::take_fast) for an external payload, which is written to `received`; false if there is none.
    #[inline(always)]
    pub(crate) fn take_external_into(&mut self, received: &mut Poll<Option<Bytes>>) -> bool {
        if !self.returned.is_empty() {
            return false;
        }
        let Some(current) = &mut self.current else { return false };
        let Some(len) = current.take_external_into(received) else { return false };
        self.released += len;
        true
    }

    /// Takes the next message, which [`poll_readable`](Self::poll_readable) has found readable.
    #[inline]
    pub(crate) fn take(&mut self, queue: &Queue, mode: ReadMode, effects: &mut Effects) -> Bytes {
        if let Some(message) = self.returned.take(queue, mode, &mut self.arena, &mut effects.spent) {
            return message;
        }
        let current = self.current.as_mut().expect("a readable message has a segment");
        let message = current.take(queue, mode, &mut self.arena, &mut self.released);
        self.after_take(queue, effects);
        message
    }

    /// [`take`](Self::take) for a caller that refunds the bytes of an external payload, which are returned with it.
    #[cfg(feature = "forward")]
    pub(crate) fn take_retained(
        &mut self,
        queue: &Queue,
        mode: ReadMode,
        effects: &mut Effects,
    ) -> (Bytes, usize) {
        if let Some(message) = self.returned.take(queue, mode, &mut self.arena, &mut effects.spent) {
            return (message, 0);
        }
        let current = self.current.as_mut().expect("a readable message has a segment");
        let mut released = 0;
        let message = current.take(queue, mode, &mut self.arena, &mut released);
        self.after_take(queue, effects);
        (message, released)
    }

    /// Returns the length of the next message, which is readable.
    fn next_len(&self) -> usize {
        let next_len = || self.current.as_ref().map_or(0, SegmentCursor::next_len);
        self.returned.next_len().unwrap_or_else(next_len)
    }

    /// Takes messages within `limit` as they lie in the segment. The first must be readable, and is always taken.
    pub(crate) fn take_range(&mut self, queue: &Queue, limit: Limit, effects: &mut Effects) -> TakenRange {
        if let Some(taken) = self.returned.take_range(limit, &mut effects.spent) {
            return taken;
        }
        let current = self.current.as_mut().expect("a readable message has a segment");
        let (taken, released) = current.take_range(limit, self.first_message);
        self.released += released;
        self.after_take(queue, effects);
        taken
    }

    /// Drops all readable messages, after the last receiver has left.
    ///
    /// Stops at a message that is not committed, and returns true. The sender continues if a closure writes it, and
    /// otherwise the stall watcher.
    pub(crate) fn discard(&mut self, queue: &Queue, effects: &mut Effects) -> bool {
        loop {
            match self.poll_readable(queue, effects) {
                Readiness::Readable => self.discard_one(queue, effects),
                Readiness::Stalled if self.set_awaited() => return true,
                Readiness::Stalled => {}
                Readiness::Empty | Readiness::Closed => return false,
            }
        }
    }

    /// Whether the next message is not committed, for the stall watcher. Then it records that a thread waits for it.
    pub(crate) fn is_stalled(&mut self, queue: &Queue, effects: &mut Effects) -> bool {
        loop {
            match self.poll_without_cut(queue, effects) {
                Readiness::Stalled if self.set_awaited() => return true,
                Readiness::Stalled => {}
                Readiness::Readable | Readiness::Empty | Readiness::Closed => return false,
            }
        }
    }

    fn discard_one(&mut self, queue: &Queue, effects: &mut Effects) {
        if let Some((position, len)) = self.returned.discard_one(&mut effects.spent) {
            self.discarded_from.get_or_insert(position);
            self.dropped += Totals::of(1, len);
            self.dropped_returned += Totals::of(1, len);
            return;
        }
        let position = self.position();
        self.discarded_from.get_or_insert(position);
        let current = self.current.as_mut().expect("a readable message has a segment");
        let len = current.discard_one(effects);
        self.dropped += Totals::of(1, len);
        self.after_take(queue, effects);
    }

    /// Returns the sequence of the next message, if it is known to be reserved and is not committed.
    pub(crate) fn stalled_message(&mut self) -> Option<u64> {
        let current = self.current.as_mut()?;
        let is_stalled = current.readiness() == Some(Readiness::Stalled);
        is_stalled.then(|| self.first_message.wrapping_add(current.position() as u64))
    }

    /// Whether a closure writes the stalled message.
    pub(crate) fn is_in_place(&self) -> bool {
        self.current.as_ref().is_some_and(SegmentCursor::is_in_place)
    }

    /// Records that a thread waits for the stalled message; returns false if it was committed meanwhile.
    pub(crate) fn set_awaited(&self) -> bool {
        self.current.as_ref().is_some_and(SegmentCursor::set_awaited)
    }

    /// Asks the sender of the next message for a wake; returns false if that message is already reserved.
    pub(crate) fn set_waiter(&self, queue: &Queue) -> bool {
        queue.ring.slot(self.sequence).set_waiter(self.sequence, self.readable_end())
    }

    /// Whether the active segment is at the head, holds no unread message, and received messages still refer to it.
    pub(crate) fn is_lent_after_all_read(&self, sequence: u64, active: SlotState) -> bool {
        let lent =
            |current: &SegmentCursor| current.end() == active.messages() && current.is_lent_after_all_read();
        sequence == self.sequence && self.current.as_ref().is_some_and(lent)
    }

    /// Returns the messages that receivers got so far; `claimed` is what [`claimed`](Self::claimed) has returned for the same
    /// report.
    pub(crate) fn received(&self, claimed: Claimed) -> Totals {
        let current = self.current.as_ref().map_or_else(Totals::default, SegmentCursor::received);
        self.received + current - claimed.all - self.dropped_returned
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

    /// Returns the messages taken from the segment at the head so far.
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

/// Waits a few microseconds at most while the active segment grows, so that a cut covers more messages.
///
/// `end` is the `readable_end` before the cut. Returns the last state that it has loaded. A cut of two or three messages
/// costs both sides more than the messages themselves.
fn coalesce(end: usize, mut seen: SlotState, mut load: impl FnMut() -> SlotState) -> SlotState {
    if seen.messages() - end < 2 {
        return seen;
    }
    spin_backoff_until(COALESCE_FIRST_PAUSE, || {
        let now = load();
        let grown = now.messages() > seen.messages();
        seen = now;
        !grown || now.messages() - end >= COALESCE_MAX || !now.is_open()
    });
    seen
}
