//! One test for each fault measured in the Go original of this design; each would have caught it there.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use crate::common::{advance, check, current_runtime, message, ms, multi, paused, plain, settle};
use futures::StreamExt;
use tokio::task::JoinSet;
use tokio::time::Instant;
use turbostream::{ReadMode, Receiver, Sender, TimeWindow, TryRecvError, TrySendError};

/// Tiny segments, so that nearly every message meets a switch.
fn tiny(segment_bytes: usize, max_bytes: usize) -> (Sender, Receiver) {
    turbostream::builder()
        .segment_bytes(segment_bytes)
        .segment_messages(4)
        .max_bytes(max_bytes)
        .build()
        .expect("a valid configuration")
}

/// Reads to the end; all come from sender 0, in order.
async fn in_order(rx: Receiver) -> u32 {
    let mut count = 0;
    while let Some(m) = rx.recv().await {
        assert_eq!(check(&m), Some((0, count)));
        count += 1;
    }
    count
}

/// 1. Capacity check and slot claim were two steps: writers overran and overwrote.
#[test]
fn fault_01_writers_overrun_and_overwrite() {
    multi(async {
        let (tx, rx) = tiny(256, 16 << 10);
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
            let (sender, number) = check(&m).expect("a named message");
            assert_eq!(number, seen[sender as usize], "sender {sender}");
            seen[sender as usize] += 1;
        }
        assert_eq!(seen, [2000; 8]);
        writers.join_all().await;
    });
}

/// 2. A switch did not wait for writers in flight: late writes landed in a drained or reused buffer.
#[test]
fn fault_02_late_writes_land_in_a_reused_segment() {
    plain(|| {
        let runtime = current_runtime(false);
        let _guard = runtime.enter();
        let (tx, rx) = tiny(64 << 10, 512 << 10);
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
        writers.into_iter().for_each(|w| w.join().expect("a writer"));
    });
}

/// 3. The sequence was assigned after the swap: whole blocks changed places, with one writer too.
#[test]
fn fault_03_whole_blocks_change_places() {
    multi(async {
        let (tx, rx) = tiny(1024, 32 << 10);
        let reading = tokio::spawn(in_order(rx));
        // One handle after the other: accept order is known though the writers change threads.
        for number in 0..6000 {
            let tx = tx.clone();
            let writer = tokio::spawn(async move { tx.send(message(0, number, 50)).await });
            writer.await.expect("a writer").expect("open");
        }
        drop(tx);
        assert_eq!(reading.await.expect("the reader"), 6000);
    });
}

/// 4. A reader slept although data was pending, or returned a spurious "no buffer"; wakes were lost.
#[test]
fn fault_04_readers_sleep_on_pending_data() {
    multi(async {
        let (tx, rx) = tiny(1024, 32 << 10);
        let (ack_tx, mut ack_rx) = tokio::sync::mpsc::unbounded_channel();
        let mut readers = JoinSet::new();
        for _ in 0..4 {
            let (rx, ack) = (rx.clone(), ack_tx.clone());
            readers.spawn(async move {
                let mut count = 0;
                while let Some(m) = rx.recv().await {
                    ack.send(check(&m).expect("named").1).expect("acknowledged");
                    count += 1;
                }
                count
            });
        }
        // Nothing is sent before what was sent last was read: a reader that sleeps on it ends the test.
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
        assert_eq!(readers.join_all().await.into_iter().sum::<u32>(), (0..4000).map(|n| n % 3 + 1).sum());
    });
}

/// 5. Idle timer switches queued empty buffers; each read discarded one and blocked.
#[test]
fn fault_05_idle_switches_queue_empty_buffers() {
    paused(async {
        let (tx, rx) =
            turbostream::builder().strategy(TimeWindow(ms(5))).on_demand(false).build().expect("valid");
        for _ in 0..1000 {
            advance(ms(5)).await;
        }
        assert_eq!(tx.monitor().stats().switches.total(), 0, "an empty segment was switched");
        (0..100).for_each(|n| tx.try_send(message(0, n, 30)).expect("room"));
        advance(ms(7)).await;
        for number in 0..100 {
            assert_eq!(check(&rx.try_recv().expect("all are there at once")), Some((0, number)));
        }
        assert_eq!(tx.monitor().stats().switches.total(), 1);
    });
}

