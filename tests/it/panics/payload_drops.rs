//! Payloads whose drops panic are dropped one by one: none is leaked, and none aborts the process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Context;

use super::{PanicsOnDrop, drop_while_unwinding};
use crate::common::{WakeCounter, paused};
use bytes::Bytes;
use futures::{FutureExt, SinkExt};
use turbostream::{Batch, Receiver, Sender, WhenFull};

struct Payload(#[expect(dead_code, reason = "dropped")] PanicsOnDrop, Vec<u8>);

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        &self.1
    }
}

fn payload(drops: &Arc<AtomicUsize>, len: usize) -> Bytes {
    Bytes::from_owner(Payload(PanicsOnDrop(Arc::clone(drops)), vec![7; len]))
}

const EXTERNAL: usize = 40_000;
const COPIED: usize = 100;

/// Returns a batch of a copied message and three external ones.
async fn batch_of_external(drops: &Arc<AtomicUsize>) -> (Batch, Sender, Receiver) {
    let (tx, mut rx) = turbostream::channel();
    tx.send("copied").await.expect("open");
    for _ in 0..3 {
        tx.send(payload(drops, EXTERNAL)).await.expect("open");
    }
    let batch = rx.recv_batch(10).await.expect("open");
    assert_eq!(batch.len(), 4);
    (batch, tx, rx)
}

#[test]
fn last_receiver_drops_every_panicking_payload() {
    paused(async {
        let drops = Arc::<AtomicUsize>::default();
        let (tx, rx) = turbostream::channel();
        for _ in 0..3 {
            tx.send(payload(&drops, EXTERNAL)).await.expect("open");
        }
        drop(rx);
        assert_eq!((drops.load(Relaxed), tx.monitor().stats().panics), (3, 3));
    });
}

#[test]
fn drop_policy_drops_every_panicking_payload() {
    for when_full in [WhenFull::DropNewest, WhenFull::DropOldest] {
        paused(async move {
            let drops = Arc::<AtomicUsize>::default();
            let (tx, rx) =
                turbostream::builder().max_bytes(1 << 20).when_full(when_full).build().expect("valid");
            for _ in 0..100 {
                tx.try_send(payload(&drops, EXTERNAL)).expect("the policy makes room");
            }
            let stats = tx.monitor().stats();
            assert!(stats.dropped_messages > 0, "{when_full:?}");
            assert_eq!(drops.load(Relaxed) as u64, stats.dropped_messages, "{when_full:?}");
            assert_eq!(stats.panics, stats.dropped_messages, "{when_full:?}");
            drop(rx);
            assert_eq!(drops.load(Relaxed), 100, "{when_full:?}");
        });
    }
}

#[test]
fn dropped_batch_drops_every_panicking_payload_and_panics_once() {
    paused(async {
        let drops = Arc::<AtomicUsize>::default();
        let (batch, tx, _rx) = batch_of_external(&drops).await;
        assert!(catch_unwind(AssertUnwindSafe(|| drop(batch))).is_err(), "the first panic");
        assert_eq!(drops.load(Relaxed), 3);
        assert_eq!(tx.monitor().stats().lent_bytes, 0);
    });
}

#[test]
fn dropped_batch_iterator_drops_every_remaining_panicking_payload() {
    paused(async {
        let drops = Arc::<AtomicUsize>::default();
        let (batch, tx, _rx) = batch_of_external(&drops).await;
        let mut messages = batch.into_iter();
        assert_eq!(messages.next().expect("four messages"), "copied");
        std::mem::forget(messages.next().expect("three external messages"));
        assert!(catch_unwind(AssertUnwindSafe(|| drop(messages))).is_err(), "the first panic");
        assert_eq!(drops.load(Relaxed), 2);
        assert_eq!(tx.monitor().stats().lent_bytes, 0);
    });
}

#[test]
fn batch_of_panicking_payloads_dropped_while_unwinding_does_not_abort() {
    paused(async {
        let drops = Arc::<AtomicUsize>::default();
        let (batch, tx, _rx) = batch_of_external(&drops).await;
        assert!(drop_while_unwinding(batch));
        assert_eq!(drops.load(Relaxed), 3);
        assert_eq!(tx.monitor().stats().lent_bytes, 0);
    });
}

#[test]
fn send_many_counts_panics_of_payloads_that_it_copied() {
    for when_full in [WhenFull::Wait, WhenFull::DropOldest] {
        paused(async move {
            let drops = Arc::<AtomicUsize>::default();
            let max_bytes = if when_full == WhenFull::Wait { 1 << 20 } else { 16 << 10 };
            let (tx, _rx) =
                turbostream::builder().max_bytes(max_bytes).when_full(when_full).build().expect("valid");
            let payloads: Vec<_> = (0..500).map(|_| payload(&drops, COPIED)).collect();
            assert_eq!(tx.send_many(payloads).await.expect("open"), 500, "{when_full:?}");
            assert_eq!((drops.load(Relaxed), tx.monitor().stats().panics), (500, 500), "{when_full:?}");
        });
    }
}

#[test]
fn sink_with_panicking_parked_item_dropped_while_unwinding_does_not_abort() {
    paused(async {
        let drops = Arc::<AtomicUsize>::default();
        let (tx, rx) = turbostream::builder().max_bytes(1 << 20).build().expect("valid");
        while tx.try_send(vec![7; EXTERNAL]).is_ok() {}
        let mut sink = tx.clone();
        sink.start_send_unpin(payload(&drops, EXTERNAL)).expect("parked");
        rx.close();
        assert!(drop_while_unwinding(sink));
        let stats = tx.monitor().stats();
        assert_eq!((drops.load(Relaxed), stats.panics, stats.drops.newest), (1, 1, 1));
    });
}

/// Another thread sends the item: the panic must not keep it from counting as sent.
#[test]
fn parked_item_whose_drop_panics_is_sent_once_it_was_copied() {
    paused(async {
        let drops = Arc::<AtomicUsize>::default();
        let (tx, mut rx) = turbostream::builder().max_bytes(1 << 20).build().expect("valid");
        while tx.try_send(vec![7; EXTERNAL]).is_ok() {}
        while tx.try_send([7; COPIED]).is_ok() {}
        let [mut first, mut second] = [tx.clone(), tx.clone()];
        let (wakes, waker) = WakeCounter::new();
        for sink in [&mut first, &mut second] {
            sink.start_send_unpin(payload(&drops, COPIED)).expect("parked");
            assert!(sink.poll_flush_unpin(&mut Context::from_waker(&waker)).is_pending());
        }
        let sent = tx.len();
        let received = std::iter::from_fn(|| rx.try_recv().ok()).count();
        let stats = tx.monitor().stats();
        assert_eq!((received, stats.queued_messages, stats.received_messages), (sent, 0, sent as u64));
        assert_eq!((drops.load(Relaxed), stats.panics, wakes.take()), (2, 2, 2));
        assert!(first.flush().now_or_never().is_some_and(|flushed| flushed.is_ok()));
        drop((first, second, tx));
        assert!(rx.is_closed());
    });
}
