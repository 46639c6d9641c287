//! All segments of a channel: who has memory, who is free, and what it all adds up to.

mod id_bitset;

use std::ops::Deref;

use self::id_bitset::IdBitset;
use super::segment::Segment;
use super::segment::slot_state::Capacity;
use crate::sync::{
    Arc, AtomicBool, AtomicU64, AtomicUsize, CachePadded, OnceLock, Ordering, fence, spin_loop,
};
use crate::wait::task_signal::TaskSignal;
use crate::wait::wait_list::WaitList;

/// What a segment takes beside its payload and index: its header, its slot in the order, and the allocator's.
pub(crate) const HEADER_BYTES: usize = 128;
/// What each message takes of the index.
pub(crate) const ENTRY_BYTES: usize = 8;

/// So much memory goes round before a segment is written again, as long as half of `max_bytes` allows it: a cache line
/// that the reader's core still holds costs a writer on another core many times what one from the shared cache does,
/// and this is more than a core's own caches hold.
const CIRCULATING_BYTES: usize = 4 << 20;

/// All segments, and which of them are free.
struct Segments {
    all: Box<[Segment]>,
    /// With memory.
    pooled: IdBitset,
    /// Without memory.
    vacant: IdBitset,
}

/// Counted for every payload that travels by reference, by whoever sends it, and by receivers for many at once.
#[derive(Default)]
struct Usage {
    /// Bytes taken by segments with memory and by payloads that travel by reference. Never over `max_bytes`.
    used_bytes: AtomicUsize,
    external_bytes: AtomicUsize,
}

/// The segments of one channel. Outlives it for as long as memory is lent. On other cache lines than the
/// reference count beside it, which changes with every run that is lent.
#[repr(align(128))]
pub(crate) struct Pool {
    capacity: Capacity,
    max_bytes: usize,
    /// Made by the first write.
    segments: OnceLock<Segments>,
    usage: CachePadded<Usage>,
    pooled_count: AtomicUsize,
    /// The fewest pooled segments since the timer last looked: that many were not needed.
    idle_count: AtomicUsize,
    /// Segments that the channel is done with, and somebody still reads.
    lent_count: AtomicUsize,
    /// How often memory was allocated for a segment; a figure.
    allocated: AtomicU64,
    /// No writer will ask again: memory that comes back is freed.
    closed: AtomicBool,
    /// Senders waiting for room.
    pub(crate) room_waiters: WaitList,
    /// Told when there is something to trim.
    pub(crate) signal: Arc<TaskSignal>,
}

impl Pool {
    pub(crate) fn new(capacity: Capacity, max_bytes: usize, signal: Arc<TaskSignal>) -> Self {
        Self {
            capacity,
            max_bytes,
            segments: OnceLock::new(),
            usage: CachePadded::default(),
            pooled_count: AtomicUsize::new(0),
            idle_count: AtomicUsize::new(0),
            lent_count: AtomicUsize::new(0),
            allocated: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            room_waiters: WaitList::new(),
            signal,
        }
    }

    /// What one segment counts against `max_bytes`.
    pub(crate) fn footprint(&self) -> usize {
        footprint(self.capacity)
    }

    pub(crate) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    #[inline]
    fn segments(&self) -> &Segments {
        match self.segments.get() {
            Some(segments) => segments,
            None => self.make_segments(),
        }
    }

    #[cold]
    fn make_segments(&self) -> &Segments {
        self.segments.get_or_init(|| {
            let count = self.max_bytes / self.footprint();
            Segments {
                all: (0..count).map(|_| Segment::new()).collect(),
                pooled: IdBitset::new(count, false),
                vacant: IdBitset::new(count, true),
            }
        })
    }

    #[inline]
    pub(crate) fn segment(&self, number: usize) -> &Segment {
        &self.segments().all[number]
    }

    /// A cleared segment with the channel's reference on it, or nothing if `max_bytes` allows no other.
    pub(crate) fn acquire(&self) -> Option<usize> {
        let circulating = CIRCULATING_BYTES.min(self.max_bytes / 2);
        let fresh = if self.used_bytes() + self.footprint() <= circulating { self.allocate() } else { None };
        fresh.or_else(|| self.reuse()).or_else(|| self.allocate())
    }

    fn reuse(&self) -> Option<usize> {
        let number = self.segments().pooled.take()?;
        self.after_take();
        let mut segment = self.segment(number).exclusive().expect("a pooled segment has no user");
        // Here and not when it came back: by now its index has left the reader's cache.
        segment.clear();
        segment.activate();
        Some(number)
    }

