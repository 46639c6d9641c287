//! The strategy of a channel, its limits for the active segment, and whether it depends on time.
//!
//! Senders compare the fill of the active segment with one word, [`PackedLimits`]. The word holds for one segment:
//!
//! 1. In a segment that the limits do not belong to, every message asks the strategy.
//! 2. The sender of a segment's first message sets the limits for an empty segment, which the strategy named in advance
//!    ([`begin_segment`](ActiveStrategy::begin_segment)).
//! 3. A sender that reaches a limit, or the background task, asks the strategy. If it wants no switch, the thread asks for
//!    new limits and exchanges them for those that it loaded before it read the segment
//!    ([`refresh_limits`](ActiveStrategy::refresh_limits)). If the exchange fails, it starts over.
//! 4. A swap of the strategy counts up in the word and makes every message ask. A thread that sets limits of an old strategy
//!    then fails its exchange, unless a multiple of 16 swaps was made since it loaded the word.

use std::mem;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::limits::{CutOffset, FillLevel, PackedLimits};
use super::{ActiveSegment, SwitchLimits, SwitchStrategy};
use crate::queue::segment::slot_state::Capacity;
use crate::sync::unwind::CatchDrop;
use crate::sync::{AtomicBool, AtomicU64, Ordering, RwLock};
use crate::telemetry::catch_panic::CatchPanic;

/// The strategy of a channel, and its limits for the active segment.
pub(crate) struct ActiveStrategy {
    capacity: Capacity,
    /// [`PackedLimits`]: written by threads that ask the strategy, read by senders for every message.
    limits: AtomicU64,
    /// [`PackedLimits`] of an empty segment; the sequence in it is 0.
    first_limits: AtomicU64,
    /// Cloned before it is asked, so that no user code runs under the lock.
    strategy: RwLock<CatchDrop<Arc<dyn SwitchStrategy>>>,
    /// Whether time alone can make the strategy switch.
    timed: AtomicBool,
    catch_panic: CatchPanic,
}

impl ActiveStrategy {
    /// Creates the state before the segment at sequence `first` is opened.
    pub(crate) fn new(strategy: Box<dyn SwitchStrategy>, capacity: Capacity, first: u64) -> Self {
        let catch_panic = CatchPanic::default();
        let (limits, timed) = initial_answers(&catch_panic, &*strategy, capacity);
        Self {
            capacity,
            // They belong to another segment, so the first message sets those of its own.
            limits: AtomicU64::new(PackedLimits::before_first(first).0),
            first_limits: AtomicU64::new(limits.0),
            timed: AtomicBool::new(timed),
            strategy: RwLock::new(CatchDrop::new(Arc::from(strategy))),
            catch_panic,
        }
    }

    /// Whether the strategy wants a switch; false if it panics.
    pub(crate) fn should_switch(&self, active: &ActiveSegment) -> bool {
        self.catch_panic.call(|| self.strategy().should_switch(active)).unwrap_or(false)
    }

    /// Returns when the strategy wants to be asked again, if time alone can make it switch.
    pub(crate) fn next_check(&self, active: &ActiveSegment) -> Option<Duration> {
        self.catch_panic.call(|| self.strategy().next_check(active)).flatten()
    }

    /// Emits no event for a panic of a strategy from now on.
    pub(crate) fn silence(&self) {
        self.catch_panic.silence();
    }

    /// Returns how often a strategy has panicked.
    pub(crate) fn panics(&self) -> u64 {
        self.catch_panic.panics()
    }

