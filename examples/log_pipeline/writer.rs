//! The writer's side of the job: vectored writes, and what is counted on the way.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use turbostream::Monitor;

use crate::tag::Tag;

/// What is in the output so far, for whoever wants to look.
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
pub(crate) type Trail = Vec<(u16, u32)>;

/// Writes lines to the output and keeps the books of one round.
pub(crate) struct LineWriter {
    file: File,
    start: Instant,
    batch_arrived: Duration,
    written: Arc<Written>,
    pub(crate) batches: u64,
    /// Nanoseconds that timed lines spent in the channel.
    pub(crate) in_channel: Histogram<u64>,
    monitor: Option<Monitor>,
    /// The most memory the channel had, looked at now and then.
    pub(crate) channel_peak: Option<usize>,
    /// Kept only if the output is to be verified.
    pub(crate) trail: Option<Trail>,
}

impl LineWriter {
    pub(crate) fn new(
        file: File,
        start: Instant,
        written: Arc<Written>,
        monitor: Option<Monitor>,
        keep_trail: bool,
    ) -> Self {
        const HOUR: u64 = 3_600_000_000_000;
        Self {
            file,
            start,
            batch_arrived: Duration::ZERO,
            written,
            batches: 0,
            in_channel: Histogram::new_with_bounds(1, HOUR, 3).expect("these bounds are fine"),
            monitor,
            channel_peak: None,
            trail: keep_trail.then(Vec::new),
        }
    }

    /// Looks at the clock, once for all lines of a batch, and at times at the channel's memory.
    pub(crate) fn begin_batch(&mut self) {
        if self.batches % 8 == 0 {
            self.channel_peak =
                self.channel_peak.max(self.monitor.as_ref().map(|monitor| monitor.stats().memory_bytes()));
        }
        self.batches += 1;
        self.batch_arrived = self.start.elapsed();
    }

    /// Takes down what the tag of a line says.
    pub(crate) fn note(&mut self, tag: Tag) {
        if let Some(sent_at) = tag.sent_at() {
            let nanos = self.batch_arrived.saturating_sub(sent_at).as_nanos() as u64;
            self.in_channel.saturating_record(nanos.max(1));
        }
        if let Some(trail) = &mut self.trail {
            match trail.last_mut() {
                Some((reader, count)) if *reader == tag.reader() && *count < u32::MAX => *count += 1,
                _ => trail.push((tag.reader(), 1)),
            }
        }
    }

    /// Writes all of `lines`, as many to a system call as the system takes.
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
