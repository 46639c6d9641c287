//! Full in a moment, read, and then nothing for a while: memory goes back, to two segments first and then to none.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use turbostream::{Monitor, Receiver, Sender, TrySendError};

use super::sending::Run;
use crate::heap;
use crate::phase::{Findings, Progress, bytes, change, heap_at_rest};
use crate::tally::{Received, Tally};

const MAX_BYTES: usize = 8 << 20;
const SEGMENT_BYTES: usize = 128 << 10;
const SEGMENT_MESSAGES: usize = 4096;
/// With the index and the header of each.
const TWO_SEGMENTS: usize = 2 * (SEGMENT_BYTES + 8 * SEGMENT_MESSAGES + 128);
const POOL_IDLE: Duration = Duration::from_millis(50);
/// On a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(5);
const AT_REST: usize = 32 << 10;
const LEFT_BEHIND: usize = 64 << 10;

#[derive(Default)]
struct Seen {
    sent: Tally,
    received: Received,
    longest_to_two: Duration,
    longest_to_none: Duration,
    heap_at_rest: usize,
    never: u32,
}

pub fn run(bursts: u32, progress: &Progress) -> Result<Findings> {
    let mut findings = Findings::default();
    let before = heap::in_use();
    let runtime = Runtime::new()?;
    let seen = runtime.block_on(async {
        let builder = turbostream::builder().segment_bytes(SEGMENT_BYTES).segment_messages(SEGMENT_MESSAGES);
        let (tx, rx) = builder.max_bytes(MAX_BYTES).pool_idle(POOL_IDLE).build()?;
        let (mut seen, mut run) = (Seen::default(), Run::new(0));
        let made = heap::in_use();
        for burst in 0..bursts {
            progress.tell(format!("{burst} of {bursts}"));
            fill(&tx, &mut run, &mut seen.sent)?;
            read(&rx, &mut seen.received);
            rest(&tx.monitor(), made, &mut seen).await;
        }
        anyhow::Ok(seen)
    })?;
    drop(runtime);
    let of_each = seen.sent.bytes as usize / bursts.max(1) as usize;
    findings.see(format!("{bursts} bursts of {} each", bytes(of_each)));
    let Received { tally, torn, reordered, .. } = &seen.received;
    findings.demand(
        tally == &seen.sent && (*torn, *reordered) == (0, 0),
        format!("torn {torn}, reordered {reordered}; all the same ones"),
    );
    let (two, none) = (seen.longest_to_two, seen.longest_to_none);
    findings.demand(
        seen.never == 0,
        format!("pool_idle {POOL_IDLE:?}: two segments after {two:?} at most, none after {none:?}"),
    );
    let heap = seen.heap_at_rest;
    findings.demand(heap <= AT_REST, format!("heap of the channel at rest {} at most", bytes(heap)));
    let after = heap_at_rest();
    findings.demand(after <= before + LEFT_BEHIND, format!("heap {} afterwards", change(before, after)));
    Ok(findings)
}

fn fill(tx: &Sender, run: &mut Run, sent: &mut Tally) -> Result<()> {
    loop {
        run.advance();
        let large = run.take_large();
        for message in run.messages().chain(large.as_deref()) {
            match tx.try_send(message) {
                Ok(()) => sent.add(message),
                Err(TrySendError::Full(_)) => return Ok(()),
                Err(error) => return Err(anyhow::anyhow!("{error}")).context("not full"),
            }
        }
    }
}

fn read(rx: &Receiver, received: &mut Received) {
    while let Ok(message) = rx.try_recv() {
        received.check(&message);
    }
}

async fn rest(monitor: &Monitor, made: usize, seen: &mut Seen) {
    let began = Instant::now();
    let to_two = down_to(TWO_SEGMENTS, monitor, began).await;
    let to_none = down_to(0, monitor, began).await;
    seen.never += u32::from(to_two.is_none() || to_none.is_none());
    seen.longest_to_two = seen.longest_to_two.max(to_two.unwrap_or(PATIENCE));
    seen.longest_to_none = seen.longest_to_none.max(to_none.unwrap_or(PATIENCE));
    seen.heap_at_rest = seen.heap_at_rest.max(heap::in_use().saturating_sub(made));
}

/// How long it took until the channel had no more memory than that.
async fn down_to(limit: usize, monitor: &Monitor, began: Instant) -> Option<Duration> {
    while began.elapsed() < PATIENCE {
        if monitor.stats().memory_bytes() <= limit {
            return Some(began.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    None
}
