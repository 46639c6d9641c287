//! The OpenTelemetry recorder exports through the SDK and OTLP to a collector, which decodes the requests.

#[path = "../../common/mod.rs"]
mod common;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::multi;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric, number_data_point};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use turbostream::{MessageCount, OtelRecorder};

/// Keeps the last value of each series, which is the total: series are cumulative.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Collected>>);

#[derive(Default)]
struct Collected {
    units: HashMap<String, String>,
    sums: HashMap<String, i64>,
    /// Counts by bucket, bounds, and sum.
    histograms: HashMap<String, (Vec<u64>, Vec<f64>, f64)>,
    scopes: Vec<String>,
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let mut collected = self.0.lock().expect("no panic");
        let resources = request.into_inner().resource_metrics;
        for scope in resources.into_iter().flat_map(|resource| resource.scope_metrics) {
            collected.scopes.extend(scope.scope.map(|scope| scope.name));
            for metric in scope.metrics {
                collected.take(metric);
            }
        }
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

impl Collected {
    fn take(&mut self, metric: Metric) {
        self.units.insert(metric.name.clone(), metric.unit);
        match metric.data {
            Some(metric::Data::Sum(sum)) => {
                for point in sum.data_points {
                    let Some(number_data_point::Value::AsInt(value)) = point.value else { continue };
                    self.sums.insert(series(&metric.name, &point.attributes), value);
                }
            }
            Some(metric::Data::Histogram(histogram)) => {
                for point in histogram.data_points {
                    let value = (point.bucket_counts, point.explicit_bounds, point.sum.unwrap_or_default());
                    self.histograms.insert(series(&metric.name, &point.attributes), value);
                }
            }
            other => panic!("{}: {other:?}", metric.name),
        }
    }
}

impl Collected {
    fn assert_switches_are(&self, latency: &turbostream::Histogram) {
        let series = "turbostream.switch.duration{turbostream.channel.name=orders}";
        let (counts, bounds, sum) = &self.histograms[series];
        let expected: Vec<_> = latency.buckets().iter().map(|bucket| bucket.count).collect();
        assert_eq!((counts, bounds), (&expected, &vec![0.001, 0.005, 0.01, 0.05, 0.1]));
        let difference = sum - latency.sum().as_secs_f64();
        assert!(difference.abs() < 1e-6, "{difference}");
    }
}

/// Returns the name of a series with its attributes: `name{key=value}`.
fn series(name: &str, attributes: &[KeyValue]) -> String {
    let value = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|any| any.value.as_ref()) {
        Some(any_value::Value::StringValue(value)) => format!("{}={value}", attribute.key),
        other => panic!("{}: {other:?}", attribute.key),
    };
    let mut attributes: Vec<_> = attributes.iter().map(value).collect();
    attributes.sort();
    format!("{name}{{{}}}", attributes.join(","))
}

/// Starts a collector on a free local port, and returns its URL.
fn collect(collector: Collector) -> String {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = incoming.local_addr().expect("bound");
    let service = MetricsServiceServer::new(collector);
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    format!("http://{address}")
}

fn provider(endpoint: &str) -> SdkMeterProvider {
    let exporter = opentelemetry_otlp::MetricExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(Duration::from_secs(20))
        .build()
        .expect("an exporter");
    SdkMeterProvider::builder().with_periodic_exporter(exporter).build()
}

#[test]
fn otlp_export_matches_channel_statistics() {
    multi(async {
        let collector = Collector::default();
        let provider = provider(&collect(collector.clone()));
        let recorder = Arc::new(OtelRecorder::of(&provider));
        let open = |name| {
            let builder = turbostream::builder().name(name).strategy(MessageCount(100)).on_demand(false);
            builder.max_message_bytes(1000).recorder(recorder.clone()).build().expect("valid")
        };
        let ((tx, mut rx), (other, _other)) = (open("orders"), open("events"));
        for _ in 0..250 {
            tx.send([7; 100]).await.expect("open");
        }
        other.send("one").await.expect("open");
        for _ in 0..150 {
            rx.recv().await.expect("accepted");
        }
        assert!(tx.send([7; 1001]).await.is_err());
        rx.close();
        assert!(tx.send("late").await.is_err());
        let stats = tx.monitor().stats();
        tx.monitor().flush();
        other.monitor().flush();
        flush(provider).await;

        let collected = collector.0.lock().expect("no panic");
        assert_eq!(collected.scopes.first().map(String::as_str), Some("turbostream"));
        for (series, value) in [
            ("turbostream.sent.messages{turbostream.channel.name=orders}", 250),
            ("turbostream.sent.messages{turbostream.channel.name=events}", 1),
            ("turbostream.sent.io{turbostream.channel.name=orders}", 25_000),
            ("turbostream.sent.io{turbostream.channel.name=events}", 3),
            ("turbostream.received.messages{turbostream.channel.name=orders}", 150),
            ("turbostream.queue.messages{turbostream.channel.name=orders}", 100),
            ("turbostream.queue.size{turbostream.channel.name=orders}", 10_000),
            ("turbostream.send.errors{error.type=too_large,turbostream.channel.name=orders}", 1),
            ("turbostream.send.errors{error.type=closed,turbostream.channel.name=orders}", 1),
            ("turbostream.switches{turbostream.channel.name=orders,turbostream.switch.cause=strategy}", 2),
            ("turbostream.memory.limit{turbostream.channel.name=orders}", 16 << 20),
        ] {
            assert_eq!(collected.sums.get(series), Some(&value), "{series}");
        }
        collected.assert_switches_are(&stats.switch_latency);
        for (name, unit) in [
            ("turbostream.sent.messages", "{message}"),
            ("turbostream.sent.io", "By"),
            ("turbostream.switch.duration", "s"),
            ("turbostream.memory.usage", "By"),
        ] {
            assert_eq!(collected.units[name], unit, "{name}");
        }
    });
}

/// Exports all remaining values, and shuts the provider down.
///
/// The exporter blocks its caller until the collector has responded. Its default timeout of 5 s is too short for a busy
/// machine.
async fn flush(provider: SdkMeterProvider) {
    let flushed =
        tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(Duration::from_secs(20)));
    flushed.await.expect("no panic").expect("exported");
}
