//! turbostream's forwarder.

use async_nats::jetstream::Context;
use turbostream::forward::{Forwarder, JetStream, Packing};

use super::{Job, Messages, SUBJECT, Settings};

const PACK_BYTES: usize = 64 << 10;

/// Runs the producers and a forwarder; returns when all messages are confirmed.
pub(super) async fn forward(
    job: &Job,
    context: &Context,
    messages: u64,
    settings: Settings,
) -> Result<(), String> {
    let builder = turbostream::builder().max_bytes(job.capacity);
    let (tx, rx) = builder.build().map_err(|error| error.to_string())?;
    let mut forwarder = Forwarder::new(rx, JetStream::new(context.clone(), SUBJECT))
        .in_flight(job.window, job.capacity / 4 * 3);
    if !settings.ids {
        forwarder = forwarder.without_message_ids();
    }
    if settings.packed {
        forwarder = forwarder.pack(Packing::LengthDelimited, PACK_BYTES);
    }
    if settings.strict_order {
        forwarder = forwarder.strict_order();
    }
    let forwarder = forwarder.spawn();
    for mut messages in Messages::of_producers(job.size, messages) {
        let tx = tx.clone();
        tokio::spawn(async move {
            while let Some(message) = messages.next() {
                if tx.send(message).await.is_err() {
                    break;
                }
            }
        });
    }
    drop(tx);
    let report = forwarder.join().await.map_err(|error| error.to_string())?;
    let stats = report.stats;
    if stats.confirmed != messages || stats.retried > 0 {
        return Err(format!("{messages} messages sent: {stats:?}"));
    }
    Ok(())
}
