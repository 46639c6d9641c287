//! What can go wrong, each error naming its cause and giving back what was passed in.

use std::fmt;
use std::io;

/// Why [`Builder::build`](crate::Builder::build) refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// A number lies outside of what the other settings leave possible.
    OutOfRange {
        /// The builder method whose value was refused.
        field: &'static str,
        /// The value it was given, or the default that the other settings rule out.
        value: usize,
        /// The smallest value that would be accepted.
        min: usize,
        /// The largest value that would be accepted.
        max: usize,
    },
    /// There is no Tokio runtime to run the channel's timer on.
    NoRuntime,
    /// The Tokio runtime to run the channel's timer on keeps no time: it was built without `enable_time` or `enable_all`.
    NoTime,
    /// The system gives no thread to write on; only where one is needed, for `Builder::tracing_writer`.
    NoThread(io::ErrorKind),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { field, value, min, max } if min > max => {
                write!(f, "{field} = {value} cannot work: it would have to be at least {min} and at most {max}")
            }
            Self::OutOfRange { field, value, min, max } => {
                write!(f, "{field} = {value} is out of range: accepted are {min} to {max}")
            }
            Self::NoRuntime => f.write_str(
                "no Tokio runtime here: build the channel inside one, or name one with `builder().runtime(..)`",
            ),
            Self::NoTime => f.write_str(
                "the Tokio runtime keeps no time: build it with `enable_time()` or `enable_all()`, or name another one with \
                 `builder().runtime(..)`",
            ),
            Self::NoThread(kind) => write!(f, "the system gives no thread to write on: {kind}"),
        }
    }
}

impl std::error::Error for BuildError {}

/// Writes the `Debug`, `Display` and `Error` that every send error shares; none of them shows the payload.
macro_rules! payload_error {
    ($name:ident { $($variant:ident => $text:literal),* $(,)? }) => {
        impl<P> $name<P> {
            /// The payload that was not sent.
            pub fn into_inner(self) -> P {
                match self {
                    $(Self::$variant(payload) => payload,)*
                    Self::TooLarge { payload, .. } => payload,
                }
            }
        }

        impl<P> fmt::Debug for $name<P> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant(_) => f.write_str(concat!(stringify!($variant), "(..)")),)*
                    Self::TooLarge { len, max, .. } => {
                        f.debug_struct("TooLarge").field("len", len).field("max", max).finish_non_exhaustive()
                    }
                }
            }
        }

        impl<P> fmt::Display for $name<P> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant(_) => f.write_str($text),)*
                    Self::TooLarge { len, max, .. } => {
                        write!(f, "the message has {len} bytes, the channel takes at most {max}")
                    }
                }
            }
        }

        impl<P> std::error::Error for $name<P> {}
    };
}

/// Why [`Sender::send`](crate::Sender::send), or another call that waits for room, did not accept a message; what was
/// to be sent is inside.
#[non_exhaustive]
pub enum SendError<P> {
    /// Every receiver is gone, or one of them closed the channel, or this handle was closed as a sink.
    Closed(P),
    /// No room, on a channel built with [`WhenFull::Reject`](crate::WhenFull::Reject).
    Full(P),
    /// The message is longer than `max_message_bytes`.
    TooLarge {
        /// What was to be sent.
        payload: P,
        /// Its length in bytes.
        len: usize,
        /// The channel's limit in bytes.
        max: usize,
    },
}

payload_error!(SendError { Closed => "the channel is closed", Full => "the channel is full" });

/// The error inside an [`io::Error`], for adapters that need one: `BrokenPipe` where the channel is closed,
/// `InvalidInput` where the message is too long, `StorageFull` where there is no room.
///
/// # Examples
///
/// ```
/// # #[tokio::main] async fn main() {
/// use std::io;
/// use turbostream::SendError;
/// let (tx, rx) = turbostream::channel();
/// drop(rx);
/// let error = io::Error::from(tx.send("unsent").await.unwrap_err());
/// assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
/// let unsent = error.downcast::<SendError<&str>>().unwrap();
/// assert_eq!(unsent.into_inner(), "unsent");
/// # }
/// ```
impl<P: Send + Sync + 'static> From<SendError<P>> for io::Error {
    fn from(error: SendError<P>) -> Self {
        let kind = match error {
            SendError::Closed(_) => io::ErrorKind::BrokenPipe,
            SendError::Full(_) => io::ErrorKind::StorageFull,
            SendError::TooLarge { .. } => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

/// Why [`Sender::try_send`](crate::Sender::try_send) did not accept a message; the payload is inside.
#[non_exhaustive]
pub enum TrySendError<P> {
    /// No segment that `max_bytes` allows has room at the moment.
    Full(P),
    /// Every receiver is gone, or one of them closed the channel, or this handle was closed as a sink.
    Closed(P),
    /// The message is longer than `max_message_bytes`.
    TooLarge {
        /// What was to be sent.
        payload: P,
        /// Its length in bytes.
        len: usize,
        /// The channel's limit in bytes.
        max: usize,
    },
}

payload_error!(TrySendError { Full => "the channel is full", Closed => "the channel is closed" });

/// Why [`Sender::send_timeout`](crate::Sender::send_timeout) did not accept a message; the payload is inside.
#[non_exhaustive]
pub enum SendTimeoutError<P> {
    /// There was no room until the time was up.
    Timeout(P),
    /// Every receiver is gone, or one of them closed the channel, or this handle was closed as a sink.
    Closed(P),
    /// No room, on a channel built with [`WhenFull::Reject`](crate::WhenFull::Reject).
    Full(P),
    /// The message is longer than `max_message_bytes`.
    TooLarge {
        /// What was to be sent.
        payload: P,
        /// Its length in bytes.
        len: usize,
        /// The channel's limit in bytes.
        max: usize,
    },
}

payload_error!(SendTimeoutError {
    Timeout => "the channel was full until the time was up",
    Closed => "the channel is closed",
    Full => "the channel is full",
});

/// Why [`Receiver::try_recv`](crate::Receiver::try_recv) returned no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryRecvError {
    /// Nothing can be read at the moment.
    Empty,
    /// The channel is closed, and everything that it accepted was handed out.
    Closed,
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the channel is empty",
            Self::Closed => "the channel is closed and drained",
        })
    }
}

impl std::error::Error for TryRecvError {}

/// Why [`Receiver::recv_timeout`](crate::Receiver::recv_timeout) returned no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// Nothing could be read until the time was up.
    Timeout,
    /// The channel is closed, and everything that it accepted was handed out.
    Closed,
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "nothing arrived until the time was up",
            Self::Closed => "the channel is closed and drained",
        })
    }
}

impl std::error::Error for RecvTimeoutError {}
