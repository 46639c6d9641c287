//! A recorder for Prometheus to scrape.

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

/// Keeps figures for Prometheus to scrape: in a registry of its own, or as part of one that is there.
///
/// `docs/metrics.md` of the repository lists all metrics. They are called `TurboStream_…`, as in the Go library
/// TurboStream, which this design comes from. They bear the name of their channel as the label `channel`;
/// channels of the same name add up. Figures are as old as the last report: make
/// [`report_interval`](crate::Builder::report_interval) shorter than the scrape interval.
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
/// assert!(recorder.render()?.contains(line)); // the body of an answer to GET /metrics
/// # Ok(()) }
/// ```
pub struct PrometheusRecorder {
    registry: Registry,
    /// What is recorded in is alive for as long as this is.
    _provider: SdkMeterProvider,
    instruments: Instruments,
}

impl PrometheusRecorder {
    /// The content type of what [`render`](Self::render) gives.
    pub const CONTENT_TYPE: &'static str = prometheus::TEXT_FORMAT;

    /// A recorder with a registry of its own.
    pub fn new() -> Self {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_units()
            .without_target_info()
            .scope_info_enabled(false)
            .build()
            .expect("a new registry takes what is registered first");
        let provider = SdkMeterProvider::builder()
            .with_reader(exporter)
            .with_resource(Resource::builder_empty().build())
            .build();
        let instruments = instruments(&provider, &PROMETHEUS);
        Self { registry, _provider: provider, instruments }
    }

    /// A recorder as part of `registry`: whoever gathers from that gathers from here too.
    ///
    /// # Errors
    ///
    /// [`prometheus::Error::AlreadyReg`] if there is one in it already, which should be shared instead.
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
        registry.register(Box::new(Inner::new(recorder.registry.clone())?))?;
        Ok(recorder)
    }

    /// The metrics of all channels that use this recorder.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// The metrics of all channels that use this recorder as text, in the format that Prometheus scrapes.
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
    fn record(&self, changes: &StatsDelta<'_>) {
        self.instruments.record(changes);
    }
}

impl fmt::Debug for PrometheusRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrometheusRecorder").finish_non_exhaustive()
    }
}

/// One registry as a part of another, which it bears a description of its own for: the exporter has none, so that a
/// registry takes only one of those.
struct Inner {
    registry: Registry,
    desc: Desc,
}

impl Inner {
    fn new(registry: Registry) -> Result<Self, prometheus::Error> {
        let about = "The channels of turbostream".to_owned();
        let desc = Desc::new("TurboStream".to_owned(), about, Vec::new(), Default::default())?;
        Ok(Self { registry, desc })
    }
}

impl Collector for Inner {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}
