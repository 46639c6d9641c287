//! Counted references to a segment.
//!
//! All references to a segment share one count of its pool. So a [`SegmentRef`] is shared and dropped with one exchange, on
//! the count of the segment, and the pool outlives the last one.
//!
//! The channel opens a segment with [`CHANNEL_REFERENCES`]. The head owns them as one [`ChannelRef`], and gives one away with
//! each chunk and each batch: that costs no exchange. The rest is released together.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;

use super::Segment;
use super::slot_state::MAX_MESSAGES;
use crate::sync::{Arc, Ordering, fence};

/// How many references the channel has to a segment that is opened: one for each chunk and each batch, and one of its own.
pub(crate) const CHANNEL_REFERENCES: usize = MAX_MESSAGES + 1;

/// Where segments come from, and where they go when their last reference drops.
pub(crate) trait SegmentPool {
    /// Returns a segment, which stays where it is for as long as the pool exists.
    fn segment(&self, number: usize) -> &Segment;

    /// Takes back a segment whose last reference was released.
    fn recycle(&self, number: usize);
}

/// What gives away references to a segment.
pub(crate) trait Share: Deref<Target = Segment> {
    type Shared: Deref<Target = Segment>;

    fn share(&self) -> Self::Shared;
}

/// The pointers of a reference, which count nothing by themselves.
struct Pointers<P: SegmentPool> {
    pool: NonNull<P>,
    /// The segment with this number.
    segment: NonNull<Segment>,
    number: usize,
}

impl<P: SegmentPool> Pointers<P> {
    fn copy(&self) -> Self {
        Self { pool: self.pool, segment: self.segment, number: self.number }
    }

    #[inline]
    fn segment(&self) -> &Segment {
        // SAFETY: the pool keeps the segment where it is, and exists for as long as the owner of these pointers; see `pool`.
        unsafe { self.segment.as_ref() }
    }

    fn pool(&self) -> &P {
        // SAFETY: `ChannelRef::adopt` kept a count of the pool. It is given up by the thread that releases the last reference
        // to the segment, and the owner of these pointers has one.
        unsafe { self.pool.as_ref() }
    }

    /// Releases the `held` references of the owner, which does not use these pointers any more. If they were the last,
    /// returns the pool, and the caller has it take the segment back.
    fn release(&self, held: usize) -> Option<Arc<P>> {
        if !self.segment().release(held) {
            return None;
        }
        // ORDERING: Acquire fence: pairs with the Release in `Segment::release`; what other holders read of the pool happens
        // before it is dropped, which this thread may do.
        fence(Ordering::Acquire);
        // SAFETY: `adopt` took the pointer from an `Arc` that it did not drop. The last reference was released, which
        // happens once for each `adopt`: so this is that `Arc`.
        Some(unsafe { Arc::from_raw(self.pool.as_ptr()) })
    }

    /// [`release`](Self::release), and returns the segment to the pool if these references were the last.
    fn release_and_recycle(&self, held: usize) {
        if let Some(pool) = self.release(held) {
            pool.recycle(self.number);
        }
    }
}

/// The channel's references to a segment, which the head owns.
pub(crate) struct ChannelRef<P: SegmentPool> {
    pointers: Pointers<P>,
    /// How many references are left.
    held: Cell<usize>,
}

impl<P: SegmentPool> ChannelRef<P> {
    /// Takes over the channel's references to segment `number` of `pool`.
    pub(crate) fn adopt(pool: Arc<P>, number: usize) -> Self {
        let segment = NonNull::from(pool.segment(number));
        let pool = NonNull::new(Arc::into_raw(pool).cast_mut()).expect("an `Arc` has an address");
        Self { pointers: Pointers { pool, segment, number }, held: Cell::new(CHANNEL_REFERENCES) }
    }

    pub(crate) fn pool(&self) -> &P {
        self.pointers.pool()
    }

    pub(crate) fn number(&self) -> usize {
        self.pointers.number
    }

    /// Whether there are references beside those of the channel.
    pub(crate) fn is_shared(&self) -> bool {
        self.has_more_references_than(self.held.get())
    }

    /// Releases the references. If they were the last, returns the pool, and the caller has it take the segment back.
    pub(crate) fn into_last(self) -> Option<Arc<P>> {
        let this = ManuallyDrop::new(self);
        this.pointers.release(this.held.get())
    }
}

impl<P: SegmentPool> Deref for ChannelRef<P> {
    type Target = Segment;
    #[inline]
    fn deref(&self) -> &Segment {
        self.pointers.segment()
    }
}

impl<P: SegmentPool> Share for ChannelRef<P> {
    type Shared = SegmentRef<P>;

    fn share(&self) -> SegmentRef<P> {
        match self.held.get() {
            1 => self.retain(),
            held => self.held.set(held - 1),
        }
        SegmentRef(self.pointers.copy())
    }
}

impl<P: SegmentPool> Drop for ChannelRef<P> {
    fn drop(&mut self) {
        self.pointers.release_and_recycle(self.held.get());
    }
}

/// A reference to a segment. When the last one drops, on any thread, the segment returns to its pool.
pub(crate) struct SegmentRef<P: SegmentPool>(Pointers<P>);

impl<P: SegmentPool> Deref for SegmentRef<P> {
    type Target = Segment;
    #[inline]
    fn deref(&self) -> &Segment {
        self.0.segment()
    }
}

impl<P: SegmentPool> Share for SegmentRef<P> {
    type Shared = Self;

    fn share(&self) -> Self {
        self.retain();
        Self(self.0.copy())
    }
}

impl<P: SegmentPool> Drop for SegmentRef<P> {
    fn drop(&mut self) {
        self.0.release_and_recycle(1);
    }
}

// SAFETY: a reference acts as an `Arc` of the pool does, whose counterpart of a count is the reference to the segment.
unsafe impl<P: SegmentPool + Send + Sync> Send for Pointers<P> {}
// SAFETY: as for Send: shared pointers are only read.
unsafe impl<P: SegmentPool + Send + Sync> Sync for Pointers<P> {}
