//! What becomes of a message for which there is no room, where that is not for its sender to wait for.

use super::{Core, Refusal, Standing};
use crate::config::WhenFull;
use crate::payload::Payload;
use crate::segment::ATTACHED_BYTES;
use crate::sync::{AtomicU64, Ordering};

/// Messages that were dropped before they got a place.
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
enum Way {
    /// There is room. If it cannot be had, it is about to come or somebody else's by now: it is looked for once, not for
    /// ever.
    Seen,
    /// Room was made.
    Made,
    /// Nothing.
    None,
}

impl Core {
    /// Accepts a message, or says why not and leaves the payload where it is. Never full where [`WhenFull`] says that
    /// messages are dropped then.
    #[inline]
    pub(crate) fn accept<P: Payload>(
        &self,
        payload: &mut Option<P>,
        standing: Standing,
    ) -> Result<(), Refusal> {
        match self.try_write(payload, standing) {
            Err(Refusal::Full) if self.drops_when_full() => self.accept_by_dropping(payload, standing),
            result => result,
        }
    }

    pub(crate) fn drops_when_full(&self) -> bool {
        matches!(self.when_full, WhenFull::DropNewest | WhenFull::DropOldest)
    }

    #[cold]
    fn accept_by_dropping<P: Payload>(
        &self,
        payload: &mut Option<P>,
        standing: Standing,
    ) -> Result<(), Refusal> {
        let refused = payload.as_ref().expect("a refused payload is still here");
        let (len, by_reference) = (refused.as_slice().len(), self.goes_by_reference(refused));
        let written = self.write_by_dropping(len, by_reference, || self.try_write(payload, standing));
        if written == Err(Refusal::Full) {
            self.payloads.call(|| drop(payload.take()));
        }
        self.count_if_dropped(len, written)
    }

    /// Has a message of at most `max_len` bytes written in place, as [`accept`](Self::accept) accepts one.
    pub(crate) fn accept_with<F>(
        &self,
        max_len: usize,
        write: &mut Option<F>,
        standing: Standing,
    ) -> Result<(), Refusal>
    where
        F: FnOnce(&mut [u8]) -> usize,
    {
        let mut try_write = || self.try_write_with(max_len, write, standing);
        match try_write() {
            Err(Refusal::Full) if self.drops_when_full() => {
                let written = self.write_by_dropping(max_len, max_len > self.capacity.bytes, try_write);
                self.count_if_dropped(max_len, written)
            }
            result => result,
        }
    }

    /// Tries to write as long as there is something to be dropped for it.
    fn write_by_dropping(
        &self,
        len: usize,
        by_reference: bool,
        mut try_write: impl FnMut() -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut trusting = true;
        loop {
            let way = self.make_way(len, by_reference, trusting);
            trusting = way != Way::Seen;
            match try_write() {
                Err(Refusal::Full) if way != Way::None => {}
                result => return result,
            }
        }
    }

    /// A message for which there is no room after all is dropped itself.
    fn count_if_dropped(&self, len: usize, written: Result<(), Refusal>) -> Result<(), Refusal> {
        if written == Err(Refusal::Full) {
            self.dropped_newest.add(len);
            self.look_for_trouble();
            return Ok(());
        }
        written
    }

    /// Makes room by dropping what may be dropped, where none is to be seen.
    fn make_way(&self, len: usize, by_reference: bool, trusting: bool) -> Way {
        let is_seen = || trusting && self.would_fit(len, by_reference);
        let oldest = self.when_full == WhenFull::DropOldest;
        if is_seen() {
            return Way::Seen;
        }
        if !oldest {
            // What was read has been left behind by the try before.
            return Way::None;
        }
        let way = self.visit(|head, after| {
            if is_seen() {
                // Receivers make room under this very lock.
                Way::Seen
            } else if head.leave_read(self, after) || head.drop_oldest(self, by_reference, after) {
                Way::Made
            } else {
                Way::None
            }
        });
        if way == Way::Made {
            self.look_for_trouble();
        }
        way
    }

    /// Whether there is room for the message, as far as can be told without trying.
    fn would_fit(&self, len: usize, by_reference: bool) -> bool {
        let state = self.pending.place(self.pending.active()).load();
        let in_segment = if by_reference { ATTACHED_BYTES } else { len };
        let is_active = state.is_open() && state.has_room(in_segment, self.capacity);
        let segment = if is_active { 0 } else { self.pool.footprint() };
        let referenced = if by_reference { len } else { 0 };
        self.pool.has_room_for(segment + referenced)
    }
}
