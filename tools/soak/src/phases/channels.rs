//! Channels that are created, used and dropped in random states.

use std::collections::VecDeque;
use std::future::Future;
use std::task::{Context, Waker};
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use tokio::runtime::Runtime;
use turbostream::{MessageCount, ReadMode, Receiver, Sender, TimeWindow, WhenFull};

use crate::message::{self, mix};
use crate::phase::{Findings, Progress, change, settled_heap};

/// Channels before the first measurement, which excludes what the runtime allocates once.
const WARMUP: u32 = 200;
/// The number of messages that outlive their channels.
const RETAINED: usize = 32;

pub fn run(channels: u32, progress: &Progress) -> Result<Findings> {
    let mut findings = Findings::default();
    let runtime = Runtime::new()?;
    let create = |numbers: std::ops::Range<u32>| {
        let mut retained = VecDeque::with_capacity(RETAINED + 1);
        runtime.block_on(async {
            for number in numbers {
                create_and_drop(u64::from(number), &mut retained)?;
                if number % 64 == 0 {
                    progress.show(format!("{number} of {channels}"));
                    tokio::task::yield_now().await;
                }
            }
            let changed = retained.iter().filter(|message| message::read(message).is_err()).count();
            ensure!(changed == 0, "{changed} messages changed after their channel was dropped");
            Ok(())
        })
    };
    create(0..WARMUP)?;
    let before = settled_heap();
    create(WARMUP..WARMUP + channels)?;
    let after = settled_heap();
    findings.note(format!("{channels} channels"));
    // Less than a byte per channel.
    findings.check(after < before + channels as usize, format!("heap {}", change(before, after)));
    Ok(findings)
}

fn build(random: u64) -> Result<(Sender, Receiver)> {
    let bits = |at: u32| (random >> at) as usize;
    let builder = turbostream::builder()
        .segment_bytes([256, 4 << 10, 64 << 10][bits(0) % 3])
        .segment_messages([4, 64, 1024][bits(4) % 3])
        .max_bytes(1 << 20)
        .read_mode([ReadMode::Safe, ReadMode::ZeroCopy][bits(8) % 2])
        .on_demand(bits(9) % 4 > 0)
        .when_full(
            [WhenFull::Wait, WhenFull::Reject, WhenFull::DropNewest, WhenFull::DropOldest][bits(12) % 4],
        );
    let builder = match bits(16) % 3 {
        0 => builder.strategy(MessageCount(7)),
        1 => builder.strategy(TimeWindow(Duration::from_millis(1))),
        _ => builder,
    };
    Ok(builder.build()?)
}

fn create_and_drop(number: u64, retained: &mut VecDeque<Bytes>) -> Result<()> {
    let random = mix(number);
    let (tx, mut rx) = build(random)?;
    for message in 0..[0, 1, 30, 1000][(random >> 20) as usize % 4] {
        let len = [0, 20, 128, 3000, 40_000][mix(random ^ message) as usize % 5];
        let mut bytes = vec![0; len];
        message::write(0, message, &mut bytes);
        // Fails if there is no room. Some messages are external.
        let _ = if message % 2 == 0 { tx.try_send(bytes).is_ok() } else { tx.try_send(&bytes[..]).is_ok() };
    }
    for _ in 0..(random >> 24) % 40 {
        let Ok(message) = rx.try_recv() else { break };
        ensure!(message::read(&message).is_ok(), "torn in channel {number}");
        retained.push_back(message);
        retained.drain(..retained.len().saturating_sub(RETAINED));
    }
    drop_all(number, tx, rx);
    Ok(())
}

/// Drops all handles in a random order, some with pending futures.
fn drop_all(random: u64, tx: Sender, rx: Receiver) {
    let (other_tx, mut other_rx, mut batches) = (tx.clone(), rx.clone(), rx.clone());
    let mut waiting = Box::pin(async move {
        let large = vec![0; 300_000];
        futures::join!(other_rx.recv(), batches.recv_batch(3), other_tx.send(large), other_tx.drained())
    });
    if random % 3 > 0 {
        let _ = waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
    match random % 5 {
        0 => drop((tx, rx, waiting)),
        1 => drop((waiting, rx, tx)),
        2 => drop((rx.into_reader(), waiting, tx.into_writer())),
        3 => drop((rx.on_message(drop), tx, waiting)),
        _ => {
            rx.close();
            drop((tx.downgrade(), waiting, tx, rx));
        }
    }
}
