//! `drained` waits for the messages sent before it, and for no others.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};

use crate::common::{check, current, impatient, message, multi, poll_once, settle};
use futures::FutureExt;
use tokio::task::JoinSet;
use turbostream::{MessageCount, ReadMode, Receiver, SendError, Sender, WhenFull};

/// Segments of 16 messages. No strategy switches them.
fn without_strategy(on_demand: bool) -> (Sender, Receiver) {
    turbostream::builder()
        .segment_bytes(4096)
        .segment_messages(16)
        .max_bytes(64 << 10)
        .strategy(MessageCount(usize::MAX))
        .on_demand(on_demand)
        .build()
        .expect("valid")
}

fn send(tx: &Sender, numbers: std::ops::Range<u32>) {
    for number in numbers {
        tx.try_send(message(0, number, 50)).expect("room");
    }
}

fn receive(rx: &mut Receiver, count: usize) {
    for _ in 0..count {
        rx.try_recv().expect("a message is queued");
    }
}

/// A `send_with` that panics leaves padding. No receiver polls for it after the message before.
#[test]
fn drained_is_woken_by_last_message_before_padding() {
    for (on_demand, messages_in_segment) in [(true, 1), (true, 16), (false, 1), (false, 16)] {
        current(async move {
            let segment = turbostream::builder().segment_bytes(64).segment_messages(messages_in_segment);
            let (tx, mut rx) = segment.max_bytes(8 << 10).on_demand(on_demand).build().expect("valid");
            tx.send("1").await.expect("room");
            let writer = tx.clone();
            let panics =
                async move { drop(writer.send_with(10, |_| std::panic::panic_any("on purpose")).await) };
            assert!(tokio::spawn(panics).await.is_err());
            let other = tx.clone();
            let drained = tokio::spawn(async move { other.drained().await });
            settle().await;
            assert!(!drained.is_finished());
            receive(&mut rx, 1);
            settle().await;
            assert!(drained.is_finished(), "every message was received");
        });
    }
}

/// Here all messages before the padding are received while it is written, so only the padding can wake `drained`.
#[test]
fn drained_is_woken_by_padding_after_last_message() {
    #[derive(Default)]
    struct Woken(AtomicBool);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    current(async {
        let (tx, mut rx) = without_strategy(true);
        send(&tx, 0..1);
        let mut drained = Box::pin(tx.drained());
        let woken = Arc::new(Woken::default());
        let panics = tx.send_with(10, |_| {
            let polled = drained.as_mut().poll(&mut Context::from_waker(&Waker::from(woken.clone())));
            assert!(polled.is_pending(), "one message is queued, and one is being written");
            receive(&mut rx, 1);
            std::panic::panic_any("on purpose")
        });
        assert!(AssertUnwindSafe(panics).catch_unwind().await.is_err());
        assert!(woken.0.load(Ordering::Relaxed), "every message was received");
        drained.await.expect("every message was received");
    });
}

#[test]
fn drained_returns_at_once_when_nothing_is_queued() {
    current(async {
        let (tx, mut rx) = without_strategy(true);
        tx.drained().await.expect("never written to");
        send(&tx, 0..5);
        receive(&mut rx, 5);
        tx.drained().await.expect("every message was received, by a cut");
        send(&tx, 0..20);
        receive(&mut rx, 20);
        tx.drained().await.expect("every message was received, across a segment's end");
        rx.close();
        tx.drained().await.expect("closed, and every message was received");
        drop(rx);
        tx.drained().await.expect("nothing was dropped");
        assert_eq!(tx.monitor().stats().switches.requested, 0, "there was nothing to switch");
    });
}

#[test]
fn drained_switches_and_waits_only_for_earlier_messages() {
    for on_demand in [false, true] {
        for before in [1, 3, 15, 16, 17, 40] {
            for received_count in [0, 1, 2, before - 1] {
                current(async move {
                    let (tx, mut rx) = without_strategy(on_demand);
                    send(&tx, 0..before);
                    if on_demand {
                        receive(&mut rx, received_count.min(before) as usize);
                    }
                    let mut left = if on_demand { before - received_count.min(before) } else { before };
                    let mut drained = Box::pin(tx.drained());
                    while left > 0 {
                        assert!(poll_once(&mut drained).is_pending(), "{left} of {before} are left");
                        send(&tx, 100..101); // `drained` does not wait for these
                        receive(&mut rx, 1);
                        left -= 1;
                    }
                    assert!(
                        poll_once(&mut drained).is_ready(),
                        "{before} were received, {received_count} of them before `drained`"
                    );
                });
            }
        }
    }
}

/// The receiver stops in the middle of a segment: only this message can wake the sender.
#[test]
fn drained_is_woken_by_exactly_the_message_it_waits_for() {
    for way in 0..4 {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            current(async move {
                let (tx, mut rx) = without_strategy(true);
                rx.set_read_mode(mode);
                send(&tx, 0..5);
                receive(&mut rx, 1); // cuts after the fifth
                send(&tx, 5..7);
                let waiting = tokio::spawn({
                    let tx = tx.clone();
                    async move { tx.drained().await }
                });
                settle().await;
                send(&tx, 7..10);
                match way {
                    0 => receive(&mut rx, 6),
                    1 => (0..6).for_each(|_| drop(poll_once(&mut Box::pin(rx.recv())))),
                    2 => assert_eq!(
                        rx.recv_many(&mut Vec::new(), 4).await + rx.recv_many(&mut Vec::new(), 2).await,
                        6
                    ),
                    _ => assert_eq!(
                        rx.recv_batch(4).await.map_or(0, |b| b.len())
                            + rx.recv_batch(2).await.map_or(0, |b| b.len()),
                        6
                    ),
                }
                waiting.await.expect("no panic in the sender").expect("open");
                assert_eq!(tx.len(), 3, "{way} {mode:?}");
            });
        }
    }
}

