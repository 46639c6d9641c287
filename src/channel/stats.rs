//! Statistics for the monitor and the recorder, and idle memory for the background task.
//!
//! Senders count nothing per copied message. The words of the ring slots say how many messages and bytes are queued, and
//! the head knows what was received and dropped. What was sent is the sum: received, dropped and queued.

use std::time::Duration;

use super::Core;
use super::reserve::Refusal;
use crate::queue::head::{Claimed, Head};
use crate::queue::segment::slot_state::{Phase, SlotState};
use crate::sync::{AtomicU64, Ordering};
#[cfg(feature = "forward")]
use crate::telemetry::forwarding::ForwardCounters;
use crate::telemetry::stats::{Drops, SendErrors, Stats, SwitchCause, Switches, Totals};

/// The most entries that a report checks under the lock of the head: some ten microseconds.
const CHECKED_ENTRIES: usize = 16 << 10;

/// Counts errors that were returned to senders and receivers.
#[derive(Default)]
pub(super) struct Counters {
    full: AtomicU64,
    closed: AtomicU64,
    too_large: AtomicU64,
    timed_out: AtomicU64,
    recv_timeouts: AtomicU64,
}

impl Counters {
    pub(super) fn send_errors(&self) -> SendErrors {
        // ORDERING: Relaxed: statistics only, here and below.
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SendErrors {
            full: count(&self.full),
            closed: count(&self.closed),
            too_large: count(&self.too_large),
            timed_out: count(&self.timed_out),
        }
    }

    pub(super) fn recv_timeouts(&self) -> u64 {
        self.recv_timeouts.load(Ordering::Relaxed)
    }
}

impl Core {
    /// Counts an error that a sender returns for a refused message.
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

    /// Counts a sender that got no room in time.
    #[cold]
    pub(crate) fn count_send_timeout(&self) {
        self.counters.timed_out.fetch_add(1, Ordering::Relaxed);
        self.arm_watchdog();
    }

