//! What the rows say: as text, as JSON, and as a page with charts.

mod chart;
mod page;
mod table;

pub use page::docs;
pub use table::text;

use crate::alloc::Allocator;
use crate::contenders::{Entry, Unit};
use crate::targets;
use crate::workloads::{Figure, Outcome, Workload};
use serde::Serialize;
use std::collections::BTreeMap;

/// All runs of one contender in one table.
pub struct Row {
    pub workload: &'static Workload,
    pub allocator: Allocator,
    pub contender: &'static Entry,
    pub capacity: usize,
    pub outcomes: Vec<Outcome>,
    /// Why the contender was not run to the end; then it has no figures.
    pub failure: Option<String>,
}

impl Row {
    pub fn take(&mut self, result: Result<Outcome, String>) {
        match result {
            Ok(outcome) => self.outcomes.push(outcome),
            Err(error) => self.failure = Some(error),
        }
    }

    pub fn median(&self, figure: Figure) -> Option<f64> {
        self.spread(figure).map(|[median, ..]| median)
    }

    /// Median, minimum and maximum over the rounds.
    fn spread(&self, figure: Figure) -> Option<[f64; 3]> {
        if self.failure.is_some() {
            return None;
        }
        let mut values: Vec<f64> =
            self.outcomes.iter().filter_map(|outcome| outcome.get(&figure).copied()).collect();
        values.sort_unstable_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some([f64::midpoint(low, high), min, max])
    }

    /// What is called, and with which capacity.
    fn api(&self) -> String {
        let capacity = match (self.contender.unit, self.capacity) {
            (Unit::Messages, messages) => format!("capacity {messages}"),
            (Unit::Bytes, bytes) if bytes % (1 << 20) == 0 => format!("capacity {} MiB", bytes >> 20),
            (Unit::Bytes, bytes) => format!("capacity {} KiB", bytes >> 10),
            (Unit::Unbounded, _) => "unbounded".to_string(),
        };
        let limit = if self.contender.limit { "LIMIT: " } else { "" };
        format!("{limit}{}; {capacity}", self.contender.api)
    }
}

/// A line of the JSON file.
#[derive(Serialize)]
struct JsonRow<'a> {
    workload: &'a str,
    allocator: Allocator,
    contender: &'a str,
    api: String,
    ns_per_message: Option<f64>,
    p50_ns: Option<f64>,
    p99_ns: Option<f64>,
    p999_ns: Option<f64>,
    rounds: usize,
    version: &'a str,
    /// Smallest and largest of the figure that the workload ranks by.
    min: Option<f64>,
    max: Option<f64>,
    failure: Option<&'a str>,
    #[serde(flatten)]
    others: BTreeMap<Figure, f64>,
}

pub fn json(rows: &[Row]) -> Result<String, String> {
    let common = [Figure::NsPerMessage, Figure::P50Ns, Figure::P99Ns, Figure::P999Ns];
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let spread = row.spread(row.workload.rank());
            let others = row.workload.figures.iter().filter(|figure| !common.contains(figure));
            JsonRow {
                workload: row.workload.name,
                allocator: row.allocator,
                contender: row.contender.name,
                api: row.api(),
                ns_per_message: row.median(Figure::NsPerMessage),
                p50_ns: row.median(Figure::P50Ns),
                p99_ns: row.median(Figure::P99Ns),
                p999_ns: row.median(Figure::P999Ns),
                rounds: row.outcomes.len(),
                version: version(row.contender.krate),
                min: spread.map(|[_, min, _]| min),
                max: spread.map(|[.., max]| max),
                failure: row.failure.as_deref(),
                others: others.filter_map(|&figure| Some((figure, row.median(figure)?))).collect(),
            }
        })
        .collect();
    serde_json::to_string_pretty(&rows).map(|text| text + "\n").map_err(|error| error.to_string())
}

/// Which targets are reached, as far as these rows can tell.
pub fn targets(rows: &[Row]) -> String {
    let mut text = String::new();
    for workload in measured(rows) {
        for verdict in targets::verdicts(rows, workload) {
            let reached = if verdict.reached { "reached" } else { "MISSED " };
            let allocator = verdict.allocator.name();
            text += &format!(
                "{reached}  {:<14}  {allocator:<8}  {}: {}\n",
                workload.name, verdict.target, verdict.measured
            );
        }
    }
    if text.is_empty() { text } else { format!("\ntargets\n{text}") }
}

/// The processor's name where the system tells it, and how many cores this process may use.
pub fn machine() -> String {
    let told = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = told.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(": ")).map(|(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let unit = if cores == 1 { "core" } else { "cores" };
    format!("{}, {cores} {unit}", name.unwrap_or(std::env::consts::ARCH))
}

/// The workloads that there are rows of, in their order.
fn measured(rows: &[Row]) -> Vec<&'static Workload> {
    rows.chunk_by(|one, next| one.workload.name == next.workload.name).map(|rows| rows[0].workload).collect()
}

/// A crate's version, out of the lock file this was built with.
fn version(krate: &str) -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let package = format!("name = \"{krate}\"\nversion = \"");
    let rest = lock.split_once(&package).map_or("", |(_, rest)| rest);
    rest.split('"').next().unwrap_or("")
}
