//! The writing end as a sink.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_sink::Sink;
use tokio::task::coop;

use crate::channel::{Refusal, Standing};
use crate::error::SendError;
use crate::payload::Payload;
use crate::sender::{KEPT, Sender, WakesNext};

/// `poll_flush` seals what was sent, so that receivers see it, and waits for nobody to read it; `poll_close`
/// flushes and gives up this handle's claim on the channel.
///
/// Each flush takes a segment, however little is in it, unless receivers have so much to read before it that on demand they
/// find it in time. `SinkExt::send` flushes, and so does `forward` whenever its stream has nothing: to send many messages,
/// `feed` them, or use [`Sender::send`].
///
/// `start_send` without `poll_ready` before is refused as `Full` if a message already waits inside.
impl Sink<Bytes> for Sender {
    type Error = SendError<Bytes>;

    /// Ready, also when the channel is closed: it is for `start_send` to refuse the message and give it back.
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.poll_parked(cx))?;
        if self.pace.is_due() {
            ready!(coop::poll_proceed(cx)).made_progress();
            self.pace.tick();
        }
        Poll::Ready(Ok(()))
    }

    /// Full where it is called without having been ready, if a message waits already.
    fn start_send(mut self: Pin<&mut Self>, message: Bytes) -> Result<(), Self::Error> {
        if self.parked.is_some() {
            return Err(SendError::Full(message));
        }
        self.pace.tick();
        let mut message = Some(message);
        match self.attempt(&mut message, Standing::Newcomer) {
            // Another handle took the room that there was: the message waits here for the next poll.
            Err(Refusal::Full) if !self.core().rejects_when_full() => {
                self.parked = message;
                Ok(())
            }
            result => result.map_err(|refusal| self.refused(refusal, message.unwrap_or_default())),
        }
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

/// The parked message while it is sent. What was not is parked again, also if the caller's waker panics.
struct Parked<'a> {
    sender: &'a mut Sender,
    message: Option<Bytes>,
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.sender.parked = self.message.take();
    }
}

impl Sender {
    /// Sends the parked message, if there is one.
    pub(crate) fn poll_parked(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError<Bytes>>> {
        if self.parked.is_none() {
            return Poll::Ready(Ok(()));
        }
        let mut parked = Parked { message: self.parked.take(), sender: self };
        let sent = ready!(parked.sender.poll_send(&mut parked.message, cx));
        Poll::Ready(
            sent.map_err(|refusal| parked.sender.refused(refusal, parked.message.take().expect(KEPT))),
        )
    }

    /// Sends one message, waiting for room in the spot of whoever polls this handle, unless the channel rejects then.
    pub(crate) fn poll_send<P: Payload>(
        &mut self,
        payload: &mut Option<P>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Refusal>> {
        let mut waiter = mem::take(&mut self.waiter);
        let space = &self.core().pool().space;
        let next = WakesNext(self);
        let rejects = self.core().rejects_when_full();
        let polled = space.poll_until(&mut waiter, cx, |attempt| {
            self.attempt_from_list(payload, attempt).or_else(|| rejects.then_some(Err(Refusal::Full)))
        });
        if polled.is_pending() {
            mem::forget(next);
        } else {
            drop(next);
        }
        self.waiter = waiter;
        polled
    }

    /// Gives up the spot among those who wait for room: nobody polls this handle until it has something to send.
    pub(crate) fn stop_waiting(&mut self) {
        let mut waiter = mem::take(&mut self.waiter);
        if waiter.leave(&self.core().pool().space) {
            self.wake_next();
        }
    }
}
