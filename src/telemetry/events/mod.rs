//! `tracing` events of a channel, in a span of its own; nothing without the feature `tracing`.
//!
//! No event is emitted under a lock, and none for a single message: conditions that concern many messages, or that
//! last, are found by the background task. A panic of a subscriber is caught.

#[cfg_attr(all(feature = "tracing", not(turbostream_loom)), path = "enabled.rs")]
#[cfg_attr(any(not(feature = "tracing"), turbostream_loom), path = "disabled.rs")]
mod imp;

pub(crate) use self::imp::{Events, are_switches_enabled, are_warnings_enabled, user_code_panicked};

use super::stats::SwitchCause;

/// A switch that was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Switched {
    pub(crate) cause: SwitchCause,
    /// The sequence of the segment that was sealed or cut.
    pub(crate) sequence: u64,
    /// How many messages the switch made readable.
    pub(crate) messages: usize,
}
