//! Many more threads than cores: no message is lost, repeated, torn or out of order, and no thread is stuck or starved.
//!
//! `TURBOSTREAM_EFFORT` multiplies the messages. With `--nocapture`, the fairness tests print how many messages others got
//! before a waiter's turn, and how long that took.

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{LIMIT, check, current, current_runtime, effort, hash, message, paused, plain_within};
use futures::StreamExt;
use futures::executor::block_on;
use tokio::task::{JoinSet, yield_now};
use turbostream::{Monitor, ReadMode, Receiver, Sender, TryRecvError, TrySendError};

/// Threads of each side, where both sides have many.
const HALF: usize = 32;
/// Threads of the only side that has many.
const ALL: usize = 64;
/// Messages that a task may send or receive before it yields: 128 units of Tokio's budget, at 32 messages each.
const TURN: usize = 4096;
/// The fewest messages of a turn: a unit pays for one message while they seem slow, as when another process has the core.
const SHORTEST_TURN: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// Three segments of four messages: both sides wait nearly all the time.
    Tiny,
    Large,
}

const CASES: [(Size, ReadMode); 4] = [
    (Size::Tiny, ReadMode::Safe),
    (Size::Tiny, ReadMode::ZeroCopy),
    (Size::Large, ReadMode::Safe),
    (Size::Large, ReadMode::ZeroCopy),
];

impl Size {
    fn channel(self, mode: ReadMode) -> (Sender, Receiver) {
        let builder = turbostream::builder().read_mode(mode);
        let builder = match self {
            Self::Tiny => builder.segment_bytes(1024).segment_messages(4).max_bytes(3 * 1184 + 3000),
            Self::Large => builder,
        };
        builder.build().expect("a valid configuration")
    }

    /// Returns how many messages each sender sends.
    fn each(self) -> u32 {
        let each = if self == Self::Tiny { 60 } else { 600 };
        each * effort() as u32
    }

    /// Returns the length of a message. Some messages are external.
    fn len(self, sender: u32, number: u32) -> usize {
        let pick = hash(sender, number) as usize;
        match self {
            Self::Tiny if pick % 10 == 0 => 1100 + pick % 1500,
            Self::Large if pick % 200 == 0 => 32 << 10,
            _ => 16 + pick % 200,
        }
    }
}

/// Sends on a plain thread, in one of four ways.
fn send_on_a_thread(tx: &Sender, sender: u32, size: Size) {
    for number in 0..size.each() {
        let payload = message(sender, number, size.len(sender, number));
        match sender % 4 {
            0 => tx.blocking_send(&payload).expect("open"),
            1 => tx.blocking_send(payload).expect("open"),
            2 => {
                while let Err(full) = tx.try_send(&payload) {
                    assert!(matches!(full, TrySendError::Full(_)), "{full}");
                    thread::yield_now();
                }
            }
            _ => assert_eq!(block_on(tx.send_many([&payload])).expect("open"), 1),
        }
    }
}

/// Receives to the end on a plain thread, in one of four ways.
fn receive_on_a_thread(rx: &mut Receiver, way: usize) -> Vec<(u32, u32)> {
    let mut seen = Vec::new();
    match way % 4 {
        0 => seen.extend(std::iter::from_fn(|| rx.blocking_recv()).flat_map(|m| check(&m))),
        1 => loop {
            match rx.try_recv() {
                Ok(m) => seen.extend(check(&m)),
                Err(TryRecvError::Empty) => thread::yield_now(),
                Err(_) => break,
            }
        },
        2 => {
            while let Some(batch) = block_on(rx.recv_batch(17)) {
                seen.extend(batch.iter().flat_map(check));
            }
        }
        _ => {
            let mut many = Vec::new();
            while block_on(rx.recv_many(&mut many, 5)) > 0 {
                seen.extend(many.drain(..).flat_map(|m| check(&m)));
            }
        }
    }
    seen
}

