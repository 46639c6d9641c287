//! Files of lines: the inputs, the output, and the proof that the output is right.

use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader, ErrorKind, IoSlice, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::BytesMut;
use hdrhistogram::Histogram;
use tokio::io::AsyncReadExt;
use turbostream::Monitor;

use crate::access_log::{Generator, PARTS};
use crate::report::{Round, Tag};
use crate::{Job, ReaderEnd};

/// The longest line that is certainly accepted. A line longer by a chunk or more is refused.
pub(crate) const MAX_LINE: usize = 1 << 20;
/// How much is read at a time.
pub(crate) const CHUNK: usize = 256 << 10;

/// A source of lines, read by one task.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    File(PathBuf),
    Stdin,
    Generated { part: u16, lines: u64 },
}

impl Input {
    /// Takes the inputs named on the command line, or the parts of the generated log.
    pub(crate) fn from_arguments(files: &[PathBuf], generated_lines: u64) -> Vec<Self> {
        if files.is_empty() {
            return (0..PARTS).map(|part| Self::Generated { part, lines: generated_lines }).collect();
        }
        let named =
            |path: &PathBuf| if path == Path::new("-") { Self::Stdin } else { Self::File(path.clone()) };
        files.iter().map(named).collect()
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Stdin => "standard input".into(),
            Self::Generated { .. } => "the generated log".into(),
        }
    }

    /// Returns whether a second round can read the same lines. Fails if the input cannot be read even once.
    pub(crate) fn check(&self) -> io::Result<bool> {
        let Self::File(path) = self else { return Ok(matches!(self, Self::Generated { .. })) };
        let metadata = fs::metadata(path)?;
        if metadata.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        if metadata.is_file() {
            File::open(path)?; // a pipe is not opened here: opening it twice would lose its writer
        }
        Ok(metadata.is_file())
    }

    /// The size in bytes, if it is known beforehand.
    fn size(&self) -> Option<u64> {
        match self {
            Self::File(path) => fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|file| file.len()),
            Self::Stdin | Self::Generated { .. } => None,
        }
    }
}

/// How much all inputs hold together.
#[derive(Clone, Copy)]
pub(crate) enum InputSize {
    Lines(u64),
    Bytes(u64),
    Unknown,
}

impl InputSize {
    pub(crate) fn of(inputs: &[Input]) -> Self {
        if let [Input::Generated { lines, .. }, ..] = inputs[..] {
            return Self::Lines(lines);
        }
        inputs.iter().map(Input::size).sum::<Option<_>>().map_or(Self::Unknown, Self::Bytes)
    }
}

/// Reads one input, several whole lines at a time.
pub(crate) struct LineReader {
    source: Source,
    buffer: BytesMut,
    /// The length of the front of `buffer` that holds no newline.
    scanned: usize,
    ended: bool,
    /// Whether a last line without a newline gets one.
    terminate: bool,
    /// A copy of everything read, for an input that cannot be read again.
    copy: Option<File>,
}

enum Source {
    File(tokio::fs::File),
    Stdin(tokio::io::Stdin),
    Generated(Generator),
}

impl LineReader {
    pub(crate) async fn open(input: &Input, terminate: bool, copy: Option<File>) -> io::Result<Self> {
        let source = match input {
            Input::File(path) => Source::File(tokio::fs::File::open(path).await?),
            Input::Stdin => Source::Stdin(tokio::io::stdin()),
            Input::Generated { part, lines } => Source::Generated(Generator::new(*part, *lines)),
        };
        Ok(Self { source, buffer: BytesMut::new(), scanned: 0, ended: false, terminate, copy })
    }

    /// Reads the next lines, each with its newline; `None` at the end.
    ///
    /// Cancelling it loses only lines that it has not returned.
    pub(crate) async fn next_chunk(&mut self) -> io::Result<Option<BytesMut>> {
        loop {
            if let Some(newline) = self.buffer[self.scanned..].iter().rposition(|&byte| byte == b'\n') {
                let whole_lines = self.buffer.split_to(self.scanned + newline + 1);
                self.scanned = 0;
                return Ok(Some(whole_lines));
            }
            self.scanned = self.buffer.len();
            if self.ended {
                return Ok(self.last_line());
            }
            if self.scanned > MAX_LINE {
                let problem = format!("a line of more than {} MiB", MAX_LINE >> 20);
                return Err(io::Error::new(ErrorKind::InvalidData, problem));
            }
            self.read_more().await?;
        }
    }

