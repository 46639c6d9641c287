//! The readers: lines of files, of standard input or of the generated log, into the channel.

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use tokio::fs::File;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use turbostream::Sender;

use crate::access_log::{Generator, PARTS};

/// The longest line that is read.
pub(crate) const MAX_LINE: usize = 4 << 20;
/// How much is read at a time.
const CHUNK: usize = 256 << 10;

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

    /// Fails if the input cannot be read.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let Self::File(path) = self else { return Ok(()) };
        let check = || {
            let metadata = fs::metadata(path)?;
            if metadata.is_dir() {
                return Err(ErrorKind::IsADirectory.into());
            }
            // A pipe is not opened here: opening it twice would lose its writer.
            if metadata.is_file() { fs::File::open(path).map(drop) } else { Ok(()) }
        };
        check().with_context(|| format!("cannot read {}", self.name()))
    }

    /// The size in bytes, if it is known beforehand.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Self::File(path) => fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|file| file.len()),
            Self::Stdin | Self::Generated { .. } => None,
        }
    }

    async fn open(&self) -> io::Result<Lines> {
        let source: Source = match self {
            Self::Generated { part, lines } => {
                return Ok(Lines::Generated(Box::new(Generator::new(*part, *lines))));
            }
            Self::File(path) => Box::new(BufReader::with_capacity(CHUNK, File::open(path).await?)),
            Self::Stdin => Box::new(BufReader::with_capacity(CHUNK, tokio::io::stdin())),
        };
        Ok(Lines::Read { source, line: Vec::new() })
    }
}

type Source = Box<dyn AsyncBufRead + Send + Unpin>;

enum Lines {
    Generated(Box<Generator>),
    Read { source: Source, line: Vec<u8> },
}

impl Lines {
    /// Returns the next line with its newline, if it has one; `None` at the end.
    async fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let (source, line) = match self {
            Self::Generated(log) => return Ok(log.next_line()),
            Self::Read { source, line } => (source, line),
        };
        line.clear();
        source.take(MAX_LINE as u64 + 1).read_until(b'\n', line).await?;
        if line.len() > MAX_LINE {
            let problem = format!("a line of more than {} MiB", MAX_LINE >> 20);
            return Err(io::Error::new(ErrorKind::InvalidData, problem));
        }
        Ok((!line.is_empty()).then_some(line))
    }
}

/// The front of each line if the stream will be verified: `<run> <reader>:<number> `.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Tells the lines of this run from those of others in the same stream.
    pub(crate) run: u32,
    pub(crate) reader: usize,
    /// The position of the line in its input, from 0.
    pub(crate) number: usize,
}

impl Mark {
    pub(crate) fn write(self, message: &mut Vec<u8>) {
        write!(message, "{:08x} {}:{} ", self.run, self.reader, self.number).expect("memory takes all");
    }

    /// Reads the mark at the front of a message.
    pub(crate) fn read(message: &[u8]) -> Option<Self> {
        let mut words = message.splitn(3, |&byte| byte == b' ');
        let (run, position) = (words.next()?, words.next()?);
        let (reader, number) = std::str::from_utf8(position).ok()?.split_once(':')?;
        Some(Self {
            run: u32::from_str_radix(std::str::from_utf8(run).ok()?, 16).ok()?,
            reader: reader.parse().ok()?,
            number: number.parse().ok()?,
        })
    }
}

/// Returns a digest of a message, by which it is recognised when the stream is read back.
pub(crate) fn digest(message: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(message);
    hasher.finish()
}

/// How much the readers have sent so far.
#[derive(Default)]
pub(crate) struct Progress {
    lines: AtomicU64,
    /// Bytes of the inputs, newlines included.
    bytes: AtomicU64,
}

impl Progress {
    pub(crate) fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// What one reader sent.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Whether it reached the end of its input.
    pub(crate) complete: bool,
    /// The digest of each message, if the stream will be verified.
    pub(crate) digests: Vec<u64>,
}

/// What the readers share.
#[derive(Clone)]
pub(crate) struct Reading {
    pub(crate) tx: Sender,
    pub(crate) stop: CancellationToken,
    pub(crate) progress: Arc<Progress>,
    /// The run in the marks, if the stream will be verified.
    pub(crate) run: Option<u32>,
}

/// Reads all inputs at the same time, each in a task of its own, until their ends or the stop. A reader that fails
/// stops the others.
pub(crate) async fn read_all(inputs: &[Input], reading: Reading) -> anyhow::Result<Vec<Sent>> {
    let mut readers = JoinSet::new();
    for (reader, input) in inputs.iter().cloned().enumerate() {
        let reading = reading.clone();
        readers.spawn(async move {
            let mut sent = Sent::default();
            let lines = read(&input, reader, &reading, &mut sent);
            // A message is counted as soon as it is sent: stopping between two messages loses none.
            let read = reading.stop.run_until_cancelled(lines).await.unwrap_or(Ok(()));
            if read.is_err() {
                reading.stop.cancel();
            }
            (reader, read.with_context(|| format!("cannot read {}", input.name())).map(|()| sent))
        });
    }
    drop(reading); // the readers hold the only senders: the last to end closes the channel
    let mut ends: Vec<_> = inputs.iter().map(|_| Sent::default()).collect();
    let mut failure = None;
    while let Some(joined) = readers.join_next().await {
        let (reader, sent) = joined.context("a reader panicked")?;
        match sent {
            Ok(sent) => ends[reader] = sent,
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(ends), Err)
}

async fn read(input: &Input, reader: usize, reading: &Reading, sent: &mut Sent) -> io::Result<()> {
    let mut lines = input.open().await?;
    let mut message = Vec::with_capacity(512);
    let mut number = 0;
    while let Some(line) = lines.next().await? {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        message.clear();
        if let Some(run) = reading.run {
            Mark { run, reader, number }.write(&mut message);
        }
        message.extend_from_slice(text);
        let len = line.len() as u64;
        if reading.tx.send(&message[..]).await.is_err() {
            return Ok(()); // the forwarder has ended, and says why
        }
        number += 1;
        if reading.run.is_some() {
            sent.digests.push(digest(&message));
        }
        reading.progress.lines.fetch_add(1, Ordering::Relaxed);
        reading.progress.bytes.fetch_add(len, Ordering::Relaxed);
    }
    sent.complete = true;
    Ok(())
}
