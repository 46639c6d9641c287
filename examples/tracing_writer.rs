//! A service that logs through a channel: each event is copied into the channel, and one thread writes all to a file.
//!
//! ```text
//! cargo run --release --example tracing_writer --features tracing-writer
//! ```
//!
//! The first run waits when the file is too slow, so no event may be missing: the program reads the file back and checks.
//! The second run logs to a much slower output. It drops what does not fit instead of waiting, and the report counts it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::time::Instant;

use anyhow::{Context, ensure};
use tokio::task::JoinSet;
use tracing::{Instrument, info, info_span, warn};
use turbostream::{TracingWriter, WhenFull, WriteReport};

const CONNECTIONS: usize = 8;
const REQUESTS: usize = 5_000;
/// A request is logged when it is received and when it is served.
const EVENTS: usize = CONNECTIONS * REQUESTS * 2;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let path = tempfile::NamedTempFile::new()?.into_temp_path();
    let (writer, guard) = turbostream::builder()
        .name("log")
        .max_bytes(1 << 20)
        .when_full(WhenFull::Wait)
        .tracing_writer(File::create(&path)?)?;
    let began = Instant::now();
    serve(writer).await?;
    let served = began.elapsed();
    let report = guard.shutdown().await;
    println!(
        "waiting: {EVENTS} events logged in {served:.0?}, on disk {:.0?} later",
        began.elapsed() - served
    );
    println!("         {}", summary(&report));
    ensure!(report.is_complete(), "an event was lost: {report:?}");
    verify(BufReader::new(File::open(&path)?))?;
    println!("         verified: every event of every request is in the file, each connection's in order\n");

    let (writer, guard) = turbostream::builder()
        .name("log")
        .max_bytes(256 << 10)
        .when_full(WhenFull::DropNewest)
        .tracing_writer(Slow(Vec::new()))?;
    let began = Instant::now();
    serve(writer).await?;
    println!("lossy:   {EVENTS} events logged in {:.0?}, though the output is slow", began.elapsed());
    let report = guard.shutdown().await;
    println!("         {}", summary(&report));
    ensure!(
        report.error.is_none() && report.dropped_messages > 0,
        "a slow output must drop events: {report:?}"
    );
    ensure!(
        report.written_messages + report.dropped_messages == EVENTS as u64,
        "the report is incomplete: {report:?}"
    );
    println!("         verified: every event was either written or counted as dropped");
    Ok(())
}

/// Serves requests on several connections and logs each request twice.
async fn serve(writer: TracingWriter) -> anyhow::Result<()> {
    let subscriber = tracing_subscriber::fmt().with_writer(writer).with_ansi(false).finish();
    let dispatch = tracing::Dispatch::new(subscriber);
    let mut connections = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let served = async move {
            for request in 0..REQUESTS {
                info!(request, "received");
                tokio::task::yield_now().await;
                if request % 100 == 99 {
                    warn!(request, "served slowly");
                } else {
                    info!(request, "served");
                }
            }
        };
        let span = tracing::dispatcher::with_default(&dispatch, || info_span!("connection", id = connection));
        let logged =
            tracing::instrument::WithSubscriber::with_subscriber(served.instrument(span), dispatch.clone());
        connections.spawn(logged);
    }
    while let Some(ended) = connections.join_next().await {
        ended?;
    }
    Ok(())
}

fn summary(report: &WriteReport) -> String {
    let WriteReport { written_messages, written_bytes, dropped_messages, failed_messages, .. } = report;
    format!(
        "{written_messages} written ({} KiB), {dropped_messages} dropped, {failed_messages} failed",
        written_bytes / 1024
    )
}

/// Checks that every request has its two lines, and that the lines of each connection are in order.
fn verify(log: impl BufRead) -> anyhow::Result<()> {
    let mut seen = HashMap::<usize, usize>::new();
    for line in log.lines() {
        let line = line?;
        let connection = number_after(&line, "id=").with_context(|| format!("no connection: {line}"))?;
        let request = number_after(&line, "request=").with_context(|| format!("no request: {line}"))?;
        let events = seen.entry(connection).or_default();
        ensure!(request == *events / 2, "lost, repeated or out of order: {line}");
        let expected = if *events % 2 == 0 { "received" } else { "served" };
        ensure!(line.contains(expected), "not {expected:?}: {line}");
        *events += 1;
    }
    ensure!(
        seen.len() == CONNECTIONS && seen.values().all(|&events| events == 2 * REQUESTS),
        "lost: {seen:?}"
    );
    Ok(())
}

fn number_after(line: &str, key: &str) -> Option<usize> {
    let (_, rest) = line.split_once(key)?;
    let end = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// A slow output: accepts at most 64 bytes at a time, and spends time on each byte.
struct Slow(Vec<u8>);

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let accepted = &bytes[..bytes.len().min(64)];
        for _ in 0..200 {
            self.0.clear();
            self.0.extend(std::hint::black_box(accepted).iter().map(|byte| byte.rotate_left(1)));
        }
        Ok(accepted.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
