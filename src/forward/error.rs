//! The errors of forwarding: what a destination says of one message, and why a forwarder ended.

use std::error::Error;
use std::fmt;

use bytes::Bytes;

use crate::receiver::Receiver;

/// A boxed error of an engine's client.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// What a [`Destination`](super::Destination) says of a message that the engine has not taken.
#[derive(Debug)]
#[non_exhaustive]
pub enum PublishError {
    /// The failure may pass: no connection, no answer in time, a stream that is full. The forwarder publishes again from
    /// the oldest unconfirmed message, after a pause that grows.
    Retry(BoxError),
    /// The engine refused a message because one before it is missing. The forwarder publishes again from the oldest
    /// unconfirmed message, at once if messages were confirmed since it did so last.
    OutOfOrder(BoxError),
    /// The engine can never take this message. The forwarder goes on with the next.
    Reject(Rejection),
    /// The engine takes no message at all until its operator or the configuration has changed something. The forwarder
    /// ends.
    Stop(StopReason, BoxError),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(error) => write!(f, "not taken yet: {error}"),
            Self::OutOfOrder(error) => write!(f, "not in order: {error}"),
            Self::Reject(rejection) => rejection.fmt(f),
            Self::Stop(reason, error) => write!(f, "{reason}: {error}"),
        }
    }
}

impl Error for PublishError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Retry(error) | Self::OutOfOrder(error) | Self::Stop(_, error) => Some(&**error),
            Self::Reject(rejection) => rejection.source(),
        }
    }
}

/// Why the engine takes no message at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The engine has no stream or topic for the messages.
    NoStream,
    /// The engine refused the credentials.
    BadCredentials,
    /// The credentials permit no message.
    NotPermitted,
    /// Another reason, which the source names.
    Other,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoStream => "the destination has no stream for the messages",
            Self::BadCredentials => "the destination refused the credentials",
            Self::NotPermitted => "the credentials permit no message",
            Self::Other => "the destination takes no messages",
        })
    }
}

/// Why the engine can never take a message.
#[derive(Debug)]
pub struct Rejection {
    source: BoxError,
}

impl Rejection {
    /// Makes a rejection with the engine's own words.
    pub fn new(source: impl Into<BoxError>) -> Self {
        Self { source: source.into() }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the destination rejected a message: {}", self.source)
    }
}

impl Error for Rejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

/// Why a forwarder ended before everything was confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForwardErrorKind {
    /// The destination takes no message at all.
    Stopped(StopReason),
    /// The oldest message was not confirmed within the time of [`give_up_after`](super::Forwarder::give_up_after).
    GaveUp,
    /// The time limit of [`shutdown_timeout`](super::ForwardHandle::shutdown_timeout) passed.
    TimedOut,
    /// The destination panicked.
    Panicked,
    /// The forwarder's task was cancelled with its runtime.
    Cancelled,
    /// The forwarder has ended, and another call has taken its outcome.
    AlreadyTaken,
}

/// A forwarder that ended before everything was confirmed, with what was not.
///
/// Nothing is lost: [`into_unconfirmed`](Self::into_unconfirmed) gives back the messages that were taken out of the
/// channel and not confirmed, and the receiver, from which the rest can be received.
pub struct ForwardError {
    pub(super) kind: ForwardErrorKind,
    pub(super) source: Option<BoxError>,
    /// Boxed, as a receiver is large.
    pub(super) unconfirmed: Box<Unconfirmed>,
}

/// What a forwarder had taken and not confirmed when it ended.
#[derive(Default)]
pub struct Unconfirmed {
    /// The messages that were taken out of the channel, in order. Some may have reached the engine. [`drain`](Self::drain)
    /// adds those that the channel still holds.
    pub messages: Vec<Bytes>,
    /// The receiver of the channel, which may hold more. `None` if the outcome was already taken.
    pub receiver: Option<Receiver>,
}

