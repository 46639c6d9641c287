//! Statistics of forwarding: what forwarders have confirmed, and what they have in flight.

use crate::sync::{AtomicU64, Ordering};
use crate::telemetry::histogram::{Histogram, QUEUE_BOUNDS, SharedHistogram};

/// What the forwarders of a channel have done together, in [`Stats::forwarding`](crate::Stats::forwarding).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Forwarding {
    /// Messages that a destination confirmed and had not stored before.
    pub confirmed_messages: u64,
    /// Messages that a destination confirmed and had stored before: it recognised their ids.
    pub duplicate_messages: u64,
    /// Payload bytes of the confirmed messages, duplicates included.
    pub confirmed_bytes: u64,
    /// Messages that a destination can never take.
    pub rejected_messages: u64,
    /// Messages that were published again, counted each time.
    pub retried_messages: u64,
    /// Messages that forwarders took from the channel and that are neither confirmed nor rejected.
    pub in_flight_messages: u64,
    /// Payload bytes of the messages in flight.
    pub in_flight_bytes: u64,
    /// Forwarders whose connection is up.
    pub connected: u64,
    /// The time from when a forwarder took a message until it was confirmed.
    pub latency: Histogram,
}

/// The counters that [`Forwarding`] is read from: sums over all forwarders of a channel, also over ended ones.
pub(crate) struct ForwardCounters {
    confirmed_messages: AtomicU64,
    duplicate_messages: AtomicU64,
    confirmed_bytes: AtomicU64,
    rejected_messages: AtomicU64,
    retried_messages: AtomicU64,
    in_flight_messages: AtomicU64,
    in_flight_bytes: AtomicU64,
    connected: AtomicU64,
    latency: SharedHistogram,
}

impl ForwardCounters {
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            confirmed_messages: zero(),
            duplicate_messages: zero(),
            confirmed_bytes: zero(),
            rejected_messages: zero(),
            retried_messages: zero(),
            in_flight_messages: zero(),
            in_flight_bytes: zero(),
            connected: zero(),
            latency: SharedHistogram::new(QUEUE_BOUNDS),
        }
    }

    /// Returns the sums.
    pub(crate) fn load(&self) -> Forwarding {
        // ORDERING: Relaxed: statistics only, here and below.
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Forwarding {
            confirmed_messages: load(&self.confirmed_messages),
            duplicate_messages: load(&self.duplicate_messages),
            confirmed_bytes: load(&self.confirmed_bytes),
            rejected_messages: load(&self.rejected_messages),
            retried_messages: load(&self.retried_messages),
            in_flight_messages: load(&self.in_flight_messages),
            in_flight_bytes: load(&self.in_flight_bytes),
            connected: load(&self.connected),
            latency: self.latency.load(),
        }
    }
}

/// What a forwarder adds to the counters of its channel.
#[cfg(feature = "forward")]
impl ForwardCounters {
    /// Adds to each counter the difference between what a forwarder reported `before` and what it reports `now`.
    pub(crate) fn add_change(&self, before: &Forwarding, now: &Forwarding) {
        // A gauge may fall: its difference wraps around, and so does the sum.
        let add = |counter: &AtomicU64, before: u64, now: u64| {
            if before != now {
                counter.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
            }
        };
        add(&self.confirmed_messages, before.confirmed_messages, now.confirmed_messages);
        add(&self.duplicate_messages, before.duplicate_messages, now.duplicate_messages);
        add(&self.confirmed_bytes, before.confirmed_bytes, now.confirmed_bytes);
        add(&self.rejected_messages, before.rejected_messages, now.rejected_messages);
        add(&self.retried_messages, before.retried_messages, now.retried_messages);
        add(&self.in_flight_messages, before.in_flight_messages, now.in_flight_messages);
        add(&self.in_flight_bytes, before.in_flight_bytes, now.in_flight_bytes);
        add(&self.connected, before.connected, now.connected);
        self.latency.add_change(&before.latency, &now.latency);
    }
}

impl Default for Forwarding {
    /// Returns the statistics of forwarders that have done nothing.
    fn default() -> Self {
        ForwardCounters::new().load()
    }
}
