//! Sending a message that is written where it will lie.

use std::task::{Context, Poll, ready};

use crate::channel::{Refusal, Standing};
use crate::error::SendError;
use crate::quick::{Quick, QuickOr};
use crate::sender::Sender;

impl Sender {
    /// Has `write` put one message where it will lie, without a copy, waiting for room while the channel is full.
    ///
    /// `write` gets `max_len` zeroed bytes and returns how many of them, from the start, are the message. What it leaves
    /// of them stays unused until its segment is used again, so `max_len` should be a good guess. It is called once,
    /// when there is room, and under no lock; but receivers get nothing from behind its message before it returned, so
    /// it should be quick, and must not wait for anything to be received from this channel.
    ///
    /// Where a message has to be dropped, as [`WhenFull::DropNewest`](crate::WhenFull::DropNewest) says, `write` is not
    /// called, and the message counts with `max_len` bytes.
    ///
    /// Where `max_len` is more than a segment holds, the message is written to an allocation of its own, and travels by
    /// reference.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send), with `write` inside, which then was not called; [`SendError::TooLarge`] if
    /// `max_len` is more than `max_message_bytes`, however short the message would have come out.
    ///
    /// # Panics
    ///
    /// If `write` does, or if it returns more than `max_len`. Then nothing was sent: receivers never see what was
    /// written, nothing but its sequence is missing, and the channel goes on.
    ///
    /// # Cancel safety
    ///
    /// A `send_with` that is dropped before it returned has neither called `write` nor sent anything.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::io::Write;
    /// let (tx, rx) = turbostream::channel();
    /// for reading in [3.25, 14.5] {
    ///     tx.send_with(64, move |mut buf| {
    ///         let room = buf.len();
    ///         write!(buf, "reading {reading}").expect("64 bytes are enough");
    ///         room - buf.len()
    ///     })
    ///     .await?;
    /// }
    /// assert_eq!(rx.recv().await.unwrap(), "reading 3.25");
    /// assert_eq!(rx.recv().await.unwrap(), "reading 14.5");
    /// # Ok(()) }
    /// ```
    #[inline]
    pub fn send_with<F>(&self, max_len: usize, write: F) -> impl Future<Output = Result<(), SendError<F>>>
    where
        F: FnOnce(&mut [u8]) -> usize,
    {
        let one = WriteOne { sender: self, max_len, write: Some(write) };
        QuickOr::new(one, |one| Box::pin(one.wait_and_write()))
    }
}

/// One message to be written in place.
struct WriteOne<'a, F> {
    sender: &'a Sender,
    max_len: usize,
    /// There until it is called.
    write: Option<F>,
}

impl<F: FnOnce(&mut [u8]) -> usize> WriteOne<'_, F> {
    fn attempt(&mut self, standing: Standing) -> Result<(), Refusal> {
        match self.sender.released {
            true => Err(Refusal::Closed),
            false => self.sender.core().accept_with(self.max_len, &mut self.write, standing),
        }
    }

    fn refused(&mut self, refusal: Refusal) -> SendError<F> {
        self.sender.refused(refusal, self.write.take().expect("what was refused is still here"))
    }

    /// The rest of a `send_with` that found no room.
    #[cold]
    async fn wait_and_write(mut self) -> Result<(), SendError<F>> {
        let written = self.sender.wait_to_write(|standing| self.attempt(standing)).await;
        written.map_err(|refusal| self.refused(refusal))
    }
}

impl<F: FnOnce(&mut [u8]) -> usize> Quick for WriteOne<'_, F> {
    type Output = Result<(), SendError<F>>;

    #[inline(always)]
    fn try_at_once(&mut self) -> Option<Self::Output> {
        let sender = self.sender;
        if sender.pace.is_due()
            || sender.released
            || !sender.core().write_in_place_quickly(self.max_len, &mut self.write)
        {
            return None;
        }
        sender.pace.tick();
        Some(Ok(()))
    }

    fn try_further(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::Output>> {
        let sender = self.sender;
        let tried = ready!(sender.poll_without_waiting(cx, || self.attempt(Standing::Newcomer)));
        Poll::Ready(tried.map(|written| written.map_err(|refusal| self.refused(refusal))))
    }
}
