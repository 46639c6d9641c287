//! One test for each fault measured in the Go original of this design. Each test would have caught its fault there.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use crate::common::{advance, check, current_runtime, message, ms, multi, paused, plain, settle};
use bytes::Bytes;
use futures::StreamExt;
use tokio::task::JoinSet;
use tokio::time::Instant;
use turbostream::{ReadMode, Receiver, Sender, TimeWindow, TryRecvError, TrySendError};

/// Tiny segments, so that nearly every message causes a switch.
fn tiny(segment_bytes: usize, max_bytes: usize) -> (Sender, Receiver) {
    turbostream::builder()
        .segment_bytes(segment_bytes)
        .segment_messages(4)
        .max_bytes(max_bytes)
        .build()
        .expect("a valid configuration")
}

/// Receives to the end, and checks that all messages are from sender 0 and in order.
async fn receive_in_order(mut rx: Receiver) -> u32 {
    let mut count = 0;
    while let Some(m) = rx.recv().await {
        assert_eq!(check(&m), Some((0, count)));
        count += 1;
    }
    count
}

/// 1. Capacity check and slot claim were two steps: senders overran and overwrote.
#[test]
fn fault_01_senders_never_overrun_or_overwrite() {
    multi(async {
        let (tx, mut rx) = tiny(256, 16 << 10);
        let mut writers = JoinSet::new();
        for sender in 0..8 {
            let tx = tx.clone();
            writers.spawn(async move {
                for number in 0..2000 {
                    tx.send(&message(sender, number, 60)[..]).await.expect("open");
                }
            });
        }
        drop(tx);
        let mut seen = vec![0; 8];
        while let Some(m) = rx.recv().await {
            let (sender, number) = check(&m).expect("has a header");
            assert_eq!(number, seen[sender as usize], "sender {sender}");
            seen[sender as usize] += 1;
        }
        assert_eq!(seen, [2000; 8]);
        writers.join_all().await;
    });
}

/// 2. A switch did not wait for writes in progress: late writes went to a drained or reused buffer.
#[test]
fn fault_02_late_writes_never_reach_a_reused_segment() {
    plain(|| {
        let runtime = current_runtime(false);
        let _guard = runtime.enter();
        let (tx, mut rx) = tiny(64 << 10, 512 << 10);
        let writer = |sender| {
            let tx = tx.clone();
            thread::spawn(move || {
                for number in 0..400 {
                    let bytes = message(sender, number, 15_000);
                    while tx.try_send(&bytes[..]).is_err() {
                        thread::yield_now();
                    }
                }
            })
        };
        let writers: Vec<_> = (0..4).map(writer).collect();
        drop(tx);
        let mut count = 0;
        loop {
            match rx.try_recv() {
                Ok(m) => count += usize::from(check(&m).is_some()),
                Err(TryRecvError::Empty) => thread::yield_now(),
                Err(_) => break,
            }
        }
        assert_eq!(count, 1600);
        writers.into_iter().for_each(|w| w.join().expect("no panic in the sender"));
    });
}

/// 3. The sequence was assigned after the swap: whole blocks changed order, with a single sender too.
#[test]
fn fault_03_blocks_keep_their_order() {
    multi(async {
        let (tx, rx) = tiny(1024, 32 << 10);
        let reading = tokio::spawn(receive_in_order(rx));
        // One handle after the other sends, so the order is known though the sending thread changes.
        for number in 0..6000 {
            let tx = tx.clone();
            let writer = tokio::spawn(async move { tx.send(message(0, number, 50)).await });
            writer.await.expect("no panic in the sender").expect("open");
        }
        drop(tx);
        assert_eq!(reading.await.expect("no panic in the receiver"), 6000);
    });
}

