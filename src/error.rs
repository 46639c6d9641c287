//! The errors of a channel. Each names its cause; a send error also contains what was to be sent.

use std::fmt;
use std::io;

/// Error returned by [`Builder::build`](crate::Builder::build).
///
/// # Examples
///
/// ```
/// # #[tokio::main] async fn main() {
/// use turbostream::BuildError;
/// let error = turbostream::builder().segment_messages(0).build().unwrap_err();
/// assert!(matches!(error, BuildError::OutOfRange { field: "segment_messages", value: 0, min: 1, .. }));
/// assert!(error.to_string().starts_with("segment_messages = 0 messages is out of range"));
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// A setting is outside the range that the other settings allow.
    ///
    /// The numbers are bytes, for `segment_messages` and `prefetch` messages, and for `report_interval` whole milliseconds.
    OutOfRange {
        /// The builder method that sets the value.
        field: &'static str,
        /// The value that was set, or the default that the other settings rule out.
        value: usize,
        /// The smallest value that is accepted.
        min: usize,
        /// The largest value that is accepted.
        max: usize,
    },
    /// There is no Tokio runtime for the background task of the channel.
    NoRuntime,
    /// The Tokio runtime has no time driver: it was built without `enable_time` or `enable_all`.
    NoTime,
    /// The operating system refused to start a thread. Only `Builder::tracing_writer` needs one.
    NoThread(io::ErrorKind),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { field, value, min, max } if min > max => {
                let (unit, reason) = (unit(field), reason(field));
                write!(f, "{field} = {value} {unit} cannot work: at least {min} and at most {max} are accepted{reason}")
            }
            Self::OutOfRange { field, value, min, max: usize::MAX } => {
                write!(f, "{field} = {value} {unit} is out of range: at least {min} is accepted", unit = unit(field))
            }
            Self::OutOfRange { field, value, min, max } => {
                let (unit, reason) = (unit(field), reason(field));
                write!(f, "{field} = {value} {unit} is out of range: {min} to {max} are accepted{reason}")
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

/// Returns the unit of the numbers of a setting.
fn unit(field: &str) -> &'static str {
    match field {
        "segment_messages" | "prefetch" => "messages",
        "report_interval" => "ms",
        _ => "bytes",
    }
}

/// Returns which other settings bound a setting.
fn reason(field: &str) -> &'static str {
    match field {
        "max_bytes" => ", as it must hold two segments (`segment_bytes`, `segment_messages`)",
        "max_message_bytes" => ", as `max_bytes` must hold the message beside a segment (`segment_bytes`)",
        _ => "",
    }
}

impl std::error::Error for BuildError {}

/// Implements `into_inner`, `Debug`, `Display` and `Error` of a send error. None of them shows the payload.
macro_rules! payload_error {
    ($name:ident { $($variant:ident => $text:literal),* $(,)? }) => {
        impl<P> $name<P> {
            /// Returns what was not sent; `()` for a borrowed payload.
            pub fn into_inner(self) -> P {
                match self {
                    $(Self::$variant(payload) => payload,)*
                    Self::TooLarge { payload, .. } => payload,
                }
            }

            /// Replaces what was not sent by the result of `f`, and keeps the cause.
            pub fn map<Q>(self, f: impl FnOnce(P) -> Q) -> $name<Q> {
                match self {
                    $(Self::$variant(payload) => $name::$variant(f(payload)),)*
                    Self::TooLarge { payload, len, max } => $name::TooLarge { payload: f(payload), len, max },
                }
            }

            /// Drops what was not sent, and keeps the cause.
            ///
            /// What is left has no lifetime, so it works with `?` in functions that return `anyhow::Result` or
            /// `Box<dyn Error>`, whatever the payload borrows.
            pub fn without_payload(self) -> $name<()> {
                self.map(drop)
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
                        write!(f, "the message has {len} bytes, and `max_message_bytes` is {max}")
                    }
                }
            }
        }

        impl<P> std::error::Error for $name<P> {}
    };
}

