//! Counted references to a segment.
//!
//! All references to a segment share one count of its pool. So a reference is cloned and dropped with one exchange, on the
//! count of the segment, and the pool outlives the last one.
//!
//! The channel opens a segment with [`CHANNEL_REFERENCES`]. The thread that holds the head's lock has them in one
//! [`SegmentRef`], and each clone takes one of them out: that costs no exchange. The rest is released together.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;

use super::Segment;
use super::slot_state::MAX_MESSAGES;
use crate::sync::{Arc, AtomicUsize, Ordering, fence};

/// How many references the channel has to a segment that is opened: one for each chunk and each batch, and one of its own.
pub(crate) const CHANNEL_REFERENCES: usize = MAX_MESSAGES + 1;

/// Where segments come from, and where they go when their last reference drops.
pub(crate) trait SegmentPool {
    /// Returns a segment, which stays where it is for as long as the pool exists.
    fn segment(&self, number: usize) -> &Segment;

    /// Takes back a segment whose last reference was released.
    fn recycle(&self, number: usize);
}

/// References to a segment. When the last one drops, on any thread, the segment returns to its pool.
pub(crate) struct SegmentRef<P: SegmentPool> {
    pool: NonNull<P>,
    /// The segment with this number.
    segment: NonNull<Segment>,
    number: usize,
    /// How many references this value has. More than one only where the head's lock orders all accesses.
    held: AtomicUsize,
}

impl<P: SegmentPool> SegmentRef<P> {
    /// Takes over the channel's references to segment `number` of `pool`.
    pub(crate) fn adopt(pool: Arc<P>, number: usize) -> Self {
        let segment = NonNull::from(pool.segment(number));
        let pool = NonNull::new(Arc::into_raw(pool).cast_mut()).expect("an `Arc` has an address");
        Self { pool, segment, number, held: AtomicUsize::new(CHANNEL_REFERENCES) }
    }

    pub(crate) fn pool(&self) -> &P {
        // SAFETY: `adopt` kept a count of the pool. It is given up by the thread that releases the last reference to the
        // segment, and this value has one.
        unsafe { self.pool.as_ref() }
    }

    fn held(&self) -> usize {
        // ORDERING: Relaxed: it changes under the head's lock only.
        self.held.load(Ordering::Relaxed)
    }

    /// Whether there are references beside those of this value, for the thread that has locked the head.
    pub(crate) fn is_shared(&self) -> bool {
        self.has_more_references_than(self.held())
    }

    /// Releases the references. If they were the last, returns the pool, and the caller takes the segment back.
    pub(crate) fn into_last(self) -> Option<Arc<P>> {
        ManuallyDrop::new(self).release_held()
    }

    /// Releases the references; `self` is not used any more.
    fn release_held(&self) -> Option<Arc<P>> {
        if !self.release(self.held()) {
            return None;
        }
        // ORDERING: Acquire fence: pairs with the Release in `Segment::release`; what other holders read of the pool happens
        // before it is dropped, which this thread may do.
        fence(Ordering::Acquire);
        // SAFETY: `adopt` took the pointer from an `Arc` that it did not drop. The last reference was released, which
        // happens once for each `adopt`: so this is that `Arc`.
        Some(unsafe { Arc::from_raw(self.pool.as_ptr()) })
    }

    pub(crate) fn number(&self) -> usize {
        self.number
    }
}

impl<P: SegmentPool> Deref for SegmentRef<P> {
    type Target = Segment;
    #[inline]
    fn deref(&self) -> &Segment {
        // SAFETY: the pool keeps the segment where it is, and exists for as long as this value; see `pool`.
        unsafe { self.segment.as_ref() }
    }
}

impl<P: SegmentPool> Clone for SegmentRef<P> {
    fn clone(&self) -> Self {
        let held = self.held();
        if held > 1 {
            // ORDERING: Relaxed: see `held`.
            self.held.store(held - 1, Ordering::Relaxed);
        } else {
            self.retain();
        }
        Self { pool: self.pool, segment: self.segment, number: self.number, held: AtomicUsize::new(1) }
    }
}

impl<P: SegmentPool> Drop for SegmentRef<P> {
    fn drop(&mut self) {
        if let Some(pool) = self.release_held() {
            pool.recycle(self.number);
        }
    }
}

// SAFETY: it acts as an `Arc` of the pool does, whose counterpart of a count is the reference to the segment.
unsafe impl<P: SegmentPool + Send + Sync> Send for SegmentRef<P> {}
// SAFETY: as for Send. A shared `SegmentRef` is cloned by an exchange, unless it holds several references: then the lock of
// the head orders all accesses to it.
unsafe impl<P: SegmentPool + Send + Sync> Sync for SegmentRef<P> {}
