//! Forwarding: from a channel into an engine that keeps messages.

mod destination;
mod error;
#[cfg(feature = "nats")]
mod nats;

pub use destination::{Confirmation, Connection, Destination, MessageId, Outgoing};
pub use error::{
    BoxError, FlushError, ForwardError, ForwardErrorKind, PublishError, Rejection, StopReason, Unconfirmed,
};
#[cfg(feature = "nats")]
pub use nats::{
    AckWhen, JetStreamSource, SourceEnd, SourceError, SourceErrorKind, SourceHandle, SourceReport,
    SourceStats,
};
