//! Telemetry: tracing events, recorders and the Prometheus text.

mod events;
mod forwarding;
mod prometheus_text;
mod recorder;
