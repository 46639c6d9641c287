//! End-to-end runs under shuttle: the crate's own code in random schedules.
//!
//! They have more threads and messages than loom can explore. Shuttle is sequentially consistent; loom checks the
//! memory orderings.
//!
//! ```text
//! RUSTFLAGS="--cfg turbostream_shuttle" cargo test --release --lib tests::shuttle
//! ```
//!
//! `TURBOSTREAM_EFFORT` multiplies the number of schedules. Segments hold two messages, and sequences start just before
//! their wrap. A failure prints the schedule, for `shuttle::replay`.

mod ahead;
mod delivery;
mod shutdown;
mod waiting;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::task::noop_waker;
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner, thread};

use crate::{Builder, ReadMode, Receiver, Sender, builder};

const SEGMENT_BYTES: usize = 64;
const SEGMENT_MESSAGES: usize = 2;
const SCHEDULES: usize = 1500;
/// The number of priority changes in a PCT schedule.
const DEPTH: usize = 3;

/// Runs random schedules, and as many PCT schedules, whose thread priorities change seldom.
fn explore(name: &str, run: impl Fn() + Send + Sync + 'static) {
    let effort: usize =
        std::env::var("TURBOSTREAM_EFFORT").map_or(1, |times| times.parse().expect("a number"));
    let schedules = SCHEDULES * effort;
    let run = std::sync::Arc::new(run);
    let random: Box<dyn Scheduler + Send> = Box::new(RandomScheduler::new(schedules));
    let pct: Box<dyn Scheduler + Send> = Box::new(PctScheduler::new(DEPTH, schedules));
    let ran: usize = [random, pct]
        .into_iter()
        .map(|scheduler| {
            let mut config = Config::default();
            config.stack_size = 1 << 18;
            let run = std::sync::Arc::clone(&run);
            Runner::new(scheduler, config).run(move || run())
        })
        .sum();
    println!("{name}: {ran} schedules");
    assert_eq!(ran, 2 * schedules);
}

/// A channel of `segments` segments of two messages.
fn small(segments: usize) -> Builder {
    let one =
        SEGMENT_BYTES + SEGMENT_MESSAGES * crate::queue::pool::ENTRY_BYTES + crate::queue::pool::HEADER_BYTES;
    builder().segment_bytes(SEGMENT_BYTES).segment_messages(SEGMENT_MESSAGES).max_bytes(segments * one + 200)
}

fn open(builder: Builder) -> (Sender, Receiver) {
    let mut config = builder.strategy(crate::MessageCount(3)).check(None).unwrap();
    config.first_sequence = u64::MAX - 1;
    let (tx, rx) = crate::builder::open(config);
    // The first use creates these in a `OnceLock`, which shuttle does not model.
    tx.core().queue.ring.slot(0);
    let pool = &tx.core().queue.pool;
    pool.segment(pool.segments_at_most() - 1);
    (tx, rx)
}

/// Message `number` of `sender`: every third is external, every fifth has only its header.
fn message(sender: u8, number: u8) -> Bytes {
    let len = if number % 3 == 2 { 100 } else { usize::from(number % 5) * 7 };
    let mut bytes = vec![sender ^ number; len + 2];
    bytes[..2].copy_from_slice(&[sender, number]);
    Bytes::from(bytes)
}

/// Checks every byte of a message; returns its sender and its number.
fn check(bytes: &[u8]) -> (u8, u8) {
    let (sender, number) = (bytes[0], bytes[1]);
    assert_eq!(bytes, message(sender, number), "torn");
    (sender, number)
}

/// Polls `future` up to `patience` times, yielding in between, and then drops it.
fn poll_or_cancel<F: Future>(patience: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let waker = noop_waker();
    for _ in 0..patience {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        thread::yield_now();
    }
    None
}

fn any_mode() -> ReadMode {
    if thread_rng().gen_bool(0.5) { ReadMode::Safe } else { ReadMode::ZeroCopy }
}

/// Receives until the channel is closed and drained, choosing a random method each time.
fn receive_all(rx: &mut Receiver) -> Vec<(u8, u8)> {
    let mut received = Vec::new();
    loop {
        let before = received.len();
        match thread_rng().gen_range(0..4) {
            0 => received.extend(block_on(rx.recv()).iter().map(|message| check(message))),
            1 => {
                let mut many = Vec::new();
                block_on(rx.recv_many(&mut many, 3));
                received.extend(many.iter().map(|message| check(message)));
            }
            2 => received.extend(block_on(rx.recv_batch(3)).iter().flat_map(|batch| batch.iter().map(check))),
            _ => match poll_or_cancel(2, rx.recv()) {
                Some(message) => received.extend(message.iter().map(|message| check(message))),
                None => continue,
            },
        }
        if received.len() == before {
            return received;
        }
    }
}

/// Asserts that each message was received once, and that each receiver got each sender's messages in order.
fn assert_all_received(received: &[Vec<(u8, u8)>], senders: u8, messages: u8) {
    for list in received {
        for sender in 0..senders {
            assert!(list.iter().filter(|message| message.0 == sender).is_sorted(), "out of order: {list:?}");
        }
    }
    let mut all = received.concat();
    all.sort_unstable();
    let sent = (0..senders).flat_map(|sender| (0..messages).map(move |number| (sender, number)));
    assert!(all.iter().copied().eq(sent), "{all:?}");
}

/// Asserts that nothing is queued, nothing waits, and all memory was freed.
fn assert_all_released(monitor: &crate::Monitor) {
    let stats = monitor.stats();
    assert_eq!(stats.sent_messages, stats.received_messages + stats.dropped_messages);
    assert_eq!((stats.queued_messages, stats.queued_bytes), (0, 0));
    assert_eq!((stats.waiting_senders, stats.waiting_receivers), (0, 0));
    assert_eq!(stats.memory_bytes(), 0, "{stats:?}");
}
