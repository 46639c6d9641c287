//! [`Limit`]: how much one call may take.

/// How much one call may take: a number of messages, and optionally of bytes.
///
/// Every method that takes a limit also takes a plain number of messages. The limit in bytes is what bounds a batch of long
/// messages: external ones take few bytes of a segment, and do not count against [`max_bytes`](crate::Builder::max_bytes) once
/// they are received.
///
/// # Examples
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use turbostream::Limit;
/// let (tx, mut rx) = turbostream::channel();
/// tx.send_many(["four", "more", "a longer message"]).await?;
/// let limit = Limit::messages(100).bytes(10);
/// assert_eq!(rx.recv_batch(limit).await.unwrap().payload_bytes(), 8);
/// assert_eq!(rx.recv_batch(limit).await.unwrap().payload_bytes(), 16); // the first message is always taken
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Limit {
    /// Allows up to this many messages, of any length.
    pub const fn messages(messages: usize) -> Self {
        Self { messages, bytes: usize::MAX }
    }

    /// Allows up to this many payload bytes in total. The first message is taken even if it is longer.
    #[must_use]
    pub const fn bytes(self, bytes: usize) -> Self {
        Self { bytes, ..self }
    }
}

impl From<usize> for Limit {
    /// Allows up to this many messages, of any length.
    fn from(messages: usize) -> Self {
        Self::messages(messages)
    }
}
