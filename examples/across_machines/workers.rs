//! The processes: producers that forward a channel into the stream, and consumers that get a channel from it.
//!
//! They report to the process that started them by lines on standard output, and end when their standard input is
//! closed, so none outlives that process.

use std::io::{self, Read, Write};
use std::time::Duration;

use anyhow::Context as _;
use async_nats::ConnectOptions;
use async_nats::jetstream;
use tokio::sync::oneshot;
use turbostream::Receiver;
use turbostream::forward::{Forwarder, JetStream, JetStreamSource, Packing, unpack};

use crate::message::Mark;
use crate::{CONSUMER, STREAM};

/// How many messages a producer sends before it waits until all are confirmed.
const FLUSH_EVERY: u64 = 500;
const MAX_BYTES: usize = 4 << 20;
/// How messages share a payload. In strict order a payload waits for the one before it, so packs are much faster.
pub(crate) const PACKING: Packing = Packing::Lines;
const PACK_BYTES: usize = 8 << 10;

/// What a producer sends.
#[derive(clap::Args, Debug)]
pub(crate) struct ProducerArguments {
    #[arg(long)]
    servers: String,
    #[arg(long)]
    producer: usize,
    #[arg(long)]
    life: usize,
    /// The first number.
    #[arg(long)]
    from: u64,
    /// The number after the last.
    #[arg(long)]
    to: u64,
}

/// Sends its messages through a channel, and reports `flushed NUMBER` once all before this number are confirmed.
pub(crate) async fn produce(arguments: ProducerArguments) -> anyhow::Result<()> {
    let ProducerArguments { servers, producer, life, from, to } = arguments;
    let closed = stdin_closed();
    let sending = async {
        let subject = format!("events.producer-{producer}");
        let servers: Vec<_> = servers.split(',').collect();
        let destination = JetStream::connect(servers, ConnectOptions::new(), subject).await?;
        let (tx, rx) = turbostream::builder().name("producer").max_bytes(MAX_BYTES).build()?;
        let forwarder = Forwarder::new(rx, destination)
            .message_ids(format!("producer-{producer}"))
            .strict_order()
            .pack(PACKING, PACK_BYTES)
            .retry(Duration::from_millis(20), Duration::from_millis(500))
            .confirm_timeout(Duration::from_secs(2))
            .spawn();
        let mut message = String::new();
        for number in from..to {
            Mark { producer, life, number }.write(&mut message);
            tx.send(message.as_str()).await.context("the forwarder has ended")?;
            if (number + 1) % FLUSH_EVERY == 0 || number + 1 == to {
                forwarder.flush().await?;
                report(&format!("flushed {}\n", number + 1))?;
            }
        }
        let stats = forwarder.shutdown().await?.stats;
        report(&format!("done {} {}\n", stats.retried, stats.duplicates))
    };
    tokio::select! {
        sent = sending => sent,
        _ = closed => Ok(()),
    }
}

/// Pulls messages into a channel and receives them. It reports `got MARK` for each, and `stopped` with its statistics.
pub(crate) async fn consume(servers: &str) -> anyhow::Result<()> {
    let closed = stdin_closed();
    let servers: Vec<_> = servers.split(',').collect();
    let context = jetstream::new(async_nats::connect(servers).await?);
    let consumer = context.get_consumer_from_stream(CONSUMER, STREAM).await?;
    let (tx, rx) = turbostream::builder().name("consumer").max_bytes(MAX_BYTES).build()?;
    let source = JetStreamSource::new(consumer).spawn(tx);
    let receiving = tokio::spawn(receive(rx));
    let end = tokio::select! {
        end = source.join() => end,
        _ = closed => source.stop().await,
    }?;
    drop(end.sender); // the last one: the receiver gets what is in the channel, and ends
    receiving.await??;
    report(&format!("stopped {} {}\n", end.stats.acknowledged, end.stats.redelivered))
}

async fn receive(mut rx: Receiver) -> anyhow::Result<()> {
    while let Some(batch) = rx.recv_batch(1024).await {
        let mut lines = String::new();
        for payload in batch {
            for message in unpack(PACKING, &payload) {
                let mark = Mark::read(&message?).context("a message of another publisher")?;
                lines += &format!("got {} {} {}\n", mark.producer, mark.life, mark.number);
            }
        }
        report(&lines)?;
    }
    Ok(())
}

fn report(lines: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(lines.as_bytes())?;
    Ok(out.flush()?)
}

/// Resolves once standard input is closed.
fn stdin_closed() -> oneshot::Receiver<()> {
    let (closing, closed) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        drop(closing);
    });
    closed
}
