//! Figures and idle memory, for the monitor and the timer.

use super::Core;
use super::reserve::Refusal;
use crate::queue::head::{Head, Position};
use crate::queue::segment::slot_state::{Phase, SlotState};
use crate::sync::{AtomicU64, Ordering};
use crate::telemetry::stats::{Drops, SendErrors, Stats, SwitchCause, Switches, Totals};

/// How far senders and receivers of a channel have come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    written: Position,
    read: Position,
}

/// Written by whoever gets an error, read for figures.
#[derive(Default)]
pub(super) struct Counters {
    full: AtomicU64,
    closed: AtomicU64,
    too_large: AtomicU64,
    timed_out: AtomicU64,
    read_timeouts: AtomicU64,
}

impl Counters {
    pub(super) fn send_errors(&self) -> SendErrors {
        // ORDERING: Relaxed: figures, here and below.
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SendErrors {
            full: count(&self.full),
            closed: count(&self.closed),
            too_large: count(&self.too_large),
            timed_out: count(&self.timed_out),
        }
    }

    pub(super) fn read_timeouts(&self) -> u64 {
        self.read_timeouts.load(Ordering::Relaxed)
    }
}

impl Core {
    /// A sender is told why its message was not accepted.
    #[cold]
    pub(crate) fn count_refusal(&self, refusal: Refusal) {
        let counter = match refusal {
            Refusal::Full => &self.counters.full,
            Refusal::Closed => &self.counters.closed,
            Refusal::TooLarge { .. } => &self.counters.too_large,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.arm_watchdog();
    }

    /// A sender is told that there was no room in time.
    #[cold]
    pub(crate) fn count_send_timeout(&self) {
        self.counters.timed_out.fetch_add(1, Ordering::Relaxed);
        self.arm_watchdog();
    }

    /// A receiver is told that nothing came in time.
    #[cold]
    pub(crate) fn count_recv_timeout(&self) {
        self.counters.read_timeouts.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a rest would let memory go.
    pub(crate) fn has_idle_memory(&self) -> bool {
        let holds = |head: &Head| head.has_arena() || head.has_drained_active(&self.queue);
        self.queue.pool.pooled_segments() > 0 || holds(&self.lock_head())
    }

    pub(crate) fn release_idle_memory(&self) {
        self.with_head(|head, effects| {
            head.drop_arena();
            head.release_drained_active(&self.queue, effects);
        });
        self.queue.pool.trim(0);
    }

    /// The sequence of the message at the head, if its writer has reserved it and has not committed it.
    #[cfg_attr(any(not(feature = "tracing"), turbostream_loom), allow(dead_code, reason = "for events"))]
    pub(crate) fn stalled_message(&self) -> Option<u64> {
        self.lock_head().stalled_message()
    }

    /// Messages and bytes that were accepted and neither handed out nor dropped.
    pub(crate) fn queued(&self) -> (u64, u64) {
        let mut stats = Stats::default();
        self.count_queue(&mut stats, |_, _| true);
        (stats.queued_messages, stats.queued_bytes)
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.counts();
        self.count_queue(&mut stats, |_, _| true);
        stats
    }

    /// Figures for reports, which cannot take back what they told: messages that may still turn out shorter than they are
    /// counted, or none, do not count as accepted yet. At rest the same as `stats`.
    pub(crate) fn settled_stats(&self) -> Stats {
        let mut stats = self.counts();
        let unsettled = self.count_queue(&mut stats, |number, state| self.is_settled(number, state));
        stats.sent_messages -= unsettled.messages;
        stats.sent_bytes -= unsettled.bytes;
        stats
    }

    /// What is counted one by one.
    fn counts(&self) -> Stats {
        // ORDERING: Relaxed: figures, exact at rest.
        let count = |cause| self.queue.switches_for(cause);
        let on_demand = count(SwitchCause::OnDemand);
        Stats {
            switches: Switches {
                full: count(SwitchCause::Full),
                strategy: count(SwitchCause::Strategy),
                on_demand,
                requested: count(SwitchCause::Requested),
                close: count(SwitchCause::Close),
            },
            max_bytes: self.queue.pool.max_bytes(),
            waiting_senders: self.queue.pool.room_waiters.waiting(),
            waiting_receivers: self.receivers_waiting().waiting(),
            // A cut is one exchange, after which all can be read and written: to time it would take longer.
            switch_latency: self.queue.switch_latency().with_instant(on_demand),
            skipped_switches: self.deferral.skipped.load(Ordering::Relaxed),
            send_errors: self.counters.send_errors(),
            recv_timeouts: self.counters.read_timeouts(),
            callback_panics: self.callbacks.panics(),
            recorder_panics: self.reporter.panics(),
            panics: self.panics(),
            allocated_segments: self.queue.pool.allocated_segments(),
            background_tasks: self.tasks.alive(),
            ..Stats::default()
        }
    }

    /// Of all code of the user that was contained.
    fn panics(&self) -> u64 {
        let lists = [self.receivers_waiting(), &self.queue.pool.room_waiters, &self.closing, &self.drainers];
        let wakers: u64 = lists.iter().map(|list| list.panics()).sum();
        wakers
            + self.callbacks.panics()
            + self.payloads.panics()
            + self.strategy.panics()
            + self.reporter.panics()
    }

    /// Adds up what lies between the head and the active segment; returns what of that is in segments that are not
    /// settled.
    fn count_queue(&self, stats: &mut Stats, is_settled: impl Fn(usize, SlotState) -> bool) -> Totals {
        let head = self.lock_head();
        let active = self.queue.ring.active();
        let mut taken = head.taken();
        let mut unsettled = Totals::default();
        let mut sequence = head.sequence();
        loop {
            let state = self.queue.ring.slot(sequence).load();
            if let (Phase::Open | Phase::Sealed, Some(number)) = (state.phase(), state.segment()) {
                let is_settled = is_settled(number, state);
                let queued = self.queued_in(number, state, taken);
                stats.queued_messages += queued.messages;
                stats.queued_bytes += queued.bytes;
                if !is_settled {
                    unsettled += queued;
                }
                let held = match state.is_open() {
                    // Nothing unread is in it, and it is what somebody's messages are slices of.
                    true if head.is_lent_after_all_read(sequence, state) => &mut stats.lent_bytes,
                    true => {
                        (stats.active_messages, stats.active_message_bytes) = (queued.messages, queued.bytes);
                        &mut stats.active_bytes
                    }
                    false => {
                        stats.sealed_segments += 1;
                        &mut stats.sealed_bytes
                    }
                };
                *held += self.queue.pool.footprint();
            }
            taken = Totals::default();
            if sequence == active {
                break;
            }
            sequence = sequence.wrapping_add(1);
        }
        self.count_totals(stats, &head);
        unsettled
    }

    /// What has left the channel, and with what is queued all that was accepted.
    fn count_totals(&self, stats: &mut Stats, head: &Head) {
        let (handed_out, dropped) = (head.handed_out(), head.dropped());
        self.count_memory(stats, head.released());
        (stats.received_messages, stats.received_bytes) = (handed_out.messages, handed_out.bytes);
        stats.queue_time = head.queue_time();
        let (newest_messages, newest_bytes) = self.dropped_newest.load();
        let oldest = head.dropped_oldest();
        stats.drops = Drops { newest: newest_messages, oldest, unread: dropped.messages - oldest };
        stats.dropped_messages = dropped.messages + newest_messages;
        stats.dropped_bytes = dropped.bytes + newest_bytes;
        stats.sent_messages = stats.queued_messages + handed_out.messages + stats.dropped_messages;
        stats.sent_bytes = stats.queued_bytes + handed_out.bytes + stats.dropped_bytes;
    }

    /// What is queued in a segment that is open or sealed, of which so much was `taken`.
    fn queued_in(&self, number: usize, state: SlotState, taken: Totals) -> Totals {
        let segment = self.queue.pool.segment(number);
        // What was reserved after the word was looked at may be in here, less than nothing too.
        let payload_bytes = (state.bytes() as u64).saturating_add_signed(segment.payload_delta() as i64);
        let abandoned = segment.abandoned() as u64;
        Totals {
            messages: (state.messages() as u64).saturating_sub(abandoned + taken.messages),
            bytes: payload_bytes.saturating_sub(taken.bytes),
        }
    }

    /// Whether what is counted in a segment cannot become less. The head is locked, so that it is not retired.
    fn is_settled(&self, number: usize, state: SlotState) -> bool {
        // ORDERING: Relaxed: see `note_in_place`.
        // An empty one may be given back by a close, which needs no lock.
        state.messages() == 0
            || !self.in_place.load(Ordering::Relaxed)
            || self.queue.pool.segment(number).is_committed(state.messages())
    }

    /// Divides what is not counted yet, so that the sum is one that the channel had: the head is locked, so
    /// that what was counted as active or sealed is so still, but other segments change hands meanwhile.
    fn count_memory(&self, stats: &mut Stats, released: usize) {
        stats.external_bytes = self.queue.pool.external_bytes().saturating_sub(released);
        let counted = stats.active_bytes + stats.sealed_bytes + stats.lent_bytes + stats.external_bytes;
        let elsewhere = self.queue.pool.used_bytes().saturating_sub(counted + released);
        let lent_bytes = elsewhere.min(self.queue.pool.lent_segments() * self.queue.pool.footprint());
        stats.lent_bytes += lent_bytes;
        stats.pooled_bytes = elsewhere - lent_bytes;
    }

    /// Returns how far senders and receivers have come.
    pub(super) fn progress(&self) -> Progress {
        let written = self.written_position();
        Progress { written, read: self.lock_head().position() }
    }

    /// Reports changes to the recorder.
    pub(crate) fn report(&self) {
        self.reporter.report(|reported| reported.update(self.name(), &self.settled_stats(), false));
    }

    /// Reports changes to the recorder, and waits for a report that another thread makes at the same time.
    pub(crate) fn report_now(&self) {
        self.report();
        self.reporter.wait_until_idle();
    }

    /// Reports for the last time, when the channel is dropped.
    pub(super) fn report_last(&self) {
        self.reporter.end();
        self.reporter.report(|reported| reported.update(self.name(), &self.settled_stats(), true));
    }

    /// Whether a woken sender would find room, as far as can be told without trying.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.queue.ring.slot(self.queue.ring.active()).load();
        (state.is_open() && state.has_room(1, self.queue.capacity()))
            || self.queue.pool.has_room()
            || self.lock_head().released() > 0
    }
}

#[cfg(all(test, not(turbostream_loom)))]
mod tests {
    use super::*;

    /// Between two looks at a segment, to its word and to what payloads differ from that by, messages may come.
    #[tokio::test]
    async fn what_comes_while_it_is_counted_takes_no_figure_below_zero() {
        let (tx, _rx) = crate::channel();
        tx.send("a").await.unwrap();
        let core = tx.core();
        let state = core.queue.ring.slot(core.queue.ring.active()).load();
        tx.send_with(100, |_| 10).await.map_err(drop).unwrap();
        let queued = core.queued_in(state.segment().unwrap(), state, Totals::default());
        assert_eq!((queued.messages, queued.bytes), (1, 0));
        assert_eq!(core.queued(), (2, 11));
    }
}
