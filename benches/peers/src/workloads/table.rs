//! All workloads and their targets.

use super::{Original, Payload, Reads, Shape, Statistic, Threads, Workload};
use crate::targets::Target;

pub const ZERO_COPY: &str = "turbostream-zerocopy";
pub const SAFE: &str = "turbostream-safe";
pub const TRACING: &str = "turbostream-tracing";
pub const METRICS: &str = "turbostream-metrics";
pub const TOKIO: &str = "tokio-recv";
pub const TOKIO_MANY: &str = "tokio-recv-many";
const BATCH: &str = "turbostream-batch";
/// A target of a contender that is not in the list of contenders has no verdict.
const LENT: &str = "turbostream-lent";
const PREFETCH: &str = "turbostream-prefetch";

const SPEED: &[Statistic] = &[Statistic::NsPerMessage];
const BATCHES: &[Target] = &[Target::best_of_all(BATCH, 2.0)];
const DELAYS: &[Target] = &[
    Target::at_most(ZERO_COPY, TOKIO, 1.0).of(Statistic::P50Ns),
    Target::at_most(ZERO_COPY, TOKIO, 1.1).of(Statistic::P99Ns),
];

pub fn find(name: &str) -> Result<&'static Workload, String> {
    let known = || ALL.iter().map(|workload| workload.name).collect::<Vec<_>>().join(", ");
    ALL.iter()
        .find(|workload| workload.name == name)
        .ok_or_else(|| format!("no such workload; there are {}", known()))
}

/// A stream that is received one by one, ours by ZeroCopy.
const fn one_by_one(senders: usize, receivers: usize, payload: Payload, about: &'static str) -> Workload {
    Workload {
        name: "",
        about,
        shape: Shape::Stream { senders, receivers, payload, reads: Reads::OneByOne },
        threads: Threads::Workers,
        messages: [200_000, 2_000_000],
        statistics: SPEED,
        ours: ZERO_COPY,
        only: &[],
        targets: &[],
        original: None,
    }
}

/// A stream that is received in batches.
const fn batches(senders: usize, payload: Payload, about: &'static str) -> Workload {
    let shape = Shape::Stream { senders, receivers: 1, payload, reads: Reads::Batches };
    Workload {
        shape,
        ours: BATCH,
        messages: [400_000, 4_000_000],
        targets: BATCHES,
        ..one_by_one(senders, 1, payload, about)
    }
}

