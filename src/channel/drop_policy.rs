//! What becomes of a message for which there is no room, where that is not for its sender to wait for.

use super::Core;
use super::config::WhenFull;
use super::reserve::{QueuePosition, Refusal};
use super::source::Source;
use crate::queue::segment::EXTERNAL_BYTES;
use crate::sync::{AtomicU64, Ordering};

/// Messages that were dropped before they got a slot.
#[derive(Default)]
pub(super) struct DroppedNewest {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl DroppedNewest {
    fn add(&self, bytes: usize) {
        // ORDERING: Relaxed: figures.
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Messages, and their bytes.
    pub(super) fn load(&self) -> (u64, u64) {
        // ORDERING: Relaxed, as above.
        (self.messages.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

/// What there is to be said for another try.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    /// There is room. If it cannot be had, it is about to come or somebody else's by now: it is looked for once, not for
    /// ever.
    Likely,
    /// Room was made.
    Freed,
    /// Nothing.
    None,
}

impl Core {
    /// Writes a message, or says why not. Never full where [`WhenFull`] drops messages.
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

    /// Tries to write as long as there is something to be dropped for it.
    fn write_dropping(
        &self,
        len: usize,
        external: bool,
        mut try_write: impl FnMut() -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut trusting = true;
        loop {
            let room = self.find_or_free_room(len, external, trusting);
            trusting = room != Room::Likely;
            match try_write() {
                Err(Refusal::Full) if room != Room::None => {}
                result => return result,
            }
        }
    }

    /// A message for which there is no room after all is dropped itself.
    fn count_if_dropped(&self, len: usize, written: Result<(), Refusal>) -> Result<(), Refusal> {
        if written == Err(Refusal::Full) {
            self.dropped_newest.add(len);
            self.arm_watchdog();
            return Ok(());
        }
        written
    }

    /// Makes room by dropping what may be dropped, where none is to be seen.
    fn find_or_free_room(&self, len: usize, external: bool, trusting: bool) -> Room {
        let is_seen = || trusting && self.would_fit(len, external);
        let oldest = self.when_full == WhenFull::DropOldest;
        if is_seen() {
            return Room::Likely;
        }
        if !oldest {
            // What was read has been left behind by the try before.
            return Room::None;
        }
        let room = self.with_head(|head, effects| {
            if is_seen() {
                // Receivers make room under this very lock.
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

    /// Whether there is room for the message, as far as can be told without trying.
    fn would_fit(&self, len: usize, external: bool) -> bool {
        let state = self.queue.ring.slot(self.queue.ring.active()).load();
        let in_segment = if external { EXTERNAL_BYTES } else { len };
        let is_active = state.is_open() && state.has_room(in_segment, self.queue.capacity());
        let segment = if is_active { 0 } else { self.queue.pool.footprint() };
        let external = if external { len } else { 0 };
        self.queue.pool.has_room_for(segment + external)
    }
}
