//! turbostream at full load for long, with every byte of every message checked, and its memory looked at all the time;
//! then what is hard on memory, each in a phase of its own. Exits with 1 if anything is not as promised.
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
use phases::{bursts, channels, empties, held, kills, load};

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

#[derive(Parser)]
#[command(about = "turbostream at full load, every message checked")]
struct Arguments {
    /// How long the full load lasts; the other phases take some 2 minutes more.
    #[arg(long, default_value_t = 30.0, value_name = "N")]
    minutes: f64,
    /// All of it in some 20 seconds.
    #[arg(long, conflicts_with = "minutes")]
    quick: bool,
    /// Only phases whose name has this in it.
    #[arg(long, value_name = "PART", default_value = "")]
    only: String,
}

/// How much is to be done.
#[derive(Clone, Copy)]
struct Amounts {
    load: Duration,
    held: u64,
    empties: u64,
    bursts: u32,
    channels: u32,
    kills: u32,
}

impl Amounts {
    fn of(arguments: &Arguments) -> Self {
        let full = Self {
            load: Duration::from_secs_f64(60.0 * arguments.minutes.clamp(0.05, 60.0 * 24.0 * 30.0)),
            held: 20_000_000,
            empties: 200_000_000,
            bursts: 100,
            channels: 10_000,
            kills: 10_000,
        };
        if !arguments.quick {
            return full;
        }
        let load = Duration::from_secs(8);
        Self { load, held: 2_000_000, empties: 10_000_000, bursts: 10, channels: 2000, kills: 1000 }
    }
}

fn phases(amounts: Amounts) -> Vec<Phase> {
    vec![
        Phase::new("full load", move |progress| load::run(amounts.load, progress)).lasting(amounts.load),
        Phase::new("one slice of 1,000 held, copied", move |progress| {
            held::run(turbostream::ReadMode::Safe, amounts.held, progress)
        }),
        Phase::new("one slice of 1,000 held, lent", move |progress| {
            held::run(turbostream::ReadMode::ZeroCopy, amounts.held, progress)
        }),
        Phase::new("empty messages", move |progress| empties::run(amounts.empties, progress)),
        Phase::new("bursts and rests", move |progress| bursts::run(amounts.bursts, progress)),
        Phase::new("channels made and dropped", move |progress| channels::run(amounts.channels, progress)),
        Phase::new("runtimes killed", move |progress| kills::run(amounts.kills, progress)),
    ]
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let phases = phases(Amounts::of(&arguments)).into_iter();
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["phase", "time", "verdict", "what was seen"]);
    let mut passed = true;
    message::prepare();
    for phase in phases.filter(|phase| phase.name().contains(&arguments.only)) {
        let (name, ran) = (phase.name(), phase.run());
        passed &= ran.verdict == Verdict::Passed;
        table.add_row([
            name.to_string(),
            format!("{:.1} s", ran.time.as_secs_f64()),
            ran.verdict.to_string(),
            ran.seen.join("\n"),
        ]);
    }
    println!("{table}");
    println!("{}", if passed { "everything passed" } else { "FAILED" });
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
