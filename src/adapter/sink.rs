//! A sender as a `Sink`.
//!
//! `start_send` cannot wait. If the channel is full, the message becomes this handle's pending item, and the next poll
//! sends it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_sink::Sink;

use crate::channel::Refusal;
use crate::channel::source::{PayloadSource, Source};
use crate::error::SendError;
use crate::sender::Sender;

/// Sends each item as one message.
///
/// `poll_flush` seals the messages sent so far, so that receivers see them; it does not wait until they are read.
/// `poll_close` flushes and releases this handle.
///
/// Each flush uses up a segment, however few messages it holds, unless receivers still have so much to read that an on
/// demand switch makes the messages visible in time. `SinkExt::send` flushes, and `forward` flushes whenever its stream
/// is not ready. To send many messages, `feed` them, or use [`Sender::send`].
///
/// `start_send` without a preceding `poll_ready` returns `Full` if an item is already pending.
impl Sink<Bytes> for Sender {
    type Error = SendError<Bytes>;

    /// Ready once no item is pending, also if the channel is closed: `start_send` then returns the message in its error.
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.poll_pending_item(cx))?;
        self.poll_pay(cx).map(Ok)
    }

    /// Returns `Full` if an item is already pending, which a preceding `poll_ready` rules out.
    fn start_send(mut self: Pin<&mut Self>, message: Bytes) -> Result<(), Self::Error> {
        if self.pending_item.is_some() {
            return Err(SendError::Full(message));
        }
        self.budget().count_one();
        let mut source = PayloadSource(message);
        match self.push(&mut source, None) {
            // Another handle took the room: keep the message as the pending item, for the next poll.
            Err(Refusal::Full) if !self.core().rejects_when_full() => {
                self.pending_item = Some(source.into_returned());
                Ok(())
            }
            result => result.map_err(|refusal| self.refused(refusal, source.into_returned())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.poll_pending_item(cx))?;
        self.core().flush();
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.as_mut().poll_flush(cx))?;
        self.release();
        Poll::Ready(Ok(()))
    }
}
