//! Rows to tables: text, Markdown, JSON.

use crate::alloc::Allocator;
use crate::contenders::{Entry, REFERENCE};
use crate::workloads::{Outcome, Quantiles, Workload};
use serde::Serialize;
use std::fmt::Write;

/// All runs of one contender in one table.
pub struct Row {
    pub workload: Workload,
    pub allocator: Allocator,
    pub contender: &'static Entry,
    pub capacity: usize,
    pub outcomes: Vec<Outcome>,
    /// Why the contender was not run to the end; then it has no figures.
    pub failure: Option<String>,
}

/// A line of the JSON file.
#[derive(Serialize)]
struct JsonRow<'a> {
    workload: Workload,
    allocator: Allocator,
    contender: &'a str,
    api: String,
    ns_per_message: Option<f64>,
    p50_ns: Option<f64>,
    p99_ns: Option<f64>,
    p999_ns: Option<f64>,
    rounds: usize,
}

impl Row {
    fn api(&self) -> String {
        let batch = if self.contender.batch { "BATCH: " } else { "" };
        format!("{batch}{}; capacity {}", self.contender.api, self.capacity)
    }

    /// Median, minimum and maximum over the rounds.
    fn spread(&self, of: impl Fn(&Outcome) -> Option<f64>) -> Option<[f64; 3]> {
        if self.failure.is_some() {
            return None;
        }
        let mut values: Vec<f64> = self.outcomes.iter().filter_map(of).collect();
        values.sort_unstable_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some([f64::midpoint(low, high), min, max])
    }

    fn ns_per_message(&self) -> Option<[f64; 3]> {
        self.spread(|outcome| Some(outcome.ns_per_message))
    }

    fn round_trip(&self, of: impl Fn(Quantiles) -> f64) -> Option<f64> {
        self.spread(|outcome| outcome.round_trip.map(&of)).map(|[median, ..]| median)
    }
}

pub fn json(rows: &[Row]) -> Result<String, String> {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| JsonRow {
            workload: row.workload,
            allocator: row.allocator,
            contender: row.contender.name,
            api: row.api(),
            ns_per_message: row.ns_per_message().map(|[median, ..]| median),
            p50_ns: row.round_trip(|trip| trip.p50_ns),
            p99_ns: row.round_trip(|trip| trip.p99_ns),
            p999_ns: row.round_trip(|trip| trip.p999_ns),
            rounds: row.outcomes.len(),
        })
        .collect();
    serde_json::to_string_pretty(&rows).map(|text| text + "\n").map_err(|error| error.to_string())
}

/// The cells of one table, its head first.
fn cells(table: &[Row]) -> Vec<Vec<String>> {
    let reference = table.iter().find(|row| row.contender.name == REFERENCE).and_then(Row::ns_per_message);
    let trips = table.iter().any(|row| row.outcomes.iter().any(|outcome| outcome.round_trip.is_some()));
    let mut head = vec!["contender", "version", "ns/message", "min", "max", "ratio"];
    if trips {
        head.extend(["p50", "p99", "p99.9"]);
    }
    head.push("API; capacity");
    let mut lines = vec![head.into_iter().map(String::from).collect::<Vec<_>>()];
    for row in table {
        let measured = row.ns_per_message();
        let figure = |value: Option<f64>| value.map_or("-".to_string(), |value| format!("{value:.1}"));
        let mut line = vec![row.contender.name.to_string(), version(row.contender.krate).to_string()];
        line.extend((0..3).map(|at| figure(measured.map(|spread| spread[at]))));
        let ratio = measured.zip(reference).map(|(own, reference)| own[0] / reference[0]);
        line.push(ratio.map_or("-".to_string(), |ratio| format!("{ratio:.2}")));
        if trips {
            let quantiles: [fn(Quantiles) -> f64; 3] =
                [|trip| trip.p50_ns, |trip| trip.p99_ns, |trip| trip.p999_ns];
            line.extend(
                quantiles.map(|of| row.round_trip(of).map_or("-".to_string(), |ns| format!("{ns:.0}"))),
            );
        }
        line.push(row.failure.as_ref().map_or_else(|| row.api(), |_| format!("FAILED; {}", row.api())));
        lines.push(line);
    }
    lines
}

fn title(table: &[Row]) -> String {
    let rounds = table.iter().map(|row| row.outcomes.len()).max().unwrap_or(0);
    table.first().map_or(String::new(), |row| {
        format!("{}, {} allocator, median of {rounds} rounds", row.workload.name(), row.allocator.name())
    })
}

pub fn text(table: &[Row]) -> String {
    let lines = cells(table);
    let columns = lines[0].len();
    let width = |at: usize| lines.iter().map(|line| line[at].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = format!("\n{}\n", title(table));
    for line in &lines {
        for (at, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            let figure = at > 1 && at + 1 < columns;
            let cell = if figure { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            text += if at == 0 { "" } else { "  " };
            text += &cell;
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

pub fn markdown(rows: &[Row]) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut text = format!("Measured on {}, {cores} cores, {}.\n", processor(), std::env::consts::OS);
    text += "Ratio: how many times as long as `turbostream-zerocopy` takes.\n";
    text += "A row marked BATCH reads, or also writes, several messages per call.\n";
    for table in rows.chunk_by(|one, next| one.workload == next.workload && one.allocator == next.allocator) {
        let lines = cells(table);
        let columns = lines[0].len();
        let _ = writeln!(text, "\n#### {}\n\n{}\n", title(table), table[0].workload.about());
        for (at, line) in lines.iter().enumerate() {
            let _ = writeln!(text, "| {} |", line.join(" | "));
            if at == 0 {
                let _ = writeln!(text, "| --- | --- |{} --- |", " ---: |".repeat(columns - 3));
            }
        }
    }
    text
}

/// The processor's name where the system tells it.
fn processor() -> String {
    let told = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = told.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(": ")).map(|(_, name)| name.trim());
    name.unwrap_or(std::env::consts::ARCH).to_string()
}

/// A crate's version, out of the lock file this was built with.
fn version(krate: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let package = format!("name = \"{krate}\"\nversion = \"");
    let rest = lock.split_once(&package).map_or("", |(_, rest)| rest);
    rest.split('"').next().unwrap_or("")
}
