//! The strategy of a channel, and what it comes to: limits that writers compare, and whether time matters.
//!
//! The first message of a segment sets the limits that the strategy named for one without messages; until then any
//! message asks anew. Whoever sets limits exchanges them for what they were before it asked.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Core;
use super::limits::{Base, Fill, Limits};
use super::switch::empty;
use crate::segment::state::{Capacity, Kind};
use crate::strategy::{ActiveSegment, SwitchLimits, SwitchStrategy};
use crate::sync::{AtomicBool, AtomicU64, Ordering, RwLock};
use crate::user_code::UserCode;

pub(super) struct Plan {
    capacity: Capacity,
    /// [`Limits`], written by whoever asks the strategy, read by writers for every message.
    limits: AtomicU64,
    /// Those right after a switch, in a segment without a cut; the bits of its sequence are 0.
    first_limits: AtomicU64,
    /// Cloned out before it is asked, so that no code of the user runs under the lock.
    strategy: RwLock<Arc<dyn SwitchStrategy>>,
    /// Time alone can make the strategy switch.
    timed: AtomicBool,
    strategies: UserCode,
}

impl Plan {
    /// For segments from the one at sequence `first` on.
    pub(super) fn new(strategy: Box<dyn SwitchStrategy>, capacity: Capacity, first: u64) -> Self {
        let strategies = UserCode::default();
        let (limits, timed) = first_answers(&strategies, &*strategy, capacity);
        Self {
            capacity,
            // So that the first message sets those of its own segment.
            limits: AtomicU64::new(Limits::before(first).0),
            first_limits: AtomicU64::new(limits.0),
            timed: AtomicBool::new(timed),
            strategy: RwLock::new(Arc::from(strategy)),
            strategies,
        }
    }

    /// Whether the strategy wants a switch; not if it panics.
    pub(super) fn should_switch(&self, active: &ActiveSegment) -> bool {
        self.strategies.call(|| self.strategy().should_switch(active)).unwrap_or(false)
    }

    /// When it wants to be asked again, if time alone can make it switch.
    pub(super) fn next_check(&self, active: &ActiveSegment) -> Option<Duration> {
        self.strategies.call(|| self.strategy().next_check(active)).flatten()
    }

    /// How often a strategy has panicked.
    pub(super) fn panics(&self) -> u64 {
        self.strategies.panics()
    }

    fn strategy(&self) -> Arc<dyn SwitchStrategy> {
        Arc::clone(&self.strategy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the strategy wants to be asked. A strategy that counts bytes is asked at each `attached` message,
    /// which takes less room than it has bytes: there may be more of those than a segment has room for.
    #[inline(always)]
    pub(super) fn is_due(&self, fill: Fill, attached: bool) -> bool {
        // Once, as they may change between two looks.
        let limits = self.load_limits();
        (attached && limits.count_bytes()) || limits.are_reached(fill)
    }

    #[inline(always)]
    fn load_limits(&self) -> Limits {
        // ORDERING: Relaxed: the limits only decide when the strategy is asked.
        Limits(self.limits.load(Ordering::Relaxed))
    }

    /// The limits for somebody who is about to look at the active segment, and to ask for new ones.
    pub(super) fn limits_to_replace(&self) -> Limits {
        // ORDERING: Acquire pairs with the Release in `exchange`: whoever replaces limits has seen of the segment what
        // they were made of.
        Limits(self.limits.load(Ordering::Acquire))
    }

    /// Asks the strategy from what fill on it wants to be asked next; `seen` are the limits from before the active
    /// segment was looked at. False if they have changed meanwhile, maybe by somebody who has seen less of it.
    pub(super) fn ask_limits(&self, seen: Limits, sequence: u64, base: Base, active: &ActiveSegment) -> bool {
        let limits = Limits::on_top_of(base, ask(&self.strategies, &*self.strategy(), active), self.capacity);
        self.exchange(seen, sequence, limits)
    }

    /// After the first message of the segment at `sequence`: the limits right after a switch, unless somebody behind it
    /// was quicker, who knows of more.
    pub(super) fn begin(&self, sequence: u64) {
        // ORDERING: Relaxed: `swap` changes both under its lock; if it is halfway, they bear different counts of swaps,
        // and whoever writes next asks.
        let (first, seen) = (Limits(self.first_limits.load(Ordering::Relaxed)), self.load_limits());
        if first.has_swaps_of(seen) && !seen.are_of(sequence) {
            self.exchange(seen, sequence, first);
        }
    }

    /// Sets limits for the segment at `sequence`; false if they are no longer those that were `seen`.
    fn exchange(&self, seen: Limits, sequence: u64, limits: Limits) -> bool {
        let new = limits.of(sequence, seen);
        // ORDERING: Release, see `limits_to_replace`.
        self.limits.compare_exchange(seen.0, new.0, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// Puts another strategy in place; returns the old one.
    fn swap(&self, strategy: Arc<dyn SwitchStrategy>) -> Arc<dyn SwitchStrategy> {
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

impl Core {
    /// Goes by another strategy from now on.
    pub(crate) fn set_strategy(&self, strategy: Box<dyn SwitchStrategy>) {
        let old = self.plan.swap(Arc::from(strategy));
        self.plan.strategies.call(|| drop(old));
        let sequence = self.show_to_writers();
        self.consider_switch(sequence);
        if self.is_timed() && self.active_segment(sequence).is_some() {
            self.timer.watch_unread();
        }
        // It may be asleep for as long as the old strategy said.
        self.pool.alarm.notify();
    }

    /// The active place, such that whoever writes to it and is not seen to have done so sees the new strategy.
    fn show_to_writers(&self) -> u64 {
        loop {
            let sequence = self.pending.active();
            let state = self.pending.place(sequence).touch();
            match state.kind() {
                Kind::Sealed => self.pending.advance(sequence),
                Kind::Ready if !state.is_ready_for(sequence) => {}
                Kind::Open | Kind::Ready | Kind::Closed => return sequence,
            }
        }
    }

    /// Whether the timer has to look after unread messages, for somebody who knows of one.
    pub(super) fn is_timed(&self) -> bool {
        // ORDERING: Relaxed: see `Word::touch`: either a strategy that watches time is seen here, or whoever sets it sees
        // the message.
        self.plan.timed.load(Ordering::Relaxed)
    }
}

/// The limits right after a switch, and whether time alone can make the strategy switch.
fn first_answers(code: &UserCode, strategy: &dyn SwitchStrategy, capacity: Capacity) -> (Limits, bool) {
    let limits = ask(code, strategy, &empty(capacity));
    let next_check = code.call(|| strategy.next_check(&empty(capacity))).flatten();
    (Limits::on_top_of(Base::default(), limits, capacity), next_check.is_some())
}

/// From what fill on a strategy wants to be asked.
fn ask(code: &UserCode, strategy: &dyn SwitchStrategy, active: &ActiveSegment) -> SwitchLimits {
    code.call(|| strategy.limits(active)).unwrap_or(SwitchLimits::NEVER)
}
