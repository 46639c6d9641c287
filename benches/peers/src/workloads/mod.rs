//! What the contenders are put through. To add a workload: an entry in [`ALL`], and for a new shape a function that
//! is generic over [`Contender`] in a file of its own.

mod check;
mod figure;
mod first_message;
mod idle;
pub mod log;
mod log_events;
mod message;
mod paced;
mod ping_pong;
mod stream;
mod table;

pub use check::Check;
pub use figure::{Figure, Outcome};
pub use log_events::{EventLog, Output, run as log_events};
pub use message::{Copied, Source};
pub use table::{ALL, METRICS, SAFE, TRACING, ZERO_COPY, find};

use crate::contenders::Contender;
use crate::targets::Target;
use message::{Lines, Passed};
use tokio::runtime::Runtime;

pub struct Workload {
    pub name: &'static str,
    pub about: &'static str,
    pub shape: Shape,
    /// Messages of one run, quick and in full; round trips for a ping-pong, channels where channels are counted.
    pub messages: [u64; 2],
    /// What is measured; the first is what contenders are ranked by.
    pub figures: &'static [Figure],
    /// The contender that others are set in proportion to.
    pub ours: &'static str,
    /// Only these contenders; empty: all that can.
    pub only: &'static [&'static str],
    pub targets: &'static [Target],
    /// Where it is the Go original's own workload.
    pub original: Option<Original>,
}

/// What the Go original's author measured on an Apple M4, ns per message.
pub struct Original {
    pub zero_copy: &'static str,
    pub safe: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Messages from tasks to tasks, as fast as they can.
    Stream { senders: usize, receivers: usize, payload: Payload, reads: Reads },
    /// A message to another task and back.
    PingPong,
    /// One message every 10 µs.
    Paced,
    /// A channel for one message.
    FirstMessage,
    /// Channels that have been used and rest.
    Idle,
    /// Events of `tracing`, to a file.
    LogEvents,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    Copy128,
    Copy1K,
    Pass64K,
    Lines,
}

/// How many messages one call of the API gives or takes.
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

    pub fn is_stream(&self) -> bool {
        matches!(self.shape, Shape::Stream { .. })
    }

    /// How many messages ever wait in a channel where that does not depend on its capacity.
    pub fn queued(&self) -> Option<usize> {
        match self.shape {
            Shape::Stream { .. } => None,
            Shape::PingPong | Shape::FirstMessage => Some(16),
            // No channel takes part by itself.
            Shape::LogEvents => Some(0),
            Shape::Paced => Some(1024),
            Shape::Idle => Some(128),
        }
    }

    /// A state is measured rather than a speed: once is enough, and contenders may run side by side.
    pub fn measures_rest(&self) -> bool {
        self.shape == Shape::Idle
    }

    /// The first of its figures.
    pub fn rank(&self) -> Figure {
        self.figures[0]
    }
}

/// How much one run does.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub messages: u64,
    pub capacity: usize,
}

impl Job {
    /// A tenth more goes first, as a warm-up.
    pub fn warmup(&self) -> u64 {
        self.messages / 10 + 1
    }
}

/// Runs one contender once, on a fresh runtime with two workers.
pub fn run<C: Contender>(workload: &Workload, job: Job) -> Result<Outcome, String> {
    runtime()?.block_on(async {
        match workload.shape {
            Shape::Stream { payload: Payload::Copy128, .. } => {
                stream::run::<C, Copied<128>>(workload, job).await
            }
            Shape::Stream { payload: Payload::Copy1K, .. } => {
                stream::run::<C, Copied<1024>>(workload, job).await
            }
            Shape::Stream { payload: Payload::Pass64K, .. } => stream::run::<C, Passed>(workload, job).await,
            Shape::Stream { payload: Payload::Lines, .. } => stream::run::<C, Lines>(workload, job).await,
            Shape::PingPong => ping_pong::run::<C>(job).await,
            Shape::Paced => paced::run::<C>(job).await,
            Shape::FirstMessage => first_message::run::<C>(job).await,
            Shape::Idle => idle::run::<C>(job).await,
            Shape::LogEvents => Err(format!("{} is no writer of events", C::NAME)),
        }
    })
}

fn runtime() -> Result<Runtime, String> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().map_err(|error| format!("no runtime: {error}"))
}
