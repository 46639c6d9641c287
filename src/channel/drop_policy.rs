//! Full channels that drop messages: the new one, or the oldest ones to make room for it.
//!
//! Under `DropNewest` and `DropOldest` a sender never waits for room. When the channel is full, it:
//!
//! 1. tries again if there seems to be room, as receivers may have freed memory meanwhile;
//! 2. under `DropOldest`, locks the head, retires segments that were read or else drops the unread messages of the oldest
//!    sealed segment, and tries again;
//! 3. drops its own message: always under `DropNewest`; under `DropOldest` if nothing is sealed, if the oldest segment is
//!    lent or not fully committed, or if so much memory is lent that the message would not fit in the rest. That message
//!    never had a sequence, so it is counted here and not at the head.

use super::Core;
use super::payload::Payload;
use super::reserve::Refusal;
use super::source::{Source, is_external};
use crate::queue::pool::room_waiters::{Demand, Ticket};
use crate::sync::{AtomicU64, Ordering};

/// Counts the messages that were dropped before they were reserved.
#[derive(Default)]
pub(super) struct DroppedNewest {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl DroppedNewest {
    fn add(&self, bytes: usize) {
        // ORDERING: Relaxed: statistic only.
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns the number of messages, and of their bytes.
    pub(super) fn load(&self) -> (u64, u64) {
        // ORDERING: Relaxed: statistic only.
        (self.messages.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

/// Whether another try to write may succeed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    /// There seems to be room. Not trusted twice in a row: if the try fails, the room was not there yet, or another sender
    /// has taken it.
    Likely,
    /// This thread freed memory.
    Freed,
    /// There is no room, and none can be made.
    None,
}

impl Core {
    /// Writes a message; returns why if it cannot. Never full if [`WhenFull`](super::config::WhenFull) drops messages.
    #[inline]
    pub(crate) fn push<S: Source>(&self, source: &mut S, ticket: Option<Ticket>) -> Result<(), Refusal> {
        match self.try_write(source, ticket) {
            Err(Refusal::Full) if self.drops_when_full() => self.push_dropping(source, ticket),
            result => result,
        }
    }

    pub(crate) fn drops_when_full(&self) -> bool {
        self.when_full.drops()
    }

    /// Drops what the policy allows until the new message is written, or drops the new message.
    #[cold]
    fn push_dropping<S: Source>(&self, source: &mut S, ticket: Option<Ticket>) -> Result<(), Refusal> {
        let demand = self.demand(source);
        let mut trust_hint = true;
        loop {
            let room = self.find_or_free_room(demand, trust_hint);
            trust_hint = room != Room::Likely;
            match self.try_write(source, ticket) {
                Err(Refusal::Full) if room != Room::None => {}
                Err(Refusal::Full) => break,
                result => return result,
            }
        }
        self.payloads.call(|| source.discard());
        self.count_dropped(demand.len);
        Ok(())
    }

    /// Counts a message that was dropped before it had a sequence.
    pub(crate) fn count_dropped(&self, len: usize) {
        self.dropped_newest.add(len);
        self.arm_watchdog();
    }

    /// Returns what a message needs.
    pub(crate) fn demand<S: Source>(&self, source: &S) -> Demand {
        Demand { len: source.max_len(), is_external: source.is_external(self.queue.capacity()) }
    }

    /// Returns what a payload needs.
    pub(crate) fn payload_demand<P: Payload>(&self, payload: &P) -> Demand {
        let is_external = is_external(payload, self.queue.capacity());
        Demand { len: payload.as_slice().len(), is_external }
    }

    /// Finds room for a message, or frees some by what the policy may drop.
    fn find_or_free_room(&self, demand: Demand, trust_hint: bool) -> Room {
        let seems_free = || trust_hint && self.would_fit(demand);
        if seems_free() {
            return Room::Likely;
        }
        if !self.when_full.drops_oldest() {
            // `try_write` has already retired what was read.
            return Room::None;
        }
        let room = self.with_head(|head, effects| {
            if seems_free() {
                // Receivers free memory under this lock, so the first check may have been too early.
                Room::Likely
            } else if head.retire_drained_segments(&self.queue, effects)
                || head.drop_oldest(&self.queue, demand.is_external.then_some(demand.len), effects)
            {
                Room::Freed
            } else {
                Room::None
            }
        });
        if room == Room::Freed {
            self.arm_watchdog();
        }
        room
    }

    /// Whether there seems to be room for the message. A hint: only a try can decide.
    fn would_fit(&self, demand: Demand) -> bool {
        let (in_segment, external) = demand.split();
        let state = self.queue.ring.slot(self.queue.ring.active()).load();
        let is_active = state.is_open() && state.has_room(in_segment, self.queue.capacities());
        let segment = if is_active { 0 } else { self.queue.pool.footprint() };
        segment + external <= self.queue.pool.free_bytes()
    }
}
