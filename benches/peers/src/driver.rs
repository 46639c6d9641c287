//! Plans the runs, alternates between the contenders and gathers what they measured.

use crate::alloc::Allocator;
use crate::cli::PlanArgs;
use crate::contenders::{self, Entry};
use crate::report::{self, Row};
use crate::run::Run;
use crate::workloads::{Job, Workload};
use std::path::Path;

pub fn drive(plan: &PlanArgs) -> Result<(), String> {
    let contenders = chosen(&plan.contender)?;
    let allocators = plan.allocator.map_or(Allocator::ALL.to_vec(), |one| vec![one]);
    let workloads = if plan.only.is_empty() { Workload::ALL.to_vec() } else { plan.only.clone() };
    warn_if_busy();
    let mut rows = Vec::new();
    for &workload in &workloads {
        for &allocator in &allocators {
            let table = measure(plan, workload, allocator, &contenders);
            print!("{}", report::text(&table));
            rows.extend(table);
        }
    }
    if let Some(path) = &plan.json {
        write(path, &report::json(&rows)?)?;
    }
    if let Some(path) = &plan.markdown {
        write(path, &report::markdown(&rows))?;
    }
    let failed = rows.iter().filter(|row| row.failure.is_some()).count();
    if failed > 0 { Err(format!("{failed} of {} rows failed, see above", rows.len())) } else { Ok(()) }
}

/// The contenders that a filter names; all without one.
fn chosen(filter: &[String]) -> Result<Vec<&'static Entry>, String> {
    let named = |entry: &Entry, name: &str| entry.name == name || entry.krate == name;
    if let Some(unknown) = filter.iter().find(|name| !contenders::ALL.iter().any(|entry| named(entry, name)))
    {
        let known: Vec<_> = contenders::ALL.iter().map(|entry| entry.name).collect();
        return Err(format!("no contender {unknown}; there are {}", known.join(", ")));
    }
    let wanted = |entry: &&Entry| filter.is_empty() || filter.iter().any(|name| named(entry, name));
    Ok(contenders::ALL.iter().filter(wanted).collect())
}

/// One table: all rounds of one workload with one allocator. Round by round another contender is the first.
fn measure(
    plan: &PlanArgs,
    workload: Workload,
    allocator: Allocator,
    contenders: &[&'static Entry],
) -> Vec<Row> {
    let rounds = plan.rounds.unwrap_or(if plan.quick { 5 } else { 7 }) as usize;
    let messages = plan.messages.unwrap_or(workload.messages(plan.quick));
    let taking = contenders.iter().filter(|contender| workload.takes(contender));
    let mut rows: Vec<Row> = taking
        .map(|&contender| {
            let capacity = plan.capacity.unwrap_or((contender.capacity)(workload, allocator));
            Row { workload, allocator, contender, capacity, outcomes: Vec::new(), failure: None }
        })
        .collect();
    for round in 0..rounds {
        eprintln!("{}, {}: round {} of {rounds}", workload.name(), allocator.name(), round + 1);
        let shift = round * rows.len() / rounds;
        rows.rotate_left(shift);
        for row in rows.iter_mut().filter(|row| row.failure.is_none()) {
            let job = Job { messages, capacity: row.capacity };
            let run = Run { workload, allocator, contender: row.contender, job, timeout: plan.timeout };
            match run.in_a_child() {
                Ok(outcome) => row.outcomes.push(outcome),
                Err(error) => {
                    eprintln!(
                        "FAILED: {}, {}, {}: {error}",
                        workload.name(),
                        allocator.name(),
                        row.contender.name
                    );
                    row.failure = Some(error);
                }
            }
        }
        rows.rotate_right(shift);
    }
    rows
}

/// Where the system tells its load: figures from a busy machine say little.
fn warn_if_busy() {
    let told = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = told.split(' ').next().and_then(|load| load.parse::<f64>().ok());
    if let Some(load) = load.filter(|&load| load > 0.5) {
        eprintln!("warning: the machine is busy (load {load}): expect figures that are too high and vary");
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
