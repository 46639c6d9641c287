//! Statistics of a channel, and how it reports them: recorders, metrics and events.

pub(crate) mod catch_panic;
pub(crate) mod coalescer;
pub(crate) mod events;
pub(crate) mod forwarding;
pub(crate) mod histogram;
#[cfg(feature = "otel")]
pub(crate) mod metrics;
pub(crate) mod recorder;
pub(crate) mod reporter;
pub(crate) mod stats;
pub(crate) mod task_count;
