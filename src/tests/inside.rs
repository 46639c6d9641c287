//! Tests of a whole channel that need access to its inside.

use crate::ReadMode;
use crate::telemetry::stats::Totals;

/// A sender that panics between its reservation and its commit leaves padding.
#[tokio::test]
async fn recv_many_skips_padding() {
    for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
        let (tx, mut rx) = crate::builder().read_mode(mode).build().unwrap();
        tx.try_send("1").unwrap();
        tx.try_send("2").unwrap();
        let queue = &tx.core().queue;
        let entry = queue.ring.slot(queue.ring.active()).reserve(1, queue.capacities()).unwrap();
        queue.segment(entry.segment()).abandon(&entry);
        tx.try_send("3").unwrap();
        let mut messages = Vec::new();
        assert_eq!(rx.recv_many(&mut messages, 10).await, 3);
        assert_eq!(messages, ["1", "2", "3"]);
    }
}

#[tokio::test]
async fn message_sent_while_counting_takes_no_statistic_below_zero() {
    let (tx, _rx) = crate::channel();
    tx.send("a").await.unwrap();
    let core = tx.core();
    let state = core.queue.ring.slot(core.queue.ring.active()).load();
    // Sent between the load of the word and of the payload delta.
    tx.send_with(100, |_| 10).await.map_err(drop).unwrap();
    let queued = core.queued_in(state.segment().unwrap(), state, Totals::default(), &mut 100);
    assert_eq!((queued.messages, queued.bytes), (1, 0));
    assert_eq!(core.queued(), (2, 11));
}

/// The bytes of external payloads are summed from their entries, also in segments that are used again.
#[tokio::test]
async fn external_bytes_are_exact_in_reused_segments() {
    let builder = crate::builder().segment_messages(4).segment_bytes(1000).max_bytes(20_000);
    let (tx, mut rx) = builder.build().unwrap();
    for round in 0..20 {
        let external = bytes::Bytes::from(vec![7; 1001 + round]);
        let queued = |bytes: usize| assert_eq!(tx.core().queued().1, bytes as u64);
        tx.try_send("12345").unwrap();
        tx.try_send(external.clone()).unwrap();
        queued(5 + external.len());
        tx.try_send(external.clone()).unwrap();
        queued(5 + 2 * external.len());
        assert_eq!(rx.recv().await.unwrap(), "12345");
        queued(2 * external.len());
        assert_eq!(rx.recv().await.unwrap(), external);
        queued(external.len());
        assert_eq!(rx.recv().await.unwrap(), external);
        queued(0);
        assert_eq!(
            tx.core().stats().sent_bytes as usize,
            (0..=round).map(|more| 5 + 2 * (1001 + more)).sum::<usize>()
        );
    }
}

/// An earlier message that is not committed keeps no external payload from being counted.
#[tokio::test]
async fn external_bytes_count_after_an_uncommitted_message() {
    let (tx, _rx) = crate::builder().segment_bytes(1000).max_bytes(100_000).build().unwrap();
    tx.send_with(10, |_| {
        tx.try_send(bytes::Bytes::from(vec![7; 2000])).unwrap();
        assert_eq!(tx.core().queued(), (2, 2010));
        10
    })
    .await
    .map_err(drop)
    .unwrap();
    assert_eq!(tx.core().queued(), (2, 2010));
}

/// What is in use and not in segments is external, also after the memory of segments was freed.
#[tokio::test]
async fn external_bytes_are_exact_after_a_trim() {
    let (tx, mut rx) = crate::builder().segment_bytes(1000).max_bytes(100_000).build().unwrap();
    for _ in 0..5 {
        tx.try_send(&[7; 900]).unwrap();
    }
    while rx.try_recv().is_ok() {}
    tx.core().release_idle_memory();
    assert_eq!(tx.core().queue.pool.used_bytes(), 0);
    tx.try_send(bytes::Bytes::from(vec![7; 2000])).unwrap();
    assert_eq!(tx.core().stats().external_bytes, 2000);
}

/// A report checks each entry once.
#[tokio::test]
async fn committed_entries_are_counted_once() {
    // All messages in one segment.
    let (tx, _rx) = crate::builder().on_demand(false).build().unwrap();
    let core = tx.core();
    let count = |limit: usize| {
        let state = core.queue.ring.slot(core.queue.ring.active()).load();
        let mut left = limit;
        let committed =
            core.queue.segment(state.segment().unwrap()).count_committed(state.messages(), &mut left);
        (committed, limit - left)
    };
    (0..100).for_each(|_| tx.try_send("a").unwrap());
    assert_eq!(count(30), (30, 30));
    assert_eq!(count(1000), (100, 70));
    assert_eq!(count(1000), (100, 0));
    tx.send_with(100, |_| {
        tx.try_send("after it").unwrap();
        assert_eq!(count(1000), (100, 0), "a message is being written");
        1
    })
    .await
    .map_err(drop)
    .unwrap();
    assert_eq!(count(1000), (102, 2));
}

/// Waiting senders share the segments that were laid out for them, which are of the full size.
#[tokio::test]
async fn sender_gets_full_segment_while_others_wait() {
    use crate::queue::pool::room_waiters::{Demand, RoomWaiter};
    let (tx, _rx) = crate::channel();
    let (pool, demand) = (&tx.core().queue.pool, Demand::copied(1));
    let take = |ticket| {
        let number = pool.take_segment(ticket, demand).unwrap();
        pool.after_opening(number);
        pool.footprint_of(number)
    };
    assert!(take(None) < pool.footprint());
    let mut waiter = RoomWaiter::of_future();
    let waker = std::task::Waker::noop();
    let ticket = pool.room_waiters.register(&mut waiter, demand, pool.max_bytes(), waker, || 1).ticket;
    assert_eq!((take(None), take(Some(ticket))), (pool.footprint(), pool.footprint()));
    pool.room_waiters.remove(&mut waiter);
    assert!(take(None) < pool.footprint());
}