    async fn read_more(&mut self) -> io::Result<()> {
        self.buffer.reserve(CHUNK);
        let count = match &mut self.source {
            Source::File(file) => file.read_buf(&mut self.buffer).await?,
            Source::Stdin(stdin) => stdin.read_buf(&mut self.buffer).await?,
            Source::Generated(log) => generate(log, &mut self.buffer).await,
        };
        self.ended = count == 0;
        if let Some(copy) = &mut self.copy {
            copy.write_all(&self.buffer[self.scanned..])?;
        }
        Ok(())
    }

    /// Takes what follows the last newline.
    fn last_line(&mut self) -> Option<BytesMut> {
        self.scanned = 0;
        if self.buffer.is_empty() {
            return None;
        }
        if self.terminate {
            self.buffer.extend_from_slice(b"\n");
        }
        Some(self.buffer.split())
    }
}

/// Appends about one chunk of generated lines; returns how many bytes.
async fn generate(log: &mut Generator, buffer: &mut BytesMut) -> usize {
    tokio::task::yield_now().await; // this source never waits, and must not occupy its worker thread
    let before = buffer.len();
    while buffer.len() < before + CHUNK - 512 {
        let Some(line) = log.next_line() else { break };
        buffer.extend_from_slice(line);
    }
    buffer.len() - before
}

/// Returns the length of the first line in `lines`, newline included.
pub(crate) fn line_len(mut lines: &[u8]) -> usize {
    lines.skip_until(b'\n').expect("reading from memory cannot fail")
}

/// Where the lines go.
pub(crate) enum Output {
    /// Standard output, also if `--output` names the same file.
    Stdout,
    File(PathBuf),
    /// A temporary file without a name: the system removes it, however the process ends.
    Temporary(File),
}

impl Output {
    /// Chooses the output. Refuses one that would overwrite an input. Opens no named file for writing.
    pub(crate) fn from_argument(argument: Option<&Path>, inputs: &[Input]) -> anyhow::Result<Self> {
        let Some(path) = argument else {
            return Ok(Self::Temporary(tempfile::tempfile().context("cannot make a temporary file")?));
        };
        let target = fs::metadata(path);
        let stdout = raw_stdout().and_then(|file| file.metadata());
        let is_stdout = path == Path::new("-")
            || matches!((&target, &stdout), (Ok(target), Ok(stdout)) if is_same_file(target, stdout));
        let output = if is_stdout { Self::Stdout } else { Self::File(path.to_owned()) };
        let Ok(target) = (if is_stdout { stdout } else { target }) else { return Ok(output) };
        for input in inputs {
            let source = match input {
                Input::File(path) => fs::metadata(path),
                Input::Stdin => raw_stdin().and_then(|file| file.metadata()),
                Input::Generated { .. } => continue,
            };
            if source.is_ok_and(|source| source.is_file() && is_same_file(&source, &target)) {
                bail!("cannot write {}: it is an input as well", output.name());
            }
        }
        Ok(output)
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Stdout => "standard output".into(),
            Self::File(path) => path.display().to_string(),
            Self::Temporary(_) => "a temporary file".into(),
        }
    }

    /// Opens the output for writing, emptied.
    pub(crate) fn open(&self) -> io::Result<File> {
        match self {
            Self::Stdout => raw_stdout(),
            Self::File(path) => File::create(path),
            Self::Temporary(file) => {
                file.set_len(0)?;
                Self::rewound(file)
            }
        }
    }

    /// Returns whether the output can be read back.
    pub(crate) fn is_readable(&self) -> bool {
        match self {
            Self::Stdout => false,
            Self::Temporary(_) => true,
            Self::File(path) => fs::metadata(path).map_or(true, |file| file.is_file()),
        }
    }

    /// Opens the output for reading, from its start.
    fn reopen(&self) -> io::Result<File> {
        match self {
            Self::Stdout => Err(io::Error::other("standard output cannot be read back")),
            Self::File(path) => File::open(path),
            Self::Temporary(file) => Self::rewound(file),
        }
    }

    fn rewound(file: &File) -> io::Result<File> {
        let mut file = file.try_clone()?;
        file.rewind()?;
        Ok(file)
    }

    /// Returns whether a second round can start over.
    pub(crate) fn is_rewritable(&self) -> bool {
        self.is_readable() || matches!(self, Self::File(path) if path == Path::new("/dev/null"))
    }

    /// Returns where the report goes: never where the lines go.
    pub(crate) fn report_to(&self) -> Box<dyn Write> {
        match self {
            Self::Stdout => Box::new(io::stderr()),
            Self::File(_) | Self::Temporary(_) => Box::new(io::stdout()),
        }
    }
}

