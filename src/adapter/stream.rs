//! A receiver as a `Stream` of messages and of batches.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::{FusedStream, Stream};

use crate::queue::limit::Limit;
use crate::receiver::Receiver;
use crate::receiver::batch::Batch;

impl Stream for Receiver {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let message = ready!(self.poll_recv(cx));
        self.terminated = message.is_none();
        Poll::Ready(message)
    }

    /// Returns no upper bound while the channel is open, and then the number of queued messages, for which receivers compete.
    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, self.is_closed().then(|| self.len()))
    }
}

impl FusedStream for Receiver {
    fn is_terminated(&self) -> bool {
        self.terminated
    }
}

impl Receiver {
    /// Polls for the next item of a stream of batches.
    fn poll_next_batch(&mut self, limit: Limit, cx: &mut Context<'_>) -> Poll<Option<Batch>> {
        let batch = ready!(self.poll_recv_batch(cx, limit));
        self.terminated = batch.is_none();
        Poll::Ready(batch)
    }

    /// Returns a stream of batches, each within `limit`.
    ///
    /// Each batch is as returned by [`recv_batch`](Self::recv_batch): messages of one segment, at least one. The stream
    /// ends once the channel is closed and drained. A limit of 0 messages counts as 1.
    ///
    /// The stream takes nothing in advance: dropping it loses no message.
    ///
    /// # Cancel safety
    ///
    /// A `next` that is dropped before it is ready has taken nothing. The stream stays registered as a waiter; drop it if
    /// it is not polled any more.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use futures::StreamExt;
    /// let (tx, mut rx) = turbostream::channel();
    /// for message in ["a", "b", "c"] {
    ///     tx.send(message).await?;
    /// }
    /// drop(tx);
    /// let mut batches = rx.batches(2);
    /// let mut messages = Vec::new();
    /// while let Some(batch) = batches.next().await {
    ///     assert!(batch.len() <= 2);
    ///     messages.extend(batch);
    /// }
    /// assert_eq!(messages, ["a", "b", "c"]);
    /// # Ok(()) }
    /// ```
    pub fn batches(&mut self, limit: impl Into<Limit>) -> Batches<'_> {
        Batches { receiver: self, limit: limit.into() }
    }

    /// Turns this handle into a stream of batches, each within `limit`.
    ///
    /// It is as [`batches`](Self::batches), but owns the receiver: it can be returned from a function, or moved to a task.
    /// Dropping it drops the receiver; [`into_inner`](IntoBatches::into_inner) returns that.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use futures::StreamExt;
    /// let (tx, rx) = turbostream::channel();
    /// tx.send_many(["a", "b", "c"]).await?;
    /// drop(tx);
    /// let sizes = rx.into_batches(2).map(|batch| batch.len());
    /// assert_eq!(sizes.collect::<Vec<_>>().await, [2, 1]);
    /// # Ok(()) }
    /// ```
    pub fn into_batches(self, limit: impl Into<Limit>) -> IntoBatches {
        IntoBatches { receiver: self, limit: limit.into() }
    }
}

/// The messages of a [`Receiver`] as a stream of [`Batch`]; see [`Receiver::batches`].
#[must_use = "streams do nothing unless polled"]
pub struct Batches<'a> {
    receiver: &'a mut Receiver,
    limit: Limit,
}

impl Stream for Batches<'_> {
    type Item = Batch;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Batch>> {
        let limit = self.limit;
        self.receiver.poll_next_batch(limit, cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.receiver.size_hint()
    }
}

impl FusedStream for Batches<'_> {
    fn is_terminated(&self) -> bool {
        self.receiver.is_terminated()
    }
}

impl Drop for Batches<'_> {
    fn drop(&mut self) {
        self.receiver.deregister_own_waiter();
    }
}

impl fmt::Debug for Batches<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches")
            .field("receiver", self.receiver)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// A [`Receiver`] as a stream of [`Batch`]; made by [`Receiver::into_batches`].
#[must_use = "streams do nothing unless polled"]
pub struct IntoBatches {
    receiver: Receiver,
    limit: Limit,
}

impl IntoBatches {
    /// Returns the receiver.
    pub fn get_ref(&self) -> &Receiver {
        &self.receiver
    }

    /// Returns the receiver, which continues where the stream stopped.
    pub fn into_inner(mut self) -> Receiver {
        self.receiver.deregister_own_waiter();
        self.receiver
    }
}

impl Stream for IntoBatches {
    type Item = Batch;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Batch>> {
        let limit = self.limit;
        self.receiver.poll_next_batch(limit, cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.receiver.size_hint()
    }
}

impl FusedStream for IntoBatches {
    fn is_terminated(&self) -> bool {
        self.receiver.is_terminated()
    }
}

impl fmt::Debug for IntoBatches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntoBatches")
            .field("receiver", &self.receiver)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
