//! Tasks log events of `tracing` at full speed to a file that is written in the background.
//!
//! Measures the time per event until all are written, and the time of single calls. A tenth more events precede as a
//! warm-up. The clock starts when they are written.

use super::statistic::quantiles;
use super::{Job, Outcome, Statistic, Threads, runtime};
use crate::contenders::Unit;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IoSlice, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;
use tokio::sync::Semaphore;
use tracing_subscriber::fmt::MakeWriter;

const TASKS: usize = 4;

/// A writer for subscribers that writes in the background. A caller that logs waits while the writer is full.
pub trait EventLog: 'static {
    const NAME: &'static str;
    const CRATE: &'static str;
    const API: &'static str;
    const UNIT: Unit;
    /// Its default capacity.
    const CAPACITY: usize;
    type Writer: for<'a> MakeWriter<'a> + Send + Sync + 'static;
    /// Ends the writer when it is dropped.
    type Guard;

    fn open(capacity: usize, out: Output) -> (Self::Writer, Self::Guard);
}

/// Runs one writer once, on a new runtime with two workers.
pub fn run<L: EventLog>(job: Job) -> Result<Outcome, String> {
    runtime(Threads::Workers)?.block_on(measure::<L>(job))
}

async fn measure<L: EventLog>(job: Job) -> Result<Outcome, String> {
    let share = |events: u64| events.div_ceil(TASKS as u64);
    let each = share(job.warmup()) + share(job.messages);
    let line = line_len();
    let temporary = Temporary::new();
    let file = File::create(&temporary.0).map_err(|error| format!("{}: {error}", temporary.0.display()))?;
    let marks = [share(job.warmup()), each].map(|events| Mark::at(events * TASKS as u64 * line));
    let progress = Arc::new(Progress { written: AtomicU64::new(0), marks });

    let (writer, guard) = L::open(job.capacity, Output { file, progress: Arc::clone(&progress) });
    let subscriber = plain().with_writer(writer).finish();
    tracing::subscriber::set_global_default(subscriber).map_err(|error| error.to_string())?;
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| tokio::spawn(log(task, share(job.warmup()), each, Arc::clone(&progress))))
        .collect();
    let mut calls = Vec::new();
    for task in tasks {
        calls.extend(task.await.map_err(|error| format!("a task failed: {error}"))?);
    }
    let [start, end] = &progress.marks;
    let (start, end) = (start.passed().await, end.passed().await);
    drop(guard);
    verify(&temporary, each)?;
    let ns_per_message = end.duration_since(start).as_nanos() as f64 / calls.len() as f64;
    Ok(quantiles(calls).into_iter().chain([(Statistic::NsPerMessage, ns_per_message)]).collect())
}

/// The default format without colours.
fn plain() -> tracing_subscriber::fmt::SubscriberBuilder {
    tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::INFO)
}

/// Logs an event. All lines have the same length.
fn event(task: usize, index: u64) {
    tracing::info!(task, index = 1_000_000_000 + index, "request served, session closed by peer");
}

fn line_len() -> u64 {
    let line = Arc::new(Mutex::new(Vec::new()));
    let subscriber = plain().with_writer(Arc::new(Lines(Arc::clone(&line)))).finish();
    tracing::subscriber::with_default(subscriber, || event(0, 0));
    let line = line.lock().expect("no panic");
    line.len() as u64
}

struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for &Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs its share; returns the duration of each call after the warm-up.
async fn log(task: usize, warmup: u64, each: u64, progress: Arc<Progress>) -> Vec<u64> {
    let mut calls = Vec::with_capacity((each - warmup) as usize);
    for index in 0..each {
        if index == warmup {
            progress.marks[0].passed().await;
        }
        let start = Instant::now();
        event(task, index);
        if index >= warmup {
            calls.push(start.elapsed().as_nanos() as u64);
        }
        if index % 32 == 0 {
            tokio::task::yield_now().await;
        }
    }
    calls
}

/// A file with a count of the bytes written to it.
pub struct Output {
    file: File,
    progress: Arc<Progress>,
}

struct Progress {
    written: AtomicU64,
    /// The end of the warm-up and the end of the run.
    marks: [Mark; 2],
}

/// The time when `bytes` were written.
struct Mark {
    bytes: u64,
    at: OnceLock<Instant>,
    /// Closed at that time.
    passed: Semaphore,
}

impl Mark {
    fn at(bytes: u64) -> Self {
        Self { bytes, at: OnceLock::new(), passed: Semaphore::new(0) }
    }

    async fn passed(&self) -> Instant {
        let _ = self.passed.acquire().await;
        *self.at.get().expect("set before")
    }
}

impl Output {
    fn count(&self, bytes: usize) -> usize {
        let written = self.progress.written.fetch_add(bytes as u64, Relaxed) + bytes as u64;
        for mark in self.progress.marks.iter().filter(|mark| written >= mark.bytes && mark.at.get().is_none())
        {
            mark.at.get_or_init(Instant::now);
            mark.passed.close();
        }
        bytes
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).map(|bytes| self.count(bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.file.write_vectored(slices).map(|bytes| self.count(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Checks that every line of every task was written once, in order.
fn verify(temporary: &Temporary, each: u64) -> Result<(), String> {
    let file = File::open(&temporary.0).map_err(|error| error.to_string())?;
    let mut expected = [0; TASKS];
    for line in BufReader::new(file).lines() {
        let line = line.map_err(|error| error.to_string())?;
        let number = |key: &str| line.split_once(key)?.1.split(' ').next()?.parse::<u64>().ok();
        let stamp = number("task=").zip(number("index="));
        let (task, index) = stamp.ok_or_else(|| format!("no stamp: {line}"))?;
        let expected = expected.get_mut(task as usize).ok_or_else(|| format!("no such task: {line}"))?;
        if index != 1_000_000_000 + *expected {
            return Err(format!("lost, repeated or out of order: {line}"));
        }
        *expected += 1;
    }
    if expected == [each; TASKS] {
        Ok(())
    } else {
        Err(format!("{each} events of each task sent, {expected:?} written"))
    }
}

/// A temporary file, removed on drop.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("turbostream-log-events-{}", std::process::id())))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
