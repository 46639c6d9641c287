//! Messages written in place: whole, in order, beside all others; and what a writer that panics leaves behind.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use crate::common::{check, impatient, message, multi, paused, poll_once, settle};
use futures::FutureExt;
use proptest::prelude::*;
use tokio::task::JoinSet;
use turbostream::{ReadMode, Receiver, SendError, Sender, WhenFull};

/// Two segments of eight messages.
fn narrow(when_full: WhenFull) -> (Sender, Receiver) {
    turbostream::builder()
        .segment_bytes(1024)
        .segment_messages(8)
        .max_bytes(3 << 10)
        .max_message_bytes(1000)
        .when_full(when_full)
        .build()
        .expect("valid")
}

fn writes(bytes: &[u8]) -> impl FnOnce(&mut [u8]) -> usize {
    move |buf| {
        buf[..bytes.len()].copy_from_slice(bytes);
        bytes.len()
    }
}

/// Sends with a closure that panics; true if the panic came out.
async fn panics(tx: &Sender, max_len: usize) -> bool {
    let write = |buf: &mut [u8]| -> usize {
        buf.fill(0xee);
        resume_unwind(Box::new("boom"))
    };
    AssertUnwindSafe(tx.send_with(max_len, write)).catch_unwind().await.is_err()
}

