//! The targets of turbostream, and whether it reaches them.

use crate::alloc::Allocator;
use crate::contenders;
use crate::report::{Row, cores};
use crate::workloads::{Reads, Shape, Statistic, TOKIO, TOKIO_MANY, Workload};

#[derive(Clone, Copy)]
pub struct Target {
    ours: &'static str,
    statistic: Statistic,
    bound: Bound,
}

#[derive(Clone, Copy)]
enum Bound {
    /// The minimum ratio of the best peer that hands out messages like ours, owned or lent, to ours.
    BestPeer(f64),
    /// The minimum ratio of the best peer of any kind to ours.
    BestOfAll(f64),
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
        Self { ours, statistic, bound }
    }

    pub const fn best_peer(ours: &'static str, times: f64) -> Self {
        Self::new(ours, Statistic::NsPerMessage, Bound::BestPeer(times))
    }

    pub const fn best_of_all(ours: &'static str, times: f64) -> Self {
        Self::new(ours, Statistic::NsPerMessage, Bound::BestOfAll(times))
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

    fn describe(&self) -> String {
        let (ours, statistic) = (self.ours, self.statistic.head());
        match self.bound {
            Bound::BestPeer(times) => {
                let kind = if lends(ours) { "that lends" } else { "that hands out owned messages" };
                format!("{ours} {} the best peer {kind}", faster(times))
            }
            Bound::BestOfAll(times) => format!("{ours} {} the best peer", faster(times)),
            Bound::AtMost(other, times) => {
                format!("{statistic} of {ours} at most {times} times that of {other}")
            }
            Bound::Growth(workload, times) => {
                format!("{ours} at most {times} times its value in {workload}")
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
            Bound::BestPeer(least) | Bound::BestOfAll(least) => {
                let all = matches!(self.bound, Bound::BestOfAll(_));
                let peers = rows.iter().filter(|row| row.allocator == allocator && row.contender.is_peer());
                let (best, name) = peers
                    .filter(|row| row.workload.name == workload.name)
                    .filter(|row| all || row.contender.lends == lends(self.ours))
                    .filter_map(|row| Some((row.median(self.statistic)?, row.contender.name)))
                    .min_by(|one, other| one.0.total_cmp(&other.0))?;
                (times(best / ours, name), best / ours >= least)
            }
            Bound::AtMost(other, most) => {
                let ratio = ours / of(workload.name, other)?;
                (times(ratio, other), ratio <= most)
            }
            Bound::Growth(from, most) => {
                let ratio = ours / of(from, self.ours)?;
                (times(ratio, from), ratio <= most)
            }
            Bound::Limit(limit) => (self.statistic.show(ours), ours <= limit),
        })
    }
}

fn faster(times: f64) -> String {
    if times == 1.0 { "not slower than".to_string() } else { format!("at least {times} times faster than") }
}

fn lends(contender: &str) -> bool {
    contenders::find(contender).is_some_and(|entry| entry.lends)
}

/// The verdicts for the targets of one workload.
pub fn verdicts(rows: &[Row], workload: &Workload) -> Vec<Verdict> {
    let targets = if cores() == 1 { on_one_core(workload) } else { workload.targets.to_vec() };
    let mut verdicts = Vec::new();
    for target in targets {
        for allocator in Allocator::ALL {
            if let Some((measured, reached)) = target.judge(rows, workload, allocator) {
                verdicts.push(Verdict { allocator, target: target.describe(), measured, reached });
            }
        }
    }
    verdicts
}

/// On one core no message is sent while another is received, so the peers are no measure of speed. Each of our rows must be close
/// to tokio's.
fn on_one_core(workload: &Workload) -> Vec<Target> {
    if [Shape::FirstMessage, Shape::Idle].contains(&workload.shape) {
        return workload.targets.to_vec();
    }
    let tokio = if workload.is_read(Reads::Batches) { TOKIO_MANY } else { TOKIO };
    let ours = contenders::ALL.iter().filter(|entry| entry.is_ours() && entry.competes_in(workload));
    ours.map(|entry| Target::at_most(entry.name, tokio, 1.5).of(workload.rank())).collect()
}