    fn strategy(&self) -> Arc<dyn SwitchStrategy> {
        Arc::clone(&self.strategy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether time alone can make the strategy switch.
    pub(crate) fn is_timed(&self) -> bool {
        // ORDERING: Relaxed: ordered by `AtomicSlotState::fence_rmw`: either a caller that knows of an unread message
        // sees a strategy that depends on time, or the thread that sets it sees the message.
        self.timed.load(Ordering::Relaxed)
    }

    /// Drops a strategy that was swapped out.
    pub(crate) fn drop_swapped(&self, strategy: Arc<dyn SwitchStrategy>) {
        self.catch_panic.call(|| drop(strategy));
    }

    /// Whether the strategy is to be asked.
    ///
    /// A strategy that counts bytes is asked at each `external` message. Such a message has more bytes than it takes in the
    /// segment, so the fill says too little.
    #[inline(always)]
    pub(crate) fn is_due(&self, fill: FillLevel, external: bool) -> bool {
        // Loaded once: they may change between two loads.
        let limits = self.load_limits();
        (external && limits.count_bytes()) || limits.are_reached(fill)
    }

    #[inline(always)]
    fn load_limits(&self) -> PackedLimits {
        // ORDERING: Relaxed: the limits only decide when the strategy is asked.
        PackedLimits(self.limits.load(Ordering::Relaxed))
    }

    /// Loads the limits for a thread that reads the active segment next, and then refreshes them.
    pub(crate) fn limits_to_replace(&self) -> PackedLimits {
        // ORDERING: Acquire: pairs with the Release in `exchange`; makes visible what the limits were computed from, so a
        // thread that replaces them has seen at least as much of the segment.
        PackedLimits(self.limits.load(Ordering::Acquire))
    }

    /// Asks the strategy for new limits and sets them, if the limits are still those that were `seen`.
    ///
    /// The caller has loaded `seen` before it read the active segment. Returns false if they have changed since, maybe by
    /// a thread that has seen less of the segment.
    pub(crate) fn refresh_limits(
        &self,
        seen: PackedLimits,
        sequence: u64,
        offset: CutOffset,
        active: &ActiveSegment,
    ) -> bool {
        // The strategy is released inside of the call: it may be swapped out meanwhile, and this the last reference.
        let limits = self.catch_panic.call(|| self.strategy().limits(active)).unwrap_or(SwitchLimits::NEVER);
        self.exchange(seen, sequence, PackedLimits::after_cut(offset, limits, self.capacity))
    }

    /// Sets the limits of an empty segment, after the first message of the segment at `sequence`.
    ///
    /// It keeps limits that the sender of a later message has set meanwhile: those take more messages into account.
    pub(crate) fn begin_segment(&self, sequence: u64) {
        // ORDERING: Relaxed: `swap` changes both under its lock. If only one of its stores is seen, the counts of swaps
        // differ, nothing is set, and the next message asks.
        let (first, seen) = (PackedLimits(self.first_limits.load(Ordering::Relaxed)), self.load_limits());
        if first.has_swaps_of(seen) && !seen.belong_to(sequence) {
            self.exchange(seen, sequence, first);
        }
    }

    /// Replaces the limits by those of the segment at `sequence`; returns false if they are no longer those `seen`.
    fn exchange(&self, seen: PackedLimits, sequence: u64, limits: PackedLimits) -> bool {
        let new = limits.for_segment(sequence, seen);
        // ORDERING: Release: pairs with the Acquire in `limits_to_replace`. Relaxed on failure: the caller loads again.
        self.limits.compare_exchange(seen.0, new.0, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// Replaces the strategy; returns the old one.
    pub(crate) fn swap(&self, strategy: Arc<dyn SwitchStrategy>) -> Arc<dyn SwitchStrategy> {
        let (first, timed) = initial_answers(&self.catch_panic, &*strategy, self.capacity);
        let mut current = self.strategy.write().unwrap_or_else(PoisonError::into_inner);
        let limits = self.load_limits().after_swap();
        // ORDERING: Relaxed: see `is_timed` and `begin_segment`.
        self.timed.store(timed, Ordering::Relaxed);
        self.first_limits.store(first.with_swaps_of(limits).0, Ordering::Relaxed);
        // They make the next message ask. Stored under the lock: a thread that sees them and asks gets the new strategy.
        self.limits.store(limits.0, Ordering::Relaxed);
        mem::replace(&mut *current, CatchDrop::new(strategy)).into_inner()
    }
}

/// Returns the limits of an empty segment, and whether time alone can make the strategy switch.
///
/// A strategy that panics has limits that are never reached.
fn initial_answers(
    catch_panic: &CatchPanic,
    strategy: &dyn SwitchStrategy,
    capacity: Capacity,
) -> (PackedLimits, bool) {
    let empty = ActiveSegment::empty(capacity);
    let limits = catch_panic.call(|| strategy.limits(&empty)).unwrap_or(SwitchLimits::NEVER);
    let next_check = catch_panic.call(|| strategy.next_check(&empty)).flatten();
    (PackedLimits::after_cut(CutOffset::default(), limits, capacity), next_check.is_some())
}