/// Standard output without the buffer of the standard library.
#[cfg(unix)]
fn raw_stdout() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

#[cfg(unix)]
fn raw_stdin() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

#[cfg(windows)]
fn raw_stdout() -> io::Result<File> {
    use std::os::windows::io::AsHandle;
    Ok(File::from(io::stdout().as_handle().try_clone_to_owned()?))
}

#[cfg(windows)]
fn raw_stdin() -> io::Result<File> {
    use std::os::windows::io::AsHandle;
    Ok(File::from(io::stdin().as_handle().try_clone_to_owned()?))
}

#[cfg(unix)]
fn is_same_file(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Not known on this system.
#[cfg(not(unix))]
fn is_same_file(_: &Metadata, _: &Metadata) -> bool {
    false
}

/// How much the output holds so far. The writer updates it, the progress bar reads it.
#[derive(Default)]
pub(crate) struct Written {
    lines: AtomicU64,
    bytes: AtomicU64,
}

impl Written {
    /// Lines that are in the output in full.
    pub(crate) fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// The readers of the lines written, in the order of the output: `(reader, how many lines in a row)`.
pub(crate) type Origins = Vec<(u16, u32)>;

/// Writes lines to the output by vectored writes, and measures one round.
pub(crate) struct LineWriter {
    file: File,
    start: Instant,
    batch_arrived: Duration,
    written: Arc<Written>,
    pub(crate) batches: u64,
    /// Nanoseconds that timed lines spent in the channel.
    pub(crate) in_channel: Histogram<u64>,
    monitor: Option<Monitor>,
    /// The most memory of the channel, sampled at some batches.
    pub(crate) channel_peak: Option<usize>,
    /// Recorded only if the output will be verified.
    pub(crate) origins: Option<Origins>,
}

impl LineWriter {
    pub(crate) fn new(
        file: File,
        start: Instant,
        written: Arc<Written>,
        monitor: Option<Monitor>,
        verify: bool,
    ) -> Self {
        const HOUR: u64 = 3_600_000_000_000;
        Self {
            file,
            start,
            batch_arrived: Duration::ZERO,
            written,
            batches: 0,
            in_channel: Histogram::new_with_bounds(1, HOUR, 3).expect("valid bounds"),
            monitor,
            channel_peak: None,
            origins: verify.then(Vec::new),
        }
    }

    /// Reads the clock, once for all lines of a batch, and at every eighth batch the channel's memory.
    pub(crate) fn begin_batch(&mut self) {
        if self.batches % 8 == 0 {
            self.channel_peak =
                self.channel_peak.max(self.monitor.as_ref().map(|monitor| monitor.stats().memory_bytes()));
        }
        self.batches += 1;
        self.batch_arrived = self.start.elapsed();
    }

    /// Records what the tag of a line holds: its reader, and its time if it has one.
    pub(crate) fn record(&mut self, tag: Tag) {
        if let Some(sent_at) = tag.sent_at() {
            let nanos = self.batch_arrived.saturating_sub(sent_at).as_nanos() as u64;
            self.in_channel.saturating_record(nanos.max(1));
        }
        if let Some(origins) = &mut self.origins {
            match origins.last_mut() {
                Some((reader, count)) if *reader == tag.reader() && *count < u32::MAX => *count += 1,
                _ => origins.push((tag.reader(), 1)),
            }
        }
    }

    /// Writes all of `lines`, as many in one system call as the system accepts.
    pub(crate) fn write_lines(&mut self, mut lines: &mut [IoSlice<'_>]) -> io::Result<()> {
        while !lines.is_empty() {
            match self.file.write_vectored(lines) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    let before = lines.len();
                    IoSlice::advance_slices(&mut lines, bytes);
                    self.written.lines.fetch_add((before - lines.len()) as u64, Ordering::Relaxed);
                    self.written.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Time since the start of the round.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Proves that the output of a round is right, from the files alone.
///
/// The writer has recorded which reader sent each line. The output's lines, divided by reader, must be the lines of
/// each input from the first on, byte for byte, with none left over on either side. Then every line is in the output
/// exactly once and each reader's lines are in order.
pub(crate) fn verify(job: &Job, round: &Round) -> anyhow::Result<()> {
    let mut replays = replays(job, round)?;
    let mut output = BufReader::with_capacity(1 << 20, job.output.reopen()?);
    let mut found = Vec::new();
    let mut number = 0_u64;
    for &(reader, count) in round.origins.iter().flatten() {
        let (input, replay) = (&job.inputs[usize::from(reader)], &mut replays[usize::from(reader)]);
        for _ in 0..count {
            number += 1;
            found.clear();
            output.read_until(b'\n', &mut found)?;
            let expected =
                replay.next_line().with_context(|| format!("cannot read {} again", input.name()))?;
            ensure!(
                expected == Some(&found[..]),
                "line {number} of the output is not the next line of {}",
                input.name()
            );
        }
    }
    ensure!(output.fill_buf()?.is_empty(), "the output has more than {number} lines");
    check_ends(job, round, &mut replays, number)
}

fn replays(job: &Job, round: &Round) -> anyhow::Result<Vec<Replay>> {
    let open = |(input, end): (_, &ReaderEnd)| {
        let copy = end.copy.as_ref().map(File::try_clone).transpose()?;
        if let Some(mut copy) = copy.as_ref() {
            copy.rewind()?;
        }
        Replay::open(input, job.terminate(), copy)
    };
    let replays = job.inputs.iter().zip(&round.readers).map(open).collect::<std::io::Result<_>>();
    replays.context("cannot read an input again")
}

/// Checks that no line is missing: no line that was sent and, if the round was complete, no line of an input.
fn check_ends(job: &Job, round: &Round, replays: &mut [Replay], written: u64) -> anyhow::Result<()> {
    let sent: u64 = round.readers.iter().map(|reader| reader.sent).sum();
    ensure!(written == sent, "{sent} lines were sent, {written} are in the output");
    for ((input, end), replay) in job.inputs.iter().zip(&round.readers).zip(replays) {
        if end.complete && replay.next_line()?.is_some() {
            bail!("lines of {} are missing from the output", input.name());
        }
    }
    Ok(())
}

/// Reads an input again, line by line, to compare.
struct Replay {
    source: ReplaySource,
    line: Vec<u8>,
    terminate: bool,
}

enum ReplaySource {
    Bytes(BufReader<File>),
    Generated(Generator),
}

impl Replay {
    /// Opens `input` again, or `copy` if the input cannot be read twice.
    fn open(input: &Input, terminate: bool, copy: Option<File>) -> io::Result<Self> {
        let source = match (copy, input) {
            (Some(copy), _) => ReplaySource::Bytes(BufReader::new(copy)),
            (None, Input::File(path)) => ReplaySource::Bytes(BufReader::new(File::open(path)?)),
            (None, Input::Generated { part, lines }) => {
                ReplaySource::Generated(Generator::new(*part, *lines))
            }
            (None, Input::Stdin) => return Err(io::Error::other("standard input was not kept")),
        };
        Ok(Self { source, line: Vec::new(), terminate })
    }

    /// Returns the next line as the output must hold it; `None` at the end.
    fn next_line(&mut self) -> io::Result<Option<&[u8]>> {
        match &mut self.source {
            ReplaySource::Generated(log) => Ok(log.next_line()),
            ReplaySource::Bytes(file) => {
                self.line.clear();
                if file.read_until(b'\n', &mut self.line)? == 0 {
                    return Ok(None);
                }
                if self.terminate && !self.line.ends_with(b"\n") {
                    self.line.push(b'\n');
                }
                Ok(Some(&self.line))
            }
        }
    }
}
