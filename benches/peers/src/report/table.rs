//! One table per workload.

use super::{Row, version};
use crate::workloads::Workload;

/// The columns before the statistics: allocator, contender, version.
const NAMES: usize = 3;

/// The rows of a workload by allocator: contenders that hand out owned messages, those that lend, limits. In each group the best
/// comes first and failures last.
pub fn ranked<'a>(rows: &'a [Row], workload: &Workload) -> Vec<&'a Row> {
    let mut table: Vec<_> = rows.iter().filter(|row| row.workload.name == workload.name).collect();
    let rank = |row: &Row| row.median(workload.rank()).unwrap_or(f64::INFINITY);
    table.sort_by(|one, other| {
        let group = |row: &Row| (row.allocator, row.contender.limit, row.contender.lends);
        group(one).cmp(&group(other)).then(rank(one).total_cmp(&rank(other)))
    });
    table
}

/// The cells of one table, headings first.
pub fn cells(table: &[&Row], workload: &Workload) -> Vec<Vec<String>> {
    // Ours that lends for a row that lends, if there is one.
    let reference = |row: &Row| {
        let mut ours =
            table.iter().filter(|other| other.allocator == row.allocator && other.contender.is_ours());
        let lends = ours.clone().find(|other| row.contender.lends && other.contender.lends);
        lends.or_else(|| ours.find(|other| other.contender.name == workload.ours))?.median(workload.rank())
    };
    let (rank, others) = (workload.rank(), &workload.statistics[1..]);
    let mut head = vec!["allocator", "contender", "version", rank.head(), "min", "max", "ratio"];
    head.extend(others.iter().map(|statistic| statistic.head()));
    head.push("API; capacity");
    let mut lines = vec![head.into_iter().map(String::from).collect::<Vec<_>>()];
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_string());
    for row in table {
        let spread = row.spread(rank);
        let version = Some(version(row.contender.krate)).filter(|version| !version.is_empty());
        let mut line = vec![row.allocator.name().to_string(), row.contender.name.to_string()];
        line.push(or_dash(version.map(String::from)));
        line.extend((0..3).map(|at| or_dash(spread.map(|spread| rank.show(spread[at])))));
        let ratio = spread.zip(reference(row)).map(|(own, reference)| own[0] / reference);
        line.push(or_dash(ratio.map(|ratio| format!("{ratio:.2}"))));
        line.extend(
            others.iter().map(|&statistic| or_dash(row.median(statistic).map(|value| statistic.show(value)))),
        );
        line.push(row.failure.as_ref().map_or_else(|| row.api(), |_| format!("FAILED; {}", row.api())));
        lines.push(line);
    }
    lines
}

/// The name of a workload and its number of rounds.
pub fn title(table: &[&Row], workload: &Workload) -> String {
    match table.iter().map(|row| row.outcomes.len()).max().unwrap_or(0) {
        1 => format!("{}, one round", workload.name),
        rounds => format!("{}, median of {rounds} rounds", workload.name),
    }
}

pub fn text(rows: &[Row], workload: &Workload) -> String {
    let table = ranked(rows, workload);
    let lines = cells(&table, workload);
    let columns = lines[0].len();
    let width = |at: usize| lines.iter().map(|line| line[at].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = format!("\n{}\n", title(&table, workload));
    for line in &lines {
        for (at, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            let numeric = at >= NAMES && at + 1 < columns;
            let cell = if numeric { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            text += if at == 0 { "" } else { "  " };
            text += &cell;
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

pub fn markdown(table: &[&Row], workload: &Workload) -> String {
    let lines = cells(table, workload);
    let numeric = lines[0].len() - NAMES - 1;
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        text += &format!("| {} |\n", line.join(" | "));
        if at == 0 {
            text += &format!("|{}{} --- |\n", " --- |".repeat(NAMES), " ---: |".repeat(numeric));
        }
    }
    text
}
