//! `Sender::send_with`: messages written in place arrive intact and in order among all others.

use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};

use crate::common::{WakeCounter, check, impatient, message, multi, paused, poll_once, settle, write_bytes};
use crate::panics::send_with_panicking;
use bytes::Bytes;
use proptest::prelude::*;
use tokio::task::JoinSet;
use turbostream::{ReadMode, Receiver, SendError, Sender, WhenFull};

/// Two segments of eight messages.
fn two_segments(when_full: WhenFull) -> (Sender, Receiver) {
    turbostream::builder()
        .segment_bytes(1024)
        .segment_messages(8)
        .max_bytes(3 << 10)
        .max_message_bytes(1000)
        .when_full(when_full)
        .build()
        .expect("valid")
}

#[test]
fn send_with_delivers_exactly_the_written_bytes() {
    paused(async {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let (tx, mut rx) = turbostream::builder().read_mode(mode).build().expect("valid");
            // Later rounds use memory that was used before.
            for round in 0..3 {
                for (max_len, len) in [(10, 10), (10, 3), (0, 0), (10, 0), (5000, 1), (5000, 4999), (1, 1)] {
                    let bytes = message(round, 0, len);
                    let write = |buf: &mut [u8]| {
                        assert!(buf.len() == max_len && buf.iter().all(|byte| *byte == 0), "zeroed");
                        buf.fill(0xee);
                        write_bytes(&bytes)(buf)
                    };
                    tx.send_with(max_len, write).await.map_err(|_| "send failed").expect("open");
                    tx.send("between").await.expect("open");
                    assert_eq!(tx.queued_bytes(), len + 7);
                    assert_eq!(rx.recv().await.expect("open"), bytes, "{mode:?} {max_len} {len}");
                    assert_eq!(rx.recv().await.expect("open"), "between");
                    assert!(tx.is_empty() && tx.queued_bytes() == 0);
                }
            }
            assert_eq!(tx.monitor().stats().received_messages, 3 * 14);
        }
    });
}

#[test]
fn batch_of_shortened_messages_has_no_gaps() {
    paused(async {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let (tx, mut rx) = turbostream::builder().read_mode(mode).build().expect("valid");
            for bytes in ["a", "bc", "", "def"] {
                tx.send_with(100, write_bytes(bytes.as_bytes()))
                    .await
                    .map_err(|_| "send failed")
                    .expect("open");
                tx.send("|").await.expect("open");
            }
            let batch = rx.recv_batch(100).await.expect("open");
            assert_eq!((batch.len(), batch.payload_bytes(), batch.first_sequence()), (8, 10, 0));
            assert_eq!(batch.iter().collect::<Vec<_>>().concat(), b"a|bc||def|");
            assert_eq!(batch.io_slices().iter().map(|slice| slice.len()).sum::<usize>(), 10);
            assert_eq!(batch.into_iter().collect::<Vec<_>>(), ["a", "|", "bc", "|", "", "|", "def", "|"]);
            let stats = tx.monitor().stats();
            assert_eq!((stats.received_messages, stats.received_bytes), (8, 10));
        }
    });
}

#[test]
fn send_with_makes_messages_larger_than_a_segment_external() {
    paused(async {
        let builder = turbostream::builder().segment_bytes(4096).max_bytes(1 << 20);
        let (tx, mut rx) = builder.max_message_bytes(200_000).build().expect("valid");
        let monitor = tx.monitor();
        for (max_len, len) in [(100_000, 100_000), (200_000, 150_000), (200_000, 10), (5000, 0)] {
            let bytes = message(1, 1, len);
            let mut at = 0;
            let write = |buf: &mut [u8]| {
                assert!(buf.len() == max_len && buf.iter().all(|byte| *byte == 0), "zeroed");
                at = buf.as_ptr().addr();
                write_bytes(&bytes)(buf)
            };
            tx.send_with(max_len, write).await.map_err(|_| "send failed").expect("open");
            let stats = monitor.stats();
            assert_eq!((stats.external_bytes, stats.queued_bytes), (len, len as u64));
            let received = rx.recv().await.expect("open");
            assert_eq!(received, bytes);
            assert!(len < max_len / 2 || received.as_ptr().addr() == at, "not copied");
        }
        assert!(send_with_panicking(&tx, 100_000).await);
        assert_eq!((monitor.stats().external_bytes, tx.len()), (0, 0));
        drop((tx, rx));
        assert_eq!(monitor.stats().memory_bytes(), 0);
    });
}

