//! What a run measures.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One kind of figure; the name that it has in JSON is its own, in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    NsPerMessage,
    P50Ns,
    P99Ns,
    P999Ns,
    IntervalNs,
    HeapNewBytes,
    HeapUsedBytes,
    HeapRestBytes,
    ResidentNewBytes,
    ResidentUsedBytes,
    ResidentRestBytes,
    CpuRestMs,
    CpuIdleMs,
}

/// The figures of one run.
pub type Outcome = BTreeMap<Figure, f64>;

impl Figure {
    /// The head of its column.
    pub fn head(self) -> &'static str {
        match self {
            Self::NsPerMessage => "ns/message",
            Self::P50Ns => "p50 ns",
            Self::P99Ns => "p99 ns",
            Self::P999Ns => "p99.9 ns",
            Self::IntervalNs => "interval ns",
            Self::HeapNewBytes => "heap new B",
            Self::HeapUsedBytes => "heap used B",
            Self::HeapRestBytes => "heap at rest B",
            Self::ResidentNewBytes => "resident new B",
            Self::ResidentUsedBytes => "resident used B",
            Self::ResidentRestBytes => "resident at rest B",
            Self::CpuRestMs => "CPU of the rest ms",
            Self::CpuIdleMs => "CPU idle ms",
        }
    }

    pub fn show(self, value: f64) -> String {
        match self {
            Self::NsPerMessage => format!("{value:.1}"),
            Self::CpuRestMs | Self::CpuIdleMs => format!("{value:.2}"),
            _ => format!("{value:.0}"),
        }
    }
}

/// The median, the 99th percentile and the 99.9th, by nearest rank from below.
pub fn quantiles(mut samples: Vec<u64>) -> [(Figure, f64); 3] {
    samples.sort_unstable();
    let last = samples.len().saturating_sub(1) as f64;
    [(Figure::P50Ns, 0.5), (Figure::P99Ns, 0.99), (Figure::P999Ns, 0.999)]
        .map(|(figure, share)| (figure, samples[(last * share) as usize] as f64))
}
