//! A real Prometheus server scrapes the example's endpoint and answers queries that operators use.
//!
//! The tests need `prometheus` and `promtool` (Debian: `apt-get install prometheus`). If the program is missing, a test
//! prints `SKIPPED` and passes, unless `TURBOSTREAM_REQUIRE_SERVERS` is set: then it fails.

#[path = "../../common/mod.rs"]
mod common;
#[path = "../../../examples/metrics_server/load.rs"]
mod load;
#[path = "../../../examples/metrics_server/service.rs"]
mod service;

use std::process::{Child, Command, Stdio};

use common::multi;
use load::Rates;
use serde_json::Value;
use service::Service;
use turbostream_server_tests::{free_port, installed, until};

/// A Prometheus server that scrapes one address five times a second. Dropping it ends the server.
struct Prometheus {
    process: Child,
    api: String,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(binary: &str, target: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
             scrape_configs: [{{job_name: turbostream, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("written");
        let address = format!("127.0.0.1:{}", free_port());
        let process = Command::new(binary)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        Self { process, api: format!("http://{address}/api/v1"), _folder: folder }
    }

    /// Returns the samples of a query: labels and value.
    async fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let (api, query) = (format!("{}/query", self.api), query.to_owned());
        let response = tokio::task::spawn_blocking(move || {
            let mut response = ureq::get(&api).query("query", &query).call().ok()?;
            serde_json::from_str::<Value>(&response.body_mut().read_to_string().ok()?).ok()
        });
        let response = response.await.expect("no panic").unwrap_or_default();
        let samples = response["data"]["result"].as_array().cloned().unwrap_or_default();
        let value = |sample: &Value| sample["value"][1].as_str().and_then(|value| value.parse().ok());
        samples.iter().filter_map(|sample| Some((sample["metric"].clone(), value(sample)?))).collect()
    }

    /// Repeats the query until it returns samples and `is_expected` accepts all their values; returns them.
    async fn query_until(&self, query: &str, is_expected: impl Fn(f64) -> bool) -> Vec<(Value, f64)> {
        until(query, || async {
            let samples = self.query(query).await;
            let expected = !samples.is_empty() && samples.iter().all(|(_, value)| is_expected(*value));
            if expected { Ok(samples) } else { Err(format!("{samples:?}")) }
        })
        .await
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const METRICS: [&str; 15] = [
    "TurboStream_write_counts_total",
    "TurboStream_write_sizes_total",
    "TurboStream_write_errors_total",
    "TurboStream_read_counts_total",
    "TurboStream_read_sizes_total",
    "TurboStream_read_errors_total",
    "TurboStream_switch_counts_total",
    "TurboStream_switch_latency_bucket",
    "TurboStream_switch_latency_sum",
    "TurboStream_switch_latency_count",
    "TurboStream_skip_switch_counts_total",
    "TurboStream_async_workers",
    "TurboStream_pool_alloc_total",
    "TurboStream_active_channel_data_counts",
    "TurboStream_active_channel_data_sizes",
];

#[test]
fn prometheus_server_answers_operator_queries() {
    let Some(binary) = installed("prometheus", "apt-get install prometheus") else { return };
    multi(async move {
        let rates = Rates { small: 20_000, bulky: 4_000, ..Rates::default() };
        let mut service =
            Service::start("127.0.0.1:0".parse().expect("an address"), rates).await.expect("started");
        let prometheus = Prometheus::start(&binary, &service.address().to_string());
        for metric in METRICS {
            let samples =
                prometheus.query_until(&format!("{metric}{{channel='bulky'}}"), |value| value >= 0.0).await;
            assert!(samples.iter().all(|(labels, _)| labels["job"] == "turbostream"), "{samples:?}");
        }
        let success = "rate(TurboStream_write_counts_total{result='success'}[1m])";
        assert_eq!(
            prometheus.query_until(success, |rate| rate > 0.0).await.len(),
            3,
            "one series per channel"
        );
        assert_eq!(
            prometheus.query_until("rate(TurboStream_write_counts_total[1m])", |_| true).await.len(),
            6
        );
        let backlog = prometheus.query_until("TurboStream_active_channel_data_sizes > 1e6", |_| true).await;
        assert_eq!((backlog.len(), &backlog[0].0["channel"]), (1, &Value::from("bulky")));
        let quantile = "histogram_quantile(0.99, sum(rate(TurboStream_switch_latency_bucket[5m])) by (le))";
        prometheus.query_until(quantile, |seconds| seconds > 0.0 && seconds <= 0.1).await;

        for sent in service.stop_load().await.expect("sent") {
            assert!(sent.messages > 0, "{sent:?}");
            let total = |metric: &str| format!("{metric}{{channel='{}',result!='failure'}}", sent.channel);
            let is = |expected: u64| move |value: f64| value == expected as f64;
            prometheus.query_until(&total("TurboStream_write_counts_total"), is(sent.messages)).await;
            prometheus.query_until(&total("TurboStream_write_sizes_total"), is(sent.bytes)).await;
            let channel = sent.channel;
            let received_and_queued = format!(
                "TurboStream_read_counts_total{{channel='{channel}',result='success'}} + \
                 ignoring(result) TurboStream_queued_data_counts{{channel='{channel}'}}"
            );
            prometheus.query_until(&received_and_queued, is(sent.messages)).await;
        }
        assert_eq!(prometheus.query("TurboStream_write_errors_total > 0").await, []);
    });
}

/// `promtool` accepts the alerts of `docs/alerts.yml`, and their tests in `docs/alerts_test.yml` pass.
#[test]
fn alerts_are_valid_and_pass_their_rule_tests() {
    let Some(promtool) = installed("promtool", "apt-get install prometheus") else { return };
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]] {
        let output = Command::new(&promtool).args(arguments).current_dir(docs).output().expect("started");
        let printed =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {printed}");
    }
}

/// Metrics that are the sums of others, of which the dashboard shows the parts.
const SUMS: [&str; 3] =
    ["TurboStream_write_errors_total", "TurboStream_read_errors_total", "TurboStream_switch_counts_total"];

/// Every metric that the dashboard queries is exported, and it queries every exported one but the sums. `docs/metrics.md`
/// lists all of them.
#[test]
fn dashboard_and_tables_have_exactly_the_exported_metrics() {
    let text = include_str!("../../../docs/grafana-dashboard.json");
    let tables = include_str!("../../../docs/metrics.md");
    serde_json::from_str::<Value>(text).expect("JSON");
    multi(async move {
        let address = "127.0.0.1:0".parse().expect("an address");
        let mut service = Service::start(address, Rates::default()).await.expect("started");
        let url = format!("http://{}/metrics", service.address());
        let exported = until("a switch and a confirmation", || async {
            let url = url.clone();
            let get =
                tokio::task::spawn_blocking(move || ureq::get(&url).call()?.body_mut().read_to_string());
            let text = get.await.expect("no panic").expect("a response");
            let latest = ["TurboStream_switch_latency_bucket", "TurboStream_forward_latency_bucket"];
            if latest.into_iter().all(|metric| text.contains(metric)) { Ok(text) } else { Err(text) }
        })
        .await;
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let queried: Vec<_> = words.filter(|word| word.starts_with("TurboStream_")).collect();
        assert!(queried.len() > 10, "{queried:?}");
        for metric in &queried {
            assert!(exported.contains(&format!("\n{metric}")), "{metric}");
        }
        let families = exported.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        for (name, kind) in families {
            let metric = if kind == "histogram" { format!("{name}_bucket") } else { name.to_owned() };
            assert!(SUMS.contains(&name) || queried.contains(&metric.as_str()), "no panel: {metric}");
            assert!(tables.contains(&format!("| `{name}")), "no row: {name}");
        }
        service.stop_load().await.expect("sent");
    });
}
