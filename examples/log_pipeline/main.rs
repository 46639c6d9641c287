//! Several readers stream lines of text through one channel to one writer. The same job then runs through
//! `tokio::sync::mpsc`, to compare.
//!
//! ```text
//! cargo run --release --example log_pipeline               # a generated access log of 2 million lines
//! cargo run --release --example log_pipeline -- --verify a.log b.log --output all.log
//! tail -f a.log | cargo run --release --example log_pipeline -- - --output copy.log
//! ```
//!
//! Each line is one message. This file is the pipeline: the two channels, the round that joins readers, channel
//! and writer, and the command line. `files.rs` reads, writes and verifies lines; `report.rs` measures and prints.
//! `../common` is shared with other examples.

#[path = "../common/access_log.rs"]
mod access_log;
mod files;
mod report;
#[path = "../common/units.rs"]
mod units;

use std::fs::File;
use std::future::Future;
use std::io::{self, IoSlice, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::{Bytes, BytesMut};
use clap::Parser;
use indicatif::ProgressBar;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use turbostream::{Monitor, Receiver, Sender};

use crate::files::{CHUNK, Input, InputSize, LineReader, LineWriter, MAX_LINE, Output, Written, line_len};
use crate::report::{Column, Latency, Round, Tag, Tagger, progress_bar};
use crate::units::{count, peak_memory, reset_peak_memory};

/// A channel of lines from several readers to one writer.
trait Channel {
    type Sender: Clone + Send + Sync + 'static;
    type Receiver: Send + 'static;

    const NAME: &'static str;

    /// Opens a new channel. The monitor reports its memory, if the channel has one.
    fn open() -> anyhow::Result<(Self::Sender, Self::Receiver, Option<Monitor>)>;

    /// Sends whole lines one by one, each with a tag. Returns `false` if the channel was closed before the last.
    fn send_lines(
        tx: &Self::Sender,
        lines: BytesMut,
        tagger: &mut Tagger,
    ) -> impl Future<Output = anyhow::Result<bool>> + Send;

    /// Waits for lines and writes them. Returns `false` if the channel is closed and drained. Blocks its thread.
    fn write_batch(rx: &mut Self::Receiver, out: &mut LineWriter) -> io::Result<bool>;
}

/// Lines as messages of turbostream: a tag and the line's bytes, copied once into a segment.
struct Turbostream;

/// The memory of the channel. It holds about as many lines of usual length as `TokioMpsc` does, so that the times
/// in the two channels can be compared.
const MAX_BYTES: usize = 4 << 20;

impl Channel for Turbostream {
    type Sender = Sender;
    type Receiver = Receiver;

    const NAME: &'static str = "turbostream";

    fn open() -> anyhow::Result<(Sender, Receiver, Option<Monitor>)> {
        let (tx, rx) = turbostream::builder()
            .name("log_pipeline")
            .max_bytes(MAX_BYTES)
            .max_message_bytes(Tag::BYTES + MAX_LINE + CHUNK)
            .build()
            .context("cannot open the channel")?;
        let monitor = tx.monitor();
        Ok((tx, rx, Some(monitor)))
    }

    async fn send_lines(tx: &Sender, lines: BytesMut, tagger: &mut Tagger) -> anyhow::Result<bool> {
        let mut message = Vec::with_capacity(512);
        let mut rest = &lines[..];
        while !rest.is_empty() {
            let (line, after) = rest.split_at(line_len(rest));
            rest = after;
            if tagger.sample_due() {
                // A timed line must not wait for room: that is not time in the channel.
                compose(&mut message, tagger.timed(), line);
                if tx.try_send(&message[..]).is_ok() {
                    tagger.sent_timed();
                    continue;
                }
            }
            compose(&mut message, tagger.plain(), line);
            if tx.send(&message[..]).await.is_err() {
                return Ok(false);
            }
            tagger.sent_plain();
        }
        Ok(true)
    }

    fn write_batch(rx: &mut Receiver, out: &mut LineWriter) -> io::Result<bool> {
        // A batch holds messages of one segment: this takes as many as there are.
        let Some(batch) = rx.blocking_recv_batch(usize::MAX) else { return Ok(false) };
        out.begin_batch();
        let mut lines = batch.io_slices();
        for line in &mut lines {
            out.record(Tag::of(line));
            line.advance(Tag::BYTES);
        }
        out.write_lines(&mut lines)?;
        Ok(true)
    }
}

fn compose(message: &mut Vec<u8>, tag: Tag, line: &[u8]) {
    message.clear();
    message.extend_from_slice(&tag.to_bytes());
    message.extend_from_slice(line);
}

/// The same through `tokio::sync::mpsc`, used the way it is fastest: a line is a reference-counted slice of what
/// was read (no copy, no allocation), the sender reserves many permits at once, the receiver uses `blocking_recv_many`.
struct TokioMpsc;

/// The most lines that the channel holds.
const MPSC_CAPACITY: usize = 16 * 1024;
const MPSC_PERMITS: usize = 256;
const MPSC_BATCH: usize = 8 * 1024;

struct TaggedLine {
    tag: Tag,
    bytes: Bytes,
}

struct MpscReceiver {
    rx: mpsc::Receiver<TaggedLine>,
    batch: Vec<TaggedLine>,
}

impl Channel for TokioMpsc {
    type Sender = mpsc::Sender<TaggedLine>;
    type Receiver = MpscReceiver;

    const NAME: &'static str = "tokio mpsc";

    fn open() -> anyhow::Result<(mpsc::Sender<TaggedLine>, MpscReceiver, Option<Monitor>)> {
        let (tx, rx) = mpsc::channel(MPSC_CAPACITY);
        Ok((tx, MpscReceiver { rx, batch: Vec::with_capacity(MPSC_BATCH) }, None))
    }

    async fn send_lines(
        tx: &mpsc::Sender<TaggedLine>,
        lines: BytesMut,
        tagger: &mut Tagger,
    ) -> anyhow::Result<bool> {
        let mut rest = lines.freeze();
        while !rest.is_empty() {
            let Ok(permits) = tx.reserve_many(MPSC_PERMITS).await else { return Ok(false) };
            for permit in permits {
                if rest.is_empty() {
                    break; // the unused permits are released
                }
                let bytes = rest.split_to(line_len(&rest));
                if tagger.sample_due() {
                    permit.send(TaggedLine { tag: tagger.timed(), bytes });
                    tagger.sent_timed();
                } else {
                    permit.send(TaggedLine { tag: tagger.plain(), bytes });
                    tagger.sent_plain();
                }
            }
        }
        Ok(true)
    }

    fn write_batch(rx: &mut MpscReceiver, out: &mut LineWriter) -> io::Result<bool> {
        rx.batch.clear();
        if rx.rx.blocking_recv_many(&mut rx.batch, MPSC_BATCH) == 0 {
            return Ok(false);
        }
        out.begin_batch();
        let mut lines: Vec<_> = rx.batch.iter().map(|line| IoSlice::new(&line.bytes)).collect();
        for line in &rx.batch {
            out.record(line.tag);
        }
        out.write_lines(&mut lines)?;
        Ok(true)
    }
}

/// The job that every round repeats.
struct Job {
    inputs: Vec<Input>,
    output: Output,
    verify: bool,
    /// Whether all inputs can be read again.
    rereadable: bool,
}

impl Job {
    /// Whether a last line without a newline gets one. With a single input, no other line can follow it.
    fn terminate(&self) -> bool {
        self.inputs.len() > 1
    }

    /// Whether there can be more than one round.
    fn is_repeatable(&self) -> bool {
        self.rereadable && self.output.is_rewritable()
    }
}

/// How a reader ended.
#[derive(Default)]
struct ReaderEnd {
    /// Lines that this reader sent.
    sent: u64,
    /// Whether it reached the end of its input.
    complete: bool,
    /// A copy of what it read, if verification needs it and the input cannot be read again.
    copy: Option<File>,
}

/// Why a round failed, and how many lines it wrote before that.
struct Failure {
    error: anyhow::Error,
    lines_written: u64,
}

/// Does the job once through a channel `C`, from the first line read to the last line written.
///
/// After `stop` the readers end, and the writer writes what the channel holds.
async fn run_round<C: Channel>(
    job: &Job,
    stop: &CancellationToken,
    progress: &ProgressBar,
    written: &Arc<Written>,
) -> anyhow::Result<Round> {
    let cannot_write = || format!("cannot write {}", job.output.name());
    let file = job.output.open().with_context(cannot_write)?;
    let (tx, rx, monitor) = C::open()?;
    let measures_memory = reset_peak_memory().is_some();

    let start = Instant::now();
    let stop_readers = stop.child_token();
    let readers = spawn_readers::<C>(job, &tx, start, &stop_readers)?;
    drop(tx); // the readers hold the only senders: the last to end closes the channel
    let writer = LineWriter::new(file, start, Arc::clone(written), monitor, job.verify);
    // The writer blocks in system calls, so it runs on a thread of the blocking pool and waits for lines there.
    let writing = tokio::task::spawn_blocking(move || write_all::<C>(rx, writer));

    let drained = show_progress(writing, InputSize::of(&job.inputs), progress, written).await;
    stop_readers.cancel(); // if the writer failed, a reader that waits for input does not notice
    let ends = join_readers(readers).await;
    let (writer, elapsed) = drained.context("the writer panicked")?.with_context(cannot_write)?;
    let readers = ends?;

    let (sent, received) = (readers.iter().map(|reader| reader.sent).sum::<u64>(), written.lines());
    ensure!(sent == received, "{sent} lines were sent through the channel, {received} were received");
    Ok(Round {
        lines: received,
        bytes: written.bytes(),
        batches: writer.batches,
        elapsed,
        in_channel: Latency::of(&writer.in_channel),
        channel_peak: writer.channel_peak,
        process_peak: measures_memory.then(peak_memory).flatten(),
        origins: writer.origins,
        readers,
    })
}

/// Writes batch by batch until the channel is closed and drained.
fn write_all<C: Channel>(mut rx: C::Receiver, mut out: LineWriter) -> io::Result<(LineWriter, Duration)> {
    while C::write_batch(&mut rx, &mut out)? {}
    let elapsed = out.elapsed();
    Ok((out, elapsed))
}

type Readers = JoinSet<(usize, anyhow::Result<ReaderEnd>)>;

/// Spawns one task for each input. A reader that fails stops the others.
fn spawn_readers<C: Channel>(
    job: &Job,
    tx: &C::Sender,
    start: Instant,
    stop: &CancellationToken,
) -> anyhow::Result<Readers> {
    let mut readers = JoinSet::new();
    for (index, input) in job.inputs.iter().cloned().enumerate() {
        let copy = (job.verify && !job.rereadable).then(tempfile::tempfile).transpose();
        let copy = copy.context("cannot make a temporary file")?;
        let tagger = Tagger::new(u16::try_from(index).context("too many inputs")?, start);
        let (tx, stop, terminate) = (tx.clone(), stop.clone(), job.terminate());
        readers.spawn(async move {
            let end = read_all::<C>(&input, terminate, copy, &tx, tagger, &stop).await;
            if end.is_err() {
                stop.cancel();
            }
            (index, end.with_context(|| format!("cannot read {}", input.name())))
        });
    }
    Ok(readers)
}

/// Sends the lines of one input until its end, the close of the channel or `stop`.
async fn read_all<C: Channel>(
    input: &Input,
    terminate: bool,
    copy: Option<File>,
    tx: &C::Sender,
    mut tagger: Tagger,
    stop: &CancellationToken,
) -> anyhow::Result<ReaderEnd> {
    let kept = copy.as_ref().map(File::try_clone).transpose()?;
    let mut complete = false;
    if let Some(lines) = stop.run_until_cancelled(LineReader::open(input, terminate, copy)).await {
        let mut lines = lines?;
        while let Some(chunk) = stop.run_until_cancelled(lines.next_chunk()).await {
            let Some(chunk) = chunk? else {
                complete = true;
                break;
            };
            if !C::send_lines(tx, chunk, &mut tagger).await? {
                break;
            }
        }
    }
    Ok(ReaderEnd { sent: tagger.sent, complete, copy: kept })
}

async fn join_readers(mut readers: Readers) -> anyhow::Result<Vec<ReaderEnd>> {
    let mut ends: Vec<_> = (0..readers.len()).map(|_| ReaderEnd::default()).collect();
    while let Some(joined) = readers.join_next().await {
        let (index, end) = joined.context("a reader panicked")?;
        ends[index] = end?;
    }
    Ok(ends)
}

/// Moves the progress bar until `writing` ends, and returns its result.
async fn show_progress<T>(
    mut writing: tokio::task::JoinHandle<T>,
    size: InputSize,
    progress: &ProgressBar,
    written: &Written,
) -> Result<T, tokio::task::JoinError> {
    let mut tick = interval(Duration::from_millis(50));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            drained = &mut writing => return drained,
            _ = tick.tick() => progress.set_position(match size {
                InputSize::Lines(_) => written.lines(),
                InputSize::Bytes(_) | InputSize::Unknown => written.bytes(),
            }),
        }
    }
}

