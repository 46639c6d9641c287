//! What the contenders are put through. To add a workload: a variant here and a function generic over
//! [`Contender`] in a file of its own.

mod copy_1p1c;
mod ping_pong;

use crate::contenders::{Contender, Entry};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
pub enum Workload {
    #[serde(rename = "copy_128_1p1c")]
    #[value(name = "copy_128_1p1c")]
    Copy128,
    #[serde(rename = "ping_pong_128")]
    #[value(name = "ping_pong_128")]
    PingPong128,
}

impl Workload {
    pub const ALL: [Self; 2] = [Self::Copy128, Self::PingPong128];

    pub fn name(self) -> &'static str {
        match self {
            Self::Copy128 => "copy_128_1p1c",
            Self::PingPong128 => "ping_pong_128",
        }
    }

    pub fn about(self) -> &'static str {
        match self {
            Self::Copy128 => {
                "128-byte messages from a buffer that changes with each, one sender task, one receiver task, \
                 two workers. ns per message."
            }
            Self::PingPong128 => {
                "A 128-byte message to another task and back, over two channels, two workers. ns per message: \
                 half a round trip on average; p50, p99 and p99.9: of whole round trips."
            }
        }
    }

    /// Messages of one run; for a ping-pong, round trips.
    pub fn messages(self, quick: bool) -> u64 {
        match (self, quick) {
            (Self::Copy128, false) => 4_000_000,
            (Self::Copy128, true) => 1_000_000,
            (Self::PingPong128, false) => 200_000,
            (Self::PingPong128, true) => 50_000,
        }
    }

    /// Whether the contender's API fits the workload: a batch gains nothing from one message at a time.
    pub fn takes(self, contender: &Entry) -> bool {
        self == Self::Copy128 || !contender.batch
    }
}

/// How much one run does.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub messages: u64,
    pub capacity: usize,
}

/// What one run measured.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub ns_per_message: f64,
    pub round_trip: Option<Quantiles>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Quantiles {
    pub p50_ns: f64,
    pub p99_ns: f64,
    pub p999_ns: f64,
}

impl Quantiles {
    fn of(mut samples: Vec<u64>) -> Self {
        samples.sort_unstable();
        let at = |share: f64| samples[((samples.len() - 1) as f64 * share) as usize] as f64;
        Self { p50_ns: at(0.5), p99_ns: at(0.99), p999_ns: at(0.999) }
    }
}

/// Runs one contender once, on a fresh runtime with two workers.
pub fn run<C: Contender>(workload: Workload, job: Job) -> Result<Outcome, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(async {
        match workload {
            Workload::Copy128 => copy_1p1c::run::<C, 128>(job).await,
            Workload::PingPong128 => ping_pong::run::<C, 128>(job).await,
        }
    })
}

/// The message of index `index`, `LEN` bytes long.
struct Stamped<const LEN: usize>([u8; LEN]);

impl<const LEN: usize> Stamped<LEN> {
    fn new() -> Self {
        Self([0x5a; LEN])
    }

    fn stamp(&mut self, index: u64) -> &[u8] {
        self.0[..8].copy_from_slice(&index.to_le_bytes());
        &self.0
    }
}

fn stamp_of(message: &[u8]) -> Option<u64> {
    message.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Counts messages and holds each against the index and length it must have.
struct Check<const LEN: usize> {
    seen: u64,
    wrong: Option<String>,
}

impl<const LEN: usize> Check<LEN> {
    fn new() -> Self {
        Self { seen: 0, wrong: None }
    }

    #[inline]
    fn look(&mut self, message: &[u8]) {
        if message.len() != LEN || stamp_of(message) != Some(self.seen) {
            self.note(message);
        }
        self.seen += 1;
    }

    #[cold]
    fn note(&mut self, message: &[u8]) {
        let (seen, len) = (self.seen, message.len());
        self.wrong.get_or_insert_with(|| match stamp_of(message) {
            Some(index) if len == LEN => format!("message {index} came where {seen} was due"),
            _ => format!("message {seen} came with {len} bytes instead of {LEN}"),
        });
    }

    /// Whether all is right so far and fewer than `count` have come.
    #[inline]
    fn wants(&self, count: u64) -> bool {
        self.seen < count && self.wrong.is_none()
    }

    fn finish(self, sent: u64) -> Result<(), String> {
        match self.wrong {
            Some(wrong) => Err(wrong),
            None if self.seen != sent => Err(format!("{sent} messages sent, {} received", self.seen)),
            None => Ok(()),
        }
    }
}
