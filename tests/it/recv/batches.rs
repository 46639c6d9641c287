//! `Receiver::batches`, the stream of batches.

use std::time::Duration;

use crate::common::{advance, check, message, multi, paused, poll_once, settle};
use futures::stream::FusedStream;
use futures::{FutureExt, StreamExt};
use tokio::task::JoinSet;
use turbostream::{Batch, ReadMode, Receiver, Sender, SwitchStrategy, TimeWindow};

fn segments_of_16(strategy: impl SwitchStrategy) -> (Sender, Receiver) {
    turbostream::builder()
        .segment_bytes(4096)
        .segment_messages(16)
        .max_bytes(256 << 10)
        .strategy(strategy)
        .build()
        .expect("valid")
}

fn send(tx: &Sender, numbers: std::ops::Range<u32>) {
    for number in numbers {
        tx.try_send(message(0, number, 40)).expect("room");
    }
}

fn numbers(batch: &Batch) -> Vec<u32> {
    batch.iter().map(|m| check(m).expect("a message header").1).collect()
}

fn one_hour() -> TimeWindow {
    TimeWindow(Duration::from_secs(3600))
}

#[test]
fn batches_yields_all_messages_in_order_and_ends() {
    paused(async {
        let (tx, mut rx) = segments_of_16(one_hour());
        send(&tx, 0..40);
        drop(tx);
        let mut batches = rx.batches(7);
        let mut received = Vec::new();
        while let Some(batch) = batches.next().await {
            assert!((1..=7).contains(&batch.len()));
            assert_eq!(batch.first_sequence(), received.len() as u64);
            received.extend(numbers(&batch));
        }
        assert_eq!(received, (0..40).collect::<Vec<_>>());
        assert!(batches.is_terminated());
        assert!(batches.next().await.is_none(), "the stream stays terminated");
        drop(batches);
        assert!(rx.recv().await.is_none());
    });
}

#[test]
fn batch_by_reference_iterates_in_place_from_both_ends() {
    paused(async {
        let (tx, mut rx) = turbostream::channel();
        tx.send_many(["zero", "", "two", "three"]).await.expect("open");
        tx.send(vec![b'4'; 40_000]).await.expect("open");
        let batch = rx.recv_batch(100).await.expect("open");
        let mut index = 0;
        for message in &batch {
            assert!(std::ptr::eq(message, batch.get(index).expect("in the batch")), "{index} was copied");
            index += 1;
        }
        assert_eq!(index, 5);
        assert!(batch.iter().eq((0..5).filter_map(|index| batch.get(index))));
        let mut messages = batch.iter();
        assert_eq!(messages.next_back().map(<[u8]>::len), Some(40_000));
        assert_eq!((messages.nth(2), messages.len()), (Some(&b"two"[..]), 1));
        assert_eq!(messages.clone().next_back(), Some(&b"three"[..]));
        assert_eq!(format!("{messages:?}"), "BatchSlices { remaining: 1, .. }");
        assert_eq!(
            (messages.next(), messages.next(), messages.next_back()),
            (Some(&b"three"[..]), None, None)
        );
        assert_eq!(batch.iter().fold(0, |bytes, message| bytes + message.len()), batch.payload_bytes());
    });
}

#[test]
fn batches_treats_a_limit_of_zero_as_one() {
    paused(async {
        let (tx, mut rx) = segments_of_16(one_hour());
        send(&tx, 0..3);
        let sizes = rx.batches(0).take(3).map(|batch| batch.len());
        assert_eq!(sizes.collect::<Vec<_>>().await, [1, 1, 1]);
    });
}

#[test]
fn batches_waits_for_the_first_message_only_and_is_cancel_safe() {
    paused(async {
        let (tx, mut rx) = segments_of_16(one_hour());
        let mut batches = rx.batches(10);
        let mut next = Box::pin(batches.next());
        assert!(poll_once(&mut next).is_pending());
        send(&tx, 0..1);
        drop(next); // after it was woken
        send(&tx, 1..2);
        assert_eq!(numbers(&batches.next().await.expect("open")), [0, 1]);
        assert!(batches.next().now_or_never().is_none());
        send(&tx, 2..3);
        drop(batches);
        assert_eq!(check(&rx.recv().await.expect("open")), Some((0, 2)));
        assert_eq!(tx.monitor().stats().waiting_receivers, 0);
    });
}

#[test]
fn batches_coexists_with_other_handles_and_a_second_stream() {
    paused(async {
        let (tx, mut rx) = segments_of_16(one_hour());
        let (mut one, mut another) = (rx.clone(), rx.clone());
        let (mut first, mut second) = (one.batches(1), another.batches(1));
        let (a, b, c) = {
            let three = async { tokio::join!(first.next(), second.next(), rx.recv()) };
            let sending = async {
                settle().await;
                assert_eq!(tx.monitor().stats().waiting_receivers, 3);
                send(&tx, 0..3);
            };
            tokio::join!(three, sending).0
        };
        let mut got = [numbers(&a.expect("open")), numbers(&b.expect("open"))].concat();
        got.push(check(&c.expect("open")).expect("a message header").1);
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2]);
    });
}

