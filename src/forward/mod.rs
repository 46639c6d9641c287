//! Forwarding: from a channel into an engine that keeps messages.

mod destination;
mod error;
mod forwarder;
mod handle;
mod ids;
#[cfg(feature = "nats")]
mod nats;
mod packing;
mod reports;
mod shared;
mod stats;
mod task;
mod window;

/// The client of NATS, in the version that [`JetStream`] needs.
#[cfg(feature = "nats")]
pub use async_nats;
pub use destination::{Confirmation, Connection, Destination, MessageId, Outgoing};
pub use error::{
    BoxError, FlushError, ForwardError, ForwardErrorKind, PublishError, Rejection, StopReason, Unconfirmed,
};
pub use forwarder::Forwarder;
pub use handle::{FlushPoint, ForwardHandle};
#[cfg(feature = "nats")]
pub use nats::{
    AckWhen, IntoSubjects, JetStream, JetStreamEvents, JetStreamSource, Receipt as JetStreamReceipt,
    SourceEnd, SourceError, SourceErrorKind, SourceHandle, SourceRejection, SourceReport, SourceStats,
};
pub use packing::{Packing, Unpack, UnpackError, unpack};
pub use stats::{ForwardReport, ForwardStats};
