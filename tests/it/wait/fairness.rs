//! Fairness: between clones, to other tasks of the thread, and to user code that the channel calls.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use crate::common::{current, multi, paused, settle};
use bytes::Bytes;
use futures::{FutureExt, SinkExt, StreamExt};
use tokio::task::{JoinSet, yield_now};
use turbostream::{ActiveSegment, MessageCount, Monitor, ReadMode, Receiver, Sender, SwitchStrategy};

const MANY: usize = 40_000;

fn filled() -> (Sender, Receiver) {
    let (tx, rx) = turbostream::builder().read_mode(ReadMode::ZeroCopy).build().expect("valid");
    (0..MANY).for_each(|_| tx.try_send(b"one of many").expect("room"));
    (tx, rx)
}

async fn receive_on_four_clones() {
    let (tx, rx) = filled();
    drop(tx);
    let mut readers = JoinSet::new();
    for _ in 0..4 {
        let mut rx = rx.clone();
        readers.spawn(async move {
            let mut count = 0;
            while rx.recv().await.is_some() {
                count += 1;
            }
            count
        });
    }
    let counts = readers.join_all().await;
    assert_eq!(counts.iter().sum::<usize>(), MANY);
    if tokio::runtime::Handle::current().metrics().num_workers() == 1 {
        assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
    }
}

#[test]
fn every_ready_clone_is_served_current() {
    current(receive_on_four_clones());
}

#[test]
fn every_ready_clone_is_served_multi() {
    multi(receive_on_four_clones());
}

/// Counts the polls of another task on this thread until `busy` ends.
async fn polls_beside(busy: tokio::task::JoinHandle<()>) -> usize {
    let mut polls = 0;
    while !busy.is_finished() {
        yield_now().await;
        polls += 1;
    }
    busy.await.expect("the busy task");
    polls
}

/// Sends or receives one message in each way that counts messages for the cooperative budget.
async fn pass_one(way: usize, tx: &mut Sender, rx: &mut Receiver) {
    match way {
        0 => drop(rx.recv().await.expect("open")),
        1 => assert_eq!(rx.recv_many(&mut Vec::new(), 1).await, 1),
        2 => drop(rx.recv_batch(1).await.expect("open")),
        3 => drop(rx.next().await.expect("open")),
        4 => drop(rx.batches(1).next().await.expect("open")),
        5 => drop(rx.recv_timeout(Duration::MAX).await.expect("open")),
        6 => Sender::send(tx, b"one of many").await.expect("open"),
        7 => tx.send_timeout(b"one of many", Duration::MAX).await.expect("open"),
        8 => tx.send_with(11, |to| to.len()).await.map_err(drop).expect("open"),
        9 => assert_eq!(tx.send_many([b"one of many"]).await.expect("open"), 1),
        _ => SinkExt::feed(tx, Bytes::from_static(b"one of many")).await.expect("open"),
    }
}
const WAYS: usize = 11;
const RECEIVING_WAYS: usize = 6;

/// Lets the paused clock advance without a yield, as a message does that takes a while.
fn work(takes: Duration) {
    let _ = tokio::time::advance(takes).now_or_never();
}

const SLOW: Duration = Duration::from_micros(50);
/// The units of a task's cooperative budget.
const UNITS: usize = 128;

/// A task that is always ready yields regularly: at least once in 4096 messages, and not much more often while messages
/// are quick.
#[test]
fn busy_task_yields_to_others_of_its_thread() {
    paused(async {
        for way in 0..WAYS {
            let (mut tx, mut rx) = if way < RECEIVING_WAYS { filled() } else { turbostream::channel() };
            let busy = tokio::spawn(async move {
                for _ in 0..MANY {
                    pass_one(way, &mut tx, &mut rx).await;
                }
            });
            let polls = polls_beside(busy).await;
            assert!((MANY / 4096..20).contains(&polls), "way {way}: {polls} polls beside {MANY} messages");
        }
    });
}

