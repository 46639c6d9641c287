//! The reading end as an `AsyncRead` and an `AsyncBufRead`.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};

use crate::receiver::Receiver;

impl Receiver {
    /// This handle as an [`AsyncRead`] and [`AsyncBufRead`]: the bytes of all messages, one after the other.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, rx) = turbostream::channel();
    /// tx.send("one after ").await?;
    /// tx.send("the other").await?;
    /// drop(tx);
    /// let mut output = Vec::new();
    /// let bytes = tokio::io::copy(&mut rx.into_reader(), &mut output).await?;
    /// assert_eq!((bytes, &output[..]), (19, &b"one after the other"[..]));
    /// # Ok(()) }
    /// ```
    pub fn into_reader(self) -> Reader {
        Reader { receiver: self, message: Bytes::new() }
    }
}

/// A [`Receiver`] as an [`AsyncRead`] and [`AsyncBufRead`]; made by [`Receiver::into_reader`].
///
/// Where one message ends and the next begins does not show, and empty ones do not at all. A read waits for the first
/// byte only, and then takes what is there. It ends, with 0 bytes, when the channel is closed and drained, and never
/// fails.
///
/// Clones compete, each for whole messages. What was not read yet of a message that this reader has taken is in its
/// [`buffer`](Self::buffer), and lost when it is dropped.
///
/// # Cancel safety
///
/// A `read`, `read_buf` or `fill_buf` that is dropped before it returned has taken nothing. The reader keeps its slot
/// among those who wait; drop it where it is not polled any more.
///
/// # Examples
///
/// With [`tokio_util::codec`](https://docs.rs/tokio-util/latest/tokio_util/codec), whatever messages the bytes came in:
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use futures::StreamExt;
/// use tokio_util::codec::{FramedRead, LinesCodec};
/// let (tx, rx) = turbostream::channel();
/// tx.send("first li").await?;
/// tx.send("ne\nsecond line\n").await?;
/// drop(tx);
/// let mut lines = FramedRead::new(rx.into_reader(), LinesCodec::new());
/// assert_eq!(lines.next().await.unwrap()?, "first line");
/// assert_eq!(lines.next().await.unwrap()?, "second line");
/// assert!(lines.next().await.is_none());
/// # Ok(()) }
/// ```
pub struct Reader {
    receiver: Receiver,
    /// What was not read yet of the latest message.
    message: Bytes,
}

impl Reader {
    /// The handle that is read from.
    pub fn get_ref(&self) -> &Receiver {
        &self.receiver
    }

    /// What was not read yet of the latest message.
    pub fn buffer(&self) -> &[u8] {
        &self.message
    }

    /// The handle again. What is in the [`buffer`](Self::buffer) is dropped.
    pub fn into_inner(self) -> Receiver {
        self.receiver.deregister_own_waiter();
        self.receiver
    }

    /// Waits until there are bytes, or none will come any more.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // To a reader an empty message would be the end. It keeps memory lent all the same, so it does not stay here.
        while self.message.is_empty() {
            match ready!(self.receiver.poll_recv(cx)) {
                Some(message) if message.is_empty() => {}
                Some(message) => self.message = message,
                None => break,
            }
        }
        Poll::Ready(())
    }

    fn advance(&mut self, bytes: usize) {
        self.message.advance(bytes);
        if self.message.is_empty() {
            // What is left of a message keeps its memory lent, also if nothing is.
            self.message = Bytes::new();
        }
    }

    fn copy_to(&mut self, buf: &mut ReadBuf<'_>) {
        let len = self.message.len().min(buf.remaining());
        buf.put_slice(&self.message[..len]);
        self.advance(len);
    }
}

impl AsyncRead for Reader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_message(cx));
        this.copy_to(buf);
        // Messages that are at hand fill the rest. Polling for more would leave a spot in the list that nobody may poll.
        while buf.remaining() > 0 {
            match this.receiver.take_at_hand() {
                Some(message) if !message.is_empty() => this.message = message,
                _ => break,
            }
            this.copy_to(buf);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncBufRead for Reader {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_message(cx));
        Poll::Ready(Ok(&this.message))
    }

    fn consume(mut self: Pin<&mut Self>, bytes: usize) {
        let bytes = bytes.min(self.message.len());
        self.advance(bytes);
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("receiver", &self.receiver)
            .field("buffered", &self.message.len())
            .finish()
    }
}