#[test]
fn send_with_errors_return_the_closure_uncalled() {
    paused(async {
        let (tx, mut rx) = two_segments(WhenFull::Reject);
        // The active segment has room for 1001 bytes; the limit still applies.
        tx.send("opens a segment").await.expect("room");
        assert_eq!(rx.try_recv().expect("a queued message"), "opens a segment");
        let mut calls = 0;
        let mut write = |_: &mut [u8]| {
            calls += 1;
            0
        };
        let error = tx.send_with(1001, &mut write).await.expect_err("too large");
        assert!(error.to_string().contains("1001") && format!("{error:?}").contains("1000"), "{error:?}");
        let SendError::TooLarge { payload: write, len: 1001, max: 1000, .. } = error else {
            panic!("{error}")
        };
        while tx.try_send("").is_ok() {}
        let SendError::Full(write) = tx.send_with(10, write).await.expect_err("full") else {
            panic!("not full")
        };
        rx.close();
        let error = tx.send_with(10, write).await.expect_err("closed");
        assert!(matches!(error, SendError::Closed(_)));
        assert_eq!((error.into_inner()(&mut []), calls), (0, 1));
    });
}

#[test]
fn send_with_waits_for_room_and_sends_nothing_when_cancelled() {
    paused(async {
        let (tx, mut rx) = two_segments(WhenFull::Wait);
        while tx.try_send("").is_ok() {}
        let before = tx.len();
        let never = |_: &mut [u8]| -> usize { panic!("called without room") };
        assert!(impatient(1, tx.send_with(10, never)).await.is_none());
        let mut waiting = Box::pin(tx.send_with(10, write_bytes(b"now")));
        let mut panicking = Box::pin(AssertUnwindSafe(send_with_panicking(&tx, 10)));
        let mut second = Box::pin(tx.send("second"));
        assert!(poll_once(&mut waiting).is_pending());
        assert!(poll_once(&mut panicking).is_pending() && poll_once(&mut second).is_pending());
        assert_eq!(tx.len(), before);
        while rx.try_recv().is_ok() {}
        assert!(matches!(poll_once(&mut waiting), Poll::Ready(Ok(()))));
        assert!(panicking.await);
        second.await.expect("woken after the panicking sender ahead of it");
        assert_eq!(rx.try_recv().as_deref(), Ok(&b"now"[..]));
        assert_eq!(rx.try_recv().as_deref(), Ok(&b"second"[..]));
        assert!(rx.try_recv().is_err());
        assert_eq!(tx.monitor().stats().waiting_senders, 0);
    });
}

#[test]
fn write_closure_runs_without_a_lock() {
    paused(async {
        let (tx, mut rx) = turbostream::channel();
        tx.send("before").await.expect("open");
        let (tx1, mut rx1) = (tx.clone(), rx.clone());
        let write = move |buf: &mut [u8]| {
            assert_eq!(rx1.try_recv().as_deref(), Ok(&b"before"[..]));
            assert!(rx1.try_recv().is_err(), "the next message is still being written");
            tx1.try_send("second").expect("open");
            tx1.switch();
            assert_eq!(rx1.monitor().stats().received_messages, 1);
            write_bytes(b"in place")(buf)
        };
        tx.send_with(8, write).await.map_err(|_| "send failed").expect("open");
        assert_eq!(rx.try_recv().as_deref(), Ok(&b"in place"[..]));
        assert_eq!(rx.try_recv().as_deref(), Ok(&b"second"[..]));
    });
}

