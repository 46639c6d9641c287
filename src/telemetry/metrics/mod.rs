//! Recorders for monitoring systems: OpenTelemetry, and Prometheus on top of it.

mod instruments;
mod names;
mod otel;
#[cfg(feature = "prometheus")]
mod prometheus;

pub use self::otel::OtelRecorder;
#[cfg(feature = "prometheus")]
pub use self::prometheus::PrometheusRecorder;
