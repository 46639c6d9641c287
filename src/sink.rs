//! The writing end as a sink.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_sink::Sink;

use crate::channel::{Refusal, Turn};
use crate::error::SendError;
use crate::sender::Sender;

/// `poll_flush` seals what was sent, so that receivers see it, and waits for nobody to read it; `poll_close`
/// flushes and gives up this handle's claim on the channel.
impl Sink<Bytes> for Sender {
    type Error = SendError<Bytes>;

    /// Ready, also when the channel is closed: it is for `start_send` to refuse the message and give it back.
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_parked(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Bytes) -> Result<(), Self::Error> {
        let mut message = Some(message);
        match self.attempt(&mut message, Turn::Newcomer) {
            // Another handle took the room that there was: the message waits here for the next poll.
            Err(Refusal::Full) if !self.core().rejects_when_full() && self.parked.is_none() => {
                self.parked = message;
                Ok(())
            }
            result => result.map_err(|refusal| self.refused(refusal, message.unwrap_or_default())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.poll_parked(cx))?;
        self.core().switch();
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.as_mut().poll_flush(cx))?;
        self.release();
        Poll::Ready(Ok(()))
    }
}

impl Sender {
    /// Sends the parked message, if there is one.
    fn poll_parked(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError<Bytes>>> {
        if self.parked.is_none() {
            return Poll::Ready(Ok(()));
        }
        let (mut parked, mut waiter) = (self.parked.take(), std::mem::take(&mut self.waiter));
        let space = &self.core().pool().space;
        let polled = space.poll_until(&mut waiter, cx, |attempt| self.attempt_in_turn(&mut parked, attempt));
        self.waiter = waiter;
        match polled {
            Poll::Pending => {
                self.parked = parked;
                Poll::Pending
            }
            Poll::Ready(result) => {
                self.wake_next();
                Poll::Ready(result.map_err(|refusal| self.refused(refusal, parked.unwrap_or_default())))
            }
        }
    }
}
