//! Joins two channels by `StreamExt` combinators and `forward`: a receiver is a `Stream`, a sender is a `Sink`.
//!
//! One task parses readings from the first channel, keeps the slow ones, and sends alerts to the second channel.
//! Backpressure passes through: while the alerts are not received, `forward` receives no readings.

use bytes::Bytes;
use futures::{SinkExt, StreamExt, future, stream};

const READINGS: u64 = 100_000;
const SLOW_MS: u64 = 900;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (mut readings_in, readings) = turbostream::builder().name("readings").build()?;
    let (alerts_in, alerts) = turbostream::builder().name("alerts").build()?;

    // `send_all` sends a whole stream and flushes. `readings` ends when this sender, the last one, is dropped.
    let source = tokio::spawn(async move {
        let mut lines =
            stream::iter((0..READINGS).map(|id| Ok(Bytes::from(format!("{id} {}", latency(id))))));
        readings_in.send_all(&mut lines).await
    });

    // `forward` closes `alerts` when `readings` ends. A line that does not parse is skipped.
    let filter = tokio::spawn(
        readings
            .filter_map(|line| future::ready(parse(&line)))
            .filter(|&(_, ms)| future::ready(ms >= SLOW_MS))
            .map(|(id, ms)| Ok(Bytes::from(format!("request {id} took {ms} ms"))))
            .forward(alerts_in),
    );

    // Prints the first three alerts and counts all of them.
    let alerted = alerts
        .enumerate()
        .inspect(|(index, alert)| {
            if *index < 3 {
                println!("{}", String::from_utf8_lossy(alert));
            }
        })
        .count()
        .await;

    source.await??;
    filter.await??;
    let expected = (0..READINGS).filter(|&id| latency(id) >= SLOW_MS).count();
    println!("... {alerted} alerts from {READINGS} readings");
    assert_eq!(alerted, expected, "every slow request raises exactly one alert");
    Ok(())
}

/// Returns the latency of request `id`, 0 to 999 ms: arbitrary, the same at every run.
fn latency(id: u64) -> u64 {
    (id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % 1000
}

/// Parses `"17 930"` to `(17, 930)`.
fn parse(line: &[u8]) -> Option<(u64, u64)> {
    let (id, ms) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    Some((id.parse().ok()?, ms.parse().ok()?))
}
