//! The statistics of a run.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A kind of statistic. Its name in JSON is the variant's name in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statistic {
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

/// The statistics of one run.
pub type Outcome = BTreeMap<Statistic, f64>;

impl Statistic {
    /// The heading of its column.
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

/// The median, the 99th and the 99.9th percentile, by nearest rank from below.
pub fn quantiles(mut samples: Vec<u64>) -> [(Statistic, f64); 3] {
    samples.sort_unstable();
    let last = samples.len().saturating_sub(1) as f64;
    [(Statistic::P50Ns, 0.5), (Statistic::P99Ns, 0.99), (Statistic::P999Ns, 0.999)]
        .map(|(statistic, share)| (statistic, samples[(last * share) as usize] as f64))
}
