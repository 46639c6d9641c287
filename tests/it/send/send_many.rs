//! `Sender::send_many`: order, contiguity, and exact accounting of sent and unsent messages.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::vec;

use crate::common::{check, impatient, message, multi, paused, poll_once, settle};
use bytes::Bytes;
use futures::FutureExt;
use proptest::prelude::*;
use static_assertions::assert_impl_all;
use tokio::sync::Barrier;
use turbostream::{ReadMode, Receiver, SendError, SendManyError, Sender, WhenFull};

assert_impl_all!(SendError<SendManyError<Bytes, vec::IntoIter<Bytes>>>: Error, Send, Sync);

/// Two segments of eight messages.
fn two_segments(when_full: WhenFull) -> (Sender, Receiver) {
    turbostream::builder()
        .segment_bytes(1024)
        .segment_messages(8)
        .max_bytes(3 << 10)
        .max_message_bytes(1000)
        .when_full(when_full)
        .read_mode(ReadMode::ZeroCopy)
        .build()
        .expect("valid")
}

fn drain(rx: &mut Receiver) -> Vec<Bytes> {
    std::iter::from_fn(|| rx.try_recv().ok()).collect()
}

fn numbers(range: std::ops::Range<u32>) -> impl Iterator<Item = Vec<u8>> {
    range.map(|number| message(0, number, 16))
}

fn number(message: &[u8]) -> u32 {
    check(message).expect("a message header").1
}

#[test]
fn send_many_delivers_all_messages_in_order_and_counts_them() {
    paused(async {
        let (tx, mut rx) = turbostream::channel();
        assert_eq!(tx.send_many(numbers(0..1000)).await.expect("open"), 1000);
        assert_eq!((tx.len(), tx.queued_bytes()), (1000, 16_000));
        assert_eq!(tx.send_many(Vec::<Bytes>::new()).await.expect("an empty send succeeds"), 0);
        assert!(drain(&mut rx).iter().map(|m| number(m)).eq(0..1000));
        drop(rx);
        assert_eq!(tx.send_many(Vec::<Bytes>::new()).await.expect("an empty send succeeds"), 0);
    });
}

#[test]
fn send_many_keeps_the_order_of_empty_and_large_messages() {
    paused(async {
        let (tx, mut rx) = turbostream::channel();
        let lens = [0, 5, 40_000, 0, 0, 300_000, 7, 100, 32 << 10, 1];
        let sent: Vec<_> = lens.iter().zip(0..).map(|(&len, number)| message(7, number, len)).collect();
        let at = sent[5].as_ptr().addr();
        assert_eq!(tx.send_many(sent.clone()).await.expect("open"), lens.len());
        assert_eq!(drain(&mut rx), sent);
        assert_eq!(tx.send_many(sent).await.expect("open"), lens.len());
        assert_eq!(drain(&mut rx)[5].as_ptr().addr(), at, "moved, not copied");
    });
}

#[test]
fn send_many_reservation_is_contiguous_among_concurrent_senders() {
    multi(async {
        const ROUNDS: usize = 200;
        let (tx, mut rx) = turbostream::channel();
        let start = Arc::new(Barrier::new(3));
        let writers = (0..3).map(|writer: u32| {
            let (tx, start) = (tx.clone(), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                for round in 0..ROUNDS as u32 {
                    let eight = (0..8).map(|at| message(writer, round * 8 + at, 20));
                    assert_eq!(tx.send_many(eight).await.expect("open"), 8);
                }
            })
        });
        futures::future::join_all(writers).await.into_iter().for_each(|ended| ended.expect("no panic"));
        // Segments hold a multiple of eight messages, so no switch splits a reservation.
        let all: Vec<_> = drain(&mut rx).iter().map(|m| check(m).expect("a message header")).collect();
        assert_eq!(all.len(), 3 * ROUNDS * 8);
        for eight in all.chunks(8) {
            let (writer, first) = eight[0];
            assert!(
                first % 8 == 0 && eight.iter().copied().eq((first..first + 8).map(|n| (writer, n))),
                "{eight:?}"
            );
        }
    });
}

