//! The writing end as a sink.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_sink::Sink;
use tokio::task::coop;

use crate::channel::payload::Payload;
use crate::channel::source::{PayloadSource, Source};
use crate::channel::{QueuePosition, Refusal};
use crate::error::SendError;
use crate::sender::{Sender, WakeNextOnDrop};

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
        ready!(self.poll_pending_item(cx))?;
        if self.budget.is_due() {
            ready!(coop::poll_proceed(cx)).made_progress();
            self.budget.tick();
        }
        Poll::Ready(Ok(()))
    }

    /// Full where it is called without having been ready, if a message waits already.
    fn start_send(mut self: Pin<&mut Self>, message: Bytes) -> Result<(), Self::Error> {
        if self.pending_item.is_some() {
            return Err(SendError::Full(message));
        }
        self.budget.tick();
        let mut source = PayloadSource(message);
        match self.push(&mut source, QueuePosition::Barging) {
            // Another handle took the room that there was: the message waits here for the next poll.
            Err(Refusal::Full) if !self.core().rejects_when_full() => {
                self.pending_item = Some(source.into_input());
                Ok(())
            }
            result => result.map_err(|refusal| self.refused(refusal, source.into_input())),
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

/// The pending item while it is sent. It is kept if it is not sent, also if the caller's waker panics.
struct PendingItem<'a> {
    sender: &'a mut Sender,
    source: PayloadSource<Bytes>,
    is_done: bool,
}

impl Drop for PendingItem<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.sender.pending_item = Some(mem::take(&mut self.source.0));
        }
    }
}

impl Sender {
    /// Sends the pending item, if there is one.
    pub(crate) fn poll_pending_item(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError<Bytes>>> {
        let Some(item) = self.pending_item.take() else { return Poll::Ready(Ok(())) };
        let mut pending = PendingItem { sender: self, source: PayloadSource(item), is_done: false };
        let sent = ready!(pending.sender.poll_send(&mut pending.source, cx));
        pending.is_done = true;
        Poll::Ready(sent.map_err(|refusal| {
            let item = mem::take(&mut pending.source.0);
            pending.sender.refused(refusal, item)
        }))
    }

    /// Sends one message with the registration of this handle, unless the channel rejects when full.
    pub(crate) fn poll_send<P: Payload>(
        &mut self,
        source: &mut PayloadSource<P>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Refusal>> {
        let mut waiter = mem::take(&mut self.waiter);
        let next = WakeNextOnDrop(self);
        let rejects = self.core().rejects_when_full();
        let polled = self.core().room_waiters().poll_wait(&mut waiter, cx, |state| {
            self.try_from_queue(state, |position| self.push(source, position))
                .or_else(|| rejects.then_some(Err(Refusal::Full)))
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
        if waiter.deregister(self.core().room_waiters()) {
            self.wake_next();
        }
    }
}
