//! Readers' input, cut into runs of whole lines.

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use tokio::io::AsyncReadExt;

use crate::generate::{Generator, PARTS};

/// The longest line that is surely taken; what is longer by a chunk or more is refused.
pub(crate) const MAX_LINE: usize = 1 << 20;
/// How much is read at a time.
pub(crate) const CHUNK: usize = 256 << 10;

/// Something with lines in it, read by one task.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    File(PathBuf),
    Stdin,
    Generated { part: u16, lines: u64 },
}

impl Input {
    /// The inputs named on the command line, or the parts of the generated log.
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

    /// Whether a second round would read the same lines again. Fails if the input cannot be read even once.
    pub(crate) fn check(&self) -> io::Result<bool> {
        let Self::File(path) = self else { return Ok(matches!(self, Self::Generated { .. })) };
        let metadata = fs::metadata(path)?;
        if metadata.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        if metadata.is_file() {
            fs::File::open(path)?; // a pipe is not tried: opening it twice would lose its writer
        }
        Ok(metadata.is_file())
    }

    /// Bytes to come, if that is known beforehand.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Self::File(path) => fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|file| file.len()),
            Self::Stdin | Self::Generated { .. } => None,
        }
    }
}

/// Reads one input, a run of whole lines at a time.
pub(crate) struct LineReader {
    source: Source,
    buffer: BytesMut,
    /// Bytes at the front of `buffer` that hold no newline.
    scanned: usize,
    ended: bool,
    /// Whether a last line without a newline gets one.
    terminate: bool,
    /// A copy of everything read, for an input that cannot be read again.
    copy: Option<fs::File>,
}

enum Source {
    File(tokio::fs::File),
    Stdin(tokio::io::Stdin),
    Generated(Generator),
}

impl LineReader {
    pub(crate) async fn open(input: &Input, terminate: bool, copy: Option<fs::File>) -> io::Result<Self> {
        let source = match input {
            Input::File(path) => Source::File(tokio::fs::File::open(path).await?),
            Input::Stdin => Source::Stdin(tokio::io::stdin()),
            Input::Generated { part, lines } => Source::Generated(Generator::new(*part, *lines)),
        };
        Ok(Self { source, buffer: BytesMut::new(), scanned: 0, ended: false, terminate, copy })
    }

    /// The next lines, each with its newline; `None` at the end. Cancelled, it loses nothing that it returned
    /// before.
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

    /// What follows the last newline.
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

/// Appends about one chunk of generated lines; says how many bytes.
async fn generate(log: &mut Generator, buffer: &mut BytesMut) -> usize {
    tokio::task::yield_now().await; // this source never waits, and must not keep a worker for itself
    let before = buffer.len();
    while buffer.len() < before + CHUNK - 512 {
        let Some(line) = log.next_line() else { break };
        buffer.extend_from_slice(line);
    }
    buffer.len() - before
}

/// The length of the line at the front of `lines`, newline included.
pub(crate) fn line_len(mut lines: &[u8]) -> usize {
    lines.skip_until(b'\n').expect("reading from memory cannot fail")
}

/// Reads an input once more, line by line, to compare.
pub(crate) struct Replay {
    source: ReplaySource,
    line: Vec<u8>,
    terminate: bool,
}

enum ReplaySource {
    Bytes(BufReader<fs::File>),
    Generated(Generator),
}

impl Replay {
    /// `copy` is what was kept of an input that cannot be read again.
    pub(crate) fn open(input: &Input, terminate: bool, copy: Option<fs::File>) -> io::Result<Self> {
        let source = match (copy, input) {
            (Some(copy), _) => ReplaySource::Bytes(BufReader::new(copy)),
            (None, Input::File(path)) => ReplaySource::Bytes(BufReader::new(fs::File::open(path)?)),
            (None, Input::Generated { part, lines }) => {
                ReplaySource::Generated(Generator::new(*part, *lines))
            }
            (None, Input::Stdin) => return Err(io::Error::other("standard input was not kept")),
        };
        Ok(Self { source, line: Vec::new(), terminate })
    }

    /// The next line as it must stand in the output; `None` at the end.
    pub(crate) fn next_line(&mut self) -> io::Result<Option<&[u8]>> {
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
