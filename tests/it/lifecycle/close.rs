//! Closing a channel by its senders, its receivers or its runtime, in every order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::{check, current_runtime, message, ms, multi, multi_runtime, paused, plain, settle};
use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::Instant;
use turbostream::{
    ReadMode, Receiver, SendError, SendTimeoutError, Sender, TimeWindow, TryRecvError, TrySendError, WhenFull,
};

fn small_segments() -> (Sender, Receiver) {
    turbostream::builder()
        .segment_bytes(4096)
        .segment_messages(16)
        .max_bytes(32 << 10)
        .build()
        .expect("valid")
}

fn fill(tx: &Sender) -> u32 {
    (0..).find(|&number| tx.try_send(message(0, number, 100)).is_err()).expect("full eventually")
}

#[test]
fn dropping_the_last_sender_closes_after_accepted_messages() {
    paused(async {
        let (tx, mut rx) = small_segments();
        let other = tx.clone();
        let accepted = fill(&tx);
        drop(tx);
        assert!(!rx.is_closed(), "one sender remains");
        drop(other);
        assert!(rx.is_closed());
        for number in 0..accepted {
            assert_eq!(check(&rx.recv().await.expect("accepted before")), Some((0, number)));
        }
        assert_eq!(rx.recv().await, None);
        assert_eq!(rx.recv().await, None, "the channel stays closed");
        assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
        assert_eq!(rx.recv_many(&mut Vec::new(), 5).await, 0);
        assert!(rx.recv_batch(5).await.is_none());
    });
}

#[test]
fn close_wakes_every_waiting_receiver() {
    multi(async {
        let (tx, rx) = small_segments();
        let mut readers = JoinSet::new();
        (0..10).for_each(|_| {
            let mut rx = rx.clone();
            readers.spawn(async move { rx.recv().await });
        });
        tx.send("one").await.expect("open");
        drop(tx);
        let got = readers.join_all().await;
        assert_eq!(got.iter().filter(|m| m.is_some()).count(), 1);
    });
}

#[test]
fn receiver_close_leaves_accepted_messages_readable() {
    paused(async {
        let (tx, mut rx) = small_segments();
        let accepted = fill(&tx);
        let waiting = tokio::spawn({
            let tx = tx.clone();
            async move { tx.send("waits").await }
        });
        let closed = tokio::spawn({
            let tx = tx.clone();
            async move { tx.closed().await }
        });
        settle().await;
        assert!(!closed.is_finished() && !tx.is_closed());
        rx.close();
        assert!(tx.is_closed() && rx.is_closed());
        closed.await.expect("closed() resolves");
        assert!(matches!(waiting.await.expect("the sender"), Err(SendError::Closed(()))));
        assert!(matches!(tx.try_send("late"), Err(TrySendError::Closed(()))));
        assert!(matches!(tx.send_timeout("late", ms(5)).await, Err(SendTimeoutError::Closed(()))));
        assert_eq!(rx.len(), accepted as usize);
        for number in 0..accepted {
            assert_eq!(check(&rx.recv().await.expect("accepted before")), Some((0, number)));
        }
        assert_eq!(rx.recv().await, None, "closed although a sender exists");
        rx.close();
        assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
    });
}

#[test]
fn dropping_the_last_receiver_frees_queued_memory() {
    paused(async {
        let (tx, rx) = small_segments();
        let other = rx.clone();
        let monitor = tx.monitor();
        let payload = Bytes::from(vec![1; 6000]); // larger than a segment: external
        tx.send(payload.clone()).await.expect("open");
        assert!(!payload.is_unique());
        let accepted = fill(&tx);
        let waiting = tokio::spawn({
            let tx = tx.clone();
            async move { tx.send("waits").await }
        });
        settle().await;
        drop(rx);
        assert!(!tx.is_closed() && tx.len() == accepted as usize + 1, "one receiver remains");
        drop(other);
        assert!(tx.is_closed());
        assert!(payload.is_unique(), "queued payloads are dropped");
        let stats = monitor.stats();
        let held = (stats.sealed_bytes, stats.lent_bytes, stats.external_bytes, stats.queued_messages);
        assert_eq!(held, (0, 0, 0, 0), "{stats:?}");
        assert!(stats.active_bytes + stats.pooled_bytes <= 2 * (4096 + 16 * 8 + 128), "{stats:?}");
        assert_eq!(stats.sent_messages, stats.received_messages + stats.dropped_messages);
        assert!(matches!(waiting.await.expect("the sender"), Err(SendError::Closed(()))));
        tx.closed().await;
    });
}

/// Messages after one that is being written cannot be dropped with the receiver; the writing sender drops them.
#[test]
fn dropping_the_last_receiver_during_a_write_drops_all_messages() {
    paused(async {
        let (tx, rx) = small_segments();
        tx.try_send("before").expect("room");
        let payload = Bytes::from(vec![1; 6000]); // larger than a segment: external
        let mut rx = Some(rx);
        let write = |buf: &mut [u8]| {
            tx.try_send(payload.clone()).expect("room");
            drop(rx.take());
            assert!(tx.is_closed());
            buf.len()
        };
        tx.send_with(10, write).await.map_err(|_| "send failed").expect("its entry was reserved");
        assert!(payload.is_unique(), "queued payloads are dropped");
        let stats = tx.monitor().stats();
        assert_eq!((stats.sent_messages, stats.dropped_messages, stats.queued_messages), (3, 3, 0));
        assert_eq!((stats.sealed_bytes, stats.external_bytes), (0, 0), "{stats:?}");
    });
}

