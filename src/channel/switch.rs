//! Switching: who seals the active segment, when, and who is told.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::Core;
use crate::events::user_code_panicked;
use crate::segment::state::Capacity;
use crate::strategy::{ActiveSegment, SwitchLimits, SwitchStrategy};
use crate::sync::{Ordering, fence};

/// How often the timer asks a strategy at most.
const SHORTEST_CHECK: Duration = Duration::from_micros(100);

/// Why a switch was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    Full,
    Strategy,
    OnDemand,
    Requested,
    Close,
}

impl Core {
    /// Seals the place at `sequence` if it is open and not empty; returns how many messages became readable.
    pub(crate) fn seal(&self, sequence: u64, cause: Switch) -> Option<usize> {
        let state = self.pending.place(sequence).seal()?;
        self.pending.advance(sequence);
        let now = self.clock.nanos();
        if let Some(segment) = state.segment() {
            self.pool.segment(segment).set_sealed_at(now);
        }
        // ORDERING: Relaxed: a time that moves by whole switches, and figures.
        self.switched_at.store(now, Ordering::Relaxed);
        self.switches[cause as usize].fetch_add(1, Ordering::Relaxed);
        if self.load_limits() != self.first_limits {
            self.limits.store(self.first_limits, Ordering::Relaxed);
        }
        self.timer.start();
        Some(state.messages())
    }

    /// A whole switch, by anybody but a receiver in its turn.
    pub(super) fn switch_place(&self, sequence: u64, cause: Switch) {
        if let Some(messages) = self.seal(sequence, cause) {
            self.wake_readers(messages);
        }
    }

    /// Wakes up to `at_most` waiting receivers, and has the timer look after those who were passed over.
    pub(super) fn wake_readers(&self, at_most: usize) {
        self.readers.wake(at_most);
        if self.readers.waiting() > at_most {
            self.timer.arm();
        }
    }

    /// Seals what is in the active segment.
    pub(crate) fn switch(&self) {
        self.switch_place(self.pending.active(), Switch::Requested);
    }

    /// Switches the place at `sequence` if it is full or the strategy says so.
    pub(super) fn consider_switch(&self, sequence: u64) {
        let Some(active) = self.active_segment(sequence) else { return };
        if active.messages >= self.capacity.messages || active.bytes >= self.capacity.bytes {
            return self.switch_place(sequence, Switch::Full);
        }
        if contained(|| self.strategy.should_switch(&active)) != Some(true) {
            return self.lower_limits(&active);
        }
        if self.is_backlogged() {
            // ORDERING: Relaxed with a SeqCst fence, against the one in `settle`: either the receiver that
            // shortens the backlog sees the flag, or it is seen here that the backlog is short.
            self.deferred.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if self.is_backlogged() {
                return;
            }
        }
        self.switch_place(sequence, Switch::Strategy);
    }

    /// Sealed segments take three quarters of the memory: sealing another before it is full would serve no
    /// receiver sooner, and let a few messages take the place of many.
    pub(super) fn is_backlogged(&self) -> bool {
        let segments = (self.pool.max_bytes() / self.pool.footprint()) as u64;
        self.pending.backlog() * 4 >= segments * 3
    }

    /// What a strategy sees; nothing if there is nothing to switch.
    pub(super) fn active_segment(&self, sequence: u64) -> Option<ActiveSegment> {
        let state = self.pending.place(sequence).load();
        if !state.is_open() || state.messages() == 0 {
            return None;
        }
        let segment = self.pool.segment(state.segment()?);
        // ORDERING: Relaxed: see `seal`.
        let passed = self.clock.nanos().saturating_sub(self.switched_at.load(Ordering::Relaxed));
        Some(ActiveSegment {
            messages: state.messages(),
            // A writer between its reservation and its commit can make the sum come out low for a moment.
            bytes: segment.payload_bytes(state.bytes()).min(isize::MAX as u64) as usize,
            elapsed: Duration::from_nanos(passed),
            ..empty(self.capacity)
        })
    }

    /// The timer's look at the active segment: switches if it is time to, or tells when to look again.
    pub(crate) fn look_at_active(&self) -> Option<Duration> {
        if !self.timed {
            return None;
        }
        self.consider_switch(self.pending.active());
        let active = self.active_segment(self.pending.active())?;
        contained(|| self.strategy.next_check(&active)).flatten().map(|delay| delay.max(SHORTEST_CHECK))
    }

    /// Whether somebody waits for what is there behind somebody who was woken. It may be that the one who was woken
    /// does not poll its future any more.
    pub(crate) fn is_anybody_passed_over(&self) -> bool {
        self.are_readers_passed_over() || self.are_senders_passed_over()
    }

    pub(super) fn are_readers_passed_over(&self) -> bool {
        let in_active = || self.on_demand && self.active_segment(self.pending.active()).is_some();
        self.readers.waiting() > 1 && (self.pending.backlog() > 0 || in_active())
    }

    pub(super) fn are_senders_passed_over(&self) -> bool {
        self.pool.space.waiting() > 1 && self.has_room()
    }

    pub(crate) fn wake_passed_over(&self) {
        if self.are_readers_passed_over() {
            self.readers.wake(usize::MAX);
        }
        if self.are_senders_passed_over() {
            self.pool.space.wake(usize::MAX);
        }
    }

    /// Asks the strategy anew from what fill on it wants to be asked.
    pub(super) fn lower_limits(&self, active: &ActiveSegment) {
        // ORDERING: Relaxed: the limits only decide when the strategy is asked.
        self.limits.store(ask_limits(&*self.strategy, active), Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn load_limits(&self) -> u64 {
        // ORDERING: Relaxed: see `lower_limits`.
        self.limits.load(Ordering::Relaxed)
    }
}

/// An active segment without messages.
pub(super) fn empty(capacity: Capacity) -> ActiveSegment {
    ActiveSegment {
        messages: 0,
        bytes: 0,
        elapsed: Duration::ZERO,
        capacity_messages: capacity.messages,
        capacity_bytes: capacity.bytes,
    }
}

/// From what fill on a strategy wants to be asked, packed.
pub(super) fn ask_limits(strategy: &dyn SwitchStrategy, active: &ActiveSegment) -> u64 {
    let limits = contained(|| strategy.limits(active)).unwrap_or(SwitchLimits::NEVER);
    pack(limits.messages.min(active.capacity_messages), limits.bytes.min(active.capacity_bytes))
}

/// Runs user code; nothing if it panics.
pub(super) fn contained<R>(user: impl FnOnce() -> R) -> Option<R> {
    let result = catch_unwind(AssertUnwindSafe(user)).ok();
    if result.is_none() {
        user_code_panicked();
    }
    result
}

pub(super) fn pack(messages: usize, bytes: usize) -> u64 {
    (messages as u64) << 32 | bytes as u64
}

#[inline]
pub(super) fn reaches(limits: u64, messages: usize, bytes: usize) -> bool {
    messages as u64 >= limits >> 32 || bytes as u64 >= limits & u64::from(u32::MAX)
}
