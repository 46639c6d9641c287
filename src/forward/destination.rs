//! [`Destination`]: what the forwarder needs of an engine, and the values that travel between the two.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::error::PublishError;

/// An engine that keeps messages: NATS JetStream, Kafka, an HTTP service, a file.
///
/// The [`Forwarder`](crate::forward::Forwarder) owns the window, the retries, the order, `flush` and `shutdown`. A
/// destination publishes one message at a time and says what became of it. All methods are called from one task, the
/// forwarder's; none may block.
///
/// In each of its turns the forwarder calls [`poll_ready`](Self::poll_ready), even with nothing to publish, so a
/// destination may drive its own I/O there.
///
/// A receipt must make progress without being polled: the forwarder polls the oldest only. Spawn a task for a future
/// that works only while it is polled, and return the task's handle.
///
/// # Examples
///
/// A destination that sends each message as a line to a server, which answers each with a line once it has stored it.
/// A task owns the connection. When the connection ends, it drops what confirms, and connects again.
///
/// ```
/// use std::collections::VecDeque;
/// use std::pin::Pin;
/// use std::task::{Context, Poll};
///
/// use bytes::Bytes;
/// use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
/// use tokio::net::TcpStream;
/// use tokio::sync::{mpsc, oneshot};
/// use turbostream::forward::{Confirmation, Destination, Forwarder, Outgoing, PublishError};
///
/// type Line = (Bytes, oneshot::Sender<()>);
///
/// struct Server(mpsc::UnboundedSender<Line>);
///
/// impl Destination for Server {
///     type Receipt = Receipt;
///
///     fn publish(&mut self, message: &Outgoing) -> Receipt {
///         let (confirm, confirmed) = oneshot::channel();
///         let _ = self.0.send((message.payload().clone(), confirm)); // if it fails, so does the receipt
///         Receipt(confirmed)
///     }
/// }
///
/// struct Receipt(oneshot::Receiver<()>);
///
/// impl Future for Receipt {
///     type Output = Result<Confirmation, PublishError>;
///
///     fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
///         Pin::new(&mut self.0).poll(cx).map(|confirmed| match confirmed {
///             Ok(()) => Ok(Confirmation::Stored),
///             Err(lost) => Err(PublishError::Retry(lost.into())),
///         })
///     }
/// }
///
/// async fn connection(address: &str, lines: &mut mpsc::UnboundedReceiver<Line>) -> std::io::Result<()> {
///     let (answers, mut server) = TcpStream::connect(address).await?.into_split();
///     let mut answers = BufReader::new(answers).lines();
///     let mut sent = VecDeque::new();
///     loop {
///         tokio::select! {
///             Some((line, confirm)) = lines.recv() => {
///                 server.write_all(&line).await?;
///                 server.write_all(b"\n").await?;
///                 sent.push_back(confirm);
///             }
///             answer = answers.next_line() => match (answer?, sent.pop_front()) {
///                 (Some(_), Some(confirm)) => drop(confirm.send(())),
///                 _ => return Ok(()),
///             },
///         }
///     }
/// }
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let address = listener.local_addr()?.to_string();
/// # let stored = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
/// # let store = stored.clone();
/// # tokio::spawn(async move {
/// #     for dies_after in [2, usize::MAX] {
/// #         let (from, mut to) = listener.accept().await.unwrap().0.into_split();
/// #         let mut lines = BufReader::new(from).lines();
/// #         for _ in 0..dies_after {
/// #             let Ok(Some(line)) = lines.next_line().await else { break };
/// #             store.lock().unwrap().push(line);
/// #             to.write_all(b"ok\n").await.unwrap();
/// #         }
/// #     }
/// # });
/// let (lines, mut unsent) = mpsc::unbounded_channel();
/// tokio::spawn(async move {
///     while !unsent.is_closed() {
///         let _ = connection(&address, &mut unsent).await;
///         tokio::time::sleep(std::time::Duration::from_millis(100)).await;
///     }
/// });
///
/// let (tx, rx) = turbostream::channel();
/// let forwarder = Forwarder::new(rx, Server(lines)).spawn();
/// for line in ["one", "two", "three", "four"] {
///     tx.send(line).await?;
/// }
/// forwarder.flush().await?; // although the server was restarted in between
/// # stored.lock().unwrap().dedup();
/// # assert!(stored.lock().unwrap().starts_with(&["one".into(), "two".into()]));
/// # assert!(stored.lock().unwrap().ends_with(&["three".into(), "four".into()]));
/// # assert_eq!(forwarder.stats().confirmed, 4);
/// # Ok(()) }
/// ```
pub trait Destination: Send + 'static {
    /// Resolves once the engine has taken responsibility for a message, or has refused it.
    ///
    /// The forwarder drops a receipt whose outcome it no longer needs, because it publishes the message again.
    type Receipt: Future<Output = Result<Confirmation, PublishError>> + Send + Unpin + 'static;

    /// Returns `Ready` if [`publish`](Self::publish) may be called now; drives what the destination does by itself.
    ///
    /// # Errors
    ///
    /// [`PublishError::Retry`] makes the forwarder publish again from the oldest unconfirmed message, after a pause.
    /// [`PublishError::Stop`] ends the forwarder. [`PublishError::Reject`] names no message here, and counts as `Stop`.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PublishError>> {
        let _ = cx;
        Poll::Ready(Ok(()))
    }

    /// Publishes a message, and returns its receipt without waiting for the engine.
    ///
    /// Called after [`poll_ready`](Self::poll_ready) returned `Ready(Ok(()))`, once for each such answer. An error that
    /// is known at once, such as a message that is too large, is the outcome of the receipt.
    fn publish(&mut self, message: &Outgoing) -> Self::Receipt;

    /// Prepares to publish again after a failure: `first` is the sequence of the oldest unconfirmed message.
    ///
    /// The forwarder has dropped all receipts. It calls `publish` again, first for `first`, once this method is ready. A
    /// destination that knows what the engine already has returns the sequence of the last payload of an unbroken
    /// row from `first` on; these payloads count as confirmed and are not published again. `None` says that it does not
    /// know, which is always correct. Not called while no payload in flight was ever published.
    ///
    /// # Errors
    ///
    /// As with [`poll_ready`](Self::poll_ready).
    fn poll_resume(&mut self, cx: &mut Context<'_>, first: u64) -> Poll<Result<Option<u64>, PublishError>> {
        let _ = (cx, first);
        Poll::Ready(Ok(None))
    }

    /// Returns the state of the connection.
    ///
    /// The forwarder reads it in each of its turns, and at least 40 times a second while messages are unconfirmed. While
    /// it is down, the forwarder publishes nothing. When it is up again after a loss, the forwarder publishes again from
    /// the oldest unconfirmed message, at once. A destination without a connection of its own leaves this method out.
    fn connection(&self) -> Connection {
        Connection { is_up: true, losses: 0 }
    }

    /// Returns whether this destination keeps the order by the engine's own means, also where payloads are published again.
    ///
    /// Called once, before the first `publish`, if the user asked for
    /// [`strict_order`](crate::forward::Forwarder::strict_order). `true` is a promise: the engine takes no payload while one
    /// before it is missing, unless it has rejected that. After `false`, the forwarder keeps one payload in flight at a
    /// time.
    fn strict_order(&mut self) -> bool {
        false
    }

    /// Returns the largest payload that the engine takes, if that is known. Packs are made no larger.
    fn max_payload(&self) -> Option<usize> {
        None
    }

    /// Returns whether `next` may travel in one pack with `first`, the pack's first message.
    ///
    /// A destination that chooses a subject, a key or a partition from the message returns whether both messages have
    /// the same.
    fn may_pack(&mut self, first: &[u8], next: &[u8]) -> bool {
        let _ = (first, next);
        true
    }
}