async fn send_in_a_task(tx: Sender, sender: u32, size: Size) {
    for number in 0..size.each() {
        let payload = message(sender, number, size.len(sender, number));
        let len = payload.len();
        match sender % 4 {
            0 => tx.send(&payload).await.expect("open"),
            1 => tx.send(Bytes::from(payload)).await.expect("open"),
            2 => {
                let copy = |buf: &mut [u8]| {
                    buf.copy_from_slice(&payload);
                    len
                };
                tx.send_with(len, copy).await.expect("open");
            }
            _ => assert_eq!(tx.send_many([payload]).await.expect("open"), 1),
        }
    }
}

async fn receive_in_a_task(mut rx: Receiver, way: usize) -> Vec<(u32, u32)> {
    let mut seen = Vec::new();
    match way % 3 {
        0 => {
            while let Some(m) = rx.recv().await {
                seen.extend(check(&m));
            }
        }
        1 => {
            while let Some(m) = rx.next().await {
                seen.extend(check(&m));
            }
        }
        _ => {
            while let Some(batch) = rx.recv_batch(17).await {
                seen.extend(batch.iter().flat_map(check));
            }
        }
    }
    seen
}

fn verify(size: Size, lists: &[Vec<(u32, u32)>], monitor: &Monitor) {
    for list in lists {
        let mut next = [0; HALF];
        for &(sender, number) in list {
            assert!(number >= next[sender as usize], "sender {sender}: {number} out of order");
            next[sender as usize] = number + 1;
        }
    }
    let mut all = lists.concat();
    all.sort_unstable();
    let sent = (0..HALF as u32).flat_map(|sender| (0..size.each()).map(move |number| (sender, number)));
    assert!(all.iter().copied().eq(sent), "lost or repeated");
    let stats = monitor.stats();
    assert_eq!((stats.queued_messages, stats.waiting_senders, stats.waiting_receivers), (0, 0, 0));
    assert_eq!(stats.memory_bytes(), 0, "{stats:?}");
}

/// Starts a thread that begins once all threads reached `start`.
fn start<T: Send + 'static>(
    start: &Arc<Barrier>,
    body: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let start = Arc::clone(start);
    thread::spawn(move || {
        start.wait();
        body()
    })
}

fn join_all_threads<T>(threads: Vec<JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
}

#[test]
fn sixty_four_threads_lose_nothing() {
    plain_within(LIMIT * effort() as u32, || {
        let runtime = current_runtime(false);
        for (size, mode) in CASES {
            let _context = runtime.enter();
            let (tx, rx) = size.channel(mode);
            let monitor = tx.monitor();
            let barrier = Arc::new(Barrier::new(2 * HALF));
            let receivers: Vec<_> = (0..HALF)
                .map(|way| {
                    let mut rx = rx.clone();
                    start(&barrier, move || receive_on_a_thread(&mut rx, way))
                })
                .collect();
            let senders: Vec<_> = (0..HALF as u32)
                .map(|sender| {
                    let tx = tx.clone();
                    start(&barrier, move || send_on_a_thread(&tx, sender, size))
                })
                .collect();
            drop((tx, rx));
            join_all_threads(senders);
            verify(size, &join_all_threads(receivers), &monitor);
        }
    });
}

#[test]
fn runtime_of_sixty_four_workers_loses_nothing() {
    plain_within(LIMIT * effort() as u32, || {
        let runtime = runtime_of(ALL);
        for (size, mode) in CASES {
            runtime.block_on(async {
                let (tx, rx) = size.channel(mode);
                let monitor = tx.monitor();
                let (mut senders, mut receivers) = (JoinSet::new(), JoinSet::new());
                for of in 0..HALF {
                    receivers.spawn(receive_in_a_task(rx.clone(), of));
                    senders.spawn(send_in_a_task(tx.clone(), of as u32, size));
                }
                drop((tx, rx));
                senders.join_all().await;
                verify(size, &receivers.join_all().await, &monitor);
            });
        }
    });
}

fn runtime_of(workers: usize) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .expect("a multi-thread runtime")
}

