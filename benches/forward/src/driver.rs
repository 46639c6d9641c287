//! Runs the contenders in turn, each in a client process of its own with a server of its own, and collects the results.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::cli::PlanArgs;
use crate::client::Outcome;
use crate::plan::{self, Entrant, Workload};
use crate::proxy::Proxy;
use crate::report::{self, Row};
use crate::server::{HOW_TO_INSTALL, NatsServer, is_installed};

const CRATE: &str = env!("CARGO_MANIFEST_DIR");
/// Seconds after which a run counts as hanging.
const TIMEOUT: u64 = 120;

pub fn drive(plan: &PlanArgs) -> Result<(), String> {
    if !is_installed() {
        return Err(HOW_TO_INSTALL.into());
    }
    println!("{}", report::machine());
    let used_by_others = report::used_by_others();
    if let Some(percent) = used_by_others {
        eprintln!("warning: other processes use {percent:.0} % of the processors: compare ratios only");
    }
    let workloads = if plan.only.is_empty() { plan::ALL.iter().collect() } else { plan.only.clone() };
    let mut rows: Vec<Row> = Vec::new();
    for &workload in &workloads {
        rows.extend(plan::entrants(workload, plan).into_iter().map(|entrant| Row::new(workload, entrant)));
    }
    let programs = Programs {
        own: std::env::current_exe().map_err(|error| format!("own program not found: {error}"))?,
        other: plan.other.clone(),
    };
    let rounds = plan.rounds.unwrap_or(if plan.quick { 3 } else { 5 }) as usize;
    for table in rows.chunk_by_mut(|one, next| same_measure(one.workload, next.workload)) {
        measure(table, rounds, &programs);
    }
    for &workload in &workloads {
        print!("{}", report::text(&rows, workload));
    }
    print!("{}", report::targets(&rows));
    if let Some(path) = &plan.json {
        std::fs::write(path, report::json(&rows)?).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let whole = plan.is_whole().then(|| Path::new(CRATE).join("../../docs"));
    if let Some(directory) = plan.docs.clone().or(whole) {
        report::docs(&rows, &directory, used_by_others)?;
    }
    let failed = rows.iter().filter(|row| row.failure.is_some()).count();
    if failed > 0 { Err(format!("{failed} of {} rows failed, see above", rows.len())) } else { Ok(()) }
}

/// The delays alternate with each other, because they are compared.
fn same_measure(one: &Workload, next: &Workload) -> bool {
    one.name == next.name || (one.delay.is_some() && next.delay.is_some())
}

struct Programs {
    own: PathBuf,
    other: Option<PathBuf>,
}

/// Runs all rounds of one table. Each round starts with a different row.
fn measure(rows: &mut [Row], rounds: usize, programs: &Programs) {
    for round in 0..rounds {
        eprintln!("{}: round {} of {rounds}", rows[0].workload.name, round + 1);
        let shift = round * rows.len() / rounds;
        rows.rotate_left(shift);
        for row in rows.iter_mut().filter(|row| row.failure.is_none()) {
            let result = run(row.workload, &row.entrant, programs);
            if let Err(error) = &result {
                eprintln!("FAILED: {}, {}: {error}", row.workload.name, row.entrant.contender.name);
            }
            row.add(result);
        }
        rows.rotate_right(shift);
    }
}

/// Starts a server, and a proxy if there is a delay, and runs the client.
fn run(workload: &Workload, entrant: &Entrant, programs: &Programs) -> Result<Outcome, String> {
    let server = NatsServer::start("");
    let Some(delay) = workload.delay else { return client(&server.url(), workload, entrant, programs) };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let proxy = runtime.block_on(Proxy::start(server.port()));
    proxy.delay(Duration::from_millis(delay.into()));
    client(&proxy.url(), workload, entrant, programs)
}

/// Runs the client and waits for it. It exits at its timeout.
fn client(url: &str, workload: &Workload, entrant: &Entrant, programs: &Programs) -> Result<Outcome, String> {
    let program = match &programs.other {
        Some(other) if entrant.is_other => other,
        _ => &programs.own,
    };
    let output = Command::new(program)
        .args(["run", entrant.contender.name, url])
        .args([workload.size as u64, entrant.messages].map(|number| number.to_string()))
        .args([entrant.window, entrant.capacity].map(|number| number.to_string()))
        .arg(TIMEOUT.to_string())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("no client process: {error}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}", output.status, stderr.trim()));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("unreadable outcome: {error}"))
}
