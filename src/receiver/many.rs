//! Receiving several messages at once: into a vector, or as a [`Batch`].

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::Receiver;
use super::batch::Batch;
use super::recv::ahead_of;
use crate::error::{RecvTimeoutError, TryRecvError};
use crate::queue::head::many::Many;
use crate::queue::head::{Effects, Head};
use crate::queue::limit::Limit;
use crate::queue::{Queue, ReadMode};
use crate::sync::Arc;
use crate::wait::blocking;

impl Receiver {
    /// Receives messages into `messages`, within `limit`, and returns their number. Waits only for the first message.
    ///
    /// Returns 0 if the channel is closed and all its messages were received, or if `limit` is 0 messages. The messages are
    /// appended to the vector.
    ///
    /// # Cancel safety
    ///
    /// As for [`recv`](Self::recv).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, mut rx) = turbostream::channel();
    /// for message in ["a", "b", "c"] {
    ///     tx.send(message).await?;
    /// }
    /// let mut messages = Vec::new();
    /// assert_eq!(rx.recv_many(&mut messages, 2).await, 2);
    /// assert_eq!(messages, ["a", "b"]);
    /// # Ok(()) }
    /// ```
    pub async fn recv_many(&mut self, messages: &mut Vec<Bytes>, limit: impl Into<Limit>) -> usize {
        let limit = limit.into();
        if limit.messages == 0 {
            return 0;
        }
        let mut many = Many::new(messages, limit);
        let mode = self.read_mode();
        self.recv_with(
            |queue, head, effects| head.take_part(queue, mode, &mut many, effects),
            |taken| *taken,
        )
        .await;
        self.take_further_parts(many)
    }

    /// Receives messages into `messages`, within `limit`, and returns their number. Blocks the current thread until there
    /// is one.
    ///
    /// Returns 0 if the channel is closed and all its messages were received, or if `limit` is 0 messages. The messages are
    /// appended to the vector.
    ///
    /// This is [`recv_many`](Self::recv_many) for threads that run no async code; see
    /// [`blocking_recv`](Self::blocking_recv).
    ///
    /// # Panics
    ///
    /// As for [`blocking_recv`](Self::blocking_recv).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, mut rx) = turbostream::channel();
    /// let receiver = std::thread::spawn(move || {
    ///     let mut messages = Vec::new();
    ///     while rx.blocking_recv_many(&mut messages, 100) > 0 {}
    ///     messages
    /// });
    /// tx.send_many(["a", "b", "c"]).await?;
    /// drop(tx);
    /// assert_eq!(receiver.join().unwrap(), ["a", "b", "c"]);
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn blocking_recv_many(&mut self, messages: &mut Vec<Bytes>, limit: impl Into<Limit>) -> usize {
        blocking::block_on("Receiver::blocking_recv_many", self.recv_many(messages, limit))
    }

    /// Polls for messages, takes them into `messages`, within `limit`, and returns their number.
    ///
    /// Returns `Poll::Ready(0)` if the channel is closed and all its messages were received, or if `limit` is 0 messages.
    /// If it returns `Poll::Pending`, the waker of the latest call is woken when a message may be there.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// let (tx, mut rx) = turbostream::channel();
    /// tx.send_many(["a", "b", "c"]).await.unwrap();
    /// let mut messages = Vec::new();
    /// let received = std::future::poll_fn(|cx| rx.poll_recv_many(cx, &mut messages, 2)).await;
    /// assert_eq!((received, messages.len()), (2, 2));
    /// # }
    /// ```
    pub fn poll_recv_many(
        &mut self,
        cx: &mut Context<'_>,
        messages: &mut Vec<Bytes>,
        limit: impl Into<Limit>,
    ) -> Poll<usize> {
        let limit = limit.into();
        if limit.messages == 0 {
            return Poll::Ready(0);
        }
        let mut many = Many::new(messages, limit);
        let mode = self.read_mode();
        let first = self.poll_own(
            cx,
            |queue, head, effects| head.take_part(queue, mode, &mut many, effects),
            |taken| *taken,
        );
        first.map(|_| self.take_further_parts(many))
    }

    /// Receives messages of one segment, within `limit`, in order and without a copy. Waits only for the first message.
    ///
    /// Returns `None` if the channel is closed and all its messages were received. A limit of 0 messages counts as 1.
    ///
    /// This is the fastest way to receive, and it suits vectored writes; see [`Batch`].
    ///
    /// # Cancel safety
    ///
    /// As for [`recv`](Self::recv).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, mut rx) = turbostream::channel();
    /// tx.send("a").await?;
    /// tx.send("b").await?;
    /// let batch = rx.recv_batch(100).await.unwrap();
    /// assert_eq!(batch.iter().collect::<Vec<_>>(), [b"a", b"b"]);
    /// # Ok(()) }
    /// ```
    pub async fn recv_batch(&mut self, limit: impl Into<Limit>) -> Option<Batch> {
        let mode = self.read_mode();
        self.recv_with(take_batch(mode, limit.into()), Batch::len).await
    }

