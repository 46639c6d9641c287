//! The workloads. To add one, add an entry to [`ALL`]. A new shape also needs a function that is generic over
//! [`Contender`], in a separate file.

mod check;
mod first_message;
mod idle;
pub mod log;
mod log_events;
mod message;
mod paced;
mod ping_pong;
mod statistic;
mod stream;
mod table;

pub use check::Check;
pub use log_events::{EventLog, Output, run as log_events};
pub use message::{Copied, Source};
pub use statistic::{Outcome, Statistic};
pub use table::{ALL, METRICS, SAFE, TOKIO, TOKIO_MANY, TRACING, ZERO_COPY, find};

use crate::contenders::Contender;
use crate::targets::Target;
use message::{Lines, Passed, Worked};
use tokio::runtime::Runtime;

pub struct Workload {
    pub name: &'static str,
    pub about: &'static str,
    pub shape: Shape,
    pub threads: Threads,
    /// Messages of a quick and of a full run; round trips for a ping-pong, channels for workloads that count channels.
    pub messages: [u64; 2],
    /// The measured statistics; the first determines the ranking.
    pub statistics: &'static [Statistic],
    /// The contender that ratios refer to.
    pub ours: &'static str,
    /// Only these contenders; if empty, all that support the workload.
    pub only: &'static [&'static str],
    pub targets: &'static [Target],
    /// Results of the Go original, if the workload is its own.
    pub original: Option<Original>,
}

/// Results of the Go original's author on an Apple M4, in ns per message.
pub struct Original {
    pub zero_copy: &'static str,
    pub safe: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Messages from sender tasks to receiver tasks at full speed.
    Stream { senders: usize, receivers: usize, payload: Payload, reads: Reads },
    /// A message to another task and back.
    PingPong,
    /// One message every 10 µs.
    Paced,
    /// One channel per message.
    FirstMessage,
    /// Idle channels after use.
    Idle,
    /// Events of `tracing`, written to a file.
    LogEvents,
}

/// The threads of the runtime.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// Two workers.
    Workers,
    /// The current thread.
    Current,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    Copy128,
    /// Copied, and the receiver works on each.
    Work128,
    Copy1K,
    Pass64K,
    Lines,
}

/// How a call transfers messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    OneByOne,
    Batches,
}

impl Workload {
    pub fn senders(&self) -> usize {
        if let Shape::Stream { senders, .. } = self.shape { senders } else { 1 }
    }

    pub fn receivers(&self) -> usize {
        if let Shape::Stream { receivers, .. } = self.shape { receivers } else { 1 }
    }

    pub fn payload(&self) -> Payload {
        if let Shape::Stream { payload, .. } = self.shape { payload } else { Payload::Copy128 }
    }

    pub fn is_read(&self, how: Reads) -> bool {
        let reads = if let Shape::Stream { reads, .. } = self.shape { reads } else { Reads::OneByOne };
        reads == how
    }

    pub fn has_workers(&self) -> bool {
        self.threads == Threads::Workers
    }

    pub fn is_stream(&self) -> bool {
        matches!(self.shape, Shape::Stream { .. })
    }

    /// The maximum number of queued messages, if it does not depend on the capacity.
    pub fn queued(&self) -> Option<usize> {
        match self.shape {
            Shape::Stream { .. } => None,
            Shape::PingPong | Shape::FirstMessage => Some(16),
            // The contenders are writers instead of channels.
            Shape::LogEvents => Some(0),
            Shape::Paced => Some(1024),
            Shape::Idle => Some(128),
        }
    }

    /// Whether the workload measures a state instead of a speed: one round, and contenders may run in parallel.
    pub fn measures_rest(&self) -> bool {
        self.shape == Shape::Idle
    }

    /// The statistic that determines the ranking.
    pub fn rank(&self) -> Statistic {
        self.statistics[0]
    }
}

/// The amount of work of a run.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub messages: u64,
    pub capacity: usize,
}

impl Job {
    /// The number of additional messages that precede as a warm-up: a tenth.
    pub fn warmup(&self) -> u64 {
        self.messages / 10 + 1
    }
}

/// Runs one contender once, on a new runtime.
pub fn run<C: Contender>(workload: &Workload, job: Job) -> Result<Outcome, String> {
    runtime(workload.threads)?.block_on(async {
        match workload.shape {
            Shape::Stream { payload: Payload::Copy128, .. } => {
                stream::run::<C, Copied<128>>(workload, job).await
            }
            Shape::Stream { payload: Payload::Work128, .. } => stream::run::<C, Worked>(workload, job).await,
            Shape::Stream { payload: Payload::Copy1K, .. } => {
                stream::run::<C, Copied<1024>>(workload, job).await
            }
            Shape::Stream { payload: Payload::Pass64K, .. } => stream::run::<C, Passed>(workload, job).await,
            Shape::Stream { payload: Payload::Lines, .. } => stream::run::<C, Lines>(workload, job).await,
            Shape::PingPong => ping_pong::run::<C>(job).await,
            Shape::Paced => paced::run::<C>(job).await,
            Shape::FirstMessage => first_message::run::<C>(job).await,
            Shape::Idle => idle::run::<C>(job).await,
            Shape::LogEvents => Err(format!("{} does not write events", C::NAME)),
        }
    })
}

fn runtime(threads: Threads) -> Result<Runtime, String> {
    let mut builder = match threads {
        Threads::Workers => tokio::runtime::Builder::new_multi_thread(),
        Threads::Current => tokio::runtime::Builder::new_current_thread(),
    };
    builder.worker_threads(2).enable_all().build().map_err(|error| format!("no runtime: {error}"))
}
