//! Figures and idle memory, for the monitor and the timer.

use super::{Core, Switch};
use crate::head::{Aftermath, Head, Volume};
use crate::monitor::{Stats, Switches};
use crate::segment::state::Kind;
use crate::sync::Ordering;

impl Core {
    pub(crate) fn switches(&self) -> u64 {
        // ORDERING: Relaxed: figures.
        self.switching.switches.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Whether a rest would let memory go.
    pub(crate) fn holds_idle_memory(&self) -> bool {
        let holds = |head: &Head| head.has_pages() || head.holds_rest(self);
        self.pool.pooled_segments() > 0 || holds(&self.lock_head())
    }

    pub(crate) fn release_idle_memory(&self) {
        let mut after = Aftermath::default();
        let mut head = self.lock_head();
        head.drop_pages();
        head.give_up_rest(self, &mut after);
        self.leave(&mut head, &mut after);
        drop(head);
        self.settle(after);
        self.pool.trim(0);
    }

    /// Messages and bytes that were accepted and neither handed out nor dropped.
    pub(crate) fn queued(&self) -> (u64, u64) {
        let stats = self.stats();
        (stats.queued_messages, stats.queued_bytes)
    }

    pub(crate) fn stats(&self) -> Stats {
        // ORDERING: Relaxed: figures, exact at rest.
        let count = |cause: Switch| self.switching.switches[cause as usize].load(Ordering::Relaxed);
        let mut stats = Stats {
            switches: Switches {
                full: count(Switch::Full),
                strategy: count(Switch::Strategy),
                on_demand: count(Switch::OnDemand),
                requested: count(Switch::Requested),
                close: count(Switch::Close),
            },
            max_bytes: self.pool.max_bytes(),
            waiting_senders: self.pool.space.waiting(),
            waiting_receivers: self.readers().waiting(),
            callback_panics: self.callbacks.panics(),
            panics: self.panics(),
            ..Stats::default()
        };
        self.count_queue(&mut stats);
        stats
    }

    /// Of all code of the user that was contained.
    fn panics(&self) -> u64 {
        let lists = [self.readers(), &self.pool.space, &self.closing, &self.drainers];
        let wakers: u64 = lists.iter().map(|list| list.panics()).sum();
        wakers + self.callbacks.panics() + self.payloads.panics() + self.plan.panics()
    }

    /// Adds up what lies between the head and the active segment.
    pub(super) fn count_queue(&self, stats: &mut Stats) {
        let head = self.lock_head();
        let (handed_out, dropped) = (head.handed_out(), head.dropped());
        let active = self.pending.active();
        let mut taken = head.taken();
        let mut sequence = head.segment();
        loop {
            let state = self.pending.place(sequence).load();
            if let (Kind::Open | Kind::Sealed, Some(number)) = (state.kind(), state.segment()) {
                let segment = self.pool.segment(number);
                let payload_bytes = (state.bytes() as u64).wrapping_add(segment.extra_bytes());
                let abandoned = segment.abandoned() as u64;
                stats.queued_messages += (state.messages() as u64).saturating_sub(abandoned + taken.messages);
                stats.queued_bytes += payload_bytes.saturating_sub(taken.bytes);
                let held = match state.is_open() {
                    // Nothing unread is in it, and it is what somebody's messages are slices of.
                    true if head.has_lent_all(sequence, state) => &mut stats.lent_bytes,
                    true => &mut stats.active_bytes,
                    false => &mut stats.sealed_bytes,
                };
                *held += self.pool.footprint();
            }
            taken = Volume::default();
            if sequence == active {
                break;
            }
            sequence = sequence.wrapping_add(1);
        }
        self.count_memory(stats, head.released());
        (stats.handed_out_messages, stats.handed_out_bytes) = (handed_out.messages, handed_out.bytes);
        let (refused_messages, refused_bytes) = self.refused.load();
        stats.dropped_messages = dropped.messages + refused_messages;
        stats.dropped_bytes = dropped.bytes + refused_bytes;
        stats.accepted_messages = stats.queued_messages + handed_out.messages + stats.dropped_messages;
        stats.accepted_bytes = stats.queued_bytes + handed_out.bytes + stats.dropped_bytes;
    }

    /// Divides what is not counted yet, so that the sum is one that the channel had: the head is locked, so
    /// that what was counted as active or sealed is so still, but other segments change hands meanwhile.
    fn count_memory(&self, stats: &mut Stats, released: usize) {
        stats.referenced_bytes = self.pool.referenced_bytes().saturating_sub(released);
        let counted = stats.active_bytes + stats.sealed_bytes + stats.lent_bytes + stats.referenced_bytes;
        let elsewhere = self.pool.used_bytes().saturating_sub(counted + released);
        let lent_bytes = elsewhere.min(self.pool.lent_segments() * self.pool.footprint());
        stats.lent_bytes += lent_bytes;
        stats.pooled_bytes = elsewhere - lent_bytes;
    }

    /// Whether a woken sender would find room, as far as can be told without trying.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.pending.place(self.pending.active()).load();
        (state.is_open() && state.has_room(1, self.capacity))
            || self.pool.has_room()
            || self.lock_head().released() > 0
    }
}
