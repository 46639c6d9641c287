//! Four workers compete for jobs: each job goes to exactly one of them, and who is quicker gets more. A worker is taken out
//! of service in the middle of it, and at the end all shut down gracefully. No job is lost or done twice.
//!
//! ```text
//! cargo run --release --example fan_out            # stops by itself after 4,000 jobs
//! cargo run --release --example fan_out -- --wait  # stops at Ctrl-C
//! ```
//!
//! The stop reaches the producers alone. As they end, the channel closes; the workers go on until it is drained, which
//! `recv` tells by `None`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use turbostream::{Receiver, Sender};

const PRODUCERS: u64 = 2;
const STOP_AFTER: u64 = 4_000;
const RETIRE_AFTER: u64 = STOP_AFTER / 2;

/// Who works, and how long a job takes there.
const WORKERS: [(&str, Duration); 4] = [
    ("quick", Duration::from_millis(1)),
    ("quick too", Duration::from_millis(1)),
    ("leaves early", Duration::from_millis(1)),
    ("slow", Duration::from_millis(5)),
];

/// What the workers tell those who wait for it.
struct Progress {
    done: AtomicU64,
    /// Stops the producers.
    stop: CancellationToken,
    /// Takes one worker out of service.
    retire: CancellationToken,
    /// Whether jobs end with Ctrl-C only.
    until_ctrl_c: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (tx, rx) = turbostream::builder().name("jobs").max_bytes(16 << 10).build()?;
    let monitor = rx.monitor();
    let progress = Arc::new(Progress {
        done: AtomicU64::new(0),
        stop: CancellationToken::new(),
        retire: CancellationToken::new(),
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
            // Everybody else stays until the channel is closed and drained.
            let leave =
                if name == "leaves early" { progress.retire.clone() } else { CancellationToken::new() };
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
    let accepted: Vec<u64> = in_order(producers.join_all().await);
    let mut shares = Vec::new();
    for worker in workers {
        shares.push(worker.await?);
    }
    show(&shares);
    verify(&accepted, shares)
}

/// Sends jobs until it is told to stop; returns how many were accepted, behind its own number.
async fn produce(producer: u64, tx: Sender, stop: CancellationToken) -> (u64, u64) {
    for number in 0_u64.. {
        let job = [producer.to_le_bytes(), number.to_le_bytes()].concat();
        tokio::select! {
            // A `send` that is dropped here was not accepted, and does not count.
            () = stop.cancelled() => return (producer, number),
            sent = tx.send(&job) => if sent.is_err() { return (producer, number) },
        }
    }
    unreachable!("nobody counts to 2^64")
}

/// Does jobs until there are no more, or until it is to leave; returns those that it did.
async fn work(
    pace: Duration,
    rx: Receiver,
    leave: CancellationToken,
    progress: Arc<Progress>,
) -> Vec<(u64, u64)> {
    let mut done = Vec::new();
    loop {
        let job = tokio::select! {
            // A `recv` that is dropped here takes no job with it.
            () = leave.cancelled() => return done,
            job = rx.recv() => match job { Some(job) => job, None => return done },
        };
        tokio::time::sleep(pace).await; // a request to somebody else
        let number = |at: usize| u64::from_le_bytes(job[at..at + 8].try_into().expect("8 bytes"));
        done.push((number(0), number(8)));
        let all = progress.done.fetch_add(1, Ordering::Relaxed) + 1;
        if all == RETIRE_AFTER {
            progress.retire.cancel();
        }
        if all == STOP_AFTER && !progress.until_ctrl_c {
            progress.stop.cancel();
        }
    }
}

fn in_order(mut counts: Vec<(u64, u64)>) -> Vec<u64> {
    counts.sort_unstable();
    counts.into_iter().map(|(_, accepted)| accepted).collect()
}

fn show(shares: &[Vec<(u64, u64)>]) {
    let total: usize = shares.iter().map(Vec::len).sum();
    for ((name, pace), share) in WORKERS.iter().zip(shares) {
        let percent = share.len() * 100 / total.max(1);
        println!("{name:<12} {pace:?} a job: {:>6} jobs  {}", share.len(), "#".repeat(percent.div_ceil(2)));
    }
}

/// Each job that was accepted was done, once, and each worker did those of a producer in the order in which they were sent.
fn verify(accepted: &[u64], shares: Vec<Vec<(u64, u64)>>) -> anyhow::Result<()> {
    for (share, (name, _)) in shares.iter().zip(WORKERS) {
        ensure!(!share.is_empty(), "{name} got nothing");
        for producer in 0..PRODUCERS {
            let of_it = share.iter().filter(|job| job.0 == producer).map(|job| job.1);
            ensure!(of_it.is_sorted_by(|one, next| one < next), "{name} got jobs out of order");
        }
    }
    let mut done: Vec<_> = shares.into_iter().flatten().collect();
    done.sort_unstable();
    let sent =
        accepted.iter().zip(0..).flat_map(|(&count, producer)| (0..count).map(move |job| (producer, job)));
    ensure!(done.iter().copied().eq(sent), "a job was lost, or done twice");
    println!("verified: {} jobs accepted, each of them done exactly once", done.len());
    Ok(())
}
