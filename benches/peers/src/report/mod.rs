//! The results as text, as JSON, and as a page with charts.

mod chart;
mod overview;
mod page;
mod table;

pub use page::docs;
pub use table::text;

use crate::alloc::Allocator;
use crate::contenders::{Entry, Unit};
use crate::targets;
use crate::workloads::{Outcome, Statistic, Workload};
use serde::Serialize;
use std::collections::BTreeMap;

/// All runs of one contender in one table.
pub struct Row {
    pub workload: &'static Workload,
    pub allocator: Allocator,
    pub contender: &'static Entry,
    pub capacity: usize,
    pub outcomes: Vec<Outcome>,
    /// Why the run failed; then the row has no statistics.
    pub failure: Option<String>,
}

impl Row {
    pub fn add(&mut self, result: Result<Outcome, String>) {
        match result {
            Ok(outcome) => self.outcomes.push(outcome),
            Err(error) => self.failure = Some(error),
        }
    }

    pub fn median(&self, statistic: Statistic) -> Option<f64> {
        self.spread(statistic).map(|[median, ..]| median)
    }

    /// Median, minimum and maximum over the rounds.
    fn spread(&self, statistic: Statistic) -> Option<[f64; 3]> {
        if self.failure.is_some() {
            return None;
        }
        let mut values: Vec<f64> =
            self.outcomes.iter().filter_map(|outcome| outcome.get(&statistic).copied()).collect();
        values.sort_unstable_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some([f64::midpoint(low, high), min, max])
    }

    /// The API and the capacity.
    fn api(&self) -> String {
        let capacity = match (self.contender.unit, self.capacity) {
            (Unit::Messages, messages) => format!("capacity {messages}"),
            (Unit::Bytes, bytes) if bytes % (1 << 20) == 0 => format!("capacity {} MiB", bytes >> 20),
            (Unit::Bytes, bytes) => format!("capacity {} KiB", bytes >> 10),
            (Unit::Unbounded, _) => "unbounded".to_string(),
        };
        let kind = match (self.contender.limit, self.contender.lends) {
            (true, _) => "LIMIT: ",
            (false, true) => "LENDS: ",
            (false, false) => "",
        };
        format!("{kind}{}; {capacity}", self.contender.api)
    }
}

/// A row of the JSON file.
#[derive(Serialize)]
struct JsonRow<'a> {
    workload: &'a str,
    allocator: Allocator,
    contender: &'a str,
    api: String,
    lends: bool,
    ns_per_message: Option<f64>,
    p50_ns: Option<f64>,
    p99_ns: Option<f64>,
    p999_ns: Option<f64>,
    rounds: usize,
    version: &'a str,
    /// Minimum and maximum of the ranking statistic.
    min: Option<f64>,
    max: Option<f64>,
    failure: Option<&'a str>,
    #[serde(flatten)]
    others: BTreeMap<Statistic, f64>,
}

pub fn json(rows: &[Row]) -> Result<String, String> {
    let common = [Statistic::NsPerMessage, Statistic::P50Ns, Statistic::P99Ns, Statistic::P999Ns];
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let spread = row.spread(row.workload.rank());
            let others = row.workload.statistics.iter().filter(|statistic| !common.contains(statistic));
            JsonRow {
                workload: row.workload.name,
                allocator: row.allocator,
                contender: row.contender.name,
                api: row.api(),
                lends: row.contender.lends,
                ns_per_message: row.median(Statistic::NsPerMessage),
                p50_ns: row.median(Statistic::P50Ns),
                p99_ns: row.median(Statistic::P99Ns),
                p999_ns: row.median(Statistic::P999Ns),
                rounds: row.outcomes.len(),
                version: version(row.contender.krate),
                min: spread.map(|[_, min, _]| min),
                max: spread.map(|[.., max]| max),
                failure: row.failure.as_deref(),
                others: others.filter_map(|&statistic| Some((statistic, row.median(statistic)?))).collect(),
            }
        })
        .collect();
    serde_json::to_string_pretty(&rows).map(|text| text + "\n").map_err(|error| error.to_string())
}

/// Lists which targets are reached, as far as rows exist.
pub fn targets(rows: &[Row]) -> String {
    let mut text = String::new();
    for workload in measured(rows) {
        for verdict in targets::verdicts(rows, workload) {
            let reached = if verdict.reached { "reached" } else { "MISSED " };
            let allocator = verdict.allocator.name();
            text += &format!(
                "{reached}  {:<24}  {allocator:<8}  {}: {}\n",
                workload.name, verdict.target, verdict.measured
            );
        }
    }
    if text.is_empty() { text } else { format!("\ntargets\n{text}") }
}

/// The processor's name, if known, and the number of available cores.
pub fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(": ")).map(|(_, name)| name.trim());
    let cores = cores();
    let unit = if cores == 1 { "core" } else { "cores" };
    format!("{}, {cores} {unit}", name.unwrap_or(std::env::consts::ARCH))
}

/// The number of cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

/// The workloads of the rows, in their order.
fn measured(rows: &[Row]) -> Vec<&'static Workload> {
    rows.chunk_by(|one, next| one.workload.name == next.workload.name).map(|rows| rows[0].workload).collect()
}

/// A crate's version in the lock file of this build.
fn version(krate: &str) -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let package = format!("name = \"{krate}\"\nversion = \"");
    let rest = lock.split_once(&package).map_or("", |(_, rest)| rest);
    rest.split('"').next().unwrap_or("")
}
