//! The Prometheus text output: names, types, labels and values.
#![cfg(feature = "prometheus")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::common::{current, multi};
use turbostream::{MessageCount, PrometheusRecorder};

/// Parses the samples of a text by name and labels.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').expect("a sample");
        (series.to_owned(), value.parse().expect("a value"))
    };
    lines.map(sample).collect()
}

/// The exact names and types of the thirteen metrics.
const METRICS: [(&str, &str); 13] = [
    ("TurboStream_write_counts_total", "counter"),
    ("TurboStream_write_sizes_total", "counter"),
    ("TurboStream_write_errors_total", "counter"),
    ("TurboStream_read_counts_total", "counter"),
    ("TurboStream_read_sizes_total", "counter"),
    ("TurboStream_read_errors_total", "counter"),
    ("TurboStream_switch_counts_total", "counter"),
    ("TurboStream_switch_latency", "histogram"),
    ("TurboStream_skip_switch_counts_total", "counter"),
    ("TurboStream_async_workers", "gauge"),
    ("TurboStream_pool_alloc_total", "counter"),
    ("TurboStream_active_channel_data_counts", "gauge"),
    ("TurboStream_active_channel_data_sizes", "gauge"),
];

#[test]
fn metric_names_types_labels_and_values_are_exact() {
    current(async {
        let recorder = Arc::new(PrometheusRecorder::new());
        let builder = turbostream::builder().name("a").strategy(MessageCount(2)).on_demand(false);
        let (tx, mut rx) = builder.max_message_bytes(10).recorder(recorder.clone()).build().expect("valid");
        for _ in 0..5 {
            tx.send("four").await.expect("open");
        }
        rx.recv().await.expect("accepted");
        assert!(tx.send("much too long").await.is_err());
        assert!(rx.recv_many(&mut Vec::new(), 9).await > 0);
        assert!(rx.recv_timeout(Duration::from_millis(1)).await.is_err());
        tx.monitor().flush();
        let text = recorder.render().expect("text");
        for (name, kind) in METRICS {
            assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name} in {text}");
        }
        let samples = samples(&text);
        for (series, value) in [
            (r#"TurboStream_write_counts_total{channel="a",result="success"}"#, 5.0),
            (r#"TurboStream_write_counts_total{channel="a",result="failure"}"#, 1.0),
            (r#"TurboStream_write_sizes_total{channel="a"}"#, 20.0),
            (r#"TurboStream_write_errors_total{channel="a"}"#, 1.0),
            (r#"TurboStream_read_counts_total{channel="a",result="success"}"#, 4.0),
            (r#"TurboStream_read_counts_total{channel="a",result="failure"}"#, 1.0),
            (r#"TurboStream_read_sizes_total{channel="a"}"#, 16.0),
            (r#"TurboStream_read_errors_total{channel="a"}"#, 1.0),
            (r#"TurboStream_switch_counts_total{channel="a"}"#, 2.0),
            (r#"TurboStream_switch_latency_count{channel="a"}"#, 2.0),
            (r#"TurboStream_switch_latency_bucket{channel="a",le="+Inf"}"#, 2.0),
            (r#"TurboStream_active_channel_data_counts{channel="a"}"#, 1.0),
            (r#"TurboStream_active_channel_data_sizes{channel="a"}"#, 4.0),
            (r#"TurboStream_pool_alloc_total{channel="a"}"#, 3.0),
            (r#"TurboStream_async_workers{channel="a"}"#, 2.0),
            (r#"TurboStream_queued_data_sizes{channel="a"}"#, 4.0),
            (r#"TurboStream_write_refusal_counts_total{channel="a",reason="too_large"}"#, 1.0),
        ] {
            assert_eq!(samples.get(series), Some(&value), "{series} in {text}");
        }
        for bound in ["0.001", "0.005", "0.01", "0.05", "0.1"] {
            let series = format!("TurboStream_switch_latency_bucket{{channel=\"a\",le=\"{bound}\"}}");
            assert!(samples.contains_key(&series), "{series} in {text}");
        }
        assert!(!text.contains("otel_scope"), "{text}");
    });
}

#[test]
fn existing_registry_gathers_channel_metrics() {
    current(async {
        let registry = prometheus::Registry::new();
        let other = prometheus::IntCounter::new("other_total", "of another library").expect("valid");
        registry.register(Box::new(other)).expect("new");
        let recorder = PrometheusRecorder::in_registry(&registry).expect("new");
        let (tx, _rx) = turbostream::builder().recorder(recorder).build().expect("valid");
        tx.send("abc").await.expect("open");
        tx.monitor().flush();
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).expect("text");
        let samples = samples(&text);
        assert_eq!(samples["other_total"], 0.0);
        assert_eq!(samples[r#"TurboStream_write_counts_total{result="success"}"#], 1.0);
        assert!(PrometheusRecorder::in_registry(&registry).is_err(), "one is registered already");
    });
}

#[test]
fn gauges_are_zero_and_counters_persist_after_the_channel_ends() {
    multi(async {
        let recorder = Arc::new(PrometheusRecorder::new());
        for _ in 0..3 {
            let builder = turbostream::builder().name("same").recorder(recorder.clone());
            let (tx, mut rx) = builder.build().expect("valid");
            for _ in 0..1000 {
                tx.send("abc").await.expect("open");
            }
            drop(tx);
            while rx.recv().await.is_some() {}
            drop(rx);
        }
        // A background task on another thread may drop the last reference to the channel.
        while samples(&recorder.render().expect("text"))[r#"TurboStream_async_workers{channel="same"}"#] > 0.0
        {
            tokio::task::yield_now().await;
        }
        let samples = samples(&recorder.render().expect("text"));
        assert_eq!(samples[r#"TurboStream_read_counts_total{channel="same",result="success"}"#], 3000.0);
        assert_eq!(samples[r#"TurboStream_read_sizes_total{channel="same"}"#], 9000.0);
        for state in ["active", "sealed", "lent", "pooled", "referenced"] {
            let series = format!("TurboStream_memory_bytes{{channel=\"same\",state=\"{state}\"}}");
            assert_eq!(samples[&series], 0.0, "{series}");
        }
    });
}

#[test]
fn registry_accepts_another_recorder_after_the_first_was_dropped() {
    current(async {
        let registry = prometheus::Registry::new();
        for round in 0..3 {
            let recorder = Arc::new(PrometheusRecorder::in_registry(&registry).expect("none is registered"));
            let in_use = PrometheusRecorder::in_registry(&registry).expect_err("one is registered");
            assert!(matches!(in_use, prometheus::Error::AlreadyReg), "{in_use}");
            let builder = turbostream::builder().recorder(recorder.clone());
            let (tx, rx) = builder.build().expect("valid");
            for _ in 0..=round {
                tx.send("abc").await.expect("open");
            }
            tx.monitor().flush();
            let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).expect("text");
            let sent = samples(&text)[r#"TurboStream_write_counts_total{result="success"}"#];
            assert_eq!(sent, f64::from(round + 1), "that of the new recorder alone");
            drop((tx, rx));
            // The task that reports may hold the last reference to the channel, and so to the recorder.
            while Arc::strong_count(&recorder) > 1 {
                tokio::task::yield_now().await;
            }
        }
        assert!(registry.gather().is_empty());
    });
}

#[test]
fn registry_with_a_constant_label_of_channel_metrics_is_refused() {
    let labelled = |label: &str| {
        let labels = [(label.to_owned(), "x".to_owned())].into();
        prometheus::Registry::new_custom(Some("prefix".to_owned()), Some(labels)).expect("valid")
    };
    for label in ["channel", "result", "reason", "cause", "state", "le"] {
        let registry = labelled(label);
        for _ in 0..2 {
            let error = PrometheusRecorder::in_registry(&registry).expect_err("a duplicate label");
            assert!(matches!(&error, prometheus::Error::Msg(text) if text.contains(label)), "{error}");
        }
        assert!(registry.gather().is_empty());
    }
    current(async move {
        let registry = labelled("service");
        let recorder = PrometheusRecorder::in_registry(&registry).expect("no duplicate");
        let (tx, _rx) = turbostream::builder().name("a").recorder(recorder).build().expect("valid");
        tx.monitor().flush();
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).expect("text");
        assert!(text.contains(r#"prefix_TurboStream_waiting_senders{channel="a",service="x"} 0"#), "{text}");
    });
}

#[test]
fn recorder_has_series_for_four_hundred_names() {
    current(async {
        let recorder = Arc::new(PrometheusRecorder::new());
        let report = |number: usize| {
            let builder = turbostream::builder().name(format!("channel {number}")).recorder(recorder.clone());
            let (tx, _rx) = builder.build().expect("valid");
            tx.monitor().flush();
        };
        let overflows = || recorder.render().expect("text").contains("otel_metric_overflow");
        (0..400).for_each(report);
        assert!(!overflows());
        report(400);
        assert!(overflows());
    });
}

/// An `OtelRecorder` over the exporter of OpenTelemetry, with its defaults, has other names: those that `docs/metrics.md` says.
#[test]
fn otel_recorder_has_other_names_in_prometheus() {
    current(async {
        let registry = prometheus::Registry::new();
        let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build();
        let provider = opentelemetry_sdk::metrics::SdkMeterProvider::builder();
        let provider = provider.with_reader(exporter.expect("an empty registry")).build();
        let recorder = turbostream::OtelRecorder::of(&provider);
        let (tx, mut rx) = turbostream::builder().name("a").recorder(recorder).build().expect("valid");
        tx.send("four").await.expect("open");
        tx.switch();
        rx.recv().await.expect("accepted");
        tx.monitor().flush();
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).expect("text");
        let docs = include_str!("../../../docs/metrics.md");
        for (name, kind) in [
            ("turbostream_sent_messages_total", "counter"),
            ("turbostream_sent_io_bytes_total", "counter"),
            ("turbostream_queue_size_bytes", "gauge"),
            ("turbostream_memory_usage_bytes", "gauge"),
            ("turbostream_waiting", "gauge"),
            ("turbostream_switch_duration_seconds", "histogram"),
        ] {
            assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name} in {text}");
            assert!(docs.contains(&format!("`{name}`")), "{name} in the documentation");
        }
        let scope = concat!(
            r#"otel_scope_name="turbostream",otel_scope_version=""#,
            env!("CARGO_PKG_VERSION"),
            r#"""#
        );
        let sent = format!("turbostream_sent_io_bytes_total{{turbostream_channel_name=\"a\",{scope}}}");
        assert_eq!(samples(&text).get(&sent), Some(&4.0), "{text}");
        assert!(!text.contains("TurboStream_"), "{text}");
    });
}
