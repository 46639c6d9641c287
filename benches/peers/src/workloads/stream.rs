//! Sender tasks and receiver tasks, as fast as they can: time per message. A tenth more messages than asked for go
//! first, through the same channel, as a warm-up; the clock starts once they have all been read, so that nothing is
//! queued, and stops when the last receiver has seen the end of the channel.

use super::{Check, Figure, Job, Outcome, Source, Workload};
use crate::contenders::Contender;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

pub async fn run<C: Contender, S: Source>(workload: &Workload, job: Job) -> Result<Outcome, String> {
    let (senders, receivers) = (workload.senders(), workload.receivers());
    let share = |messages: u64| messages.div_ceil(senders as u64);
    let start = Arc::new(Start::new(senders, share(job.warmup())));
    let each = start.warmup_each + share(job.messages);

    let (tx, rx) = C::open(job.capacity);
    let (txs, rxs) = (copies(tx, senders, C::another_tx), copies(rx, receivers, C::another_rx));
    let reading: Vec<_> = rxs
        .into_iter()
        .map(|rx| {
            let check = if receivers == 1 { Check::alone(senders) } else { Check::competing(senders) };
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
    Ok(Outcome::from([(Figure::NsPerMessage, ns_per_message)]))
}

async fn write<C: Contender, S: Source>(mut tx: C::Tx, mut source: S, each: u64, start: Arc<Start>) {
    for index in 0..each {
        if index == start.warmup_each {
            C::flush(&mut tx).await;
            start.gate.acquire().await.expect("never closed").forget();
        }
        // The only place, so that it is inlined: what it takes to pass arguments on counts for every contender.
        source.send::<C>(&mut tx, index).await;
    }
    C::flush(&mut tx).await;
}

async fn read<C: Contender, S: Source>(
    mut rx: C::Rx,
    mut check: Check<S>,
    start: Arc<Start>,
) -> (Instant, Check<S>) {
    let mut look = |message: &[u8]| {
        if check.look(message) < start.warmup_each {
            start.one_read();
        }
        check.is_right()
    };
    loop {
        let mut right = true;
        let open = C::recv(&mut rx, &mut |message| right &= look(message)).await;
        if !(open && right) {
            return (Instant::now(), check);
        }
    }
}

/// The end of the warm-up.
struct Start {
    senders: usize,
    warmup_each: u64,
    /// Messages of the warm-up that were read.
    read: AtomicU64,
    at: OnceLock<Instant>,
    /// Has a permit for each sender once the clock runs.
    gate: Semaphore,
}

impl Start {
    fn new(senders: usize, warmup_each: u64) -> Self {
        Self { senders, warmup_each, read: AtomicU64::new(0), at: OnceLock::new(), gate: Semaphore::new(0) }
    }

    #[cold]
    fn one_read(&self) {
        if self.read.fetch_add(1, Relaxed) + 1 == self.warmup_each * self.senders as u64 {
            self.at.get_or_init(Instant::now);
            self.gate.add_permits(self.senders);
        }
    }
}

/// A handle and enough others like it.
fn copies<T>(first: T, count: usize, another: fn(&T) -> T) -> Vec<T> {
    let mut all: Vec<T> = (1..count).map(|_| another(&first)).collect();
    all.push(first);
    all
}

async fn join<T>(tasks: Vec<JoinHandle<T>>, who: &str) -> Result<Vec<T>, String> {
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        results.push(task.await.map_err(|error| format!("the {who}'s task failed: {error}"))?);
    }
    Ok(results)
}
