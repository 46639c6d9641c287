//! One round: readers, a channel and a writer, from the first line read to the last one written.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::channel::{Channel, LineReceiver, LineSender};
use crate::lines::{Input, LineReader};
use crate::memory;
use crate::output::Output;
use crate::tag::Tagger;
use crate::writer::{LineWriter, Trail, Written};

/// What every round does anew.
pub(crate) struct Job {
    pub(crate) inputs: Vec<Input>,
    pub(crate) output: Output,
    pub(crate) verify: bool,
    /// Whether all inputs can be read again.
    pub(crate) rereadable: bool,
}

impl Job {
    /// Whether a last line without a newline gets one: not if nothing can follow it.
    pub(crate) fn terminate(&self) -> bool {
        self.inputs.len() > 1
    }

    /// Whether there can be more than one round.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.rereadable && self.output.is_rewritable()
    }

    /// How much is to come.
    pub(crate) fn extent(&self) -> Extent {
        if let [Input::Generated { lines, .. }, ..] = self.inputs[..] {
            return Extent::Lines(lines);
        }
        self.inputs.iter().map(Input::size).sum::<Option<_>>().map_or(Extent::Unknown, Extent::Bytes)
    }
}

/// The length of all inputs together.
pub(crate) enum Extent {
    Lines(u64),
    Bytes(u64),
    Unknown,
}

/// What a round came to.
pub(crate) struct Round {
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
    pub(crate) batches: u64,
    pub(crate) elapsed: Duration,
    pub(crate) in_channel: InChannel,
    pub(crate) channel_peak: Option<usize>,
    pub(crate) process_peak: Option<u64>,
    pub(crate) trail: Option<Trail>,
    /// One for each input, in their order.
    pub(crate) readers: Vec<ReaderEnd>,
}

/// Nanoseconds that lines spent in the channel.
pub(crate) struct InChannel {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
}

impl InChannel {
    fn of(times: &Histogram<u64>) -> Self {
        let at = |quantile| times.value_at_quantile(quantile);
        Self { p50: at(0.5), p99: at(0.99), max: times.max() }
    }
}

impl Round {
    /// Whether every input was read to its end.
    pub(crate) fn is_complete(&self) -> bool {
        self.readers.iter().all(|reader| reader.complete)
    }
}

/// How a reader ended.
#[derive(Default)]
pub(crate) struct ReaderEnd {
    /// Lines that the channel accepted from it.
    pub(crate) accepted: u64,
    /// Whether it came to the end of its input.
    pub(crate) complete: bool,
    /// What it read, if that cannot be read again and will be needed.
    pub(crate) copy: Option<File>,
}

/// Why a round failed, and how far it had come.
pub(crate) struct Failure {
    pub(crate) error: anyhow::Error,
    pub(crate) lines_written: u64,
}

impl Failure {
    pub(crate) fn before_writing(error: anyhow::Error) -> Self {
        Self { error, lines_written: 0 }
    }
}

/// Does the job once through a channel `C`. After `stop` the readers end, and what the channel holds is
/// written.
pub(crate) async fn run<C: Channel>(
    job: &Job,
    stop: &CancellationToken,
    progress: &ProgressBar,
) -> Result<Round, Failure> {
    let written = Arc::new(Written::default());
    let round = attempt::<C>(job, &stop.child_token(), progress, &written).await;
    round.map_err(|error| Failure { error, lines_written: written.lines() })
}

