//! Futures that are dropped at each of their polls, leaked, or kept and never polled again.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Wake, Waker};

use crate::common::{advance, leak, ms, paused};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::task::{coop, yield_now};
use turbostream::{MessageCount, ReadMode, Receiver, Sender};

type Work<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// A future that the test polls by hand.
struct Task<'a> {
    work: Work<'a>,
    flag: Arc<Flag>,
    is_done: bool,
}

impl<'a> Task<'a> {
    fn new(work: Work<'a>) -> Self {
        Self { work, flag: Arc::default(), is_done: false }
    }

    /// Polls once and returns whether the future is done.
    fn poll(&mut self) -> bool {
        self.flag.0.store(false, Relaxed);
        let waker = Waker::from(Arc::clone(&self.flag));
        self.is_done = self.work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        self.is_done
    }

    fn poll_if_woken(&mut self) {
        if !self.is_done && self.flag.0.load(Relaxed) {
            self.poll();
        }
    }

    /// Abandons the future. Returns it if it is neither dropped nor leaked.
    fn abandon(self, how: Abandoned) -> Option<Self> {
        match how {
            Abandoned::Dropped => None,
            Abandoned::Leaked => {
                leak(self);
                None
            }
            Abandoned::NeverPolledAgain => Some(self),
        }
    }
}

/// What happens to an abandoned future.
#[derive(Clone, Copy, Debug)]
enum Abandoned {
    Dropped,
    Leaked,
    NeverPolledAgain,
}

const EACH_END: [Abandoned; 3] = [Abandoned::Dropped, Abandoned::Leaked, Abandoned::NeverPolledAgain];

/// Two segments of two messages, switched only on demand of a waiter.
fn tiny(mode: ReadMode) -> (Sender, Receiver) {
    let one = 64 + 2 * 8 + 128;
    turbostream::builder()
        .segment_bytes(64)
        .segment_messages(2)
        .max_bytes(2 * one + 250)
        .max_message_bytes(250)
        .strategy(MessageCount(usize::MAX))
        .read_mode(mode)
        .build()
        .expect("a valid configuration")
}

/// Returns a future that waits in a full channel.
fn sending<'a>(which: usize, tx: &'a Sender) -> Work<'a> {
    match which {
        0 => Box::pin(async { drop(tx.send("abandoned").await) }),
        1 => Box::pin(async { drop(tx.send_timeout("abandoned", ms(60_000)).await) }),
        2 => Box::pin(async { drop(tx.send_many(vec!["abandoned"; 9]).await) }),
        3 => Box::pin(async { drop(tx.send_with(9, |buf| buf.len()).await) }),
        4 => Box::pin(async { drop(tx.send(vec![7; 240]).await) }),
        5 => Box::pin(async {
            let messages = (0..5).map(|_| Ok(Bytes::from_static(b"abandoned")));
            drop(tx.clone().send_all(&mut futures::stream::iter(messages)).await);
        }),
        _ => Box::pin(async { drop(tx.drained().await) }),
    }
}

const SENDING: usize = 7;

/// Abandons a waiting sender after `k` polls. Returns whether it was still pending.
async fn abandon_sender(which: usize, k: usize, how: Abandoned) -> bool {
    let (tx, mut rx) = tiny(ReadMode::ZeroCopy);
    while tx.try_send("before").is_ok() {}
    let mut subject = Task::new(sending(which, &tx));
    let mut other = Task::new(Box::pin(async { tx.send("other").await.expect("open") }));
    let mut received = Vec::new();
    for polls in 0..k {
        if subject.poll() {
            break;
        }
        if polls == 0 {
            assert!(!other.poll(), "no room was made");
        }
        received.extend(rx.try_recv().map(|message| message.to_vec()));
        other.poll_if_woken();
    }
    if k == 0 {
        assert!(!other.poll());
    }
    let was_done = subject.is_done;
    if was_done && !other.is_done && !other.flag.0.load(Relaxed) {
        other.poll(); // where the subject needed no second poll
    }
    let kept = subject.abandon(how);
    // `other` is polled only if it is woken. It must be: at once, or when a wake stays unheeded for too long.
    for _ in 0..8 {
        received.extend(std::iter::from_fn(|| rx.try_recv().ok().map(|message| message.to_vec())));
        advance(ms(11)).await;
        other.poll_if_woken();
    }
    assert!(other.is_done, "{which}, {k} polls, {how:?}: {:?}", tx.monitor().stats());
    let stats = tx.monitor().stats();
    assert_eq!(
        (stats.sent_messages, stats.queued_messages),
        (received.len() as u64, 0),
        "{which} {k} {how:?}"
    );
    assert_eq!(received.iter().filter(|message| *message == b"other").count(), 1);
    drop(kept);
    !was_done
}

#[test]
fn sender_abandoned_at_any_poll_blocks_no_other() {
    paused(async {
        for which in 0..SENDING {
            for how in EACH_END {
                let mut polls = 0;
                while abandon_sender(which, polls, how).await {
                    polls += 1;
                }
                assert!(polls > 1, "sender {which} never waited");
            }
        }
    });
}

