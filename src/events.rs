//! What an operator should hear of, as `tracing` events in a span for each channel; nothing without the feature.
//!
//! No event is made under a lock, nor for a message: what has to do with many of them, or lasts, is told of by the
//! [timer](crate::timer), which looks for [`Trouble`] when there may be some. A subscriber that panics is contained.

mod trouble;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tracing::{Level, Span};

pub(crate) use self::trouble::Trouble;

use crate::channel::SwitchCause;
use crate::monitor::{Drops, SendErrors, Stats};

const TARGET: &str = "turbostream";

/// The span of a channel, for its whole life.
pub(crate) struct Events(Span);

/// A switch that was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Switched {
    pub(crate) cause: SwitchCause,
    /// Of the segment that was sealed or cut.
    pub(crate) sequence: u64,
    /// How many messages can be read by it.
    pub(crate) messages: usize,
}

/// Whether anybody wants to hear of switches.
#[inline]
pub(crate) fn are_switches_wanted() -> bool {
    tracing::enabled!(target: TARGET, Level::TRACE)
}

/// Whether anybody wants to hear of what goes wrong.
#[inline]
pub(crate) fn are_warnings_wanted() -> bool {
    tracing::enabled!(target: TARGET, Level::WARN)
}

/// Code of the user panicked, and the panic was contained.
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
    fn refused(&self, send_errors: SendErrors) {
        let SendErrors { full, closed, too_large, timed_out } = send_errors;
        quietly(|| {
            let span = &self.0;
            tracing::warn!(target: TARGET, parent: span, full, timed_out, too_large, closed, "messages refused");
        });
    }

    /// So many messages were dropped since the last time.
    fn dropped(&self, drops: Drops) {
        let Drops { newest, oldest, unread } = drops;
        quietly(
            || tracing::warn!(target: TARGET, parent: &self.0, newest, oldest, unread, "messages dropped"),
        );
    }

    /// A writer has reserved room for a message a while ago, and has not committed it.
    fn stalled(&self, sequence: u64, stalled_for: Duration, stats: &Stats) {
        let (queued_messages, queued_bytes) = (stats.queued_messages, stats.queued_bytes);
        let text =
            "a writer is stalled between reserving and committing its message; nothing behind it can be read";
        quietly(|| {
            let span = &self.0;
            tracing::warn!(target: TARGET, parent: span, sequence, ?stalled_for, queued_messages, queued_bytes, "{text}");
        });
    }

    /// Senders have waited for a while, and readers have the memory that they wait for.
    fn held(&self, held_for: Duration, stats: &Stats) {
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