/// How long a waiter waited for its turns, each counted from when it was ready.
#[derive(Clone, Copy, Debug, Default)]
struct Turns {
    count: usize,
    worst_gap: usize,
    worst_time: Duration,
}

impl Turns {
    fn note(&mut self, gap: usize, time: Duration) {
        self.count += 1;
        self.worst_gap = self.worst_gap.max(gap);
        self.worst_time = self.worst_time.max(time);
    }
}

/// Prints a summary of all waiters, and returns the worst gap.
fn report(what: &str, all: &[Turns]) -> usize {
    let (least, most) = (all.iter().map(|t| t.count).min(), all.iter().map(|t| t.count).max());
    let gap = all.iter().map(|t| t.worst_gap).max().expect("at least one waiter");
    let time = all.iter().map(|t| t.worst_time).max().expect("at least one waiter");
    println!(
        "{what}: {} to {} turns each; at worst {gap} messages of others in between, {time:?}",
        least.expect("at least one waiter"),
        most.expect("at least one waiter")
    );
    gap
}

/// Receives messages one by one, and counts what others receive while it is ready.
async fn take_turns(mut rx: Receiver, received: Arc<AtomicUsize>) -> Turns {
    let mut turns = Turns::default();
    loop {
        let (before, began) = (received.load(Relaxed), Instant::now());
        if rx.recv().await.is_none() {
            return turns;
        }
        turns.note(received.fetch_add(1, Relaxed) - before, began.elapsed());
    }
}

/// Tokio wakes tasks without budget in reverse order: the first in one round is the last in the next.
#[test]
fn ready_receiver_waits_at_most_two_turns_of_each_other() {
    current(async {
        let (tx, rx) = turbostream::builder().max_bytes(64 << 20).build().expect("valid");
        for _ in 0..3 * ALL * TURN {
            tx.try_send("one of many").expect("room");
        }
        let received = Arc::default();
        let mut receivers = JoinSet::new();
        (0..ALL).for_each(|_| drop(receivers.spawn(take_turns(rx.clone(), Arc::clone(&received)))));
        drop((tx, rx));
        let all = receivers.join_all().await;
        let worst = report("receivers of a full channel, in tasks", &all);
        // The messages last for two rounds of full turns, and a third one.
        assert!(all.iter().all(|turns| turns.count >= 2 * SHORTEST_TURN), "{all:?}");
        assert!(worst <= 2 * (ALL - 1) * TURN, "{worst}");
    });
}

/// A message wakes all of them, in the order in which they were served last. Tokio polls up to 61 tasks in one round.
#[test]
fn waiting_receivers_are_served_round_robin() {
    const ALL: usize = 32;
    paused(async {
        let (tx, rx) = turbostream::channel();
        let received = Arc::default();
        let mut receivers = JoinSet::new();
        (0..ALL).for_each(|_| drop(receivers.spawn(take_turns(rx.clone(), Arc::clone(&received)))));
        for _ in 0..20 * ALL {
            tx.send("one").await.expect("open");
            while !rx.is_empty() {
                yield_now().await;
            }
        }
        drop((tx, rx));
        let all = receivers.join_all().await;
        let worst = report("waiting receivers, in tasks", &all);
        assert!(all.iter().all(|turns| (19..=21).contains(&turns.count)), "{all:?}");
        assert!(worst < ALL, "{worst}");
    });
}

/// Sends numbered messages until `stop` is set.
async fn send_until(tx: Sender, sender: u32, stop: Arc<AtomicBool>) {
    let mut number = 0;
    while !stop.load(Relaxed) {
        tx.send(message(sender, number, 16)).await.expect("open");
        number += 1;
    }
}

