//! What a forwarder counts.

use std::time::Duration;

use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::telemetry::forwarding::Forwarding;
use crate::telemetry::histogram::Histogram;

/// Statistics of a forwarder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForwardStats {
    /// Messages that the engine has taken responsibility for.
    pub confirmed: u64,
    /// The payload bytes of these messages. A pack counts with its separators or lengths.
    pub confirmed_bytes: u64,
    /// Messages that the engine had stored before and recognised by their id. They count as confirmed, too.
    pub duplicates: u64,
    /// Messages that were published again, each time counted. Most of them had not reached the engine.
    pub retried: u64,
    /// Messages that the engine can never take.
    pub rejected: u64,
    /// Messages that were taken out of the channel, and are neither confirmed nor rejected.
    pub in_flight_messages: u64,
    /// The payload bytes of these messages.
    pub in_flight_bytes: u64,
    /// The highest value of `in_flight_messages`.
    pub peak_in_flight_messages: u64,
    /// The highest value of `in_flight_bytes`.
    pub peak_in_flight_bytes: u64,
    /// How often the forwarder went back to the oldest unconfirmed message, to publish again from there.
    pub go_backs: u64,
    /// Whether the destination's connection is up; false once the forwarder has ended.
    pub connected: bool,
}

impl ForwardStats {
    /// Returns the statistics as the channel counts them.
    pub(super) fn as_forwarding(&self, latency: Histogram) -> Forwarding {
        Forwarding {
            confirmed_messages: self.confirmed - self.duplicates,
            duplicate_messages: self.duplicates,
            confirmed_bytes: self.confirmed_bytes,
            rejected_messages: self.rejected,
            retried_messages: self.retried,
            in_flight_messages: self.in_flight_messages,
            in_flight_bytes: self.in_flight_bytes,
            connected: u64::from(self.connected),
            latency,
        }
    }
}

/// What a forwarder has done, once everything is confirmed or rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForwardReport {
    /// The final statistics.
    pub stats: ForwardStats,
    /// The time from `spawn` to the end.
    pub elapsed: Duration,
}

/// The statistics where other threads read them. The forwarder's task alone writes.
#[derive(Default)]
pub(super) struct Counters {
    confirmed: AtomicU64,
    confirmed_bytes: AtomicU64,
    duplicates: AtomicU64,
    retried: AtomicU64,
    rejected: AtomicU64,
    in_flight_messages: AtomicU64,
    in_flight_bytes: AtomicU64,
    peak_in_flight_messages: AtomicU64,
    peak_in_flight_bytes: AtomicU64,
    go_backs: AtomicU64,
    connected: AtomicBool,
}

impl Counters {
    pub(super) fn store(&self, stats: &ForwardStats) {
        // ORDERING: Relaxed, all: statistics only.
        self.confirmed.store(stats.confirmed, Ordering::Relaxed);
        self.confirmed_bytes.store(stats.confirmed_bytes, Ordering::Relaxed);
        self.duplicates.store(stats.duplicates, Ordering::Relaxed);
        self.retried.store(stats.retried, Ordering::Relaxed);
        self.rejected.store(stats.rejected, Ordering::Relaxed);
        self.in_flight_messages.store(stats.in_flight_messages, Ordering::Relaxed);
        self.in_flight_bytes.store(stats.in_flight_bytes, Ordering::Relaxed);
        self.peak_in_flight_messages.store(stats.peak_in_flight_messages, Ordering::Relaxed);
        self.peak_in_flight_bytes.store(stats.peak_in_flight_bytes, Ordering::Relaxed);
        self.go_backs.store(stats.go_backs, Ordering::Relaxed);
        self.connected.store(stats.connected, Ordering::Relaxed);
    }

    pub(super) fn load(&self) -> ForwardStats {
        // ORDERING: Relaxed, all: statistics only.
        ForwardStats {
            confirmed: self.confirmed.load(Ordering::Relaxed),
            confirmed_bytes: self.confirmed_bytes.load(Ordering::Relaxed),
            duplicates: self.duplicates.load(Ordering::Relaxed),
            retried: self.retried.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
            in_flight_messages: self.in_flight_messages.load(Ordering::Relaxed),
            in_flight_bytes: self.in_flight_bytes.load(Ordering::Relaxed),
            peak_in_flight_messages: self.peak_in_flight_messages.load(Ordering::Relaxed),
            peak_in_flight_bytes: self.peak_in_flight_bytes.load(Ordering::Relaxed),
            go_backs: self.go_backs.load(Ordering::Relaxed),
            connected: self.connected.load(Ordering::Relaxed),
        }
    }

    pub(super) fn rejected(&self) -> u64 {
        // ORDERING: Relaxed: a flush reads it before its request; a rejection that it misses is reported by the flush.
        self.rejected.load(Ordering::Relaxed)
    }
}
