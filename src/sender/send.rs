//! The futures of [`Sender::send`] and [`Sender::send_with`].

use std::task::{Context, Poll};

use super::Sender;
use crate::channel::source::Source;
use crate::channel::{QueuePosition, Refusal};
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
    ) -> impl Future<Output = Result<(), SendError<S::Input>>> + use<'a, S> {
        FastThenWait::new(Self { sender, source }, |operation| Box::pin(operation.send_slow()))
    }

    fn refused(self, refusal: Refusal) -> SendError<S::Input> {
        self.sender.refused(refusal, self.source.into_input())
    }

    /// Waits for room and sends the message.
    #[cold]
    async fn send_slow(mut self) -> Result<(), SendError<S::Input>> {
        let sender = self.sender;
        let sent = sender.wait_for_room(|position| sender.push(&mut self.source, position)).await;
        sent.map_err(|refusal| self.refused(refusal))
    }
}

impl<S: Source> FastPath for SendOperation<'_, S> {
    type Output = Result<(), SendError<S::Input>>;

    #[inline(always)]
    fn try_fast(&mut self) -> Poll<Self::Output> {
        let sender = self.sender;
        if sender.budget.is_due() || !sender.write_fast(&mut self.source) {
            return Poll::Pending;
        }
        sender.budget.tick();
        Poll::Ready(Ok(()))
    }

    fn try_slow(mut self, cx: &mut Context<'_>) -> SlowPath<Self::Output, Self> {
        if self.sender.budget.poll_consume(cx).is_pending() {
            return SlowPath::Yield(self);
        }
        match self.sender.push(&mut self.source, QueuePosition::Barging) {
            Ok(()) => SlowPath::Done(Ok(())),
            Err(Refusal::Full) if !self.sender.core().rejects_when_full() => SlowPath::Wait(self),
            Err(refusal) => SlowPath::Done(Err(self.refused(refusal))),
        }
    }
}