#[test]
fn concurrent_sends_of_every_kind_lose_nothing() {
    multi(async {
        const EACH: u32 = 3000;
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let builder = turbostream::builder().segment_bytes(8192).segment_messages(64).max_bytes(40 << 10);
            let (tx, mut rx) = builder.max_message_bytes(10_000).read_mode(mode).build().expect("valid");
            let mut writers = JoinSet::new();
            for writer in 0..3 {
                let tx = tx.clone();
                writers.spawn(async move {
                    for number in 0..EACH {
                        let len = 16 + number as usize * 31 % 1500;
                        let bytes = message(writer, number, len);
                        let sent = match (writer + number) % 4 {
                            0 => tx.send(bytes).await.is_ok(),
                            1 => tx.send_with(len, write_bytes(&bytes)).await.is_ok(),
                            2 => tx.send_with(len + 500, write_bytes(&bytes)).await.is_ok(),
                            _ => {
                                send_with_panicking(&tx, len).await
                                    && tx.send_with(9000, write_bytes(&bytes)).await.is_ok()
                            }
                        };
                        assert!(sent);
                    }
                });
            }
            let monitor = tx.monitor();
            drop(tx);
            let mut next = [0; 3];
            while let Some(received) = rx.recv().await {
                let (writer, number) = check(&received).expect("a message header");
                assert_eq!(number, next[writer as usize]);
                next[writer as usize] += 1;
            }
            assert_eq!(next, [EACH; 3]);
            // The last sender may still be about to free memory.
            writers.join_all().await;
            let stats = monitor.stats();
            assert_eq!(
                (stats.sent_messages, stats.queued_bytes, stats.memory_bytes()),
                (u64::from(3 * EACH), 0, 0)
            );
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Messages written in full, shortened or abandoned arrive exactly as written, by every receive method.
    #[test]
    fn send_with_delivers_any_mixture_of_writes_and_panics(
        steps in prop::collection::vec((0usize..2000, 0usize..2000, 0u8..4), 1..100),
        method in 0u8..3,
        zero_copy: bool,
    ) {
        crate::common::current_runtime(true).block_on(async {
            let mode = if zero_copy { ReadMode::ZeroCopy } else { ReadMode::Safe };
            let builder = turbostream::builder().segment_bytes(1500).segment_messages(9).max_bytes(1 << 20);
            let (tx, mut rx) = builder.read_mode(mode).build().expect("valid");
            let mut expected = Vec::new();
            for ((len, more, kind), number) in steps.into_iter().zip(0..) {
                let bytes = message(1, number, len);
                match kind {
                    0 => tx.send(&bytes).await.expect("open"),
                    1 => assert!(send_with_panicking(&tx, len + more).await),
                    _ => assert!(tx.send_with(len + more * usize::from(kind - 2), write_bytes(&bytes)).await.is_ok()),
                }
                expected.extend((kind != 1).then_some(bytes));
            }
            let total = expected.iter().map(Vec::len).sum::<usize>();
            assert_eq!((tx.len(), tx.queued_bytes()), (expected.len(), total));
            drop(tx);
            let mut received = Vec::<Bytes>::new();
            match method {
                0 => while let Some(message) = rx.recv().await { received.push(message) },
                1 => while rx.recv_many(&mut received, 7).await > 0 {},
                _ => while let Some(batch) = rx.recv_batch(5).await {
                    let bytes = batch.iter().map(<[u8]>::len).sum::<usize>();
                    assert_eq!(batch.payload_bytes(), bytes);
                    received.extend(batch);
                },
            }
            assert_eq!(received, expected);
            let stats = rx.monitor().stats();
            assert_eq!((stats.received_messages, stats.received_bytes), (expected.len() as u64, total as u64));
        });
    }
}

/// No receiver consumes padding at the end of a segment, yet a sender may wait for that segment.
#[test]
fn trailing_padding_pins_no_segment() {
    paused(async {
        for fast_path in [false, true] {
            let one = 2048 + 4 * 8 + 128;
            let segments = turbostream::builder().segment_bytes(2048).segment_messages(4).max_bytes(3 * one);
            let (tx, mut rx) = segments.max_message_bytes(one + 50).build().expect("valid");
            for _ in 0..3 {
                tx.try_send("before").expect("room");
            }
            assert!(send_with_panicking(&tx, 10).await);
            let other = tx.clone();
            let waiting = tokio::spawn(async move { other.send(vec![7; one + 50]).await });
            settle().await;
            assert!(!waiting.is_finished());
            if fast_path {
                (0..3).for_each(|_| drop(rx.try_recv().expect("a queued message")));
            } else {
                drop(rx.recv_batch(3).await);
            }
            settle().await;
            assert!(waiting.is_finished(), "fast path: {fast_path}, {:?}", tx.monitor().stats());
        }
    });
}

/// Holds also where a reused segment had a message before.
#[test]
fn message_is_unreadable_while_it_is_written() {
    paused(async {
        let one = 64 + 2 * 8 + 128;
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let segments = turbostream::builder().segment_bytes(64).segment_messages(2).max_bytes(2 * one);
            let (tx, mut rx) = segments.read_mode(mode).build().expect("valid");
            for round in 0..20 {
                let write = |buf: &mut [u8]| {
                    assert!(rx.try_recv().is_err(), "read in round {round} while it is written");
                    buf.fill(round);
                    buf.len()
                };
                tx.send_with(16, write).await.map_err(|_| "send failed").expect("room");
                assert_eq!(rx.recv().await.expect("open"), [round; 16].as_slice());
            }
        }
    });
}

/// The receiver finds the entry reserved; only the commit can wake it.
#[test]
fn receiver_registered_during_a_write_is_woken_by_its_commit() {
    paused(async {
        for before in [0, 2] {
            let (tx, mut rx) = two_segments(WhenFull::Wait);
            for _ in 0..before {
                tx.try_send("before").expect("room");
            }
            let (wakes, waker) = WakeCounter::new();
            let write = |buf: &mut [u8]| {
                assert_eq!(std::iter::from_fn(|| rx.try_recv().ok()).count(), before);
                assert!(rx.poll_recv(&mut Context::from_waker(&waker)).is_pending());
                buf.fill(7);
                buf.len()
            };
            tx.send_with(16, write).await.map_err(|_| "send failed").expect("room");
            assert_eq!(wakes.take(), 1, "after {before} messages");
            assert_eq!(rx.try_recv().expect("a queued message"), [7; 16].as_slice());
        }
    });
}
