//! A sender as an `AsyncWrite`, and as a `Write` for plain threads.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use memchr::memchr;
use tokio::io::AsyncWrite;

use crate::channel::Refusal;
use crate::channel::payload::Payload;
use crate::channel::source::{EXTERNAL_MIN_BYTES, PayloadSource, Source};
use crate::error::SendError;
use crate::sender::Sender;
use crate::wait::blocking;

/// The most records that one write takes. The next write then yields if the task's budget is used up.
const MAX_RECORDS: usize = 32;

impl Sender {
    /// Turns this handle into an [`AsyncWrite`] that sends each non-empty write as one message.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tokio::io::AsyncWriteExt;
    /// let (tx, mut rx) = turbostream::channel();
    /// let mut writer = tx.into_writer();
    /// writer.write_all(b"one message").await?;
    /// writer.write_all(b"and another").await?;
    /// writer.shutdown().await?; // releases the handle, here the last one
    /// assert_eq!(rx.recv().await.unwrap(), "one message");
    /// assert_eq!(rx.recv().await.unwrap(), "and another");
    /// assert_eq!(rx.recv().await, None);
    /// # Ok(()) }
    /// ```
    pub fn into_writer(self) -> Writer {
        Writer::new(self, None)
    }

    /// Turns this handle into an [`AsyncWrite`] that sends each record as one message.
    ///
    /// A record ends with `delimiter`, which is part of the message. How writes split the bytes does not matter. A record of
    /// more than `max_message_bytes` stops the writer, or is skipped: see [`Writer`], *Overlong records*.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tokio::io::AsyncWriteExt;
    /// let (tx, mut rx) = turbostream::channel();
    /// let mut input: &[u8] = b"first line\nsecond line\nno end of line";
    /// let mut lines = tx.into_delimited_writer(b'\n');
    /// tokio::io::copy(&mut input, &mut lines).await?;
    /// lines.shutdown().await?; // sends the unfinished last line
    /// assert_eq!(rx.recv().await.unwrap(), "first line\n");
    /// assert_eq!(rx.recv().await.unwrap(), "second line\n");
    /// assert_eq!(rx.recv().await.unwrap(), "no end of line");
    /// # Ok(()) }
    /// ```
    pub fn into_delimited_writer(self, delimiter: u8) -> Writer {
        Writer::new(self, Some(delimiter))
    }
}

/// A [`Sender`] as an [`AsyncWrite`]; made by [`Sender::into_writer`] and [`Sender::into_delimited_writer`].
///
/// **Write.** Bytes that a write has taken are in the channel, except an unfinished record: the writer keeps it until its
/// delimiter is written. It holds up to `max_message_bytes`, in a vector of up to twice the capacity, and is not part of
/// `max_bytes`. Between records the vector keeps at most 64 KiB. A write waits while the
/// channel is full; if the channel drops messages when full ([`WhenFull`](crate::WhenFull)), the write succeeds. An empty
/// write sends no message.
///
/// **Flush** makes all messages visible to receivers, and does not wait until they are read. It does not end a record:
/// `tokio::io::copy` and `copy_buf` flush whenever their reader is slow. Without
/// [`on_demand`](crate::Builder::on_demand) each flush ends a batch and uses a segment. While sealed segments take a
/// quarter of the channel's memory, and are at least four, a flush is deferred until a receiver has shortened that backlog.
///
/// **Shutdown** sends an unfinished record as it is, flushes, and releases this handle. Dropping the writer without a
/// shutdown drops the unfinished record.
///
/// # Overlong records
///
/// A record of more than `max_message_bytes`, with its delimiter, is never sent, and no part of it is sent as a record:
///
/// - By default the write that exceeds the length fails with `InvalidInput`, and so does every further write, in however
///   many writes the record came. A shutdown then drops the record. [`take_buffer`](Self::take_buffer) gives the record
///   up: the writer goes on after the bytes of the refused write, at the next beginning of a record.
/// - With [`skip_overlong`](Self::skip_overlong) writes succeed, and such records are left out and
///   [counted](Self::skipped_records).
///
/// A `write_all` or a `copy` that fails does not say how much it had written. So for a stream that is to go on after an
/// overlong record, use `skip_overlong`: it loses no other record.
///
/// # Errors
///
/// A write that fails has taken nothing. The [`io::Error`] contains a `SendError<()>`:
///
/// - `BrokenPipe`: all receivers were dropped, or the channel was closed, or this writer was shut down.
/// - `InvalidInput`: the message is longer than `max_message_bytes`. A writer of records then refuses all further writes;
///   see *Overlong records*.
/// - `StorageFull`: there is no room, on a channel built with [`WhenFull::Reject`](crate::WhenFull::Reject).
///
/// # Cancel safety
///
/// A `write` or `write_buf` that is dropped before it is ready has taken nothing; a `write_all` may have taken a part, as
/// with every writer. The writer stays registered as a waiter for room: drop it if it is not used any more.
///
/// # Examples
///
/// With [`tokio_util::codec`](https://docs.rs/tokio-util/latest/tokio_util/codec), which may write several frames at
/// once:
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use futures::SinkExt;
/// use tokio_util::codec::{FramedWrite, LinesCodec};
/// let (tx, mut rx) = turbostream::channel();
/// let mut lines = FramedWrite::new(tx.into_delimited_writer(b'\n'), LinesCodec::new());
/// lines.send("a line").await?;
/// assert_eq!(rx.recv().await.unwrap(), "a line\n");
/// # Ok(()) }
/// ```
pub struct Writer {
    sender: Sender,
    /// Ends a record; if `None`, each write is a message.
    delimiter: Option<u8>,
    /// The unfinished record.
    record: Vec<u8>,
    /// Set while a record is refused: `record` is its beginning.
    refused: Option<RefusedRecord>,
    /// The bytes up to the next delimiter belong to a record that was given up or skipped.
    discarding: bool,
    skips_overlong: bool,
    sent: u64,
    skipped: u64,
}