/// Receives in order until every sender has had `turns`, then to the end. All senders are ready all the time.
async fn watch_senders(mut rx: Receiver, turns: usize, stop: Arc<AtomicBool>) -> Vec<Turns> {
    let mut all = vec![Turns::default(); ALL];
    let mut last = vec![(0, Instant::now()); ALL];
    let mut unserved = ALL;
    let mut sequence = 0;
    while let Some(m) = rx.recv().await {
        let (sender, number) = check(&m).expect("has a header");
        let (at, when) = &mut last[sender as usize];
        assert_eq!(number as usize, all[sender as usize].count, "out of order");
        all[sender as usize].note(sequence - *at, when.elapsed());
        sequence += 1;
        (*at, *when) = (sequence, Instant::now());
        unserved -= usize::from(all[sender as usize].count == turns);
        stop.store(unserved == 0, Relaxed);
    }
    all
}

/// A sender that gets a segment may fill it.
#[test]
fn waiting_sender_waits_at_most_two_segments_of_each_other() {
    paused(async {
        let (tx, rx) = Size::Tiny.channel(ReadMode::ZeroCopy);
        let stop = Arc::default();
        let mut senders = JoinSet::new();
        (0..ALL as u32).for_each(|of| drop(senders.spawn(send_until(tx.clone(), of, Arc::clone(&stop)))));
        drop(tx);
        let all = watch_senders(rx, 100, stop).await;
        senders.join_all().await;
        let worst = report("senders of a full channel, in tasks", &all);
        assert!(worst <= 2 * (ALL - 1) * 4, "{worst}");
    });
}

/// On threads the system's scheduler decides, so no gap can be promised. But no thread is starved.
#[test]
fn every_receiving_thread_is_served() {
    const TURNS: usize = 50;
    plain_within(LIMIT * effort() as u32, || {
        let runtime = current_runtime(false);
        for (size, mode) in CASES {
            let _context = runtime.enter();
            let (tx, rx) = size.channel(mode);
            let (received, unserved) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(ALL)));
            let barrier = Arc::new(Barrier::new(ALL + 1));
            let receivers: Vec<_> = (0..ALL)
                .map(|_| {
                    let (mut rx, received, unserved) =
                        (rx.clone(), Arc::clone(&received), Arc::clone(&unserved));
                    start(&barrier, move || {
                        let mut turns = Turns::default();
                        loop {
                            let (before, began) = (received.load(Relaxed), Instant::now());
                            if rx.blocking_recv().is_none() {
                                return turns;
                            }
                            turns.note(received.fetch_add(1, Relaxed) - before, began.elapsed());
                            unserved.fetch_sub(usize::from(turns.count == TURNS), Relaxed);
                        }
                    })
                })
                .collect();
            drop(rx);
            barrier.wait();
            let mut sent = 0;
            while unserved.load(Relaxed) > 0 {
                tx.blocking_send("one").expect("open");
                sent += 1;
            }
            drop(tx);
            let all = join_all_threads(receivers);
            report(&format!("receivers of a {size:?} channel, {mode:?}, on threads"), &all);
            assert_eq!(all.iter().map(|turns| turns.count).sum::<usize>(), sent);
        }
    });
}

#[test]
fn every_sending_thread_gets_room() {
    const TURNS: usize = 50;
    plain_within(LIMIT * effort() as u32, || {
        let runtime = runtime_of(ALL);
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let _context = runtime.enter();
            let (tx, rx) = Size::Tiny.channel(mode);
            let (monitor, stop) = (tx.monitor(), Arc::default());
            let barrier = Arc::new(Barrier::new(ALL + 1));
            let senders: Vec<_> = (0..ALL as u32)
                .map(|sender| {
                    let (tx, stop) = (tx.clone(), Arc::clone(&stop));
                    start(&barrier, move || block_on(send_until(tx, sender, stop)))
                })
                .collect();
            drop(tx);
            barrier.wait();
            let all = block_on(watch_senders(rx, TURNS, stop));
            join_all_threads(senders);
            report(&format!("senders of a full channel, {mode:?}, on threads"), &all);
            assert_eq!(
                all.iter().map(|turns| turns.count as u64).sum::<u64>(),
                monitor.stats().sent_messages
            );
        }
    });
}