/// Returns a future that waits for a message.
fn receiving<'a>(which: usize, rx: &'a mut Receiver) -> Work<'a> {
    match which {
        0 => Box::pin(async { drop(rx.recv().await) }),
        1 => Box::pin(async { drop(rx.recv_timeout(ms(60_000)).await) }),
        2 => Box::pin(async { assert!(rx.recv_many(&mut Vec::new(), 3).await > 0) }),
        3 => Box::pin(async { drop(rx.recv_batch(3).await) }),
        4 => Box::pin(async { drop(rx.batches(3).next().await) }),
        _ => Box::pin(async { drop(rx.clone().next().await) }),
    }
}

const RECEIVING: usize = 6;

/// Abandons a waiting receiver after `k` unsuccessful polls, when a message is there that it may have been woken for.
async fn abandon_receiver(which: usize, k: usize, how: Abandoned, mode: ReadMode) {
    let (tx, mut rx) = tiny(mode);
    let (mut subject_rx, mut other_rx) = (rx.clone(), rx.clone());
    let mut subject = Task::new(receiving(which, &mut subject_rx));
    let mut other = Task::new(Box::pin(async { assert_eq!(other_rx.recv().await.expect("open"), "wanted") }));
    for polls in 0..k {
        assert!(!subject.poll(), "the channel is empty");
        if polls == 0 {
            assert!(!other.poll());
        }
        if polls + 1 < k {
            tx.try_send("stolen").expect("room");
            assert_eq!(rx.try_recv().expect("just sent"), "stolen");
        }
    }
    if k == 0 {
        assert!(!other.poll());
    }
    tx.try_send("wanted").expect("room");
    let kept = subject.abandon(how);
    for _ in 0..3 {
        other.poll_if_woken();
        advance(ms(11)).await;
    }
    assert!(other.is_done, "{which}, {k} polls, {how:?}: {:?}", tx.monitor().stats());
    drop(kept);
    let stats = tx.monitor().stats();
    assert_eq!((stats.received_messages, stats.queued_messages), (k.saturating_sub(1) as u64 + 1, 0));
}

#[test]
fn receiver_abandoned_at_any_poll_blocks_no_other() {
    paused(async {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            for which in 0..RECEIVING {
                for how in EACH_END {
                    for k in 0..6 {
                        abandon_receiver(which, k, how, mode).await;
                    }
                }
            }
        }
    });
}

/// Uses up this task's coop budget: the next future that takes part in it is pending at its first poll.
async fn exhaust_budget() {
    while coop::has_budget_remaining() {
        coop::consume_budget().await;
    }
}

#[test]
fn future_dropped_for_lack_of_budget_has_no_effect() {
    paused(async {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let (tx, mut rx) = tiny(mode);
            tx.send("here").await.expect("room");
            for which in 0..RECEIVING {
                exhaust_budget().await;
                let mut subject = Task::new(receiving(which, &mut rx));
                let done = subject.poll();
                drop(subject);
                // One message in 32 consumes budget for all, so `recv` may have been ready.
                let left = rx.len();
                assert_eq!(left, usize::from(!done), "receiver {which}");
                if done {
                    tx.send("here").await.expect("room");
                }
                yield_now().await;
            }
            drop(rx.recv().await);
            for which in 0..SENDING {
                exhaust_budget().await;
                let mut subject = Task::new(sending(which, &tx));
                let done = subject.poll();
                drop(subject);
                assert!(done || rx.is_empty() || which == 2 || which == 5, "sender {which}");
                yield_now().await;
                while rx.try_recv().is_ok() {}
            }
        }
    });
}

#[test]
fn leaked_memory_stays_lent_and_other_segments_are_reused() {
    paused(async {
        let one = 64 + 2 * 8 + 128;
        let (tx, mut rx) = turbostream::builder()
            .segment_bytes(64)
            .segment_messages(2)
            .max_bytes(6 * one)
            .read_mode(ReadMode::ZeroCopy)
            .build()
            .expect("a valid configuration");
        let monitor = tx.monitor();
        for round in 0..3 {
            for text in ["first", "second"] {
                tx.send(text).await.expect("room");
            }
            let batch = rx.recv_batch(2).await.expect("open");
            match round {
                0 => leak(batch),
                1 => leak(batch.into_iter()),
                _ => leak(batch.into_iter().next()),
            }
        }
        for number in 0..1000_u32 {
            tx.send_timeout(&number.to_le_bytes(), ms(1000)).await.expect("segments are reused");
            assert_eq!(rx.recv().await.expect("open"), number.to_le_bytes().as_slice());
        }
        let stats = monitor.stats();
        assert!(stats.lent_bytes >= 3 * one && stats.memory_bytes() <= stats.max_bytes, "{stats:?}");
        drop((tx, rx));
        assert_eq!(monitor.stats().memory_bytes(), 3 * one, "only the leaked memory");
    });
}
