//! A long run of the forwarder into JetStream. Kills the server with SIGKILL at intervals, then reads the stream and
//! checks that it has each message once and in order. Exits with 1 if a check fails.
//!
//! ```text
//! cargo run --release --manifest-path tools/soak/Cargo.toml --features nats --bin forward -- --minutes 60
//! ```

#[allow(dead_code, reason = "one server is all that is used of it")]
#[path = "../../../../examples/common/nats_server.rs"]
mod server;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::stream::{Config, StorageType};
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use clap::Parser;
use futures::StreamExt;
use tokio::time::MissedTickBehavior;
use turbostream::forward::{ForwardHandle, Forwarder, JetStream, JetStreamEvents};
use turbostream::{Monitor, Sender};

use server::NatsServer;

const STREAM: &str = "SOAK";
const SUBJECT: &str = "soak.messages";
/// The number of sender tasks.
const SENDERS: usize = 4;
/// The sender and the number of a message, in hexadecimal digits, then padding.
const MESSAGE_BYTES: usize = 128;
const MAX_BYTES: usize = 16 << 20;
/// The interval in which a sender sends its share of the rate.
const TICK: Duration = Duration::from_millis(10);
/// The time for the server to answer after the last kill, and for what is queued then.
const SHUTDOWN: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Parser)]
#[command(about = "turbostream's forwarder into a JetStream server that is killed again and again")]
struct Arguments {
    /// Duration of the load; the check takes about a twentieth of it on top.
    #[arg(long, default_value_t = 60.0, value_name = "N")]
    minutes: f64,
    /// Time between two kills, in seconds.
    #[arg(long, default_value_t = 60.0, value_name = "SECONDS")]
    kill_every: f64,
    /// Messages per second, of 128 bytes.
    #[arg(long, default_value_t = 5000, value_name = "N")]
    rate: u64,
    /// Do not use strict order, but the ids of messages and the stream's duplicate window alone.
    #[arg(long)]
    without_strict_order: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !server::is_installed() {
        eprintln!("{}", server::HOW_TO_INSTALL);
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match runtime.block_on(run(arguments)) {
        Ok(()) => {
            println!("everything passed");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let mut server = NatsServer::start("");
    let url = server.url();
    let (context, events) = connect(&url).await?;
    let config = Config {
        name: STREAM.into(),
        subjects: vec![SUBJECT.into()],
        storage: StorageType::File,
        duplicate_window: Duration::from_secs(120),
        ..Config::default()
    };
    context.create_stream(config).await.context("the stream was not created")?;

    let (tx, rx) = turbostream::builder().max_bytes(MAX_BYTES).build()?;
    let destination = JetStream::new(context, SUBJECT).events(events);
    let forwarder = Forwarder::new(rx, destination);
    let forwarder = if arguments.without_strict_order { forwarder } else { forwarder.strict_order() };
    let handle = forwarder.spawn();

    let end = Instant::now() + Duration::from_secs_f64(60.0 * arguments.minutes);
    let monitor = tx.monitor();
    let load = load(&tx, arguments.rate, end);
    let faults = faults(&mut server, arguments, &handle, end);
    let (sent, kills, memory_peak) = tokio::join!(load, faults, memory_peak(&monitor, end));
    let (sent, kills) = (sent?, kills?);
    drop(tx);
    let report = handle.shutdown_timeout(SHUTDOWN).await.context("the forwarder ended early")?;
    let total: u64 = sent.iter().sum();
    println!(
        "{total} messages sent, {} confirmed, {} retries; the server was killed {kills} times",
        report.stats.confirmed, report.stats.retried
    );
    println!("channel at most {memory_peak} of {MAX_BYTES} bytes");
    let found = read(&url, sent).await?;
    println!("in the stream: {} missing, {} twice, {} out of order", found.missing, found.twice, found.late);
    ensure!(report.stats.confirmed == total, "a message was not confirmed");
    ensure!(memory_peak <= MAX_BYTES, "the channel exceeded its memory");
    ensure!(found.missing == 0 && found.twice == 0, "a message is missing or there twice");
    ensure!(arguments.without_strict_order || found.late == 0, "a message is out of order");
    Ok(())
}

async fn connect(url: &str) -> Result<(Context, JetStreamEvents)> {
    let events = JetStreamEvents::new();
    let options = async_nats::ConnectOptions::new().event_callback(events.callback());
    Ok((jetstream::new(options.connect(url).await?), events))
}

/// Sends messages until `end`. Returns how many each sender has sent.
async fn load(tx: &Sender, rate: u64, end: Instant) -> Result<[u64; SENDERS]> {
    let share = (rate as f64 * TICK.as_secs_f64() / SENDERS as f64).max(1.0) as u64;
    let senders = std::array::from_fn::<_, SENDERS, _>(|sender| {
        let tx = tx.clone();
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(TICK);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut sent = 0;
            while Instant::now() < end {
                interval.tick().await;
                for _ in 0..share {
                    tx.send(message(sender, sent)).await?;
                    sent += 1;
                }
            }
            anyhow::Ok(sent)
        })
    });
    let mut sent = [0; SENDERS];
    for (sent, sender) in sent.iter_mut().zip(senders) {
        *sent = sender.await??;
    }
    Ok(sent)
}

/// Kills the server at intervals until `end`, and prints the state of the forwarder. Returns the number of kills.
async fn faults(
    server: &mut NatsServer,
    arguments: Arguments,
    handle: &ForwardHandle,
    end: Instant,
) -> Result<u32> {
    let pause = Duration::from_secs_f64(arguments.kill_every);
    let mut kills = 0;
    while Instant::now() + pause < end {
        tokio::time::sleep(pause).await;
        ensure!(!handle.is_finished(), "the forwarder ended: {:?}", handle.join().await);
        tokio::task::block_in_place(|| {
            server.kill();
            server.restart();
        });
        kills += 1;
        println!("kill {kills}: {} confirmed", handle.stats().confirmed);
    }
    tokio::time::sleep_until(end.into()).await;
    Ok(kills)
}

/// Samples the memory of the channel until `end`. Returns the maximum.
async fn memory_peak(monitor: &Monitor, end: Instant) -> usize {
    let mut interval = tokio::time::interval(Duration::from_millis(20));
    let mut peak = 0;
    while Instant::now() < end {
        interval.tick().await;
        peak = peak.max(monitor.stats().memory_bytes());
    }
    peak
}

fn message(sender: usize, number: u64) -> String {
    format!("{sender:02x}{number:014x}{:padding$}", "", padding = MESSAGE_BYTES - 16)
}

/// Returns the sender and the number of a message.
fn origin(message: &Bytes) -> Option<(usize, u64)> {
    let digits = std::str::from_utf8(message.get(..16)?).ok()?;
    let sender = usize::from_str_radix(&digits[..2], 16).ok()?;
    Some((sender, u64::from_str_radix(&digits[2..], 16).ok()?))
}

/// What a stream has of the messages that were sent.
#[derive(Default)]
struct Found {
    missing: u64,
    twice: u64,
    /// Messages after one of their sender with a higher number.
    late: u64,
}

/// Reads the stream from the beginning. `sent` are the numbers of messages of each sender.
async fn read(url: &str, sent: [u64; SENDERS]) -> Result<Found> {
    let (context, _) = connect(url).await?;
    let stream = context.get_stream(STREAM).await?;
    let total = stream.cached_info().state.messages;
    let consumer = stream.create_consumer(OrderedConfig::default()).await?;
    let mut messages = consumer.messages().await?.take(usize::try_from(total)?);
    let mut seen = sent.map(|count| vec![false; count as usize]);
    let (mut found, mut highest) = (Found::default(), [None; SENDERS]);
    while let Some(message) = messages.next().await {
        let message = message?;
        let (sender, number) = origin(&message.payload).context("a message that was not sent")?;
        let seen = seen.get_mut(sender).and_then(|seen| seen.get_mut(number as usize));
        let seen = seen.context("a message that was not sent")?;
        found.twice += u64::from(std::mem::replace(seen, true));
        let highest = &mut highest[sender];
        found.late += u64::from(highest.is_some_and(|highest| number < highest));
        *highest = (*highest).max(Some(number));
    }
    found.missing = seen.iter().flatten().filter(|seen| !**seen).count() as u64;
    Ok(found)
}
