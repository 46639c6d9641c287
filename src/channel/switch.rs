//! Switching: who seals the active segment, when, and who is told.

use std::time::Duration;

use super::Core;
use super::limits::Base;
use crate::events::Switched;
use crate::head::Mark;
use crate::segment::state::{Capacity, State};
use crate::strategy::ActiveSegment;
use crate::sync::{Ordering, fence};

/// How often the timer asks a strategy at most.
const SHORTEST_CHECK: Duration = Duration::from_micros(100);

/// Why a switch was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SwitchCause {
    Full,
    Strategy,
    OnDemand,
    Requested,
    Close,
}

/// How far a channel has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    written: Mark,
    read: Mark,
}

/// What sealing came to.
struct SealOutcome {
    /// There was something to read that was not cut off before.
    switched: Option<Switched>,
    /// For how many receivers there is something to do.
    receivers: usize,
}

/// A switch that was made, for as long as whoever made it is not done.
pub(super) struct Underway<'a> {
    core: &'a Core,
    /// When it was decided, by the clock.
    decided: u64,
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        self.core.switching.latency.record(self.core.nanos_since(self.decided));
    }
}

impl Core {
    /// Seals the place at `sequence` if it is open and not empty.
    ///
    /// A segment that holds nothing but what a receiver has cut off counts as empty: it is sealed only if it is full, or
    /// the last one, and that is not a switch.
    fn seal(&self, sequence: u64, cause: SwitchCause) -> Option<SealOutcome> {
        let empty_too = matches!(cause, SwitchCause::Full | SwitchCause::Close);
        let state = self.pending.place(sequence).seal(|seen| empty_too || !seen.is_cut())?;
        self.pending.advance(sequence);
        if state.is_cut() {
            // A receiver that sleeps for more has to move on to the next segment.
            return Some(SealOutcome { switched: None, receivers: 1 });
        }
        self.note_switch(cause, state);
        let messages = state.messages().saturating_sub(self.switching.cut.get(sequence).messages);
        Some(SealOutcome {
            switched: Some(Switched { cause, sequence, messages }),
            receivers: messages.max(1),
        })
    }

    /// A switch by the receiver at the head, who has taken all there was before: what is in the active segment by
    /// now is what a sealed one would hold, and the segment goes on behind it. Returns Open, or Sealed if somebody
    /// else has switched meanwhile.
    pub(crate) fn cut(&self, sequence: u64) -> State {
        let place = self.pending.place(sequence);
        if let Some(number) = place.load().segment() {
            self.switching.cut.prepare(self.pool.segment(number).extra_bytes());
        }
        let state = place.cut();
        if state.is_open() {
            self.note_switch(SwitchCause::OnDemand, state);
        }
        state
    }

