//! Channels whose two ends stand in different processes: producers forward theirs into a stream of three replicas, and
//! consumers get theirs from it. A server and a producer are killed in the middle, and the result is proved.
//!
//! ```text
//! cargo run --release --features nats --example across_machines
//! ```
//!
//! ```text
//! producer ── channel ── Forwarder ──┐    ┌─ server s0 ─┐    ┌── JetStreamSource ── channel ── consumer
//! producer ── channel ── Forwarder ──┼────┼─ server s1 ─┼────┤
//! producer ── channel ── Forwarder ──┘    └─ server s2 ─┘    └── JetStreamSource ── channel ── consumer
//! ```
//!
//! `workers.rs` has the producers and consumers: the part that a program of its own would have. `trial.rs` runs them and
//! kills, `proof.rs` compares.

#[path = "../common/interrupt.rs"]
mod interrupt;
mod message;
#[path = "../common/nats_server.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod nats_server;
mod process;
mod proof;
mod trial;
mod workers;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use comfy_table::{CellAlignment, Table, presets};

use crate::proof::{Findings, check};
use crate::trial::{Outcome, Trial};
use crate::workers::ProducerArguments;

/// The stream of the trial.
const STREAM: &str = "EVENTS";
/// The durable consumer that all consumer processes share.
const CONSUMER: &str = "workers";
const NO_SERVER: u8 = 2;
const INTERRUPTED: u8 = 130;

const NOTES: &str = "\
What happens:
  Three servers are started on free ports of 127.0.0.1, with their storage in temporary folders. When a quarter
  of the messages is confirmed, the server that leads the stream is killed with SIGKILL, and started again when
  three quarters are. When half of them is confirmed, a producer is killed. Another process takes its place, and
  sends again from the first message that the killed one had not reported to be confirmed.

What is proved:
  Each message that a producer process knew to be confirmed is in the stream exactly once, and was given to a
  consumer at least once. The messages of each producer process are in the stream in their order.
  What the killed producer did not know to be confirmed may be in the stream, too: once from each process.

Exit codes:
  0 proved, 1 not, 2 nats-server is not installed or wrong usage, 130 Ctrl-C. All processes are ended.";

/// Producers and consumers in processes of their own, on a stream of three replicas, of which a leader is killed
#[derive(Parser, Debug)]
#[command(name = "across_machines", after_help = NOTES)]
struct Options {
    #[command(subcommand)]
    role: Option<Role>,

    /// How many messages all producers send together
    #[arg(long, value_name = "N", default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(10_000..))]
    messages: u64,

    /// Producer processes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = parse_processes)]
    producers: usize,

    /// Consumer processes
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = parse_processes)]
    consumers: usize,
}

impl Options {
    /// How many messages each producer sends.
    fn messages_each(&self) -> u64 {
        self.messages.div_ceil(self.producers as u64)
    }
}

fn parse_processes(argument: &str) -> Result<usize, String> {
    argument.parse().ok().filter(|number| (1..=16).contains(number)).ok_or("from 1 to 16".into())
}

/// What this process does, if another one has started it.
#[derive(Subcommand, Debug)]
enum Role {
    #[command(hide = true)]
    Producer(ProducerArguments),
    #[command(hide = true)]
    Consumer {
        #[arg(long)]
        servers: String,
    },
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}")),
    };
    let code = runtime.block_on(run(options)).unwrap_or_else(|error| fail(&format!("{error:#}")));
    runtime.shutdown_background();
    code
}

/// Prints one line on standard error. If that is closed too, the exit code has to do.
fn fail(message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "across_machines: {message}");
    ExitCode::FAILURE
}

/// Prints one line. If standard output is closed, the trial goes on.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

async fn run(mut options: Options) -> anyhow::Result<ExitCode> {
    match options.role.take() {
        Some(Role::Producer(arguments)) => workers::produce(arguments).await?,
        Some(Role::Consumer { servers }) => workers::consume(&servers).await?,
        None => return try_out(&options).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the trial, and shows what it has come to.
async fn try_out(options: &Options) -> anyhow::Result<ExitCode> {
    if !nats_server::is_installed() {
        fail(nats_server::HOW_TO_INSTALL);
        return Ok(ExitCode::from(NO_SERVER));
    }
    let running = async { Trial::start(options).await?.run().await };
    // When the trial is dropped, it ends its processes and servers.
    let outcome = tokio::select! {
        outcome = running => outcome?,
        _ = interrupt::interrupt() => {
            fail("interrupted");
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    let findings = check(&outcome.producers, options.messages_each(), &outcome.stream, &outcome.consumed);
    say(&table(&outcome, &findings).to_string());
    if !findings.is_proof() {
        return Ok(fail(&format!("not proved: {findings}")));
    }
    say(
        "proved: each confirmed message is in the stream once, was consumed, and each producer's are in order",
    );
    Ok(ExitCode::SUCCESS)
}

fn table(outcome: &Outcome, findings: &Findings) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    for (name, value) in [
        ("messages confirmed", findings.confirmed),
        ("  of these missing in the stream", findings.missing),
        ("  of these twice in the stream", findings.twice),
        ("  of these not consumed", findings.not_consumed),
        ("out of order in the stream", findings.out_of_order),
        ("stored, but not known to the killed producer", findings.unconfirmed),
        ("messages published again by forwarders", outcome.retried),
        ("  of these not stored again", outcome.duplicates),
        ("messages given to consumers", outcome.deliveries),
        ("packs delivered again", outcome.redelivered),
        ("packs acknowledged", outcome.acknowledged),
    ] {
        table.add_row([name.to_owned(), value.to_string()]);
    }
    table.add_row(["time".to_owned(), format!("{:.1} s", outcome.elapsed.as_secs_f64())]);
    table.column_mut(1).expect("two columns").set_cell_alignment(CellAlignment::Right);
    table
}
