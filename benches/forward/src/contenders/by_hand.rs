//! What is written around async-nats without turbostream.

use std::collections::VecDeque;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Job, Messages, SUBJECT};

/// How many messages `recv_many` takes at once.
const BATCH: usize = 256;

/// The receiving task.
pub(super) trait Loop: Send + 'static {
    fn run(self, rx: mpsc::Receiver<Bytes>) -> impl Future<Output = Result<(), async_nats::Error>> + Send;
}

/// Runs the producers and a loop; returns when the loop has seen all acknowledgements.
pub(super) async fn forward(job: &Job, messages: u64, receiving: impl Loop) -> Result<(), String> {
    let (tx, rx) = mpsc::channel(job.capacity);
    for mut messages in Messages::of_producers(job.size, messages) {
        let tx = tx.clone();
        tokio::spawn(async move {
            while let Some(message) = messages.next() {
                if tx.send(Bytes::copy_from_slice(message)).await.is_err() {
                    break;
                }
            }
        });
    }
    drop(tx);
    let receiving = tokio::spawn(receiving.run(rx)).await.map_err(|error| error.to_string())?;
    receiving.map_err(|error| error.to_string())
}

/// Waits for each acknowledgement.
pub(super) struct Awaited(pub(super) Context);

impl Loop for Awaited {
    async fn run(self, mut rx: mpsc::Receiver<Bytes>) -> Result<(), async_nats::Error> {
        while let Some(message) = rx.recv().await {
            self.0.publish(SUBJECT, message).await?.await?;
        }
        Ok(())
    }
}

/// Keeps a window of messages in flight, and waits for the oldest acknowledgement.
pub(super) struct Pipelined {
    context: Context,
    window: usize,
    run: Option<String>,
    sequence: u64,
    in_flight: VecDeque<PublishAckFuture>,
}

impl Pipelined {
    pub(super) fn new(context: Context, window: usize, ids: bool) -> Self {
        let run = ids.then(|| context.client().new_inbox());
        Self { context, window, run, sequence: 0, in_flight: VecDeque::with_capacity(window) }
    }

    async fn publish(&mut self, message: Bytes) -> Result<PublishAckFuture, async_nats::Error> {
        let Some(run) = &self.run else { return Ok(self.context.publish(SUBJECT, message).await?) };
        self.sequence += 1;
        let publish = PublishMessage::build().payload(message).message_id(format!("{run}-{}", self.sequence));
        Ok(self.context.send_publish(SUBJECT, publish).await?)
    }
}

impl Loop for Pipelined {
    async fn run(mut self, mut rx: mpsc::Receiver<Bytes>) -> Result<(), async_nats::Error> {
        let mut batch = Vec::with_capacity(BATCH);
        while rx.recv_many(&mut batch, BATCH).await > 0 {
            for message in batch.drain(..) {
                if self.in_flight.len() == self.window
                    && let Some(oldest) = self.in_flight.pop_front()
                {
                    oldest.await?;
                }
                let ack = self.publish(message).await?;
                self.in_flight.push_back(ack);
            }
        }
        while let Some(oldest) = self.in_flight.pop_front() {
            oldest.await?;
        }
        Ok(())
    }
}
