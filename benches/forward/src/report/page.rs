//! Writes docs/forwarding-benchmarks.md.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use super::{Row, chart, machine, table};
use crate::contenders;
use crate::plan::{self, Workload};

/// The folder of the charts, relative to the page.
const CHARTS: &str = "benchmarks";
const PAGE: &str = "forwarding-benchmarks.md";

/// Writes the page and its charts into `directory`.
pub fn docs(rows: &[Row], directory: &Path, used_by_others: Option<f64>) -> Result<(), String> {
    let charts = directory.join(CHARTS);
    std::fs::create_dir_all(&charts).map_err(|error| format!("{}: {error}", charts.display()))?;
    let mut text = head(used_by_others);
    let measured = |workload: &&Workload| rows.iter().any(|row| row.workload.name == workload.name);
    for workload in plan::ALL.iter().filter(measured).filter(|workload| workload.delay.is_none()) {
        let name = workload.name;
        chart::bars(rows, workload, &charts.join(format!("{name}.svg")))?;
        let _ = write!(text, "\n## {name}\n\n{}\n", workload.about);
        let _ = write!(text, "\n![{name}]({CHARTS}/{name}.svg)\n\n{}", table::markdown(rows, workload));
    }
    let delayed: Vec<_> =
        plan::ALL.iter().filter(measured).filter(|workload| workload.delay.is_some()).collect();
    if !delayed.is_empty() {
        text += DELAY;
    }
    if chart::delays(rows, &charts.join("forward_delay.svg"))? {
        let _ = write!(text, "\n![messages a second by delay]({CHARTS}/forward_delay.svg)\n");
    }
    for workload in delayed {
        let delay = workload.delay.unwrap_or(0);
        let _ = write!(text, "\n### {delay} ms each way\n\n{}", table::markdown(rows, workload));
    }
    let path = directory.join(PAGE);
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("\n{} is written", path.display());
    Ok(())
}

const DELAY: &str = "\n## Delay\n\n\
     1 KiB messages through a proxy that delays what passes by 0, 1, 10 or 50 ms, each way. A round trip is twice that. With\n\
     a window of `w` messages in flight, no more than `w` messages a round trip are possible.\n";

fn head(used_by_others: Option<f64>) -> String {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let separator = if arguments.is_empty() { "" } else { " -- " };
    let mut text = format!(
        "# Benchmarks of forwarding\n\n\
         Written by this command; change nothing by hand:\n\n\
         ```sh\n\
         cargo run --release --manifest-path benches/forward/Cargo.toml{separator}{}\n\
         ```\n\n\
         Measured on {}, {}, on {}, with {}. The method is described in\n\
         [benches/forward](../benches/forward/README.md). Clients and servers share the machine. `ratio` is the row's speed divided by\n\
         that of `turbostream`; `CPU ratio` is the row's CPU time divided by that of `turbostream`. CPU time is that of the client process,\n\
         in seconds for a million messages. Memory is the client's peak resident memory, without what it has when it is connected.\n",
        arguments.join(" "),
        machine(),
        std::env::consts::OS,
        first_line("date", "+%Y-%m-%d"),
        first_line("nats-server", "--version"),
    );
    if let Some(percent) = used_by_others {
        let _ = writeln!(
            text,
            "\nOther processes used {percent:.0} % of the processors when the run began. Speeds are lower than those of an idle machine; the\n\
             contenders alternate, so compare the ratios."
        );
    }
    text += "\n| contender | what it is |\n| --- | --- |\n";
    for contender in &contenders::ALL {
        let _ = writeln!(text, "| {} | {} |", contender.name, contender.about);
    }
    text
}

fn first_line(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or_default().to_string()
}
