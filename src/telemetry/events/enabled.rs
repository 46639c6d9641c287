//! Emits events through `tracing`.

use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::{Level, Span};

use super::Switched;
use crate::sync::unwind::{CatchDrop, catch};
use crate::telemetry::stats::{Drops, SendErrors, Stats};

const TARGET: &str = "turbostream";

/// The span of a channel; it lives as long as the channel.
pub(crate) struct Events(CatchDrop<Span>);

/// Returns whether a subscriber is enabled for events of switches.
#[inline]
pub(crate) fn are_switches_enabled() -> bool {
    is_enabled(Level::TRACE, || tracing::enabled!(target: TARGET, Level::TRACE))
}

/// Returns whether a subscriber is enabled for warnings.
#[inline]
pub(crate) fn are_warnings_enabled() -> bool {
    is_enabled(Level::WARN, || tracing::enabled!(target: TARGET, Level::WARN))
}

/// Emits an event for a caught panic of user code.
pub(crate) fn user_code_panicked() {
    emit(|| {
        tracing::error!(target: TARGET, "code passed to a channel panicked; the channel goes on");
    });
}

impl Events {
    pub(crate) fn new(name: Option<&str>) -> Self {
        // The level is that of the most severe event, so that a filter that passes an event passes its span too. The
        // span has no parent, because it may outlive the span that is current now.
        let span = || tracing::error_span!(target: TARGET, parent: None, "channel", name);
        Self(CatchDrop::new(catch(span).unwrap_or_else(|_| Span::none())))
    }

    /// Emits an event for a switch.
    pub(crate) fn switched(&self, switched: Switched) {
        let Switched { cause, sequence, messages } = switched;
        emit(
            || tracing::trace!(target: TARGET, parent: &*self.0, ?cause, segment = sequence, messages, "switched"),
        );
    }

    /// Emits the numbers of messages refused since the last such event.
    pub(crate) fn refused(&self, send_errors: SendErrors) {
        let SendErrors { full, closed, too_large, timed_out } = send_errors;
        emit(|| {
            let span = &*self.0;
            tracing::warn!(target: TARGET, parent: span, full, timed_out, too_large, closed, "messages refused");
        });
    }

    /// Emits the numbers of messages dropped since the last such event.
    pub(crate) fn dropped(&self, drops: Drops) {
        let Drops { newest, oldest, unread } = drops;
        emit(|| tracing::warn!(target: TARGET, parent: &*self.0, newest, oldest, unread, "messages dropped"));
    }

    /// Emits a warning: a sender reserved room for a message `stalled_for` ago, and has not committed it.
    pub(crate) fn stalled(&self, sequence: u64, stalled_for: Duration, stats: &Stats) {
        let (queued_messages, queued_bytes) = (stats.queued_messages, stats.queued_bytes);
        let text =
            "a sender is stalled between reserving and committing its message; no later message can be read";
        emit(|| {
            let span = &*self.0;
            tracing::warn!(target: TARGET, parent: span, sequence, ?stalled_for, queued_messages, queued_bytes, "{text}");
        });
    }

    /// Emits a warning: senders have waited for `held_for`, and messages in user hands hold the memory.
    pub(crate) fn held(&self, held_for: Duration, stats: &Stats) {
        let Stats { lent_bytes, sealed_bytes, max_bytes, waiting_senders, .. } = *stats;
        let text = "senders wait for memory that receivers hold: drop or copy what was received";
        emit(|| {
            let span = &*self.0;
            tracing::warn!(
                target: TARGET, parent: span, ?held_for, lent_bytes, sealed_bytes, max_bytes, waiting_senders, "{text}"
            );
        });
    }

    /// Emits a warning: senders wait for room, one of them for a second or more.
    pub(crate) fn waiting(&self, stats: &Stats) {
        let Stats { longest_wait, waiting_senders, lent_bytes, sealed_bytes, max_bytes, .. } = *stats;
        let text = "senders wait for room: receivers are too slow";
        emit(|| {
            let span = &*self.0;
            tracing::warn!(
                target: TARGET, parent: span, ?longest_wait, waiting_senders, lent_bytes, sealed_bytes, max_bytes, "{text}"
            );
        });
    }
}

/// Asks the subscriber, if it is enabled for `level` at all. A panic of the subscriber counts as no.
#[inline]
fn is_enabled(level: Level, ask: impl FnOnce() -> bool) -> bool {
    level <= LevelFilter::current() && catch(ask).unwrap_or(false)
}

/// Calls `event`, and ignores a panic of a subscriber.
fn emit(event: impl FnOnce()) {
    let _ = catch(event);
}
