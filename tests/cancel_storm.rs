//! Storms of cancellations on several threads: no message is lost, repeated, torn or out of order, and no task is stuck.
//!
//! `TURBOSTREAM_EFFORT` multiplies the storms.

mod common;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use common::{LIMIT, check, effort, hash, impatient, message, multi_runtime, plain_within};
use futures::{Sink, SinkExt, StreamExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::{JoinSet, yield_now};
use turbostream::{ReadMode, Receiver, RecvTimeoutError, Sender, SwitchStrategy, TryRecvError};

const SENDERS: u32 = 4;
const RECEIVERS: u32 = 4;
const MESSAGES: u32 = 1500;
const STORMS: usize = 6;

/// Two or three segments of a few messages: both sides wait nearly all the time.
fn narrow(storm: usize) -> (Sender, Receiver) {
    let (messages, bytes) = ([1, 3, 16][storm % 3], 1024);
    let one = bytes + 8 * messages + 128;
    turbostream::builder()
        .segment_bytes(bytes)
        .segment_messages(messages)
        .max_bytes((2 + storm % 2) * one + 3000)
        .read_mode(if storm % 4 < 2 { ReadMode::ZeroCopy } else { ReadMode::Safe })
        .on_demand(storm % 3 != 1)
        .strategy(AlwaysOrTimed(storm % 2 == 0))
        .build()
        .expect("a valid configuration")
}

/// Switches at every message, or only once a millisecond has passed.
struct AlwaysOrTimed(bool);

impl SwitchStrategy for AlwaysOrTimed {
    fn should_switch(&self, active: &turbostream::ActiveSegment) -> bool {
        self.0 || active.elapsed >= Duration::from_millis(1)
    }
}

fn len_of(sender: u32, number: u32) -> usize {
    // About every tenth message is external.
    let h = hash(sender, number);
    if h % 10 == 0 { 1100 + h as usize % 1500 } else { 16 + h as usize % 200 }
}

/// The results of all tasks of a storm.
#[derive(Default)]
struct Storm {
    cancelled: AtomicUsize,
    received: Mutex<Vec<Vec<(u32, u32)>>>,
}

impl Storm {
    /// Runs `future` to its end, or drops it early at random.
    async fn run_or_cancel<F: Future>(&self, rng: &mut StdRng, future: F) -> Option<F::Output> {
        let output = match rng.random_range(0..4) {
            0 => impatient(rng.random_range(1..4), future).await,
            1 => tokio::time::timeout(Duration::from_micros(rng.random_range(0..50)), future).await.ok(),
            2 => tokio::select! { biased; output = future => Some(output), () = yield_now() => None },
            _ => tokio::select! { () = yield_now() => None, output = future => Some(output) },
        };
        if output.is_none() {
            self.cancelled.fetch_add(1, Relaxed);
        }
        output
    }
}

/// Sends every message, and repeats each cancelled send: a send that did not complete has sent nothing.
async fn send_all(storm: Arc<Storm>, mut tx: Sender, sender: u32, mut rng: StdRng) {
    for number in 0..MESSAGES {
        let payload = message(sender, number, len_of(sender, number));
        loop {
            let sent = match rng.random_range(0..5) {
                0 => storm.run_or_cancel(&mut rng, tx.send(&payload)).await.map(|sent| sent.is_ok()),
                1 => storm.run_or_cancel(&mut rng, tx.send(payload.clone())).await.map(|sent| sent.is_ok()),
                2 => {
                    let write = |buf: &mut [u8]| {
                        buf.copy_from_slice(&payload);
                        payload.len()
                    };
                    storm
                        .run_or_cancel(&mut rng, tx.send_with(payload.len(), write))
                        .await
                        .map(|sent| sent.is_ok())
                }
                3 => {
                    // What the sink takes is sent, also if it is parked and the handle is dropped.
                    let ready = poll_fn(|cx| Pin::new(&mut tx).poll_ready(cx));
                    let ready = storm.run_or_cancel(&mut rng, ready).await;
                    ready.map(|ready| ready.is_ok() && tx.start_send_unpin(payload.clone().into()).is_ok())
                }
                _ => {
                    let limit = Duration::from_micros(rng.random_range(0..2000));
                    let sent = storm.run_or_cancel(&mut rng, tx.send_timeout(&payload, limit)).await;
                    sent.and_then(|sent| sent.ok()).map(|()| true)
                }
            };
            match sent {
                Some(open) => break assert!(open),
                None if rng.random_range(0..8) == 0 => {
                    let drained = storm.run_or_cancel(&mut rng, tx.drained()).await;
                    assert!(drained.is_none_or(|drained| drained.is_ok()));
                }
                None => {}
            }
        }
    }
}

/// Receives in each way at random, and records messages before the next await.
async fn receive(storm: Arc<Storm>, rx: Receiver, mut rng: StdRng) {
    let mut received = Received { storm: Arc::clone(&storm), messages: Vec::new() };
    let mut rx = rx;
    loop {
        let limit = rng.random_range(1..6);
        let ended = match rng.random_range(0..7) {
            0 => storm.run_or_cancel(&mut rng, rx.recv()).await.map(|message| received.record(message)),
            1 => storm.run_or_cancel(&mut rng, rx.next()).await.map(|message| received.record(message)),
            2 => storm.run_or_cancel(&mut rng, rx.recv_batch(limit)).await.map(|batch| {
                let ended = batch.is_none();
                batch.into_iter().flatten().for_each(|message| assert!(!received.record(Some(message))));
                ended
            }),
            3 => storm.run_or_cancel(&mut rng, rx.batches(limit).next()).await.map(|batch| {
                let ended = batch.is_none();
                batch.into_iter().flatten().for_each(|message| assert!(!received.record(Some(message))));
                ended
            }),
            4 => match rx.try_recv() {
                Ok(message) => Some(received.record(Some(message))),
                Err(error) => (error == TryRecvError::Closed).then_some(true),
            },
            5 => {
                let wait = Duration::from_micros(rng.random_range(0..50));
                let batch = storm.run_or_cancel(&mut rng, rx.recv_batch_timeout(limit, wait)).await;
                batch.map(|batch| {
                    let ended = matches!(batch, Err(RecvTimeoutError::Closed));
                    batch.into_iter().flatten().for_each(|message| assert!(!received.record(Some(message))));
                    ended
                })
            }
            _ => {
                let mut many = Vec::new();
                let count = storm.run_or_cancel(&mut rng, rx.recv_many(&mut many, limit)).await;
                assert!(count.is_some() || many.is_empty(), "cancelled, and received messages");
                many.into_iter().for_each(|message| assert!(!received.record(Some(message))));
                count.map(|count| count == 0)
            }
        };
        if ended == Some(true) {
            return;
        }
    }
}

/// What one receiver got. It is recorded also if the task is aborted.
struct Received {
    storm: Arc<Storm>,
    messages: Vec<(u32, u32)>,
}

impl Received {
    /// Records a message, and returns whether the channel has ended.
    fn record(&mut self, message: Option<Bytes>) -> bool {
        self.messages.extend(message.as_deref().and_then(check));
        message.is_none()
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.storm.received.lock().unwrap().push(std::mem::take(&mut self.messages));
    }
}

/// Aborts receivers at random moments, and replaces them.
async fn abort_receivers(storm: Arc<Storm>, rx: Receiver, mut rng: StdRng) {
    while !rx.is_closed() {
        let task = tokio::spawn(receive(Arc::clone(&storm), rx.clone(), StdRng::from_rng(&mut rng)));
        for _ in 0..rng.random_range(0..20) {
            yield_now().await;
        }
        task.abort();
        if task.await.is_err() {
            storm.cancelled.fetch_add(1, Relaxed);
        }
    }
}

async fn storm(number: usize) -> usize {
    let storm = Arc::new(Storm::default());
    let (tx, rx) = narrow(number);
    let monitor = tx.monitor();
    let mut tasks = JoinSet::new();
    let rng = |of: u32| StdRng::seed_from_u64((number as u64) << 8 | u64::from(of));
    for receiver in 0..RECEIVERS {
        tasks.spawn(receive(Arc::clone(&storm), rx.clone(), rng(100 + receiver)));
    }
    tasks.spawn(abort_receivers(Arc::clone(&storm), rx, rng(200)));
    for sender in 0..SENDERS {
        tasks.spawn(send_all(Arc::clone(&storm), tx.clone(), sender, rng(sender)));
    }
    drop(tx);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no task panics");
    }
    let lists = std::mem::take(&mut *storm.received.lock().unwrap());
    for (list, sender) in lists.iter().flat_map(|list| (0..SENDERS).map(move |sender| (list, sender))) {
        let of_sender = list.iter().filter(|message| message.0 == sender).map(|message| message.1);
        assert!(of_sender.is_sorted(), "sender {sender} out of order");
    }
    let mut all = lists.concat();
    all.sort_unstable();
    let sent = (0..SENDERS).flat_map(|sender| (0..MESSAGES).map(move |number| (sender, number)));
    assert!(all.iter().copied().eq(sent), "lost or repeated in storm {number}");
    let stats = monitor.stats();
    assert_eq!((stats.queued_messages, stats.waiting_senders, stats.waiting_receivers), (0, 0, 0));
    assert_eq!(stats.memory_bytes(), 0, "{stats:?}");
    storm.cancelled.load(Relaxed)
}

#[test]
fn cancellation_storms_lose_nothing() {
    let storms = STORMS * effort();
    plain_within(LIMIT * effort() as u32, move || {
        let runtime = multi_runtime();
        let cancelled: usize = (0..storms)
            .map(|number| runtime.block_on(async { tokio::spawn(storm(number)).await.unwrap() }))
            .sum();
        println!("{cancelled} cancellations in {storms} storms");
        assert!(cancelled > storms * 1000);
    });
}
