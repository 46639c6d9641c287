//! What turbostream is meant to reach, and whether it does.

use crate::alloc::Allocator;
use crate::report::Row;
use crate::workloads::{Figure, Workload};

pub struct Target {
    ours: &'static str,
    figure: Figure,
    bound: Bound,
    only: Option<Allocator>,
}

enum Bound {
    /// The best peer takes at least so many times as long.
    BestPeer(f64),
    /// This peer takes at least so many times as long.
    Peer(&'static str, f64),
    /// Ours takes at most so many times as long as this contender.
    AtMost(&'static str, f64),
    /// Ours takes at most so many times as long as in this workload.
    Growth(&'static str, f64),
    /// The figure is no larger.
    Limit(f64),
}

/// What was measured for one target.
pub struct Verdict {
    pub allocator: Allocator,
    pub target: String,
    pub measured: String,
    pub reached: bool,
}

impl Target {
    const fn new(ours: &'static str, figure: Figure, bound: Bound) -> Self {
        Self { ours, figure, bound, only: None }
    }

    pub const fn best_peer(ours: &'static str, times: f64) -> Self {
        Self::new(ours, Figure::NsPerMessage, Bound::BestPeer(times))
    }

    pub const fn peer(ours: &'static str, peer: &'static str, times: f64) -> Self {
        Self::new(ours, Figure::NsPerMessage, Bound::Peer(peer, times))
    }

    pub const fn at_most(ours: &'static str, other: &'static str, times: f64) -> Self {
        Self::new(ours, Figure::NsPerMessage, Bound::AtMost(other, times))
    }

    pub const fn growth(ours: &'static str, workload: &'static str, times: f64) -> Self {
        Self::new(ours, Figure::NsPerMessage, Bound::Growth(workload, times))
    }

    pub const fn limit(ours: &'static str, figure: Figure, limit: f64) -> Self {
        Self::new(ours, figure, Bound::Limit(limit))
    }

    /// The same for another figure.
    pub const fn of(self, figure: Figure) -> Self {
        Self { figure, ..self }
    }

    /// The same for the system's allocator only.
    pub const fn on_system(self) -> Self {
        Self { only: Some(Allocator::System), ..self }
    }

    fn says(&self) -> String {
        let (ours, figure) = (self.ours, self.figure.head());
        match self.bound {
            Bound::BestPeer(1.0) => format!("{ours} faster than the best peer"),
            Bound::BestPeer(times) => format!("{ours} at least {times} times faster than the best peer"),
            Bound::Peer(peer, times) => format!("{ours} at least {times} times faster than {peer}"),
            Bound::AtMost(other, times) => {
                format!("{figure} of {ours} at most {times} times that of {other}")
            }
            Bound::Growth(workload, times) => {
                format!("{ours} less than {times} times its figure in {workload}")
            }
            Bound::Limit(limit) => format!("{figure} of {ours} at most {}", self.figure.show(limit)),
        }
    }

    /// What was measured in words, and whether it is enough; nothing where a row is missing.
    fn judge(&self, rows: &[Row], workload: &Workload, allocator: Allocator) -> Option<(String, bool)> {
        let of = |workload: &str, contender: &str| {
            let mut all = rows.iter().filter(|row| row.allocator == allocator);
            all.find(|row| row.workload.name == workload && row.contender.name == contender)?
                .median(self.figure)
        };
        let ours = of(workload.name, self.ours)?;
        let times = |ratio: f64, beside: &str| format!("{ratio:.2} times ({beside})");
        Some(match self.bound {
            Bound::BestPeer(least) => {
                let peers = rows.iter().filter(|row| row.allocator == allocator && row.contender.is_peer());
                let (best, name) = peers
                    .filter(|row| row.workload.name == workload.name)
                    .filter_map(|row| Some((row.median(self.figure)?, row.contender.name)))
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
            Bound::Limit(limit) => (self.figure.show(ours), ours <= limit),
        })
    }
}

/// What was measured for the targets of one workload.
pub fn verdicts(rows: &[Row], workload: &Workload) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for target in workload.targets {
        for allocator in Allocator::ALL.into_iter().filter(|one| target.only.is_none_or(|only| only == *one))
        {
            if let Some((measured, reached)) = target.judge(rows, workload, allocator) {
                verdicts.push(Verdict { allocator, target: target.says(), measured, reached });
            }
        }
    }
    verdicts
}
