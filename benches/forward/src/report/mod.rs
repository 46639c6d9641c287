//! The results as text, as JSON, and as a page with charts.

mod chart;
mod page;
mod table;

pub use page::docs;
pub use table::text;

use serde::Serialize;

use crate::client::Outcome;
use crate::plan::{Entrant, Workload};
use crate::targets;

/// All runs of one contender in one workload.
pub struct Row {
    pub workload: &'static Workload,
    pub entrant: Entrant,
    outcomes: Vec<Outcome>,
    /// Why a run failed; then the row has no statistics.
    pub failure: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// Messages a second.
    Speed,
    /// CPU seconds for a million messages, in the process and in the system for it.
    Cpu,
    User,
    System,
    /// Bytes.
    PeakMemory,
}

impl Statistic {
    fn of(self, outcome: &Outcome) -> f64 {
        match self {
            Self::Speed => outcome.messages_per_second,
            Self::Cpu => outcome.user + outcome.system,
            Self::User => outcome.user,
            Self::System => outcome.system,
            Self::PeakMemory => outcome.peak_bytes as f64,
        }
    }
}

impl Row {
    pub fn new(workload: &'static Workload, entrant: Entrant) -> Self {
        Self { workload, entrant, outcomes: Vec::new(), failure: None }
    }

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
        let mut values: Vec<f64> = self.outcomes.iter().map(|outcome| statistic.of(outcome)).collect();
        values.sort_unstable_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some([f64::midpoint(low, high), min, max])
    }

    fn name(&self) -> String {
        let other = if self.entrant.is_other { " (other)" } else { "" };
        format!("{}{other}", self.entrant.contender.name)
    }

    /// The window and the capacity of the channel.
    fn settings(&self) -> String {
        let Entrant { contender, window, capacity, .. } = self.entrant;
        let capacity = match (contender.is_ours(), capacity) {
            (false, messages) => format!("{messages} messages"),
            (true, bytes) if bytes % (1 << 20) == 0 => format!("{} MiB", bytes >> 20),
            (true, bytes) => format!("{} KiB", bytes >> 10),
        };
        format!("window {window}; channel {capacity}")
    }
}

/// A row of the JSON file.
#[derive(Serialize)]
struct JsonRow<'a> {
    workload: &'a str,
    contender: String,
    window: usize,
    capacity: usize,
    messages: u64,
    messages_per_second: Option<f64>,
    cpu_seconds_per_million: Option<f64>,
    user: Option<f64>,
    system: Option<f64>,
    peak_bytes: Option<f64>,
    runs: &'a [Outcome],
    failure: Option<&'a str>,
}

pub fn json(rows: &[Row]) -> Result<String, String> {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| JsonRow {
            workload: row.workload.name,
            contender: row.name(),
            window: row.entrant.window,
            capacity: row.entrant.capacity,
            messages: row.entrant.messages,
            messages_per_second: row.median(Statistic::Speed),
            cpu_seconds_per_million: row.median(Statistic::Cpu),
            user: row.median(Statistic::User),
            system: row.median(Statistic::System),
            peak_bytes: row.median(Statistic::PeakMemory),
            runs: &row.outcomes,
            failure: row.failure.as_deref(),
        })
        .collect();
    serde_json::to_string_pretty(&rows).map(|text| text + "\n").map_err(|error| error.to_string())
}

/// Lists which targets are reached, as far as rows exist.
pub fn targets(rows: &[Row]) -> String {
    let lines = targets::verdicts(rows).into_iter().map(|verdict| {
        let reached = if verdict.reached { "reached" } else { "MISSED " };
        format!("{reached}  {:<12}  {}: {}\n", verdict.workload, verdict.target, verdict.measured)
    });
    let lines: String = lines.collect();
    if lines.is_empty() { lines } else { format!("\ntargets\n{lines}") }
}

/// The processor's name, if known, and the number of available cores.
pub fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(": ")).map(|(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let unit = if cores == 1 { "core" } else { "cores" };
    format!("{}, {cores} {unit}", name.unwrap_or(std::env::consts::ARCH))
}

/// The share of the processors that other processes use, in percent, if that disturbs a run.
///
/// It is measured for two seconds: the load average also counts the build of this program, which has just ended.
pub fn used_by_others() -> Option<f64> {
    let (idle_before, before) = processor_times()?;
    std::thread::sleep(std::time::Duration::from_secs(2));
    let (idle, total) = processor_times()?;
    // The time that the system counts as waiting for a disk may go down.
    let idle_share = idle.saturating_sub(idle_before) as f64 / total.saturating_sub(before).max(1) as f64;
    Some(100.0 * (1.0 - idle_share)).filter(|&percent| percent > 5.0)
}

/// The idle time and the whole time of all processors.
fn processor_times() -> Option<(u64, u64)> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let times = stat.lines().next()?.split_whitespace().skip(1).take(8);
    let times: Vec<u64> = times.map(str::parse).collect::<Result<_, _>>().ok()?;
    Some((times.get(3)? + times.get(4)?, times.iter().sum()))
}
