//! Four workers compete for jobs: each job goes to exactly one of them, and a faster worker gets more.
//!
//! One worker leaves early, and at the end all shut down gracefully. No job is lost or done twice.
//!
//! ```text
//! cargo run --release --example fan_out            # stops by itself after 4,000 jobs
//! cargo run --release --example fan_out -- --wait  # stops at Ctrl-C
//! ```
//!
//! The stop reaches only the producers. When they end, the channel closes. The workers continue until it is drained:
//! then `recv` returns `None`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use turbostream::{Receiver, Sender};

const PRODUCERS: u64 = 2;
const STOP_AFTER: u64 = 4_000;
const LEAVE_AFTER: u64 = STOP_AFTER / 2;

/// The workers: a name, and how long a job takes.
const WORKERS: [(&str, Duration); 4] = [
    ("fast 1", Duration::from_millis(1)),
    ("fast 2", Duration::from_millis(1)),
    ("leaves early", Duration::from_millis(1)),
    ("slow", Duration::from_millis(5)),
];

/// The progress of all workers, and what they cancel when enough is done.
struct Progress {
    done: AtomicU64,
    /// Stops the producers.
    stop: CancellationToken,
    /// Stops one worker.
    leave_early: CancellationToken,
    /// Whether only Ctrl-C stops the producers.
    until_ctrl_c: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (tx, rx) = turbostream::builder().name("jobs").max_bytes(16 << 10).build()?;
    let monitor = rx.monitor();
    let progress = Arc::new(Progress {
        done: AtomicU64::new(0),
        stop: CancellationToken::new(),
        leave_early: CancellationToken::new(),
        until_ctrl_c: std::env::args().any(|argument| argument == "--wait"),
    });

    let mut producers = JoinSet::new();
    for producer in 0..PRODUCERS {
        producers.spawn(produce(producer, tx.clone(), progress.stop.clone()));
    }
    drop(tx); // the producers hold the only senders: when the last one ends, the channel closes
    let workers: Vec<_> = WORKERS
        .into_iter()
        .map(|(name, pace)| {
            // The other workers stay until the channel is closed and drained.
            let leave =
                if name == "leaves early" { progress.leave_early.clone() } else { CancellationToken::new() };
            tokio::spawn(work(pace, rx.clone(), leave, Arc::clone(&progress)))
        })
        .collect();
    drop(rx);

    tokio::select! {
        () = progress.stop.cancelled() => {}
        interrupt = tokio::signal::ctrl_c() => { interrupt?; progress.stop.cancel() }
    }
    println!(
        "stopping: {} jobs done, {} queued",
        progress.done.load(Ordering::Relaxed),
        monitor.stats().queued_messages
    );
    let sent: Vec<u64> = by_producer(producers.join_all().await);
    let mut shares = Vec::new();
    for worker in workers {
        shares.push(worker.await?);
    }
    print_shares(&shares);
    verify(&sent, shares)
}

/// Sends jobs until the stop. Returns the producer's number, and how many jobs it sent.
async fn produce(producer: u64, tx: Sender, stop: CancellationToken) -> (u64, u64) {
    for number in 0_u64.. {
        let job = [producer.to_le_bytes(), number.to_le_bytes()].concat();
        tokio::select! {
            // A `send` that is dropped here has sent nothing, and does not count.
            () = stop.cancelled() => return (producer, number),
            sent = tx.send(&job) => if sent.is_err() { return (producer, number) },
        }
    }
    unreachable!("2^64 jobs")
}

/// Does jobs until the channel is drained or `leave` is cancelled. Returns the jobs that it did.
async fn work(
    pace: Duration,
    mut rx: Receiver,
    leave: CancellationToken,
    progress: Arc<Progress>,
) -> Vec<(u64, u64)> {
    let mut done = Vec::new();
    loop {
        let job = tokio::select! {
            // A `recv` that is dropped here has taken no job.
            () = leave.cancelled() => return done,
            job = rx.recv() => match job { Some(job) => job, None => return done },
        };
        tokio::time::sleep(pace).await; // stands for a request to another service
        let number = |at: usize| u64::from_le_bytes(job[at..at + 8].try_into().expect("8 bytes"));
        done.push((number(0), number(8)));
        let all = progress.done.fetch_add(1, Ordering::Relaxed) + 1;
        if all == LEAVE_AFTER {
            progress.leave_early.cancel();
        }
        if all == STOP_AFTER && !progress.until_ctrl_c {
            progress.stop.cancel();
        }
    }
}

fn by_producer(mut counts: Vec<(u64, u64)>) -> Vec<u64> {
    counts.sort_unstable();
    counts.into_iter().map(|(_, sent)| sent).collect()
}

fn print_shares(shares: &[Vec<(u64, u64)>]) {
    let total: usize = shares.iter().map(Vec::len).sum();
    for ((name, pace), share) in WORKERS.iter().zip(shares) {
        let percent = share.len() * 100 / total.max(1);
        println!("{name:<12} {pace:?} a job: {:>6} jobs  {}", share.len(), "#".repeat(percent.div_ceil(2)));
    }
}

/// Checks that each sent job was done exactly once, and that each worker did the jobs of a producer in their order.
fn verify(sent: &[u64], shares: Vec<Vec<(u64, u64)>>) -> anyhow::Result<()> {
    for (share, (name, _)) in shares.iter().zip(WORKERS) {
        ensure!(!share.is_empty(), "{name} got nothing");
        for producer in 0..PRODUCERS {
            let numbers = share.iter().filter(|job| job.0 == producer).map(|job| job.1);
            ensure!(numbers.is_sorted_by(|one, next| one < next), "{name} got jobs out of order");
        }
    }
    let mut done: Vec<_> = shares.into_iter().flatten().collect();
    done.sort_unstable();
    let expected =
        sent.iter().zip(0..).flat_map(|(&count, producer)| (0..count).map(move |job| (producer, job)));
    ensure!(done.iter().copied().eq(expected), "a job was lost, or done twice");
    println!("verified: {} jobs sent, each of them done exactly once", done.len());
    Ok(())
}
