//! Forwarding: from a channel into an engine that keeps messages.

mod destination;
mod error;

pub use destination::{Confirmation, Connection, Destination, MessageId, Outgoing};
pub use error::{
    BoxError, FlushError, ForwardError, ForwardErrorKind, PublishError, Rejection, StopReason, Unconfirmed,
};
