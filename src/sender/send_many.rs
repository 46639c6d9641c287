//! Sending many messages at once.

use std::collections::VecDeque;
use std::fmt;
use std::iter::{Fuse, FusedIterator};

use super::Sender;
use crate::channel::payload::Payload;
use crate::channel::source::{PayloadSource, Source};
use crate::channel::{MAX_RANGE_MESSAGES, QueuePosition, Refusal};
use crate::error::SendError;

impl Sender {
    /// Sends many messages, waiting for room while the channel is full; returns how many were accepted, which is all of
    /// them.
    ///
    /// As many small messages as fit in the active segment, up to 32, are accepted in one step: no other sender's
    /// message comes between those, and they cost less than one `send` each. For this, up to 32 payloads are taken out
    /// of the iterator ahead of what is sent. Messages are accepted in the order of the iterator, and can be received
    /// while it goes on. A payload that travels by reference is accepted by itself.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send), at the first payload that is refused. Inside is an [`SendManyError`]: how many were
    /// accepted before, and all that were not.
    ///
    /// # Panics
    ///
    /// If the iterator does. What was accepted before stays so; the payloads taken out ahead are dropped.
    ///
    /// # Cancel safety
    ///
    /// What was accepted stays accepted, in full and in order, if the future is dropped before it returned. All else is
    /// dropped with it: the iterator, and the payloads taken out ahead. Where it matters which those are, send what
    /// can be sent again, such as slices of a buffer, or use [`send`](Self::send).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, rx) = turbostream::builder().max_message_bytes(1000).build()?;
    /// assert_eq!(tx.send_many(["a", "b", "c"]).await?, 3);
    ///
    /// let error = tx.send_many([vec![4; 4], vec![5; 5000], vec![6; 6]]).await.unwrap_err();
    /// let unsent = error.into_inner();
    /// assert_eq!(unsent.accepted, 1);
    /// assert_eq!(unsent.payload.len(), 5000);
    /// assert_eq!(tx.send_many(unsent.remaining).await?, 1); // goes on behind what was refused
    /// # assert_eq!(rx.len(), 5);
    /// # Ok(()) }
    /// ```
    pub async fn send_many<I>(
        &self,
        payloads: I,
    ) -> Result<usize, SendError<SendManyError<I::Item, I::IntoIter>>>
    where
        I: IntoIterator,
        I::Item: Payload,
    {
        let mut coming = payloads.into_iter().fuse();
        let mut taken = VecDeque::with_capacity(MAX_RANGE_MESSAGES.min(coming.size_hint().0.max(1)));
        let mut accepted = 0;
        loop {
            taken.extend(coming.by_ref().take(MAX_RANGE_MESSAGES - taken.len()));
            if taken.is_empty() {
                return Ok(accepted);
            }
            let written = self.write_or_wait_for_room(|position| match self.closed {
                true => Err(Refusal::Closed),
                false => self.write_range(&mut taken, position),
            });
            match written.await {
                Ok(messages) => {
                    accepted += messages;
                    // Only now: what is accepted is counted here, should this be given up.
                    self.budget.consume_n(messages).await;
                }
                Err(refusal) => {
                    let payload = taken.pop_front().expect("a refused payload is still here");
                    let remaining = Remaining { taken, coming };
                    return Err(self.refused(refusal, SendManyError { accepted, payload, remaining }));
                }
            }
        }
    }
}

impl Sender {
    /// Accepts the first of `taken`, as many as can be at once; returns how many.
    fn write_range<P: Payload>(
        &self,
        taken: &mut VecDeque<P>,
        position: QueuePosition,
    ) -> Result<usize, Refusal> {
        match self.core().try_write_range(taken, position) {
            Err(Refusal::Full) if self.core().drops_when_full() => {
                let Some(first) = taken.pop_front() else { return Ok(0) };
                let mut first = PayloadSource(first);
                let pushed = self.core().push(&mut first, position);
                if pushed.is_err() {
                    taken.push_front(first.into_input());
                }
                pushed.map(|()| 1)
            }
            result => result,
        }
    }
}

/// What a [`send_many`](Sender::send_many) that was refused has done, and what it has not.
///
/// Iterating over it gives all that was not accepted, in order: the refused payload, and then the rest.
///
/// # Examples
///
/// ```
/// # #[tokio::main] async fn main() {
/// let (tx, rx) = turbostream::channel();
/// drop(rx);
/// let unsent = tx.send_many(["a", "b"]).await.unwrap_err().into_inner();
/// assert_eq!(unsent.accepted, 0);
/// assert_eq!(unsent.into_iter().collect::<Vec<_>>(), ["a", "b"]);
/// # }
/// ```
#[non_exhaustive]
pub struct SendManyError<P, I> {
    /// How many messages were accepted before.
    pub accepted: usize,
    /// The payload that was refused.
    pub payload: P,
    /// Those that come behind it.
    pub remaining: Remaining<P, I>,
}

impl<P, I: Iterator<Item = P>> IntoIterator for SendManyError<P, I> {
    type Item = P;
    type IntoIter = Remaining<P, I>;

    fn into_iter(self) -> Remaining<P, I> {
        let mut all = self.remaining;
        all.taken.push_front(self.payload);
        all
    }
}

/// The payloads behind one that was refused, in order.
pub struct Remaining<P, I> {
    /// Taken out of the iterator ahead.
    taken: VecDeque<P>,
    coming: Fuse<I>,
}

impl<P, I: Iterator<Item = P>> Iterator for Remaining<P, I> {
    type Item = P;

    fn next(&mut self) -> Option<P> {
        self.taken.pop_front().or_else(|| self.coming.next())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = self.coming.size_hint();
        let taken = self.taken.len();
        (least.saturating_add(taken), most.and_then(|most| most.checked_add(taken)))
    }
}

impl<P, I: Iterator<Item = P>> FusedIterator for Remaining<P, I> {}

impl<P, I> fmt::Debug for SendManyError<P, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendManyError").field("accepted", &self.accepted).finish_non_exhaustive()
    }
}

impl<P, I> fmt::Debug for Remaining<P, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remaining").finish_non_exhaustive()
    }
}
