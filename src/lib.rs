//! A fast, bounded, double-buffered Tokio channel of byte messages.
//!
//! Senders copy messages one after the other into the **active segment**, a block of memory for thousands of
//! messages. A *switch* makes the messages written so far readable. It is a seal or a cut: a **seal** ends the segment,
//! and the next sender opens another; a **cut** leaves it open. Receivers read the messages in order, as
//! [`Bytes`](bytes::Bytes) one by one or as a [`Batch`] that is not copied. A stream of small messages needs almost no
//! allocations, and the memory of segments and queued payloads never exceeds [`max_bytes`](Builder::max_bytes).
//!
//! ```text
//!  Sender --+                                                          +--> Receiver
//!           |                                                          |
//!  Sender --+--> active segment --seal--> sealed segments --> head ----+--> Receiver
//!           |     ^     |                                      ^       |
//!  Sender --+     |     +---------------- cut -----------------+       +--> Receiver
//!                 |                                                          |
//!               open                                             Bytes and Batch dropped
//!                 |                                                          |
//!                 +------------------- pool of free segments <---------------+
//! ```
//!
//! - A sender **reserves** an entry in the active segment, **writes** its message there, and **commits** it. The
//!   order of reservations is the order of the messages.
//! - A message is **accepted** if its send returns `Ok`. It is then received, dropped ([`Drops`]), or still queued.
//! - The **head** is the position up to which messages were received. All receivers of a channel share it, so each
//!   message goes to exactly one of them.
//! - A receiver that has read everything sealed cuts the active segment: it takes the messages written so far, and
//!   senders continue in the same segment.
//! - A segment returns to the **pool** when all its messages were received and no `Bytes` or `Batch` refers to it any
//!   more.
//!
//! # Examples
//!
//! ```
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (tx, mut rx) = turbostream::channel();
//!
//! for worker in 0..4 {
//!     let tx = tx.clone();
//!     tokio::spawn(async move {
//!         for line in 0..1000 {
//!             tx.send(format!("worker {worker} line {line}\n")).await.expect("the receiver is alive");
//!         }
//!     });
//! }
//! drop(tx); // the channel closes when the last worker is done
//!
//! let mut lines = 0;
//! while let Some(batch) = rx.recv_batch(1024).await {
//!     lines += batch.len(); // e.g. file.write_vectored(&batch.io_slices())
//! }
//! assert_eq!(lines, 4000);
//! # Ok(()) }
//! ```
//!
//! # When a receiver sees a message
//!
//! A receiver that has read everything sealed cuts the active segment, so it sees a message as soon as that is written.
//! This is a switch *on demand*; [`Builder::on_demand`] can disable it. Then a message becomes readable when its segment
//! is sealed:
//!
//! - the segment or the channel is full,
//! - the channel's [`SwitchStrategy`] decides so,
//! - [`Sender::switch`], [`Sender::drained`] or the flush of a sink requests it,
//! - the channel closes.
//!
//! # What is bounded
//!
//! [`Builder::max_bytes`] limits one sum: the memory of the active segment, of sealed, free and lent segments, and of
//! queued external payloads. Only the items that sinks hold until there is room, at most one for each sender, may exceed
//! it. A segment is *lent* if all its messages were received and a `Bytes` or `Batch` of the user still refers to it. A
//! payload is *external* if it travels by reference count instead of being copied: an owned one of 32 KiB and more, and one
//! that is longer than a segment. It counts until it is received, so kept `Bytes` and `Batch`es of such messages do not count,
//! and [`Limit::bytes`] is what bounds a batch of them. When the limit is reached, senders wait, or
//! [`WhenFull`] applies; [`Monitor::stats`] shows which part of the sum is the cause. Copies that receivers make in
//! [`ReadMode::Safe`] belong to the user and do not count. Neither do the few pages that the channel keeps for such
//! copies, nor the spare capacity of a payload's allocation.
//!
//! Small copies share pages of 4 KiB, and consecutive slices share a reference count. Two kinds of message cost one
//! allocation each: a message of 1 to 32 KiB that Safe mode has to copy, and a single slice, as when a receiver waits
//! for each message.
//!
//! # Targets
//!
//! The target needs 64-bit pointers and atomics. The crate does not compile for others, and says why.
//!
//! # Cargo features
//!
//! - `tracing` (default): a span for each channel; events for switches, for messages refused or dropped, for long
//!   waits, and for panics of user code. A channel that a subscriber writes such events to emits none itself.
//! - `forward`: the module `forward`, which delivers a channel to an engine that keeps messages, at least once.
//! - `nats`: the engine NATS JetStream for it, and `JetStreamSource`, which pulls a stream into a channel. Needs Rust 1.89.
//! - `otel`: `OtelRecorder`, a [`Recorder`] over the metrics API of OpenTelemetry.
//! - `prometheus`: `PrometheusRecorder`, a [`Recorder`] that Prometheus scrapes.
//! - `tracing-writer`: `TracingWriter`, which writes the output of [`tracing`](https://docs.rs/tracing) subscribers
//!   on a separate thread.
//!
//! `docs/metrics.md` in the repository lists every metric and event, and what to do about it.

