//! [`Sender::send_many`], which reserves room for many messages at once.

use std::collections::VecDeque;
use std::fmt;
use std::iter::{Fuse, FusedIterator};

use super::Sender;
use crate::channel::payload::Payload;
use crate::channel::source::PayloadSource;
use crate::channel::{MAX_RANGE_MESSAGES, Refusal};
use crate::error::SendError;
use crate::queue::pool::room_waiters::Ticket;

impl Sender {
    /// Sends all messages of an iterator, waiting for room while the channel is full. Returns their number.
    ///
    /// Small messages are accepted in groups: as many as fit in the active segment, up to 32. No other sender's
    /// message comes between the messages of a group, and a group costs less than one [`send`](Self::send) for each
    /// message. To form groups, up to 32 payloads are taken out of the iterator before they are sent. An external
    /// payload is accepted by itself. Messages are accepted in the order of the iterator, and can be received before
    /// this method returns.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), at the first payload that is refused. The error contains a [`SendManyError`]: the
    /// number of messages accepted before, and all payloads that were not accepted.
    ///
    /// # Panics
    ///
    /// Panics if the iterator panics. Messages accepted before stay accepted; payloads taken out of the iterator and
    /// not yet sent are dropped. If the drop of a payload that was copied panics, the panic is caught and counted in
    /// [`Stats::panics`](crate::Stats::panics).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, a prefix of the messages was sent, each of them in full. The
    /// iterator and the payloads that were taken out of it are dropped. If it matters which messages were not sent,
    /// pass payloads that can be sent again, such as slices of a buffer, or use [`send`](Self::send).
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
    /// assert_eq!(tx.send_many(unsent.remaining).await?, 1); // continues after the refused message
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
        let mut payloads = payloads.into_iter().fuse();
        let mut buffered = VecDeque::with_capacity(MAX_RANGE_MESSAGES.min(payloads.size_hint().0.max(1)));
        let mut accepted = 0;
        loop {
            buffered.extend(payloads.by_ref().take(MAX_RANGE_MESSAGES - buffered.len()));
            let Some(first) = buffered.front() else { return Ok(accepted) };
            let demand = self.core().payload_demand(first);
            self.budget.pay(self.clock()).await;
            let written = self.write_or_wait_for_room(demand, |ticket| {
                self.check_held()?;
                self.write_range(&mut buffered, ticket)
            });
            match written.await {
                Ok(messages) => {
                    accepted += messages;
                    self.budget.count(messages);
                }
                Err(refusal) => {
                    let payload = buffered.pop_front().expect("the refused payload is the first one");
                    let remaining = Remaining { buffered, payloads };
                    return Err(self.refused(refusal, SendManyError { accepted, payload, remaining }));
                }
            }
        }
    }
}

impl Sender {
    /// Accepts as many of the first payloads as one reservation has room for. Removes them, and returns their number.
    fn write_range<P: Payload>(
        &self,
        buffered: &mut VecDeque<P>,
        ticket: Option<Ticket>,
    ) -> Result<usize, Refusal> {
        match self.core().try_write_range(buffered, ticket) {
            Err(Refusal::Full) if self.core().drops_when_full() => {
                let Some(first) = buffered.pop_front() else { return Ok(0) };
                let mut first = PayloadSource(first);
                let pushed = self.core().push(&mut first, ticket);
                match pushed {
                    Ok(()) => self.core().drop_payload(first),
                    Err(_) => buffered.push_front(first.0),
                }
                pushed.map(|()| 1)
            }
            result => result,
        }
    }
}

/// What a refused [`send_many`](Sender::send_many) has sent, and what it has not.
///
/// As an iterator, it yields all payloads that were not accepted, in order, starting with the refused one.
///
/// # Examples
///
/// ```
/// # #[tokio::main] async fn main() {
/// let (tx, rx) = turbostream::channel();
/// drop(rx);
/// let error = tx.send_many(["a", "b"]).await.unwrap_err().into_inner();
/// assert_eq!(error.accepted, 0);
/// assert_eq!(error.into_iter().collect::<Vec<_>>(), ["a", "b"]);
/// # }
/// ```
#[non_exhaustive]
pub struct SendManyError<P, I> {
    /// The number of messages that were accepted before the refused one.
    pub accepted: usize,
    /// The payload that was refused.
    pub payload: P,
    /// The payloads after the refused one.
    pub remaining: Remaining<P, I>,
}

impl<P, I: Iterator<Item = P>> IntoIterator for SendManyError<P, I> {
    type Item = P;
    type IntoIter = Remaining<P, I>;

    fn into_iter(self) -> Remaining<P, I> {
        let mut all = self.remaining;
        all.buffered.push_front(self.payload);
        all
    }
}

/// Iterates over the payloads after a refused one, in order. See [`SendManyError`].
pub struct Remaining<P, I> {
    /// Payloads that were taken out of the iterator.
    buffered: VecDeque<P>,
    payloads: Fuse<I>,
}

impl<P, I: Iterator<Item = P>> Iterator for Remaining<P, I> {
    type Item = P;

    fn next(&mut self) -> Option<P> {
        self.buffered.pop_front().or_else(|| self.payloads.next())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (lower, upper) = self.payloads.size_hint();
        let buffered = self.buffered.len();
        (lower.saturating_add(buffered), upper.and_then(|upper| upper.checked_add(buffered)))
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