/// Where messages take long, a task yields as often as with Tokio's channels: once in 128 messages.
#[test]
fn task_with_slow_messages_yields_as_with_a_tokio_channel() {
    paused(async {
        for way in 0..WAYS {
            let (mut tx, mut rx) = if way < RECEIVING_WAYS { filled() } else { turbostream::channel() };
            let busy = tokio::spawn(async move {
                for _ in 0..20 * UNITS {
                    pass_one(way, &mut tx, &mut rx).await;
                    work(SLOW);
                }
            });
            let polls = polls_beside(busy).await;
            assert!(polls >= 20, "way {way}: {polls} polls beside {} slow messages", 20 * UNITS);
        }
    });
}

/// Once messages are quick again, they are as cheap as before.
#[test]
fn task_yields_seldom_again_after_slow_messages() {
    paused(async {
        let (mut tx, mut rx) = filled();
        for _ in 0..UNITS {
            pass_one(0, &mut tx, &mut rx).await;
            work(SLOW);
        }
        let busy = tokio::spawn(async move {
            for _ in UNITS..MANY {
                pass_one(0, &mut tx, &mut rx).await;
            }
        });
        let polls = polls_beside(busy).await;
        assert!(polls < 20, "{polls} polls beside quick messages");
    });
}

/// Receives batches of `limit` messages, each of which takes `takes`; returns the polls of another task.
async fn polls_beside_batches(way: usize, messages: usize, limit: usize, takes: Duration) -> usize {
    let (_tx, mut rx) = filled();
    let busy = tokio::spawn(async move {
        let mut taken = 0;
        while taken < messages {
            let batch = match way {
                0 => rx.recv_batch(limit).await.expect("open").len(),
                1 => rx.recv_many(&mut Vec::new(), limit).await,
                _ => rx.batches(limit).next().await.expect("open").len(),
            };
            work(takes * batch as u32);
            taken += batch;
        }
    });
    polls_beside(busy).await
}

/// What counts is how many messages a task takes, not how many at once.
#[test]
fn task_that_takes_batches_yields_as_often_as_with_single_messages() {
    paused(async {
        for way in 0..3 {
            let polls = polls_beside_batches(way, MANY, 100, Duration::ZERO).await;
            assert!((MANY / 4096..20).contains(&polls), "way {way}: {polls} polls beside quick batches");
            let polls = polls_beside_batches(way, 20 * UNITS, 64, SLOW).await;
            assert!((20..=41).contains(&polls), "way {way}: {polls} polls beside slow batches");
            // One yield settles what a large batch owes.
            let polls = polls_beside_batches(way, MANY, 1000, SLOW).await;
            assert!((MANY / 1000..60).contains(&polls), "way {way}: {polls} polls beside large batches");
        }
    });
}

/// A group of `send_many` counts all of its messages too.
#[test]
fn task_that_sends_groups_yields_as_often_as_with_single_messages() {
    paused(async {
        let (tx, _rx) = turbostream::channel();
        let busy = tokio::spawn(async move {
            for _ in 0..MANY / 32 {
                tx.send_many([b"one of many"; 32]).await.expect("open");
            }
        });
        let polls = polls_beside(busy).await;
        assert!((MANY / 4096..20).contains(&polls), "{polls} polls beside {MANY} messages");
    });
}

/// The first message of a handle consumes budget: a task may have many handles, each for a few messages.
#[test]
fn task_with_many_channels_yields_to_others_of_its_thread() {
    current(async {
        for sends in [true, false] {
            let mut filled = vec![];
            for _ in 0..if sends { 0 } else { 1000 } {
                let (tx, rx) = turbostream::channel();
                tx.try_send("one of many").expect("room");
                filled.push((tx, rx));
            }
            let busy = tokio::spawn(async move {
                for _ in 0..if sends { 1000 } else { 0 } {
                    let (tx, _rx) = turbostream::channel();
                    tx.send("one of many").await.expect("open");
                }
                for (_tx, mut rx) in filled {
                    assert_eq!(rx.recv().await.as_deref(), Some(&b"one of many"[..]));
                }
            });
            let polls = polls_beside(busy).await;
            assert!(polls > 5, "{polls} polls beside 1000 channels");
        }
    });
}

