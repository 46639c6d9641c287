//! The table at the end.

use std::fmt::Display;

use comfy_table::{CellAlignment, Table, presets};

use crate::round::Round;

/// The rounds through one channel.
#[derive(Default)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) rounds: Vec<Round>,
    /// What to say of a round that did not come to its end.
    pub(crate) interrupted: Option<String>,
}

/// One column for each channel: medians over its rounds.
pub(crate) fn table(columns: &[Column]) -> Table {
    let columns: Vec<_> = columns.iter().filter(|column| !column.rounds.is_empty()).collect();
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    table.set_header([""].into_iter().chain(columns.iter().map(|column| column.name)));
    let mut row = |name: &str, cell: &dyn Fn(&[Round]) -> String| {
        let cells = columns.iter().map(|column| cell(&column.rounds));
        table.add_row([name.to_owned()].into_iter().chain(cells));
    };
    row("lines", &|rounds| grouped(median(rounds, |round| round.lines)));
    row("bytes", &|rounds| grouped(median(rounds, |round| round.bytes)));
    row("batches", &|rounds| grouped(median(rounds, |round| round.batches)));
    row("mean batch, lines", &|rounds| grouped(median(rounds, |round| round.lines / round.batches.max(1))));
    row("time", &|rounds| nanos(median(rounds, |round| round.elapsed.as_nanos() as u64)));
    row("lines a second", &|rounds| grouped(median(rounds, |round| a_second(round, round.lines))));
    row("MB a second", &|rounds| grouped(median(rounds, |round| a_second(round, round.bytes) / 1_000_000)));
    row("in the channel, p50", &|rounds| nanos(median(rounds, |round| round.in_channel.p50)));
    row("in the channel, p99", &|rounds| nanos(median(rounds, |round| round.in_channel.p99)));
    row("in the channel, max", &|rounds| nanos(median(rounds, |round| round.in_channel.max)));
    row("peak memory, channel", &|rounds| {
        memory(rounds, |round| round.channel_peak.map(|bytes| bytes as u64))
    });
    row("peak memory, process", &|rounds| memory(rounds, |round| round.process_peak));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn median(rounds: &[Round], value: impl Fn(&Round) -> u64) -> u64 {
    let mut values: Vec<_> = rounds.iter().map(value).collect();
    values.sort_unstable();
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { values[middle - 1].midpoint(values[middle]) }
}

fn memory(rounds: &[Round], value: impl Fn(&Round) -> Option<u64>) -> String {
    if rounds.iter().any(|round| value(round).is_none()) {
        return "not told".into();
    }
    format!("{} KiB", grouped(median(rounds, |round| value(round).unwrap_or(0)) / 1024))
}

fn a_second(round: &Round, count: u64) -> u64 {
    (count as f64 / round.elapsed.as_secs_f64()) as u64
}

/// A duration with three digits.
fn nanos(nanos: u64) -> String {
    let (value, unit) = match nanos {
        0..1_000 => return format!("{nanos} ns"),
        1_000..1_000_000 => (nanos as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (nanos as f64 / 1e6, "ms"),
        _ => (nanos as f64 / 1e9, "s"),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {unit}")
}

/// `1 line`, `2,000 lines`.
pub(crate) fn count(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// `1234567` as `1,234,567`.
fn grouped(number: impl Display) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
