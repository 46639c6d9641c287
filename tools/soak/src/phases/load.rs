//! Full load: four senders and four receivers, every way to send and to receive, for as long as is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use turbostream::{Monitor, Stats};

use super::receiving::receive_all;
use super::samples::Samples;
use super::sending::send_until;
use crate::heap;
use crate::phase::{Findings, Progress, change, count, heap_at_rest};
use crate::tally::{Received, SENDERS, Tally};

const RECEIVERS: usize = 4;
const MAX_BYTES: usize = 16 << 20;
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Nobody is served for so long: somebody was not woken.
const STALLED_AFTER: Duration = Duration::from_secs(60);
/// What may be left of the heap afterwards.
const LEFT_BEHIND: usize = 64 << 10;

pub fn run(lasting: Duration, progress: &Progress) -> Result<Findings> {
    let mut findings = Findings::default();
    let before = heap::in_use();
    let runtime = Runtime::new()?;
    let mut samples = Samples::begin();
    let (sent, received, stats) = runtime.block_on(pass(lasting, progress, &mut samples))?;
    drop(runtime);
    judge(&sent, &received, &stats, lasting, &mut findings);
    samples.judge(MAX_BYTES, &mut findings);
    drop(samples);
    let after = heap_at_rest();
    findings.demand(after <= before + LEFT_BEHIND, format!("heap {} afterwards", change(before, after)));
    Ok(findings)
}

async fn pass(
    lasting: Duration,
    progress: &Progress,
    samples: &mut Samples,
) -> Result<(Tally, Vec<Received>, Stats)> {
    let (tx, rx) = turbostream::builder().max_bytes(MAX_BYTES).build()?;
    let monitor = tx.monitor();
    let stop = Arc::new(AtomicBool::new(false));
    let mut receiving = JoinSet::new();
    (0..RECEIVERS).for_each(|way| drop(receiving.spawn(receive_all(rx.clone(), way))));
    drop(rx);
    let mut sending = JoinSet::new();
    for sender in 0..SENDERS as u32 {
        let (tx, stop) = (tx.clone(), Arc::clone(&stop));
        sending.spawn(async move { send_until(&stop, tx, sender).await });
    }
    drop(tx);
    let watched = watch(&monitor, lasting, progress, samples).await;
    stop.store(true, Relaxed);
    watched?;
    let mut sent = Tally::default();
    while let Some(of_one) = sending.join_next().await {
        sent.merge(&of_one.context("a sender panicked")??);
    }
    let mut received = Vec::new();
    while let Some(of_one) = receiving.join_next().await {
        received.push(of_one.context("a receiver panicked")?);
    }
    Ok((sent, received, monitor.stats()))
}

/// Looks at memory, and whether messages come, until it is time to stop.
async fn watch(
    monitor: &Monitor,
    lasting: Duration,
    progress: &Progress,
    samples: &mut Samples,
) -> Result<()> {
    let (began, mut ticks) = (Instant::now(), tokio::time::interval(LOOK_EVERY));
    let (mut seen, mut seen_at) = (0, began);
    while began.elapsed() < lasting {
        ticks.tick().await;
        samples.take(monitor);
        let stats = monitor.stats();
        if stats.received_messages != seen {
            (seen, seen_at) = (stats.received_messages, Instant::now());
        }
        ensure!(seen_at.elapsed() < STALLED_AFTER, "nothing came for {STALLED_AFTER:?}: {stats:?}");
        let rate = seen as f64 / began.elapsed().as_secs_f64() / 1e6;
        progress.tell(format!("of {lasting:?}, {} messages, {rate:.2} million a second", count(seen)));
    }
    Ok(())
}

fn judge(sent: &Tally, received: &[Received], stats: &Stats, lasting: Duration, findings: &mut Findings) {
    let mut came = Tally::default();
    received.iter().for_each(|received| came.merge(&received.tally));
    let torn = received.iter().map(|received| received.torn).sum::<u64>();
    let reordered = received.iter().map(|received| received.reordered).sum::<u64>();
    let rate = sent.messages() as f64 / lasting.as_secs_f64() / 1e6;
    findings.see(format!(
        "{} messages, {} million bytes, {rate:.2} million messages a second",
        count(sent.messages()),
        count(sent.bytes / 1_000_000)
    ));
    let shares = received.iter().map(|received| count(received.tally.messages())).collect::<Vec<_>>();
    findings.see(format!("recv, recv_batch, recv_many, stream: {}", shares.join(", ")));
    let (lost, doubled) =
        (sent.messages().saturating_sub(came.messages()), came.messages().saturating_sub(sent.messages()));
    findings.demand(
        came == *sent && (lost, doubled, torn, reordered) == (0, 0, 0, 0),
        format!("lost {lost}, doubled {doubled}, torn {torn}, reordered {reordered}; all the same ones"),
    );
    let figures = (stats.sent_messages, stats.received_messages, stats.dropped_messages);
    findings.demand(
        figures == (sent.messages(), sent.messages(), 0) && stats.queued_messages == 0,
        "the channel counts as many",
    );
    let all = received.iter().all(|received| received.tally.messages() > 0);
    findings.demand(all, "each receiver was served");
}
