use super::turbostream::{Configuration, DEFAULT, ZeroCopy};
use crate::workloads::{METRICS, Workload};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use turbostream::{Builder, PrometheusRecorder};

/// A fiftieth of the default, so that a short run contains reports.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

static RECORDER: LazyLock<Arc<PrometheusRecorder>> = LazyLock::new(Arc::default);

/// ZeroCopy with metrics.
pub struct Recorded;

impl Configuration for Recorded {
    const NAME: &'static str = METRICS;
    const API: &'static str =
        "send(&[u8]), recv, ReadMode::ZeroCopy, a PrometheusRecorder called every 100 ms; Bytes";

    /// Compared only with ZeroCopy without metrics.
    fn supports(workload: &Workload) -> bool {
        workload.ours == METRICS
    }

    fn capacities(_: &Workload) -> Vec<usize> {
        vec![DEFAULT]
    }

    fn configure(builder: Builder) -> Builder {
        let builder = ZeroCopy::configure(builder).name("peers");
        builder.recorder(Arc::clone(&RECORDER)).report_interval(REPORT_INTERVAL)
    }
}