pub static ALL: &[Workload] = &[
    Workload {
        name: "copy_128_1p1c",
        targets: &[Target::best_peer(ZERO_COPY, 1.5), Target::best_peer(LENT, 2.0)],
        ..one_by_one(
            1,
            1,
            Payload::Copy128,
            "128-byte messages, copied from one buffer that changes with each, received one by one: one sender task, \
             one receiver task.",
        )
    },
    Workload {
        name: "copy_128_4p1c",
        targets: &[Target::best_peer(ZERO_COPY, 1.2)],
        ..one_by_one(4, 1, Payload::Copy128, "The same with 4 sender tasks.")
    },
    Workload {
        name: "copy_128_4p4c",
        targets: &[Target::best_peer(ZERO_COPY, 1.0), Target::best_peer(PREFETCH, 1.2)],
        ..one_by_one(
            4,
            4,
            Payload::Copy128,
            "The same with 4 sender tasks and 4 competing receiver tasks: each message is received by one of them.",
        )
    },
    Workload {
        name: "copy_128_16p1c",
        targets: &[Target::best_peer(ZERO_COPY, 1.2)],
        ..one_by_one(16, 1, Payload::Copy128, "The same with 16 sender tasks.")
    },
    Workload {
        name: "copy_128_64p1c",
        targets: &[Target::best_peer(ZERO_COPY, 1.2), Target::growth(ZERO_COPY, "copy_128_1p1c", 1.5)],
        ..one_by_one(64, 1, Payload::Copy128, "The same with 64 sender tasks.")
    },
    Workload {
        name: "copy_1k_1p1c",
        messages: [100_000, 500_000],
        targets: &[Target::best_peer(ZERO_COPY, 1.3)],
        ..one_by_one(1, 1, Payload::Copy1K, "1 KiB messages, copied: one sender task, one receiver task.")
    },
    Workload {
        name: "pass_64k_1p1c",
        targets: &[Target::best_peer(ZERO_COPY, 1.0)],
        ..one_by_one(
            1,
            1,
            Payload::Pass64K,
            "Clones of 64 `Bytes` of 64 KiB, sent round-robin as external messages: one sender task, one \
             receiver task.",
        )
    },
    Workload {
        name: "batch_128_1p1c",
        ..batches(
            1,
            Payload::Copy128,
            "128-byte messages, sent one by one or in batches, by the faster method of each contender, and received in \
             batches: one sender task, one receiver task. Crates without batch methods receive one by one.",
        )
    },
    Workload { name: "batch_128_4p1c", ..batches(4, Payload::Copy128, "The same with 4 sender tasks.") },
    Workload {
        name: "log_lines",
        targets: &[Target::best_of_all(BATCH, 2.5)],
        messages: [200_000, 2_000_000],
        ..batches(
            4,
            Payload::Lines,
            "Lines of a log, each after an 8-byte number: 4 sender tasks, one receiver task that receives in batches. \
             The lines are read from the file of `--log`, or generated, 105 bytes on average.",
        )
    },
    Workload {
        name: "log_events",
        shape: Shape::LogEvents,
        messages: [100_000, 500_000],
        statistics: &[Statistic::NsPerMessage, Statistic::P50Ns, Statistic::P99Ns, Statistic::P999Ns],
        ours: TRACING,
        only: &[TRACING, "tracing-appender"],
        targets: &[Target::best_of_all(TRACING, 1.0)],
        ..one_by_one(
            4,
            1,
            Payload::Lines,
            "Events of `tracing` from 4 tasks, each formatted by `tracing_subscriber::fmt` into a line and handed to a \
             writer that writes a file in the background. A task that logs waits while the writer is full. ns/message is \
             the time until all lines are written; the percentiles are of single calls of `info!`.",
        )
    },
    Workload {
        name: "safe_128_1p1c",
        ours: SAFE,
        only: &[SAFE, ZERO_COPY],
        targets: &[Target::at_most(SAFE, ZERO_COPY, 1.6)],
        ..one_by_one(1, 1, Payload::Copy128, "copy_128_1p1c again, for the cost of the copy in Safe mode.")
    },
    Workload {
        name: "metrics_128_1p1c",
        ours: METRICS,
        messages: [1_000_000, 10_000_000],
        only: &[METRICS, ZERO_COPY],
        targets: &[Target::at_most(METRICS, ZERO_COPY, 1.01)],
        ..one_by_one(
            1,
            1,
            Payload::Copy128,
            "copy_128_1p1c again, for the cost of metrics: with and without a recorder for Prometheus.",
        )
    },
    Workload {
        name: "ping_pong_128",
        shape: Shape::PingPong,
        messages: [10_000, 100_000],
        statistics: &[Statistic::NsPerMessage, Statistic::P50Ns, Statistic::P99Ns, Statistic::P999Ns],
        targets: DELAYS,
        ..one_by_one(
            1,
            1,
            Payload::Copy128,
            "A 128-byte message to another task and back, over two channels. ns/message is half a round trip on \
             average; the percentiles are of whole round trips.",
        )
    },
    Workload {
        name: "current_thread_1p1c",
        threads: Threads::Current,
        ..one_by_one(
            1,
            1,
            Payload::Copy128,
            "copy_128_1p1c on Tokio's current_thread runtime: sender and receiver take turns on one thread.",
        )
    },
    Workload {
        name: "current_thread_ping_pong",
        shape: Shape::PingPong,
        threads: Threads::Current,
        messages: [20_000, 200_000],
        statistics: &[Statistic::NsPerMessage, Statistic::P50Ns, Statistic::P99Ns, Statistic::P999Ns],
        targets: DELAYS,
        ..one_by_one(1, 1, Payload::Copy128, "ping_pong_128 on Tokio's current_thread runtime.")
    },
    Workload {
        name: "work_5us_4p1c",
        messages: [20_000, 100_000],
        ..one_by_one(
            4,
            1,
            Payload::Work128,
            "copy_128_4p1c with a receiver that works on each message: it keeps its core busy for 5 µs, which count.",
        )
    },
    Workload {
        name: "paced_128_100k",
        shape: Shape::Paced,
        messages: [10_000, 50_000],
        statistics: &[Statistic::P50Ns, Statistic::P99Ns, Statistic::P999Ns, Statistic::IntervalNs],
        targets: DELAYS,
        ..one_by_one(
            1,
            1,
            Payload::Copy128,
            "100,000 messages of 128 bytes a second from one sender task: the delay of each from just before its send \
             to its receipt. The interval is the mean between sends; 10,000 ns is on time.",
        )
    },
    Workload {
        name: "first_message",
        shape: Shape::FirstMessage,
        messages: [10_000, 100_000],
        targets: &[Target::at_most(ZERO_COPY, TOKIO, 4.0)],
        ..one_by_one(
            1,
            1,
            Payload::Copy128,
            "One task creates a channel, sends and receives one message of 128 bytes, and drops the channel. ns/message \
             is the time for all of that.",
        )
    },
    Workload {
        name: "idle_10k",
        shape: Shape::Idle,
        messages: [10_000, 10_000],
        statistics: &[
            Statistic::HeapNewBytes,
            Statistic::HeapUsedBytes,
            Statistic::HeapRestBytes,
            Statistic::ResidentNewBytes,
            Statistic::ResidentUsedBytes,
            Statistic::ResidentRestBytes,
            Statistic::CpuRestMs,
            Statistic::CpuIdleMs,
        ],
        ours: SAFE,
        targets: &[
            Target::limit(SAFE, Statistic::HeapNewBytes, 8192.0),
            Target::limit(SAFE, Statistic::HeapUsedBytes, 16_384.0),
            Target::limit(SAFE, Statistic::HeapRestBytes, 16_384.0),
            // All 10,000 channels, in one second: the cost of one sleep and wake of the process.
            Target::limit(SAFE, Statistic::CpuIdleMs, 1.0),
        ],
        ..one_by_one(
            1,
            1,
            Payload::Copy128,
            "10,000 channels with their defaults: bytes per channel before use, after 10 messages of 128 bytes were \
             sent and received through each (the mean of 1,000), and after 2 s of rest; as allocated (heap), and as the \
             process's resident memory. CPU time of the process in those 2 s, and in the idle second after them. This \
             measures a state, not a speed: there is one round, and contenders run four at a time.",
        )
    },
    Workload {
        name: "original_128",
        only: &[ZERO_COPY, SAFE, TOKIO],
        original: Some(Original { zero_copy: "280 to 294", safe: "333 to 335" }),
        ..one_by_one(
            1,
            1,
            Payload::Copy128,
            "The benchmark of the Go original: 128-byte messages, one sender, one receiver that waits for each.",
        )
    },
    Workload {
        name: "original_64k",
        only: &[ZERO_COPY, SAFE, TOKIO],
        original: Some(Original { zero_copy: "129", safe: "124" }),
        ..one_by_one(1, 1, Payload::Pass64K, "The same with external messages of 64 KiB.")
    },
];