#[test]
fn close_during_concurrent_sends_loses_no_accepted_message() {
    multi(async {
        for round in 0..200 {
            let (tx, mut rx) = small_segments();
            let accepted = Arc::new(AtomicU32::new(0));
            let mut writers = JoinSet::new();
            for sender in 0..3 {
                let (tx, accepted) = (tx.clone(), accepted.clone());
                writers.spawn(async move {
                    for number in 0.. {
                        if tx.send(message(sender, number, 60)).await.is_err() {
                            break;
                        }
                        accepted.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let mut received = 0;
            while let Some(m) = rx.recv().await {
                assert!(check(&m).is_some());
                received += 1;
                if received == round {
                    rx.clone().close();
                }
                if round == 0 {
                    rx.close();
                }
            }
            writers.join_all().await;
            assert_eq!(received, accepted.load(Ordering::Relaxed), "round {round}");
        }
    });
}

#[test]
fn channel_spans_several_runtimes() {
    plain(|| {
        let (first, second) = (multi_runtime(), current_runtime(false));
        let (tx, mut rx) = turbostream::builder()
            .segment_bytes(4096)
            .segment_messages(16)
            .max_bytes(16 << 10)
            .runtime(first.handle().clone())
            .build()
            .expect("valid");
        let writing = first.spawn(async move {
            for number in 0..3000 {
                tx.send(message(0, number, 50)).await.expect("open");
            }
        });
        let count = second.block_on(async {
            let mut next = 0;
            while let Some(m) = rx.recv().await {
                assert_eq!(check(&m), Some((0, next)));
                next += 1;
            }
            next
        });
        assert_eq!(count, 3000);
        first.block_on(writing).expect("the sender");
    });
}

#[test]
fn try_send_and_try_recv_work_on_plain_threads() {
    plain(|| {
        let runtime = current_runtime(false); // never driven
        let (tx, mut rx) = turbostream::builder()
            .runtime(runtime.handle().clone())
            .max_bytes(64 << 10)
            .build()
            .expect("valid");
        let writing = thread::spawn(move || {
            for number in 0..5000 {
                while tx.try_send(message(0, number, 64)).is_err() {
                    thread::yield_now();
                }
            }
        });
        let mut next = 0;
        loop {
            match rx.try_recv() {
                Ok(m) => {
                    assert_eq!(check(&m), Some((0, next)));
                    next += 1;
                }
                Err(TryRecvError::Empty) => thread::yield_now(),
                Err(_) => break,
            }
        }
        assert_eq!(next, 5000);
        writing.join().expect("the sender");
    });
}

#[test]
fn channel_works_after_its_runtime_is_dropped() {
    plain(|| {
        for round in 0..30 {
            let runtime = multi_runtime();
            let mode = if round % 2 == 0 { ReadMode::Safe } else { ReadMode::ZeroCopy };
            let (tx, mut rx) = turbostream::builder()
                .strategy(TimeWindow(Duration::from_millis(1)))
                .max_bytes(64 << 10)
                .read_mode(mode)
                .runtime(runtime.handle().clone())
                .build()
                .expect("valid");
            for sender in 0..3 {
                let tx = tx.clone();
                runtime.spawn(async move {
                    for number in 0.. {
                        tx.send(message(sender, number, 1500)).await.expect("open");
                    }
                });
            }
            let mut reader = rx.clone();
            let kept = runtime.block_on(async move { reader.recv().await.expect("open") });
            drop(runtime); // with senders waiting and the background task armed
            while rx.try_recv().is_ok() {}
            tx.try_send(message(9, round, 99)).expect("room again");
            assert_eq!(check(&rx.try_recv().expect("on demand")), Some((9, round)));
            let second = current_runtime(false);
            second.block_on(async {
                let (sent, got) = futures::join!(tx.send(message(9, round, 98)), rx.recv());
                sent.expect("open");
                assert_eq!(check(&got.expect("open")), Some((9, round)));
            });
            drop(tx);
            assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
            assert!(check(&kept).is_some());
        }
    });
}

#[test]
fn reject_returns_full_without_waiting_and_recovers() {
    paused(async {
        let (tx, mut rx) =
            turbostream::builder().max_bytes(64 << 10).when_full(WhenFull::Reject).build().expect("valid");
        let before = Instant::now();
        let mut accepted = 0;
        let rejected = loop {
            match tx.send(message(0, accepted, 200)).await {
                Ok(()) => accepted += 1,
                Err(rejected) => break rejected,
            }
        };
        assert!(matches!(rejected, SendError::Full(_)));
        assert_eq!((before.elapsed(), tx.monitor().stats().waiting_senders), (Duration::ZERO, 0));
        for number in 0..accepted {
            assert_eq!(check(&rx.recv().await.expect("open")), Some((0, number)));
        }
        tx.send(rejected.into_inner()).await.expect("room again");
        assert_eq!(check(&rx.recv().await.expect("open")), Some((0, accepted)));
    });
}