#[test]
fn dropping_a_woken_batches_stream_arms_the_strategy_timer() {
    paused(async {
        let (tx, mut rx) = segments_of_16(TimeWindow(Duration::from_millis(20)));
        let mut batches = rx.batches(10);
        send(&tx, 0..1);
        assert_eq!(numbers(&batches.next().await.expect("open")), [0]);
        assert!(batches.next().now_or_never().is_none());
        for _ in 0..10 {
            advance(Duration::from_secs(1)).await; // until the background task sleeps
        }
        let before = tx.monitor().stats().switches.strategy;
        send(&tx, 1..2); // wakes the stream, so the strategy timer is not armed
        drop(batches);
        advance(Duration::from_millis(25)).await;
        assert_eq!(tx.monitor().stats().switches.strategy, before + 1);
        assert_eq!(check(&rx.recv().await.expect("open")), Some((0, 1)));
    });
}

#[test]
fn dropping_a_woken_receiver_stream_arms_the_strategy_timer() {
    paused(async {
        let (tx, mut rx) = segments_of_16(TimeWindow(Duration::from_millis(20)));
        let mut other = rx.clone();
        send(&tx, 0..1);
        assert!(other.next().await.is_some());
        assert!(other.next().now_or_never().is_none());
        for _ in 0..10 {
            advance(Duration::from_secs(1)).await; // until the background task sleeps
        }
        let before = tx.monitor().stats().switches.strategy;
        send(&tx, 1..2); // wakes the other receiver, so the strategy timer is not armed
        drop(other);
        advance(Duration::from_millis(25)).await;
        assert_eq!(tx.monitor().stats().switches.strategy, before + 1);
        assert_eq!(check(&rx.recv().await.expect("open")), Some((0, 1)));
    });
}

#[test]
fn competing_batches_streams_get_each_message_once() {
    multi(async {
        let (tx, rx) = segments_of_16(one_hour());
        let mut readers = JoinSet::new();
        for limit in [1, 3, 100] {
            let mut rx = rx.clone();
            readers.spawn(async move {
                let mut batches = rx.batches(limit);
                let mut received = Vec::new();
                while let Some(batch) = batches.next().await {
                    received.extend(numbers(&batch));
                }
                assert!(received.is_sorted());
                received
            });
        }
        for number in 0..20_000 {
            tx.send(message(0, number, 40)).await.expect("open");
        }
        drop(tx);
        let mut received = readers.join_all().await.concat();
        received.sort_unstable();
        assert_eq!(received, (0..20_000).collect::<Vec<_>>());
    });
}

/// Dropping a batch drops external payloads, whether they were iterated or not.
#[test]
fn dropped_batch_drops_its_external_payloads() {
    paused(async {
        let owner = std::sync::Arc::new(vec![7_u8; 40_000]);
        struct Payload(std::sync::Arc<Vec<u8>>);
        impl AsRef<[u8]> for Payload {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        let payload = || bytes::Bytes::from_owner(Payload(owner.clone()));
        let (tx, mut rx) = turbostream::channel();
        for taken in 0..3 {
            tx.send_many([payload(), payload()]).await.expect("open");
            let mut messages = rx.recv_batch(2).await.expect("open").into_iter();
            messages.by_ref().take(taken).for_each(drop);
            assert_eq!(std::sync::Arc::strong_count(&owner), 3 - taken);
            drop(messages);
            assert_eq!(std::sync::Arc::strong_count(&owner), 1, "leaked after {taken} were taken");
        }
    });
}

#[test]
fn batch_into_iter_reports_its_remaining_length() {
    paused(async {
        let (tx, mut rx) = turbostream::channel();
        // Padding is skipped, and an external payload counts like any other message.
        tx.send_many(["one", "two", "three"]).await.expect("open");
        tx.send(vec![7; 40_000]).await.expect("open");
        let mut messages = rx.recv_batch(10).await.expect("open").into_iter();
        for left in (0..4).rev() {
            assert!(messages.next().is_some());
            assert_eq!((messages.len(), messages.size_hint()), (left, (left, Some(left))));
        }
        assert!(messages.next().is_none());
    });
}

#[test]
fn safe_mode_batch_copies_small_messages_and_lends_large_ones() {
    paused(async {
        for (mode, len, lends) in
            [(ReadMode::Safe, 1023, false), (ReadMode::Safe, 1024, true), (ReadMode::ZeroCopy, 10, true)]
        {
            let (tx, mut rx) = turbostream::builder().read_mode(mode).build().expect("valid");
            tx.send(vec![7; len]).await.expect("open");
            let message = rx.recv_batch(1).await.expect("open").into_iter().next().expect("one");
            drop(tx);
            assert!(rx.recv().await.is_none());
            let lent = rx.monitor().stats().lent_bytes > 0;
            assert_eq!((message.len(), lent), (len, lends), "{mode:?}");
        }
    });
}
