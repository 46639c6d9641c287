//! `tracing` events of a channel, in a span of its own; nothing without the feature `tracing`.
//!
//! No event is emitted under a lock, and none per message. The background task detects what concerns many messages
//! (refusals, drops) and conditions that last (a stalled sender, held memory). A panic of a subscriber is caught.

#[cfg_attr(all(feature = "tracing", not(turbostream_loom)), path = "enabled.rs")]
#[cfg_attr(any(not(feature = "tracing"), turbostream_loom), path = "disabled.rs")]
mod imp;

pub(crate) use self::imp::{Events, are_switches_enabled, are_warnings_enabled, user_code_panicked};

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
