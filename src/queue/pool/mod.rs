//! The pool: all segments of a channel, which of them have memory, and what counts against `max_bytes`.
//!
//! ```text
//!            allocate                         open
//!   vacant ───────────▶ acquired by a sender ──────▶ active ──seal──▶ sealed ──retire──▶ lent
//!     ▲                   ▲          │                                                     │
//!     │                   │ reuse    │ give_back                      last reference released
//!     │ free_one          │          ▼                                                     ▼
//!     └───────────────── pooled ◀──────────────────────── recycle ◀────────────────────────┘
//! ```
//!
//! 1. A sender [takes](Pool::take_segment) a segment in its turn: a pooled one, or a vacant one that gets memory if
//!    `max_bytes` allows it. The segment then has the references of the channel.
//! 2. The thread that holds the head's lock adopts them as a [`ChannelRef`]. Each lent chunk and each batch gets one of
//!    them.
//! 3. The thread that releases the last reference recycles the segment into the pool, and wakes the
//!    [senders that wait for room](room_waiters).
//! 4. The background task trims the pool: it frees the memory of segments that were not needed.
//!
//! Vacant and pooled segments are bits of an [`IdBitset`] each. `used` bounds the memory: it counts the footprint
//! of every segment with memory, and the length of every external payload in the channel.

mod growth;
mod id_bitset;
pub(crate) mod room_waiters;

use self::growth::Growth;
use self::id_bitset::IdBitset;
use self::room_waiters::{Demand, Layout, OpenRoom, RoomWaiters, Ticket};
use super::segment::reference::{CHANNEL_REFERENCES, SegmentPool};
use super::segment::slot_state::{Capacities, Capacity, MAX_SEGMENTS};
use super::segment::{self, Segment};
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, CachePadded, OnceLock, Ordering, fence, spin_loop};
use crate::wait::task_signal::TaskSignal;

/// What a segment takes beside its payload and index: its header, its ring slot, and the allocator's overhead.
pub(crate) const HEADER_BYTES: usize = 128;
/// What each message takes in the index.
pub(crate) const ENTRY_BYTES: usize = 8;

/// A sender prefers a new segment to a pooled one while the memory with it stays within this, and within half of
/// `max_bytes`.
///
/// The channel then cycles through more memory than a core's own caches hold. A cache line that the receiver's core
/// still holds costs a sender on another core many times what a line from the shared cache costs.
const CIRCULATING_BYTES: usize = 4 << 20;

/// A segment is small only while this many of the full size fit beside it.
///
/// A small segment that is queued or lent can cost a channel up to one of the full size: where memory is short, all have
/// the full size.
const FULL_BESIDE_SMALL: usize = 4;
/// The most small segments: more than the largest segment needs.
const MAX_STEPS: usize = 32;

/// The most iterations of a spin for another sender that opens a ring slot: some tens of instructions for that sender, but it
/// may be preempted.
const OPENING_SPINS: usize = 1000;

/// The segments of the full size, and which of them are free.
struct FullSegments {
    /// The number of the first one follows those of the small segments.
    all: Box<[Segment]>,
    /// Free, with memory.
    pooled: IdBitset,
    /// Free, without memory.
    vacant: IdBitset,
}

/// The segments of one channel. Lives as long as the channel or any memory that it lent.
///
#[repr(align(128))]
pub(crate) struct Pool {
    capacities: Capacities,
    max_bytes: usize,
    /// Which small segment is next, and which of them are vacant.
    growth: Growth,
    small: Box<[Segment]>,
    /// Made at the first use.
    full: OnceLock<FullSegments>,
    /// Bytes of segments with memory and of external payloads in the channel. Never more than `max_bytes`. A sender adds each
    /// external payload; receivers subtract many at once.
    used: CachePadded<AtomicUsize>,
    /// Bytes of segments with memory.
    segment_bytes: AtomicUsize,
    pooled_count: AtomicUsize,
    /// The fewest pooled segments since the background task last asked: so many were not needed.
    idle_count: AtomicUsize,
    /// Bytes of retired segments that lent chunks or batches still refer to.
    lent_bytes: AtomicUsize,
    /// How often memory was allocated for a segment; a statistic.
    allocated: AtomicU64,
    /// Senders that are about to open a ring slot with a segment they have taken.
    opening: AtomicUsize,
    /// No sender will acquire a segment: memory that is recycled is freed.
    closed: AtomicBool,
    /// Senders that wait for room.
    pub(crate) room_waiters: RoomWaiters,
    /// Signalled if there is memory to trim.
    pub(crate) signal: TaskSignal,
}

