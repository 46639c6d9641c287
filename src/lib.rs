//! A fast, bounded, double-buffered Tokio channel of byte messages.
//!
//! Many tasks [`send`](Sender::send) byte messages; they are copied one after the other into the **active** segment,
//! a block of memory for thousands of them. A switch seals it and puts a pooled one in its slot; receivers read the
//! sealed side in the order in which messages were accepted, as [`Bytes`](bytes::Bytes) one by one or as a [`Batch`].
//! A stream of small messages needs next to no allocations, and memory never exceeds `max_bytes`.
//!
//! ```
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (tx, rx) = turbostream::channel();
//!
//! for worker in 0..4 {
//!     let tx = tx.clone();
//!     tokio::spawn(async move {
//!         for line in 0..1000 {
//!             tx.send(format!("worker {worker} line {line}\n")).await.expect("the reader is there");
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
//! At once, if it waits ([`Builder::on_demand`]): it takes what the active segment holds by now. That counts as a
//! switch, though writers go on in the same segment, behind what was cut off. Otherwise when the segment is full,
//! when its [`SwitchStrategy`] says so, when [`Sender::switch`], [`Sender::drained`] or the flush of a sink asks for
//! it, or when the channel closes.
//!
//! # What is bounded
//!
//! Segments being written, waiting to be read, free, or still referred to by a `Bytes` in your hands, and payloads
//! that travel by reference while they are queued, together stay within [`Builder::max_bytes`]. When that is reached,
//! senders wait ([`WhenFull`]), and [`Monitor::stats`] tells what for. What was copied out for you in
//! [`ReadMode::Safe`] is yours: it counts no longer.
//!
//! Small copies share pages of 4 KiB, and slices taken one after the other share a reference count. Two kinds of message
//! cost an allocation each: one of 1 to 32 KiB that Safe mode has to copy, and a slice that comes alone, as where each
//! message is waited for.
//!
//! # Cargo features
//!
//! - `tracing` (default): a span for each channel; events for switches, for messages refused or dropped, for what keeps
//!   others waiting for long, and when code passed to a channel panics.
//! - `otel`: `OtelRecorder`, a [`Recorder`] over the metrics API of OpenTelemetry.
//! - `prometheus`: `PrometheusRecorder`, a [`Recorder`] for Prometheus to scrape.
//! - `tracing-writer`: `TracingWriter`, which has the output of [`tracing`](https://docs.rs/tracing) subscribers written by
//!   a thread of its own.
//!
//! `docs/metrics.md` of the repository lists every metric and event, with what to do about it.

#![deny(unsafe_code)]
mod adapter;
mod builder;
mod channel;
mod error;
mod monitor;
mod queue;
mod receiver;
mod sender;
#[allow(unsafe_code)]
mod sync;
mod telemetry;
#[cfg(all(test, any(turbostream_loom, turbostream_shuttle)))]
mod tests;
mod wait;

pub use adapter::callback::Callback;
pub use adapter::reader::Reader;
pub use adapter::stream::Batches;
#[cfg(feature = "tracing-writer")]
pub use adapter::tracing_writer::{TracingWriter, WorkerGuard, WriteReport};
pub use adapter::writer::{BlockingWriter, Writer};
pub use builder::{Builder, builder, channel};
pub use channel::config::WhenFull;
pub use channel::payload::Payload;
pub use channel::strategy::{
    ActiveSegment, ByteCount, MessageCount, SwitchLimits, SwitchStrategy, TimeWindow, Weighted,
};
pub use error::{BuildError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
pub use monitor::Monitor;
pub use queue::ReadMode;
pub use receiver::Receiver;
pub use receiver::batch::{Batch, BatchIter};
pub use sender::Sender;
pub use sender::send_many::{Remaining, SendManyError};
pub use sender::weak::WeakSender;
pub use telemetry::histogram::{Bucket, Histogram};
#[cfg(feature = "otel")]
pub use telemetry::metrics::OtelRecorder;
#[cfg(feature = "prometheus")]
pub use telemetry::metrics::PrometheusRecorder;
pub use telemetry::recorder::{Counter, Gauge, HistogramKind, Recorder, StatsDelta};
pub use telemetry::stats::{Drops, SendErrors, Stats, Switches};

/// The README's code compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The guide's too; one of its programs needs the feature.
#[cfg(all(doctest, feature = "tracing-writer"))]
#[doc = include_str!("../docs/guide.md")]
struct Guide;