/// What a destination's connection is like now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Whether the connection is up.
    pub is_up: bool,
    /// How often the connection was lost so far.
    ///
    /// A loss between two reads of the state is visible here, also when the connection is up at both.
    pub losses: u64,
}

/// The engine has taken responsibility for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// The engine stored the message now.
    Stored,
    /// The engine had stored the message before, and recognised it by its id.
    Duplicate,
}

/// A message on its way to a destination, or a pack of several.
#[derive(Clone)]
pub struct Outgoing {
    pub(super) payload: Bytes,
    pub(super) first_len: usize,
    pub(super) first_offset: usize,
    pub(super) messages: usize,
    pub(super) sequence: u64,
    pub(super) id_prefix: Option<Arc<str>>,
}

impl Outgoing {
    /// Makes an outgoing message as the forwarder would, for tests of a destination.
    ///
    /// Its id displays as `id_prefix` followed by the sequence; without a prefix it has none.
    pub fn new(sequence: u64, payload: impl Into<Bytes>, id_prefix: Option<Arc<str>>) -> Self {
        let payload = payload.into();
        Self { first_len: payload.len(), first_offset: 0, payload, messages: 1, sequence, id_prefix }
    }

    /// Returns the payload to publish. A clone of it is cheap and keeps it alive.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Returns the message, or the first message of a pack: what a subject, key or partition is chosen from.
    pub fn first_message(&self) -> &[u8] {
        &self.payload[self.first_offset..self.first_offset + self.first_len]
    }

    /// Returns the number of messages in the payload: 1, or more for a pack.
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Returns the position of the message among those of the forwarder, counted from 1; for a pack, that of its first
    /// message. It stays the same when the payload is published again.
    ///
    /// Without packing, each payload has the sequence after that of the one before. After a pack of `n` messages, the next
    /// sequence is higher by `n`.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Returns the id by which the engine recognises a payload that it has already stored.
    ///
    /// `None` if [`Forwarder::without_message_ids`](crate::forward::Forwarder::without_message_ids) was called.
    pub fn id(&self) -> Option<MessageId<'_>> {
        self.id_prefix.as_deref().map(|prefix| MessageId { prefix, sequence: self.sequence })
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("sequence", &self.sequence)
            .field("messages", &self.messages)
            .field("len", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// The id of an [`Outgoing`] message: the name given to the forwarder, the run, and the sequence.
///
/// It displays as `host-7-<run>-<sequence>`. The run differs for each forwarder, also after a restart of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageId<'a> {
    prefix: &'a str,
    sequence: u64,
}

impl<'a> MessageId<'a> {
    /// Returns the part that all ids of a forwarder have in common, with the hyphen at its end.
    pub fn prefix(&self) -> &'a str {
        self.prefix
    }

    /// Returns the sequence.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl fmt::Display for MessageId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.prefix, self.sequence)
    }
}
