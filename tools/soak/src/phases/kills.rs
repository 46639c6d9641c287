//! Runtimes that are killed while their tasks are inside the channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::StreamExt;
use tokio::runtime::{Builder, Runtime};
use turbostream::{Monitor, Receiver, Sender, TryRecvError, WhenFull};

use crate::message::{self, mix};
use crate::phase::{Findings, Progress, change, count, heap_at_rest};

/// So many are killed before it is looked how much is in use: what is made once in a process is not counted.
const WARM: u32 = 100;
const PATIENCE: Duration = Duration::from_secs(20);

/// What the tasks of one runtime have done, noted in the poll in which it was done.
#[derive(Default)]
struct Done {
    tasks: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    torn: AtomicU64,
}

impl Done {
    fn check(&self, message: &[u8]) {
        self.received.fetch_add(1, Relaxed);
        self.torn.fetch_add(u64::from(message::read(message).is_err()), Relaxed);
    }
}

/// A task of the runtime, as long as its future is there.
struct Task(Arc<Done>);

impl Task {
    fn of(done: &Arc<Done>) -> Self {
        done.tasks.fetch_add(1, Relaxed);
        Self(Arc::clone(done))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.tasks.fetch_sub(1, Relaxed);
    }
}

pub fn run(kills: u32, progress: &Progress) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut messages = 0;
    for number in 0..WARM {
        kill(u64::from(number))?;
    }
    let before = heap_at_rest();
    for number in WARM..WARM + kills {
        messages += kill(u64::from(number))?;
        if number % 32 == 0 {
            progress.tell(format!("{number} of {kills}"));
        }
    }
    let after = heap_at_rest();
    findings.see(format!("{kills} runtimes, {} messages", count(messages)));
    findings.see(
        "each: every task gone, sent = accepted, received = handed out, accepted = handed out + dropped",
    );
    // Less than a byte for each.
    findings.demand(after < before + kills as usize, format!("heap {}", change(before, after)));
    Ok(findings)
}

fn runtime(random: u64) -> Result<Runtime> {
    let mut builder =
        if random % 2 == 0 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    Ok(builder.worker_threads(2).enable_time().build()?)
}

/// Kills one, and returns how many messages it had accepted.
fn kill(number: u64) -> Result<u64> {
    let random = mix(number);
    let runtime = runtime(random)?;
    let done = Arc::new(Done::default());
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
    spawn_all(&runtime, random, &tx, &rx, &done);
    // Some handles outlive the runtime, and some do not.
    let survivors =
        (random >> 16 & 1 == 0).then(|| tx.clone()).zip((random >> 17 & 1 == 0).then(|| rx.clone()));
    drop((tx, rx));
    let enough = random >> 32 & 0x3ff;
    runtime.block_on(async {
        // Not all goes on for ever: the last receiver may have gone.
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
    judge(number, survivors, &monitor, &done)
}

/// What was not received by tasks is received here, or dropped; then the figures have to be those of the tasks.
fn judge(number: u64, survivors: Option<(Sender, Receiver)>, monitor: &Monitor, done: &Done) -> Result<u64> {
    let began = Instant::now();
    while done.tasks.load(Relaxed) > 0 {
        ensure!(began.elapsed() < PATIENCE, "tasks are left of runtime {number}");
        std::thread::yield_now();
    }
    if let Some((tx, rx)) = survivors {
        // It goes on outside of any runtime, if there is room.
        done.sent.fetch_add(u64::from(tx.try_send("").is_ok()), Relaxed);
        drop(tx);
        loop {
            match rx.try_recv() {
                Ok(message) => done.check(&message),
                Err(TryRecvError::Closed) => break,
                Err(_) => {
                    ensure!(began.elapsed() < PATIENCE, "not at its end after runtime {number}");
                    std::thread::yield_now();
                }
            }
        }
    }
    // A task counts itself as gone before its handle is, whose drop may be under way on another thread: it counts what it
    // drops before it gives the memory back.
    let mut stats = monitor.stats();
    while (stats.queued_messages > 0 || stats.memory_bytes() > 0) && began.elapsed() < PATIENCE {
        std::thread::yield_now();
        stats = monitor.stats();
    }
    let (sent, received) = (done.sent.load(Relaxed), done.received.load(Relaxed));
    ensure!(stats.sent_messages == sent, "runtime {number}: {sent} sent, {stats:?}");
    ensure!(stats.received_messages == received, "runtime {number}: {received} received, {stats:?}");
    let out = stats.received_messages + stats.dropped_messages;
    ensure!(stats.queued_messages == 0 && stats.sent_messages == out, "runtime {number}: {stats:?}");
    ensure!(stats.memory_bytes() == 0, "runtime {number}: {stats:?}");
    ensure!(done.torn.load(Relaxed) == 0, "torn messages of runtime {number}");
    Ok(stats.sent_messages)
}

fn spawn_all(runtime: &Runtime, random: u64, tx: &Sender, rx: &Receiver, done: &Arc<Done>) {
    for sender in 0..4 {
        runtime.spawn(send(tx.clone(), sender, Task::of(done)));
    }
    for way in 0..(random >> 24) % 5 {
        runtime.spawn(receive(rx.clone(), way, Task::of(done)));
    }
    let (tx, task) = (tx.clone(), Task::of(done));
    runtime.spawn(async move {
        let _task = task;
        while tx.drained().await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    if random >> 28 & 1 == 0 {
        let (rx, task) = (rx.clone(), Task::of(done));
        let _guard = runtime.enter();
        drop(rx.on_message(move |message| task.0.check(&message)));
    }
}

async fn send(tx: Sender, sender: u32, task: Task) {
    for number in 0.. {
        let len = [0, 10, 100, 500, 2000][(number + u64::from(sender)) as usize % 5];
        let mut message = vec![0; len];
        message::write(sender, number, &mut message);
        let accepted = match sender {
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
        task.0.sent.fetch_add(u64::from(accepted), Relaxed);
        if tx.is_closed() {
            return;
        }
        if number % 16 == 0 {
            tokio::task::yield_now().await;
        }
    }
}

async fn receive(mut rx: Receiver, way: u64, task: Task) {
    let done = &task.0;
    match way {
        0 => {
            while let Some(message) = rx.recv().await {
                done.check(&message);
            }
        }
        1 => {
            while let Some(batch) = rx.recv_batch(5).await {
                batch.iter().for_each(|message| done.check(message));
                tokio::task::yield_now().await;
            }
        }
        2 => {
            let mut messages = Vec::new();
            while rx.recv_many(&mut messages, 5).await > 0 {
                messages.drain(..).for_each(|message| done.check(&message));
            }
        }
        _ => {
            while let Some(message) = rx.next().await {
                done.check(&message);
            }
        }
    }
}