#[test]
fn several_drained_futures_each_wait_for_their_own_messages() {
    current(async {
        let (tx, mut rx) = without_strategy(false);
        let mut waiting = Vec::new();
        for round in 0..5 {
            send(&tx, round * 7..round * 7 + 7);
            let tx = tx.clone();
            waiting.push(tokio::spawn(async move { tx.drained().await }));
            settle().await;
        }
        waiting.remove(1).abort();
        for (read, still) in [(6, 4), (1, 3), (13, 3), (1, 2), (7, 1), (6, 1), (1, 0)] {
            receive(&mut rx, read);
            settle().await;
            assert_eq!(waiting.iter().filter(|task| !task.is_finished()).count(), still);
        }
        for task in waiting {
            task.await.expect("no panic in the sender").expect("open");
        }
    });
}

#[test]
fn drained_after_close_still_waits_for_the_receiver() {
    current(async {
        let (tx, mut rx) = without_strategy(true);
        send(&tx, 0..20);
        let mut before = Box::pin(tx.drained());
        assert!(poll_once(&mut before).is_pending());
        rx.close();
        let mut after = Box::pin(tx.drained());
        receive(&mut rx, 19);
        assert!(poll_once(&mut before).is_pending() && poll_once(&mut after).is_pending());
        receive(&mut rx, 1);
        before.await.expect("every message was received");
        after.await.expect("every message was received");
    });
}

#[test]
fn drained_fails_if_last_receiver_drops_unread_messages() {
    for received_count in [0, 3, 18, 19] {
        current(async move {
            let (tx, mut rx) = without_strategy(true);
            send(&tx, 0..20);
            let mut early = Box::pin(tx.drained());
            assert!(poll_once(&mut early).is_pending());
            let waiting = tokio::spawn({
                let tx = tx.clone();
                async move { tx.drained().await }
            });
            settle().await;
            receive(&mut rx, received_count);
            let other = rx.clone();
            drop(rx);
            settle().await;
            assert!(!waiting.is_finished(), "another receiver exists");
            drop(other);
            for result in [early.await, waiting.await.expect("no panic in the sender"), tx.drained().await] {
                assert!(
                    matches!(result, Err(SendError::Closed(()))),
                    "{received_count} were received: {result:?}"
                );
            }
        });
    }
    current(async {
        let (tx, mut rx) = without_strategy(true);
        send(&tx, 0..3);
        let mut first = Box::pin(tx.drained());
        assert!(poll_once(&mut first).is_pending());
        send(&tx, 3..6);
        receive(&mut rx, 3);
        drop(rx);
        first.await.expect("the first three were received");
        tx.drained().await.expect_err("the others were not");
    });
}

#[test]
fn messages_dropped_for_room_count_as_drained() {
    current(async {
        let (tx, rx) = turbostream::builder()
            .segment_bytes(4096)
            .segment_messages(16)
            .max_bytes(18 << 10)
            .when_full(WhenFull::DropOldest)
            .build()
            .expect("valid");
        send(&tx, 0..20);
        let waiting = tokio::spawn({
            let tx = tx.clone();
            async move { tx.drained().await }
        });
        settle().await;
        assert!(!waiting.is_finished());
        send(&tx, 20..200);
        waiting.await.expect("no panic in the sender").expect("open");
        assert!(tx.monitor().stats().dropped_messages >= 20);
        drop(rx);
        tx.drained().await.expect_err("the others were dropped with the last receiver");
    });
}

#[test]
fn concurrent_drained_returns_after_all_messages_are_received() {
    multi(async {
        const ROUNDS: u32 = 300;
        let (tx, rx) = without_strategy(true);
        let received_count = Arc::new([const { AtomicU64::new(0) }; 3]);
        let mut receivers = JoinSet::new();
        for _ in 0..2 {
            let (mut rx, received_count) = (rx.clone(), received_count.clone());
            receivers.spawn(async move {
                while let Some(batch) = rx.recv_batch(5).await {
                    for m in batch.iter() {
                        received_count[check(m).expect("has a header").0 as usize]
                            .fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        drop(rx);
        let mut senders = JoinSet::new();
        for sender in 0..3 {
            let tx = tx.clone();
            senders.spawn(async move {
                let monitor = tx.monitor();
                for round in 0..ROUNDS {
                    for number in 0..round % 40 {
                        tx.send(message(sender, number, 50)).await.expect("open");
                    }
                    let before = monitor.stats().sent_messages;
                    if impatient(round as usize % 3 + 1, tx.drained()).await.is_none() {
                        tx.drained().await.expect("open");
                    }
                    let received = monitor.stats().received_messages;
                    assert!(received >= before, "{received} of {before} that were sent");
                }
            });
        }
        drop(tx);
        senders.join_all().await;
        receivers.join_all().await;
        let each = u64::from((0..ROUNDS).map(|round| round % 40).sum::<u32>());
        assert!(received_count.iter().all(|count| count.load(Ordering::Relaxed) == each));
    });
}