/// The second message of a handle shows already that messages take long.
#[test]
fn task_with_a_few_slow_messages_on_each_of_many_channels_yields() {
    paused(async {
        let (channels, messages) = (100, 10);
        let mut handles: Vec<_> = (0..channels).map(|_| turbostream::channel()).collect();
        for (tx, _) in &handles {
            (0..messages).for_each(|_| tx.try_send("one of a few").expect("room"));
        }
        let busy = tokio::spawn(async move {
            for _ in 0..messages {
                for (_, rx) in &mut handles {
                    rx.recv().await.expect("open");
                    work(SLOW);
                }
            }
        });
        let polls = polls_beside(busy).await;
        assert!(polls >= channels * messages / UNITS, "{polls} polls");
    });
}

/// The same for `send_many`.
#[test]
fn task_that_calls_send_many_on_many_channels_yields() {
    current(async {
        let busy = tokio::spawn(async {
            for _ in 0..1000 {
                let (tx, _rx) = turbostream::channel();
                tx.send_many(["one of many"]).await.expect("open");
            }
        });
        let polls = polls_beside(busy).await;
        assert!(polls > 5, "{polls} polls beside 1000 channels");
    });
}

/// Notes how many messages are queued at its first wake.
struct CountsQueued(Receiver, OnceLock<usize>);

impl Wake for CountsQueued {
    fn wake(self: Arc<Self>) {
        let _ = self.1.set(self.0.len());
    }
}

/// Wakes a drainer after a part of the messages, and so has unlocked what receivers share.
#[test]
fn recv_many_does_not_keep_others_out_until_its_end() {
    paused(async {
        for (messages, len, at_once) in [(4000, 8, 256), (100, 16 << 10, 4)] {
            for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
                let builder = turbostream::builder().read_mode(mode).strategy(MessageCount(1 << 20));
                let builder = builder.segment_bytes(4 << 20).segment_messages(8 << 10);
                let (tx, mut rx) = builder.build().expect("valid");
                let send = |count| (0..count).for_each(|_| tx.try_send(vec![7; len]).expect("room"));
                send(at_once);
                let counts = Arc::new(CountsQueued(rx.clone(), OnceLock::new()));
                let waker = Waker::from(counts.clone());
                let mut drained = Box::pin(tx.drained());
                assert!(drained.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                send(messages - at_once);
                let mut received = Vec::new();
                assert_eq!(rx.recv_many(&mut received, usize::MAX).await, messages);
                assert_eq!(received.len(), messages);
                assert_eq!(counts.1.get(), Some(&(messages - at_once)), "{mode:?}, {len} bytes");
            }
        }
    });
}

/// The limit holds over all parts.
#[test]
fn recv_many_takes_no_more_than_its_limit() {
    paused(async {
        let (_tx, mut rx) = filled();
        for limit in [1, 255, 256, 257, 1000] {
            let mut received = Vec::new();
            assert_eq!((rx.recv_many(&mut received, limit).await, received.len()), (limit, limit));
        }
    });
}

/// User code in a waker, a payload's drop or a strategy. It may do anything, as the channel holds no lock while it runs.
struct Reentrant {
    tx: Sender,
    rx: Receiver,
    monitor: Monitor,
    calls: AtomicUsize,
}

impl Reentrant {
    fn new(tx: &Sender, rx: &Receiver) -> Self {
        Self { tx: tx.clone(), rx: rx.clone(), monitor: tx.monitor(), calls: AtomicUsize::new(0) }
    }

