//! Figures and idle memory, for the monitor and the timer.

use super::{Core, Switch};
use crate::monitor::{Stats, Switches};
use crate::segment::state::Kind;
use crate::sync::Ordering;

impl Core {
    pub(crate) fn switches(&self) -> u64 {
        // ORDERING: Relaxed: figures.
        self.switches.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Whether a rest would let memory go.
    pub(crate) fn holds_idle_memory(&self) -> bool {
        self.pool.pooled_segments() > 0 || self.lock_head().has_pages()
    }

    pub(crate) fn release_idle_memory(&self) {
        self.pool.trim(0);
        self.lock_head().drop_pages();
    }

    /// Messages and bytes that were accepted and neither handed out nor dropped.
    pub(crate) fn queued(&self) -> (u64, u64) {
        let stats = self.stats();
        (stats.queued_messages, stats.queued_bytes)
    }

    pub(crate) fn stats(&self) -> Stats {
        // ORDERING: Relaxed: figures, exact at rest.
        let count = |cause: Switch| self.switches[cause as usize].load(Ordering::Relaxed);
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
            waiting_receivers: self.readers.waiting(),
            ..Stats::default()
        };
        self.count_queue(&mut stats);
        stats
    }

    /// Adds up what lies between the head and the active segment.
    pub(super) fn count_queue(&self, stats: &mut Stats) {
        let head = self.lock_head();
        let (handed_out, dropped) = (head.handed_out(), head.dropped());
        let active = self.pending.active();
        let mut sequence = head.segment();
        let mut taken = head.taken();
        loop {
            let state = taken.map_or_else(|| self.pending.place(sequence).load(), |(state, _)| state);
            if let (Kind::Open | Kind::Sealed, Some(number)) = (state.kind(), state.segment()) {
                let segment = self.pool.segment(number);
                let read = taken.map_or_else(Default::default, |(_, read)| read);
                let abandoned = segment.abandoned() as u64;
                stats.queued_messages += (state.messages() as u64).saturating_sub(abandoned + read.messages);
                stats.queued_bytes += segment.payload_bytes(state.bytes()).saturating_sub(read.bytes);
                let held = if state.is_open() { &mut stats.active_bytes } else { &mut stats.sealed_bytes };
                *held += self.pool.footprint();
            }
            taken = None;
            if sequence == active {
                break;
            }
            sequence = sequence.wrapping_add(1);
        }
        self.count_memory(stats);
        (stats.handed_out_messages, stats.handed_out_bytes) = (handed_out.messages, handed_out.bytes);
        (stats.dropped_messages, stats.dropped_bytes) = (dropped.messages, dropped.bytes);
        stats.accepted_messages = stats.queued_messages + handed_out.messages + dropped.messages;
        stats.accepted_bytes = stats.queued_bytes + handed_out.bytes + dropped.bytes;
    }

    /// Divides what is not active or sealed, so that the sum is one that the channel had: the head is locked, so
    /// that what was counted as active or sealed is so still, but other segments change hands meanwhile.
    fn count_memory(&self, stats: &mut Stats) {
        stats.referenced_bytes = self.pool.referenced_bytes();
        let counted = stats.active_bytes + stats.sealed_bytes + stats.referenced_bytes;
        let elsewhere = self.pool.used_bytes().saturating_sub(counted);
        stats.lent_bytes = elsewhere.min(self.pool.lent_segments() * self.pool.footprint());
        stats.pooled_bytes = elsewhere - stats.lent_bytes;
    }

    /// Whether a woken sender would find room, as far as can be told without trying.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.pending.place(self.pending.active()).load();
        (state.is_open() && state.has_room(1, self.capacity)) || self.pool.has_room()
    }
}
