//! The strategy of a channel, and what it comes to: limits that writers compare, and whether time matters.
//!
//! The first message of a segment sets the limits that the strategy named for one without messages; until then any
//! message asks anew. Whoever sets limits exchanges them for what they were before it asked.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::limits::{CutOffset, FillLevel, PackedLimits};
use super::{ActiveSegment, SwitchLimits, SwitchStrategy};
use crate::queue::segment::slot_state::Capacity;
use crate::sync::{AtomicBool, AtomicU64, Ordering, RwLock};
use crate::telemetry::catch_panic::CatchPanic;

pub(crate) struct ActiveStrategy {
    capacity: Capacity,
    /// [`PackedLimits`], written by whoever asks the strategy, read by writers for every message.
    limits: AtomicU64,
    /// Those right after a switch, in a segment without a cut; the bits of its sequence are 0.
    first_limits: AtomicU64,
    /// Cloned out before it is asked, so that no code of the user runs under the lock.
    strategy: RwLock<Arc<dyn SwitchStrategy>>,
    /// Time alone can make the strategy switch.
    timed: AtomicBool,
    strategies: CatchPanic,
}

impl ActiveStrategy {
    /// For segments from the one at sequence `first` on.
    pub(crate) fn new(strategy: Box<dyn SwitchStrategy>, capacity: Capacity, first: u64) -> Self {
        let strategies = CatchPanic::default();
        let (limits, timed) = first_answers(&strategies, &*strategy, capacity);
        Self {
            capacity,
            // So that the first message sets those of its own segment.
            limits: AtomicU64::new(PackedLimits::before(first).0),
            first_limits: AtomicU64::new(limits.0),
            timed: AtomicBool::new(timed),
            strategy: RwLock::new(Arc::from(strategy)),
            strategies,
        }
    }

    /// Whether the strategy wants a switch; not if it panics.
    pub(crate) fn should_switch(&self, active: &ActiveSegment) -> bool {
        self.strategies.call(|| self.strategy().should_switch(active)).unwrap_or(false)
    }

    /// When it wants to be asked again, if time alone can make it switch.
    pub(crate) fn next_check(&self, active: &ActiveSegment) -> Option<Duration> {
        self.strategies.call(|| self.strategy().next_check(active)).flatten()
    }

    /// How often a strategy has panicked.
    pub(crate) fn panics(&self) -> u64 {
        self.strategies.panics()
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
        self.strategies.call(|| drop(strategy));
    }

    /// Whether the strategy wants to be asked. A strategy that counts bytes is asked at each `external` message,
    /// which takes less room than it has bytes: there may be more of those than a segment has room for.
    #[inline(always)]
    pub(crate) fn is_due(&self, fill: FillLevel, external: bool) -> bool {
        // Once, as they may change between two looks.
        let limits = self.load_limits();
        (external && limits.count_bytes()) || limits.are_reached(fill)
    }

    #[inline(always)]
    fn load_limits(&self) -> PackedLimits {
        // ORDERING: Relaxed: the limits only decide when the strategy is asked.
        PackedLimits(self.limits.load(Ordering::Relaxed))
    }

    /// The limits for somebody who is about to look at the active segment, and to ask for new ones.
    pub(crate) fn limits_to_replace(&self) -> PackedLimits {
        // ORDERING: Acquire pairs with the Release in `exchange`: whoever replaces limits has seen of the segment what
        // they were made of.
        PackedLimits(self.limits.load(Ordering::Acquire))
    }

    /// Asks the strategy from what fill on it wants to be asked next; `seen` are the limits from before the active
    /// segment was looked at. False if they have changed meanwhile, maybe by somebody who has seen less of it.
    pub(crate) fn ask_limits(
        &self,
        seen: PackedLimits,
        sequence: u64,
        base: CutOffset,
        active: &ActiveSegment,
    ) -> bool {
        let limits =
            PackedLimits::on_top_of(base, ask(&self.strategies, &*self.strategy(), active), self.capacity);
        self.exchange(seen, sequence, limits)
    }

    /// After the first message of the segment at `sequence`: the limits right after a switch, unless somebody behind it
    /// was quicker, who knows of more.
    pub(crate) fn begin(&self, sequence: u64) {
        // ORDERING: Relaxed: `swap` changes both under its lock; if it is halfway, they bear different counts of swaps,
        // and whoever writes next asks.
        let (first, seen) = (PackedLimits(self.first_limits.load(Ordering::Relaxed)), self.load_limits());
        if first.has_swaps_of(seen) && !seen.are_of(sequence) {
            self.exchange(seen, sequence, first);
        }
    }

    /// Sets limits for the segment at `sequence`; false if they are no longer those that were `seen`.
    fn exchange(&self, seen: PackedLimits, sequence: u64, limits: PackedLimits) -> bool {
        let new = limits.of(sequence, seen);
        // ORDERING: Release, see `limits_to_replace`.
        self.limits.compare_exchange(seen.0, new.0, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// Puts another strategy in slot; returns the old one.
    pub(crate) fn swap(&self, strategy: Arc<dyn SwitchStrategy>) -> Arc<dyn SwitchStrategy> {
        let (first, timed) = first_answers(&self.strategies, &*strategy, self.capacity);
        let mut current = self.strategy.write().unwrap_or_else(PoisonError::into_inner);
        let limits = self.load_limits().swapped();
        // ORDERING: Relaxed: see `Core::is_timed`, and `begin`.
        self.timed.store(timed, Ordering::Relaxed);
        self.first_limits.store(first.with_swaps_of(limits).0, Ordering::Relaxed);
        // To be asked at the next message. Under the lock: who sees these limits gets the new strategy.
        self.limits.store(limits.0, Ordering::Relaxed);
        std::mem::replace(&mut *current, strategy)
    }
}

/// The limits right after a switch, and whether time alone can make the strategy switch.
fn first_answers(
    code: &CatchPanic,
    strategy: &dyn SwitchStrategy,
    capacity: Capacity,
) -> (PackedLimits, bool) {
    let limits = ask(code, strategy, &ActiveSegment::empty(capacity));
    let next_check = code.call(|| strategy.next_check(&ActiveSegment::empty(capacity))).flatten();
    (PackedLimits::on_top_of(CutOffset::default(), limits, capacity), next_check.is_some())
}

/// From what fill on a strategy wants to be asked.
fn ask(code: &CatchPanic, strategy: &dyn SwitchStrategy, active: &ActiveSegment) -> SwitchLimits {
    code.call(|| strategy.limits(active)).unwrap_or(SwitchLimits::NEVER)
}
