//! Emits nothing: stands in for `enabled.rs` without the feature `tracing`, and in loom models.

use std::time::Duration;

use super::Switched;
use crate::telemetry::stats::{Drops, SendErrors, Stats};

#[inline(always)]
pub(crate) fn is_emitting() -> bool {
    false
}

pub(crate) fn user_code_panicked() {}

#[cfg(feature = "prometheus")]
pub(crate) fn too_many_channels(_limit: usize) {}

pub(crate) struct Events;

impl Events {
    pub(crate) fn new(_name: Option<&str>, _is_silent: bool) -> Self {
        Self
    }
    pub(crate) fn silence(&self) {}
    #[inline(always)]
    pub(crate) fn may_emit_switches(&self) -> bool {
        false
    }
    #[inline(always)]
    pub(crate) fn are_warnings_enabled(&self) -> bool {
        false
    }
    pub(crate) fn switched(&self, switched: Switched) {
        let Switched { cause: _cause, sequence: _sequence, messages: _messages } = switched;
    }
    pub(crate) fn refused(&self, _: SendErrors) {}
    pub(crate) fn dropped(&self, _: Drops) {}
    pub(crate) fn stalled(&self, _: u64, _: Duration, _: &Stats) {}
    pub(crate) fn held(&self, _: Duration, _: &Stats) {}
    pub(crate) fn waiting(&self, _: &Stats) {}
}

#[cfg(feature = "forward")]
impl Events {
    pub(crate) fn forwarder_disconnected(&self, _: u64, _: u64) {}
    pub(crate) fn forwarder_connected(&self, _: Duration, _: u64, _: u64) {}
    pub(crate) fn forwarder_failed(&self, _: &dyn std::fmt::Display, _: usize) {}
    pub(crate) fn messages_rejected(&self, _: u64) {}
    pub(crate) fn forwarder_retries(&self, _: Duration, _: u64, _: u64, _: Option<&dyn std::fmt::Display>) {}
}
