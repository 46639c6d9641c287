//! Several readers stream lines of text through one channel, and a forwarder puts them into a stream of NATS JetStream.
//!
//! ```text
//! cargo run --release --features nats --example nats_forward               # two million generated lines
//! cargo run --release --features nats --example nats_forward -- --verify --pack a.log b.log
//! cargo run --release --features nats --example nats_forward -- --server nats://host:4222 --stream AUDIT a.log
//! ```
//!
//! Each line is one message. This file is the pipeline and the command line. `server.rs` finds or starts the server,
//! `lines.rs` reads, `timed.rs` measures, `verify.rs` proves the result, and `report.rs` shows it.

#[path = "../common/access_log.rs"]
mod access_log;
#[path = "../common/interrupt.rs"]
mod interrupt;
mod lines;
#[path = "../common/nats_server.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod nats_server;
mod report;
mod server;
mod timed;
#[path = "../common/units.rs"]
mod units;
mod verify;

use std::collections::HashSet;
use std::error::Error;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, ensure};
use clap::Parser;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use turbostream::Receiver;
use turbostream::forward::{
    Destination, ForwardError, ForwardErrorKind, ForwardHandle, ForwardReport, Forwarder, Packing, StopReason,
};

use crate::interrupt::interrupt;
use crate::lines::{Input, MAX_LINE, Mark, Progress, Reading, Sent, read_all};
use crate::nats_server::NatsServer;
use crate::report::{Bar, InputSize, Measured, verification_bar};
use crate::server::{Connected, NotInstalled};
use crate::timed::{Timed, Times};
use crate::units::{count, grouped, peak_memory, reset_peak_memory};
use crate::verify::Expected;

/// The memory of the channel: what is queued and in flight together.
const MAX_BYTES: usize = 16 << 20;
/// How many payloads lie between two whose time is measured, if they are not packs.
const MEASURE_EVERY: u64 = 32;
/// How many rejected lines are described.
const SHOWN_REJECTIONS: usize = 3;
const NO_SERVER: u8 = 2;
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}")),
    };
    let code = runtime.block_on(run(&options)).unwrap_or_else(|error| {
        let code = fail(&format!("{error:#}"));
        match () {
            () if error.is::<NotInstalled>() => ExitCode::from(NO_SERVER),
            () if error.is::<Interrupted>() => ExitCode::from(INTERRUPTED),
            () => code,
        }
    });
    runtime.shutdown_background(); // a read of standard input may never return
    code
}

/// Prints one line on standard error. If that is closed too, the exit code has to do.
fn fail(message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "nats_forward: {message}");
    ExitCode::FAILURE
}