    fn allocate(&self) -> Option<usize> {
        if !self.reserve(self.footprint()) {
            return None;
        }
        let number = loop {
            // There is one for these bytes; it is missed only while others come and go.
            match self.segments().vacant.take() {
                Some(number) => break number,
                None => spin_loop(),
            }
        };
        let mut segment = self.segment(number).exclusive().expect("a vacant segment has no user");
        segment.allocate(self.capacity);
        segment.activate();
        // ORDERING: Relaxed: a figure.
        self.allocated.fetch_add(1, Ordering::Relaxed);
        Some(number)
    }

    fn after_take(&self) {
        // ORDERING: Relaxed: counts for figures and for trimming.
        let left = self.pooled_count.fetch_sub(1, Ordering::Relaxed) - 1;
        if left < self.idle_count.load(Ordering::Relaxed) {
            self.idle_count.fetch_min(left, Ordering::Relaxed);
        }
    }

    /// Takes back a segment that was acquired and never written to.
    pub(crate) fn give_back(&self, number: usize) {
        if self.segment(number).release() {
            self.recycle(number);
        }
    }

    /// Takes `bytes` of what `max_bytes` leaves.
    fn reserve(&self, bytes: usize) -> bool {
        let add = |used: usize| used.checked_add(bytes).filter(|&sum| sum <= self.max_bytes);
        // ORDERING: Acquire pairs with the Release in `free_one`.
        self.usage.used_bytes.fetch_update(Ordering::Acquire, Ordering::Relaxed, add).is_ok()
    }

