//! The strategy of a channel, and what it comes to: limits that writers compare, and whether time matters.
//!
//! ```text
//!  63..60   59..49       48         47..28     27..0
//! ┌───────┬──────────┬────────────┬──────────┬─────────┐
//! │ swaps │ sequence │counts bytes│ messages │  bytes  │   from what fill on writers ask the strategy
//! └───────┴──────────┴────────────┴──────────┴─────────┘
//! ```
//!
//! The limits hold for the segment whose sequence (low 11 bits) they bear. The first message of the next one sets
//! those that the strategy named for a segment without messages; until then any message asks anew. Whoever sets them
//! exchanges them for what they were before it asked, and *swaps* counts how often the strategy was swapped, so that
//! what an old strategy said does not take the place of what a newer one says.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Core;
use super::switch::empty;
use crate::segment::state::{Capacity, Kind};
use crate::strategy::{ActiveSegment, SwitchLimits, SwitchStrategy};
use crate::sync::{AtomicBool, AtomicU64, Ordering, RwLock};
use crate::user_code::UserCode;

const BYTES_BITS: u32 = 28;
const MESSAGES_SHIFT: u32 = BYTES_BITS;
const COUNTS_BYTES: u64 = 1 << 48;
const SEQUENCE_SHIFT: u32 = 49;
const SWAPS_SHIFT: u32 = 60;
const BYTES_MASK: u64 = (1 << BYTES_BITS) - 1;
const MESSAGES_MASK: u64 = (1 << 20) - 1;
const SEQUENCE_MASK: u64 = (1 << (SWAPS_SHIFT - SEQUENCE_SHIFT)) - 1;
const SWAPS_MASK: u64 = 0b1111 << SWAPS_SHIFT;

/// How full the segment at a sequence is with a message that was just written.
pub(super) struct Fill {
    sequence: u64,
    messages: usize,
    bytes: usize,
}

impl Fill {
    #[inline(always)]
    pub(super) fn with(sequence: u64, (messages, bytes): (usize, usize)) -> Self {
        Self { sequence, messages, bytes }
    }
}

/// What an active segment is filled to where a strategy begins to count.
#[derive(Clone, Copy, Default)]
pub(super) struct Base {
    /// Messages before the last cut.
    pub(super) messages: usize,
    /// Reserved bytes before it, less what the messages behind it have more bytes than they reserved: a payload that
    /// travels by reference takes less room in the segment than it has bytes.
    pub(super) bytes: isize,
}

pub(super) struct Plan {
    capacity: Capacity,
    /// Written by whoever asks the strategy, read by writers for every message.
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
            // Of no segment that there will be soon, so that the first message sets those of its own.
            limits: AtomicU64::new((first.wrapping_sub(1) & SEQUENCE_MASK) << SEQUENCE_SHIFT),
            first_limits: AtomicU64::new(limits),
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
        (attached && limits & COUNTS_BYTES != 0)
            || !are_limits_of(fill.sequence, limits)
            || fill.messages as u64 >= limits >> MESSAGES_SHIFT & MESSAGES_MASK
            || fill.bytes as u64 >= limits & BYTES_MASK
    }

    #[inline(always)]
    fn load_limits(&self) -> u64 {
        // ORDERING: Relaxed: the limits only decide when the strategy is asked.
        self.limits.load(Ordering::Relaxed)
    }

    /// The limits for somebody who is about to look at the active segment, and to ask for new ones.
    pub(super) fn limits_to_replace(&self) -> u64 {
        // ORDERING: Acquire pairs with the Release in `exchange`: whoever replaces limits has seen of the segment what
        // they were made of.
        self.limits.load(Ordering::Acquire)
    }

    /// Asks the strategy from what fill on it wants to be asked next; `seen` are the limits from before the active
    /// segment was looked at. False if they have changed meanwhile, maybe by somebody who has seen less of it.
    pub(super) fn ask_limits(&self, seen: u64, sequence: u64, base: Base, active: &ActiveSegment) -> bool {
        let limits = pack(self.capacity, base, ask(&self.strategies, &*self.strategy(), active));
        self.exchange(seen, sequence, limits)
    }

    /// After the first message of the segment at `sequence`: the limits right after a switch, unless somebody behind it
    /// was quicker, who knows of more.
    pub(super) fn begin(&self, sequence: u64) {
        // ORDERING: Relaxed: `swap` changes both under its lock; if it is halfway, they bear different counts of swaps,
        // and whoever writes next asks.
        let (first, seen) = (self.first_limits.load(Ordering::Relaxed), self.load_limits());
        if (first ^ seen) & SWAPS_MASK == 0 && !are_limits_of(sequence, seen) {
            self.exchange(seen, sequence, first);
        }
    }

    /// Sets limits for the segment at `sequence`; false if they are no longer those that were `seen`.
    fn exchange(&self, seen: u64, sequence: u64, limits: u64) -> bool {
        let fill = limits & (COUNTS_BYTES | MESSAGES_MASK << MESSAGES_SHIFT | BYTES_MASK);
        let new = seen & SWAPS_MASK | (sequence & SEQUENCE_MASK) << SEQUENCE_SHIFT | fill;
        // ORDERING: Release, see `limits_to_replace`.
        self.limits.compare_exchange(seen, new, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// Puts another strategy in place; returns the old one.
    fn swap(&self, strategy: Arc<dyn SwitchStrategy>) -> Arc<dyn SwitchStrategy> {
        let (first, timed) = first_answers(&self.strategies, &*strategy, self.capacity);
        let mut current = self.strategy.write().unwrap_or_else(PoisonError::into_inner);
        let swaps = (self.load_limits() & SWAPS_MASK).wrapping_add(1 << SWAPS_SHIFT);
        // ORDERING: Relaxed: see `Core::is_timed`, and `begin`.
        self.timed.store(timed, Ordering::Relaxed);
        self.first_limits.store(swaps | first, Ordering::Relaxed);
        // To be asked at the next message. Under the lock: who sees these limits gets the new strategy.
        self.limits.store(swaps, Ordering::Relaxed);
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

/// Whether limits bear this sequence.
#[inline(always)]
fn are_limits_of(sequence: u64, limits: u64) -> bool {
    (limits >> SEQUENCE_SHIFT ^ sequence) & SEQUENCE_MASK == 0
}

/// The limits right after a switch, and whether time alone can make the strategy switch.
fn first_answers(code: &UserCode, strategy: &dyn SwitchStrategy, capacity: Capacity) -> (u64, bool) {
    let limits = ask(code, strategy, &empty(capacity));
    let next_check = code.call(|| strategy.next_check(&empty(capacity))).flatten();
    (pack(capacity, Base::default(), limits), next_check.is_some())
}

/// From what fill on a strategy wants to be asked.
fn ask(code: &UserCode, strategy: &dyn SwitchStrategy, active: &ActiveSegment) -> SwitchLimits {
    code.call(|| strategy.limits(active)).unwrap_or(SwitchLimits::NEVER)
}

/// Limits of what comes on top of `base`, as writers compare them with what a segment is filled to.
fn pack(capacity: Capacity, base: Base, limits: SwitchLimits) -> u64 {
    let messages = base.messages.saturating_add(limits.messages).min(capacity.messages);
    let bytes = limits.bytes.min(isize::MAX as usize) as isize;
    let bytes = base.bytes.saturating_add(bytes).clamp(0, capacity.bytes as isize);
    let counts_bytes = if limits.bytes < SwitchLimits::NEVER.bytes { COUNTS_BYTES } else { 0 };
    counts_bytes | (messages as u64) << MESSAGES_SHIFT | bytes as u64
}
