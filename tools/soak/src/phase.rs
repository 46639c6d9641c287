//! One part of a soak run. It runs on its own thread, so that a hang is detected.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use indicatif::{ProgressBar, ProgressStyle};

/// A phase that exceeds its expected duration by this much is stuck.
const TOLERANCE: Duration = Duration::from_secs(600);

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

/// The observations of a phase, and whether a check failed.
#[derive(Debug, Default)]
pub struct Findings {
    observations: Vec<String>,
    failed: bool,
}

impl Findings {
    pub fn note(&mut self, what: impl Into<String>) {
        self.observations.push(what.into());
    }

    /// Notes an observation; the phase fails unless it `holds`.
    pub fn check(&mut self, holds: bool, what: impl Into<String>) {
        self.failed |= !holds;
        let what = what.into();
        self.observations.push(if holds { what } else { format!("FAILED: {what}") });
    }
}

/// Displays the progress of a phase.
#[derive(Clone)]
pub struct Progress(ProgressBar);

impl Progress {
    pub fn show(&self, what: impl Into<String>) {
        self.0.set_message(what.into());
    }
}

type Body = Box<dyn FnOnce(&Progress) -> Result<Findings> + Send>;

pub struct Phase {
    name: &'static str,
    expected: Duration,
    body: Body,
}

/// The result of a phase.
pub struct Outcome {
    pub time: Duration,
    pub verdict: Verdict,
    pub observations: Vec<String>,
}

impl Phase {
    pub fn new(
        name: &'static str,
        body: impl FnOnce(&Progress) -> Result<Findings> + Send + 'static,
    ) -> Self {
        Self { name, expected: Duration::ZERO, body: Box::new(body) }
    }

    /// Sets the expected duration.
    pub fn expected(self, expected: Duration) -> Self {
        Self { expected, ..self }
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn run(self) -> Outcome {
        let Self { name, expected, body } = self;
        let progress = bar(name);
        let began = Instant::now();
        let (done, result) = mpsc::channel();
        let shown = Progress(progress.clone());
        thread::spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| body(&shown)));
            // An error means that the receiver timed out.
            let _ = done.send(result.unwrap_or_else(|_| Err(anyhow!("it panicked"))));
        });
        let result = result.recv_timeout(expected + TOLERANCE);
        progress.finish_and_clear();
        let result =
            result.unwrap_or_else(|_| Err(anyhow!("stuck: not done after {:?}", expected + TOLERANCE)));
        let findings = result.unwrap_or_else(|error| {
            let mut findings = Findings::default();
            findings.check(false, format!("{error:#}"));
            findings
        });
        let verdict = if findings.failed { Verdict::Failed } else { Verdict::Passed };
        let time = began.elapsed();
        eprintln!("{name}: {verdict} after {:.1} s", time.as_secs_f64());
        Outcome { time, verdict, observations: findings.observations }
    }
}

fn bar(name: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed_precise} {msg}");
    let bar = ProgressBar::new_spinner().with_style(style.expect("a valid template")).with_prefix(name);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Formats a number of bytes.
pub fn bytes(bytes: usize) -> String {
    indicatif::HumanBytes(bytes as u64).to_string()
}

/// Formats the difference of two numbers of bytes.
pub fn change(before: usize, after: usize) -> String {
    let sign = if after < before { '-' } else { '+' };
    format!("{sign}{}", bytes(after.abs_diff(before)))
}

/// Formats a number.
pub fn count(count: u64) -> String {
    indicatif::HumanCount(count).to_string()
}

/// The heap in use, once it has been constant for 300 ms.
///
/// The threads of a runtime that was shut down in the background end later.
pub fn settled_heap() -> usize {
    const SAMPLE_INTERVAL: Duration = Duration::from_millis(10);
    let clock = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a clock");
    clock.block_on(async {
        let (mut in_use, mut quiet) = (crate::heap::in_use(), 0);
        for _ in 0..1000 {
            tokio::time::sleep(SAMPLE_INTERVAL).await;
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