    fn note_switch(&self, cause: SwitchCause, state: State) {
        let now = self.clock.nanos();
        if let Some(segment) = state.segment() {
            self.pool.segment(segment).set_sealed_at(now);
        }
        // ORDERING: Relaxed: a time that moves by whole switches, and figures.
        self.switching.switched_at.store(now, Ordering::Relaxed);
        self.switching.switches[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Seals the active segment, for that cause, and wakes receivers.
    pub(super) fn switch_place(&self, sequence: u64, cause: SwitchCause) {
        drop(self.begin_switch(sequence, cause));
    }

    /// A switch by somebody in a turn at the head, where nobody is to be woken; returns what is to be told of after it.
    pub(crate) fn switch_in_turn(&self, sequence: u64, cause: SwitchCause) -> Option<Switched> {
        let decided = self.clock.nanos();
        let switched = self.seal(sequence, cause)?.switched?;
        drop(Underway { core: self, decided });
        Some(switched)
    }

    /// A switch by a writer that is to write on: the switch takes until it drops what is returned.
    pub(super) fn begin_switch(&self, sequence: u64, cause: SwitchCause) -> Option<Underway<'_>> {
        let decided = self.clock.nanos();
        let sealed = self.seal(sequence, cause)?;
        self.wake_readers(sealed.receivers);
        let switched = sealed.switched?;
        let underway = Underway { core: self, decided };
        self.events.switched(switched);
        Some(underway)
    }

    /// Wakes up to `at_most` waiting receivers, and has the timer look after those who were passed over.
    fn wake_readers(&self, at_most: usize) {
        if self.readers().wake(at_most) > at_most {
            self.timer.watch_waiters();
        }
    }

    /// Messages came that nobody may have been told of: whoever waits gets the first, otherwise it is the timer's.
    pub(super) fn announce(&self) {
        match self.readers().wake(1) {
            0 if self.is_timed() => self.timer.watch_unread(),
            0 | 1 => {}
            _ => self.timer.watch_waiters(),
        }
    }

    /// Seals what is in the active segment.
    pub(crate) fn switch(&self) {
        self.switch_place(self.pending.active(), SwitchCause::Requested);
    }

    /// Seals it for a sink that is flushed, unless receivers have a backlog and may cut it themselves when they get there:
    /// small messages that are each flushed would fill the channel.
    pub(crate) fn flush(&self) {
        if !(self.on_demand && self.is_backlogged()) {
            self.switch();
        }
    }

    /// Switches the place at `sequence` if it is full or the strategy says so.
    ///
    /// False if there were messages to switch, and no reason was found.
    pub(super) fn consider_switch(&self, sequence: u64) -> bool {
        let state = self.pending.place(sequence).load();
        if state.is_open() && !state.has_room(0, self.capacity) {
            self.switch_place(sequence, SwitchCause::Full);
            return true;
        }
        match self.strategy_wants_switch(sequence) {
            None => return true,
            Some(false) => return false,
            Some(true) => {}
        }
        if self.is_backlogged() {
            // ORDERING: Relaxed with a SeqCst fence, against the one in `settle`: either the receiver that
            // shortens the backlog sees the flag, or it is seen here that the backlog is short.
            self.switching.deferred.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if self.is_backlogged() {
                return false;
            }
        }
        self.switch_place(sequence, SwitchCause::Strategy);
        true
    }

    /// Asks the strategy about the place at `sequence`; if it does not want a switch, also from what fill on it wants to
    /// be asked again. Nothing if there is nothing to switch.
    fn strategy_wants_switch(&self, sequence: u64) -> Option<bool> {
        loop {
            // First: what others have written meanwhile must not be missing in the limits that take the place of theirs.
            let limits = self.plan.limits_to_replace();
            let (active, base) = self.active_segment_and_base(sequence)?;
            if self.plan.should_switch(&active) {
                return Some(true);
            }
            if self.plan.ask_limits(limits, sequence, base, &active) {
                return Some(false);
            }
        }
    }

    /// Sealed segments take three quarters of the memory: sealing another before it is full would serve no
    /// receiver sooner, and let a few messages take the place of many.
    pub(super) fn is_backlogged(&self) -> bool {
        let segments = (self.pool.max_bytes() / self.pool.footprint()) as u64;
        self.pending.backlog() * 4 >= segments * 3
    }

    /// What a strategy sees: what came since the last switch. Nothing if that is nothing.
    pub(super) fn active_segment(&self, sequence: u64) -> Option<ActiveSegment> {
        self.active_segment_and_base(sequence).map(|(active, _)| active)
    }

    fn active_segment_and_base(&self, sequence: u64) -> Option<(ActiveSegment, Base)> {
        let state = self.pending.place(sequence).load();
        if !state.is_open() || state.is_cut() {
            return None;
        }
        let cut = self.switching.cut.get(sequence);
        let extra_bytes =
            self.pool.segment(state.segment()?).extra_bytes().wrapping_sub(cut.extra_bytes) as isize;
        let active = ActiveSegment {
            messages: state.messages().saturating_sub(cut.messages),
            // A writer between its reservation and its commit can make the sum come out low for a moment.
            bytes: state.bytes().saturating_sub(cut.bytes).saturating_add_signed(extra_bytes),
            ..self.empty_segment()
        };
        Some((active, Base { messages: cut.messages, bytes: cut.bytes as isize - extra_bytes }))
    }

    /// An active segment without messages, at this time.
    fn empty_segment(&self) -> ActiveSegment {
        // ORDERING: Relaxed: see `note_switch`.
        let passed = self.clock.nanos().saturating_sub(self.switching.switched_at.load(Ordering::Relaxed));
        ActiveSegment { elapsed: Duration::from_nanos(passed), ..empty(self.capacity) }
    }

    /// The timer's look at the active segment: switches if it is time to, or tells when to look again.
    pub(crate) fn look_at_active(&self) -> Option<Duration> {
        if !self.is_timed() {
            return None;
        }
        if !self.consider_switch(self.pending.active()) {
            // ORDERING: Relaxed: a figure.
            self.switching.skipped.fetch_add(1, Ordering::Relaxed);
        }
        // ORDERING: Relaxed: if it is put off, whoever lowers the flag looks again, and raises the reason after that.
        // It may also be raised though the switch was made after all: then nobody has read since, and whoever does
        // lowers it.
        if self.switching.deferred.load(Ordering::Relaxed) {
            return None;
        }
        self.active_segment(self.pending.active()).and_then(|active| self.next_check(&active))
    }

    /// Once the backlog is shorter: makes the switch that was put off, or has the timer look after what is there.
    #[cold]
    pub(super) fn resume_switching(&self) {
        self.consider_switch(self.pending.active());
        if self.is_timed() && self.active_segment(self.pending.active()).is_some() {
            self.timer.watch_unread();
        }
    }

    /// When the timer would look at messages that came now.
    pub(crate) fn first_check(&self) -> Option<Duration> {
        self.next_check(&self.empty_segment())
    }

    fn next_check(&self, active: &ActiveSegment) -> Option<Duration> {
        self.plan.next_check(active).map(|delay| delay.max(SHORTEST_CHECK))
    }

    /// Whether somebody waits for what is there behind somebody who was woken. It may be that the one who was woken
    /// does not poll its future any more.
    pub(crate) fn is_anybody_passed_over(&self) -> bool {
        self.are_readers_passed_over() || self.are_senders_passed_over()
    }

    pub(super) fn are_readers_passed_over(&self) -> bool {
        self.readers().waiting() > 1 && (self.pending.backlog() > 0 || self.lock_head().left(self) > 0)
    }

    pub(super) fn are_senders_passed_over(&self) -> bool {
        self.pool.space.waiting() > 1 && self.has_room()
    }

    /// How far writers and receivers have come.
    pub(crate) fn progress(&self) -> Progress {
        let written = self.mark();
        Progress { written, read: self.lock_head().position() }
    }

    pub(crate) fn wake_passed_over(&self) {
        // ORDERING: SeqCst fence behind `Resignation::set`, against the one in front of `take_back`. The one in `wake` would
        // be too late: if nobody is seen passed over, it is not reached.
        fence(Ordering::SeqCst);
        if self.are_readers_passed_over() {
            self.readers().wake(usize::MAX);
        }
        if self.are_senders_passed_over() {
            self.pool.space.wake(usize::MAX);
        }
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
