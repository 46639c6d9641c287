//! Recorders for monitoring systems: through the API of OpenTelemetry, and with it to Prometheus.

mod instruments;
mod names;
mod otel;
#[cfg(feature = "prometheus")]
mod prometheus;

pub use self::otel::OtelRecorder;
#[cfg(feature = "prometheus")]
pub use self::prometheus::PrometheusRecorder;
