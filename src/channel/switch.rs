//! Switches: when the active segment is sealed, for what cause, and which receivers are woken.

use std::sync::Arc;
use std::time::Duration;

use super::Core;
use super::strategy::limits::CutOffset;
use super::strategy::{ActiveSegment, SwitchStrategy};
use crate::queue::SwitchTimer;
use crate::queue::segment::slot_state::Phase;
use crate::sync::{Ordering, fence};
use crate::telemetry::stats::SwitchCause;

/// The shortest interval at which the background task asks a strategy.
const SHORTEST_CHECK: Duration = Duration::from_micros(100);

impl Core {
    /// Seals the active segment, for that cause, and wakes receivers.
    pub(super) fn switch_slot(&self, sequence: u64, cause: SwitchCause) {
        drop(self.begin_switch(sequence, cause));
    }

    /// A switch by a writer that is to write on: the switch takes until it drops what is returned.
    pub(super) fn begin_switch(&self, sequence: u64, cause: SwitchCause) -> Option<SwitchTimer<'_>> {
        let decided_at = self.queue.clock().nanos();
        let sealed = self.queue.seal(sequence, cause)?;
        self.wake_receivers(sealed.receivers);
        let switched = sealed.switched?;
        let timer = self.queue.switch_timer(decided_at);
        self.events.switched(switched);
        Some(timer)
    }

    /// Wakes up to `at_most` waiting receivers, and has the timer look after those who were passed over.
    fn wake_receivers(&self, at_most: usize) {
        if self.receivers_waiting().wake(at_most) > at_most {
            self.background.watch_waiters();
        }
    }

    /// Messages came that nobody may have been told of: whoever waits gets the first, otherwise it is the timer's.
    pub(super) fn wake_one_or_arm_timer(&self) {
        match self.receivers_waiting().wake(1) {
            0 if self.is_timed() => self.background.watch_unread(),
            0 | 1 => {}
            _ => self.background.watch_waiters(),
        }
    }

    /// Seals what is in the active segment.
    pub(crate) fn switch(&self) {
        self.switch_slot(self.queue.ring.active(), SwitchCause::Requested);
    }

    /// Seals it for a sink that is flushed, unless receivers have a backlog and may cut it themselves when they get there:
    /// small messages that are each flushed would fill the channel.
    pub(crate) fn flush(&self) {
        if !(self.queue.on_demand() && self.queue.is_backlogged()) {
            self.switch();
        }
    }

    /// Switches the slot at `sequence` if it is full or the strategy says so.
    ///
    /// False if there were messages to switch, and no reason was found.
    pub(super) fn consider_switch(&self, sequence: u64) -> bool {
        let state = self.queue.ring.slot(sequence).load();
        if state.is_open() && !state.has_room(0, self.queue.capacity()) {
            self.switch_slot(sequence, SwitchCause::Full);
            return true;
        }
        match self.strategy_wants_switch(sequence) {
            None => return true,
            Some(false) => return false,
            Some(true) => {}
        }
        if self.queue.is_backlogged() {
            // ORDERING: Relaxed with a SeqCst fence, against the one in `apply_effects`: either the receiver that
            // shortens the backlog sees the flag, or it is seen here that the backlog is short.
            self.deferral.deferred.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if self.queue.is_backlogged() {
                return false;
            }
        }
        self.switch_slot(sequence, SwitchCause::Strategy);
        true
    }

    /// Asks the strategy about the slot at `sequence`; if it does not want a switch, also from what fill on it wants to
    /// be asked again. Nothing if there is nothing to switch.
    fn strategy_wants_switch(&self, sequence: u64) -> Option<bool> {
        loop {
            // First: what others have written meanwhile must not be missing in the limits that take the slot of theirs.
            let limits = self.strategy.limits_to_replace();
            let (active, base) = self.active_segment_and_base(sequence)?;
            if self.strategy.should_switch(&active) {
                return Some(true);
            }
            if self.strategy.ask_limits(limits, sequence, base, &active) {
                return Some(false);
            }
        }
    }

    /// What a strategy sees: what came since the last switch. Nothing if that is nothing.
    pub(super) fn active_segment(&self, sequence: u64) -> Option<ActiveSegment> {
        self.active_segment_and_base(sequence).map(|(active, _)| active)
    }

    fn active_segment_and_base(&self, sequence: u64) -> Option<(ActiveSegment, CutOffset)> {
        let state = self.queue.ring.slot(sequence).load();
        if !state.is_open() || state.is_fully_consumed() {
            return None;
        }
        let cut = self.queue.last_cut(sequence);
        let payload_delta =
            self.queue.segment(state.segment()?).payload_delta().wrapping_sub(cut.payload_delta) as isize;
        let active = ActiveSegment {
            messages: state.messages().saturating_sub(cut.messages),
            // A writer between its reservation and its commit can make the sum come out low for a moment.
            bytes: state.bytes().saturating_sub(cut.bytes).saturating_add_signed(payload_delta),
            ..self.empty_segment()
        };
        Some((active, CutOffset { messages: cut.messages, bytes: cut.bytes as isize - payload_delta }))
    }

    /// An active segment without messages, at this time.
    fn empty_segment(&self) -> ActiveSegment {
        ActiveSegment { elapsed: self.queue.since_switch(), ..ActiveSegment::empty(self.queue.capacity()) }
    }

    /// The timer's look at the active segment: switches if it is time to, or tells when to look again.
    pub(crate) fn check_active(&self) -> Option<Duration> {
        if !self.is_timed() {
            return None;
        }
        if !self.consider_switch(self.queue.ring.active()) {
            // ORDERING: Relaxed: a figure.
            self.deferral.skipped.fetch_add(1, Ordering::Relaxed);
        }
        // ORDERING: Relaxed: if it is put off, whoever lowers the flag looks again, and raises the reason after that.
        // It may also be raised though the switch was made after all: then nobody has read since, and whoever does
        // lowers it.
        if self.deferral.deferred.load(Ordering::Relaxed) {
            return None;
        }
        self.active_segment(self.queue.ring.active()).and_then(|active| self.next_check(&active))
    }

    /// Once the backlog is shorter: makes the switch that was put off, or has the timer look after what is there.
    #[cold]
    pub(super) fn resume_switching(&self) {
        self.consider_switch(self.queue.ring.active());
        if self.is_timed() && self.active_segment(self.queue.ring.active()).is_some() {
            self.background.watch_unread();
        }
    }

    /// When the timer would look at messages that came now.
    pub(crate) fn first_check(&self) -> Option<Duration> {
        self.next_check(&self.empty_segment())
    }

    fn next_check(&self, active: &ActiveSegment) -> Option<Duration> {
        self.strategy.next_check(active).map(|delay| delay.max(SHORTEST_CHECK))
    }

    /// Whether somebody waits for what is there behind somebody who was woken. It may be that the one who was woken
    /// does not poll its future any more.
    pub(crate) fn has_stuck_waiters(&self) -> bool {
        self.has_stuck_receivers() || self.has_stuck_senders()
    }

    pub(super) fn has_stuck_receivers(&self) -> bool {
        self.receivers_waiting().waiting() > 1
            && (self.queue.ring.backlog() > 0 || self.lock_head().left(&self.queue) > 0)
    }

    pub(super) fn has_stuck_senders(&self) -> bool {
        self.queue.pool.room_waiters.waiting() > 1 && self.has_room()
    }

    pub(crate) fn wake_stuck_waiters(&self) {
        // ORDERING: SeqCst fence behind `BackoffFlag::set`, against the one in front of `reset`. The one in `wake` would
        // be too late: if nobody is seen passed over, it is not reached.
        fence(Ordering::SeqCst);
        if self.has_stuck_receivers() {
            self.receivers_waiting().wake(usize::MAX);
        }
        if self.has_stuck_senders() {
            self.queue.pool.room_waiters.wake(usize::MAX);
        }
    }

    /// Replaces the strategy.
    pub(crate) fn set_strategy(&self, strategy: Box<dyn SwitchStrategy>) {
        let old = self.strategy.swap(Arc::from(strategy));
        self.strategy.drop_swapped(old);
        let sequence = self.publish_strategy();
        self.consider_switch(sequence);
        if self.is_timed() && self.active_segment(sequence).is_some() {
            self.background.watch_unread();
        }
        // The background task may sleep for as long as the old strategy asked for.
        self.background.signal().notify();
    }

    /// Returns the sequence of the active ring slot. A sender that reserves in it later sees the new strategy.
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
