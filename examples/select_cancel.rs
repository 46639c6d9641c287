//! Graceful shutdown that loses nothing: `tokio::select!` and a `CancellationToken`.
//!
//! Four producers send into a small channel whose consumer is slower than they are. Most of the time they wait
//! for room, and the stop cancels them during such a wait. A cancelled `send` has either sent the whole message
//! or nothing, so exactly the messages that each producer counted arrive. The consumer receives until the channel
//! is closed and drained.
//!
//! ```text
//! cargo run --release --example select_cancel            # stops by itself after 50,000 messages
//! cargo run --release --example select_cancel -- --wait  # stops at Ctrl-C, on Unix also at SIGTERM
//! ```

#[path = "common/interrupt.rs"]
mod interrupt;

use std::hint::black_box;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use turbostream::{Receiver, Sender};

const PRODUCERS: usize = 4;
const STOP_AFTER: u64 = 50_000;
const MESSAGE_BYTES: usize = 512;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let until_interrupt = std::env::args().any(|argument| argument == "--wait");
    let (tx, rx) =
        turbostream::builder().segment_bytes(16 * 1024).segment_messages(256).max_bytes(64 * 1024).build()?;
    let monitor = rx.monitor();
    let stop = CancellationToken::new();

    let mut producers = JoinSet::new();
    for id in 0..PRODUCERS {
        producers.spawn(produce(id, tx.clone(), stop.clone()));
    }
    drop(tx); // the producers hold the only senders: when the last one ends, the channel closes
    let consumer = tokio::spawn(consume(rx, stop.clone(), (!until_interrupt).then_some(STOP_AFTER)));

    tokio::select! {
        () = stop.cancelled() => println!("the consumer has received {STOP_AFTER} messages: stopping"),
        interrupted = interrupt::interrupt() => {
            interrupted?;
            println!("interrupted: stopping");
            stop.cancel();
        }
    }

    let mut sent = [0; PRODUCERS];
    let mut cancelled = 0;
    for (id, count, was_waiting) in producers.join_all().await {
        sent[id] = count;
        cancelled += u32::from(was_waiting);
    }
    let received = consumer.await?;

    println!("{cancelled} of {PRODUCERS} producers were cancelled while they waited in send()");
    for id in 0..PRODUCERS {
        println!("producer {id}: {:>9} sent, {:>9} received", sent[id], received[id]);
    }
    let stats = monitor.stats();
    println!(
        "channel:    {:>9} sent, {:>9} received, {} dropped, {} queued",
        stats.sent_messages, stats.received_messages, stats.dropped_messages, stats.queued_messages
    );

    assert_eq!(sent, received, "every sent message arrives, and no other");
    assert_eq!(stats.sent_messages, sent.iter().sum::<u64>());
    assert_eq!(stats.sent_messages, stats.received_messages + stats.dropped_messages + stats.queued_messages);
    println!("verified: no message lost or duplicated, and those of each producer in order");
    Ok(())
}

/// Sends numbered messages until the stop. Returns how many were sent, and whether the stop cancelled a wait for room.
async fn produce(id: usize, tx: Sender, stop: CancellationToken) -> (usize, u64, bool) {
    for number in 0_u64.. {
        let mut message = [id as u8; MESSAGE_BYTES];
        message[..8].copy_from_slice(&(id as u64).to_le_bytes());
        message[8..16].copy_from_slice(&number.to_le_bytes());
        tokio::select! {
            // No message is lost in either order. With `send` first, a producer that stops here was waiting for room.
            biased;
            sent = tx.send(&message) => if sent.is_err() { return (id, number, false) },
            () = stop.cancelled() => return (id, number, true),
        }
        if stop.is_cancelled() {
            return (id, number + 1, false);
        }
    }
    unreachable!("2^64 messages")
}

/// Receives until the channel is closed and drained. Requests the stop after `stop_after` messages.
async fn consume(mut rx: Receiver, stop: CancellationToken, stop_after: Option<u64>) -> [u64; PRODUCERS] {
    let mut received = [0; PRODUCERS];
    let mut total = 0;
    let mut heartbeat = tokio::time::interval(Duration::from_millis(250));
    loop {
        tokio::select! {
            // The heartbeat may win and drop this `recv`. A dropped `recv` has taken no message.
            message = rx.recv() => {
                let Some(message) = message else { return received };
                let (id, number) = check(&message);
                assert_eq!(number, received[id], "producer {id}: lost, repeated or out of order");
                received[id] += 1;
                total += 1;
                if Some(total) == stop_after {
                    stop.cancel();
                }
            }
            _ = heartbeat.tick() => println!("{total} messages so far"),
        }
    }
}

/// Returns the producer of a message and its number. Checks every byte 16 times, which makes the producers wait.
fn check(message: &[u8]) -> (usize, u64) {
    let id = u64::from_le_bytes(message[..8].try_into().expect("8 bytes")) as usize;
    let number = u64::from_le_bytes(message[8..16].try_into().expect("8 bytes"));
    for _ in 0..16 {
        assert!(black_box(&message[16..]).iter().all(|&byte| usize::from(byte) == id), "a torn message");
    }
    (id, number)
}