/// A record that is longer than a message may be.
#[derive(Clone, Copy)]
struct RefusedRecord {
    len: usize,
    max: usize,
    /// The last refused write ended with a delimiter, so the bytes after it begin a record.
    ended: bool,
}

impl Writer {
    fn new(sender: Sender, delimiter: Option<u8>) -> Self {
        Self {
            sender,
            delimiter,
            record: Vec::new(),
            refused: None,
            discarding: false,
            skips_overlong: false,
            sent: 0,
            skipped: 0,
        }
    }

    /// Skips and counts records of more than `max_message_bytes`, where writes would fail otherwise.
    ///
    /// Of a record that is skipped nothing is kept. It changes nothing for a writer without a delimiter.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, mut rx) = turbostream::builder().max_message_bytes(10).build()?;
    /// let mut lines = tx.into_delimited_writer(b'\n').skip_overlong();
    /// let mut input: &[u8] = b"one\nmuch too long for a message\ntwo\n";
    /// tokio::io::copy(&mut input, &mut lines).await?;
    /// assert_eq!(rx.recv().await.unwrap(), "one\n");
    /// assert_eq!(rx.recv().await.unwrap(), "two\n");
    /// assert_eq!((lines.sent_messages(), lines.skipped_records()), (2, 1));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn skip_overlong(mut self) -> Self {
        self.skips_overlong = true;
        self
    }

    /// Returns how many messages this writer has sent, those that the channel dropped included
    /// ([`WhenFull`](crate::WhenFull)).
    pub fn sent_messages(&self) -> u64 {
        self.sent
    }

    /// Returns how many overlong records were skipped, one whose delimiter has not arrived included; see
    /// [`skip_overlong`](Self::skip_overlong). [`Stats::send_errors`](crate::Stats::send_errors) counts those of the channel
    /// as too large.
    pub fn skipped_records(&self) -> u64 {
        self.skipped
    }

    /// Returns the sender.
    pub fn get_ref(&self) -> &Sender {
        &self.sender
    }

    /// Returns the unfinished record: the bytes since the last delimiter, or the beginning of a refused record.
    pub fn buffer(&self) -> &[u8] {
        &self.record
    }

    /// Takes the unfinished record out of the [`buffer`](Self::buffer); the next write begins a new record.
    ///
    /// If a record was refused as overlong, this gives it up, and returns its beginning without the bytes of refused
    /// writes. Continue with the bytes after those, and do not repeat them: if they did not end with a delimiter, the writer
    /// discards what follows, up to the next delimiter.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tokio::io::AsyncWriteExt;
    /// let (tx, mut rx) = turbostream::builder().max_message_bytes(10).build()?;
    /// let mut lines = tx.into_delimited_writer(b'\n');
    /// lines.write_all(b"much ").await?;
    /// assert!(lines.write_all(b"too long\n").await.is_err());
    /// assert_eq!(lines.take_buffer(), b"much ");
    /// lines.write_all(b"short\n").await?;
    /// assert_eq!(rx.recv().await.unwrap(), "short\n");
    /// # Ok(()) }
    /// ```
    pub fn take_buffer(&mut self) -> Vec<u8> {
        if let Some(refused) = self.refused.take() {
            self.discarding = !refused.ended;
        }
        mem::take(&mut self.record)
    }

    /// Returns the sender, and drops an unfinished record; see [`take_buffer`](Self::take_buffer).
    pub fn into_inner(mut self) -> Sender {
        self.sender.stop_waiting();
        self.sender
    }

    /// Turns this writer into a [`Write`](io::Write) for plain threads and `spawn_blocking`.
    ///
    /// An unfinished record is kept.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::io::Write;
    /// let (tx, mut rx) = turbostream::channel();
    /// let mut lines = tx.into_delimited_writer(b'\n').into_blocking();
    /// let thread = std::thread::spawn(move || {
    ///     writeln!(lines, "line {} in {} writes", 1, 5)?;
    ///     lines.write_all(b"unfinished")?;
    ///     lines.finish()
    /// });
    /// assert_eq!(rx.recv().await.unwrap(), "line 1 in 5 writes\n");
    /// assert_eq!(rx.recv().await.unwrap(), "unfinished");
    /// thread.join().unwrap()?;
    /// # Ok(()) }
    /// ```
    pub fn into_blocking(self) -> BlockingWriter {
        BlockingWriter { writer: self }
    }

    /// Waits until a write may start: no item of the sink is parked, and the task has budget left.
    ///
    /// Fails if the channel is closed.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.sender.poll_parked(cx))?;
        if self.sender.is_closed() {
            return Poll::Ready(Err(SendError::Closed(()).into()));
        }
        self.sender.poll_pay(cx).map(Ok)
    }

    /// Sends one message. If there is no room, it waits with a context, and is `Pending` unregistered without one.
    fn poll_message<P: Payload>(
        &mut self,
        source: &mut PayloadSource<P>,
        cx: Option<&mut Context<'_>>,
    ) -> Poll<Result<(), Refusal>> {
        let sent = match cx {
            Some(cx) => ready!(self.sender.poll_send(source, cx)),
            None => match self.sender.push(source, None) {
                Err(Refusal::Full) => return Poll::Pending,
                result => result,
            },
        };
        if sent.is_ok() {
            self.sender.budget().count_one();
            self.sent += 1;
        }
        Poll::Ready(sent)
    }

    /// Takes records from `bytes`. Waits for room for the first only; returns the number of bytes taken.
    fn poll_records(
        &mut self,
        bytes: &[u8],
        delimiter: u8,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, Refusal>> {
        let first = match self.refused {
            Some(RefusedRecord { len, max, .. }) => Err(Refusal::TooLarge { len, max }),
            None => ready!(self.poll_record(bytes, delimiter, Some(cx))),
        };
        if let Err(Refusal::TooLarge { len, max }) = first {
            self.refused = Some(RefusedRecord { len, max, ended: bytes.ends_with(&[delimiter]) });
        }
        let mut taken = first?;
        let mut records = 1;
        while taken < bytes.len() && records < MAX_RECORDS {
            match self.poll_record(&bytes[taken..], delimiter, None) {
                Poll::Ready(Ok(len)) => (taken, records) = (taken + len, records + 1),
                // Return what was taken. A refusal is not counted here: the next write meets it again.
                Poll::Ready(Err(_)) | Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(taken))
    }

    /// Takes up to one record from `bytes`: sends it if its delimiter is there, keeps it otherwise.
    fn poll_record(
        &mut self,
        bytes: &[u8],
        delimiter: u8,
        cx: Option<&mut Context<'_>>,
    ) -> Poll<Result<usize, Refusal>> {
        let end = memchr(delimiter, bytes).map(|at| at + 1);
        let part = &bytes[..end.unwrap_or(bytes.len())];
        if self.discarding {
            self.discarding = end.is_none();
            return Poll::Ready(Ok(part.len()));
        }
        let (len, max) = (self.record.len() + part.len(), self.sender.core().max_message_bytes());
        if len > max {
            if !self.skips_overlong {
                return Poll::Ready(Err(Refusal::TooLarge { len, max }));
            }
            self.record = Vec::new();
            self.skipped += 1;
            self.sender.core().count_refusal(Refusal::TooLarge { len, max });
            self.discarding = end.is_none();
        } else if end.is_none() {
            self.record.extend_from_slice(part);
        } else if self.record.is_empty() {
            ready!(self.poll_message(&mut PayloadSource(part), cx))?;
        } else {
            let before = self.record.len();
            self.record.extend_from_slice(part);
            let sent = self.poll_buffer(cx);
            if !matches!(sent, Poll::Ready(Ok(()))) {
                self.record.truncate(before);
            }
            ready!(sent)?;
        }
        Poll::Ready(Ok(part.len()))
    }

    /// Sends the buffered record; keeps it if that fails.
    fn poll_buffer(&mut self, cx: Option<&mut Context<'_>>) -> Poll<Result<(), Refusal>> {
        let mut record = mem::take(&mut self.record);
        if record.len() >= EXTERNAL_MIN_BYTES {
            let mut source = PayloadSource(record);
            let sent = self.poll_message(&mut source, cx);
            // A sent payload leaves an empty one here.
            self.record = source.into_returned();
            return sent;
        }
        let sent = self.poll_message(&mut PayloadSource(&record[..]), cx);
        if matches!(sent, Poll::Ready(Ok(()))) {
            record.clear();
        }
        self.record = record;
        sent
    }
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(this.poll_ready(cx))?;
        let taken = match this.delimiter {
            Some(delimiter) => ready!(this.poll_records(bytes, delimiter, cx)),
            None => ready!(this.poll_message(&mut PayloadSource(bytes), Some(cx))).map(|()| bytes.len()),
        };
        Poll::Ready(taken.map_err(|refusal| this.sender.refused(refusal, ()).into()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sender = &mut self.get_mut().sender;
        ready!(sender.poll_parked(cx))?;
        sender.core().flush();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.sender.poll_parked(cx))?;
        if self.refused.is_some() {
            drop(self.take_buffer());
        }
        if !self.record.is_empty() {
            let sent = ready!(self.poll_buffer(Some(cx)));
            sent.map_err(|refusal| self.sender.refused(refusal, ()))?;
        }
        ready!(self.as_mut().poll_flush(cx))?;
        self.sender.release();
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("sender", &self.sender)
            .field("delimiter", &self.delimiter)
            .field("buffered", &self.record.len())
            .finish()
    }
}

/// A [`Sender`] as an [`io::Write`] for plain threads and for `spawn_blocking`; made by [`Writer::into_blocking`].
///
/// Writes, flushes and errors are those of [`Writer`]; where that waits, this blocks its thread. [`io::Write`] has no
/// shutdown: if a record may be unfinished, call [`finish`](Self::finish) at the end.
///
/// # Panics
///
/// A write, a flush and `finish` panic in the same contexts as [`blocking_send`](Sender::blocking_send).
#[derive(Debug)]
pub struct BlockingWriter {
    writer: Writer,
}

impl BlockingWriter {
    /// Returns the writer for async code, with its unfinished record.
    pub fn into_inner(self) -> Writer {
        self.writer
    }

    /// Sends an unfinished record as it is, flushes, and releases this handle, as the shutdown of a [`Writer`] does.
    ///
    /// # Errors
    ///
    /// Those of a write; the record then stays in the [`buffer`](Writer::buffer).
    #[track_caller]
    pub fn finish(&mut self) -> io::Result<()> {
        blocking::block_on(
            "BlockingWriter::finish",
            poll_fn(|cx| Pin::new(&mut self.writer).poll_shutdown(cx)),
        )
    }
}

impl io::Write for BlockingWriter {
    #[track_caller]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        blocking::block_on(
            "BlockingWriter::write",
            poll_fn(|cx| Pin::new(&mut self.writer).poll_write(cx, bytes)),
        )
    }

    #[track_caller]
    fn flush(&mut self) -> io::Result<()> {
        blocking::block_on("BlockingWriter::flush", poll_fn(|cx| Pin::new(&mut self.writer).poll_flush(cx)))
    }
}