impl Pool {
    pub(crate) fn new(capacities: Capacities, max_bytes: usize) -> Self {
        Self {
            capacities,
            max_bytes,
            growth: Growth::new(capacities.small()),
            small: (0..capacities.small()).map(|_| Segment::new()).collect(),
            full: OnceLock::new(),
            used: CachePadded::default(),
            segment_bytes: AtomicUsize::new(0),
            pooled_count: AtomicUsize::new(0),
            idle_count: AtomicUsize::new(0),
            lent_bytes: AtomicUsize::new(0),
            allocated: AtomicU64::new(0),
            opening: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            room_waiters: RoomWaiters::new(),
            signal: TaskSignal::default(),
        }
    }

    /// Returns what one segment of the full size counts against `max_bytes`.
    pub(crate) fn footprint(&self) -> usize {
        footprint(self.capacities.full())
    }

    /// Returns what segment `number` counts against `max_bytes`.
    pub(crate) fn footprint_of(&self, number: usize) -> usize {
        footprint(self.capacities.of(number))
    }

    /// Returns how many segments there can be at once.
    pub(crate) fn segments_at_most(&self) -> usize {
        self.capacities.small() + self.max_bytes / self.footprint()
    }

    /// Whether an idle channel may keep the memory of this segment: it is the smallest.
    pub(crate) fn is_kept_when_idle(&self, number: usize) -> bool {
        number == 0 && self.is_small(number)
    }

    fn is_small(&self, number: usize) -> bool {
        number < self.capacities.small()
    }

    pub(crate) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    #[inline]
    fn full(&self) -> &FullSegments {
        match self.full.get() {
            Some(full) => full,
            None => self.make_full(),
        }
    }

    #[cold]
    fn make_full(&self) -> &FullSegments {
        self.full.get_or_init(|| {
            let (small, count) = (self.capacities.small(), self.segments_at_most());
            FullSegments {
                all: (small..count).map(|_| Segment::new()).collect(),
                pooled: IdBitset::new(count..count),
                vacant: IdBitset::new(small..count),
            }
        })
    }

    #[inline]
    pub(crate) fn segment(&self, number: usize) -> &Segment {
        match number.checked_sub(self.small.len()) {
            None => &self.small[number],
            Some(at) => &self.full().all[at],
        }
    }

    /// Takes a cleared segment with the channel's references for a message, in turn; returns nothing if there is no memory.
    ///
    /// Also charges the bytes of the message if it is external. The caller opens a ring slot with the segment, or fails to,
    /// and then calls [`after_opening`](Self::after_opening).
    pub(crate) fn take_segment(&self, ticket: Option<Ticket>, demand: Demand) -> Option<usize> {
        let (in_segment, external) = demand.split();
        let mut freed = false;
        let take = || {
            // Both must fit before pooled segments are freed for one of them.
            if self.footprint() + external > self.free_bytes() {
                return None;
            }
            let small = || self.acquire_small(ticket, in_segment);
            let unmarked = if external == 0 { small() } else { None };
            if unmarked.is_some() {
                return unmarked;
            }
            self.begin_opening();
            let charged = external == 0 || self.charge_or_evict(external, &mut freed);
            let segment = if charged { small().or_else(|| self.acquire()) } else { None };
            if segment.is_none_or(|number| self.is_small(number)) {
                self.end_opening();
            }
            if segment.is_none() && charged && external > 0 {
                self.refund_external_without_wake(external);
                freed = true;
            }
            segment
        };
        let bytes = self.footprint() + external;
        let fit = |layout: &Layout| layout.fits(demand);
        let taken = self.room_waiters.take_in_turn(self, ticket, OpenRoom::NONE, bytes, fit, take);
        self.wake_after_take(freed, ticket);
        taken
    }

