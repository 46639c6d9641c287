//! A sender as a `Sink`.
//!
//! `start_send` cannot wait. If another handle takes the room that `poll_ready` saw, the message becomes this handle's
//! pending item, and the next poll sends it.

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
        if self.budget.is_due() {
            ready!(coop::poll_proceed(cx)).made_progress();
            self.budget.tick();
        }
        Poll::Ready(Ok(()))
    }

    /// Returns `Full` if an item is already pending, which a preceding `poll_ready` rules out.
    fn start_send(mut self: Pin<&mut Self>, message: Bytes) -> Result<(), Self::Error> {
        if self.pending_item.is_some() {
            return Err(SendError::Full(message));
        }
        self.budget.tick();
        let mut source = PayloadSource(message);
        match self.push(&mut source, QueuePosition::Barging) {
            // Another handle took the room: keep the message as the pending item, for the next poll.
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

/// The pending item during an attempt to send it.
///
/// Its drop puts an unsent item back into the sender, also if the caller's waker panics.
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
    /// Sends the pending item; ready at once if there is none.
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

    /// Sends one message; while the channel is full, waits with the registration of this handle.
    ///
    /// Does not wait if the channel rejects when full.
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

    /// Deregisters this handle's waiter for room, and passes on a wake that it got.
    ///
    /// To be called when the handle is not polled again before it has another message.
    pub(crate) fn stop_waiting(&mut self) {
        let mut waiter = mem::take(&mut self.waiter);
        if waiter.deregister(self.core().room_waiters()) {
            self.wake_next();
        }
    }
}
