//! The first message. async-nats hands out no client of a consumer, but each message that it delivers has one. So
//! async-nats pulls the first message, alone, and the source pulls the others.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::PullConsumer;
use futures_core::Stream;
use tokio::time::Instant;

use super::BoxFuture;
use crate::forward::BoxError;

/// How long the server keeps the request for the first message. A stop waits for its end.
const EXPIRES: Duration = Duration::from_secs(2);
/// How much later the server's word that a request has expired may arrive.
const GRACE: Duration = Duration::from_secs(2);

/// Requests of one message. Each lasts for two seconds if the consumer has no message, so there is no reason to send them
/// faster.
pub(super) struct First {
    expires: Duration,
    started: Instant,
    pulling: Option<BoxFuture<'static, Result<Option<Message>, BoxError>>>,
}

/// How a request of the first message has ended.
pub(super) enum FirstPulled {
    Message(Box<Message>),
    /// The consumer had no message.
    Expired,
    /// The server has not answered, or has refused.
    Failed,
}

impl First {
    /// Requests last no longer than `max_expires`.
    pub(super) fn new(max_expires: Duration) -> Self {
        Self { expires: EXPIRES.min(max_expires), started: Instant::now(), pulling: None }
    }

    pub(super) fn is_requested(&self) -> bool {
        self.pulling.is_some()
    }

    /// Requests one message, unless one is requested; returns whether it does.
    pub(super) fn request(&mut self, consumer: &Arc<PullConsumer>) -> bool {
        if self.is_requested() {
            return false;
        }
        self.started = Instant::now();
        self.pulling = Some(Box::pin(pull_one(Arc::clone(consumer), self.expires)));
        true
    }

    /// Polls for the end of the request. The caller polls again with its timer.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<FirstPulled> {
        let Some(pulling) = &mut self.pulling else { return Poll::Pending };
        let polled = pulling.as_mut().poll(cx);
        let lasted = self.started.elapsed();
        let outcome = match polled {
            Poll::Pending if lasted < self.expires + GRACE => return Poll::Pending,
            Poll::Ready(Ok(Some(message))) => FirstPulled::Message(Box::new(message)),
            // One that ends early was not kept by the server. The pause after a failure keeps the next from being sent at once.
            Poll::Ready(Ok(None)) if lasted >= self.expires / 2 => FirstPulled::Expired,
            Poll::Ready(_) | Poll::Pending => FirstPulled::Failed,
        };
        self.pulling = None;
        Poll::Ready(outcome)
    }
}

async fn pull_one(consumer: Arc<PullConsumer>, expires: Duration) -> Result<Option<Message>, BoxError> {
    // No heartbeats: async-nats would not poll its inbox again after one.
    let batch = consumer.batch().max_messages(1).expires(expires).messages().await?;
    let mut batch = pin!(batch);
    poll_fn(|cx| batch.as_mut().poll_next(cx)).await.transpose()
}