#![deny(unsafe_code)]
// Shows the features that an item needs, where the documentation is built with an unstable toolchain.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "turbostream needs a target with 64-bit pointers: elsewhere an `AtomicU64` may be aligned more strictly than a \
     `u64`, and sums of bytes could exceed a `usize`"
);

mod adapter;
mod builder;
mod channel;
mod error;
#[cfg(feature = "forward")]
pub mod forward;
mod monitor;
mod queue;
mod receiver;
mod sender;
#[allow(unsafe_code)]
mod sync;
mod telemetry;
#[cfg(test)]
mod tests;
mod wait;

pub use adapter::callback::Callback;
pub use adapter::reader::Reader;
pub use adapter::stream::{Batches, IntoBatches};
#[cfg(feature = "tracing-writer")]
pub use adapter::tracing_writer::{TracingWriter, WorkerGuard, WriteReport};
pub use adapter::writer::{BlockingWriter, Writer};
pub use builder::{Builder, builder, channel};
pub use channel::config::WhenFull;
pub use channel::payload::Payload;
pub use channel::strategy::{
    ActiveSegment, ByteCount, Linger, MessageCount, SwitchLimits, SwitchStrategy, TimeWindow, Weighted,
};
pub use error::{BuildError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
pub use monitor::Monitor;
/// The API of OpenTelemetry, in the version that [`OtelRecorder`] needs.
#[cfg(feature = "otel")]
pub use opentelemetry;
/// The client of Prometheus, in the version that [`PrometheusRecorder`] needs.
#[cfg(feature = "prometheus")]
pub use prometheus;
pub use queue::ReadMode;
pub use queue::limit::Limit;
pub use receiver::Receiver;
pub use receiver::batch::{Batch, BatchIter, BatchSlices};
pub use receiver::message_ref::MessageRef;
pub use sender::Sender;
pub use sender::send_many::{Remaining, SendManyError};
pub use sender::weak::WeakSender;
pub use telemetry::forwarding::Forwarding;
pub use telemetry::histogram::{Bucket, Histogram};
#[cfg(feature = "otel")]
pub use telemetry::metrics::OtelRecorder;
#[cfg(feature = "prometheus")]
pub use telemetry::metrics::PrometheusRecorder;
pub use telemetry::recorder::{Counter, Gauge, HistogramKind, Recorder, StatsDelta};
pub use telemetry::stats::{Drops, SendErrors, Stats, Switches};

/// Compiles and runs the code of the README, of which one program needs a feature.
#[cfg(all(doctest, feature = "nats"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles and runs the code of the guide, of which two programs need the features.
#[cfg(all(doctest, feature = "tracing-writer", feature = "prometheus"))]
#[doc = include_str!("../docs/guide.md")]
struct Guide;

/// Compiles the code of the guide to forwarding.
#[cfg(all(doctest, feature = "nats"))]
#[doc = include_str!("../docs/forwarding.md")]
struct ForwardingGuide;
