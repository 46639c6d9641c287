//! Loom models: the crate's own code, run through all interleavings within a bound.
//!
//! ```text
//! RUSTFLAGS="--cfg turbostream_loom" cargo test --release --lib models
//! ```
//!
//! `LOOM_MAX_PREEMPTIONS` sets the bound; each model prints how many executions it explored.
//! Segments hold two messages, and sequences start just before their wrap.

mod access_pairs;
mod active_segment;
mod coalescer;
mod memory;
mod registration;
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

fn open(builder: Builder) -> (Sender, Receiver) {
    open_as_it_is(builder.strategy(crate::MessageCount(usize::MAX)))
}

fn open_as_it_is(builder: Builder) -> (Sender, Receiver) {
    let mut config = builder.check(None).unwrap();
    config.first_sequence = u64::MAX - 1;
    let (tx, rx) = crate::builder::open(config);
    // What is made by the first use is made in a `OnceLock`, which loom cannot see into.
    tx.core().queue.ring.slot(0);
    tx.core().queue.pool.segment(0);
    (tx, rx)
}

/// Most models are explored with two preemptions; those with the most steps with one.
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

/// Lets other threads run, and hands nothing over.
fn make_way() {
    thread::spawn(|| ()).join().unwrap();
}

fn send(tx: &Sender, message: &'static str) {
    tx.try_send(message).unwrap();
}

/// What is left in a channel whose senders are gone.
fn drain(rx: &Receiver) -> Vec<Bytes> {
    std::iter::from_fn(|| rx.try_recv().ok()).collect()
}

/// Every message exactly once, and each writer's in its order.
fn assert_fifo(messages: &[Bytes], writers: &[&[&str]]) {
    assert_eq!(messages.len(), writers.iter().map(|sent| sent.len()).sum::<usize>());
    for sent in writers {
        let received: Vec<_> = messages.iter().filter(|m| sent.iter().any(|s| *m == s.as_bytes())).collect();
        assert_eq!(received, *sent);
    }
}