/// 4. A receiver slept although messages were queued, or returned a spurious "no buffer". Wakes were lost.
#[test]
fn fault_04_receivers_never_sleep_on_queued_messages() {
    multi(async {
        let (tx, rx) = tiny(1024, 32 << 10);
        let (ack_tx, mut ack_rx) = tokio::sync::mpsc::unbounded_channel();
        let mut readers = JoinSet::new();
        for _ in 0..4 {
            let (mut rx, ack) = (rx.clone(), ack_tx.clone());
            readers.spawn(async move {
                let mut count = 0;
                while let Some(m) = rx.recv().await {
                    ack.send(check(&m).expect("has a header").1).expect("acknowledged");
                    count += 1;
                }
                count
            });
        }
        // Each burst is sent only after the previous one was received. A receiver that sleeps on it blocks the test.
        for number in 0..4000 {
            let burst = number % 3 + 1;
            for _ in 0..burst {
                tx.send(message(0, number, 40)).await.expect("open");
            }
            for _ in 0..burst {
                assert_eq!(ack_rx.recv().await, Some(number));
            }
        }
        drop((tx, rx));
        assert_eq!(
            readers.join_all().await.into_iter().sum::<u32>(),
            (0..4000).map(|n| n % 3 + 1).sum::<u32>()
        );
    });
}

/// 5. Timer switches of an idle channel queued empty buffers. Each read discarded one and blocked.
#[test]
fn fault_05_idle_channel_never_switches_empty_segments() {
    paused(async {
        let (tx, mut rx) =
            turbostream::builder().strategy(TimeWindow(ms(5))).on_demand(false).build().expect("valid");
        for _ in 0..1000 {
            advance(ms(5)).await;
        }
        assert_eq!(tx.monitor().stats().switches.total(), 0, "an empty segment was switched");
        (0..100).for_each(|n| tx.try_send(message(0, n, 30)).expect("room"));
        advance(ms(7)).await;
        for number in 0..100 {
            assert_eq!(check(&rx.try_recv().expect("all are readable at once")), Some((0, number)));
        }
        assert_eq!(tx.monitor().stats().switches.total(), 1);
    });
}

/// 6. Partial buffers waited for the window: one message took five seconds.
#[test]
fn fault_06_single_message_does_not_wait_for_the_window() {
    paused(async {
        let (tx, mut rx) =
            turbostream::builder().strategy(TimeWindow(Duration::from_secs(5))).build().expect("valid");
        let before = Instant::now();
        let reading = tokio::spawn(async move { rx.recv().await });
        settle().await;
        tx.send(b"alone").await.expect("open");
        assert_eq!(reading.await.expect("no panic in the receiver"), Some(Bytes::from_static(b"alone")));
        assert_eq!(before.elapsed(), Duration::ZERO);
    });
}

/// 7. A write to an open channel failed only because a switch was in progress.
#[test]
fn fault_07_switch_never_makes_a_send_fail() {
    multi(async {
        let (tx, rx) = tiny(1024, 8 << 20);
        let reading = tokio::spawn(rx.count());
        let mut writers = JoinSet::new();
        for sender in 0..4 {
            let tx = tx.clone();
            writers.spawn_blocking(move || {
                for number in 0..3000 {
                    let sent = tx.try_send(message(sender, number, 100));
                    assert!(sent.is_ok(), "{sent:?} of {number}, with room for all of them");
                }
            });
        }
        drop(tx);
        writers.join_all().await;
        assert_eq!(reading.await.expect("no panic in the receiver"), 12_000);
    });
}

/// 8. Messages of 1 KB and more were never copied: a sender that reused its slice tore them.
#[test]
fn fault_08_reused_slice_tears_no_message() {
    multi(async {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            for len in [100, 1024, 5000, 40_000, 300_000] {
                let (tx, rx) =
                    turbostream::builder().read_mode(mode).max_bytes(2 << 20).build().expect("valid");
                let writing = tokio::spawn(async move {
                    let mut slice = vec![0; len];
                    for number in 0..40 {
                        slice.copy_from_slice(&message(0, number, len));
                        tx.send(&slice[..]).await.expect("open");
                        slice.fill(0xee);
                    }
                });
                assert_eq!(receive_in_order(rx).await, 40);
                writing.await.expect("no panic in the sender");
            }
        }
    });
}

