//! Switches: when the active segment is sealed, for what cause, and which receivers are woken.
//!
//! A switch is a seal or a cut. Receivers cut under the lock of the head; every other switch is a seal:
//!
//! | thread | when it switches | cause |
//! |---|---|---|
//! | sender | the active segment has no room for its message, or holds its maximum of messages with it | Full |
//! | sender | its message reaches a limit, and the strategy wants a switch | Strategy |
//! | sender | there is no memory for its external payload (not under `DropOldest`) | Full |
//! | any user thread | it asks for room, as a sink that waits does, and the active segment has none | Full |
//! | any user thread | a waiting sender sleeps, receivers may not cut, and nothing else is sealed | Full |
//! | sender under `DropOldest` | only external payloads in the active segment can make room for its own | Full |
//! | background task | time passes, and the strategy wants a switch | Strategy |
//! | background task | the channel is idle, and all messages of the segment were taken | not counted as a switch |
//! | receiver | a sender sleeps, and all messages of the segment were taken | not counted as a switch |
//! | any user thread | it calls `switch` or `drained`, or flushes a sink | Requested |
//! | any user thread | it calls `set_strategy`, and the new strategy wants a switch | Strategy |
//! | thread that closes the channel | always | Close |
//! | thread that retires a segment | a switch was deferred, and the strategy still wants it | Strategy |
//! | thread that retires a segment | a flush was deferred | Requested |
//! | receiver | it has read everything sealed, and cuts | OnDemand |
//!
//! A thread that asks the strategy seals a full segment first, without asking; the cause is then Full.
//!
//! A switch that the strategy wants for the fill of the segment is deferred while sealed segments take three quarters of the
//! memory. One that it wants for the time that has passed, and that of a flush, is deferred from a quarter on. It would serve
//! no receiver sooner, and nearly empty segments would use up `max_bytes`. The thread that shortens the backlog makes it.

use std::sync::Arc;
use std::time::Duration;

use super::Core;
use super::strategy::limits::CutOffset;
use super::strategy::{ActiveSegment, SwitchStrategy};
use crate::queue::SwitchTimer;
use crate::queue::segment::slot_state::{Phase, SlotState};
use crate::sync::{Ordering, fence};
use crate::telemetry::events::Switched;
use crate::telemetry::stats::SwitchCause;

/// The shortest interval at which the background task asks a strategy.
const SHORTEST_CHECK: Duration = Duration::from_micros(100);
/// The quarters of the memory that sealed segments take when a switch for the fill of a segment is deferred.
const MOST: u64 = 3;
/// The same for a switch of a segment with any number of messages.
const SOME: u64 = 1;

/// What the strategy says about the active segment.
enum Answer {
    /// It was not asked: there are no messages since the last switch.
    NoMessages,
    Keep,
    Switch(ActiveSegment),
}

/// What was done with the active segment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// It was sealed, or has no messages since the last switch.
    Done,
    /// The strategy wants no switch yet.
    Kept,
    /// The thread that shortens the backlog asks the strategy again.
    Deferred,
}

impl Core {
    /// Seals the segment at `sequence` and wakes receivers.
    pub(super) fn switch_slot(&self, sequence: u64, cause: SwitchCause) {
        drop(self.begin_switch(sequence, cause));
    }

