//! One table per workload.

use super::{Row, Statistic};
use crate::contenders::OURS;
use crate::plan::Workload;
use crate::targets::fastest;

const HEAD: [&str; 11] = [
    "contender",
    "messages/s",
    "min",
    "max",
    "ratio",
    "CPU s/million",
    "CPU ratio",
    "user",
    "system",
    "peak MiB",
    "settings",
];

/// The rows of a workload, the fastest first and failures last.
pub(super) fn ranked<'a>(rows: &'a [Row], workload: &Workload) -> Vec<&'a Row> {
    let mut table: Vec<_> = rows.iter().filter(|row| row.workload.name == workload.name).collect();
    let speed = |row: &Row| row.median(Statistic::Speed).unwrap_or(0.0);
    table.sort_by(|one, other| speed(other).total_cmp(&speed(one)));
    table
}

/// The cells of one table, headings first.
fn cells(rows: &[Row], workload: &Workload) -> Vec<Vec<String>> {
    let ours = fastest(rows, workload.name, OURS);
    let mut lines = vec![HEAD.map(String::from).to_vec()];
    for row in ranked(rows, workload) {
        let mut line = vec![row.name()];
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_string());
        let spread = row.spread(Statistic::Speed);
        line.extend((0..3).map(|at| or_dash(spread.map(|spread| whole(spread[at])))));
        let ratio = |statistic| Some(row.median(statistic)? / ours?.median(statistic)?);
        let decimals = |value: Option<f64>| or_dash(value.map(|value| format!("{value:.2}")));
        line.push(decimals(ratio(Statistic::Speed)));
        line.push(decimals(row.median(Statistic::Cpu)));
        line.push(decimals(ratio(Statistic::Cpu)));
        line.extend([Statistic::User, Statistic::System].map(|statistic| decimals(row.median(statistic))));
        let memory = row.median(Statistic::PeakMemory);
        line.push(or_dash(memory.map(|bytes| format!("{:.1}", bytes / f64::from(1 << 20)))));
        let failed = if row.failure.is_some() { "FAILED; " } else { "" };
        line.push(format!("{failed}{}", row.settings()));
        lines.push(line);
    }
    lines
}

/// A whole number with separators.
pub(super) fn whole(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The name of a workload and its number of rounds.
pub(super) fn title(rows: &[Row], workload: &Workload) -> String {
    let of_workload = rows.iter().filter(|row| row.workload.name == workload.name);
    match of_workload.map(|row| row.outcomes.len()).max().unwrap_or(0) {
        1 => format!("{}, one round", workload.name),
        rounds => format!("{}, median of {rounds} rounds", workload.name),
    }
}

pub fn text(rows: &[Row], workload: &Workload) -> String {
    let lines = cells(rows, workload);
    let width = |at: usize| lines.iter().map(|line| line[at].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..HEAD.len()).map(width).collect();
    let mut text = format!("\n{}\n", title(rows, workload));
    for line in &lines {
        for (at, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            let is_text = at == 0 || at + 1 == HEAD.len();
            text += if at == 0 { "" } else { "  " };
            text += &if is_text { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

pub(super) fn markdown(rows: &[Row], workload: &Workload) -> String {
    let mut text = String::new();
    for (at, line) in cells(rows, workload).iter().enumerate() {
        text += &format!("| {} |\n", line.join(" | "));
        if at == 0 {
            text += &format!("| --- |{} --- |\n", " ---: |".repeat(HEAD.len() - 2));
        }
    }
    text
}
