//! A recorder that Prometheus scrapes.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, Registry, TextEncoder};

use super::instruments::Instruments;
use super::names::PROMETHEUS;
use super::otel::instruments;
use crate::telemetry::events::too_many_channels;
use crate::telemetry::recorder::{Recorder, StatsDelta};

/// How many series the SDK keeps of each metric. It adds up further ones in a series with the label `otel_metric_overflow`.
const MAX_SERIES: usize = 2000;

/// The name of the collector in the registry of the user, and of the metric with which it finds the labels of that.
const COLLECTOR: &str = "TurboStream";

thread_local! {
    /// Whether this thread gathers from a registry to find its labels.
    static PROBES: Cell<bool> = const { Cell::new(false) };
}

/// Keeps statistics for Prometheus to scrape: in a registry of its own, or as part of an existing one.
///
/// `docs/metrics.md` of the repository lists all metrics. Their names begin with `TurboStream_`, as in the Go library
/// TurboStream, on which this design is based. The label `channel` holds the name of the channel; channels of the same
/// name are added up. Values are as of the last report: set [`report_interval`](crate::Builder::report_interval) to less
/// than the scrape interval.
///
/// A recorder has series for 400 names; a channel without a name counts as one. The values of further channels are added up
/// in one series for each metric, with the label `otel_metric_overflow` and without a name. An event at WARN says so once.
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
    /// The place in a registry of the user.
    registration: Option<Registration>,
    /// The names of channels so far: one more than there is room for at most.
    channels: Mutex<HashSet<Option<String>>>,
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
        Self { registry, registration: None, channels: Mutex::default(), _provider: provider, instruments }
    }

    /// Creates a recorder as part of `registry`: gathering from `registry` includes its metrics until the recorder is
    /// dropped.
    ///
    /// To find the constant labels of `registry`, it gathers from it once.
    ///
    /// # Errors
    ///
    /// - [`prometheus::Error::AlreadyReg`] if `registry` already contains a recorder; share that one instead.
    /// - [`prometheus::Error::Msg`] if `registry` has a constant label that is a label of this recorder's metrics too, such
    ///   as `channel`. Prometheus would refuse the metrics for the duplicate. Nothing stays registered.
    ///
    /// # Examples
    ///
    /// ```
    /// use turbostream::PrometheusRecorder;
    /// let registry = prometheus::Registry::new();
    /// let recorder = PrometheusRecorder::in_registry(&registry)?;
    /// assert!(PrometheusRecorder::in_registry(&registry).is_err());
    /// drop(recorder);
    /// assert!(PrometheusRecorder::in_registry(&registry).is_ok());
    /// # Ok::<(), prometheus::Error>(())
    /// ```
    pub fn in_registry(registry: &Registry) -> Result<Self, prometheus::Error> {
        let mut recorder = Self::new();
        recorder.registration = Some(Registration::new(registry, &recorder.registry)?);
        match constant_labels(registry).into_iter().find(|label| PROMETHEUS.uses_label(label)) {
            Some(label) => Err(prometheus::Error::Msg(format!(
                "the registry has the constant label `{label}`, which is a label of channel metrics too"
            ))),
            None => Ok(recorder),
        }
    }

    /// Emits an event when the channels first have more names than there are series for.
    fn note_channel(&self, name: Option<&str>) {
        let limit = MAX_SERIES / PROMETHEUS.series_of_a_channel();
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first_beyond =
            channels.len() <= limit && channels.insert(name.map(str::to_owned)) && channels.len() > limit;
        drop(channels);
        if is_first_beyond {
            too_many_channels(limit);
        }
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
        self.note_channel(delta.channel());
    }
}

impl fmt::Debug for PrometheusRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrometheusRecorder").finish_non_exhaustive()
    }
}

/// A registry that another one gathers from, until this is dropped.
struct Registration {
    parent: Registry,
    nested: NestedRegistry,
}

impl Registration {
    fn new(parent: &Registry, registry: &Registry) -> Result<Self, prometheus::Error> {
        let nested = NestedRegistry::new(registry.clone())?;
        parent.register(Box::new(nested.clone()))?;
        Ok(Self { parent: parent.clone(), nested })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // It fails if the user has unregistered the collector.
        let _ = self.parent.unregister(Box::new(self.nested.clone()));
    }
}

/// A registry as a collector of another registry.
///
/// It has a description of its own. The exporter's collector has none, and a registry accepts only one such collector.
#[derive(Clone)]
struct NestedRegistry {
    registry: Registry,
    desc: Desc,
}

impl NestedRegistry {
    fn new(registry: Registry) -> Result<Self, prometheus::Error> {
        let help = "The channels of turbostream".to_owned();
        let desc = Desc::new(COLLECTOR.to_owned(), help, Vec::new(), Default::default())?;
        Ok(Self { registry, desc })
    }
}

impl Collector for NestedRegistry {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        if PROBES.get() {
            return IntGauge::new(COLLECTOR, "no labels")
                .map_or_else(|_| Vec::new(), |gauge| gauge.collect());
        }
        self.registry.gather()
    }
}

/// Returns the names of the labels that `registry`, in which a collector is registered, adds to every metric.
fn constant_labels(registry: &Registry) -> Vec<String> {
    struct Probe;
    impl Drop for Probe {
        fn drop(&mut self) {
            PROBES.set(false);
        }
    }
    PROBES.set(true);
    let _probe = Probe; // also if another collector panics
    let is_probe = |family: &&MetricFamily| family.name().ends_with(COLLECTOR);
    let families = registry.gather();
    let metrics = families.iter().filter(is_probe).flat_map(MetricFamily::get_metric);
    metrics.flat_map(|metric| metric.get_label()).map(|label| label.name().to_owned()).collect()
}
