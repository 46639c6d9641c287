//! Loom models: the crate's own code, run through all interleavings within a bound.
//!
//! ```text
//! RUSTFLAGS="--cfg turbostream_loom" cargo test --release --lib tests::loom
//! ```
//!
//! `LOOM_MAX_PREEMPTIONS` sets the bound; each model prints how many executions it explored.
//! Segments hold two messages, and sequences start just before their wrap.

mod access_pairs;
mod active_segment;
mod ahead;
mod coalescer;
mod memory;
mod registration;
mod short_lock;
mod slot_state;
mod waiting;
mod wake_flag;

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::task::noop_waker;
use loom::future::block_on;
use loom::thread;

use crate::adapter::callback::{Shared, drive};
use crate::sync::{Arc, Mutex};
use crate::{Builder, ReadMode, Receiver, Sender, builder};

const SEGMENT_BYTES: usize = 64;
const SEGMENT_MESSAGES: usize = 2;

/// A channel of `segments` segments of two messages.
fn small(segments: usize) -> Builder {
    let one =
        SEGMENT_BYTES + SEGMENT_MESSAGES * crate::queue::pool::ENTRY_BYTES + crate::queue::pool::HEADER_BYTES;
    builder().segment_bytes(SEGMENT_BYTES).segment_messages(SEGMENT_MESSAGES).max_bytes(segments * one)
}

/// Opens a channel whose strategy never switches.
fn open(builder: Builder) -> (Sender, Receiver) {
    open_with_own_strategy(builder.strategy(crate::MessageCount(usize::MAX)))
}

fn open_with_own_strategy(builder: Builder) -> (Sender, Receiver) {
    let mut config = builder.check(None).unwrap();
    config.first_sequence = u64::MAX - 1;
    let (tx, rx) = crate::builder::open(config);
    // The first use creates these in a `OnceLock`, which loom does not model.
    tx.core().queue.ring.slot(0);
    let pool = &tx.core().queue.pool;
    pool.segment(pool.segments_at_most() - 1);
    (tx, rx)
}

/// Explores a model with at most two preemptions. Models with many steps are explored with one.
fn explore(name: &str, model: impl Fn() + Send + Sync + 'static) {
    explore_within(2, name, model);
}

fn explore_within(preemptions: usize, name: &str, model: impl Fn() + Send + Sync + 'static) {
    let executions = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(builder.preemption_bound.unwrap_or(preemptions));
    builder.max_branches = 10_000;
    let bound = builder.preemption_bound;
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        model();
    });
    println!("{name}: {} executions, preemption bound {bound:?}", executions.load(Relaxed));
}

/// Lets other threads run without synchronising with them.
fn yield_to_others() {
    thread::spawn(|| ()).join().unwrap();
}

fn send(tx: &Sender, message: &'static str) {
    tx.try_send(message).unwrap();
}

/// Receives until nothing is left to receive at once.
fn drain(rx: &mut Receiver) -> Vec<Bytes> {
    std::iter::from_fn(|| rx.try_recv().ok()).collect()
}

/// Asserts that each message was received once, and each sender's messages in order.
fn assert_fifo(messages: &[Bytes], senders: &[&[&str]]) {
    assert_eq!(messages.len(), senders.iter().map(|sent| sent.len()).sum::<usize>());
    for sent in senders {
        let received: Vec<_> = messages.iter().filter(|m| sent.iter().any(|s| *m == s.as_bytes())).collect();
        assert_eq!(received, *sent);
    }
}