/// 9. `Close` discarded sent messages, and did nothing during a switch.
#[test]
fn fault_09_close_keeps_all_sent_messages() {
    multi(async {
        for round in 0..300 {
            let (tx, mut rx) = tiny(1024, 64 << 10);
            let monitor = tx.monitor();
            let writing = tokio::spawn(async move {
                let mut sent = 0;
                while tx.send(message(0, sent, 50)).await.is_ok() {
                    sent += 1;
                    if round % 2 == 0 && sent > round {
                        break; // the sending side closes, by its last drop
                    }
                }
                sent
            });
            let mut received = 0;
            while let Some(m) = rx.recv().await {
                assert_eq!(check(&m), Some((0, received)));
                received += 1;
                if round % 2 == 1 && received == round {
                    rx.close(); // between switches
                }
            }
            assert_eq!(received, writing.await.expect("no panic in the sender"), "round {round}");
            assert_eq!(monitor.stats().sent_messages, u64::from(received), "round {round}");
        }
    });
}

/// 10. An empty message panicked. So did reading before a read mode was registered.
#[test]
fn fault_10_empty_message_does_not_panic() {
    paused(async {
        let (tx, mut rx) = turbostream::channel();
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty), "receiving first");
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            rx.set_read_mode(mode);
            tx.send(b"").await.expect("open");
            tx.send(Vec::new()).await.expect("open");
            tx.send("x").await.expect("open");
            tx.send(Bytes::new()).await.expect("open");
            let batch = rx.recv_batch(1).await.expect("open");
            assert_eq!((batch.len(), batch.payload_bytes(), batch.get(0)), (1, 0, Some(&b""[..])));
            for expected in ["", "x", ""] {
                assert_eq!(rx.recv().await.as_deref(), Some(expected.as_bytes()));
            }
        }
    });
}

/// 11. No backpressure: the heap grew without bound.
#[test]
fn fault_11_full_channel_applies_backpressure() {
    paused(async {
        let (tx, mut rx) = tiny(1024, 32 << 10);
        let mut sent = 0;
        let error = loop {
            match tx.try_send(message(0, sent, 100)) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
            assert!(sent < 1000, "more sent than `max_bytes` holds");
        };
        assert!(matches!(error, TrySendError::Full(_)));
        let waiting = tokio::spawn(async move { tx.send(error.into_inner()).await });
        settle().await;
        assert!(!waiting.is_finished(), "a sender waits");
        for number in 0..=sent {
            assert_eq!(check(&rx.recv().await.expect("open")), Some((0, number)));
        }
        assert!(waiting.await.expect("no panic in the sender").is_ok());
    });
}

/// 12. Five data races: here every operation runs beside every other, for sanitizers to check.
#[test]
fn fault_12_concurrent_operations_have_no_data_race() {
    multi(async {
        let (tx, rx) = tiny(2048, 32 << 10);
        let received = Arc::new(AtomicUsize::new(0));
        let mut readers = JoinSet::new();
        for way in 0..3 {
            let (mut rx, received) = (rx.clone(), received.clone());
            readers.spawn(async move {
                while let Some(batch) = rx.recv_batch(1 + way * 3).await {
                    batch.iter().for_each(|m| assert!(check(m).is_some()));
                    received.fetch_add(batch.len(), Ordering::Relaxed);
                    rx.set_read_mode(if way == 1 { ReadMode::ZeroCopy } else { ReadMode::Safe });
                }
            });
        }
        let start = Arc::new(Barrier::new(2));
        let mut threads = JoinSet::new();
        for sender in 0..2 {
            let (tx, mut rx, start, received) = (tx.clone(), rx.clone(), start.clone(), received.clone());
            threads.spawn_blocking(move || {
                start.wait();
                for number in 0..1500 {
                    while tx.try_send(message(sender, number, 16 + number as usize % 300)).is_err() {
                        thread::yield_now();
                    }
                    assert!(tx.len() <= 3000 && tx.monitor().stats().lent_bytes <= 32 << 10);
                    received.fetch_add(usize::from(rx.try_recv().is_ok()), Ordering::Relaxed);
                }
            });
        }
        drop((tx, rx));
        threads.join_all().await;
        readers.join_all().await;
        assert_eq!(received.load(Ordering::Relaxed), 3000);
    });
}
