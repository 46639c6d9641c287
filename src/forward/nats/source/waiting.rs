//! Messages that have arrived and were not accepted, and the parts that a pack is sent in.

use std::error::Error;
use std::fmt;

use async_nats::Subject;
use bytes::Bytes;
use tokio::time::Instant;

use crate::forward::{Packing, Unpack, UnpackError, unpack};

/// Why a source cannot send a message to its channel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceRejection {
    /// The message is longer than the channel's [`max_message_bytes`](crate::Builder::max_message_bytes).
    TooLarge {
        /// The length of the message.
        len: usize,
        /// The length of the longest message that the channel accepts.
        max: usize,
    },
    /// The payload is not a complete pack. The messages before the error were sent.
    Malformed(UnpackError),
}

impl fmt::Display for SourceRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { len, max } => {
                write!(f, "a message of {len} bytes is too long for the channel, which accepts {max}")
            }
            Self::Malformed(error) => write!(f, "a payload cannot be unpacked: {error}"),
        }
    }
}

impl Error for SourceRejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::TooLarge { .. } => None,
            Self::Malformed(error) => Some(error),
        }
    }
}

/// A message of the stream that is not acknowledged.
pub(super) struct Unacknowledged {
    pub(super) reply: Subject,
    pub(super) bytes: usize,
    /// When it arrived, or the server was last told that it is in progress.
    pub(super) renewed: Instant,
}

/// A message of the stream whose parts were not all accepted. Without packing it is one part.
pub(super) struct Waiting {
    pub(super) message: Unacknowledged,
    payload: Bytes,
    parts: Parts,
    /// The part to be sent next.
    part: Option<Bytes>,
    is_accepted: bool,
    is_rejected: bool,
}

enum Parts {
    Whole,
    Packed(Unpack),
    Ended,
}

/// What is left of a [`Waiting`] message.
pub(super) enum Next {
    /// A part to be sent.
    Part(Bytes),
    /// Nothing; the channel has accepted all parts that it can accept, and at least one.
    Accepted,
    /// Nothing, and there was nothing to be sent.
    Empty,
    /// Nothing, and no part could be sent.
    Rejected,
}

impl Waiting {
    pub(super) fn new(payload: Bytes, packing: Option<Packing>, message: Unacknowledged) -> Self {
        let parts = packing.map_or(Parts::Whole, |packing| Parts::Packed(unpack(packing, &payload)));
        Self { message, payload, parts, part: None, is_accepted: false, is_rejected: false }
    }

    /// The channel has accepted the part that [`next`](Self::next) returned.
    pub(super) fn note_accepted(&mut self) {
        (self.part, self.is_accepted) = (None, true);
    }

    /// Returns the next part of at most `max` bytes, the same until it was accepted. Calls `reject` for those that it skips.
    pub(super) fn next(&mut self, max: usize, mut reject: impl FnMut(&[u8], &SourceRejection)) -> Next {
        loop {
            if let Some(part) = &self.part {
                return Next::Part(part.clone());
            }
            let part = match &mut self.parts {
                Parts::Whole => {
                    self.parts = Parts::Ended;
                    Some(Ok(self.payload.clone()))
                }
                Parts::Packed(parts) => parts.next(),
                Parts::Ended => None,
            };
            match part {
                Some(Ok(part)) if part.len() <= max => self.part = Some(part),
                Some(Ok(part)) => {
                    self.is_rejected = true;
                    reject(&part, &SourceRejection::TooLarge { len: part.len(), max });
                }
                Some(Err(error)) => {
                    (self.parts, self.is_rejected) = (Parts::Ended, true);
                    reject(&self.payload, &SourceRejection::Malformed(error));
                }
                None if self.is_accepted => return Next::Accepted,
                None if self.is_rejected => return Next::Rejected,
                None => return Next::Empty,
            }
        }
    }
}
