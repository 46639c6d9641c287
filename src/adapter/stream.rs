//! A receiver as a `Stream` of messages and of batches.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::{FusedStream, Stream};

use crate::receiver::Receiver;
use crate::receiver::batch::Batch;

impl Stream for Receiver {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let message = ready!(self.poll_recv(cx));
        self.terminated = message.is_none();
        Poll::Ready(message)
    }
}

impl FusedStream for Receiver {
    fn is_terminated(&self) -> bool {
        self.terminated
    }
}

impl Receiver {
    /// Returns a stream of batches of up to `limit` messages.
    ///
    /// Each batch is as returned by [`recv_batch`](Self::recv_batch): messages of one segment, at least one. The stream
    /// ends once the channel is closed and drained. A limit of 0 counts as 1.
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
    pub fn batches(&mut self, limit: usize) -> Batches<'_> {
        Batches { receiver: self, limit, terminated: false }
    }
}

/// The messages of a [`Receiver`] as a stream of [`Batch`]; see [`Receiver::batches`].
#[must_use = "streams do nothing unless polled"]
pub struct Batches<'a> {
    receiver: &'a mut Receiver,
    limit: usize,
    terminated: bool,
}

impl Stream for Batches<'_> {
    type Item = Batch;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Batch>> {
        let this = &mut *self;
        let batch = ready!(this.receiver.poll_own_batch(this.limit, cx));
        this.terminated = batch.is_none();
        Poll::Ready(batch)
    }
}

impl FusedStream for Batches<'_> {
    fn is_terminated(&self) -> bool {
        self.terminated
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
