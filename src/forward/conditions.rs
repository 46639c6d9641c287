//! The events of a forwarder: a lost connection, rejected messages, retries that go on for long.

use std::time::Duration;

use tokio::time::Instant;

use super::error::BoxError;
use super::stats::ForwardStats;
use crate::telemetry::events::Events;

/// The shortest time between two events about rejected messages.
const REJECTED_INTERVAL: Duration = Duration::from_secs(1);
/// Retries that end sooner are no event.
const RETRYING_AFTER: Duration = Duration::from_secs(1);
/// The time between two events about retries that go on.
const RETRYING_INTERVAL: Duration = Duration::from_secs(10);

/// What was reported of the forwarder's condition.
#[derive(Default)]
pub(super) struct Conditions {
    /// When the connection was seen down first.
    down_since: Option<Instant>,
    /// How many rejected messages were reported, and when.
    rejected: u64,
    rejected_at: Option<Instant>,
    /// When an event about retries was emitted, while they go on.
    retrying_at: Option<Instant>,
}

impl Conditions {
    /// Emits events for what has changed. `retrying_since` is when a message was last confirmed, if there was an error
    /// since.
    pub(super) fn observe(
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