/// 6. Partial buffers waited for the window: one message took five seconds.
#[test]
fn fault_06_one_message_waits_for_the_window() {
    paused(async {
        let (tx, rx) =
            turbostream::builder().strategy(TimeWindow(Duration::from_secs(5))).build().expect("valid");
        let before = Instant::now();
        let reading = tokio::spawn(async move { rx.recv().await });
        settle().await;
        tx.send(b"alone").await.expect("open");
        assert_eq!(reading.await.expect("the reader"), Some(Bytes::from_static(b"alone")));
        assert_eq!(before.elapsed(), Duration::ZERO);
    });
}

/// 7. A write failed while the channel was open, merely because a switch was under way.
#[test]
fn fault_07_a_write_fails_because_of_a_switch() {
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
        assert_eq!(reading.await.expect("the reader"), 12_000);
    });
}

/// 8. Messages of 1 KB and more were never copied: a writer that reused its slice tore them.
#[test]
fn fault_08_a_reused_slice_is_torn() {
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
                assert_eq!(in_order(rx).await, 40);
                writing.await.expect("the writer");
            }
        }
    });
}

/// 9. `Close` discarded what was accepted, and did nothing when it met a switch.
#[test]
fn fault_09_close_discards_what_was_accepted() {
    multi(async {
        for round in 0..300 {
            let (tx, rx) = tiny(1024, 64 << 10);
            let monitor = tx.monitor();
            let writing = tokio::spawn(async move {
                let mut accepted = 0;
                while tx.send(message(0, accepted, 50)).await.is_ok() {
                    accepted += 1;
                    if round % 2 == 0 && accepted > round {
                        break; // this side closes, by its last drop
                    }
                }
                accepted
            });
            let mut received = 0;
            while let Some(m) = rx.recv().await {
                assert_eq!(check(&m), Some((0, received)));
                received += 1;
                if round % 2 == 1 && received == round {
                    rx.close(); // amid switches
                }
            }
            assert_eq!(received, writing.await.expect("the writer"), "round {round}");
            assert_eq!(monitor.stats().sent_messages, u64::from(received), "round {round}");
        }
    });
}

/// 10. An empty message panicked; so did reading before a read mode was registered.
#[test]
fn fault_10_an_empty_message_panics() {
    paused(async {
        let (tx, rx) = turbostream::channel();
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty), "reading first");
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
fn fault_11_no_backpressure() {
    paused(async {
        let (tx, rx) = tiny(1024, 32 << 10);
        let mut accepted = 0;
        let error = loop {
            match tx.try_send(message(0, accepted, 100)) {
                Ok(()) => accepted += 1,
                Err(error) => break error,
            }
            assert!(accepted < 1000, "more accepted than max_bytes holds");
        };
        assert!(matches!(error, TrySendError::Full(_)));
        let waiting = tokio::spawn(async move { tx.send(error.into_inner()).await });
        settle().await;
        assert!(!waiting.is_finished(), "a sender waits");
        for number in 0..=accepted {
            assert_eq!(check(&rx.recv().await.expect("open")), Some((0, number)));
        }
        assert!(waiting.await.expect("the sender").is_ok());
    });
}

/// 12. Five data races: here every operation meets every other, for sanitizers to look at.
#[test]
fn fault_12_data_races() {
    multi(async {
        let (tx, rx) = tiny(2048, 32 << 10);
        let received = Arc::new(AtomicUsize::new(0));
        let mut readers = JoinSet::new();
        for way in 0..3 {
            let (rx, received) = (rx.clone(), received.clone());
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
            let (tx, rx, start, received) = (tx.clone(), rx.clone(), start.clone(), received.clone());
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
