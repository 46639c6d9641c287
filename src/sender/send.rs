//! The futures of [`Sender::send`] and [`Sender::send_with`], and sends for callers that poll.

use std::mem;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::Sender;
use crate::channel::Refusal;
use crate::channel::payload::Payload;
use crate::channel::source::{PayloadSource, Source};
use crate::error::SendError;
use crate::wait::fast_path::{FastPath, FastThenWait, SlowPath};

/// The sending of one message. Most sends complete at the first poll; see [`FastThenWait`].
pub(super) struct SendOperation<'a, S> {
    sender: &'a Sender,
    source: S,
}

impl<'a, S: Source> SendOperation<'a, S> {
    #[inline(always)]
    pub(super) fn start(
        sender: &'a Sender,
        source: S,
    ) -> impl Future<Output = Result<(), SendError<S::Returned>>> + use<'a, S> {
        FastThenWait::new(Self { sender, source }, |operation| Box::pin(operation.send_slow()))
    }

    fn refused(self, refusal: Refusal) -> SendError<S::Returned> {
        self.sender.refused(refusal, self.source.into_returned())
    }

    /// Waits for room and sends the message.
    #[cold]
    async fn send_slow(mut self) -> Result<(), SendError<S::Returned>> {
        let sender = self.sender;
        let demand = sender.core().demand(&self.source);
        let sent = sender.wait_for_room(demand, |ticket| sender.push(&mut self.source, ticket)).await;
        sent.map_err(|refusal| self.refused(refusal))
    }
}

impl<S: Source> FastPath for SendOperation<'_, S> {
    type Output = Result<(), SendError<S::Returned>>;

    #[inline(always)]
    fn try_fast(&mut self) -> Poll<Self::Output> {
        let sender = self.sender;
        if sender.budget.is_due() || !sender.write_fast(&mut self.source) {
            return Poll::Pending;
        }
        sender.budget.count_one();
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn try_slow(mut self, cx: &mut Context<'_>) -> SlowPath<Self::Output, Self> {
        if self.sender.budget.poll_consume(self.sender.clock(), cx).is_pending() {
            return SlowPath::Yield(self);
        }
        match self.sender.push(&mut self.source, None) {
            Ok(()) => SlowPath::Done(Ok(())),
            Err(Refusal::Full) if !self.sender.core().rejects_when_full() => SlowPath::Wait(self),
            Err(refusal) => SlowPath::Done(Err(self.refused(refusal))),
        }
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
        if !self.waiter.is_registered() {
            match self.push(source, None) {
                Err(Refusal::Full) if !self.core.rejects_when_full() => {}
                result => return Poll::Ready(result),
            }
        }
        let (core, is_closed, demand) = (&self.core, self.closed, self.core.demand(source));
        core.poll_for_room(&mut self.waiter, cx, demand, |ticket| match is_closed {
            true => Err(Refusal::Closed),
            false => core.push(source, ticket),
        })
    }

    /// Gives up this handle's wait for room. To be called when the handle is not polled again before it has another message.
    pub(crate) fn stop_waiting(&mut self) {
        self.core.stop_waiting(&mut self.waiter);
    }
}
