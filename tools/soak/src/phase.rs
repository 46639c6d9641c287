//! One part of a soak: it runs on a thread of its own, so that one that hangs is found out.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use indicatif::{ProgressBar, ProgressStyle};

/// A phase that takes so much longer than it is meant to is stuck.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    Failed,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
        })
    }
}

/// What a phase has found.
#[derive(Debug, Default)]
pub struct Findings {
    seen: Vec<String>,
    failed: bool,
}

impl Findings {
    pub fn see(&mut self, what: impl Into<String>) {
        self.seen.push(what.into());
    }

    /// Notes what was seen; unless it `holds`, the phase has failed.
    pub fn demand(&mut self, holds: bool, what: impl Into<String>) {
        self.failed |= !holds;
        let what = what.into();
        self.seen.push(if holds { what } else { format!("NOT SO: {what}") });
    }
}

/// How far a phase has come, for whoever watches.
#[derive(Clone)]
pub struct Progress(ProgressBar);

impl Progress {
    pub fn tell(&self, what: impl Into<String>) {
        self.0.set_message(what.into());
    }
}

type Body = Box<dyn FnOnce(&Progress) -> Result<Findings> + Send>;

pub struct Phase {
    name: &'static str,
    lasting: Duration,
    body: Body,
}

/// What came of a phase.
pub struct Ran {
    pub time: Duration,
    pub verdict: Verdict,
    pub seen: Vec<String>,
}

impl Phase {
    pub fn new(
        name: &'static str,
        body: impl FnOnce(&Progress) -> Result<Findings> + Send + 'static,
    ) -> Self {
        Self { name, lasting: Duration::ZERO, body: Box::new(body) }
    }

    /// It is meant to take that long.
    pub fn lasting(self, lasting: Duration) -> Self {
        Self { lasting, ..self }
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn run(self) -> Ran {
        let Self { name, lasting, body } = self;
        let progress = bar(name);
        let began = Instant::now();
        let (done, outcome) = mpsc::channel();
        let told = Progress(progress.clone());
        thread::spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| body(&told)));
            // Nobody waits any more if it took too long.
            let _ = done.send(result.unwrap_or_else(|_| Err(anyhow!("it panicked"))));
        });
        let outcome = outcome.recv_timeout(lasting + PATIENCE);
        progress.finish_and_clear();
        let result =
            outcome.unwrap_or_else(|_| Err(anyhow!("stuck: not done after {:?}", lasting + PATIENCE)));
        let findings = result.unwrap_or_else(|error| {
            let mut findings = Findings::default();
            findings.demand(false, format!("{error:#}"));
            findings
        });
        let verdict = if findings.failed { Verdict::Failed } else { Verdict::Passed };
        let time = began.elapsed();
        eprintln!("{name}: {verdict} after {:.1} s", time.as_secs_f64());
        Ran { time, verdict, seen: findings.seen }
    }
}

fn bar(name: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed_precise} {msg}");
    let bar = ProgressBar::new_spinner().with_style(style.expect("a valid template")).with_prefix(name);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Bytes for a reader.
pub fn bytes(bytes: usize) -> String {
    indicatif::HumanBytes(bytes as u64).to_string()
}

/// Bytes that may have become more or less.
pub fn change(before: usize, after: usize) -> String {
    let sign = if after < before { '-' } else { '+' };
    format!("{sign}{}", bytes(after.abs_diff(before)))
}

/// A number for a reader.
pub fn count(count: u64) -> String {
    indicatif::HumanCount(count).to_string()
}

/// What of the heap is in use, once that has not changed for a while: threads of a runtime that was shut down in the
/// background end in their own time.
pub fn heap_at_rest() -> usize {
    const LOOK_EVERY: Duration = Duration::from_millis(10);
    let clock = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a clock");
    clock.block_on(async {
        let (mut in_use, mut quiet) = (crate::heap::in_use(), 0);
        for _ in 0..1000 {
            tokio::time::sleep(LOOK_EVERY).await;
            quiet =
                if std::mem::replace(&mut in_use, crate::heap::in_use()) == in_use { quiet + 1 } else { 0 };
            if quiet == 30 {
                break;
            }
        }
    });
    drop(clock);
    crate::heap::in_use()
}