    /// Takes room for a payload that travels by reference.
    pub(crate) fn reserve_external(&self, bytes: usize) -> bool {
        let reserved = self.reserve(bytes);
        if reserved {
            // ORDERING: Relaxed: a figure.
            self.usage.external_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        reserved
    }

    /// Takes room for a payload that travels by reference, giving up pooled segments for it if need be.
    #[cold]
    pub(crate) fn free_for_external(&self, bytes: usize) -> bool {
        let mut freed = false;
        let reserved = loop {
            if self.reserve_external(bytes) {
                break true;
            }
            if !self.free_one() {
                break false;
            }
            freed = true;
        };
        if freed {
            // What was freed may be more than was needed, or too little for this payload and enough for another.
            self.wake_senders(1);
        }
        reserved
    }

    /// A payload that travelled by reference is out of the channel.
    pub(crate) fn release_external(&self, bytes: usize) {
        self.unreserve_external(bytes);
        self.wake_senders(1);
    }

    /// Gives back the room of a payload that travels by reference, without a wake.
    pub(crate) fn unreserve_external(&self, bytes: usize) {
        // ORDERING: Relaxed: `WaitList::wake` has the fence that a waiting sender needs.
        self.usage.external_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.usage.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether a segment could be had at this moment.
    pub(crate) fn has_room(&self) -> bool {
        // ORDERING: Relaxed: a hint; who acts on it tries again.
        self.pooled_count.load(Ordering::Relaxed) > 0
            || self.usage.used_bytes.load(Ordering::Relaxed) + self.footprint() <= self.max_bytes
    }

    /// Whether so much memory could be had at this moment, if pooled segments were given up for it.
    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        let pooled = self.pooled_segments() * self.footprint();
        self.used_bytes().saturating_sub(pooled) + bytes <= self.max_bytes
    }

    /// A segment that nobody references any more.
    fn recycle(&self, number: usize) {
        self.recycle_without_wake(number);
        self.wake_senders_after_fence(self.capacity.messages);
    }

    /// Wakes up to `at_most` waiting senders, and has the timer look after those who were passed over.
    pub(crate) fn wake_senders(&self, at_most: usize) {
        // ORDERING: SeqCst fence, against the one by which senders enlist.
        fence(Ordering::SeqCst);
        self.wake_senders_after_fence(at_most);
    }

    fn wake_senders_after_fence(&self, at_most: usize) {
        self.room_waiters.wake_after_fence(at_most);
        if self.room_waiters.waiting() > at_most {
            self.signal.signal_waiters();
        }
    }

    /// Pools a segment that nobody references any more, and leaves it to the caller to wake senders. Ends with a SeqCst
    /// fence behind the change.
    fn recycle_without_wake(&self, number: usize) {
        // ORDERING: Relaxed: a count; it goes up before the segment can be taken, so it never goes below zero.
        self.pooled_count.fetch_add(1, Ordering::Relaxed);
        self.segments().pooled.put(number);
        // ORDERING: SeqCst fence, against the one in `close`: either the pool is seen closed here, or what was
        // just pushed is seen there.
        fence(Ordering::SeqCst);
        if self.closed.load(Ordering::Relaxed) {
            // Quietly: nobody waits for room in a closed channel.
            self.free_down_to(0);
        } else {
            self.signal.signal_memory();
        }
    }

    /// Frees the memory of one pooled segment, if there is one.
    fn free_one(&self) -> bool {
        let segments = self.segments();
        let Some(number) = segments.pooled.take() else { return false };
        self.after_take();
        self.segment(number).exclusive().expect("a pooled segment has no user").free();
        segments.vacant.put(number);
        // ORDERING: Release pairs with the Acquire in `reserve`: whoever gets these bytes finds the vacant number.
        self.usage.used_bytes.fetch_sub(self.footprint(), Ordering::Release);
        true
    }

    /// Frees pooled segments down to `keep`.
    pub(crate) fn trim(&self, keep: usize) {
        let freed = self.free_down_to(keep);
        if freed > 0 {
            // A sender that looked while a segment was neither pooled nor given back found no room.
            self.wake_senders(freed);
        }
    }

    fn free_down_to(&self, keep: usize) -> usize {
        let mut freed = 0;
        while self.pooled_segments() > keep && self.free_one() {
            freed += 1;
        }
        freed
    }

    /// How many pooled segments were not needed since this was last asked.
    pub(crate) fn take_idle(&self) -> usize {
        // ORDERING: Relaxed: a hint for trimming.
        self.idle_count.swap(self.pooled_segments(), Ordering::Relaxed)
    }

    /// From now on memory that comes back is freed at once.
    pub(crate) fn close(&self) {
        // ORDERING: SeqCst fence, see `recycle_without_wake`.
        self.closed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.segments.get().is_some() {
            self.trim(0);
        }
    }

    /// Bytes of segments with memory and of payloads that travel by reference.
    pub(crate) fn used_bytes(&self) -> usize {
        // ORDERING: Relaxed: a figure.
        self.usage.used_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn pooled_segments(&self) -> usize {
        // ORDERING: Relaxed: a figure.
        self.pooled_count.load(Ordering::Relaxed)
    }

    pub(crate) fn lent_segments(&self) -> usize {
        // ORDERING: Relaxed: a figure.
        self.lent_count.load(Ordering::Relaxed)
    }

    pub(crate) fn allocated_segments(&self) -> u64 {
        // ORDERING: Relaxed: a figure.
        self.allocated.load(Ordering::Relaxed)
    }

    pub(crate) fn external_bytes(&self) -> usize {
        // ORDERING: Relaxed: a figure.
        self.usage.external_bytes.load(Ordering::Relaxed)
    }
}

/// What one segment of this capacity counts against `max_bytes`.
pub(crate) fn footprint(capacity: Capacity) -> usize {
    capacity.bytes + capacity.messages * ENTRY_BYTES + HEADER_BYTES
}

/// A reference to a segment; when the last one drops, on whatever thread, the segment is pooled again.
pub(crate) struct SegmentRef {
    pool: Arc<Pool>,
    number: usize,
    /// The reference was given up already.
    released: bool,
}

impl SegmentRef {
    /// Takes over the channel's own reference to segment `number`.
    pub(crate) fn adopt(pool: Arc<Pool>, number: usize) -> Self {
        Self { pool, number, released: false }
    }

    /// The channel is done with the segment, of which `messages` entries were used: if it is still external, it
    /// counts as lent from now on.
    pub(crate) fn retire(&self, messages: usize) {
        self.set_used(messages);
        // ORDERING: Relaxed: a figure; `drop` of the last reference takes it back.
        self.pool.lent_count.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives the reference up without waking senders; true if it was the last, and they should be woken.
    pub(crate) fn recycle_without_wake(mut self) -> bool {
        self.released = true;
        let last = self.release();
        if last {
            // ORDERING: Relaxed: a figure, see `retire`.
            self.pool.lent_count.fetch_sub(1, Ordering::Relaxed);
            self.pool.recycle_without_wake(self.number);
        }
        last
    }
}

impl Deref for SegmentRef {
    type Target = Segment;
    #[inline]
    fn deref(&self) -> &Segment {
        self.pool.segment(self.number)
    }
}

impl Clone for SegmentRef {
    fn clone(&self) -> Self {
        self.retain();
        Self::adopt(Arc::clone(&self.pool), self.number)
    }
}

impl Drop for SegmentRef {
    fn drop(&mut self) {
        if !self.released && self.release() {
            // ORDERING: Relaxed: a figure, see `retire`.
            self.pool.lent_count.fetch_sub(1, Ordering::Relaxed);
            self.pool.recycle(self.number);
        }
    }
}
