//! Memory stays bounded though the receiver keeps its messages.
//!
//! The messages are slices of the channel's own memory, so messages that were received but are still held fill the
//! channel. The senders wait, the monitor shows why, and memory stays under the configured bound.
//!
//! ```text
//! cargo run --release --example bounded_memory
//! ```
//!
//! First the receiver keeps every message, which stops the senders: only the receiver can release that memory. Then it
//! keeps the latest messages only, and 16 times the bound passes through.

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
/// How many of the latest messages the receiver keeps in the second phase: half of what fits.
const KEPT: usize = MAX_BYTES / MESSAGE_BYTES / 2;
/// What the process needs besides the channel: the kept `Bytes` handles, stacks, and the allocator's own reserve.
const OTHER_BYTES: usize = 16 * MIB;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (tx, mut rx) =
        turbostream::builder().name("kept").max_bytes(MAX_BYTES).read_mode(ReadMode::ZeroCopy).build()?;
    let mut peak = Peak { monitor: rx.monitor(), resident_before: resident(), channel: 0, resident: 0 };
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        senders.spawn(send(sender, tx.clone()));
    }
    drop(tx);

    let mut kept = VecDeque::new();
    let mut next = [0; SENDERS as usize];
    receive(&mut rx, &mut kept, &mut next, &mut peak, usize::MAX).await?;
    let stats = peak.monitor.stats();
    println!("after {} messages no more arrive: {}", kept.len(), explain(&stats));
    ensure!(stats.waiting_senders == SENDERS as usize, "the senders should wait: {stats:?}");
    ensure!(
        stats.lent_bytes + stats.active_bytes > MAX_BYTES / 2,
        "most of the memory should be lent: {stats:?}"
    );

    kept.drain(..kept.len().saturating_sub(KEPT));
    receive(&mut rx, &mut kept, &mut next, &mut peak, KEPT).await?;
    ensure!(next.iter().sum::<u64>() == MESSAGES, "lost: {next:?}");
    senders.join_all().await;
    let stats = peak.monitor.stats();
    println!("keeping the latest {} only, all {MESSAGES} passed through: {}", kept.len(), explain(&stats));
    peak.report()?;

    drop(kept);
    let left = peak.monitor.stats().lent_bytes;
    ensure!(left == 0, "{left} bytes are still lent");
    println!("nothing is lent once the last message is dropped");
    Ok(())
}

/// Sends one sender's share of the messages. Waits while the channel has no room.
async fn send(sender: u64, tx: Sender) {
    let mut message = [sender as u8; MESSAGE_BYTES];
    for number in 0..MESSAGES / SENDERS {
        message[..8].copy_from_slice(&number.to_le_bytes());
        tx.send(&message).await.expect("the receiver is open");
    }
}

/// Receives and keeps the latest `limit` messages, until the channel is closed or every sender waits for room.
async fn receive(
    rx: &mut Receiver,
    kept: &mut VecDeque<Bytes>,
    next: &mut [u64; SENDERS as usize],
    peak: &mut Peak,
    limit: usize,
) -> anyhow::Result<()> {
    loop {
        let message = match rx.recv_timeout(Duration::from_millis(500)).await {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) if peak.monitor.stats().waiting_senders < SENDERS as usize => {
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
            peak.sample()?;
        }
    }
}

/// Describes the memory of the channel, and why its senders wait.
fn explain(stats: &Stats) -> String {
    let mib = |bytes: usize| bytes as f64 / MIB as f64;
    let reason = match stats.waiting_senders {
        0 => "no sender waits".to_string(),
        waiting if stats.lent_bytes + stats.active_bytes > stats.sealed_bytes => {
            format!("{waiting} senders wait for a receiver that keeps its messages")
        }
        waiting => format!("{waiting} senders wait for a slow receiver"),
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

/// The peak memory of the channel and of the process.
struct Peak {
    monitor: Monitor,
    resident_before: Option<usize>,
    channel: usize,
    resident: usize,
}

impl Peak {
    fn sample(&mut self) -> anyhow::Result<()> {
        let bytes = self.monitor.stats().memory_bytes();
        ensure!(bytes <= MAX_BYTES, "the channel uses {bytes} bytes, its bound is {MAX_BYTES}");
        self.channel = self.channel.max(bytes);
        self.resident = self.resident.max(resident().unwrap_or(0));
        Ok(())
    }

    fn report(&self) -> anyhow::Result<()> {
        println!(
            "verified: {} MiB passed through a channel that never used more than {:.1} of its {} MiB",
            MESSAGES as usize * MESSAGE_BYTES / MIB,
            self.channel as f64 / MIB as f64,
            MAX_BYTES / MIB
        );
        let Some(before) = self.resident_before else { return Ok(()) };
        let grown = self.resident.saturating_sub(before);
        println!("verified: the process grew by {:.1} MiB", grown as f64 / MIB as f64);
        ensure!(grown <= MAX_BYTES + OTHER_BYTES, "the process grew by {grown} bytes");
        Ok(())
    }
}

/// Returns the resident memory of this process in bytes, on Linux.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<usize>().ok()? * 1024)
}
