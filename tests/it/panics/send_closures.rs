//! Write closures and payload iterators that panic: the caller gets the panic, receivers see nothing of it.

use std::panic::AssertUnwindSafe;

use crate::common::{check, message, paused, settle, write_bytes};
use crate::panics::send_with_panicking;
use bytes::Bytes;
use futures::FutureExt;
use turbostream::{ReadMode, Receiver};

fn received(rx: &mut Receiver) -> Vec<Bytes> {
    std::iter::from_fn(|| rx.try_recv().ok()).collect()
}

fn number(message: &[u8]) -> u32 {
    check(message).expect("a message header").1
}

#[test]
fn write_closure_panic_reaches_the_caller_and_sends_nothing() {
    paused(async {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let (tx, mut rx) = turbostream::builder().read_mode(mode).build().expect("valid");
            let reader = tokio::spawn(async move {
                let mut all = Vec::new();
                while let Some(message) = rx.recv().await {
                    all.push(message);
                }
                all
            });
            settle().await;
            assert!(send_with_panicking(&tx, 100).await);
            settle().await;
            tx.send("1").await.expect("open after a panic");
            assert!(send_with_panicking(&tx, 0).await && send_with_panicking(&tx, 3000).await);
            tx.send("2").await.expect("open after a panic");
            tx.send_with(9, write_bytes(b"3")).await.map_err(|_| "send failed").expect("open after a panic");
            assert!(send_with_panicking(&tx, 10).await);
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
fn write_closure_returning_too_much_panics_and_sends_nothing() {
    paused(async {
        let (tx, mut rx) =
            turbostream::builder().segment_bytes(1024).max_bytes(1 << 20).build().expect("valid");
        for max_len in [0, 10, 1024, 5000] {
            let panic =
                AssertUnwindSafe(tx.send_with(max_len, |buf: &mut [u8]| buf.len() + 1)).catch_unwind().await;
            let panic = panic.expect_err("a panic");
            let text = panic.downcast_ref::<String>().expect("a text");
            assert!(
                text.contains(&max_len.to_string()) && text.contains(&(max_len + 1).to_string()),
                "{text}"
            );
            assert!(rx.try_recv().is_err() && tx.is_empty());
        }
        tx.send("after the panic").await.expect("open");
        assert_eq!(rx.try_recv().as_deref(), Ok(&b"after the panic"[..]));
    });
}

/// An abandoned entry directly after a message on the fast path is not received as a message.
#[test]
fn messages_before_an_abandoned_entry_are_received_by_every_method() {
    paused(async {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            for method in 0..3 {
                let (tx, mut rx) = turbostream::builder().read_mode(mode).build().expect("valid");
                for round in 0..3 {
                    for number in 0..3 {
                        tx.send(message(round, number, 20)).await.expect("open");
                    }
                    assert!(send_with_panicking(&tx, 30).await);
                    let mut received = Vec::<Bytes>::new();
                    match method {
                        0 => assert_eq!(rx.recv_many(&mut received, 100).await, 3),
                        1 => received.extend(rx.recv_batch(100).await.expect("open")),
                        _ => received.extend(std::iter::from_fn(|| rx.try_recv().ok())),
                    }
                    let numbers: Vec<_> =
                        received.iter().map(|m| check(m).expect("a message header").1).collect();
                    assert_eq!(numbers, [0, 1, 2], "{mode:?} method {method} round {round}");
                    assert!(rx.try_recv().is_err() && rx.is_empty());
                }
            }
        }
    });
}

#[test]
fn send_many_iterator_panic_keeps_the_accepted_messages() {
    paused(async {
        let (tx, mut rx) = turbostream::channel();
        let payloads = (0..100).map(|number| message(0, number, 16));
        let payloads = payloads.inspect(|m| assert!(number(m) < 70, "boom"));
        assert!(AssertUnwindSafe(tx.send_many(payloads)).catch_unwind().await.is_err());
        assert!(received(&mut rx).iter().map(|m| number(m)).eq(0..64), "two reservations of 32");
        assert_eq!(tx.send_many(["after", "panic"]).await.expect("open"), 2);
        assert_eq!(received(&mut rx), ["after", "panic"]);
    });
}

#[test]
fn batch_ends_before_the_gap_that_a_panic_leaves() {
    paused(async {
        let (tx, mut rx) = turbostream::builder().on_demand(false).build().expect("valid");
        tx.send_many(["0", "1"]).await.expect("open");
        assert!(send_with_panicking(&tx, 10).await);
        tx.send_many(["3", "4"]).await.expect("open");
        tx.switch();
        for expected in [0, 3] {
            let batch = rx.recv_batch(10).await.expect("accepted");
            assert_eq!((batch.first_sequence(), batch.len()), (expected, 2));
            assert_eq!(batch.get(0).expect("a message"), expected.to_string().as_bytes());
        }
    });
}