impl ForwardError {
    /// Returns why the forwarder ended.
    pub fn kind(&self) -> ForwardErrorKind {
        self.kind
    }

    /// Returns what was not confirmed.
    pub fn unconfirmed(&self) -> &Unconfirmed {
        &self.unconfirmed
    }

    /// Gives back what was not confirmed.
    pub fn into_unconfirmed(self) -> Unconfirmed {
        *self.unconfirmed
    }

    /// Returns the text without what is not confirmed.
    pub(super) fn reason(&self) -> String {
        match &self.source {
            Some(source) => format!("{}: {source}", self.kind),
            None => self.kind.to_string(),
        }
    }
}

impl Unconfirmed {
    /// Receives what the channel still holds, and adds it to [`messages`](Self::messages). Closes the channel first.
    ///
    /// Then `messages` holds everything that was accepted and not confirmed, in order.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe. It can be dropped and called again: what it has received is in `messages`.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[doc = include_str!("example.md")]
    /// use std::time::Duration;
    ///
    /// let (tx, rx) = turbostream::channel();
    /// let forwarder = Forwarder::new(rx, destination).spawn();
    /// tx.send("line").await?;
    /// if let Err(error) = forwarder.shutdown_timeout(Duration::from_secs(10)).await {
    ///     eprintln!("{error}");
    ///     let mut unconfirmed = error.into_unconfirmed();
    ///     unconfirmed.drain().await;
    ///     for message in unconfirmed.messages {
    ///         println!("{}", String::from_utf8_lossy(&message)); // to a file, for example
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn drain(&mut self) {
        if let Some(receiver) = &mut self.receiver {
            receiver.close();
            while let Some(message) = receiver.recv().await {
                self.messages.push(message);
            }
        }
    }
}

impl fmt::Display for ForwardErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped(reason) => reason.fmt(f),
            Self::GaveUp => f.write_str("the destination confirmed nothing for too long"),
            Self::TimedOut => f.write_str("the time limit passed before everything was confirmed"),
            Self::Panicked => f.write_str("the destination panicked"),
            Self::Cancelled => f.write_str("the forwarder's task was cancelled with its runtime"),
            Self::AlreadyTaken => f.write_str("the outcome of the forwarder was already taken"),
        }
    }
}

impl fmt::Display for ForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason())?;
        let Unconfirmed { messages, receiver } = &*self.unconfirmed;
        match (messages.len(), receiver.as_ref().map_or(0, Receiver::len)) {
            (0, 0) => Ok(()),
            (taken, 0) => write!(f, "; {taken} messages are not confirmed"),
            (taken, queued) => write!(f, "; {taken} messages and {queued} queued ones are not confirmed"),
        }
    }
}

impl fmt::Debug for ForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardError")
            .field("kind", &self.kind)
            .field("source", &self.source)
            .field("unconfirmed", &self.unconfirmed)
            .finish()
    }
}

impl fmt::Debug for Unconfirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unconfirmed")
            .field("messages", &self.messages.len())
            .field("receiver", &self.receiver)
            .finish()
    }
}

impl Error for ForwardError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

/// Why [`flush`](super::ForwardHandle::flush) cannot say that everything was confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlushError {
    /// The engine rejected this many messages, of all senders, since the call began, or since the point of
    /// [`flush_since`](super::ForwardHandle::flush_since). [`on_rejected`](super::Forwarder::on_rejected) was called for each. The
    /// other messages are confirmed.
    Rejected {
        /// The number of rejected messages.
        messages: u64,
    },
    /// The forwarder ended first. [`join`](super::ForwardHandle::join) gives back what is unconfirmed.
    Ended {
        /// Why it ended.
        kind: ForwardErrorKind,
        /// The same in words, with those of the engine.
        reason: String,
    },
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected { messages } => write!(f, "the destination rejected {messages} of the messages"),
            Self::Ended { reason, .. } => {
                write!(f, "the forwarder ended before everything was confirmed: {reason}")
            }
        }
    }
}

impl Error for FlushError {}
