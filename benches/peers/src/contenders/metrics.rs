use super::{Contender, RECEIVED, Unit, visit_one};
use crate::workloads::{METRICS, Workload};
use bytes::Bytes;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use turbostream::{PrometheusRecorder, ReadMode, Receiver, Sender};

/// A fiftieth of the default, so that a short run contains reports.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

static RECORDER: LazyLock<Arc<PrometheusRecorder>> = LazyLock::new(Arc::default);

/// ZeroCopy with metrics.
pub struct Recorded;

impl Contender for Recorded {
    const NAME: &'static str = METRICS;
    const CRATE: &'static str = "turbostream";
    const API: &'static str =
        "send(&[u8]), recv, ReadMode::ZeroCopy, a PrometheusRecorder called every 100 ms; Bytes";
    const UNIT: Unit = Unit::Bytes;

    type Tx = Sender;
    type Rx = Receiver;

    /// Compared only with ZeroCopy without metrics.
    fn supports(workload: &Workload) -> bool {
        workload.ours == METRICS
    }

    fn capacities(_: &Workload) -> Vec<usize> {
        vec![super::turbostream::DEFAULT]
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        let builder = turbostream::builder().max_bytes(capacity).read_mode(ReadMode::ZeroCopy).name("peers");
        let builder = builder.recorder(Arc::clone(&RECORDER)).report_interval(REPORT_INTERVAL);
        builder.build().expect("the capacity is valid")
    }

    fn clone_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn clone_rx(rx: &Self::Rx) -> Self::Rx {
        rx.clone()
    }

    async fn send_bytes(tx: &mut Self::Tx, message: Bytes) {
        tx.send(message).await.expect(RECEIVED);
    }

    async fn send(tx: &mut Self::Tx, payload: &[u8]) {
        tx.send(payload).await.expect(RECEIVED);
    }

    async fn recv(rx: &mut Self::Rx, visit: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        visit_one(rx.recv().await, visit)
    }
}
