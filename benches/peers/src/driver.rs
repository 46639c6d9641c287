//! Plans the runs, alternates between the contenders and collects the results.

use crate::alloc::Allocator;
use crate::capacities;
use crate::cli::PlanArgs;
use crate::contenders::{self, Entry};
use crate::report::{self, Row};
use crate::run::Run;
use crate::workloads::{self, Job, Outcome, Workload};
use std::path::Path;
use std::thread;

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

pub fn drive(plan: &PlanArgs) -> Result<(), String> {
    let contenders = chosen(&plan.contender)?;
    let workloads = if plan.only.is_empty() { workloads::ALL.iter().collect() } else { plan.only.clone() };
    warn_if_busy();
    println!("{}", report::machine());
    if plan.tune {
        return tune(plan, &workloads, &contenders);
    }
    let mut rows = Vec::new();
    for &workload in &workloads {
        let best = |allocator, contender: &Entry| {
            vec![plan.capacity.unwrap_or_else(|| capacities::best(workload, allocator, contender))]
        };
        let mut table = entrants(plan, workload, &contenders, best);
        measure(plan, workload, &mut table);
        rows.extend(table);
        print!("{}", report::text(&rows, workload));
    }
    print!("{}", report::targets(&rows));
    if let Some(path) = &plan.json {
        write(path, &report::json(&rows)?)?;
    }
    let whole = plan.is_whole() && report::cores() > 1;
    let whole = whole.then(|| Path::new(CRATE).join("../../docs"));
    if let Some(directory) = plan.docs.clone().or(whole) {
        report::docs(&rows, &directory)?;
        println!("\n{} is written", directory.join("benchmarks.md").display());
    }
    let failed = rows.iter().filter(|row| row.failure.is_some()).count();
    if failed > 0 { Err(format!("{failed} of {} rows failed, see above", rows.len())) } else { Ok(()) }
}

/// Measures every contender with each of its capacities and records the best.
fn tune(
    plan: &PlanArgs,
    workloads: &[&'static Workload],
    contenders: &[&'static Entry],
) -> Result<(), String> {
    let mut rows = Vec::new();
    for &workload in workloads.iter().filter(|workload| workload.is_stream()) {
        let mut table = entrants(plan, workload, contenders, |_, contender| {
            let candidates = (contender.capacities)(workload);
            if candidates.len() > 1 { candidates } else { Vec::new() }
        });
        measure(plan, workload, &mut table);
        rows.extend(table);
        print!("{}", report::text(&rows, workload));
        write(&Path::new(CRATE).join("capacities.csv"), &capacities::record(&rows))?;
    }
    Ok(())
}

/// The contenders that match the filter; without a filter, all.
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

/// One empty row per allocator, contender and capacity.
fn entrants(
    plan: &PlanArgs,
    workload: &'static Workload,
    contenders: &[&'static Entry],
    capacities: impl Fn(Allocator, &Entry) -> Vec<usize>,
) -> Vec<Row> {
    let mut rows = Vec::new();
    for allocator in Allocator::ALL.into_iter().filter(|one| plan.allocator.is_none_or(|only| only == *one)) {
        for &contender in contenders.iter().filter(|contender| contender.competes_in(workload)) {
            for capacity in capacities(allocator, contender) {
                rows.push(Row {
                    workload,
                    allocator,
                    contender,
                    capacity,
                    outcomes: Vec::new(),
                    failure: None,
                });
            }
        }
    }
    rows
}

/// Runs all rounds of one table. Each round starts with a different row.
fn measure(plan: &PlanArgs, workload: &Workload, rows: &mut [Row]) {
    let usual = match (workload.measures_rest(), plan.quick) {
        (true, _) => 1,
        (false, true) => 5,
        (false, false) => 7,
    };
    let rounds = plan.rounds.unwrap_or(usual) as usize;
    for round in 0..rounds {
        eprintln!("{}: round {} of {rounds}", workload.name, round + 1);
        if workload.measures_rest() {
            run_in_parallel(plan, rows);
            continue;
        }
        let shift = round * rows.len() / rounds;
        rows.rotate_left(shift);
        for row in rows.iter_mut().filter(|row| row.failure.is_none()) {
            let result = run(plan, row);
            row.add(result);
        }
        rows.rotate_right(shift);
    }
}

/// Runs the rows in parallel, four at a time: they mostly sleep, except while they fill their channels.
fn run_in_parallel(plan: &PlanArgs, rows: &mut [Row]) {
    for rows in rows.chunks_mut(4) {
        thread::scope(|scope| {
            for row in rows.iter_mut().filter(|row| row.failure.is_none()) {
                scope.spawn(move || {
                    let result = run(plan, row);
                    row.add(result);
                });
            }
        });
    }
}

fn run(plan: &PlanArgs, row: &Row) -> Result<Outcome, String> {
    let messages = plan.messages.unwrap_or(row.workload.messages[usize::from(!plan.quick)]);
    let run = Run {
        workload: row.workload,
        allocator: row.allocator,
        contender: row.contender,
        job: Job { messages, capacity: row.capacity },
        timeout: plan.timeout,
        log: plan.log.as_deref(),
    };
    run.in_a_child().inspect_err(|error| {
        eprintln!("FAILED: {}, {}, {}: {error}", row.workload.name, row.allocator.name(), row.contender.name);
    })
}

/// Prints a warning if the machine is busy.
fn warn_if_busy() {
    let loadavg = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = loadavg.split(' ').next().and_then(|load| load.parse::<f64>().ok());
    if let Some(load) = load.filter(|&load| load > 0.5) {
        eprintln!("warning: the machine is busy (load {load}): expect high and unstable results");
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