    /// Receives messages of one segment, within `limit`, if there are any now.
    ///
    /// A limit of 0 messages counts as 1. This method works inside and outside of a runtime.
    ///
    /// # Errors
    ///
    /// As for [`try_recv`](Self::try_recv).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// use turbostream::TryRecvError;
    /// let (tx, mut rx) = turbostream::channel();
    /// tx.send_many(["a", "b"]).await.unwrap();
    /// assert_eq!(rx.try_recv_batch(100).unwrap().len(), 2);
    /// assert_eq!(rx.try_recv_batch(100).unwrap_err(), TryRecvError::Empty);
    /// # }
    /// ```
    pub fn try_recv_batch(&mut self, limit: impl Into<Limit>) -> Result<Batch, TryRecvError> {
        let take = take_batch(self.read_mode(), limit.into());
        let batch = self.core.try_with_head(ahead_of(&mut self.ahead), take)?;
        self.budget.count(batch.len());
        Ok(batch)
    }

    /// Receives messages of one segment, within `limit`, waiting for the first one no longer than `wait`.
    ///
    /// A limit of 0 messages counts as 1. To let more messages gather before they are received, use
    /// [`Linger`](crate::Linger) without [`on_demand`](crate::Builder::on_demand).
    ///
    /// # Errors
    ///
    /// As for [`recv_timeout`](Self::recv_timeout).
    ///
    /// # Panics
    ///
    /// As for [`recv_timeout`](Self::recv_timeout).
    ///
    /// # Cancel safety
    ///
    /// As for [`recv`](Self::recv).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// use std::time::Duration;
    /// use turbostream::RecvTimeoutError;
    /// let (tx, mut rx) = turbostream::channel();
    /// tx.send_many(["a", "b"]).await.unwrap();
    /// assert_eq!(rx.recv_batch_timeout(100, Duration::from_secs(1)).await.unwrap().len(), 2);
    /// let nothing = rx.recv_batch_timeout(100, Duration::from_millis(1)).await;
    /// assert_eq!(nothing.unwrap_err(), RecvTimeoutError::Timeout);
    /// # }
    /// ```
    pub async fn recv_batch_timeout(
        &mut self,
        limit: impl Into<Limit>,
        wait: Duration,
    ) -> Result<Batch, RecvTimeoutError> {
        let core = Arc::clone(&self.core);
        Self::recv_within(&core, wait, self.recv_batch(limit)).await
    }

    /// Receives messages of one segment, within `limit`, blocking the current thread until there is one.
    ///
    /// Returns `None` if the channel is closed and all its messages were received. A limit of 0 messages counts as 1.
    ///
    /// This is [`recv_batch`](Self::recv_batch) for threads that run no async code; see
    /// [`blocking_recv`](Self::blocking_recv).
    ///
    /// # Panics
    ///
    /// As for [`blocking_recv`](Self::blocking_recv).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, mut rx) = turbostream::channel();
    /// let receiver = std::thread::spawn(move || {
    ///     let mut bytes = 0;
    ///     while let Some(batch) = rx.blocking_recv_batch(100) {
    ///         bytes += batch.payload_bytes();
    ///     }
    ///     bytes
    /// });
    /// tx.send_many(["four", "more"]).await?;
    /// drop(tx);
    /// assert_eq!(receiver.join().unwrap(), 8);
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn blocking_recv_batch(&mut self, limit: impl Into<Limit>) -> Option<Batch> {
        blocking::block_on("Receiver::blocking_recv_batch", self.recv_batch(limit))
    }

    /// Polls for messages of one segment, within `limit`.
    ///
    /// Returns `Poll::Ready(None)` if the channel is closed and all its messages were received. A limit of 0 messages
    /// counts as 1. If it returns `Poll::Pending`, the waker of the latest call is woken when a message may be there.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() {
    /// let (tx, mut rx) = turbostream::channel();
    /// tx.send_many(["a", "b"]).await.unwrap();
    /// let batch = std::future::poll_fn(|cx| rx.poll_recv_batch(cx, 100)).await;
    /// assert_eq!(batch.unwrap().len(), 2);
    /// # }
    /// ```
    pub fn poll_recv_batch(&mut self, cx: &mut Context<'_>, limit: impl Into<Limit>) -> Poll<Option<Batch>> {
        let mode = self.read_mode();
        self.poll_own(cx, take_batch(mode, limit.into()), Batch::len)
    }

    /// Takes messages that are there, and unlocks the head between the parts; returns the number of all.
    fn take_further_parts(&mut self, mut many: Many<'_>) -> usize {
        let mode = self.read_mode();
        let (core, ahead) = (&self.core, ahead_of(&mut self.ahead));
        let counted = many.taken();
        let mut take = |queue: &Queue, head: &mut Head, effects: &mut Effects| {
            head.take_part(queue, mode, &mut many, effects)
        };
        while let Poll::Ready(Some(1..)) = core.poll_with_head(false, ahead, &mut take) {}
        self.budget.count(many.taken() - counted);
        many.taken()
    }
}

/// Returns what takes a batch within `limit`, for a receiver that holds the head.
fn take_batch(mode: ReadMode, limit: Limit) -> impl FnMut(&Queue, &mut Head, &mut Effects) -> Batch {
    move |queue, head, effects| Batch::new(head.take_range(queue, limit, effects), mode)
}
