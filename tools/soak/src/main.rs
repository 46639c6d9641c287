//! Long runs at full load, then phases that stress memory. Checks every byte of every message and samples memory.
//! Exits with 1 if a check fails.
//!
//! ```text
//! cargo run --release --manifest-path tools/soak/Cargo.toml -- --minutes 30
//! cargo run --release --manifest-path tools/soak/Cargo.toml -- --quick
//! ```

mod heap;
mod message;
mod phase;
mod phases;
mod tally;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use comfy_table::{ContentArrangement, Table, presets};

use phase::{Phase, Verdict};
use phases::{bursts, channels, empty_messages, load, retained, shutdowns};

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

#[derive(Parser)]
#[command(about = "turbostream at full load, every message checked")]
struct Arguments {
    /// Duration of the full load; the other phases take about 2 minutes more.
    #[arg(long, default_value_t = 30.0, value_name = "N")]
    minutes: f64,
    /// Run all phases in about 20 seconds.
    #[arg(long, conflicts_with = "minutes")]
    quick: bool,
    /// Run only phases whose name contains this.
    #[arg(long, value_name = "PART", default_value = "")]
    only: String,
}

/// The amount of work of each phase.
#[derive(Clone, Copy)]
struct Amounts {
    load: Duration,
    retained: u64,
    empty_messages: u64,
    bursts: u32,
    channels: u32,
    shutdowns: u32,
}

impl Amounts {
    fn of(arguments: &Arguments) -> Self {
        let full = Self {
            load: Duration::from_secs_f64(60.0 * arguments.minutes.clamp(0.05, 60.0 * 24.0 * 30.0)),
            retained: 20_000_000,
            empty_messages: 200_000_000,
            bursts: 100,
            channels: 10_000,
            shutdowns: 10_000,
        };
        if !arguments.quick {
            return full;
        }
        let load = Duration::from_secs(8);
        Self {
            load,
            retained: 2_000_000,
            empty_messages: 10_000_000,
            bursts: 10,
            channels: 2000,
            shutdowns: 1000,
        }
    }
}

fn phases(amounts: Amounts) -> Vec<Phase> {
    vec![
        Phase::new("full load", move |progress| load::run(amounts.load, progress)).expected(amounts.load),
        Phase::new("one message of 1,000 retained, copied", move |progress| {
            retained::run(turbostream::ReadMode::Safe, amounts.retained, progress)
        }),
        Phase::new("one message of 1,000 retained, lent", move |progress| {
            retained::run(turbostream::ReadMode::ZeroCopy, amounts.retained, progress)
        }),
        Phase::new("empty messages", move |progress| empty_messages::run(amounts.empty_messages, progress)),
        Phase::new("bursts and idle periods", move |progress| bursts::run(amounts.bursts, progress)),
        Phase::new("channels created and dropped", move |progress| channels::run(amounts.channels, progress)),
        Phase::new("runtimes shut down", move |progress| shutdowns::run(amounts.shutdowns, progress)),
    ]
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let phases = phases(Amounts::of(&arguments)).into_iter();
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["phase", "time", "verdict", "observations"]);
    let mut passed = true;
    message::prepare();
    for phase in phases.filter(|phase| phase.name().contains(&arguments.only)) {
        let (name, outcome) = (phase.name(), phase.run());
        passed &= outcome.verdict == Verdict::Passed;
        table.add_row([
            name.to_string(),
            format!("{:.1} s", outcome.time.as_secs_f64()),
            outcome.verdict.to_string(),
            outcome.observations.join("\n"),
        ]);
    }
    println!("{table}");
    println!("{}", if passed { "everything passed" } else { "FAILED" });
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