/// Connects, forwards, reports, and verifies.
async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let inputs = Input::from_arguments(&options.files, options.lines);
    ensure!(
        inputs.iter().filter(|input| matches!(input, Input::Stdin)).count() <= 1,
        "standard input can be named only once"
    );
    inputs.iter().try_for_each(Input::check)?;

    let interrupts = Interrupts::listen();
    let own_server = server::start_own(options)?; // killed at the end of this function, also if it fails
    let url = own_server.as_ref().map(NatsServer::url).or_else(|| options.server.clone()).unwrap_or_default();
    let connecting = server::connect(options, &url);
    let connected = interrupts.first.run_until_cancelled(connecting).await.ok_or(Interrupted)??;
    let run = options.verify.then(|| RandomState::new().build_hasher().finish() as u32);
    let outcome = forward(options, &inputs, &connected, run, &interrupts).await?;

    let Outcome { measured, rejected, lines, .. } = &outcome;
    let (lines, rejections) = (count(*lines, "line"), measured.stats.rejected);
    let mut out = io::stdout();
    writeln!(out, "{}, 1 forwarder into {}", count(inputs.len() as u64, "reader"), connected.name(options))?;
    writeln!(out, "{}", measured.table())?;
    for rejection in &rejected.descriptions {
        writeln!(out, "{rejection}")?;
    }
    let is_interrupted = interrupts.first.is_cancelled();
    if is_interrupted {
        writeln!(out, "interrupted: {lines} sent, and as many confirmed or rejected")?;
    }
    if let Some(run) = run {
        let next = if is_interrupted { &interrupts.second } else { &interrupts.first };
        let verifying = verify(options, &connected, run, outcome);
        next.run_until_cancelled(verifying).await.ok_or(Interrupted)??;
        writeln!(
            out,
            "verified: the stream has each line exactly once, byte for byte, each reader's in order"
        )?;
    }
    ensure!(rejections == 0, "{rejections} of {lines} were rejected, and are not in the stream");
    Ok(if is_interrupted { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// What a forwarding came to that confirmed or rejected every line.
struct Outcome {
    measured: Measured,
    /// Lines that were sent.
    lines: u64,
    sent: Vec<Sent>,
    rejected: Rejected,
}

/// The lines that the server can never take.
#[derive(Default)]
struct Rejected {
    /// Reader and number of each, if the stream will be verified.
    marks: HashSet<(usize, usize)>,
    descriptions: Vec<String>,
}

/// Sends the lines of all inputs through a channel into the stream, until the readers end or the first Ctrl-C.
async fn forward(
    options: &Options,
    inputs: &[Input],
    connected: &Connected,
    run: Option<u32>,
    interrupts: &Interrupts,
) -> anyhow::Result<Outcome> {
    let measures_memory = reset_peak_memory().is_some();
    let (tx, rx) = turbostream::builder()
        .name("nats_forward")
        .max_bytes(MAX_BYTES)
        .max_message_bytes(MAX_LINE + 64)
        .build()?;
    let rejected = Arc::new(Mutex::new(Rejected::default()));
    let (destination, times) =
        Timed::new(connected.destination(options), if options.pack.is_some() { 1 } else { MEASURE_EVERY });
    let forwarder = forwarder(options, rx, destination, run, &rejected);

    let start = Instant::now();
    let stop = interrupts.first.child_token();
    let progress = Arc::new(Progress::default());
    let handle = forwarder.spawn();
    let reading = Reading { tx, stop: stop.clone(), progress: Arc::clone(&progress), run };
    let reading = read_all(inputs, reading);
    let forwarding = drain(&handle, &stop, interrupts, &progress, InputSize::of(inputs));
    let (sent, report) = tokio::join!(reading, forwarding);

    let lines = progress.lines();
    let report = report.map_err(|error| explain(error, &handle, options, lines))?;
    let sent =
        sent.map_err(|error| error.context(format!("{} confirmed", count(report.stats.confirmed, "line"))))?;
    let (done, confirmed) = (report.stats.confirmed + report.stats.rejected, report.stats.confirmed);
    ensure!(
        done == lines,
        "{lines} lines were sent, {confirmed} confirmed and {} rejected",
        report.stats.rejected
    );
    let measured = Measured {
        stats: report.stats,
        elapsed: start.elapsed(),
        to_confirm: Times::nanos(&times),
        process_peak: measures_memory.then(peak_memory).flatten(),
    };
    let rejected = std::mem::take(&mut *rejected.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Outcome { measured, lines, sent, rejected })
}

/// Sets up the forwarder.
fn forwarder<D: Destination>(
    options: &Options,
    rx: Receiver,
    destination: D,
    run: Option<u32>,
    rejected: &Arc<Mutex<Rejected>>,
) -> Forwarder<D> {
    let mut forwarder = Forwarder::new(rx, destination).message_ids("nats_forward").on_rejected({
        let rejected = Arc::clone(rejected);
        move |line, rejection| {
            let mut rejected = rejected.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(mark) = run.and_then(|_| Mark::read(line)) {
                rejected.marks.insert((mark.reader, mark.number));
            }
            if rejected.descriptions.len() < SHOWN_REJECTIONS {
                rejected.descriptions.push(format!("a line of {} bytes: {rejection}", grouped(line.len())));
            }
        }
    });
    if options.strict_order {
        forwarder = forwarder.strict_order();
    }
    if let Some(bytes) = options.pack {
        forwarder = forwarder.pack(Packing::Lines, bytes);
    }
    forwarder
}

/// Moves the progress bar until the forwarder ends: after the readers, or at the second Ctrl-C. If it ends by itself
/// before that, the readers are stopped.
async fn drain(
    handle: &ForwardHandle,
    stop: &CancellationToken,
    interrupts: &Interrupts,
    progress: &Progress,
    size: InputSize,
) -> Result<ForwardReport, ForwardError> {
    let bar = Bar::new(size);
    let mut tick = interval(Duration::from_millis(50));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let report = loop {
        tokio::select! {
            report = handle.join() => break report,
            () = interrupts.second.cancelled() => break handle.shutdown_timeout(Duration::ZERO).await,
            _ = tick.tick() => bar.show(progress, &handle.stats()),
        }
    };
    stop.cancel();
    bar.clear();
    report
}

/// Says why the forwarder ended early, what is not confirmed, and what may help.
fn explain(error: ForwardError, handle: &ForwardHandle, options: &Options, lines: u64) -> anyhow::Error {
    let kind = error.kind();
    let hint = match kind {
        ForwardErrorKind::TimedOut => return anyhow!(unconfirmed(handle, lines)).context(Interrupted),
        ForwardErrorKind::Stopped(StopReason::NoStream) => {
            format!(" (--subject is {:?}, --stream is {:?})", options.subject, options.stream)
        }
        ForwardErrorKind::Stopped(StopReason::BadCredentials | StopReason::NotPermitted) => {
            " (see --credentials)".into()
        }
        _ => String::new(),
    };
    anyhow!("{}", unconfirmed(handle, lines)).context(format!("{error}{hint}"))
}

fn unconfirmed(handle: &ForwardHandle, lines: u64) -> String {
    let stats = handle.stats();
    let unconfirmed = lines.saturating_sub(stats.confirmed + stats.rejected);
    format!("{} sent, {} not confirmed", count(lines, "line"), grouped(unconfirmed))
}

/// Reads the stream back and checks it.
async fn verify(options: &Options, connected: &Connected, run: u32, outcome: Outcome) -> anyhow::Result<()> {
    let Outcome { measured, sent, rejected, .. } = outcome;
    let expected = Expected {
        run,
        readers: sent.into_iter().map(|sent| sent.digests).collect(),
        rejected: rejected.marks,
    };
    let bar = verification_bar(measured.stats.confirmed);
    let show = |lines| bar.set_position(lines);
    let findings =
        verify::verify(&connected.stream, &options.subject, connected.last_before, &expected, show).await;
    bar.finish_and_clear();
    let findings = findings?;
    if findings == verify::Findings::default() {
        return Ok(());
    }
    let retried = measured.stats.retried > 0 && !options.strict_order && findings.out_of_order > 0;
    let hint =
        if retried { "; messages were published again, and --strict-order keeps the order then" } else { "" };
    bail!("the stream does not verify: {findings}, of {} confirmed{hint}", measured.confirmed())
}

/// Ended by Ctrl-C.
#[derive(Debug)]
struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl Error for Interrupted {}

/// The first and the second Ctrl-C.
struct Interrupts {
    first: CancellationToken,
    second: CancellationToken,
}

impl Interrupts {
    fn listen() -> Self {
        let (first, second) = (CancellationToken::new(), CancellationToken::new());
        tokio::spawn({
            let (first, second) = (first.clone(), second.clone());
            async move {
                for token in [first, second] {
                    if interrupt().await.is_ok() {
                        token.cancel();
                    }
                }
            }
        });
        Self { first, second }
    }
}

const NOTES: &str = "\
Lines:
  A line is a message: its bytes without the newline. The lines of one input keep their order in the channel;
  those of several inputs mix as they come. A last line without a newline is a line. A line of more than
  4 MiB is an error. A line of more than the server's max_payload (1 MiB by default) is rejected: it is
  counted, the others go on, and the exit code is 1.

Stream:
  A stream that is there is used as it is. Otherwise one is created, with the subject and file storage.
  Without --server, `nats-server` is started on a free port of 127.0.0.1, with its storage in a temporary
  folder, and ended at the end.

Verification:
  With --verify, each message begins with `RUN READER:NUMBER `, and the bytes of its line follow. The stream
  is read back: each line must be there once, with its bytes, after the line before it of the same reader.
  If messages are published again, after a lost connection, only --strict-order keeps the order. It takes
  8 bytes more memory for each line.

Ending:
  Ctrl-C stops the readers, has everything that was sent confirmed, reports, and exits with 130. A second one
  ends at once, and says how many lines are not confirmed. While the server is away, nothing is lost: lines
  wait until it is back. Any failure is one line on standard error. Exit codes: 0 all is confirmed (and
  verified), 1 not, 2 no server named and none installed, or wrong usage.";

/// Streams lines of text from several reader tasks through one channel into a stream of NATS JetStream
#[derive(Parser, Debug)]
#[command(name = "nats_forward", after_help = NOTES)]
struct Options {
    /// Files to read, each by a task of its own; `-` is standard input [default: a generated access log]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Length of the generated access log
    #[arg(short, long, value_name = "N", default_value_t = 2_000_000, conflicts_with = "files",
        value_parser = clap::value_parser!(u64).range(..=10_000_000_000))]
    lines: u64,

    /// The server, or several of a cluster, separated by commas [default: one that is started for this run]
    #[arg(short, long, value_name = "URL")]
    server: Option<String>,

    /// A file with credentials: a token and a key, as `nsc` writes it
    #[arg(long, value_name = "FILE", requires = "server")]
    credentials: Option<PathBuf>,

    /// The stream that keeps the lines
    #[arg(long, value_name = "NAME", default_value = "LINES")]
    stream: String,

    /// The subject of the messages
    #[arg(long, value_name = "SUBJECT", default_value = "lines")]
    subject: String,

    /// Packs lines into messages of up to so many bytes
    #[arg(long, value_name = "BYTES", num_args = 0..=1, default_missing_value = "65536", require_equals = true)]
    pack: Option<usize>,

    /// Keeps the order also where messages are published again
    #[arg(long)]
    strict_order: bool,

    /// Reads the stream back, and proves that it has each line exactly once, byte for byte, and the lines of each
    /// input in order
    #[arg(long)]
    verify: bool,
}