/// Error returned by [`Sender::send`](crate::Sender::send) and the other calls that wait for room.
///
/// It holds what was to be sent, or `()` in place of a borrowed payload; see [`Payload::Returned`](crate::Payload::Returned).
/// [`without_payload`](Self::without_payload) drops it, where an error must not borrow anything.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError<P> {
    /// The channel is closed: every receiver was dropped, a handle closed it, or this handle was closed as a sink.
    Closed(P),
    /// The channel has no room, and was built with [`WhenFull::Reject`](crate::WhenFull::Reject).
    Full(P),
    /// The message is longer than [`max_message_bytes`](crate::Builder::max_message_bytes).
    TooLarge {
        /// What was to be sent.
        payload: P,
        /// The length of the message in bytes.
        len: usize,
        /// The channel's `max_message_bytes`.
        max: usize,
    },
}

payload_error!(SendError { Closed => "the channel is closed", Full => "the channel is full" });

/// Wraps the error in an [`io::Error`], for adapters that need one.
///
/// Its kind is `BrokenPipe` if the channel is closed, `InvalidInput` if the message is too long, and `StorageFull` if
/// there is no room.
///
/// # Examples
///
/// ```
/// # #[tokio::main] async fn main() {
/// use std::io;
/// use turbostream::SendError;
/// let (tx, rx) = turbostream::channel();
/// drop(rx);
/// let error = io::Error::from(tx.send(String::from("unsent")).await.unwrap_err());
/// assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
/// let unsent = error.downcast::<SendError<String>>().unwrap();
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

/// Error returned by [`Sender::try_send`](crate::Sender::try_send).
///
/// It holds the payload, or `()` in place of a borrowed one; see [`Payload::Returned`](crate::Payload::Returned).
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrySendError<P> {
    /// The channel has no room: the message fits in no segment that `max_bytes` allows now.
    Full(P),
    /// The channel is closed: every receiver was dropped, a handle closed it, or this handle was closed as a sink.
    Closed(P),
    /// The message is longer than [`max_message_bytes`](crate::Builder::max_message_bytes).
    TooLarge {
        /// What was to be sent.
        payload: P,
        /// The length of the message in bytes.
        len: usize,
        /// The channel's `max_message_bytes`.
        max: usize,
    },
}

payload_error!(TrySendError { Full => "the channel is full", Closed => "the channel is closed" });

/// Error returned by [`Sender::send_timeout`](crate::Sender::send_timeout).
///
/// It holds the payload, or `()` in place of a borrowed one; see [`Payload::Returned`](crate::Payload::Returned).
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendTimeoutError<P> {
    /// The channel had no room before the timeout elapsed.
    Timeout(P),
    /// The channel is closed: every receiver was dropped, a handle closed it, or this handle was closed as a sink.
    Closed(P),
    /// The channel has no room, and was built with [`WhenFull::Reject`](crate::WhenFull::Reject).
    Full(P),
    /// The message is longer than [`max_message_bytes`](crate::Builder::max_message_bytes).
    TooLarge {
        /// What was to be sent.
        payload: P,
        /// The length of the message in bytes.
        len: usize,
        /// The channel's `max_message_bytes`.
        max: usize,
    },
}

payload_error!(SendTimeoutError {
    Timeout => "the channel had no room before the timeout",
    Closed => "the channel is closed",
    Full => "the channel is full",
});

/// Error returned by [`Receiver::try_recv`](crate::Receiver::try_recv).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryRecvError {
    /// No message can be read now, but more may follow.
    Empty,
    /// The next message is still being written by the closure of a [`send_with`](crate::Sender::send_with), which may take
    /// any time. Later messages may be queued: they are received after it.
    Busy,
    /// The channel is closed, and no message is left.
    Closed,
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "no message can be read now",
            Self::Busy => "the closure of a `send_with` is still writing the next message",
            Self::Closed => "the channel is closed and drained",
        })
    }
}

impl std::error::Error for TryRecvError {}

/// Error returned by [`Receiver::recv_timeout`](crate::Receiver::recv_timeout).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// No message could be read before the timeout elapsed.
    Timeout,
    /// The channel is closed, and no message is left.
    Closed,
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "no message could be read before the timeout",
            Self::Closed => "the channel is closed and drained",
        })
    }
}

impl std::error::Error for RecvTimeoutError {}
