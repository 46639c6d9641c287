//! Full channels that drop messages: the new one, or the oldest ones to make room for it.
//!
//! Under `DropNewest` and `DropOldest` a sender never waits for room. When the channel is full, it:
//!
//! 1. tries again if there seems to be room, as receivers may have freed memory meanwhile;
//! 2. under `DropOldest`, locks the head, retires segments that were read or else drops the unread messages of the oldest
//!    sealed segment, and tries again;
//! 3. drops its own message if nothing older can go: all memory is lent, or another sender has not committed yet in the
//!    oldest segment. That message never had a sequence, so it is counted here and not at the head.

use super::Core;
use super::config::WhenFull;
use super::reserve::{QueuePosition, Refusal};
use super::source::Source;
use crate::queue::segment::EXTERNAL_BYTES;
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
    /// There seems to be room. If the try fails, the room was not there yet or another sender has taken it; so this answer
    /// is trusted once in a row, not for ever.
    Likely,
    /// This thread freed memory.
    Freed,
    /// There is no room, and none can be made.
    None,
}

impl Core {
    /// Writes a message; returns why if it cannot. Never full if [`WhenFull`] drops messages.
    #[inline]
    pub(crate) fn push<S: Source>(&self, source: &mut S, position: QueuePosition) -> Result<(), Refusal> {
        match self.try_write(source, position) {
            Err(Refusal::Full) if self.drops_when_full() => self.push_dropping(source, position),
            result => result,
        }
    }

    pub(crate) fn drops_when_full(&self) -> bool {
        matches!(self.when_full, WhenFull::DropNewest | WhenFull::DropOldest)
    }

    #[cold]
    fn push_dropping<S: Source>(&self, source: &mut S, position: QueuePosition) -> Result<(), Refusal> {
        let (len, external) = (source.max_len(), source.is_external(self.queue.capacity()));
        let written = self.write_dropping(len, external, || self.try_write(source, position));
        if written == Err(Refusal::Full) {
            self.payloads.call(|| source.discard());
        }
        self.count_if_dropped(len, written)
    }

    /// Tries to write until it succeeds or nothing more can be dropped for it.
    fn write_dropping(
        &self,
        len: usize,
        external: bool,
        mut try_write: impl FnMut() -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut trust_hint = true;
        loop {
            let room = self.find_or_free_room(len, external, trust_hint);
            trust_hint = room != Room::Likely;
            match try_write() {
                Err(Refusal::Full) if room != Room::None => {}
                result => return result,
            }
        }
    }

    /// Counts the new message as dropped if it was refused as full, and turns that into a success.
    fn count_if_dropped(&self, len: usize, written: Result<(), Refusal>) -> Result<(), Refusal> {
        if written == Err(Refusal::Full) {
            self.dropped_newest.add(len);
            self.arm_watchdog();
            return Ok(());
        }
        written
    }

    /// Finds room for a message, or frees some by what the policy may drop.
    fn find_or_free_room(&self, len: usize, external: bool, trust_hint: bool) -> Room {
        let seems_free = || trust_hint && self.would_fit(len, external);
        let oldest = self.when_full == WhenFull::DropOldest;
        if seems_free() {
            return Room::Likely;
        }
        if !oldest {
            // The try before has retired what was read.
            return Room::None;
        }
        let room = self.with_head(|head, effects| {
            if seems_free() {
                // Receivers free memory under this lock, so the first check may have been too early.
                Room::Likely
            } else if head.retire_drained_segments(&self.queue, effects)
                || head.drop_oldest(&self.queue, external, effects)
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
    fn would_fit(&self, len: usize, external: bool) -> bool {
        let state = self.queue.ring.slot(self.queue.ring.active()).load();
        let in_segment = if external { EXTERNAL_BYTES } else { len };
        let is_active = state.is_open() && state.has_room(in_segment, self.queue.capacity());
        let segment = if is_active { 0 } else { self.queue.pool.footprint() };
        let external = if external { len } else { 0 };
        self.queue.pool.has_room_for(segment + external)
    }
}
