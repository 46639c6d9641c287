//! Emits events through `tracing`.

use std::cell::Cell;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::{Level, Span};

use super::Switched;
use crate::sync::unwind::catch;
use crate::sync::{AtomicBool, Ordering};
use crate::telemetry::stats::{Drops, SendErrors, Stats};

const TARGET: &str = "turbostream";

thread_local! {
    /// Whether this thread is inside of a call of `tracing` by this crate.
    static EMITTING: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether this thread emits an event: what it does now, a subscriber does.
#[inline]
pub(crate) fn is_emitting() -> bool {
    EMITTING.get()
}

/// Emits an event for a caught panic of user code.
pub(crate) fn user_code_panicked() {
    emit(|| {
        tracing::error!(target: TARGET, "code passed to a channel panicked; the channel goes on");
    });
}

/// Emits a warning: a recorder has series for `limit` names of channels, and there are more.
#[cfg(feature = "prometheus")]
pub(crate) fn too_many_channels(limit: usize) {
    let text = "a recorder has no series for the names of further channels, and adds those up";
    emit(|| tracing::warn!(target: TARGET, limit, "{text}"));
}

/// The span of a channel, which lives as long as the channel, and whether the channel emits events.
pub(crate) struct Events {
    span: Span,
    is_silent: AtomicBool,
}

impl Events {
    pub(crate) fn new(name: Option<&str>, is_silent: bool) -> Self {
        // The level is that of the most severe event, so that a filter that passes an event passes its span too. The
        // span has no parent, because it may outlive the span that is current now.
        let span = || tracing::error_span!(target: TARGET, parent: None, "channel", name);
        let span = if is_silent { None } else { call_tracing(span) };
        Self { span: span.unwrap_or_else(Span::none), is_silent: AtomicBool::new(is_silent) }
    }

    /// Emits no event from now on.
    pub(crate) fn silence(&self) {
        // ORDERING: Relaxed: a thread that does not see it yet emits one more event.
        self.is_silent.store(true, Ordering::Relaxed);
    }

    fn is_silent(&self) -> bool {
        // ORDERING: Relaxed: see `silence`.
        self.is_silent.load(Ordering::Relaxed)
    }

    /// Returns whether some subscriber may want events of switches. Calls no subscriber.
    #[inline]
    pub(crate) fn may_emit_switches(&self) -> bool {
        Level::TRACE <= LevelFilter::current() && !self.is_silent()
    }

    /// Asks the subscriber whether it is enabled for warnings.
    #[inline]
    pub(crate) fn are_warnings_enabled(&self) -> bool {
        Level::WARN <= LevelFilter::current()
            && !self.is_silent()
            && call_tracing(|| tracing::enabled!(target: TARGET, Level::WARN)).unwrap_or(false)
    }

    /// Emits an event, unless the channel is silent.
    fn emit(&self, event: impl FnOnce(&Span)) {
        if !self.is_silent() {
            emit(|| event(&self.span));
        }
    }

    /// Emits an event for a switch.
    #[inline]
    pub(crate) fn switched(&self, switched: Switched) {
        if self.may_emit_switches() {
            let Switched { cause, sequence, messages } = switched;
            self.emit(
                |span| tracing::trace!(target: TARGET, parent: span, ?cause, segment = sequence, messages, "switched"),
            );
        }
    }

    /// Emits the numbers of messages refused since the last such event.
    pub(crate) fn refused(&self, send_errors: SendErrors) {
        let SendErrors { full, closed, too_large, timed_out } = send_errors;
        self.emit(|span| {
            tracing::warn!(target: TARGET, parent: span, full, timed_out, too_large, closed, "messages refused");
        });
    }

    /// Emits the numbers of messages dropped since the last such event.
    pub(crate) fn dropped(&self, drops: Drops) {
        let Drops { newest, oldest, unread } = drops;
        self.emit(
            |span| tracing::warn!(target: TARGET, parent: span, newest, oldest, unread, "messages dropped"),
        );
    }

    /// Emits a warning: a sender reserved room for a message `stalled_for` ago, and has not committed it.
    pub(crate) fn stalled(&self, sequence: u64, stalled_for: Duration, stats: &Stats) {
        let (queued_messages, queued_bytes) = (stats.queued_messages, stats.queued_bytes);
        let text =
            "a sender is stalled between reserving and committing its message; no later message can be read";
        self.emit(|span| {
            tracing::warn!(target: TARGET, parent: span, sequence, ?stalled_for, queued_messages, queued_bytes, "{text}");
        });
    }

    /// Emits a warning: senders have waited for `held_for`, and messages in user hands hold the memory.
    pub(crate) fn held(&self, held_for: Duration, stats: &Stats) {
        let Stats { lent_bytes, sealed_bytes, max_bytes, waiting_senders, .. } = *stats;
        let text = "senders wait for memory that receivers hold: drop or copy what was received";
        self.emit(|span| {
            tracing::warn!(
                target: TARGET, parent: span, ?held_for, lent_bytes, sealed_bytes, max_bytes, waiting_senders, "{text}"
            );
        });
    }

    /// Emits a warning: senders wait for room, one of them for a second or more.
    pub(crate) fn waiting(&self, stats: &Stats) {
        let Stats { longest_wait, waiting_senders, lent_bytes, sealed_bytes, max_bytes, .. } = *stats;
        let text = "senders wait for room: receivers are too slow";
        self.emit(|span| {
            tracing::warn!(
                target: TARGET, parent: span, ?longest_wait, waiting_senders, lent_bytes, sealed_bytes, max_bytes, "{text}"
            );
        });
    }
}

/// The events of forwarders.
#[cfg(feature = "forward")]
impl Events {
    /// Emits a warning: the connection of a forwarder is down.
    pub(crate) fn forwarder_disconnected(&self, in_flight_messages: u64, in_flight_bytes: u64) {
        let text = "a forwarder has no connection; what is unconfirmed is published again when it is up";
        self.emit(|span| {
            tracing::warn!(target: TARGET, parent: span, in_flight_messages, in_flight_bytes, "{text}");
        });
    }

    /// Emits that the connection of a forwarder is up again.
    pub(crate) fn forwarder_connected(
        &self,
        down_for: Duration,
        in_flight_messages: u64,
        in_flight_bytes: u64,
    ) {
        let text = "a forwarder has its connection again";
        self.emit(|span| {
            tracing::info!(target: TARGET, parent: span, ?down_for, in_flight_messages, in_flight_bytes, "{text}");
        });
    }

    /// Emits an error: a forwarder has ended, and this many messages that it has taken are not confirmed.
    pub(crate) fn forwarder_failed(&self, error: &dyn std::fmt::Display, unconfirmed: usize) {
        let error = tracing::field::display(error);
        let text = "a forwarder has ended before everything was confirmed";
        self.emit(|span| tracing::error!(target: TARGET, parent: span, error, unconfirmed, "{text}"));
    }

    /// Emits a warning: a destination has rejected this many messages since the last such event.
    pub(crate) fn messages_rejected(&self, messages: u64) {
        let text = "the destination of a forwarder rejects messages";
        self.emit(|span| tracing::warn!(target: TARGET, parent: span, messages, "{text}"));
    }

    /// Emits a warning: a destination has confirmed nothing since its errors began.
    pub(crate) fn forwarder_retries(
        &self,
        retrying_for: Duration,
        in_flight_messages: u64,
        in_flight_bytes: u64,
        error: Option<&dyn std::fmt::Display>,
    ) {
        let error = error.map(tracing::field::display);
        let text = "a forwarder publishes again and again, and its destination confirms nothing";
        self.emit(|span| {
            tracing::warn!(
                target: TARGET, parent: span, ?retrying_for, in_flight_messages, in_flight_bytes, error, "{text}"
            );
        });
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // Also where this thread emits an event already: a span that was opened is closed.
        let outer = EMITTING.replace(true);
        let _ = catch(|| self.span = Span::none());
        EMITTING.set(outer);
    }
}

/// Calls `tracing`; returns `None` if a subscriber panics, or if this thread is inside of such a call already.
fn call_tracing<T>(call: impl FnOnce() -> T) -> Option<T> {
    if EMITTING.replace(true) {
        return None;
    }
    let result = catch(call).ok();
    EMITTING.set(false);
    result
}

/// Calls `event`, unless this thread emits an event already.
#[cold]
fn emit(event: impl FnOnce()) {
    let _ = call_tracing(event);
}
