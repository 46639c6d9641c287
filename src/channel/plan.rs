//! The strategy of a channel, and what it comes to: limits that writers compare, and whether time matters.
//!
//! ```text
//!  63..32     31..28    27..0
//! ┌──────────┬───────┬─────────┐
//! │ messages │ swaps │  bytes  │   the limits; swaps: how often the strategy was swapped (low 4 bits)
//! └──────────┴───────┴─────────┘
//! ```
//!
//! Whoever sets the limits exchanges them for what they were before it asked: limits that an old strategy gave, or that
//! belong to a segment that was left meanwhile, do not take the place of newer ones.

use std::sync::{Arc, PoisonError};

use super::Core;
use super::switch::{contained, empty};
use crate::cut::Cut;
use crate::segment::state::{Capacity, Kind};
use crate::strategy::{ActiveSegment, SwitchLimits, SwitchStrategy};
use crate::sync::{AtomicBool, AtomicU64, Ordering, RwLock};

const MESSAGES_SHIFT: u32 = 32;
const SWAPS_MASK: u64 = 0b1111 << SWAPS_SHIFT;
const SWAPS_SHIFT: u32 = 28;
const BYTES_MASK: u64 = (1 << SWAPS_SHIFT) - 1;

pub(super) struct Plan {
    /// Cloned out before it is asked, so that no code of the user runs under the lock.
    strategy: RwLock<Arc<dyn SwitchStrategy>>,
    /// The limits right after a switch.
    first_limits: AtomicU64,
    /// Time alone can make the strategy switch.
    timed: AtomicBool,
}

impl Plan {
    pub(super) fn new(strategy: Box<dyn SwitchStrategy>, capacity: Capacity) -> Self {
        let (limits, timed) = first_answers(&*strategy, capacity);
        Self {
            strategy: RwLock::new(Arc::from(strategy)),
            first_limits: AtomicU64::new(pack_limits(capacity, Cut::default(), limits)),
            timed: AtomicBool::new(timed),
        }
    }

    pub(super) fn strategy(&self) -> Arc<dyn SwitchStrategy> {
        Arc::clone(&self.strategy.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn first_limits(&self) -> u64 {
        // ORDERING: Relaxed, see `swap_strategy` and `set_first_limits`.
        self.first_limits.load(Ordering::Relaxed)
    }
}

impl Core {
    /// Goes by another strategy from now on.
    pub(crate) fn set_strategy(&self, strategy: Box<dyn SwitchStrategy>) {
        let answers = first_answers(&*strategy, self.capacity);
        let old = self.swap_strategy(Arc::from(strategy), answers);
        contained(|| drop(old));
        let sequence = self.show_to_writers();
        self.consider_switch(sequence);
        if answers.1 && self.active_segment(sequence).is_some() {
            self.timer.watch_unread();
        }
        // It may be asleep for as long as the old strategy said.
        self.pool.alarm.notify();
    }

    /// Puts another strategy in place, along with what it answered; returns the old one.
    fn swap_strategy(
        &self,
        strategy: Arc<dyn SwitchStrategy>,
        (limits, timed): (SwitchLimits, bool),
    ) -> Arc<dyn SwitchStrategy> {
        let mut current = self.plan.strategy.write().unwrap_or_else(PoisonError::into_inner);
        let swaps = self.plan.first_limits().wrapping_add(1 << SWAPS_SHIFT) & SWAPS_MASK;
        let first = pack_limits(self.capacity, Cut::default(), limits) | swaps;
        // ORDERING: Relaxed, as the next store publishes it; for `timed` see `is_timed`.
        self.plan.first_limits.store(first, Ordering::Relaxed);
        self.plan.timed.store(timed, Ordering::Relaxed);
        let cut = self.reading.cut.get(self.pending.active());
        // ORDERING: Release pairs with the Acquire in `set_first_limits`: who sees these limits sees the first ones too.
        self.limits.store(behind(self.capacity, cut, first), Ordering::Release);
        std::mem::replace(&mut *current, strategy)
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

    /// After a switch: the limits of what comes behind `cut`.
    pub(super) fn set_first_limits(&self, cut: Cut) {
        loop {
            // ORDERING: Acquire pairs with the Release in `swap_strategy`. If the first limits are older than that store,
            // so are these, and the exchange fails.
            let seen = self.limits.load(Ordering::Acquire);
            let limits = behind(self.capacity, cut, self.plan.first_limits());
            if seen == limits || self.exchange_limits(seen, limits) {
                return;
            }
        }
    }

    /// Asks the strategy anew from what fill on it wants to be asked; `seen` are the limits from before it was asked
    /// anything.
    pub(super) fn lower_limits(&self, seen: u64, sequence: u64, active: &ActiveSegment) {
        let limits = ask_limits(&*self.plan.strategy(), active);
        let packed = pack_limits(self.capacity, self.reading.cut.get(sequence), limits);
        self.exchange_limits(seen, packed | seen & SWAPS_MASK);
    }

    /// Whether the limits were still those that were `seen`.
    fn exchange_limits(&self, seen: u64, limits: u64) -> bool {
        // ORDERING: Relaxed: the limits only decide when the strategy is asked.
        self.limits.compare_exchange(seen, limits, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    #[inline]
    pub(super) fn load_limits(&self) -> u64 {
        // ORDERING: Relaxed, as above.
        self.limits.load(Ordering::Relaxed)
    }
}

/// What a strategy says of an active segment without messages: its limits, and whether time alone can make it switch.
fn first_answers(strategy: &dyn SwitchStrategy, capacity: Capacity) -> (SwitchLimits, bool) {
    let empty = empty(capacity);
    let timed = contained(|| strategy.next_check(&empty)).flatten().is_some();
    (ask_limits(strategy, &empty), timed)
}

/// From what fill on a strategy wants to be asked.
fn ask_limits(strategy: &dyn SwitchStrategy, active: &ActiveSegment) -> SwitchLimits {
    contained(|| strategy.limits(active)).unwrap_or(SwitchLimits::NEVER)
}

/// Limits of what comes behind `cut`, as writers compare them with what a segment is filled to.
fn pack_limits(capacity: Capacity, cut: Cut, limits: SwitchLimits) -> u64 {
    let messages = cut.messages.saturating_add(limits.messages).min(capacity.messages);
    let bytes = cut.bytes.saturating_add(limits.bytes).min(capacity.bytes);
    (messages as u64) << MESSAGES_SHIFT | bytes as u64
}

/// The limits `first` of an empty segment, moved behind `cut`.
fn behind(capacity: Capacity, cut: Cut, first: u64) -> u64 {
    let messages = (first >> MESSAGES_SHIFT) as usize;
    let bytes = (first & BYTES_MASK) as usize;
    pack_limits(capacity, cut, SwitchLimits { messages, bytes }) | first & SWAPS_MASK
}

#[inline]
pub(super) fn reaches(limits: u64, messages: usize, bytes: usize) -> bool {
    messages as u64 >= limits >> MESSAGES_SHIFT || bytes as u64 >= limits & BYTES_MASK
}
