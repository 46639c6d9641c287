//! A fast, bounded, double-buffered Tokio channel of byte messages.
//!
//! Many tasks [`send`](Sender::send) byte messages; they are copied one after the other into the **active**
//! segment, a block of memory for thousands of them. A switch seals it and puts a pooled one in its place;
//! receivers read the sealed side in the order in which messages were accepted, as [`Bytes`](bytes::Bytes) one
//! by one or as a [`Batch`]. There is no allocation per message, and memory never exceeds `max_bytes`.
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
//! At once, if it waits: it takes what the active segment holds by now, which closes it to writers as a seal does
//! ([`Builder::on_demand`]). Otherwise when the segment is full, when its [`SwitchStrategy`] says so, after a flush, or when the channel closes.
//!
//! # What is bounded
//!
//! Everything: segments being written, waiting to be read, free, or still referred to by a `Bytes` in your hands,
//! and payloads that travel by reference, together stay within [`Builder::max_bytes`]. When that is reached,
//! senders wait ([`WhenFull`]), and [`Monitor::stats`] tells what for.
//!
//! # Cargo features
//!
//! - `tracing` (default): an error event when code passed to a channel, such as a strategy, panics.

#![deny(unsafe_code)]

mod batch;
mod block;
mod callback;
mod channel;
mod config;
mod cut;
mod error;
mod events;
mod head;
mod in_place;
mod lull;
mod many;
#[cfg(all(test, turbostream_loom))]
mod models;
mod monitor;
mod pace;
mod page;
mod payload;
mod pending;
mod piece;
mod pool;
mod quick;
mod receiver;
#[allow(unsafe_code)]
mod segment;
mod sender;
#[cfg(all(test, turbostream_shuttle))]
mod shuttles;
mod sink;
mod strategy;
mod stream;
mod sync;
#[cfg_attr(any(turbostream_loom, turbostream_shuttle), path = "timer_loom.rs")]
mod timer;
mod wake;
mod weak;

pub use batch::{Batch, BatchIter};
pub use callback::Callback;
pub use channel::channel;
pub use config::{Builder, ReadMode, WhenFull, builder};
pub use error::{BuildError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
pub use many::{Rest, Unsent};
pub use monitor::{Monitor, Stats, Switches};
pub use payload::Payload;
pub use receiver::Receiver;
pub use sender::Sender;
pub use strategy::{
    ActiveSegment, ByteCount, MessageCount, SwitchLimits, SwitchStrategy, TimeWindow, Weighted,
};
pub use stream::Batches;
pub use weak::WeakSender;

/// The README's code compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