    /// Seals the segment at `sequence` and wakes receivers, for a sender that goes on to reserve in the next one.
    ///
    /// The duration of the switch is measured until the returned timer is dropped.
    #[cold]
    pub(super) fn begin_switch(&self, sequence: u64, cause: SwitchCause) -> Option<SwitchTimer<'_>> {
        let (switched, timer) = self.seal(sequence, cause)?;
        self.events.switched(switched);
        Some(timer)
    }

    /// Seals the segment at `sequence` and wakes receivers, for a caller that emits the event.
    pub(super) fn seal(&self, sequence: u64, cause: SwitchCause) -> Option<(Switched, SwitchTimer<'_>)> {
        let decided_at = self.queue.clock().nanos();
        let sealed = self.queue.seal(sequence, cause)?;
        self.receivers_waiting().wake();
        sealed.switched.map(|switched| (switched, self.queue.switch_timer(decided_at)))
    }

    /// Seals the active segment, as the user asked for it.
    pub(crate) fn switch(&self) {
        self.switch_slot(self.queue.ring.active(), SwitchCause::Requested);
    }

    /// Seals the active segment for a flush, or defers that while there is a backlog.
    ///
    /// If each flush sealed it, small messages, each followed by a flush, would fill the channel with nearly empty segments.
    /// Receivers that may cut do so once they have read the backlog; for others the thread that shortens it flushes.
    pub(crate) fn flush(&self) {
        if self.queue.is_backlogged(SOME) {
            if self.queue.on_demand() {
                return;
            }
            // ORDERING: Release: the thread that clears the flag seals what was reserved before. An exchange, so that it
            // acquires that from each thread that has set the flag. The SeqCst fence pairs with the one before the flag is
            // read, as in `consider_switch`. A flag that stays set although this thread seals causes one more flush.
            self.deferral.flush.swap(true, Ordering::Release);
            fence(Ordering::SeqCst);
            if self.queue.is_backlogged(SOME) {
                return;
            }
        }
        self.switch();
    }

    /// Makes what was deferred, for a thread that has passed a SeqCst fence after it shortened the backlog.
    #[inline]
    pub(super) fn resume_deferred(&self) {
        // ORDERING: Relaxed loads, after the SeqCst fence of the caller, which pairs with the ones in `consider_switch` and
        // `flush`: either this thread sees the flag, or that one sees the shorter backlog. Acquire: see `flush`.
        if self.deferral.flush.load(Ordering::Relaxed) && self.deferral.flush.swap(false, Ordering::Acquire) {
            self.flush();
        }
        if self.deferral.deferred.load(Ordering::Relaxed)
            && self.deferral.deferred.swap(false, Ordering::Relaxed)
        {
            self.resume_switching();
        }
    }

    /// Seals the segment at `sequence` if it holds its maximum of messages or the strategy wants a switch.
    ///
    /// A segment whose bytes are used up is sealed by the next message that does not fit.
    pub(super) fn consider_switch(&self, sequence: u64) -> Decision {
        let state = self.queue.ring.slot(sequence).load();
        if state.is_open() && !state.has_room(0, self.queue.capacities()) {
            self.switch_slot(sequence, SwitchCause::Full);
            return Decision::Done;
        }
        let active = match self.ask_strategy(sequence) {
            Answer::NoMessages => return Decision::Done,
            Answer::Keep => return Decision::Kept,
            Answer::Switch(active) => active,
        };
        if self.queue.is_backlogged(SOME) {
            let at_once = ActiveSegment { age: Duration::ZERO, elapsed: Duration::ZERO, ..active };
            let quarters = if self.strategy.should_switch(&at_once) { MOST } else { SOME };
            if self.queue.is_backlogged(quarters) {
                // ORDERING: Relaxed, followed by a SeqCst fence: pairs with the fence in `apply_effects`: either the receiver
                // that shortens the backlog sees the flag, or this thread sees the shorter backlog. In the latter case the
                // flag may stay set, and the next thread that shortens a backlog asks the strategy once more.
                self.deferral.deferred.store(true, Ordering::Relaxed);
                fence(Ordering::SeqCst);
                if self.queue.is_backlogged(quarters) {
                    return Decision::Deferred;
                }
            }
        }
        self.switch_slot(sequence, SwitchCause::Strategy);
        Decision::Done
    }

    /// Asks the strategy whether to switch the segment at `sequence`, and if not, for its next limits.
    fn ask_strategy(&self, sequence: u64) -> Answer {
        loop {
            // Loaded before the segment: limits that another thread sets meanwhile may count later messages, and must not
            // be replaced.
            let limits = self.strategy.limits_to_replace();
            let Some((active, offset)) = self.active_segment_and_offset(sequence) else {
                return Answer::NoMessages;
            };
            if self.strategy.should_switch(&active) {
                return Answer::Switch(active);
            }
            if self.strategy.refresh_limits(limits, sequence, offset, &active) {
                return Answer::Keep;
            }
        }
    }

    /// Returns what the strategy sees: the messages since the last switch; `None` if there are none.
    pub(super) fn active_segment(&self, sequence: u64) -> Option<ActiveSegment> {
        self.active_segment_and_offset(sequence).map(|(active, _)| active)
    }

    /// Returns what the strategy sees, and where in the segment it begins.
    fn active_segment_and_offset(&self, sequence: u64) -> Option<(ActiveSegment, CutOffset)> {
        let (number, state, delta) = self.unread_in(sequence)?;
        let cut = self.queue.last_cut(sequence);
        let payload_delta = delta.wrapping_sub(cut.payload_delta) as isize;
        let active = ActiveSegment {
            messages: state.messages().saturating_sub(cut.messages),
            // The sum may be too low for a moment, while a sender has reserved and not committed.
            bytes: state.bytes().saturating_sub(cut.bytes).saturating_add_signed(payload_delta),
            age: self.queue.since_first_written(number),
            ..self.empty_segment()
        };
        Some((active, CutOffset { messages: cut.messages, bytes: cut.bytes as isize - payload_delta }))
    }

    /// Returns the segment at `sequence`, its state, and its payload delta, if it is open and has unread messages.
    ///
    /// Locks the head if entries have to be read: then the segment is not retired meanwhile.
    fn unread_in(&self, sequence: u64) -> Option<(usize, SlotState, u64)> {
        let load = || {
            let state = self.queue.ring.slot(sequence).load();
            let has_unread = state.is_open() && !state.is_fully_consumed();
            has_unread.then(|| state.segment().map(|number| (number, state))).flatten()
        };
        let (number, state) = load()?;
        let segment = self.queue.segment(number);
        if !segment.has_gaps() {
            return Some((number, state, 0_u64.wrapping_sub(segment.unused_bytes())));
        }
        let _head = self.lock_head();
        let (number, state) = load()?;
        let mut no_limit = usize::MAX;
        let delta = self.queue.segment(number).payload_delta(state.messages(), &mut no_limit);
        Some((number, state, delta))
    }

    /// Returns what the strategy would see now of a segment without messages.
    fn empty_segment(&self) -> ActiveSegment {
        ActiveSegment { elapsed: self.queue.since_switch(), ..ActiveSegment::empty(self.queue.capacity()) }
    }

    /// Checks the active segment for the background task; returns when to check again.
    pub(crate) fn check_active(&self) -> Option<Duration> {
        if !self.is_timed() {
            return None;
        }
        let decision = self.consider_switch(self.queue.ring.active());
        if decision != Decision::Done {
            // ORDERING: Relaxed: statistic only.
            self.deferral.skipped.fetch_add(1, Ordering::Relaxed);
        }
        // The flag alone says too little: it may still be set for a segment that another thread has sealed meanwhile.
        if decision == Decision::Deferred {
            return None;
        }
        self.active_segment(self.queue.ring.active()).and_then(|active| self.next_check(&active))
    }

    /// Makes the switch that is due by now if there is no background task yet, which would have made it.
    pub(super) fn make_overdue_switch(&self) {
        if !self.background.is_started() && self.is_timed() {
            self.consider_switch(self.queue.ring.active());
        }
    }

    /// Makes a deferred switch once the backlog is shorter, or has the background task watch what is unread.
    #[cold]
    fn resume_switching(&self) {
        self.consider_switch(self.queue.ring.active());
        if self.is_timed() && self.active_segment(self.queue.ring.active()).is_some() {
            self.watch_unread();
        }
    }

    /// Returns when the background task would check messages that are sent now.
    pub(crate) fn first_check(&self) -> Option<Duration> {
        self.next_check(&self.empty_segment())
    }

    fn next_check(&self, active: &ActiveSegment) -> Option<Duration> {
        self.strategy.next_check(active).map(|delay| delay.max(SHORTEST_CHECK))
    }

    /// Replaces the strategy, and asks the new one about the active segment.
    pub(crate) fn set_strategy(&self, strategy: Box<dyn SwitchStrategy>) {
        let old = self.strategy.swap(Arc::from(strategy));
        self.strategy.drop_swapped(old);
        let sequence = self.publish_strategy();
        self.consider_switch(sequence);
        if self.is_timed() && self.active_segment(sequence).is_some() {
            self.watch_unread();
        }
        // The background task may sleep for as long as the old strategy asked for.
        self.notify_background();
    }

    /// Makes the new strategy visible to every later reservation; returns the sequence of the active ring slot.
    fn publish_strategy(&self) -> u64 {
        loop {
            let sequence = self.queue.ring.active();
            let state = self.queue.ring.slot(sequence).fence_rmw();
            match state.phase() {
                Phase::Sealed => self.queue.ring.advance(sequence),
                Phase::Ready if !state.is_ready_for(sequence) => {}
                Phase::Open | Phase::Ready | Phase::Closed => return sequence,
            }
        }
    }

    /// Whether the background task has to watch unread messages, for a caller that knows of one.
    pub(super) fn is_timed(&self) -> bool {
        self.strategy.is_timed()
    }
}