#[test]
fn what_is_written_arrives_and_what_is_not_does_not() {
    paused(async {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let (tx, rx) = turbostream::builder().read_mode(mode).build().expect("valid");
            // A second round in memory that was used before.
            for round in 0..3 {
                for (max_len, len) in [(10, 10), (10, 3), (0, 0), (10, 0), (5000, 1), (5000, 4999), (1, 1)] {
                    let bytes = message(round, 0, len);
                    let write = |buf: &mut [u8]| {
                        assert!(buf.len() == max_len && buf.iter().all(|byte| *byte == 0), "zeroed");
                        buf.fill(0xee);
                        writes(&bytes)(buf)
                    };
                    tx.send_with(max_len, write).await.map_err(|_| "refused").expect("open");
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
fn a_batch_has_no_gaps() {
    paused(async {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let (tx, rx) = turbostream::builder().read_mode(mode).build().expect("valid");
            for bytes in ["a", "bc", "", "def"] {
                tx.send_with(100, writes(bytes.as_bytes())).await.map_err(|_| "refused").expect("open");
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
fn more_than_a_segment_holds_travels_by_reference() {
    paused(async {
        let builder = turbostream::builder().segment_bytes(4096).max_bytes(1 << 20);
        let (tx, rx) = builder.max_message_bytes(200_000).build().expect("valid");
        let monitor = tx.monitor();
        for (max_len, len) in [(100_000, 100_000), (200_000, 150_000), (200_000, 10), (5000, 0)] {
            let bytes = message(1, 1, len);
            let mut at = 0;
            let write = |buf: &mut [u8]| {
                assert!(buf.len() == max_len && buf.iter().all(|byte| *byte == 0), "zeroed");
                at = buf.as_ptr().addr();
                writes(&bytes)(buf)
            };
            tx.send_with(max_len, write).await.map_err(|_| "refused").expect("open");
            let stats = monitor.stats();
            assert_eq!((stats.referenced_bytes, stats.queued_bytes), (len, len as u64));
            let received = rx.recv().await.expect("open");
            assert_eq!(received, bytes);
            assert!(len < max_len / 2 || received.as_ptr().addr() == at, "not copied");
        }
        assert!(panics(&tx, 100_000).await);
        assert_eq!((monitor.stats().referenced_bytes, tx.len()), (0, 0));
        drop((tx, rx));
        assert_eq!(monitor.stats().memory_bytes(), 0);
    });
}

#[test]
fn a_panic_is_the_callers_and_readers_never_see_it() {
    paused(async {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let (tx, rx) = turbostream::builder().read_mode(mode).build().expect("valid");
            let reader = tokio::spawn(async move {
                let mut all = Vec::new();
                while let Some(message) = rx.recv().await {
                    all.push(message);
                }
                all
            });
            settle().await;
            assert!(panics(&tx, 100).await);
            settle().await;
            tx.send("1").await.expect("the channel goes on");
            assert!(panics(&tx, 0).await && panics(&tx, 3000).await);
            tx.send("2").await.expect("the channel goes on");
            tx.send_with(9, writes(b"3")).await.map_err(|_| "refused").expect("the channel goes on");
            assert!(panics(&tx, 10).await);
            let monitor = tx.monitor();
            drop(tx);
            assert_eq!(reader.await.expect("no panic"), ["1", "2", "3"]);
            let stats = monitor.stats();
            assert_eq!((stats.sent_messages, stats.sent_bytes, stats.received_messages), (3, 3, 3));
            assert_eq!((stats.memory_bytes(), stats.dropped_messages), (0, 0));
        }
    });
}

#[test]
fn to_say_more_than_there_is_panics_and_sends_nothing() {
    paused(async {
        let (tx, rx) = turbostream::builder().segment_bytes(1024).max_bytes(1 << 20).build().expect("valid");
        for max_len in [0, 10, 1024, 5000] {
            let panic =
                AssertUnwindSafe(tx.send_with(max_len, |buf: &mut [u8]| buf.len() + 1)).catch_unwind().await;
            let panic = panic.expect_err("a misuse");
            let text = panic.downcast_ref::<String>().expect("a text");
            assert!(
                text.contains(&max_len.to_string()) && text.contains(&(max_len + 1).to_string()),
                "{text}"
            );
            assert!(rx.try_recv().is_err() && tx.is_empty());
        }
        tx.send("goes on").await.expect("open");
        assert_eq!(rx.try_recv().as_deref(), Ok(&b"goes on"[..]));
    });
}

/// A place given up right behind a message that can be taken quickly is no message either.
#[test]
fn messages_before_a_place_given_up_are_taken_whichever_way() {
    paused(async {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            for way in 0..3 {
                let (tx, rx) = turbostream::builder().read_mode(mode).build().expect("valid");
                for round in 0..3 {
                    for number in 0..3 {
                        tx.send(message(round, number, 20)).await.expect("open");
                    }
                    assert!(panics(&tx, 30).await);
                    let mut received = Vec::<Bytes>::new();
                    match way {
                        0 => assert_eq!(rx.recv_many(&mut received, 100).await, 3),
                        1 => received.extend(rx.recv_batch(100).await.expect("open")),
                        _ => received.extend(std::iter::from_fn(|| rx.try_recv().ok())),
                    }
                    let numbers: Vec<_> = received.iter().map(|m| check(m).expect("long enough").1).collect();
                    assert_eq!(numbers, [0, 1, 2], "{mode:?} way {way} round {round}");
                    assert!(rx.try_recv().is_err() && rx.is_empty());
                }
            }
        }
    });
}

#[test]
fn refusals_give_the_closure_back_uncalled() {
    paused(async {
        let (tx, rx) = narrow(WhenFull::Reject);
        // There would be room for it in the segment.
        tx.send("opens a segment").await.expect("room");
        assert_eq!(rx.try_recv().expect("it is there"), "opens a segment");
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
fn it_waits_for_room_and_a_cancelled_one_never_happened() {
    paused(async {
        let (tx, rx) = narrow(WhenFull::Wait);
        while tx.try_send("").is_ok() {}
        let before = tx.len();
        let never = |_: &mut [u8]| -> usize { panic!("not called without room") };
        assert!(impatient(1, tx.send_with(10, never)).await.is_none());
        let mut waiting = Box::pin(tx.send_with(10, writes(b"now")));
        let mut panicking = Box::pin(AssertUnwindSafe(panics(&tx, 10)));
        let mut behind = Box::pin(tx.send("behind"));
        assert!(poll_once(&mut waiting).is_pending());
        assert!(poll_once(&mut panicking).is_pending() && poll_once(&mut behind).is_pending());
        assert_eq!(tx.len(), before);
        while rx.try_recv().is_ok() {}
        assert!(matches!(poll_once(&mut waiting), Poll::Ready(Ok(()))));
        assert!(panicking.await);
        behind.await.expect("a panic before it passes the turn on");
        assert_eq!(rx.try_recv().as_deref(), Ok(&b"now"[..]));
        assert_eq!(rx.try_recv().as_deref(), Ok(&b"behind"[..]));
        assert!(rx.try_recv().is_err());
        assert_eq!(tx.monitor().stats().waiting_senders, 0);
    });
}

#[test]
fn the_closure_runs_under_no_lock() {
    paused(async {
        let (tx, rx) = turbostream::channel();
        tx.send("before").await.expect("open");
        let (tx1, rx1) = (tx.clone(), rx.clone());
        let write = move |buf: &mut [u8]| {
            assert_eq!(rx1.try_recv().as_deref(), Ok(&b"before"[..]));
            assert!(rx1.try_recv().is_err(), "this very message is next");
            tx1.try_send("behind").expect("open");
            tx1.switch();
            assert_eq!(rx1.monitor().stats().received_messages, 1);
            writes(b"in place")(buf)
        };
        tx.send_with(8, write).await.map_err(|_| "refused").expect("open");
        assert_eq!(rx.try_recv().as_deref(), Ok(&b"in place"[..]));
        assert_eq!(rx.try_recv().as_deref(), Ok(&b"behind"[..]));
    });
}

#[test]
fn writers_of_every_kind_lose_nothing() {
    multi(async {
        const EACH: u32 = 3000;
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let builder = turbostream::builder().segment_bytes(8192).segment_messages(64).max_bytes(40 << 10);
            let (tx, rx) = builder.max_message_bytes(10_000).read_mode(mode).build().expect("valid");
            let mut writers = JoinSet::new();
            for writer in 0..3 {
                let tx = tx.clone();
                writers.spawn(async move {
                    for number in 0..EACH {
                        let len = 16 + number as usize * 31 % 1500;
                        let bytes = message(writer, number, len);
                        let sent = match (writer + number) % 4 {
                            0 => tx.send(bytes).await.is_ok(),
                            1 => tx.send_with(len, writes(&bytes)).await.is_ok(),
                            2 => tx.send_with(len + 500, writes(&bytes)).await.is_ok(),
                            _ => panics(&tx, len).await && tx.send_with(9000, writes(&bytes)).await.is_ok(),
                        };
                        assert!(sent);
                    }
                });
            }
            let monitor = tx.monitor();
            drop(tx);
            let mut next = [0; 3];
            while let Some(received) = rx.recv().await {
                let (writer, number) = check(&received).expect("long enough to say");
                assert_eq!(number, next[writer as usize]);
                next[writer as usize] += 1;
            }
            assert_eq!(next, [EACH; 3]);
            // The last of them may still be about to free the memory.
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

    /// Whatever is kept, left over or given up: what is read is what was written, however it is read.
    #[test]
    fn any_mixture_arrives(
        steps in prop::collection::vec((0usize..2000, 0usize..2000, 0u8..4), 1..100),
        way in 0u8..3,
        zero_copy: bool,
    ) {
        crate::common::current_runtime(true).block_on(async {
            let mode = if zero_copy { ReadMode::ZeroCopy } else { ReadMode::Safe };
            let builder = turbostream::builder().segment_bytes(1500).segment_messages(9).max_bytes(1 << 20);
            let (tx, rx) = builder.read_mode(mode).build().expect("valid");
            let mut expected = Vec::new();
            for ((len, more, kind), number) in steps.into_iter().zip(0..) {
                let bytes = message(1, number, len);
                match kind {
                    0 => tx.send(&bytes).await.expect("open"),
                    1 => assert!(panics(&tx, len + more).await),
                    _ => assert!(tx.send_with(len + more * usize::from(kind - 2), writes(&bytes)).await.is_ok()),
                }
                expected.extend((kind != 1).then_some(bytes));
            }
            let total = expected.iter().map(Vec::len).sum::<usize>();
            assert_eq!((tx.len(), tx.queued_bytes()), (expected.len(), total));
            drop(tx);
            let mut received = Vec::<Bytes>::new();
            match way {
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

/// No receiver comes for padding, and a sender waits for the segment that it is the last of.
#[test]
fn padding_behind_the_last_message_keeps_no_memory() {
    paused(async {
        for quick in [false, true] {
            let one = 2048 + 4 * 8 + 128;
            let segments = turbostream::builder().segment_bytes(2048).segment_messages(4).max_bytes(3 * one);
            let (tx, rx) = segments.max_message_bytes(one + 50).build().expect("valid");
            for _ in 0..3 {
                tx.try_send("before").expect("room");
            }
            assert!(panics(&tx, 10).await);
            let other = tx.clone();
            let waiting = tokio::spawn(async move { other.send(vec![7; one + 50]).await });
            settle().await;
            assert!(!waiting.is_finished());
            if quick {
                (0..3).for_each(|_| drop(rx.try_recv().expect("it is there")));
            } else {
                drop(rx.recv_batch(3).await);
            }
            settle().await;
            assert!(waiting.is_finished(), "quick: {quick}, {:?}", tx.monitor().stats());
        }
    });
}

/// Where there was a message before, in a segment that is used again.
#[test]
fn what_is_being_written_cannot_be_read_yet() {
    paused(async {
        let one = 64 + 2 * 8 + 128;
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let segments = turbostream::builder().segment_bytes(64).segment_messages(2).max_bytes(2 * one);
            let (tx, rx) = segments.read_mode(mode).build().expect("valid");
            for round in 0..20 {
                let write = |buf: &mut [u8]| {
                    assert!(rx.try_recv().is_err(), "read in round {round} while it is written");
                    buf.fill(round);
                    buf.len()
                };
                tx.send_with(16, write).await.map_err(|_| "refused").expect("room");
                assert_eq!(rx.recv().await.expect("open"), [round; 16].as_slice());
            }
        }
    });
}

/// It finds the place reserved, and nobody but the writer can tell it more.
#[test]
fn a_receiver_that_comes_while_a_message_is_written_is_told_when_it_is_there() {
    struct Told(AtomicUsize);
    impl Wake for Told {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    paused(async {
        for before in [0, 2] {
            let (tx, rx) = narrow(WhenFull::Wait);
            for _ in 0..before {
                tx.try_send("before").expect("room");
            }
            let told = Arc::new(Told(AtomicUsize::new(0)));
            let waker = Waker::from(Arc::clone(&told));
            let write = |buf: &mut [u8]| {
                assert_eq!(std::iter::from_fn(|| rx.try_recv().ok()).count(), before);
                assert!(rx.poll_recv(&mut Context::from_waker(&waker)).is_pending());
                buf.fill(7);
                buf.len()
            };
            tx.send_with(16, write).await.map_err(|_| "refused").expect("room");
            assert_eq!(told.0.load(Ordering::Relaxed), 1, "behind {before} messages");
            assert_eq!(rx.try_recv().expect("it is there"), [7; 16].as_slice());
        }
    });
}