const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}")),
    };
    let code = runtime.block_on(run(&options)).unwrap_or_else(|Failure { error, lines_written }| {
        fail(&format!("{error:#}; {} written", count(lines_written, "line")))
    });
    runtime.shutdown_background(); // a read of standard input may never return
    code
}

/// Prints one line on standard error. If that is closed too, the exit code has to do.
fn fail(message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "log_pipeline: {message}");
    ExitCode::FAILURE
}

/// Does the job in rounds, through each channel in turn, and prints the report.
async fn run(options: &Options) -> Result<ExitCode, Failure> {
    let job = prepare(options).map_err(|error| Failure { error, lines_written: 0 })?;
    let stop = CancellationToken::new();
    tokio::spawn(cancel_on_ctrl_c(stop.clone()));

    let rounds = if job.is_repeatable() { options.rounds } else { 1 };
    let (mut ours, mut theirs) = (Column::new(Turbostream::NAME), Column::new(TokioMpsc::NAME));
    for number in 1..=rounds {
        let complete = one_round::<Turbostream>(&job, &stop, (number, rounds), &mut ours).await?
            && job.is_repeatable()
            && one_round::<TokioMpsc>(&job, &stop, (number, rounds), &mut theirs).await?;
        if !complete {
            break;
        }
    }

    let columns = [ours, theirs];
    let text = report::summary(&job, stop.is_cancelled(), &columns);
    let mut out = job.output.report_to();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    printed.context("cannot print the report").map_err(|error| {
        let first = columns.iter().flat_map(|column| &column.rounds).next();
        Failure { error, lines_written: first.map_or(0, |round| round.lines) }
    })?;
    Ok(if stop.is_cancelled() { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// Checks the inputs and the output, before the output is touched.
fn prepare(options: &Options) -> anyhow::Result<Job> {
    let inputs = Input::from_arguments(&options.files, options.lines);
    let stdins = inputs.iter().filter(|input| matches!(input, Input::Stdin)).count();
    ensure!(stdins <= 1, "standard input can be named only once");
    let mut rereadable = true;
    for input in &inputs {
        rereadable &= input.check().with_context(|| format!("cannot read {}", input.name()))?;
    }
    let output = Output::from_argument(options.output.as_deref(), &inputs)?;
    ensure!(!options.verify || output.is_readable(), "cannot verify: {} cannot be read back", output.name());
    Ok(Job { inputs, output, verify: options.verify, rereadable })
}

/// Stops the readers at the first Ctrl-C, and exits at the second.
async fn cancel_on_ctrl_c(stop: CancellationToken) {
    if tokio::signal::ctrl_c().await.is_ok() {
        stop.cancel();
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(i32::from(INTERRUPTED));
        }
    }
}

/// Runs, verifies and records one round. Returns `false` if Ctrl-C made it the last.
async fn one_round<C: Channel>(
    job: &Job,
    stop: &CancellationToken,
    (number, rounds): (u32, u32),
    column: &mut Column,
) -> Result<bool, Failure> {
    if stop.is_cancelled() {
        return Ok(false);
    }
    let title = format!("{}, round {number} of {rounds}", C::NAME);
    let progress = progress_bar(InputSize::of(&job.inputs), title.clone());
    let written = Arc::new(Written::default());
    let round = run_round::<C>(job, stop, &progress, &written).await;
    progress.finish_and_clear();
    let verified = round.and_then(|round| {
        if job.verify {
            files::verify(job, &round).with_context(|| format!("{title} does not verify"))?;
        }
        Ok(round)
    });
    let mut round = verified.map_err(|error| Failure { error, lines_written: written.lines() })?;
    round.origins = None; // needed for verification only
    let complete = round.is_complete();
    if !complete {
        let lines = count(round.lines, "line");
        column.interrupted = Some(format!("interrupted in {title}: {lines} accepted, and as many written"));
    }
    if complete || column.rounds.is_empty() {
        column.rounds.push(round); // an incomplete round is shown only if there is no other
    }
    Ok(complete)
}

const NOTES: &str = "\
Lines:
  A line is a message: its bytes up to and including the newline, whatever they are (CR LF stays CR LF).
  The lines of one input keep their order; those of several inputs mix as they come. A last line without a
  newline stays so if it is the only input, so the output is the input byte for byte. With several inputs
  it gets a newline (LF), for another input's line may follow it. A line of more than 1 MiB is an error.

Rounds:
  The job is done N times through each channel, in turn, and each round writes the output anew.
  There is one round, through turbostream alone and so without the comparison, if an input cannot be read
  twice (standard input, a pipe) or the output cannot be written twice (standard output, a pipe, a device;
  /dev/null can). --verify keeps a copy of such an input in a temporary file, while it is read.

Ending:
  Ctrl-C stops the readers, writes what the channel holds, reports and exits with 130; a second one exits at
  once. Any failure is one line on standard error that says how many lines were written, and exit code 1.
  If the lines go to standard output, the table goes to standard error.";

/// Streams lines of text from several reader tasks through one channel into a file, and does the same through
/// tokio::sync::mpsc to compare
#[derive(Parser, Debug)]
#[command(name = "log_pipeline", after_help = NOTES)]
struct Options {
    /// Files to read, each by a task of its own; `-` is standard input [default: a generated access log]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Where the lines go; `-` is standard output [default: a temporary file, removed at the end]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Rounds through each channel; the table shows medians
    #[arg(short, long, value_name = "N", default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// Length of the generated access log
    #[arg(short, long, value_name = "N", default_value_t = 2_000_000, conflicts_with = "files",
        value_parser = clap::value_parser!(u64).range(..=10_000_000_000))]
    lines: u64,

    /// After each round read the output back and prove that every line of every input is there exactly once,
    /// byte for byte, and the lines of each input in order
    #[arg(long)]
    verify: bool,
}
