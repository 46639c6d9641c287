//! Forwarding: from a channel into an engine that keeps messages.
//!
//! ```text
//!  tasks --send--> channel --> window: published, not confirmed --publish--> engine
//!                     ^              |            ^                             |
//!                     +-- max_bytes -+- confirmed +-------- confirmation -------+
//! ```
//!
//! - [`Forwarder`] takes messages out of a channel and publishes them without waiting for one before the next. It keeps
//!   each in memory, inside [`max_bytes`](crate::Builder::max_bytes), until the engine has confirmed it, and publishes again
//!   what an outage has interrupted.
//! - [`ForwardHandle`] flushes, shuts down, and gives back what is not confirmed.
//! - [`Destination`] is an engine. With the feature `nats`, `JetStream` is one; the crate `turbostream-kafka` has another; one
//!   of your own takes thirty lines.
//! - [`Packing`] puts many small messages into one of the engine's; [`unpack`] takes them apart again.
//! - `JetStreamSource`, with the feature `nats`, is the other end: it pulls a stream into a channel.
//!
//! `docs/forwarding.md` in the repository is the guide: what is promised and by whom, how to choose window, ids and order, what
//! happens in an outage, how to answer one's own clients, and how to shut down.
//!
//! # Examples
//!
//! ```
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
#![doc = include_str!("example.md")]
//! let (tx, rx) = turbostream::channel();
//! let forwarder = Forwarder::new(rx, destination).spawn();
//!
//! let point = forwarder.flush_point();
//! tx.send("to be kept").await?;
//! forwarder.flush_since(point).await?; // the destination has confirmed it
//!
//! let report = forwarder.shutdown().await?;
//! assert_eq!((report.stats.confirmed, report.stats.rejected), (1, 0));
//! # Ok(()) }
//! ```

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