    /// Whether a sender at this place would get memory for a message. A hint.
    pub(crate) fn has_memory(&self, ticket: Option<Ticket>, demand: Demand) -> bool {
        let (_, external) = demand.split();
        let has_memory = || (self.footprint() + external <= self.free_bytes()).then_some(());
        let fit = |layout: &Layout| layout.fits(demand);
        self.room_waiters.take_in_turn(self, ticket, OpenRoom::NONE, 0, fit, has_memory).is_some()
    }

    /// Marks this thread as about to open a ring slot with a segment of the full size.
    ///
    /// With a small one it needs no mark: that leaves memory for several others, so a thread that finds none finds these
    /// taken, by threads that are marked until they have seen the slot open.
    fn begin_opening(&self) {
        // ORDERING: Relaxed with a SeqCst fence: pairs with the fence in `spin_while_opening`. A thread that finds no memory,
        // because this one takes the last segment after the fence, sees that this one is about to open a ring slot.
        self.opening.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Ends what [`take_segment`](Self::take_segment) has begun with segment `number`: the ring slot is open.
    pub(crate) fn after_opening(&self, number: usize) {
        if !self.is_small(number) {
            self.end_opening();
        }
    }

    fn end_opening(&self) {
        // ORDERING: Release: pairs with the Acquire in `spin_while_opening`; makes the open ring slot visible.
        self.opening.fetch_sub(1, Ordering::Release);
    }

    /// Spins while another sender is about to open a ring slot, for a sender that found no memory for a segment.
    pub(crate) fn spin_while_opening(&self) {
        // ORDERING: SeqCst fence: pairs with the fence in `begin_opening`.
        fence(Ordering::SeqCst);
        for _ in 0..OPENING_SPINS {
            // ORDERING: Acquire: pairs with the Release in `end_opening`; the caller sees the ring slot that was opened.
            if self.opening.load(Ordering::Acquire) == 0 {
                break;
            }
            spin_loop();
        }
    }

    /// Charges an external payload whose entry is in the open segment, in turn; returns whether there is memory.
    pub(crate) fn take_external(&self, ticket: Option<Ticket>, room: OpenRoom, bytes: usize) -> bool {
        let mut freed = false;
        let take = || self.charge_or_evict(bytes, &mut freed).then_some(());
        let fit = |layout: &Layout| bytes <= layout.free();
        let taken = self.room_waiters.take_in_turn(self, ticket, room, bytes, fit, take);
        self.wake_after_take(freed, ticket);
        taken.is_some()
    }

    /// Wakes senders if memory was freed and taken again without the lock of the list: another thread may have found less
    /// than there was. A waiter takes under the lock, and would wake itself here.
    fn wake_after_take(&self, freed: bool, ticket: Option<Ticket>) {
        if freed && ticket.is_none() {
            self.wake_senders();
        }
    }

    /// Returns the next small segment that holds a message of `bytes`, if one is due.
    ///
    /// None while senders wait: they share the segments that were laid out for them, which are of the full size.
    fn acquire_small(&self, ticket: Option<Ticket>, bytes: usize) -> Option<usize> {
        let is_due = self.growth.is_due() && ticket.is_none() && self.room_waiters.waiting() == 0;
        if is_due { self.allocate_small(bytes) } else { None }
    }

    /// Returns a cleared segment of the full size with the channel's references, or nothing if `max_bytes` allows none.
    fn acquire(&self) -> Option<usize> {
        let circulating = CIRCULATING_BYTES.min(self.max_bytes / 2);
        let fresh = if self.used_bytes() + self.footprint() <= circulating { self.allocate() } else { None };
        fresh.or_else(|| self.reuse()).or_else(|| self.allocate())
    }

    fn reuse(&self) -> Option<usize> {
        let number = self.full().pooled.take()?;
        self.after_take();
        let mut segment = self.segment(number).exclusive().expect("a pooled segment has no user");
        // Cleared now and not when it was recycled: by now the receiver's cache no longer holds its index.
        segment.clear();
        segment.activate();
        Some(number)
    }

    fn allocate(&self) -> Option<usize> {
        if !self.charge_segment(self.footprint()) {
            return None;
        }
        let number = loop {
            // The charged bytes guarantee a vacant number. A search misses it only while other threads take and put.
            match self.full().vacant.take() {
                Some(number) => break number,
                None => spin_loop(),
            }
        };
        Some(self.activate_vacant(number))
    }

    /// Allocates the next small segment that holds a message of `bytes`, if memory for several of the full size is left
    /// beside it.
    #[cold]
    fn allocate_small(&self, bytes: usize) -> Option<usize> {
        let holds = |number: usize| {
            let beside = self.used_bytes() + FULL_BESIDE_SMALL * self.footprint();
            self.capacities.of(number).bytes >= bytes && beside + self.footprint_of(number) <= self.max_bytes
        };
        let number = self.growth.take(holds)?;
        if !self.charge_segment(self.footprint_of(number)) {
            self.growth.put(number);
            return None;
        }
        Some(self.activate_vacant(number))
    }

    /// Charges the memory of a segment, if `max_bytes` allows it.
    fn charge_segment(&self, footprint: usize) -> bool {
        let charged = self.charge(footprint);
        if charged {
            // ORDERING: Release: pairs with the Acquire in `used_and_external_bytes`: these bytes are charged.
            self.segment_bytes.fetch_add(footprint, Ordering::Release);
        }
        charged
    }

    /// Gives memory to a vacant segment, whose bytes were charged.
    fn activate_vacant(&self, number: usize) -> usize {
        let mut segment = self.segment(number).exclusive().expect("a vacant segment has no user");
        segment.allocate(self.capacities.of(number));
        segment.activate();
        // ORDERING: Relaxed: statistic only.
        self.allocated.fetch_add(1, Ordering::Relaxed);
        number
    }

    /// Updates the counts after a number was taken from `pooled`.
    fn after_take(&self) {
        // ORDERING: Relaxed, all: counts for statistics and hints for trimming. `pooled_count` cannot go below 0: it
        // goes up before the number is put into the bitset (Release) and down after it is taken (Acquire).
        let left = self.pooled_count.fetch_sub(1, Ordering::Relaxed) - 1;
        if left < self.idle_count.load(Ordering::Relaxed) {
            self.idle_count.fetch_min(left, Ordering::Relaxed);
        }
    }

    /// Recycles an acquired segment that was not opened.
    pub(crate) fn give_back(&self, number: usize) {
        if self.segment(number).release(CHANNEL_REFERENCES) {
            self.recycle(number);
        }
    }

    /// Adds `bytes` of a segment or of an external payload to those in use, if `max_bytes` allows it.
    pub(crate) fn charge(&self, bytes: usize) -> bool {
        let add = |used: usize| used.checked_add(bytes).filter(|&sum| sum <= self.max_bytes);
        // ORDERING: Acquire: pairs with the Release in `free_one`; makes the vacant number visible that was put back
        // before these bytes. All changes in between are read-modify-writes, which continue the release sequence.
        self.used.fetch_update(Ordering::Acquire, Ordering::Relaxed, add).is_ok()
    }

    /// Charges an external payload, and frees pooled segments for it if that makes enough room.
    fn charge_or_evict(&self, bytes: usize, freed: &mut bool) -> bool {
        loop {
            if self.charge(bytes) {
                return true;
            }
            if bytes > self.free_bytes() || !self.free_one() {
                return false;
            }
            *freed = true;
        }
    }

    /// Refunds the bytes of external payloads that have left the channel, and wakes senders.
    pub(crate) fn refund_external(&self, bytes: usize) {
        self.refund_external_without_wake(bytes);
        self.wake_senders();
    }

    /// Refunds the bytes of external payloads, without a wake.
    pub(crate) fn refund_external_without_wake(&self, bytes: usize) {
        // ORDERING: Relaxed: the fence in `wake_senders`, which follows, orders it against a waiting sender.
        // Nothing else is published: the bytes are only a sum, and read-modify-writes do not miss each other.
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Returns about how much memory is free, pooled segments included: these are freed or reused at once.
    pub(crate) fn free_bytes(&self) -> usize {
        let pooled = self.pooled_segments() * self.footprint();
        self.max_bytes - self.used_bytes().saturating_sub(pooled)
    }

    /// Pools or frees a segment whose last reference was released, and wakes senders.
    fn recycle(&self, number: usize) {
        if self.recycle_without_wake(number) {
            self.wake_senders_after_fence(|| OpenRoom::Unknown);
        } else {
            self.wake_senders();
        }
    }

    /// Wakes the waiting senders whose demand is free.
    pub(crate) fn wake_senders(&self) {
        self.wake_senders_with(|| OpenRoom::Unknown);
    }

    /// [`wake_senders`](Self::wake_senders) for a thread that knows the room in the open segment.
    pub(crate) fn wake_senders_with(&self, room: impl FnOnce() -> OpenRoom) {
        // ORDERING: SeqCst fence: pairs with the fence in `RoomWaiters::register`. Either this thread sees the waiting
        // sender, or that sender's attempt sees the room that this thread made before.
        fence(Ordering::SeqCst);
        self.wake_senders_after_fence(room);
    }

    /// [`wake_senders_with`](Self::wake_senders_with) for a caller that has passed a SeqCst fence after it made room.
    #[inline]
    fn wake_senders_after_fence(&self, room: impl FnOnce() -> OpenRoom) {
        if self.room_waiters.has_sleeper() {
            self.room_waiters.wake_covered(self, room());
        }
    }

    /// Pools a segment whose last reference was released, or frees a small one: the next segment is larger. The caller wakes
    /// senders.
    ///
    /// Returns whether it has passed a SeqCst fence after the change.
    fn recycle_without_wake(&self, number: usize) -> bool {
        if self.is_small(number) {
            self.free(number);
            return false;
        }
        // ORDERING: Relaxed: a count. It goes up before the Release in `put`, and down after the Acquire in `take`,
        // so it never goes below 0.
        self.pooled_count.fetch_add(1, Ordering::Relaxed);
        self.full().pooled.put(number);
        // ORDERING: SeqCst fence: pairs with three others. With the one in `close`: either this thread sees the pool
        // closed and frees the segment, or `close` sees the segment and frees it. With the one in `RoomWaiters::register`,
        // for the wake that follows: either the waker sees the waiting sender, or that sender's attempt sees the
        // segment. With the one in `WakeFlag::clear`, for `signal_memory`: either the flag is seen clear here and the
        // background task is notified, or the task's last check sees the segment.
        fence(Ordering::SeqCst);
        if self.closed.load(Ordering::Relaxed) {
            // Without a wake: no sender waits for room in a closed channel.
            self.free_down_to(0);
        } else {
            self.signal.signal_memory();
        }
        true
    }

    /// Frees the memory of one pooled segment; returns whether there was one.
    fn free_one(&self) -> bool {
        let Some(number) = self.full().pooled.take() else { return false };
        self.after_take();
        self.free(number);
        true
    }

    /// Frees the memory of a segment that has no user: its last reference was released, and no set contains it.
    fn free(&self, number: usize) {
        self.segment(number).exclusive().expect("a free segment has no user").free();
        if self.is_small(number) {
            self.growth.put(number);
        } else {
            self.full().vacant.put(number);
        }
        let footprint = self.footprint_of(number);
        // ORDERING: Relaxed: the Release that follows publishes it.
        self.segment_bytes.fetch_sub(footprint, Ordering::Relaxed);
        // ORDERING: Release: pairs with the Acquire in `charge`; makes the vacant number visible to the sender that
        // gets these bytes.
        self.used.fetch_sub(footprint, Ordering::Release);
    }

    /// Lets the next segments be small again: the channel is idle.
    pub(crate) fn restart_growth(&self) {
        self.growth.restart();
    }

    /// Frees pooled segments until at most `keep` are pooled, and wakes senders.
    pub(crate) fn trim(&self, keep: usize) {
        let freed = self.free_down_to(keep);
        if freed > 0 {
            // A sender may have found no room while a segment was no longer pooled and its bytes were not released yet.
            self.wake_senders();
        }
    }

    fn free_down_to(&self, keep: usize) -> usize {
        let mut freed = 0;
        while self.pooled_segments() > keep && self.free_one() {
            freed += 1;
        }
        freed
    }

    /// Returns how many pooled segments were not needed since the last call.
    pub(crate) fn take_idle(&self) -> usize {
        // ORDERING: Relaxed: a hint for trimming.
        self.idle_count.swap(self.pooled_segments(), Ordering::Relaxed)
    }

    /// Closes the pool: frees all pooled segments now, and others once they are recycled. Passes a SeqCst fence.
    pub(crate) fn close(&self) {
        // ORDERING: Relaxed store with a SeqCst fence: pairs with the fence in `recycle_without_wake`. Either that
        // thread sees the pool closed and frees its segment, or `trim` here sees the segment and frees it.
        self.closed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.full.get().is_some() {
            self.trim(0);
        }
    }

    /// Returns the bytes of segments with memory and of external payloads.
    pub(crate) fn used_bytes(&self) -> usize {
        // ORDERING: Relaxed: a statistic or a hint; `charge` decides.
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn pooled_segments(&self) -> usize {
        // ORDERING: Relaxed: a statistic or a hint; the bitset decides.
        self.pooled_count.load(Ordering::Relaxed)
    }

    pub(crate) fn lent_bytes(&self) -> usize {
        // ORDERING: Relaxed: a statistic, and a hint for `Queue::may_lend`.
        self.lent_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn allocated_segments(&self) -> u64 {
        // ORDERING: Relaxed: statistic only.
        self.allocated.load(Ordering::Relaxed)
    }

    /// Returns the bytes in use, and how many of them are not in segments, but external.
    ///
    /// The second may count a segment too many that gets its memory meanwhile, but not fewer.
    pub(crate) fn used_and_external_bytes(&self) -> (usize, usize) {
        loop {
            // ORDERING: Acquire: pairs with the Release in `charge_segment`; the bytes of these segments are in use.
            let segments = self.segment_bytes.load(Ordering::Acquire);
            // ORDERING: Acquire: pairs with the Release in `free_one`; the second load of `segment_bytes` sees what was freed.
            let used = self.used.load(Ordering::Acquire);
            if self.segment_bytes.load(Ordering::Relaxed) == segments {
                return (used, used.saturating_sub(segments));
            }
        }
    }
}

/// Returns the capacities of segments that grow up to `full`.
///
/// There are no small ones where none would leave memory for [`FULL_BESIDE_SMALL`] of the full size.
pub(crate) fn growing(full: Capacity, max_bytes: usize) -> Capacities {
    let segments = max_bytes / footprint(full);
    let steps = if segments > FULL_BESIDE_SMALL { MAX_SEGMENTS.saturating_sub(segments) } else { 0 };
    Capacities::growing(full, steps.min(MAX_STEPS))
}

/// Returns what one segment of this capacity counts against `max_bytes`.
pub(crate) fn footprint(capacity: Capacity) -> usize {
    capacity.bytes + capacity.messages * ENTRY_BYTES + HEADER_BYTES
}

/// The channel's references to a segment of a pool.
pub(crate) type ChannelRef = segment::reference::ChannelRef<Pool>;
/// A reference to a segment of a pool.
pub(crate) type SegmentRef = segment::reference::SegmentRef<Pool>;

impl SegmentPool for Pool {
    #[inline]
    fn segment(&self, number: usize) -> &Segment {
        self.segment(number)
    }

    fn recycle(&self, number: usize) {
        // ORDERING: Relaxed: statistic only, see `retire`.
        self.lent_bytes.fetch_sub(self.footprint_of(number), Ordering::Relaxed);
        self.recycle(number);
    }
}

impl ChannelRef {
    /// Retires the segment, whose first `messages` entries were used, and releases these references, without waking senders.
    ///
    /// Returns whether they were the last, and senders should be woken. Otherwise the segment counts as lent until the last
    /// one is released. The caller has locked the head.
    pub(crate) fn retire(self, messages: usize) -> bool {
        self.set_used(messages);
        let number = self.number();
        // Without other references none is made: these are the last.
        let lent = if self.is_shared() { self.pool().footprint_of(number) } else { 0 };
        if lent > 0 {
            // ORDERING: Relaxed: statistic only. It goes up before these references are released, and down after the last
            // one is, so it never goes below 0.
            self.pool().lent_bytes.fetch_add(lent, Ordering::Relaxed);
        }
        let Some(pool) = self.into_last() else { return false };
        if lent > 0 {
            // ORDERING: Relaxed: statistic only, as above.
            pool.lent_bytes.fetch_sub(lent, Ordering::Relaxed);
        }
        pool.recycle_without_wake(number);
        true
    }
}
