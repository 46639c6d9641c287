//! The targets of turbostream, and whether it reaches them.

use crate::alloc::Allocator;
use crate::report::Row;
use crate::workloads::{Statistic, Workload};

pub struct Target {
    ours: &'static str,
    statistic: Statistic,
    bound: Bound,
    only: Option<Allocator>,
}

enum Bound {
    /// The minimum ratio of the best peer to ours.
    BestPeer(f64),
    /// The minimum ratio of this peer to ours.
    Peer(&'static str, f64),
    /// The maximum ratio of ours to this contender.
    AtMost(&'static str, f64),
    /// The maximum ratio of ours to ours in this workload.
    Growth(&'static str, f64),
    /// The maximum of the statistic.
    Limit(f64),
}

/// The measurement for one target.
pub struct Verdict {
    pub allocator: Allocator,
    pub target: String,
    pub measured: String,
    pub reached: bool,
}

impl Target {
    const fn new(ours: &'static str, statistic: Statistic, bound: Bound) -> Self {
        Self { ours, statistic, bound, only: None }
    }

    pub const fn best_peer(ours: &'static str, times: f64) -> Self {
        Self::new(ours, Statistic::NsPerMessage, Bound::BestPeer(times))
    }

    pub const fn peer(ours: &'static str, peer: &'static str, times: f64) -> Self {
        Self::new(ours, Statistic::NsPerMessage, Bound::Peer(peer, times))
    }

    pub const fn at_most(ours: &'static str, other: &'static str, times: f64) -> Self {
        Self::new(ours, Statistic::NsPerMessage, Bound::AtMost(other, times))
    }

    pub const fn growth(ours: &'static str, workload: &'static str, times: f64) -> Self {
        Self::new(ours, Statistic::NsPerMessage, Bound::Growth(workload, times))
    }

    pub const fn limit(ours: &'static str, statistic: Statistic, limit: f64) -> Self {
        Self::new(ours, statistic, Bound::Limit(limit))
    }

    /// The same target for another statistic.
    pub const fn of(self, statistic: Statistic) -> Self {
        Self { statistic, ..self }
    }

    /// The same target for the system's allocator only.
    pub const fn on_system(self) -> Self {
        Self { only: Some(Allocator::System), ..self }
    }

    fn describe(&self) -> String {
        let (ours, statistic) = (self.ours, self.statistic.head());
        match self.bound {
            Bound::BestPeer(1.0) => format!("{ours} faster than the best peer"),
            Bound::BestPeer(times) => format!("{ours} at least {times} times faster than the best peer"),
            Bound::Peer(peer, times) => format!("{ours} at least {times} times faster than {peer}"),
            Bound::AtMost(other, times) => {
                format!("{statistic} of {ours} at most {times} times that of {other}")
            }
            Bound::Growth(workload, times) => {
                format!("{ours} less than {times} times its value in {workload}")
            }
            Bound::Limit(limit) => format!("{statistic} of {ours} at most {}", self.statistic.show(limit)),
        }
    }

    /// Describes the measurement, and whether it reaches the target; `None` if a row is missing.
    fn judge(&self, rows: &[Row], workload: &Workload, allocator: Allocator) -> Option<(String, bool)> {
        let of = |workload: &str, contender: &str| {
            let mut all = rows.iter().filter(|row| row.allocator == allocator);
            all.find(|row| row.workload.name == workload && row.contender.name == contender)?
                .median(self.statistic)
        };
        let ours = of(workload.name, self.ours)?;
        let times = |ratio: f64, other: &str| format!("{ratio:.2} times ({other})");
        Some(match self.bound {
            Bound::BestPeer(least) => {
                let peers = rows.iter().filter(|row| row.allocator == allocator && row.contender.is_peer());
                let (best, name) = peers
                    .filter(|row| row.workload.name == workload.name)
                    .filter_map(|row| Some((row.median(self.statistic)?, row.contender.name)))
                    .min_by(|one, other| one.0.total_cmp(&other.0))?;
                (times(best / ours, name), best / ours >= least)
            }
            Bound::Peer(peer, least) => {
                let ratio = of(workload.name, peer)? / ours;
                (times(ratio, peer), ratio >= least)
            }
            Bound::AtMost(other, most) => {
                let ratio = ours / of(workload.name, other)?;
                (times(ratio, other), ratio <= most)
            }
            Bound::Growth(from, most) => {
                let ratio = ours / of(from, self.ours)?;
                (times(ratio, from), ratio < most)
            }
            Bound::Limit(limit) => (self.statistic.show(ours), ours <= limit),
        })
    }
}

/// The verdicts for the targets of one workload.
pub fn verdicts(rows: &[Row], workload: &Workload) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for target in workload.targets {
        for allocator in Allocator::ALL.into_iter().filter(|one| target.only.is_none_or(|only| only == *one))
        {
            if let Some((measured, reached)) = target.judge(rows, workload, allocator) {
                verdicts.push(Verdict { allocator, target: target.describe(), measured, reached });
            }
        }
    }
    verdicts
}
