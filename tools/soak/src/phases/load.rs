//! Full load: four senders and four receivers use every method of sending and receiving for a given time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use turbostream::{Monitor, Stats};

use super::receivers::receive_all;
use super::samples::Samples;
use super::senders::send_until;
use crate::heap;
use crate::phase::{Findings, Progress, change, count, settled_heap};
use crate::tally::{Received, SENDERS, Tally};

const RECEIVERS: usize = 4;
const MAX_BYTES: usize = 16 << 20;
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);
/// No message received for this long means a lost wakeup.
const STALLED_AFTER: Duration = Duration::from_secs(60);
/// The maximum growth of the heap.
const HEAP_TOLERANCE: usize = 64 << 10;

pub fn run(duration: Duration, progress: &Progress) -> Result<Findings> {
    let mut findings = Findings::default();
    let before = heap::in_use();
    let runtime = Runtime::new()?;
    let mut samples = Samples::begin();
    let (sent, received, stats) = runtime.block_on(pass(duration, progress, &mut samples))?;
    drop(runtime);
    check_run(&sent, &received, &stats, duration, &mut findings);
    samples.check(MAX_BYTES, &mut findings);
    drop(samples);
    let after = settled_heap();
    findings.check(after <= before + HEAP_TOLERANCE, format!("heap {} afterwards", change(before, after)));
    Ok(findings)
}

async fn pass(
    duration: Duration,
    progress: &Progress,
    samples: &mut Samples,
) -> Result<(Tally, Vec<Received>, Stats)> {
    let (tx, rx) = turbostream::builder().max_bytes(MAX_BYTES).build()?;
    let monitor = tx.monitor();
    let stop = Arc::new(AtomicBool::new(false));
    let mut receiving = JoinSet::new();
    (0..RECEIVERS).for_each(|method| drop(receiving.spawn(receive_all(rx.clone(), method))));
    drop(rx);
    let mut sending = JoinSet::new();
    for sender in 0..SENDERS as u32 {
        let (tx, stop) = (tx.clone(), Arc::clone(&stop));
        sending.spawn(async move { send_until(&stop, tx, sender).await });
    }
    drop(tx);
    let watched = watch(&monitor, duration, progress, samples).await;
    stop.store(true, Relaxed);
    watched?;
    let mut sent = Tally::default();
    while let Some(result) = sending.join_next().await {
        sent.merge(&result.context("a sender panicked")??);
    }
    let mut received = Vec::new();
    while let Some(result) = receiving.join_next().await {
        received.push(result.context("a receiver panicked")?);
    }
    Ok((sent, received, monitor.stats()))
}

/// Samples memory and checks for progress until the time is over.
async fn watch(
    monitor: &Monitor,
    duration: Duration,
    progress: &Progress,
    samples: &mut Samples,
) -> Result<()> {
    let (began, mut ticks) = (Instant::now(), tokio::time::interval(SAMPLE_INTERVAL));
    let (mut received, mut received_at) = (0, began);
    while began.elapsed() < duration {
        ticks.tick().await;
        samples.take(monitor);
        let stats = monitor.stats();
        if stats.received_messages != received {
            (received, received_at) = (stats.received_messages, Instant::now());
        }
        ensure!(
            received_at.elapsed() < STALLED_AFTER,
            "no message received for {STALLED_AFTER:?}: {stats:?}"
        );
        let rate = received as f64 / began.elapsed().as_secs_f64() / 1e6;
        progress.show(format!("of {duration:?}, {} messages, {rate:.2} million a second", count(received)));
    }
    Ok(())
}

fn check_run(
    sent: &Tally,
    received: &[Received],
    stats: &Stats,
    duration: Duration,
    findings: &mut Findings,
) {
    let mut total = Tally::default();
    received.iter().for_each(|received| total.merge(&received.tally));
    let torn = received.iter().map(|received| received.torn).sum::<u64>();
    let reordered = received.iter().map(|received| received.reordered).sum::<u64>();
    let rate = sent.messages() as f64 / duration.as_secs_f64() / 1e6;
    findings.note(format!(
        "{} messages, {} million bytes, {rate:.2} million messages a second",
        count(sent.messages()),
        count(sent.bytes / 1_000_000)
    ));
    let shares = received.iter().map(|received| count(received.tally.messages())).collect::<Vec<_>>();
    findings.note(format!("recv, recv_batch, recv_many, stream: {}", shares.join(", ")));
    let (lost, duplicated) =
        (sent.messages().saturating_sub(total.messages()), total.messages().saturating_sub(sent.messages()));
    findings.check(
        total == *sent && (lost, duplicated, torn, reordered) == (0, 0, 0, 0),
        format!("lost {lost}, duplicated {duplicated}, torn {torn}, reordered {reordered}; received = sent"),
    );
    let counted = (stats.sent_messages, stats.received_messages, stats.dropped_messages);
    findings.check(
        counted == (sent.messages(), sent.messages(), 0) && stats.queued_messages == 0,
        "the statistics match",
    );
    let all = received.iter().all(|received| received.tally.messages() > 0);
    findings.check(all, "each receiver received messages");
}