#[test]
fn send_many_waits_when_full_and_resumes_after_reads() {
    paused(async {
        let (tx, mut rx) = two_segments(WhenFull::Wait);
        let mut sending = Box::pin(tx.send_many(numbers(0..50)));
        assert!(poll_once(&mut sending).is_pending());
        let mut expected = 0;
        let sent = loop {
            let messages = drain(&mut rx);
            assert!(!messages.is_empty() && messages.len() <= 16, "at most the capacity");
            for message in messages {
                assert_eq!(number(&message), expected);
                expected += 1;
            }
            if let std::task::Poll::Ready(sent) = poll_once(&mut sending) {
                break sent;
            }
        };
        assert_eq!(sent.expect("open"), 50);
        expected += drain(&mut rx).len() as u32;
        assert_eq!(expected, 50);
        assert_eq!(tx.monitor().stats().waiting_senders, 0);
    });
}

#[test]
fn cancelled_send_many_has_sent_a_prefix_and_forwards_its_wake() {
    paused(async {
        let (tx, mut rx) = two_segments(WhenFull::Wait);
        let pulled = AtomicUsize::new(0);
        let payloads = numbers(0..50).inspect(|_| {
            pulled.fetch_add(1, Ordering::Relaxed);
        });
        assert!(impatient(1, tx.send_many(payloads)).await.is_none(), "waits for room");
        assert_eq!((tx.len(), pulled.load(Ordering::Relaxed) > 16), (16, true));
        let other = tokio::spawn({
            let tx = tx.clone();
            async move { tx.send_many(numbers(16..20)).await.map_err(|_| "send failed") }
        });
        settle().await;
        // Received messages are dropped at once: kept ones would pin the memory that the sender waits for.
        assert!(drain(&mut rx).iter().map(|m| number(m)).eq(0..16));
        assert_eq!(other.await.expect("no panic"), Ok(4));
        assert!(drain(&mut rx).iter().map(|m| number(m)).eq(16..20));
    });
}

#[test]
fn send_many_returns_unsent_payloads_when_closed_while_waiting() {
    paused(async {
        let (tx, mut rx) = two_segments(WhenFull::Wait);
        let mut sending = Box::pin(tx.send_many(numbers(0..50)));
        assert!(poll_once(&mut sending).is_pending());
        rx.close();
        let error = sending.await.expect_err("closed");
        assert!(matches!(&error, SendError::Closed(unsent) if unsent.accepted == 16));
        let unsent = error.into_inner();
        assert_eq!(number(&unsent.payload), 16);
        assert_eq!(unsent.remaining.size_hint().1, Some(33));
        assert!(unsent.into_iter().map(|m| number(&m)).eq(16..50));
        assert!(drain(&mut rx).iter().map(|m| number(m)).eq(0..16));
    });
}

#[test]
fn send_many_returns_unsent_payloads_when_rejected() {
    paused(async {
        let (tx, mut rx) = two_segments(WhenFull::Reject);
        let error = tx.send_many(numbers(0..50)).await.expect_err("full");
        let SendError::Full(unsent) = error else { panic!("{error:?}") };
        assert_eq!((unsent.accepted, number(&unsent.payload)), (16, 16));
        assert_eq!(drain(&mut rx).len(), 16);
        let error = tx.send_many(unsent).await.expect_err("full again");
        let unsent = error.into_inner();
        assert_eq!((unsent.accepted, number(&unsent.payload)), (16, 32));
        assert!(drain(&mut rx).iter().map(|m| number(m)).eq(16..32));
        assert_eq!(tx.send_many(unsent.remaining.take(3)).await.expect("room"), 3);
        assert!(drain(&mut rx).iter().map(|m| number(m)).eq(33..36), "the rejected message was skipped");
    });
}

