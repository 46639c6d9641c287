//! docs/benchmarks.md.

use super::{Row, chart, measured, table};
use crate::targets;
use crate::workloads::Workload;
use std::fmt::Write;
use std::path::Path;

/// Where the charts lie, beside the page.
const CHARTS: &str = "benchmarks";

/// Writes the page and its charts into `directory`.
pub fn docs(rows: &[Row], directory: &Path) -> Result<(), String> {
    let charts = directory.join(CHARTS);
    std::fs::create_dir_all(&charts).map_err(|error| format!("{}: {error}", charts.display()))?;
    let mut text = head();
    for workload in measured(rows) {
        let table = table::ranked(rows, workload);
        chart::bars(&table, workload, &charts.join(format!("{}.svg", workload.name)))?;
        text += &section(rows, &table, workload);
    }
    if chart::growth(rows, &charts.join("growth.svg"))? {
        text += &format!("\n## Growth with senders\n\n![cost by number of senders]({CHARTS}/growth.svg)\n");
    }
    let path = directory.join("benchmarks.md");
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn head() -> String {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let separator = if arguments.is_empty() { "" } else { " -- " };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "# Benchmarks\n\n\
         Written by this command; change nothing by hand:\n\n\
         ```sh\n\
         cargo run --release --manifest-path benches/peers/Cargo.toml{separator}{}\n\
         ```\n\n\
         Measured on {}, {cores} {}, {}. How, and what the workloads are, is in\n\
         [benches/peers](../benches/peers/README.md). Ratio: how many times turbostream's figure it is, that of the row\n\
         with 1.00. Rows marked LIMIT are no channels between tasks: they show what is left to win.\n",
        arguments.join(" "),
        processor(),
        if cores == 1 { "core" } else { "cores" },
        std::env::consts::OS,
    )
}

fn section(rows: &[Row], table: &[&Row], workload: &Workload) -> String {
    let name = workload.name;
    let mut text = format!("\n## {name}\n\n{}\n", workload.about);
    let verdicts = targets::verdicts(rows, workload);
    if !verdicts.is_empty() {
        text += "\n| target | allocator | measured | reached |\n| --- | --- | --- | --- |\n";
    }
    for verdict in verdicts {
        let reached = if verdict.reached { "yes" } else { "**no**" };
        let allocator = verdict.allocator.name();
        let _ = writeln!(text, "| {} | {allocator} | {} | {reached} |", verdict.target, verdict.measured);
    }
    let title = table::title(table, workload);
    let _ = write!(text, "\n![{title}]({CHARTS}/{name}.svg)\n\n{}", table::markdown(table, workload));
    for row in table {
        if let Some(failure) = &row.failure {
            let (contender, allocator) = (row.contender.name, row.allocator.name());
            let _ = writeln!(text, "\n{contender}, {allocator}, failed: {}", failure.replace('\n', " "));
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
