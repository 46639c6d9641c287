//! Results of the receive methods: `recv_many`, `recv_batch` and its `Batch`, lengths and statistics.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::common::{check, message, ms, paused, poll_once, settle};
use bytes::Bytes;
use tokio::time::Instant;
use turbostream::{Batch, ReadMode, Receiver, RecvTimeoutError, Sender, TryRecvError};

fn segments_of_16() -> (Sender, Receiver) {
    turbostream::builder()
        .segment_bytes(4096)
        .segment_messages(16)
        .max_bytes(256 << 10)
        .read_mode(ReadMode::ZeroCopy)
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

#[test]
fn recv_many_takes_queued_messages_and_waits_for_the_first_only() {
    paused(async {
        let (tx, mut rx) = segments_of_16();
        send(&tx, 0..10);
        let mut many = vec![Bytes::from_static(b"before")];
        assert_eq!(rx.recv_many(&mut many, 0).await, 0, "a limit of 0 takes nothing");
        let mut got = 0;
        while got < 4 {
            got += rx.recv_many(&mut many, 4 - got).await;
        }
        assert_eq!((many.len(), &many[0][..]), (5, &b"before"[..]), "appended");
        while many.len() < 11 {
            assert!(rx.recv_many(&mut many, 100).await > 0);
        }
        for (number, m) in many[1..].iter().enumerate() {
            assert_eq!(check(m), Some((0, number as u32)));
        }
        let mut waiting = Box::pin(rx.recv_many(&mut many, 100));
        assert!(poll_once(&mut waiting).is_pending());
        send(&tx, 10..11);
        assert_eq!(waiting.await, 1);
        drop(tx);
        assert_eq!((rx.recv_many(&mut many, 100).await, many.len()), (0, 12));
    });
}

#[test]
fn batch_holds_messages_of_one_segment_in_order() {
    paused(async {
        let (tx, mut rx) = segments_of_16();
        send(&tx, 0..40); // two full segments and half of a third
        let mut next = 0;
        for limit in [1, 5, 100, 3, 100, 100] {
            let batch = rx.recv_batch(limit).await.expect("open");
            assert_eq!(batch.first_sequence(), u64::from(next));
            assert!(!batch.is_empty() && batch.len() <= limit.min(16));
            let expected: Vec<_> = (next..next + batch.len() as u32).collect();
            assert_eq!(numbers(&batch), expected);
            assert!(next / 16 == (next + batch.len() as u32 - 1) / 16, "not of one segment");
            next += batch.len() as u32;
        }
        assert_eq!(next, 40);
        drop(tx);
        assert!(rx.recv_batch(1).await.is_none());
    });
}

#[test]
fn batch_accessors_agree_and_do_not_copy() {
    paused(async {
        let (tx, mut rx) = segments_of_16();
        let messages = [&b"one"[..], b"", b"three", b"", &[7; 2000]];
        for m in messages {
            tx.try_send(m).expect("room");
        }
        let batch = rx.recv_batch(usize::MAX).await.expect("open");
        assert_eq!((batch.len(), batch.payload_bytes(), batch.first_sequence()), (5, 2008, 0));
        assert!(batch.iter().eq(messages));
        assert_eq!((batch.get(0), batch.get(3), batch.get(5)), (Some(&b"one"[..]), Some(&b""[..]), None));
        assert_eq!(batch.get(usize::MAX), None);
        let joined: Vec<u8> = batch.io_slices().iter().flat_map(|s| s.to_vec()).collect();
        assert_eq!(joined, messages.concat());
        assert!(batch.io_slices().len() <= 5);
        let addresses: Vec<_> = batch.iter().map(|m| m.as_ptr().addr()).collect();
        let owned: Vec<Bytes> = batch.into_iter().collect();
        assert_eq!(owned, messages);
        for at in [0, 2, 4] {
            assert_eq!(owned[at].as_ptr().addr(), addresses[at], "not copied");
        }
    });
}

#[test]
fn batch_of_empty_messages_is_not_empty() {
    paused(async {
        let (tx, mut rx) = segments_of_16();
        (0..3).for_each(|_| tx.try_send("").expect("room"));
        let batch = rx.recv_batch(8).await.expect("open");
        assert_eq!((batch.len(), batch.payload_bytes(), batch.is_empty()), (3, 0, false));
        assert!(batch.iter().all(<[u8]>::is_empty));
        assert!(batch.io_slices().iter().all(|s| s.is_empty()));
        assert_eq!(batch.into_iter().collect::<Vec<_>>(), vec![Bytes::new(); 3]);
    });
}

#[test]
fn batch_carries_external_payloads() {
    paused(async {
        let (tx, mut rx) = segments_of_16();
        let large = Bytes::from(message(0, 1, 50_000));
        tx.try_send(message(0, 0, 30)).expect("room");
        tx.try_send(large.clone()).expect("room");
        tx.try_send(&message(0, 2, 50_000)[..]).expect("room");
        let mut got = Vec::new();
        while got.len() < 3 {
            let batch = rx.recv_batch(8).await.expect("open");
            assert_eq!(batch.first_sequence(), got.len() as u64);
            got.extend(batch);
        }
        for (number, m) in got.iter().enumerate() {
            assert_eq!(check(m), Some((0, number as u32)));
        }
        assert_eq!(got[1].as_ptr(), large.as_ptr());
        drop(got);
        assert!(large.is_unique(), "the channel dropped its reference");
        assert_eq!(tx.monitor().stats().lent_bytes, 0);
    });
}

#[test]
fn partly_consumed_batch_returns_its_segment_when_dropped() {
    paused(async {
        let (tx, mut rx) = segments_of_16();
        for consumed in 0..4 {
            send(&tx, 0..16);
            let batch = rx.recv_batch(16).await.expect("open");
            assert!(tx.monitor().stats().lent_bytes > 0);
            let mut iter = batch.into_iter();
            let some: Vec<_> = iter.by_ref().take(consumed * 5).collect();
            drop(iter);
            assert_eq!(some.len(), consumed * 5);
            assert_eq!(tx.monitor().stats().lent_bytes > 0, consumed > 0);
            drop(some);
            assert_eq!(tx.monitor().stats().lent_bytes, 0);
        }
    });
}

#[test]
fn poll_recv_and_recv_timeout_wait_like_recv() {
    paused(async {
        let (tx, mut rx) = segments_of_16();
        let before = Instant::now();
        assert_eq!(rx.recv_timeout(ms(70)).await, Err(RecvTimeoutError::Timeout));
        assert!((ms(70)..ms(75)).contains(&before.elapsed()));
        let polling = tokio::spawn({
            let mut rx = rx.clone();
            async move { poll_fn(|cx| rx.poll_recv(cx)).await }
        });
        settle().await;
        assert!(!polling.is_finished());
        send(&tx, 0..2);
        assert_eq!(check(&polling.await.expect("the poller").expect("open")), Some((0, 0)));
        assert_eq!(check(&rx.recv_timeout(ms(70)).await.expect("there")), Some((0, 1)));
        drop(tx);
        assert_eq!(poll_fn(|cx| rx.poll_recv(cx)).await, None);
    });
}

#[test]
fn lengths_and_statistics_of_idle_channel_add_up() {
    paused(async {
        let (tx, mut rx) = segments_of_16();
        let monitor = rx.monitor();
        assert!(tx.is_empty() && rx.is_empty() && tx.queued_bytes() == 0);
        send(&tx, 0..50);
        tx.try_send(vec![0; 10_000]).expect("room");
        assert_eq!((tx.len(), rx.len(), tx.queued_bytes()), (51, 51, 50 * 40 + 10_000));
        let mut kept = Vec::new();
        for taken in 0..=51_u64 {
            let (stats, bytes) = (monitor.stats(), if taken == 51 { 12_000 } else { taken * 40 });
            assert_eq!((stats.sent_messages, stats.sent_bytes), (51, 12_000));
            assert_eq!((stats.received_messages, stats.received_bytes), (taken, bytes));
            assert_eq!((stats.queued_messages, stats.queued_bytes), (51 - taken, 12_000 - bytes));
            assert_eq!((stats.dropped_messages, stats.dropped_bytes), (0, 0));
            assert_eq!((tx.len() as u64, tx.is_empty()), (51 - taken, taken == 51));
            let held = stats.active_bytes
                + stats.sealed_bytes
                + stats.lent_bytes
                + stats.pooled_bytes
                + stats.external_bytes;
            assert!(held <= stats.max_bytes && stats.max_bytes == 256 << 10, "{stats:?}");
            assert_eq!((stats.waiting_senders, stats.waiting_receivers), (0, 0));
            kept.extend(rx.try_recv());
        }
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        let waiting = tokio::spawn({
            let mut rx = rx.clone();
            async move { rx.recv().await }
        });
        settle().await;
        assert_eq!(monitor.stats().waiting_receivers, 1);
        send(&tx, 0..1);
        assert!(waiting.await.expect("the receiver").is_some());
        let switches = monitor.stats().switches;
        let sum =
            switches.full + switches.strategy + switches.on_demand + switches.requested + switches.close;
        assert!(switches.total() == sum && switches.full >= 3, "{switches:?}");
        drop((kept, tx, rx));
        let stats = monitor.stats();
        assert_eq!((stats.sent_messages, stats.received_messages), (52, 52));
        assert_eq!((stats.lent_bytes, stats.sealed_bytes, stats.external_bytes), (0, 0, 0));
    });
}

#[test]
fn owned_payload_is_copied_only_below_32_kib() {
    paused(async {
        let (tx, mut rx) = turbostream::channel();
        for (len, is_copied) in [(32 << 10, false), ((32 << 10) - 1, true)] {
            let payload = vec![7; len];
            let from = payload.as_ptr() as usize;
            tx.send(payload).await.expect("open");
            let to = rx.recv().await.expect("open").as_ptr() as usize;
            assert_eq!(to != from, is_copied, "{len} bytes");
        }
    });
}

/// A future that is polled after it was done takes no second message: it panics, as futures of `async fn` do.
#[test]
fn receive_that_is_done_panics_and_takes_nothing_more() {
    paused(async {
        for waits in [false, true] {
            let (tx, mut rx) = segments_of_16();
            let mut receive = Box::pin(rx.recv());
            if waits {
                assert!(poll_once(&mut receive).is_pending());
            }
            send(&tx, 0..2);
            assert!(poll_once(&mut receive).is_ready());
            let again = catch_unwind(AssertUnwindSafe(|| poll_once(&mut receive)));
            assert!(again.is_err(), "waits: {waits}");
            drop(receive);
            let second = rx.try_recv().expect("not taken");
            assert_eq!(check(&second), Some((0, 1)), "waits: {waits}");
        }
    });
}
