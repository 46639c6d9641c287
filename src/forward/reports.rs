//! What a forwarder reports: the statistics of its channel, and events about a lost connection, rejected messages, and retries
//! that go on for long.

use std::time::Duration;

use tokio::time::Instant;

use super::error::BoxError;
use super::stats::ForwardStats;
use crate::channel::Core;
use crate::telemetry::events::Events;
use crate::telemetry::forwarding::Forwarding;
use crate::telemetry::histogram::Histogram;

/// The shortest time between two events about rejected messages.
const REJECTED_INTERVAL: Duration = Duration::from_secs(1);
/// Retries that end sooner are no event.
const RETRYING_AFTER: Duration = Duration::from_secs(1);
/// The time between two events about retries that go on.
const RETRYING_INTERVAL: Duration = Duration::from_secs(10);

/// What was reported of a forwarder.
pub(super) struct Reports {
    /// The time from when a message was taken until it was confirmed.
    latency: Histogram,
    /// What was added to the statistics of the channel.
    added: Forwarding,
    /// When the connection was seen down first.
    down_since: Option<Instant>,
    /// How many rejected messages were reported, and when.
    rejected: u64,
    rejected_at: Option<Instant>,
    /// When an event about retries was emitted, while they go on.
    retrying_at: Option<Instant>,
}

impl Reports {
    pub(super) fn new() -> Self {
        Self {
            latency: Forwarding::default().latency,
            added: Forwarding::default(),
            down_since: None,
            rejected: 0,
            rejected_at: None,
            retrying_at: None,
        }
    }

    /// Records how long `messages` took that are confirmed now.
    pub(super) fn record_latency(&mut self, latency: Duration, messages: usize) {
        self.latency.record_many(latency, messages as u64);
    }

    /// Adds what has changed to the statistics of the channel.
    pub(super) fn add_to(&mut self, core: &Core, stats: &ForwardStats) {
        let now = stats.as_forwarding(self.latency);
        core.forward_counters().add_change(&self.added, &now);
        self.added = now;
    }

    /// Emits events for what has changed. `retrying_since` is when a message was last confirmed, if there was an error
    /// since.
    pub(super) fn emit_events(
        &mut self,
        now: Instant,
        stats: &ForwardStats,
        retrying_since: Option<Instant>,
        last_error: Option<&BoxError>,
        events: &Events,
    ) {
        match (stats.connected, self.down_since) {
            (false, None) => {
                self.down_since = Some(now);
                events.forwarder_disconnected(stats.in_flight_messages, stats.in_flight_bytes);
            }
            (true, Some(since)) => {
                self.down_since = None;
                events.forwarder_connected(now - since, stats.in_flight_messages, stats.in_flight_bytes);
            }
            _ => {}
        }
        if self.rejected_at.is_none_or(|at| now - at >= REJECTED_INTERVAL) {
            self.report_rejected(now, stats, events);
        }
        let Some(since) = retrying_since else {
            self.retrying_at = None;
            return;
        };
        let is_due = self.retrying_at.is_none_or(|at| now - at >= RETRYING_INTERVAL);
        if is_due && now - since >= RETRYING_AFTER {
            self.retrying_at = Some(now);
            let error = last_error.map(|error| error as &dyn std::fmt::Display);
            events.forwarder_retries(now - since, stats.in_flight_messages, stats.in_flight_bytes, error);
        }
    }

    /// Emits an event for the rejected messages that were not reported, at the latest when the forwarder ends.
    pub(super) fn report_rejected(&mut self, now: Instant, stats: &ForwardStats, events: &Events) {
        let rejected = stats.rejected - self.rejected;
        if rejected > 0 {
            (self.rejected, self.rejected_at) = (stats.rejected, Some(now));
            events.messages_rejected(rejected);
        }
    }
}