async fn attempt<C: Channel>(
    job: &Job,
    halt: &CancellationToken,
    progress: &ProgressBar,
    written: &Arc<Written>,
) -> anyhow::Result<Round> {
    let cannot_write = || format!("cannot write {}", job.output.name());
    let file = job.output.open().with_context(cannot_write)?;
    let (tx, rx, monitor) = C::open()?;
    let measures_memory = memory::reset_peak().is_some();

    let start = Instant::now();
    let readers = start_readers(job, &tx, start, halt)?;
    drop(tx); // the readers hold the only senders: the last to end closes the channel
    // The writer blocks in system calls, so it has a thread of the blocking pool and waits for lines from
    // there.
    let writer = LineWriter::new(file, start, Arc::clone(written), monitor, job.verify);
    let mut drained = tokio::task::spawn_blocking(move || Handle::current().block_on(drain(rx, writer)));

    let extent = job.extent();
    let mut tick = interval(Duration::from_millis(50));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let drained = loop {
        tokio::select! {
            drained = &mut drained => break drained,
            _ = tick.tick() => progress.set_position(match extent {
                Extent::Lines(_) => written.lines(),
                Extent::Bytes(_) | Extent::Unknown => written.bytes(),
            }),
        }
    };
    halt.cancel(); // if the writer failed, readers that wait for input would not notice
    let ends = join_readers(readers).await;
    let (writer, elapsed) = drained.context("the writer panicked")?.with_context(cannot_write)?;
    let readers = ends?;

    let accepted = readers.iter().map(|reader| reader.accepted).sum::<u64>();
    ensure!(
        accepted == written.lines(),
        "the channel accepted {accepted} lines and handed out another number"
    );
    Ok(Round {
        lines: written.lines(),
        bytes: written.bytes(),
        batches: writer.batches,
        elapsed,
        in_channel: InChannel::of(&writer.in_channel),
        channel_peak: writer.channel_peak,
        process_peak: measures_memory.then(memory::peak).flatten(),
        trail: writer.trail,
        readers,
    })
}

/// Writes batch by batch until the channel is closed and drained.
async fn drain<R: LineReceiver>(mut rx: R, mut out: LineWriter) -> std::io::Result<(LineWriter, Duration)> {
    while rx.write_batch(&mut out).await? {}
    let elapsed = out.elapsed();
    Ok((out, elapsed))
}

type Readers = JoinSet<(usize, anyhow::Result<ReaderEnd>)>;

/// One task for each input. A reader that fails ends the others too.
fn start_readers<S: LineSender>(
    job: &Job,
    tx: &S,
    start: Instant,
    halt: &CancellationToken,
) -> anyhow::Result<Readers> {
    let mut readers = JoinSet::new();
    for (index, input) in job.inputs.iter().cloned().enumerate() {
        let copy = (job.verify && !job.rereadable).then(tempfile::tempfile).transpose();
        let copy = copy.context("cannot make a temporary file")?;
        let tagger = Tagger::new(u16::try_from(index).context("too many inputs")?, start);
        let (tx, halt, terminate) = (tx.clone(), halt.clone(), job.terminate());
        readers.spawn(async move {
            let end = read_all(&input, terminate, copy, &tx, tagger, &halt).await;
            if end.is_err() {
                halt.cancel();
            }
            (index, end.with_context(|| format!("cannot read {}", input.name())))
        });
    }
    Ok(readers)
}

async fn join_readers(mut readers: Readers) -> anyhow::Result<Vec<ReaderEnd>> {
    let mut ends: Vec<_> = (0..readers.len()).map(|_| ReaderEnd::default()).collect();
    while let Some(joined) = readers.join_next().await {
        let (index, end) = joined.context("a reader panicked")?;
        ends[index] = end?;
    }
    Ok(ends)
}

/// Sends the lines of one input until its end, the end of the channel or `halt`.
async fn read_all<S: LineSender>(
    input: &Input,
    terminate: bool,
    copy: Option<File>,
    tx: &S,
    mut tagger: Tagger,
    halt: &CancellationToken,
) -> anyhow::Result<ReaderEnd> {
    let kept = copy.as_ref().map(File::try_clone).transpose()?;
    let mut complete = false;
    if let Some(lines) = halt.run_until_cancelled(LineReader::open(input, terminate, copy)).await {
        let mut lines = lines?;
        while let Some(chunk) = halt.run_until_cancelled(lines.next_chunk()).await {
            let Some(chunk) = chunk? else {
                complete = true;
                break;
            };
            if !tx.send_lines(chunk, &mut tagger).await? {
                break;
            }
        }
    }
    Ok(ReaderEnd { accepted: tagger.accepted, complete, copy: kept })
}
