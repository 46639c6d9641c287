//! Writes docs/benchmarks.md.

use super::{Row, chart, machine, measured, overview, table};
use crate::alloc::Allocator;
use crate::workloads::{SAFE, Workload, ZERO_COPY};
use std::fmt::Write;
use std::path::Path;

/// The folder of the charts, relative to the page.
const CHARTS: &str = "benchmarks";

/// Writes the page and its charts into `directory`.
pub fn docs(rows: &[Row], directory: &Path) -> Result<(), String> {
    let charts = directory.join(CHARTS);
    std::fs::create_dir_all(&charts).map_err(|error| format!("{}: {error}", charts.display()))?;
    let mut text = head();
    text += &overview(rows, &charts)?;
    text += &losses(rows);
    for workload in measured(rows) {
        let table = table::ranked(rows, workload);
        chart::bars(&table, workload, &charts.join(format!("{}.svg", workload.name)))?;
        text += &section(&table, workload);
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
    format!(
        "# Benchmarks\n\n\
         Written by this command; change nothing by hand:\n\n\
         ```sh\n\
         cargo run --release --manifest-path benches/peers/Cargo.toml{separator}{}\n\
         ```\n\n\
         Measured on {}, {}, {}. The method and the workloads are described in\n\
         [benches/peers](../benches/peers/README.md). Ratio: the row's median divided by turbostream's, the row with 1.00.\n\
         Rows marked LENDS only lend a message to the receiver until the next one; the others hand it out owned.\n\
         Rows marked LIMIT are lower bounds instead of channels between tasks.\n",
        arguments.join(" "),
        machine(),
        std::env::consts::OS,
        today(),
    )
}

/// The workloads that most programs have, as a chart and a table for each allocator.
fn overview(rows: &[Row], charts: &Path) -> Result<String, String> {
    let mut text = String::new();
    for allocator in [Allocator::Mimalloc, Allocator::System] {
        let lines = overview::lines(rows, allocator);
        if lines.is_empty() {
            continue;
        }
        let name = format!("overview_{}.svg", allocator.name());
        chart::overview(&lines, allocator, &charts.join(&name))?;
        let _ = write!(
            text,
            "\n## Overview, {} allocator\n\n![turbostream, the fastest other crate and tokio]({CHARTS}/{name})\n\n{}",
            allocator.name(),
            overview::markdown(&lines)
        );
    }
    Ok(text)
}

/// The workloads in which another crate is faster than the best of ours, among those that hand out messages in the same way.
fn losses(rows: &[Row]) -> String {
    let mut lines = String::new();
    for workload in measured(rows) {
        let table = table::ranked(rows, workload);
        let groups = table.chunk_by(|one, next| {
            let group = |row: &Row| (row.allocator, row.contender.limit, row.contender.lends);
            group(one) == group(next)
        });
        for group in groups {
            let time = |row: &&&Row| row.median(workload.rank());
            let ours = group.iter().find(|row| row.contender.is_ours()).as_ref().and_then(time);
            let peer = group.iter().find(|row| row.contender.is_peer());
            if let (Some(ours), Some((peer, theirs))) =
                (ours, peer.and_then(|peer| Some((peer, time(&peer)?))))
            {
                if theirs < ours {
                    let (name, allocator) = (workload.name, group[0].allocator.name());
                    let show = |value| workload.rank().show(value);
                    let _ = writeln!(
                        lines,
                        "| [{name}](#{name}) | {allocator} | {} | {} | {} | {:.2} |",
                        show(ours),
                        peer.contender.name,
                        show(theirs),
                        ours / theirs
                    );
                }
            }
        }
    }
    if lines.is_empty() {
        return lines;
    }
    format!(
        "\n## Where another crate is faster\n\n\
         | workload | allocator | the best of turbostream | other | its time | times faster |\n\
         | --- | --- | ---: | --- | ---: | ---: |\n{lines}"
    )
}

/// The date, in UTC.
fn today() -> String {
    let output = std::process::Command::new("date").args(["-u", "+%Y-%m-%d"]).output();
    output.map_or_else(
        |_| "undated".to_string(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_string(),
    )
}

fn section(table: &[&Row], workload: &Workload) -> String {
    let name = workload.name;
    let mut text = format!("\n## {name}\n\n{}\n", workload.about);
    text += &originals(table, workload);
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

/// The Go original's results and ours. They are of different machines, so their ratio says little.
fn originals(table: &[&Row], workload: &Workload) -> String {
    let Some(original) = &workload.original else { return String::new() };
    let mut text = format!(
        "\n| ns/message | machine | zero copy | safe |\n| --- | --- | ---: | ---: |\n\
         | the Go original, by its author | Apple M4 | {} | {} |\n",
        original.zero_copy, original.safe
    );
    for rows in table.chunk_by(|one, next| one.allocator == next.allocator) {
        let of = |name| {
            let ours = rows.iter().find(|row| row.contender.name == name);
            let median = ours.and_then(|row| row.median(workload.rank()));
            median.map_or("-".to_string(), |value| workload.rank().show(value))
        };
        let (zero_copy, safe) = (of(ZERO_COPY), of(SAFE));
        let allocator = rows[0].allocator.name();
        let _ = writeln!(text, "| turbostream, {allocator} | {} | {zero_copy} | {safe} |", machine());
    }
    text
}
