//! Runtimes that are shut down while their tasks use the channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::StreamExt;
use tokio::runtime::{Builder, Runtime};
use turbostream::{Monitor, Receiver, Sender, TryRecvError, WhenFull};

use crate::message::{self, mix};
use crate::phase::{Findings, Progress, change, count, settled_heap};

/// Runtimes before the first measurement, which excludes what a process allocates once.
const WARMUP: u32 = 100;
const TIMEOUT: Duration = Duration::from_secs(20);

/// Counters of the tasks of one runtime. A task updates them in the poll that did the work.
#[derive(Default)]
struct Counters {
    tasks: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    torn: AtomicU64,
}

impl Counters {
    fn check(&self, message: &[u8]) {
        self.received.fetch_add(1, Relaxed);
        self.torn.fetch_add(u64::from(message::read(message).is_err()), Relaxed);
    }
}

/// Counts a task of the runtime until its future is dropped.
struct Task(Arc<Counters>);

impl Task {
    fn of(counters: &Arc<Counters>) -> Self {
        counters.tasks.fetch_add(1, Relaxed);
        Self(Arc::clone(counters))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.tasks.fetch_sub(1, Relaxed);
    }
}

pub fn run(shutdowns: u32, progress: &Progress) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut messages = 0;
    for number in 0..WARMUP {
        shut_down(u64::from(number))?;
    }
    let before = settled_heap();
    for number in WARMUP..WARMUP + shutdowns {
        messages += shut_down(u64::from(number))?;
        if number % 32 == 0 {
            progress.show(format!("{number} of {shutdowns}"));
        }
    }
    let after = settled_heap();
    findings.note(format!("{shutdowns} runtimes, {} messages", count(messages)));
    findings
        .note("each: all tasks dropped, sent and received match the statistics, sent = received + dropped");
    // Less than a byte per runtime.
    findings.check(after < before + shutdowns as usize, format!("heap {}", change(before, after)));
    Ok(findings)
}

fn runtime(random: u64) -> Result<Runtime> {
    let mut builder =
        if random % 2 == 0 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    Ok(builder.worker_threads(2).enable_time().build()?)
}

/// Shuts one runtime down; returns the number of messages sent.
fn shut_down(number: u64) -> Result<u64> {
    let random = mix(number);
    let runtime = runtime(random)?;
    let counters = Arc::new(Counters::default());
    let policy = [WhenFull::Wait, WhenFull::Wait, WhenFull::DropNewest, WhenFull::DropOldest];
    let (tx, rx) = turbostream::builder()
        .segment_bytes(1 << 10)
        .segment_messages(16)
        .max_bytes(8 << 10)
        .when_full(policy[(random >> 8) as usize % 4])
        .on_demand(random >> 12 & 3 > 0)
        .runtime(runtime.handle().clone())
        .build()?;
    let monitor = tx.monitor();
    spawn_all(&runtime, random, &tx, &rx, &counters);
    // Some handles outlive the runtime.
    let survivors =
        (random >> 16 & 1 == 0).then(|| tx.clone()).zip((random >> 17 & 1 == 0).then(|| rx.clone()));
    drop((tx, rx));
    let enough = random >> 32 & 0x3ff;
    runtime.block_on(async {
        // Bounded: the last receiver may be dropped already.
        for _ in 0..2000 {
            if monitor.stats().sent_messages >= enough {
                break;
            }
            tokio::task::yield_now().await;
        }
    });
    match random >> 20 & 3 {
        0 => runtime.shutdown_background(),
        1 => runtime.shutdown_timeout(Duration::ZERO),
        _ => drop(runtime),
    }
    check_stats(number, survivors, &monitor, &counters)
}

