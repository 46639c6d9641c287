//! Emits nothing: stands in for `enabled.rs` without the feature `tracing`, and in loom models.

use std::time::Duration;

use super::Switched;
use crate::telemetry::stats::{Drops, SendErrors, Stats};

#[inline]
pub(crate) fn are_switches_enabled() -> bool {
    false
}

#[inline]
pub(crate) fn are_warnings_enabled() -> bool {
    false
}

pub(crate) fn user_code_panicked() {}

pub(crate) struct Events;

impl Events {
    pub(crate) fn new(_: Option<&str>) -> Self {
        Self
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
