//! A receiver is a `Stream` and a sender is a `Sink`: two channels joined by `StreamExt` combinators and
//! `forward`.
//!
//! `parse -> keep the slow ones -> format` runs as one task between a channel of raw readings and a channel
//! of alerts. Backpressure passes through: when the alerts are not read, `forward` stops taking readings.

use bytes::Bytes;
use futures::{SinkExt, StreamExt, future, stream};

const READINGS: u64 = 100_000;
const SLOW_MS: u64 = 900;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (mut readings_in, readings) = turbostream::builder().name("readings").build()?;
    let (alerts_in, alerts) = turbostream::builder().name("alerts").build()?;

    // `send_all` feeds a whole stream and flushes; `close` gives up this handle, the last one, so `readings`
    // ends.
    let source = tokio::spawn(async move {
        let mut lines =
            stream::iter((0..READINGS).map(|id| Ok(Bytes::from(format!("{id} {}", latency(id))))));
        readings_in.send_all(&mut lines).await?;
        readings_in.close().await
    });

    // `forward` closes `alerts` when `readings` ends. A line that does not parse is skipped, not fatal.
    let filter = tokio::spawn(
        readings
            .filter_map(|line| future::ready(parse(&line)))
            .filter(|&(_, ms)| future::ready(ms >= SLOW_MS))
            .map(|(id, ms)| Ok(Bytes::from(format!("request {id} took {ms} ms"))))
            .forward(alerts_in),
    );

    // `chunks` and friends work too; here the first three are printed and the rest are counted.
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

/// A made-up but repeatable latency for request `id`, 0 to 999 ms.
fn latency(id: u64) -> u64 {
    (id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % 1000
}

/// `"17 930"` to `(17, 930)`.
fn parse(line: &[u8]) -> Option<(u64, u64)> {
    let (id, ms) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    Some((id.parse().ok()?, ms.parse().ok()?))
}