/// Drains the channel and compares the statistics with the counters of the tasks.
fn check_stats(
    number: u64,
    survivors: Option<(Sender, Receiver)>,
    monitor: &Monitor,
    counters: &Counters,
) -> Result<u64> {
    let began = Instant::now();
    while counters.tasks.load(Relaxed) > 0 {
        ensure!(began.elapsed() < TIMEOUT, "tasks remain of runtime {number}");
        std::thread::yield_now();
    }
    if let Some((tx, mut rx)) = survivors {
        // Sending also works outside of a runtime, if there is room.
        counters.sent.fetch_add(u64::from(tx.try_send("").is_ok()), Relaxed);
        drop(tx);
        loop {
            match rx.try_recv() {
                Ok(message) => counters.check(&message),
                Err(TryRecvError::Closed) => break,
                Err(_) => {
                    ensure!(began.elapsed() < TIMEOUT, "not drained after runtime {number}");
                    std::thread::yield_now();
                }
            }
        }
    }
    // A task decrements its counter before its handle is dropped, which may still happen on another thread. The handle
    // counts dropped messages before it frees memory.
    let mut stats = monitor.stats();
    while (stats.queued_messages > 0 || stats.memory_bytes() > 0) && began.elapsed() < TIMEOUT {
        std::thread::yield_now();
        stats = monitor.stats();
    }
    let (sent, received) = (counters.sent.load(Relaxed), counters.received.load(Relaxed));
    ensure!(stats.sent_messages == sent, "runtime {number}: {sent} sent, {stats:?}");
    ensure!(stats.received_messages == received, "runtime {number}: {received} received, {stats:?}");
    let removed = stats.received_messages + stats.dropped_messages;
    ensure!(stats.queued_messages == 0 && stats.sent_messages == removed, "runtime {number}: {stats:?}");
    ensure!(stats.memory_bytes() == 0, "runtime {number}: {stats:?}");
    ensure!(counters.torn.load(Relaxed) == 0, "torn messages of runtime {number}");
    Ok(stats.sent_messages)
}

fn spawn_all(runtime: &Runtime, random: u64, tx: &Sender, rx: &Receiver, counters: &Arc<Counters>) {
    for sender in 0..4 {
        runtime.spawn(send(tx.clone(), sender, Task::of(counters)));
    }
    for method in 0..(random >> 24) % 5 {
        runtime.spawn(receive(rx.clone(), method, Task::of(counters)));
    }
    let (tx, task) = (tx.clone(), Task::of(counters));
    runtime.spawn(async move {
        let _task = task;
        while tx.drained().await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    if random >> 28 & 1 == 0 {
        let (rx, task) = (rx.clone(), Task::of(counters));
        let _guard = runtime.enter();
        drop(rx.on_message(move |message| task.0.check(&message)));
    }
}

async fn send(tx: Sender, sender: u32, task: Task) {
    for number in 0.. {
        let len = [0, 10, 100, 500, 2000][(number + u64::from(sender)) as usize % 5];
        let mut message = vec![0; len];
        message::write(sender, number, &mut message);
        let sent = match sender {
            0 => tx.send(&message[..]).await.is_ok(),
            1 => tx.send(message).await.is_ok(),
            2 => {
                let write = |buf: &mut [u8]| {
                    buf.copy_from_slice(&message);
                    len
                };
                tx.send_with(len, write).await.is_ok()
            }
            _ => tx.send_timeout(message, Duration::from_micros(100)).await.is_ok(),
        };
        task.0.sent.fetch_add(u64::from(sent), Relaxed);
        if tx.is_closed() {
            return;
        }
        if number % 16 == 0 {
            tokio::task::yield_now().await;
        }
    }
}

async fn receive(mut rx: Receiver, method: u64, task: Task) {
    let counters = &task.0;
    match method {
        0 => {
            while let Some(message) = rx.recv().await {
                counters.check(&message);
            }
        }
        1 => {
            while let Some(batch) = rx.recv_batch(5).await {
                batch.iter().for_each(|message| counters.check(message));
                tokio::task::yield_now().await;
            }
        }
        2 => {
            let mut messages = Vec::new();
            while rx.recv_many(&mut messages, 5).await > 0 {
                messages.drain(..).for_each(|message| counters.check(&message));
            }
        }
        _ => {
            while let Some(message) = rx.next().await {
                counters.check(&message);
            }
        }
    }
}
