//! Sender tasks and receiver tasks at full speed: time per message.
//!
//! A tenth more messages precede as a warm-up, through the same channel. The clock starts when all of them are received,
//! with an empty queue. It stops when the last receiver finds the channel closed and drained.

use super::{Check, Job, Outcome, Source, Statistic, Workload};
use crate::contenders::{Contender, SendResult};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

pub async fn run<C: Contender, S: Source>(workload: &Workload, job: Job) -> Result<Outcome, String> {
    let (senders, receivers) = (workload.senders(), workload.receivers());
    let share = |messages: u64| messages.div_ceil(senders as u64);
    let start = Arc::new(Start::new(senders, share(job.warmup())));
    let each = start.warmup_each + share(job.messages);

    let (tx, rx) = C::open(job.capacity);
    let (txs, rxs) = (clones(tx, senders, C::clone_tx), clones(rx, receivers, C::clone_rx));
    let reading: Vec<_> = rxs
        .into_iter()
        .map(|rx| {
            let check = if receivers == 1 { Check::exclusive(senders) } else { Check::competing(senders) };
            tokio::spawn(read::<C, S>(rx, check, Arc::clone(&start)))
        })
        .collect();
    let writing: Vec<_> = txs
        .into_iter()
        .enumerate()
        .map(|(sender, tx)| tokio::spawn(write::<C, S>(tx, S::new(sender), each, Arc::clone(&start))))
        .collect();

    let (ends, checks): (Vec<_>, Vec<_>) = join(reading, "receiver").await?.into_iter().unzip();
    Check::finish(checks, each)?;
    join(writing, "sender").await?;
    let end = ends.into_iter().max().ok_or("no receiver")?;
    let began = *start.at.get().ok_or("the warm-up never ended")?;
    let messages = share(job.messages) * senders as u64;
    let ns_per_message = end.duration_since(began).as_nanos() as f64 / messages as f64;
    Ok(Outcome::from([(Statistic::NsPerMessage, ns_per_message)]))
}

async fn write<C: Contender, S: Source>(mut tx: C::Tx, mut source: S, each: u64, start: Arc<Start>) {
    let mut index = 0;
    for end in [start.warmup_each, each] {
        while index < end {
            // One call of each, so that it is inlined for every contender.
            if C::RUN == 1 {
                source.send::<C>(&mut tx, index).await.check();
                index += 1;
            } else {
                let len = (end - index).min(C::RUN as u64);
                source.send_run::<C>(&mut tx, index, len as usize).await;
                index += len;
            }
        }
        if end < each {
            start.gate.acquire().await.expect("never closed").forget();
        }
    }
}

async fn read<C: Contender, S: Source>(
    mut rx: C::Rx,
    mut check: Check<S>,
    start: Arc<Start>,
) -> (Instant, Check<S>) {
    let mut visit = |message: &[u8]| {
        if check.verify(message) < start.warmup_each {
            start.count_one();
        }
        if !S::WORK.is_zero() {
            work(S::WORK);
        }
        check.is_ok()
    };
    loop {
        let mut ok = true;
        let open = C::recv(&mut rx, &mut |message| ok &= visit(message)).await;
        if !(open && ok) {
            return (Instant::now(), check);
        }
    }
}

/// Keeps the core busy.
fn work(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {
        std::hint::spin_loop();
    }
}

/// The end of the warm-up.
struct Start {
    senders: usize,
    warmup_each: u64,
    /// Received messages of the warm-up.
    read: AtomicU64,
    at: OnceLock<Instant>,
    /// Has a permit for each sender once the clock has started.
    gate: Semaphore,
}

impl Start {
    fn new(senders: usize, warmup_each: u64) -> Self {
        Self { senders, warmup_each, read: AtomicU64::new(0), at: OnceLock::new(), gate: Semaphore::new(0) }
    }

    #[cold]
    fn count_one(&self) {
        if self.read.fetch_add(1, Relaxed) + 1 == self.warmup_each * self.senders as u64 {
            self.at.get_or_init(Instant::now);
            self.gate.add_permits(self.senders);
        }
    }
}

/// The handle and `count - 1` clones.
fn clones<T>(first: T, count: usize, clone: fn(&T) -> T) -> Vec<T> {
    let mut all: Vec<T> = (1..count).map(|_| clone(&first)).collect();
    all.push(first);
    all
}

async fn join<T>(tasks: Vec<JoinHandle<T>>, role: &str) -> Result<Vec<T>, String> {
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        results.push(task.await.map_err(|error| format!("the {role}'s task failed: {error}"))?);
    }
    Ok(results)
}
