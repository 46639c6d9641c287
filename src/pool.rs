//! All segments of a channel: who has memory, who is free, and what it all adds up to.

use std::ops::Deref;
use std::sync::OnceLock;

use crate::segment::Segment;
use crate::segment::state::Capacity;
use crate::sync::{Arc, AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use crate::timer::Alarm;
use crate::wake::WaitList;

/// What a segment takes beside its payload and index: its header, its place in the order, and the allocator's.
pub(crate) const HEADER_BYTES: usize = 128;
/// What each message takes of the index.
pub(crate) const ENTRY_BYTES: usize = 8;

const NONE: u32 = u32::MAX;

/// A list of segment numbers, last in first out: the segment used last is the one still in the cache.
///
/// Treiber's stack (R. K. Treiber, IBM RJ 5118, 1986) over numbers instead of pointers; a count of changes in
/// the upper half of the word keeps a stale exchange from succeeding.
struct FreeList(AtomicU64);

impl FreeList {
    fn new(first: u32) -> Self {
        Self(AtomicU64::new(u64::from(first)))
    }

    fn pop(&self, cells: &[Cell]) -> Option<usize> {
        // ORDERING: Acquire pairs with the Release of `push`: the link and whatever was done to the segment.
        let mut seen = self.0.load(Ordering::Acquire);
        loop {
            let number = seen as u32;
            if number == NONE {
                return None;
            }
            // ORDERING: Relaxed: visible by the Acquire above, and if it is stale, the exchange fails.
            let next = cells[number as usize].next.load(Ordering::Relaxed);
            match self.0.compare_exchange_weak(seen, tagged(seen, next), Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Some(number as usize),
                Err(now) => seen = now,
            }
        }
    }

    fn push(&self, cells: &[Cell], number: usize) {
        // ORDERING: Relaxed to guess; the exchange decides.
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            // ORDERING: Relaxed: published by the exchange.
            cells[number].next.store(seen as u32, Ordering::Relaxed);
            let next = tagged(seen, number as u32);
            // ORDERING: Release pairs with the Acquire of `pop`.
            match self.0.compare_exchange_weak(seen, next, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }
}

fn tagged(seen: u64, number: u32) -> u64 {
    ((seen >> 32).wrapping_add(1) << 32) | u64::from(number)
}

/// A segment and its link in whichever free list it is in.
struct Cell {
    segment: Segment,
    next: AtomicU32,
}

/// The segments of one channel. Outlives it for as long as memory is lent.
pub(crate) struct Pool {
    capacity: Capacity,
    max_bytes: usize,
    /// Made by the first write.
    cells: OnceLock<Box<[Cell]>>,
    /// Segments with memory, cleared.
    pooled: FreeList,
    /// Segments without memory.
    vacant: FreeList,
    /// Bytes taken by segments with memory and by payloads that travel by reference. Never over `max_bytes`.
    used_bytes: AtomicUsize,
    referenced_bytes: AtomicUsize,
    pooled_count: AtomicUsize,
    /// The fewest pooled segments since the timer last looked: that many were not needed.
    idle_count: AtomicUsize,
    /// Segments that the channel is done with, and somebody still reads.
    lent_count: AtomicUsize,
    /// No writer will ask again: memory that comes back is freed.
    closed: AtomicBool,
    /// Senders waiting for room.
    pub(crate) space: WaitList,
    /// Told when there is something to trim.
    alarm: Arc<Alarm>,
}

impl Pool {
    pub(crate) fn new(capacity: Capacity, max_bytes: usize, alarm: Arc<Alarm>) -> Self {
        Self {
            capacity,
            max_bytes,
            cells: OnceLock::new(),
            pooled: FreeList::new(NONE),
            vacant: FreeList::new(0),
            used_bytes: AtomicUsize::new(0),
            referenced_bytes: AtomicUsize::new(0),
            pooled_count: AtomicUsize::new(0),
            idle_count: AtomicUsize::new(0),
            lent_count: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            space: WaitList::new(),
            alarm,
        }
    }

    /// What one segment counts against `max_bytes`.
    pub(crate) fn footprint(&self) -> usize {
        footprint(self.capacity)
    }

    pub(crate) fn capacity(&self) -> Capacity {
        self.capacity
    }

    pub(crate) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    #[inline]
    fn cells(&self) -> &[Cell] {
        match self.cells.get() {
            Some(cells) => cells,
            None => self.make_cells(),
        }
    }

    #[cold]
    fn make_cells(&self) -> &[Cell] {
        self.cells.get_or_init(|| {
            let count = self.max_bytes / self.footprint();
            let link = |at| if at + 1 < count { at as u32 + 1 } else { NONE };
            (0..count).map(|at| Cell { segment: Segment::new(), next: AtomicU32::new(link(at)) }).collect()
        })
    }

    #[inline]
    pub(crate) fn segment(&self, number: usize) -> &Segment {
        &self.cells()[number].segment
    }

    /// A cleared segment with the channel's reference on it, or nothing if `max_bytes` allows no other.
    pub(crate) fn acquire(&self) -> Option<usize> {
        let cells = self.cells();
        if let Some(number) = self.pooled.pop(cells) {
            self.took_pooled();
            cells[number].segment.exclusive().expect("a pooled segment has no user").activate();
            return Some(number);
        }
        if !self.reserve(self.footprint()) {
            return None;
        }
        let number = self.vacant.pop(cells).expect("as many segments as max_bytes has room for");
        let mut segment = cells[number].segment.exclusive().expect("a vacant segment has no user");
        segment.allocate(self.capacity);
        segment.activate();
        Some(number)
    }

    fn took_pooled(&self) {
        // ORDERING: Relaxed: counts for figures and for trimming.
        let left = self.pooled_count.fetch_sub(1, Ordering::Relaxed) - 1;
        if left < self.idle_count.load(Ordering::Relaxed) {
            self.idle_count.fetch_min(left, Ordering::Relaxed);
        }
    }

    /// Takes back a segment that was acquired and never written to.
    pub(crate) fn give_back(&self, number: usize) {
        if self.segment(number).release() {
            self.recycle(number, 0);
        }
    }

    /// Takes `bytes` of what `max_bytes` leaves.
    fn reserve(&self, bytes: usize) -> bool {
        let add = |used: usize| used.checked_add(bytes).filter(|&sum| sum <= self.max_bytes);
        // ORDERING: Acquire pairs with the Release in `free_one`.
        self.used_bytes.fetch_update(Ordering::Acquire, Ordering::Relaxed, add).is_ok()
    }

    /// Takes room for a payload that travels by reference, giving up pooled segments for it if need be.
    pub(crate) fn reserve_referenced(&self, bytes: usize) -> bool {
        let mut freed = false;
        let reserved = loop {
            if self.reserve(bytes) {
                break true;
            }
            if !self.free_one() {
                break false;
            }
            freed = true;
        };
        if reserved {
            // ORDERING: Relaxed: a figure.
            self.referenced_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        if freed {
            // What was freed may be more than was needed, or too little for this payload and enough for another.
            self.wake_senders(1);
        }
        reserved
    }

    /// A payload that travelled by reference is out of the channel.
    pub(crate) fn release_referenced(&self, bytes: usize) {
        self.unreserve_referenced(bytes);
        self.wake_senders(1);
    }

    /// The same for one that never was in it.
    pub(crate) fn unreserve_referenced(&self, bytes: usize) {
        // ORDERING: Relaxed: `WaitList::wake` has the fence that a waiting sender needs.
        self.referenced_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether a segment could be had at this moment.
    pub(crate) fn has_room(&self) -> bool {
        // ORDERING: Relaxed: a hint; who acts on it tries again.
        self.pooled_count.load(Ordering::Relaxed) > 0
            || self.used_bytes.load(Ordering::Relaxed) + self.footprint() <= self.max_bytes
    }

    /// A segment that nobody references any more.
    fn recycle(&self, number: usize, messages: usize) {
        self.recycle_quietly(number, messages);
        self.wake_senders_behind_fence(self.capacity.messages);
    }

    /// Wakes up to `at_most` waiting senders, and has the timer look after those who were passed over.
    pub(crate) fn wake_senders(&self, at_most: usize) {
        // ORDERING: SeqCst fence, against the one by which senders enlist.
        fence(Ordering::SeqCst);
        self.wake_senders_behind_fence(at_most);
    }

    fn wake_senders_behind_fence(&self, at_most: usize) {
        self.space.wake_behind_fence(at_most);
        if self.space.waiting() > at_most {
            self.alarm.unread();
        }
    }

    /// The same, with the wake left to the caller. Ends with a SeqCst fence behind the change.
    fn recycle_quietly(&self, number: usize, messages: usize) {
        let cells = self.cells();
        let mut segment = cells[number].segment.exclusive().expect("the last reference is gone");
        segment.clear(messages);
        drop(segment);
        // ORDERING: Relaxed: a count; it goes up before the segment can be popped, so it never goes below zero.
        self.pooled_count.fetch_add(1, Ordering::Relaxed);
        self.pooled.push(cells, number);
        // ORDERING: SeqCst fence, against the one in `close`: either the pool is seen closed here, or what was
        // just pushed is seen there.
        fence(Ordering::SeqCst);
        if self.closed.load(Ordering::Relaxed) {
            // Quietly: nobody waits for room in a closed channel.
            self.free_down_to(0);
        } else {
            self.alarm.memory();
        }
    }

    /// Frees the memory of one pooled segment, if there is one.
    fn free_one(&self) -> bool {
        let cells = self.cells();
        let Some(number) = self.pooled.pop(cells) else { return false };
        self.took_pooled();
        cells[number].segment.exclusive().expect("a pooled segment has no user").free();
        self.vacant.push(cells, number);
        // ORDERING: Release pairs with the Acquire in `reserve`: whoever gets these bytes finds the vacant number.
        self.used_bytes.fetch_sub(self.footprint(), Ordering::Release);
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
        // ORDERING: SeqCst fence, see `recycle_quietly`.
        self.closed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.cells.get().is_some() {
            self.trim(0);
        }
    }

    /// Bytes of segments with memory and of payloads that travel by reference.
    pub(crate) fn used_bytes(&self) -> usize {
        // ORDERING: Relaxed: a figure.
        self.used_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn pooled_segments(&self) -> usize {
        // ORDERING: Relaxed: a figure.
        self.pooled_count.load(Ordering::Relaxed)
    }

    pub(crate) fn lent_segments(&self) -> usize {
        // ORDERING: Relaxed: a figure.
        self.lent_count.load(Ordering::Relaxed)
    }

    pub(crate) fn referenced_bytes(&self) -> usize {
        // ORDERING: Relaxed: a figure.
        self.referenced_bytes.load(Ordering::Relaxed)
    }
}

/// What one segment of this capacity counts against `max_bytes`.
pub(crate) fn footprint(capacity: Capacity) -> usize {
    capacity.bytes + capacity.messages * ENTRY_BYTES + HEADER_BYTES
}

/// A reference to a segment; when the last one drops, on whatever thread, the segment is pooled again.
pub(crate) struct Lease {
    pool: Arc<Pool>,
    number: usize,
    /// How many index entries were used.
    messages: usize,
    /// The reference was given up already.
    released: bool,
}

impl Lease {
    /// Takes over the channel's own reference to segment `number`, of which `messages` entries are used.
    pub(crate) fn adopt(pool: Arc<Pool>, number: usize, messages: usize) -> Self {
        Self { pool, number, messages, released: false }
    }

    /// The channel is done with the segment: if it is still referenced, it counts as lent from now on.
    pub(crate) fn retire(&self) {
        // ORDERING: Relaxed: a figure; `drop` of the last reference takes it back.
        self.pool.lent_count.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives the reference up without waking senders; true if it was the last, and they should be woken.
    pub(crate) fn recycle_quietly(mut self) -> bool {
        self.released = true;
        let last = self.release();
        if last {
            // ORDERING: Relaxed: a figure, see `retire`.
            self.pool.lent_count.fetch_sub(1, Ordering::Relaxed);
            self.pool.recycle_quietly(self.number, self.messages);
        }
        last
    }
}

impl Deref for Lease {
    type Target = Segment;
    #[inline]
    fn deref(&self) -> &Segment {
        self.pool.segment(self.number)
    }
}

impl Clone for Lease {
    fn clone(&self) -> Self {
        self.retain();
        Self::adopt(Arc::clone(&self.pool), self.number, self.messages)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.released && self.release() {
            // ORDERING: Relaxed: a figure, see `retire`.
            self.pool.lent_count.fetch_sub(1, Ordering::Relaxed);
            self.pool.recycle(self.number, self.messages);
        }
    }
}
