//! `tracing` events of a channel, in a span of its own; nothing without the feature `tracing`.
//!
//! No function of `tracing` is called under a lock, and none per message. The background task detects what concerns many
//! messages (refusals, drops) and conditions that last (a stalled sender, held memory). A panic of a subscriber is caught.
//!
//! A subscriber may write into a channel. Two rules keep an event from causing further ones without end:
//!
//! - A thread that emits an event, or asks a subscriber whether one is enabled, emits no other event meanwhile.
//! - A channel falls silent for good once a thread that emits an event has written to it ([`is_emitting`]): the channel is
//!   the output of a subscriber, and each of its switches, or drops, would add a message that leads to the next. A thread
//!   checks that for the first message after a switch and for a message without room, so not for every message. That is
//!   enough: each further event of a switch needs a first message that no event has caused. The channel of a `tracing`
//!   writer is silent from the start.

#[cfg_attr(all(feature = "tracing", not(turbostream_loom)), path = "enabled.rs")]
#[cfg_attr(any(not(feature = "tracing"), turbostream_loom), path = "disabled.rs")]
mod imp;

#[cfg(feature = "prometheus")]
pub(crate) use self::imp::too_many_channels;
pub(crate) use self::imp::{Events, is_emitting, user_code_panicked};

use super::stats::SwitchCause;

/// A completed switch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Switched {
    pub(crate) cause: SwitchCause,
    /// The sequence of the segment that was sealed or cut.
    pub(crate) sequence: u64,
    /// The number of messages that the switch made readable.
    pub(crate) messages: usize,
}

/// Switches to emit as events later, when no lock is held and the work is done.
///
/// Nothing is allocated unless a subscriber wants them.
#[derive(Default)]
pub(crate) struct NotedSwitches {
    is_enabled: bool,
    noted: Vec<Switched>,
}

impl NotedSwitches {
    /// Notes none if no subscriber wants events of switches.
    #[inline]
    pub(crate) fn new(events: &Events) -> Self {
        Self { is_enabled: events.may_emit_switches(), ..Self::default() }
    }

    #[inline]
    pub(crate) fn add(&mut self, switched: Option<Switched>) {
        if self.is_enabled {
            self.noted.extend(switched);
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.noted.is_empty()
    }

    /// Emits the switches in their order.
    pub(crate) fn emit(self, events: &Events) {
        self.noted.into_iter().for_each(|switched| events.switched(switched));
    }
}
