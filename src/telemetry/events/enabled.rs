//! Events that are emitted through `tracing`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tracing::{Level, Span};

use super::Switched;
use crate::telemetry::stats::{Drops, SendErrors, Stats};

const TARGET: &str = "turbostream";

/// The span of a channel, for its whole life.
pub(crate) struct Events(Span);

/// Whether a subscriber is enabled for switches.
#[inline]
pub(crate) fn are_switches_enabled() -> bool {
    tracing::enabled!(target: TARGET, Level::TRACE)
}

/// Whether a subscriber is enabled for warnings.
#[inline]
pub(crate) fn are_warnings_enabled() -> bool {
    tracing::enabled!(target: TARGET, Level::WARN)
}

/// Emits an event for a caught panic of user code.
pub(crate) fn user_code_panicked() {
    quietly(|| {
        tracing::error!(target: TARGET, "code passed to a channel panicked; the channel goes on");
    });
}

impl Events {
    pub(crate) fn new(name: Option<&str>) -> Self {
        // As severe as its severest event, so that it is there for each of them; and nobody's child, as it may
        // outlive whom it was made by.
        let span = || tracing::error_span!(target: TARGET, parent: None, "channel", name);
        Self(catch_unwind(AssertUnwindSafe(span)).unwrap_or_else(|_| Span::none()))
    }

    pub(crate) fn switched(&self, switched: Switched) {
        let Switched { cause, sequence, messages } = switched;
        quietly(
            || tracing::trace!(target: TARGET, parent: &self.0, ?cause, segment = sequence, messages, "switched"),
        );
    }

    /// So many messages were refused since the last time.
    pub(crate) fn refused(&self, send_errors: SendErrors) {
        let SendErrors { full, closed, too_large, timed_out } = send_errors;
        quietly(|| {
            let span = &self.0;
            tracing::warn!(target: TARGET, parent: span, full, timed_out, too_large, closed, "messages refused");
        });
    }

    /// So many messages were dropped since the last time.
    pub(crate) fn dropped(&self, drops: Drops) {
        let Drops { newest, oldest, unread } = drops;
        quietly(
            || tracing::warn!(target: TARGET, parent: &self.0, newest, oldest, unread, "messages dropped"),
        );
    }

    /// A writer has reserved room for a message a while ago, and has not committed it.
    pub(crate) fn stalled(&self, sequence: u64, stalled_for: Duration, stats: &Stats) {
        let (queued_messages, queued_bytes) = (stats.queued_messages, stats.queued_bytes);
        let text =
            "a writer is stalled between reserving and committing its message; nothing behind it can be read";
        quietly(|| {
            let span = &self.0;
            tracing::warn!(target: TARGET, parent: span, sequence, ?stalled_for, queued_messages, queued_bytes, "{text}");
        });
    }

    /// Senders have waited for a while, and readers have the memory that they wait for.
    pub(crate) fn held(&self, held_for: Duration, stats: &Stats) {
        let Stats { lent_bytes, sealed_bytes, max_bytes, waiting_senders, .. } = *stats;
        let text = "senders wait for memory that readers hold: drop or copy what was received";
        quietly(|| {
            let span = &self.0;
            tracing::warn!(
                target: TARGET, parent: span, ?held_for, lent_bytes, sealed_bytes, max_bytes, waiting_senders, "{text}"
            );
        });
    }
}

/// Makes an event. The panic of a subscriber is nobody's to be told of.
fn quietly(event: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(event));
}