#[test]
fn send_many_stops_at_a_message_that_is_too_large() {
    paused(async {
        let (tx, mut rx) = two_segments(WhenFull::Wait);
        let at = |n: usize| if n == 3 { vec![0; 1001] } else { vec![n as u8; n] };
        let error = tx.send_many((0..6).map(at)).await.expect_err("too large");
        assert!(error.to_string().contains("1001") && error.to_string().contains("1000"), "{error}");
        let SendError::TooLarge { payload: unsent, len: 1001, max: 1000, .. } = error else {
            panic!("{error:?}")
        };
        assert_eq!((unsent.accepted, unsent.payload.len()), (3, 1001));
        assert!(
            format!("{unsent:?} {:?}", unsent.remaining)
                .starts_with("SendManyError { accepted: 3, .. } Remaining")
        );
        assert_eq!(tx.send_many(unsent.remaining).await.expect("open"), 2);
        assert_eq!(drain(&mut rx).iter().map(Bytes::len).collect::<Vec<_>>(), [0, 1, 2, 4, 5]);
    });
}

#[test]
fn send_many_future_is_send_and_yields_when_busy() {
    paused(async {
        fn assert_send<T: Send>(future: T) -> T {
            future
        }
        let (tx, rx) = turbostream::builder().max_bytes(64 << 20).build().expect("valid");
        let mut polls = 0;
        let mut sending = Box::pin(assert_send(tx.send_many((0..100_000).map(|_| [7; 4]))));
        std::future::poll_fn(|cx| {
            polls += 1;
            sending.as_mut().poll(cx)
        })
        .await
        .expect("open");
        assert!(polls > 10, "{polls} polls");
        assert_eq!(rx.len(), 100_000);
    });
}

#[test]
fn waiting_receiver_gets_one_reservation_as_one_batch() {
    paused(async {
        let (tx, mut rx) = turbostream::channel();
        let reader = tokio::spawn(async move {
            let batch = rx.recv_batch(100).await.expect("open");
            batch.iter().map(number).collect::<Vec<_>>()
        });
        settle().await;
        tx.send_many(numbers(0..20)).await.expect("open");
        assert_eq!(reader.await.expect("no panic"), (0..20).collect::<Vec<_>>());
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Calls, lengths and segments of any size deliver all messages intact and in order; statistics agree.
    #[test]
    fn send_many_delivers_any_mixture_of_lengths(
        calls in prop::collection::vec(prop::collection::vec(0usize..900, 0..60), 1..6),
        segment_messages in 1usize..40,
        segment_bytes in 64usize..2048,
    ) {
        crate::common::current_runtime(true).block_on(async {
            let (tx, mut rx) = turbostream::builder()
                .segment_messages(segment_messages)
                .segment_bytes(segment_bytes)
                .max_bytes(1 << 20)
                .build()
                .expect("valid");
            let count = calls.iter().map(Vec::len).sum::<usize>();
            let expected = calls.clone();
            let writer = tokio::spawn(async move {
                let mut number = 0;
                for lens in calls {
                    let messages: Vec<_> = lens.iter().zip(number..).map(|(&len, n)| message(1, n, len)).collect();
                    number += lens.len() as u32;
                    assert_eq!(tx.send_many(&messages).await.expect("open"), lens.len());
                }
                tx.monitor().stats().sent_messages
            });
            let mut received = Vec::new();
            while let Some(message) = rx.recv().await {
                received.push(message);
            }
            assert_eq!(writer.await.expect("no panic"), count as u64);
            assert_eq!(received.len(), count);
            for ((received, len), number) in received.iter().zip(expected.into_iter().flatten()).zip(0..) {
                assert_eq!(received, &message(1, number, len));
            }
        });
    }
}

#[test]
fn send_many_fills_a_segment_to_its_last_byte() {
    paused(async {
        let one = 64 + 2 * 8 + 128;
        for before in 0..=1 {
            let segments = turbostream::builder().segment_bytes(64).segment_messages(2).max_bytes(2 * one);
            let (tx, _rx) = segments.build().expect("valid");
            (0..before).for_each(|_| tx.try_send([1; 32]).expect("room"));
            let sent = tx.send_many(vec![[1; 32]; 4 - before]).now_or_never();
            assert_eq!(sent.expect("room in two segments").map_err(drop), Ok(4 - before));
        }
    });
}
