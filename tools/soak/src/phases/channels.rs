//! Channels that are made, used a little and dropped in whatever state they are.

use std::collections::VecDeque;
use std::future::Future;
use std::task::{Context, Waker};
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use tokio::runtime::Runtime;
use turbostream::{MessageCount, ReadMode, Receiver, Sender, TimeWindow, WhenFull};

use crate::message::{self, mix};
use crate::phase::{Findings, Progress, change, heap_at_rest};

/// So many are made before it is looked how much is in use: what the runtime makes once is not counted.
const WARM: u32 = 200;
/// Messages that outlive their channel, at a time.
const KEPT: usize = 32;

pub fn run(channels: u32, progress: &Progress) -> Result<Findings> {
    let mut findings = Findings::default();
    let runtime = Runtime::new()?;
    let make = |numbers: std::ops::Range<u32>| {
        let mut kept = VecDeque::with_capacity(KEPT + 1);
        runtime.block_on(async {
            for number in numbers {
                make_and_drop(u64::from(number), &mut kept)?;
                if number % 64 == 0 {
                    progress.tell(format!("{number} of {channels}"));
                    tokio::task::yield_now().await;
                }
            }
            let changed = kept.iter().filter(|message| message::read(message).is_err()).count();
            ensure!(changed == 0, "{changed} messages changed after their channel was gone");
            Ok(())
        })
    };
    make(0..WARM)?;
    let before = heap_at_rest();
    make(WARM..WARM + channels)?;
    let after = heap_at_rest();
    findings.see(format!("{channels} channels"));
    // Less than a byte for each.
    findings.demand(after < before + channels as usize, format!("heap {}", change(before, after)));
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

fn make_and_drop(number: u64, kept: &mut VecDeque<Bytes>) -> Result<()> {
    let random = mix(number);
    let (tx, rx) = build(random)?;
    for message in 0..[0, 1, 30, 1000][(random >> 20) as usize % 4] {
        let len = [0, 20, 128, 3000, 40_000][mix(random ^ message) as usize % 5];
        let mut bytes = vec![0; len];
        message::write(0, message, &mut bytes);
        // Refused where there is no room; some travel by reference.
        let _ = if message % 2 == 0 { tx.try_send(bytes).is_ok() } else { tx.try_send(&bytes[..]).is_ok() };
    }
    for _ in 0..(random >> 24) % 40 {
        let Ok(message) = rx.try_recv() else { break };
        ensure!(message::read(&message).is_ok(), "torn in channel {number}");
        kept.push_back(message);
        kept.drain(..kept.len().saturating_sub(KEPT));
    }
    leave(number, tx, rx);
    Ok(())
}

/// Drops everything in one order or another, with futures under way or without.
fn leave(random: u64, tx: Sender, rx: Receiver) {
    let (other_tx, other_rx) = (tx.clone(), rx.clone());
    let mut waiting = Box::pin(async move {
        let large = vec![0; 300_000];
        futures::join!(other_rx.recv(), other_rx.recv_batch(3), other_tx.send(large), other_tx.drained())
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
