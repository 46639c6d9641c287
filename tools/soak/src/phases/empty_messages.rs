//! Empty messages: each takes an entry, so `max_bytes` limits their number.

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use turbostream::{Monitor, Receiver, Sender, TrySendError};

use crate::heap;
use crate::phase::{Findings, Progress, bytes, change, count, settled_heap};

const SENDERS: u64 = 4;
const GROUP: u64 = 64;
const MAX_BYTES: usize = 4 << 20;
const OVERHEAD: usize = 256 << 10;
const HEAP_TOLERANCE: usize = 64 << 10;
/// The minimum that an empty message takes of `max_bytes`.
const ENTRY: usize = 8;

pub fn run(messages: u64, progress: &Progress) -> Result<Findings> {
    let mut findings = Findings::default();
    let before = heap::in_use();
    heap::take_peak();
    Runtime::new()?.block_on(async {
        let (tx, mut rx) = turbostream::builder().max_bytes(MAX_BYTES).build()?;
        let monitor = tx.monitor();
        fill(&tx, &mut rx, &mut findings)?;
        stream(tx, rx, messages, &monitor, progress, &mut findings).await
    })?;
    let peak = heap::take_peak().saturating_sub(before);
    let bound = MAX_BYTES + OVERHEAD;
    findings.check(peak <= bound, format!("heap at most {} more, bound {}", bytes(peak), bytes(bound)));
    let after = settled_heap();
    findings.check(after <= before + HEAP_TOLERANCE, format!("heap {} afterwards", change(before, after)));
    Ok(findings)
}

/// Fills the channel without a receiver, then drains it.
fn fill(tx: &Sender, rx: &mut Receiver, findings: &mut Findings) -> Result<()> {
    let mut fitted = 0;
    loop {
        match tx.try_send("") {
            Ok(()) => fitted += 1,
            Err(TrySendError::Full(_)) => break,
            Err(error) => return Err(error).context("not full"),
        }
    }
    let stats = tx.monitor().stats();
    findings.check(
        fitted <= MAX_BYTES / ENTRY && stats.memory_bytes() <= MAX_BYTES,
        format!("full of {} unread in {}", count(fitted as u64), bytes(stats.memory_bytes())),
    );
    let read = std::iter::from_fn(|| rx.try_recv().ok()).filter(|message| message.is_empty()).count();
    findings.check(read == fitted, "all of them received");
    Ok(())
}

async fn stream(
    tx: Sender,
    mut rx: Receiver,
    messages: u64,
    monitor: &Monitor,
    progress: &Progress,
    findings: &mut Findings,
) -> Result<()> {
    let before = monitor.stats().received_messages;
    let groups = messages / SENDERS / GROUP;
    for _ in 0..SENDERS {
        let tx = tx.clone();
        tokio::spawn(async move {
            for _ in 0..groups {
                if tx.send_many((0..GROUP).map(|_| "")).await.is_err() {
                    return;
                }
            }
        });
    }
    drop(tx);
    let progress = progress.clone();
    let receiving = tokio::spawn(async move {
        let (mut received, mut bytes, mut batches) = (0, 0, 0_u64);
        while let Some(batch) = rx.recv_batch(4096).await {
            received += batch.len() as u64;
            bytes += batch.payload_bytes();
            batches += 1;
            if batches % 4096 == 0 {
                progress.show(format!("{} of {}", count(received), count(messages)));
            }
        }
        (received, bytes)
    });
    let (received, bytes) = receiving.await.context("the receiver panicked")?;
    let sent = groups * GROUP * SENDERS;
    findings.check(
        received == sent && bytes == 0 && monitor.stats().received_messages - before == sent,
        format!("{} of {} received from four senders", count(received), count(sent)),
    );
    Ok(())
}
