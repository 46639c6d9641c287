//! Fills the channel, drains it and waits: the pool shrinks to two segments, then to none.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use turbostream::{Monitor, Receiver, Sender, TrySendError};

use super::senders::Group;
use crate::heap;
use crate::phase::{Findings, Progress, bytes, change, settled_heap};
use crate::tally::{Received, Tally};

const MAX_BYTES: usize = 8 << 20;
const SEGMENT_BYTES: usize = 128 << 10;
const SEGMENT_MESSAGES: usize = 4096;
/// Two segments with their indices and headers.
const TWO_SEGMENTS: usize = 2 * (SEGMENT_BYTES + 8 * SEGMENT_MESSAGES + 128);
const POOL_IDLE: Duration = Duration::from_millis(50);
/// Generous, for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_HEAP: usize = 32 << 10;
const HEAP_TOLERANCE: usize = 64 << 10;

#[derive(Default)]
struct Measured {
    sent: Tally,
    received: Received,
    longest_to_two: Duration,
    longest_to_none: Duration,
    idle_heap: usize,
    /// Bursts after which memory was not released in time.
    late: u32,
}

pub fn run(bursts: u32, progress: &Progress) -> Result<Findings> {
    let mut findings = Findings::default();
    let before = heap::in_use();
    let runtime = Runtime::new()?;
    let measured = runtime.block_on(async {
        let builder = turbostream::builder().segment_bytes(SEGMENT_BYTES).segment_messages(SEGMENT_MESSAGES);
        let (tx, mut rx) = builder.max_bytes(MAX_BYTES).pool_idle(POOL_IDLE).build()?;
        let (mut measured, mut group) = (Measured::default(), Group::new(0));
        let created = heap::in_use();
        for burst in 0..bursts {
            progress.show(format!("{burst} of {bursts}"));
            fill(&tx, &mut group, &mut measured.sent)?;
            drain(&mut rx, &mut measured.received);
            idle(&tx.monitor(), created, &mut measured).await;
        }
        anyhow::Ok(measured)
    })?;
    drop(runtime);
    let burst_bytes = measured.sent.bytes as usize / bursts.max(1) as usize;
    findings.note(format!("{bursts} bursts of {} each", bytes(burst_bytes)));
    let Received { tally, torn, reordered, .. } = &measured.received;
    findings.check(
        tally == &measured.sent && (*torn, *reordered) == (0, 0),
        format!("torn {torn}, reordered {reordered}; received = sent"),
    );
    let (two, none) = (measured.longest_to_two, measured.longest_to_none);
    findings.check(
        measured.late == 0,
        format!("pool_idle {POOL_IDLE:?}: two segments after {two:?} at most, none after {none:?}"),
    );
    let heap = measured.idle_heap;
    findings.check(heap <= IDLE_HEAP, format!("heap of the idle channel {} at most", bytes(heap)));
    let after = settled_heap();
    findings.check(after <= before + HEAP_TOLERANCE, format!("heap {} afterwards", change(before, after)));
    Ok(findings)
}

fn fill(tx: &Sender, group: &mut Group, sent: &mut Tally) -> Result<()> {
    loop {
        group.advance();
        let large = group.take_large();
        for message in group.messages().chain(large.as_deref()) {
            match tx.try_send(message) {
                Ok(()) => sent.add(message),
                Err(TrySendError::Full(_)) => return Ok(()),
                Err(error) => return Err(anyhow::anyhow!("{error}")).context("not full"),
            }
        }
    }
}

fn drain(rx: &mut Receiver, received: &mut Received) {
    while let Ok(message) = rx.try_recv() {
        received.check(&message);
    }
}

async fn idle(monitor: &Monitor, created: usize, measured: &mut Measured) {
    let began = Instant::now();
    let to_two = time_down_to(TWO_SEGMENTS, monitor, began).await;
    let to_none = time_down_to(0, monitor, began).await;
    measured.late += u32::from(to_two.is_none() || to_none.is_none());
    measured.longest_to_two = measured.longest_to_two.max(to_two.unwrap_or(TIMEOUT));
    measured.longest_to_none = measured.longest_to_none.max(to_none.unwrap_or(TIMEOUT));
    measured.idle_heap = measured.idle_heap.max(heap::in_use().saturating_sub(created));
}

/// Waits until the channel's memory is at most `limit`; returns the time since `began`.
async fn time_down_to(limit: usize, monitor: &Monitor, began: Instant) -> Option<Duration> {
    while began.elapsed() < TIMEOUT {
        if monitor.stats().memory_bytes() <= limit {
            return Some(began.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    None
}
