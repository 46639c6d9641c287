//! What a sender writes as one message: a payload, or a closure that writes in place.

use bytes::Bytes;

use super::Core;
use super::payload::Payload;
use super::payload::sealed::Sealed as _;
use super::reserve::Reservation;
use crate::queue::segment::slot_state::{Capacity, EntrySlot};
use crate::queue::segment::write_checked;

/// An owned payload of at least this length is external.
pub(crate) const EXTERNAL_MIN_BYTES: usize = 32 << 10;

/// The source of one message, which it keeps if the message is refused.
pub(crate) trait Source {
    /// What the caller gets back if the message is refused.
    type Returned;

    /// Whether the message may turn out shorter than its reservation, or be abandoned.
    const IN_PLACE: bool;

    /// Returns how many bytes to reserve.
    fn max_len(&self) -> usize;

    /// Whether the message travels by reference count, and is not copied into the segment.
    fn is_external(&self, capacity: Capacity) -> bool;

    /// Whether [`take_external`](Self::take_external) neither copies nor runs user code.
    fn moves(&self) -> bool;

    /// Reserves an entry by `reserve`, writes the message into it, and commits it.
    fn write<R: Reserve>(&mut self, core: &Core, reserve: R) -> Result<(), R::Refusal>;

    /// Takes the message as an external payload.
    fn take_external(&mut self) -> Bytes;

    /// Drops an owned payload, for a message that the channel's policy drops. This may run user code.
    fn discard(&mut self);

    fn into_returned(self) -> Self::Returned;
}

/// A way to reserve an entry for a message. A trait and not a closure, as closures of this size are not inlined.
pub(crate) trait Reserve {
    type Refusal;

    /// Reserves an entry for `len` bytes; also returns the sequence of its segment.
    fn reserve(self, core: &Core, len: usize) -> Result<(u64, EntrySlot), Self::Refusal>;
}

/// A payload: copied into the segment, or moved if it is external and owned.
pub(crate) struct PayloadSource<P>(pub(crate) P);

impl<P: Payload> Source for PayloadSource<P> {
    type Returned = P::Returned;

    const IN_PLACE: bool = false;

    #[inline(always)]
    fn max_len(&self) -> usize {
        self.0.as_slice().len()
    }

    #[inline(always)]
    fn is_external(&self, capacity: Capacity) -> bool {
        is_external(&self.0, capacity)
    }

    #[inline(always)]
    fn moves(&self) -> bool {
        self.0.is_owned()
    }

    #[inline(always)]
    fn write<R: Reserve>(&mut self, core: &Core, reserve: R) -> Result<(), R::Refusal> {
        let bytes = self.0.as_slice();
        let (sequence, entry) = reserve.reserve(core, bytes.len())?;
        core.write_copy(sequence, entry, bytes);
        Ok(())
    }

    fn take_external(&mut self) -> Bytes {
        self.0.take_bytes()
    }

    fn discard(&mut self) {
        if self.0.is_owned() {
            drop(self.0.take_bytes());
        }
    }

    fn into_returned(self) -> P::Returned {
        self.0.into_returned()
    }
}

/// Whether a payload is external: owned and long, or longer than a segment.
#[inline(always)]
pub(crate) fn is_external<P: Payload>(payload: &P, capacity: Capacity) -> bool {
    let len = payload.as_slice().len();
    (payload.is_owned() && len >= EXTERNAL_MIN_BYTES) || len > capacity.bytes
}

/// A closure that writes a message of at most `max_len` bytes in place.
pub(crate) struct ClosureSource<F> {
    max_len: usize,
    /// Present until it is called.
    write: Option<F>,
}

impl<F: FnOnce(&mut [u8]) -> usize> ClosureSource<F> {
    #[inline(always)]
    pub(crate) fn new(max_len: usize, write: F) -> Self {
        Self { max_len, write: Some(write) }
    }

    #[inline(always)]
    fn take(&mut self) -> F {
        self.write.take().expect("the closure is called once")
    }
}

impl<F: FnOnce(&mut [u8]) -> usize> Source for ClosureSource<F> {
    type Returned = F;

    const IN_PLACE: bool = true;

    #[inline(always)]
    fn max_len(&self) -> usize {
        self.max_len
    }

    #[inline(always)]
    fn is_external(&self, capacity: Capacity) -> bool {
        self.max_len > capacity.bytes
    }

    #[inline(always)]
    fn moves(&self) -> bool {
        false
    }

    #[inline(always)]
    fn write<R: Reserve>(&mut self, core: &Core, reserve: R) -> Result<(), R::Refusal> {
        let (sequence, entry) = reserve.reserve(core, self.max_len)?;
        let (opened, write) = (entry.index() == 0, self.take());
        // A panic of the closure drops the reservation, which commits padding.
        Reservation::new(core, sequence, entry, 0).write_in_place(|bytes| {
            if opened {
                // Not after the closure, which may take long.
                core.queue.wake_senders();
            }
            write(bytes)
        });
        Ok(())
    }

    fn take_external(&mut self) -> Bytes {
        let mut bytes = vec![0; self.max_len];
        let len = write_checked(&mut bytes, self.take());
        bytes.truncate(len);
        bytes.take_bytes()
    }

    fn discard(&mut self) {}

    fn into_returned(mut self) -> F {
        self.take()
    }
}
