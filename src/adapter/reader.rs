//! A receiver as an `AsyncRead` and `AsyncBufRead`.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};

use crate::receiver::Receiver;

impl Receiver {
    /// Turns this handle into an [`AsyncRead`] and [`AsyncBufRead`] over the concatenated messages.
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
/// Message boundaries are not visible, and empty messages are skipped. A read waits for the first byte only, and then
/// returns what is available. It returns 0 bytes when the channel is closed and drained. It never fails.
///
/// Clones of the receiver compete for whole messages. The unread part of a message that this reader has taken is in its
/// [`buffer`](Self::buffer); dropping the reader loses it.
///
/// # Cancel safety
///
/// A `read`, `read_buf` or `fill_buf` that is dropped before it is ready has taken nothing. The reader stays registered
/// as a waiter; drop it if it is not polled any more.
///
/// # Examples
///
/// With [`tokio_util::codec`](https://docs.rs/tokio-util/latest/tokio_util/codec), frames are independent of messages:
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
    /// The unread part of the latest message.
    message: Bytes,
}

impl Reader {
    /// Returns the receiver.
    pub fn get_ref(&self) -> &Receiver {
        &self.receiver
    }

    /// Returns the unread part of the latest message.
    pub fn buffer(&self) -> &[u8] {
        &self.message
    }

    /// Returns the receiver, and drops the [`buffer`](Self::buffer).
    pub fn into_inner(mut self) -> Receiver {
        self.receiver.deregister_own_waiter();
        self.receiver
    }

    /// Waits until `message` is not empty, or the channel is closed and drained.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Skip empty messages: a read of 0 bytes means the end.
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
            // Even an empty slice of a message keeps its memory lent.
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
        // Fill the buffer with messages that are ready. `poll_recv` could register a waiter here, although this read is
        // ready and the caller may not poll again.
        while buf.remaining() > 0 {
            match this.receiver.try_take_fast() {
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
