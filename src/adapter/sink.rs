//! A sender as a `Sink`.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_sink::Sink;

use crate::channel::Refusal;
use crate::error::SendError;
use crate::sender::Sender;

/// Sends each item as one message.
///
/// - `poll_ready` waits while the channel is full, and fails once it is closed.
/// - `start_send` sends the item. If others have taken the room meanwhile, or the item needs more than there is, the item is
///   *parked*: it counts as queued, at most one for each handle, and is sent as soon as there is room, in the order of
///   waiting senders and before later sends of this handle. This happens without a poll, also if the handle is dropped.
///   [`Stats`](crate::Stats) counts the memory of parked items as external, and the sum may exceed `max_bytes` by it.
///   For the moment in which an item is sent, it may be counted twice.
/// - `poll_flush` waits until the parked item is sent, and seals what was sent so far, so that receivers see it; it does not
///   wait until it is read.
/// - `poll_close` flushes and releases this handle.
///
/// If the channel is closed while an item is parked, the next poll returns the item in
/// [`SendError::Closed`]; if the handle was dropped, the item is counted as dropped. An item that a combinator has not passed
/// to `start_send` is the combinator's: `feed`, `SinkExt::send` and `forward` drop it if `poll_ready` fails. To get each
/// unsent item back, use [`Sender::send`].
///
/// Of two methods with the same name, a call takes that of [`Sender`]: `tx.send(..)` does not flush, and `tx.close()` closes
/// the channel for all senders. For those of the extension trait write `SinkExt::send(&mut tx, ..)` and
/// `SinkExt::close(&mut tx)`.
///
/// Each flush uses up a segment, however few messages it holds, unless receivers still have so much to read that an on
/// demand switch makes the messages visible in time. `SinkExt::send` flushes, and `forward` flushes whenever its stream
/// is not ready. To send many messages, `feed` them, or use [`Sender::send`].
///
/// A channel that rejects or drops messages when it is full is always ready; `start_send` then returns
/// [`SendError::Full`], or drops a message.
///
/// # Errors
///
/// - [`SendError::Closed`] if the channel or this handle is closed. `poll_flush` and `poll_close` return it only with a parked
///   item; without one there is nothing that they could not do.
/// - [`SendError::TooLarge`] from `start_send` if the item is longer than `max_message_bytes`.
/// - [`SendError::Full`] from `start_send`, as described above.
///
/// # Cancel safety
///
/// A `feed`, `send` or `flush` that is dropped before it is ready loses nothing that `start_send` took: that item is sent. A
/// `feed` or `send` that still waits in `poll_ready` drops its item.
///
/// # Examples
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use bytes::Bytes;
/// use futures::{SinkExt, StreamExt};
/// use turbostream::SendError;
/// let (mut tx, mut rx) = turbostream::channel();
/// for item in ["one", "two"] {
///     tx.feed(Bytes::from(item)).await?; // waits while the channel is full
/// }
/// tx.flush().await?;
/// assert_eq!(rx.next().await.unwrap(), "one");
///
/// rx.close();
/// let error = tx.feed(Bytes::from("three")).await.unwrap_err();
/// assert_eq!(error, SendError::Closed(Bytes::new())); // `feed` has dropped its item
/// assert_eq!(rx.next().await.unwrap(), "two");
/// # Ok(()) }
/// ```
impl Sink<Bytes> for Sender {
    type Error = SendError<Bytes>;

    /// Ready if no item is parked and there is room for a small message.
    ///
    /// Fails with the parked item, or with an empty message, if the channel is closed.
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.poll_parked(cx))?;
        if self.is_closed() || ready!(self.poll_room(cx)).is_err() {
            self.stop_waiting();
            return Poll::Ready(Err(self.refused(Refusal::Closed, Bytes::new())));
        }
        self.poll_pay(cx).map(Ok)
    }

    /// Returns [`SendError::Full`] if an item is parked, which a preceding `poll_ready` rules out.
    fn start_send(mut self: Pin<&mut Self>, message: Bytes) -> Result<(), Self::Error> {
        if self.has_parked() {
            return Err(SendError::Full(message));
        }
        self.budget().count_one();
        self.send_or_park(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.poll_parked(cx))?;
        self.core().flush();
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.as_mut().poll_flush(cx))?;
        self.release();
        Poll::Ready(Ok(()))
    }
}
