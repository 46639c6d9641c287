//! A receiver that keeps what it gets. Its messages are slices of the channel's own memory, so the channel fills up with
//! what is long received; the senders wait, the monitor says why, and memory stays under the bound that was set.
//!
//! ```text
//! cargo run --release --example bounded_memory
//! ```
//!
//! First the receiver keeps everything, which stops the senders: nobody else can give that memory back. Then it keeps the
//! latest messages only, and many times the bound passes through.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use tokio::task::JoinSet;
use turbostream::{Monitor, ReadMode, Receiver, RecvTimeoutError, Sender, Stats};

const MIB: usize = 1 << 20;
const MAX_BYTES: usize = 16 * MIB;
const SENDERS: u64 = 4;
const MESSAGE_BYTES: usize = 1024;
const MESSAGES: u64 = 256 * MIB as u64 / MESSAGE_BYTES as u64;
/// How many of the latest messages the receiver keeps in the end: half of what would fit.
const KEPT: usize = MAX_BYTES / MESSAGE_BYTES / 2;
/// What a process needs beside the channel: the kept `Bytes` themselves, stacks, and the allocator's own reserve.
const BESIDE: usize = 16 * MIB;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (tx, rx) =
        turbostream::builder().name("kept").max_bytes(MAX_BYTES).read_mode(ReadMode::ZeroCopy).build()?;
    let mut watch = Watch { monitor: rx.monitor(), before: resident(), most: 0, most_resident: 0 };
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        senders.spawn(send(sender, tx.clone()));
    }
    drop(tx);

    let mut kept = VecDeque::new();
    let mut next = [0; SENDERS as usize];
    receive(&rx, &mut kept, &mut next, &mut watch, usize::MAX).await?;
    let stats = watch.monitor.stats();
    println!("after {} messages nothing comes any more: {}", kept.len(), explain(&stats));
    ensure!(stats.waiting_senders == SENDERS as usize, "the senders should wait: {stats:?}");
    ensure!(stats.lent_bytes + stats.active_bytes > MAX_BYTES / 2, "for what is lent: {stats:?}");

    kept.drain(..kept.len().saturating_sub(KEPT));
    receive(&rx, &mut kept, &mut next, &mut watch, KEPT).await?;
    ensure!(next.iter().sum::<u64>() == MESSAGES, "lost: {next:?}");
    senders.join_all().await;
    let stats = watch.monitor.stats();
    println!("keeping the latest {} only, all {MESSAGES} went through: {}", kept.len(), explain(&stats));
    watch.report()?;

    drop(kept);
    let left = watch.monitor.stats().lent_bytes;
    ensure!(left == 0, "{left} bytes are still lent");
    println!("nothing is lent once the last message is dropped");
    Ok(())
}

/// Sends its share of the messages, waiting wherever there is no room.
async fn send(sender: u64, tx: Sender) {
    let mut message = [sender as u8; MESSAGE_BYTES];
    for number in 0..MESSAGES / SENDERS {
        message[..8].copy_from_slice(&number.to_le_bytes());
        tx.send(&message).await.expect("the receiver is there");
    }
}

/// Receives until the channel is closed, or every sender waits for room that does not come, and keeps the latest `limit` messages.
async fn receive(
    rx: &Receiver,
    kept: &mut VecDeque<Bytes>,
    next: &mut [u64; SENDERS as usize],
    watch: &mut Watch,
    limit: usize,
) -> anyhow::Result<()> {
    loop {
        let message = match rx.recv_timeout(Duration::from_millis(500)).await {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) if watch.monitor.stats().waiting_senders < SENDERS as usize => {
                continue;
            }
            Err(_) => return Ok(()),
        };
        let number = u64::from_le_bytes(message[..8].try_into()?);
        let sender = usize::from(message[8]);
        ensure!(number == next[sender], "lost, repeated or out of order: {number} of sender {sender}");
        next[sender] += 1;
        kept.push_back(message);
        if kept.len() > limit {
            kept.pop_front();
        }
        if number % 64 == 0 {
            watch.look()?;
        }
    }
}

/// What an operator would want to be told about senders that wait.
fn explain(stats: &Stats) -> String {
    let mib = |bytes: usize| bytes as f64 / MIB as f64;
    let reason = match stats.waiting_senders {
        0 => "nobody waits".to_string(),
        waiting if stats.lent_bytes + stats.active_bytes > stats.sealed_bytes => {
            format!("{waiting} senders wait for a receiver that keeps what it got")
        }
        waiting => format!("{waiting} senders wait for a receiver that is slow"),
    };
    format!(
        "{reason}\n  {:.1} of {:.1} MiB: {:.1} lent, {:.1} sealed, {:.1} active, {:.1} pooled; {} messages queued",
        mib(stats.memory_bytes()),
        mib(stats.max_bytes),
        mib(stats.lent_bytes),
        mib(stats.sealed_bytes),
        mib(stats.active_bytes),
        mib(stats.pooled_bytes),
        stats.queued_messages
    )
}

/// Looks at the memory as often as it is asked to, and remembers the most.
struct Watch {
    monitor: Monitor,
    before: Option<usize>,
    most: usize,
    most_resident: usize,
}

impl Watch {
    fn look(&mut self) -> anyhow::Result<()> {
        let bytes = self.monitor.stats().memory_bytes();
        ensure!(bytes <= MAX_BYTES, "the channel takes {bytes} bytes, its bound is {MAX_BYTES}");
        self.most = self.most.max(bytes);
        self.most_resident = self.most_resident.max(resident().unwrap_or(0));
        Ok(())
    }

    fn report(&self) -> anyhow::Result<()> {
        println!(
            "verified: {} MiB went through a channel that never took more than {:.1} of its {} MiB",
            MESSAGES as usize * MESSAGE_BYTES / MIB,
            self.most as f64 / MIB as f64,
            MAX_BYTES / MIB
        );
        let Some(before) = self.before else { return Ok(()) };
        let grown = self.most_resident.saturating_sub(before);
        println!("verified: the process grew by {:.1} MiB", grown as f64 / MIB as f64);
        ensure!(grown <= MAX_BYTES + BESIDE, "the process grew by {grown} bytes");
        Ok(())
    }
}

/// What the process has in memory, where the system tells.
fn resident() -> Option<usize> {
    let told = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = told.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<usize>().ok()? * 1024)
}
