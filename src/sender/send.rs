//! The futures of [`Sender::send`] and [`Sender::send_with`], and sends for callers that poll.

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::Sender;
use super::parked::ParkedItem;
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
            Err(Refusal::Full) if self.sender.core().waits_when_full() => SlowPath::Wait(self),
            Err(refusal) => SlowPath::Done(Err(self.refused(refusal))),
        }
    }
}

impl Sender {
    /// Waits until the parked item is sent; ready at once if there is none. Returns it if the channel was closed before.
    pub(crate) fn poll_parked(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError<Bytes>>> {
        let Some(parked) = &self.parked else { return Poll::Ready(Ok(())) };
        let refused = ready!(parked.poll_done(cx));
        (self.parked, self.is_held) = (None, self.closed);
        Poll::Ready(refused.map_or(Ok(()), |item| Err(self.refused(Refusal::Closed, item))))
    }

    /// Waits until there is room for a message of one byte, unless the channel never waits.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        if !self.core.waits_when_full() || (!self.waiter.is_registered() && self.core.has_room(None)) {
            return Poll::Ready(Ok(()));
        }
        self.core.poll_has_room(&mut self.waiter, cx)
    }

    /// Sends a message, or parks it if there is no room. The caller has no parked item.
    ///
    /// If this handle has waited for room, it still has its place.
    pub(crate) fn send_or_park(&mut self, message: Bytes) -> Result<(), SendError<Bytes>> {
        let mut source = PayloadSource(message);
        match self.push(&mut source, self.waiter.ticket()) {
            Err(Refusal::Full) if self.core.waits_when_full() => {
                let waiter = self.waiter.hand_over();
                (self.parked, self.is_held) = (Some(ParkedItem::park(&self.core, source, waiter)), true);
                Ok(())
            }
            sent => {
                self.stop_waiting();
                sent.map_err(|refusal| self.refused(refusal, source.0))
            }
        }
    }

    pub(crate) fn has_parked(&self) -> bool {
        self.parked.as_ref().is_some_and(|parked| !parked.is_done())
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
                Err(Refusal::Full) if self.core.waits_when_full() => {}
                result => return Poll::Ready(result),
            }
        }
        let (core, held, demand) = (&self.core, self.check_held(), self.core.demand(source));
        core.poll_for_room(&mut self.waiter, cx, demand, |ticket| {
            held?;
            core.push(source, ticket)
        })
    }

    /// Gives up this handle's wait for room. To be called when the handle is not polled again before it has another message.
    pub(crate) fn stop_waiting(&mut self) {
        self.core.stop_waiting(&mut self.waiter);
    }
}