    /// Counts a receiver that got no message in time.
    #[cold]
    pub(crate) fn count_recv_timeout(&self) {
        self.counters.recv_timeouts.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the statistics of forwarders, which exist from now on.
    #[cfg(feature = "forward")]
    pub(crate) fn forward_counters(&self) -> &ForwardCounters {
        self.forwarding.get_or_init(|| Box::new(ForwardCounters::new()))
    }

    /// Whether there is memory that an idle channel does not need.
    pub(crate) fn has_idle_memory(&self) -> bool {
        let holds = |head: &Head| head.has_arena() || head.has_drained_active(&self.queue);
        self.queue.pool.pooled_segments() > 0 || holds(&self.lock_head())
    }

    /// Frees the memory that an idle channel does not need.
    pub(crate) fn release_idle_memory(&self) {
        self.with_head(|head, effects| {
            head.drop_arena();
            head.release_drained_active(&self.queue, effects);
        });
        self.queue.pool.trim(0);
        self.queue.pool.restart_growth();
    }

    /// Returns the sequence of the message at the head, if its sender has reserved it and has not committed it.
    pub(crate) fn stalled_message(&self) -> Option<u64> {
        self.lock_head().stalled_message()
    }

    /// Returns the messages and bytes that were sent and neither received nor dropped.
    pub(crate) fn queued(&self) -> (u64, u64) {
        let mut stats = Stats::default();
        self.count_queue(&mut stats, None);
        (stats.queued_messages, stats.queued_bytes)
    }

    pub(crate) fn stats(&self) -> Stats {
        self.make_overdue_switch();
        let mut stats = self.counts();
        self.count_queue(&mut stats, None);
        stats
    }

    /// Returns statistics for reports, which never decrease what they have reported as sent.
    ///
    /// A message that is written in place may turn out shorter than it is counted, or be abandoned. Segments with such
    /// messages that are not committed yet, or whose entries were not all checked yet, do not count as sent. While the
    /// channel is idle, this is the same as [`stats`](Self::stats) once all entries were checked. Also returns whether
    /// they were.
    fn settled_stats(&self) -> (Stats, bool) {
        self.make_overdue_switch();
        let mut stats = self.counts();
        let mut limit = CHECKED_ENTRIES;
        let unsettled = self.count_queue(&mut stats, Some(&mut limit));
        stats.sent_messages -= unsettled.messages;
        stats.sent_bytes -= unsettled.bytes;
        (stats, limit > 0)
    }

    /// Returns what has a counter of its own.
    fn counts(&self) -> Stats {
        // ORDERING: Relaxed: statistics only, exact while the channel is idle.
        let count = |cause| self.queue.switches_for(cause);
        Stats {
            switches: Switches {
                full: count(SwitchCause::Full),
                strategy: count(SwitchCause::Strategy),
                on_demand: count(SwitchCause::OnDemand),
                requested: count(SwitchCause::Requested),
                close: count(SwitchCause::Close),
            },
            max_bytes: self.queue.pool.max_bytes(),
            waiting_senders: self.room_waiters().waiting(),
            longest_wait: self.longest_wait(),
            waiting_receivers: self.receivers_waiting().waiting(),
            switch_latency: self.queue.switch_latency(),
            skipped_switches: self.deferral.skipped.load(Ordering::Relaxed),
            send_errors: self.counters.send_errors(),
            recv_timeouts: self.counters.recv_timeouts(),
            callback_panics: self.callbacks.panics(),
            recorder_panics: self.reporter.panics(),
            panics: self.panics(),
            allocated_segments: self.queue.pool.allocated_segments(),
            background_tasks: self.tasks().alive(),
            forwarding: self.forwarding.get().map(|counters| counters.load()),
            ..Stats::default()
        }
    }

    /// Returns for how long the sender waits that has waited for longest.
    fn longest_wait(&self) -> Duration {
        let since = self.room_waiters().longest_since();
        since.map_or(Duration::ZERO, |since| Duration::from_nanos(self.queue.clock().nanos_since(since)))
    }

    /// Returns how many panics of user code were caught.
    fn panics(&self) -> u64 {
        let lists = [self.receivers_waiting(), &self.closing, &self.drainers];
        let wakers = lists.iter().map(|list| list.panics()).sum::<u64>() + self.room_waiters().panics();
        wakers
            + self.callbacks.panics()
            + self.payloads.panics()
            + self.strategy.panics()
            + self.reporter.panics()
    }

    /// Adds up what is queued from the head to the active segment, and what sinks have parked; returns the part that is
    /// parked or in segments that are not settled.
    ///
    /// Checks at most `limit` entries, and takes them off `limit`. Without a limit, all segments are settled.
    fn count_queue(&self, stats: &mut Stats, mut limit: Option<&mut usize>) -> Totals {
        let head = self.lock_head();
        let active = self.queue.ring.active();
        // Once: it decreases meanwhile, and what it loses would count twice.
        let claimed = head.claimed();
        let mut taken = head.taken() - claimed.at_head;
        let in_retired_segments = claimed.all - claimed.at_head;
        stats.queued_messages += in_retired_segments.messages;
        stats.queued_bytes += in_retired_segments.bytes;
        let mut unsettled = Totals::default();
        let mut sequence = head.sequence();
        loop {
            let state = self.queue.ring.slot(sequence).load();
            if let (Phase::Open | Phase::Sealed, Some(number)) = (state.phase(), state.segment()) {
                let mut no_limit = usize::MAX;
                let is_settled =
                    limit.as_deref_mut().is_none_or(|limit| self.is_settled(number, state, limit));
                let limit = limit.as_deref_mut().unwrap_or(&mut no_limit);
                let queued = self.queued_in(number, state, taken, limit);
                stats.queued_messages += queued.messages;
                stats.queued_bytes += queued.bytes;
                if !is_settled {
                    unsettled += queued;
                }
                let held = match state.is_open() {
                    // Nothing unread is in it, and received messages still refer to it.
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
                *held += self.queue.pool.footprint_of(number);
            }
            taken = Totals::default();
            if sequence == active {
                break;
            }
            sequence = sequence.wrapping_add(1);
        }
        let parked = self.parked.totals();
        stats.queued_messages += parked.messages;
        stats.queued_bytes += parked.bytes;
        self.count_totals(stats, &head, claimed);
        stats.external_bytes += parked.bytes as usize;
        unsettled + parked
    }

    /// Adds what was received and dropped, and what was sent: the sum of both and of what is queued.
    fn count_totals(&self, stats: &mut Stats, head: &Head, claimed: Claimed) {
        let (received, dropped) = (head.received(claimed), head.dropped());
        self.count_memory(stats, head.released());
        (stats.received_messages, stats.received_bytes) = (received.messages, received.bytes);
        stats.queue_time = head.queue_time();
        let (newest_messages, newest_bytes) = self.dropped_newest.load();
        let oldest = head.dropped_oldest();
        stats.drops = Drops { newest: newest_messages, oldest, unread: dropped.messages - oldest };
        stats.dropped_messages = dropped.messages + newest_messages;
        stats.dropped_bytes = dropped.bytes + newest_bytes;
        stats.sent_messages = stats.queued_messages + received.messages + stats.dropped_messages;
        stats.sent_bytes = stats.queued_bytes + received.bytes + stats.dropped_bytes;
    }

    /// Returns what is queued in an open or sealed segment of which `taken` was taken already. Takes the entries that it checks
    /// off `limit`.
    ///
    /// The caller has locked the head, so that the segment is not retired meanwhile.
    pub(crate) fn queued_in(
        &self,
        number: usize,
        state: SlotState,
        taken: Totals,
        limit: &mut usize,
    ) -> Totals {
        let segment = self.queue.segment(number);
        // The delta may count messages that were reserved after `state` was loaded, so the sum may fall below zero.
        let delta = segment.payload_delta(state.messages(), limit) as i64;
        let payload_bytes = (state.bytes() as u64).saturating_add_signed(delta);
        let abandoned = segment.abandoned() as u64;
        Totals {
            messages: (state.messages() as u64).saturating_sub(abandoned + taken.messages),
            bytes: payload_bytes.saturating_sub(taken.bytes),
        }
    }

    /// Whether what is counted in a segment cannot decrease any more. Takes the entries that it checks off `limit`.
    ///
    /// The caller has locked the head, so that the segment is not retired meanwhile.
    fn is_settled(&self, number: usize, state: SlotState, limit: &mut usize) -> bool {
        let segment = self.queue.segment(number);
        // ORDERING: Relaxed: ordered by the fence in `note_in_place` and the load of the slot's word.
        let may_shrink = self.in_place.load(Ordering::Relaxed);
        // The bytes of external payloads are counted by their entries.
        !(may_shrink || segment.has_gaps())
            || segment.count_committed(state.messages(), limit) == state.messages()
    }

    /// Divides the memory that is not counted yet into lent and pooled, so that the sum is one that the channel had.
    ///
    /// The head is locked, so what was counted as active or sealed still is. Other segments may change from lent to pooled
    /// and back meanwhile.
    fn count_memory(&self, stats: &mut Stats, released: usize) {
        let (used, external) = self.queue.pool.used_and_external_bytes();
        stats.external_bytes = external.saturating_sub(released);
        let counted = stats.active_bytes + stats.sealed_bytes + stats.lent_bytes + stats.external_bytes;
        let elsewhere = used.saturating_sub(counted + released);
        let lent_bytes = elsewhere.min(self.queue.pool.lent_bytes());
        stats.lent_bytes += lent_bytes;
        stats.pooled_bytes = elsewhere - lent_bytes;
    }

    /// Reports changes to the recorder by one call, which takes a bounded time; returns whether more are left to report.
    pub(crate) fn report_some(&self) -> bool {
        self.report(false);
        self.reporter.is_behind()
    }

    /// Reports all changes to the recorder, and waits until a report that another thread makes is done.
    ///
    /// Inside a recorder's call it neither waits nor reports more than [`report_some`](Self::report_some).
    pub(crate) fn report_now(&self) {
        loop {
            self.report(false);
            self.reporter.wait_until_idle();
            if !self.reporter.is_behind() {
                return;
            }
        }
    }

    /// Reports for the last time, when the channel is dropped.
    pub(super) fn report_last(&self) {
        self.reporter.end();
        loop {
            self.report(true);
            if !self.reporter.is_behind() {
                return;
            }
        }
    }

    fn report(&self, last: bool) {
        self.reporter.report(|reported| {
            let (stats, is_complete) = self.settled_stats();
            reported.update(self.name(), &stats, is_complete, last)
        });
    }
}