    fn call(&self) {
        if self.calls.fetch_add(1, Ordering::Relaxed) < 20 {
            let _ = self.tx.try_send("reentrant");
            let _ = self.rx.clone().try_recv();
            assert!(self.tx.len() + self.rx.len() <= 2 * 64 && self.monitor.stats().max_bytes > 0);
            drop((self.tx.clone(), self.rx.clone()));
        }
    }
}

impl Wake for Reentrant {
    fn wake(self: Arc<Self>) {
        self.call();
    }
}

#[test]
fn waker_may_use_the_channel() {
    paused(async {
        let (tx, mut rx) = turbostream::builder().max_bytes(64 << 10).build().expect("valid");
        let reentrant = Arc::new(Reentrant::new(&tx, &rx));
        let waker = Waker::from(reentrant.clone());
        let mut cx = Context::from_waker(&waker);
        let mut other = rx.clone();
        let mut waiting = pin!(other.recv());
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        tx.try_send("wakes").expect("room");
        assert!(reentrant.calls.load(Ordering::Relaxed) > 0);
        while tx.try_send("more").is_ok() {}
        let mut closing = pin!(tx.closed());
        assert!(closing.as_mut().poll(&mut cx).is_pending());
        rx.close();
        assert!(closing.as_mut().poll(&mut cx).is_ready());
        while rx.try_recv().is_ok() {}
    });
}

#[test]
fn panicking_waker_is_contained() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a panic on purpose")
        }
    }
    paused(async {
        let (tx, mut rx) = turbostream::channel();
        let waker = Waker::from(Arc::new(Panics));
        let mut first = rx.clone();
        let mut waiting = Box::pin(first.recv());
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let other = tokio::spawn({
            let mut rx = rx.clone();
            async move { rx.recv().await }
        });
        settle().await;
        tx.try_send("first").expect("room");
        drop(waiting);
        tx.try_send("second").expect("room");
        assert!(other.await.expect("no panic in the other task").is_some());
        assert!(rx.recv().await.is_some());
    });
}

#[test]
fn payload_drop_may_use_the_channel() {
    struct Owner(Arc<Reentrant>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &[5; 40_000]
        }
    }
    impl Drop for Owner {
        fn drop(&mut self) {
            self.0.call();
        }
    }
    paused(async {
        let (other_tx, other_rx) = turbostream::builder().max_bytes(64 << 10).build().expect("valid");
        for closing in 0..3 {
            let (tx, mut rx) = turbostream::channel();
            let of_itself =
                Reentrant { tx: other_tx.clone(), rx: other_rx.clone(), ..Reentrant::new(&tx, &rx) };
            let reentrant = Arc::new(Reentrant { monitor: tx.monitor(), ..of_itself });
            for _ in 0..3 {
                tx.try_send(Bytes::from_owner(Owner(reentrant.clone()))).expect("room");
            }
            match closing {
                0 => drop(rx), // discards the queued messages
                1 => drop((tx, rx)),
                _ => (0..3).for_each(|_| drop(rx.try_recv().expect("sent"))),
            }
            assert_eq!(reentrant.calls.load(Ordering::Relaxed), 3, "case {closing}");
        }
    });
}

#[test]
fn strategy_may_use_the_channel() {
    struct Own(Arc<OnceLock<Reentrant>>);
    impl SwitchStrategy for Own {
        fn should_switch(&self, active: &ActiveSegment) -> bool {
            self.0.get().inspect(|reentrant| reentrant.call());
            active.messages >= 3
        }
    }
    paused(async {
        let own = Arc::new(OnceLock::new());
        let (tx, mut rx) =
            turbostream::builder().strategy(Own(own.clone())).on_demand(false).build().expect("valid");
        assert!(own.set(Reentrant::new(&tx, &rx)).is_ok());
        for _ in 0..30 {
            tx.try_send("asks").expect("room");
        }
        settle().await;
        assert!(own.get().expect("set").calls.load(Ordering::Relaxed) >= 20);
        assert!(rx.try_recv().is_ok());
        tx.set_strategy(MessageCount(1)); // otherwise the channel owns itself
    });
}
