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
    /// The messages that were taken out of the channel, in order. Some may have reached the engine.
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
}

impl fmt::Display for ForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ForwardErrorKind::Stopped(reason) => reason.fmt(f)?,
            ForwardErrorKind::GaveUp => f.write_str("the destination confirmed nothing for too long")?,
            ForwardErrorKind::TimedOut => {
                f.write_str("the time limit passed before everything was confirmed")?
            }
            ForwardErrorKind::Panicked => f.write_str("the destination panicked")?,
            ForwardErrorKind::Cancelled => {
                f.write_str("the forwarder's task was cancelled with its runtime")?
            }
            ForwardErrorKind::AlreadyTaken => {
                f.write_str("the outcome of the forwarder was already taken")?
            }
        }
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        match self.unconfirmed.messages.len() {
            0 => Ok(()),
            messages => write!(f, "; {messages} messages are not confirmed"),
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlushError {
    /// The engine rejected this many of the messages that the call waited for: those accepted before it and not confirmed by
    /// then, and some that were accepted while it waited. The others are confirmed.
    Rejected {
        /// The number of rejected messages.
        messages: u64,
    },
    /// The forwarder ended first. [`shutdown`](super::ForwardHandle::shutdown) says why, and gives back what is
    /// unconfirmed.
    Ended,
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected { messages } => write!(f, "the destination rejected {messages} of the messages"),
            Self::Ended => f.write_str("the forwarder ended before everything was confirmed"),
        }
    }
}

impl Error for FlushError {}
