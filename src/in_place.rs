//! Sending a message that is written where it will lie.

use crate::channel::Refusal;
use crate::error::SendError;
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
    pub async fn send_with<F>(&self, max_len: usize, write: F) -> Result<(), SendError<F>>
    where
        F: FnOnce(&mut [u8]) -> usize,
    {
        self.pace.keep().await;
        let mut write = Some(write);
        let attempt = |turn| match self.released {
            true => Err(Refusal::Closed),
            false => self.core().accept_with(max_len, &mut write, turn),
        };
        let sent = self.write_or_wait(attempt).await;
        sent.map_err(|refusal| self.refused(refusal, write.expect("what was refused is still here")))
    }
}
