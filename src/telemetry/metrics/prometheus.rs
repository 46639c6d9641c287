//! A recorder that Prometheus scrapes.

use std::fmt;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Registry, TextEncoder};

use super::instruments::Instruments;
use super::names::PROMETHEUS;
use super::otel::instruments;
use crate::telemetry::recorder::{Recorder, StatsDelta};

/// Keeps statistics for Prometheus to scrape: in a registry of its own, or as part of an existing one.
///
/// `docs/metrics.md` of the repository lists all metrics. Their names begin with `TurboStream_`, as in the Go library
/// TurboStream, on which this design is based. The label `channel` holds the name of the channel; channels of the same
/// name are added up. Values are as of the last report: set [`report_interval`](crate::Builder::report_interval) to less
/// than the scrape interval.
///
/// # Examples
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use turbostream::PrometheusRecorder;
///
/// let recorder = Arc::new(PrometheusRecorder::new());
/// let (tx, _rx) = turbostream::builder().name("orders").recorder(recorder.clone()).build()?;
/// tx.send("a message").await?;
/// tx.monitor().flush();
/// let line = r#"TurboStream_write_counts_total{channel="orders",result="success"} 1"#;
/// assert!(recorder.render()?.contains(line)); // the body of the response to GET /metrics
/// # Ok(()) }
/// ```
pub struct PrometheusRecorder {
    registry: Registry,
    /// Keeps the instruments working; they record nothing after it is dropped.
    _provider: SdkMeterProvider,
    instruments: Instruments,
}

impl PrometheusRecorder {
    /// The content type of the text that [`render`](Self::render) returns.
    pub const CONTENT_TYPE: &'static str = prometheus::TEXT_FORMAT;

    /// Creates a recorder with a registry of its own.
    pub fn new() -> Self {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_units()
            .without_target_info()
            .scope_info_enabled(false)
            .build()
            .expect("an empty registry accepts the exporter");
        let provider = SdkMeterProvider::builder()
            .with_reader(exporter)
            .with_resource(Resource::builder_empty().build())
            .build();
        let instruments = instruments(&provider, &PROMETHEUS);
        Self { registry, _provider: provider, instruments }
    }

    /// Creates a recorder as part of `registry`: gathering from `registry` includes its metrics.
    ///
    /// # Errors
    ///
    /// [`prometheus::Error::AlreadyReg`] if `registry` already contains a recorder; share that one instead.
    ///
    /// # Examples
    ///
    /// ```
    /// use turbostream::PrometheusRecorder;
    /// let registry = prometheus::Registry::new();
    /// let _recorder = PrometheusRecorder::in_registry(&registry)?;
    /// assert!(PrometheusRecorder::in_registry(&registry).is_err());
    /// # Ok::<(), prometheus::Error>(())
    /// ```
    pub fn in_registry(registry: &Registry) -> Result<Self, prometheus::Error> {
        let recorder = Self::new();
        registry.register(Box::new(NestedRegistry::new(recorder.registry.clone())?))?;
        Ok(recorder)
    }

    /// Returns the metrics of all channels that use this recorder.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// Returns the metrics of all channels that use this recorder, in the text format that Prometheus scrapes.
    ///
    /// # Errors
    ///
    /// Those of [`TextEncoder`].
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.gather())
    }
}

impl Default for PrometheusRecorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder for PrometheusRecorder {
    fn record(&self, delta: &StatsDelta<'_>) {
        self.instruments.record(delta);
    }
}

impl fmt::Debug for PrometheusRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrometheusRecorder").finish_non_exhaustive()
    }
}

/// A registry as a collector of another registry.
///
/// It has a description of its own. The exporter's collector has none, and a registry accepts only one such collector.
struct NestedRegistry {
    registry: Registry,
    desc: Desc,
}

impl NestedRegistry {
    fn new(registry: Registry) -> Result<Self, prometheus::Error> {
        let help = "The channels of turbostream".to_owned();
        let desc = Desc::new("TurboStream".to_owned(), help, Vec::new(), Default::default())?;
        Ok(Self { registry, desc })
    }
}

impl Collector for NestedRegistry {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}
