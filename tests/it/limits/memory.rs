//! The memory bound `max_bytes` in both read modes, and when memory is reclaimed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::common::{advance, check, current_runtime, hash, message, ms, multi, paused, plain, settle};
use bytes::{Bytes, BytesMut};
use tokio::task::JoinSet;
use tokio::time::timeout;
use turbostream::{
    Batch, Builder, Limit, MessageCount, Monitor, ReadMode, Receiver, Sender, Stats, TrySendError,
};

const fn footprint(segment_bytes: usize, segment_messages: usize) -> usize {
    segment_bytes + 8 * segment_messages + 128
}

const SEGMENT: usize = footprint(16 << 10, 64);

/// Segments of 16 KiB and 64 messages, 20 of them.
fn twenty_segments(mode: ReadMode) -> Builder {
    turbostream::builder()
        .segment_bytes(16 << 10)
        .segment_messages(64)
        .max_bytes(20 * SEGMENT)
        .max_message_bytes(5 * SEGMENT)
        .read_mode(mode)
}

fn held(stats: &Stats) -> usize {
    stats.active_bytes + stats.sealed_bytes + stats.pooled_bytes + stats.lent_bytes + stats.external_bytes
}

/// Sends until the channel is full. Returns how many messages were accepted.
fn fill(tx: &Sender, len: usize) -> u32 {
    for number in 0.. {
        match tx.try_send(&message(0, number, len)[..]) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return number,
            Err(error) => panic!("{error}"),
        }
        assert!(number < 1_000_000, "accepts without limit");
    }
    unreachable!("the loop has no end")
}

fn drain(rx: &mut Receiver) -> Vec<Bytes> {
    std::iter::from_fn(|| rx.try_recv().ok()).collect()
}

/// Polls the statistics until `stop` is set. Returns the most memory held.
fn watch(monitor: Monitor, stop: Arc<AtomicBool>) -> thread::JoinHandle<usize> {
    thread::spawn(move || {
        let mut most = 0;
        while !stop.load(Ordering::Relaxed) {
            let stats = monitor.stats();
            assert!(held(&stats) <= stats.max_bytes, "over max_bytes: {stats:?}");
            most = most.max(held(&stats));
            thread::yield_now();
        }
        most
    })
}

async fn under_load(mode: ReadMode) {
    let (tx, rx) = twenty_segments(mode).build().expect("valid");
    let (monitor, stop) = (tx.monitor(), Arc::new(AtomicBool::new(false)));
    let watching = watch(monitor.clone(), stop.clone());
    let mut writers = JoinSet::new();
    for sender in 0..4 {
        let tx = tx.clone();
        writers.spawn(async move {
            for number in 0..1500 {
                let h = hash(sender, number) as usize;
                let bytes = message(
                    sender,
                    number,
                    [0, 60, 900, 6000, 40_000, 5 * SEGMENT][h % 40 / 7] * (h % 8) / 7,
                );
                if h % 2 == 0 {
                    tx.send(bytes).await.expect("open")
                } else {
                    tx.send(&bytes[..]).await.expect("open")
                }
            }
        });
    }
    drop(tx);
    let mut readers = JoinSet::new();
    for _ in 0..2 {
        let mut rx = rx.clone();
        readers.spawn(async move {
            let mut kept = std::collections::VecDeque::new();
            while let Some(m) = rx.recv().await {
                check(&m);
                kept.push_back(m); // keeps a few, so segments stay lent for a while
                if kept.len() > 5 {
                    kept.pop_front();
                }
                if kept.iter().map(Bytes::len).sum::<usize>() > SEGMENT {
                    kept.clear();
                }
            }
        });
    }
    writers.join_all().await;
    readers.join_all().await;
    drop(rx);
    stop.store(true, Ordering::Relaxed);
    assert!(watching.join().expect("the watcher") > SEGMENT);
    let stats = monitor.stats();
    assert_eq!((stats.lent_bytes, stats.sealed_bytes, stats.external_bytes), (0, 0, 0), "{stats:?}");
}

#[test]
fn max_bytes_is_never_exceeded_in_safe_mode() {
    multi(under_load(ReadMode::Safe));
}

#[test]
fn max_bytes_is_never_exceeded_in_zero_copy_mode() {
    multi(under_load(ReadMode::ZeroCopy));
}

#[test]
fn full_channel_stays_within_max_bytes_for_every_message_size() {
    paused(async {
        for len in [0, 1, 100, 1000, 9000, 16 << 10, 40_000] {
            let (tx, mut rx) = twenty_segments(ReadMode::Safe).build().expect("valid");
            let accepted = fill(&tx, len);
            let stats = tx.monitor().stats();
            assert!(held(&stats) <= stats.max_bytes, "{len} bytes: {stats:?}");
            assert!((accepted as usize) * (len + 8) <= stats.max_bytes, "{accepted} of {len} bytes");
            let least = if len <= 16 << 10 { 18 * 64.min((16 << 10) / len.max(1)) } else { 5 };
            assert!(accepted as usize >= least, "only {accepted} of {len} bytes");
            assert_eq!(drain(&mut rx).len(), accepted as usize);
        }
    });
}

#[test]
fn external_payloads_count_against_max_bytes() {
    paused(async {
        let (tx, mut rx) = twenty_segments(ReadMode::Safe).build().expect("valid");
        let mut accepted = 0;
        while tx.try_send(vec![1; 50_000]).is_ok() {
            accepted += 1;
            let stats = tx.monitor().stats();
            assert!(
                held(&stats) <= stats.max_bytes && stats.external_bytes >= accepted * 50_000,
                "{stats:?}"
            );
        }
        assert!((3..=6).contains(&accepted), "{accepted} of 50,000 bytes in {}", 20 * SEGMENT);
        assert_eq!(drain(&mut rx).len(), accepted);
        assert_eq!(tx.monitor().stats().external_bytes, 0, "a received payload belongs to the receiver");
    });
}

/// What the documentation says of `max_bytes`: a received external payload is memory of the program.
#[test]
fn kept_batches_of_external_payloads_do_not_count() {
    paused(async {
        let (tx, mut rx) = turbostream::builder().max_bytes(1 << 20).build().expect("valid");
        let long = vec![1; 300_000]; // longer than a segment: external also if it is borrowed
        let mut kept = Vec::new();
        for _ in 0..8 {
            tx.try_send(long.clone()).expect("room");
            tx.try_send(&long[..]).expect("room");
            tx.try_send(vec![1; 40_000]).expect("room");
            let limit = Limit::messages(100).bytes(340_000);
            for bytes in [300_000, 340_000] {
                let batch = rx.try_recv_batch(limit).expect("queued");
                assert_eq!(batch.payload_bytes(), bytes, "the limit in bytes ends a batch");
                kept.push(batch);
            }
            let stats = tx.monitor().stats();
            assert!(stats.external_bytes == 0 && stats.memory_bytes() <= stats.max_bytes, "{stats:?}");
        }
        assert!(kept.iter().map(Batch::payload_bytes).sum::<usize>() > 4 * tx.max_bytes());
    });
}

#[test]
fn lent_memory_is_reclaimed_by_the_last_drop_on_another_thread() {
    paused(async {
        let (tx, mut rx) = twenty_segments(ReadMode::ZeroCopy).build().expect("valid");
        let accepted = fill(&tx, 500);
        let kept = drain(&mut rx);
        assert_eq!(kept.len(), accepted as usize);
        let stats = tx.monitor().stats();
        assert!(stats.lent_bytes > 18 * SEGMENT && held(&stats) <= stats.max_bytes, "{stats:?}");
        let waiting = tokio::spawn({
            let tx = tx.clone();
            async move {
                for number in 0..accepted {
                    tx.send(message(1, number, 500)).await.expect("open");
                }
            }
        });
        settle().await;
        assert!(!waiting.is_finished(), "lent memory is not reclaimed");
        assert_eq!(tx.monitor().stats().waiting_senders, 1);
        kept.iter().enumerate().for_each(|(n, m)| assert_eq!(check(m), Some((0, n as u32))));
        thread::spawn(move || drop(kept)).join().expect("another thread");
        for number in 0..accepted {
            assert_eq!(check(&rx.recv().await.expect("open")), Some((1, number)));
        }
        waiting.await.expect("the sender");
        assert_eq!(tx.monitor().stats().lent_bytes, 0);
    });
}

#[test]
fn lent_memory_outlives_the_channel_and_the_runtime() {
    plain(|| {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let runtime = current_runtime(false);
            let (monitor, kept, batch) = runtime.block_on(async {
                let (tx, mut rx) = twenty_segments(mode).build().expect("valid");
                for number in 0..30 {
                    tx.send(&message(0, number, 2000)[..]).await.expect("open");
                }
                let mut kept = Vec::new();
                assert!(rx.recv_many(&mut kept, 1).await > 0);
                (tx.monitor(), kept, rx.recv_batch(3).await.expect("open"))
            });
            drop(runtime);
            assert!(monitor.stats().lent_bytes > 0);
            assert_eq!(check(&kept[0]), Some((0, 0)));
            assert_eq!(check(batch.get(0).expect("first")), Some((0, 1)));
            let rest = thread::spawn(move || {
                drop(kept);
                batch.into_iter().last().expect("a message")
            });
            let rest = rest.join().expect("another thread");
            assert!(check(&rest).is_some());
            drop(rest);
            assert_eq!(monitor.stats().lent_bytes, 0);
        }
    });
}

#[test]
fn pool_shrinks_and_idle_memory_is_freed_after_a_burst() {
    paused(async {
        let (tx, mut rx) = twenty_segments(ReadMode::Safe).pool_idle(ms(200)).build().expect("valid");
        for _ in 0..3 {
            let accepted = fill(&tx, 500);
            assert!(held(&tx.monitor().stats()) > 18 * SEGMENT);
            assert_eq!(drain(&mut rx).len(), accepted as usize);
            advance(ms(205)).await;
            let stats = tx.monitor().stats();
            assert!(stats.pooled_bytes <= 2 * SEGMENT, "after pool_idle: {stats:?}");
            assert_eq!((stats.sealed_bytes, stats.lent_bytes), (0, 0));
            tokio::time::sleep(ms(1000)).await;
            assert_eq!(held(&tx.monitor().stats()), 0, "idle: {:?}", tx.monitor().stats());
        }
    });
}

/// Idle memory alone schedules the background task: no strategy is timed and no task waits.
#[test]
fn idle_memory_is_freed_after_pool_idle_and_not_before() {
    paused(async {
        let builder =
            twenty_segments(ReadMode::ZeroCopy).pool_idle(ms(200)).strategy(MessageCount(usize::MAX));
        let (tx, mut rx) = builder.build().expect("valid");
        for _ in 0..3 {
            fill(&tx, 500);
            let kept = drain(&mut rx).into_iter().next();
            advance(ms(90)).await;
            assert!(tx.monitor().stats().pooled_bytes > 15 * SEGMENT, "kept for reuse before pool_idle");
            advance(ms(115)).await;
            assert!(tx.monitor().stats().pooled_bytes <= 2 * SEGMENT);
            tokio::time::sleep(ms(1000)).await;
            let lent = held(&tx.monitor().stats());
            assert!((1..=SEGMENT).contains(&lent), "only the lent segment, a small one: {lent}");
            drop(kept);
            tokio::time::sleep(ms(1000)).await;
            assert_eq!(held(&tx.monitor().stats()), 0, "the lent segment too");
        }
    });
}

/// The segment at which it sleeps is sealed and freed, and the next message is in another one.
#[test]
fn receiver_that_sleeps_while_idle_memory_is_freed_is_woken_by_the_next_message() {
    paused(async {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let builder = twenty_segments(mode).pool_idle(ms(200)).strategy(MessageCount(usize::MAX));
            let (tx, mut rx) = builder.build().expect("valid");
            for _ in 0..3 {
                fill(&tx, 500);
                drain(&mut rx);
                tx.try_send("in an open segment").expect("room");
                rx.try_recv().expect("a message");
                let mut waiting = tokio::spawn(async move { (rx.recv().await, rx) });
                tokio::time::sleep(ms(2000)).await;
                assert_eq!(held(&tx.monitor().stats()), 0, "{:?}", tx.monitor().stats());
                tx.send("next").await.expect("open");
                let received = timeout(ms(10), &mut waiting).await.expect("it is woken").expect("no panic");
                assert_eq!(received.0.as_deref(), Some(&b"next"[..]));
                rx = received.1;
            }
        }
    });
}

#[test]
fn busy_channel_keeps_two_pooled_segments_and_frees_the_surplus() {
    paused(async {
        let builder = twenty_segments(ReadMode::Safe).pool_idle(ms(200)).strategy(MessageCount(usize::MAX));
        let (tx, mut rx) = builder.build().expect("valid");
        fill(&tx, 500);
        drain(&mut rx);
        for round in 0..40 {
            (0..3 * 64).for_each(|number| tx.try_send(message(0, number, 200)).expect("room"));
            assert_eq!(drain(&mut rx).len(), 3 * 64);
            advance(ms(25)).await;
            let pooled = tx.monitor().stats().pooled_bytes / SEGMENT;
            assert!(pooled >= 2, "{pooled} in round {round}");
            assert!(round < 20 || pooled <= 10, "{pooled} in round {round}");
        }
    });
}

#[test]
fn large_owned_payloads_are_not_copied() {
    paused(async {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let (tx, mut rx) = turbostream::builder().read_mode(mode).build().expect("valid");
            for len in [32 << 10, 100_000, 1 << 20] {
                let (vec, bytes) = (vec![1; len], Bytes::from(vec![2; len]));
                let (text, buffer) = ("t".repeat(len), BytesMut::from(&vec![3; len][..]));
                let expected = [
                    vec.as_ptr().addr(),
                    bytes.as_ptr().addr(),
                    text.as_ptr().addr(),
                    buffer.as_ptr().addr(),
                ];
                tx.send(vec).await.expect("open");
                tx.send(bytes.clone()).await.expect("open");
                tx.send(text).await.expect("open");
                tx.send(buffer).await.expect("open");
                for at in expected {
                    let m = rx.recv().await.expect("open");
                    assert_eq!((m.as_ptr().addr(), m.len()), (at, len), "{mode:?}");
                }
            }
        }
        // Any owned payload larger than a segment is not copied either.
        let (tx, mut rx) =
            turbostream::builder().segment_bytes(4096).segment_messages(64).build().expect("valid");
        let owned = vec![5; 5000];
        let at = owned.as_ptr().addr();
        tx.send(owned).await.expect("open");
        let batch = rx.recv_batch(1).await.expect("open");
        assert_eq!(batch.get(0).map(|m| m.as_ptr().addr()), Some(at));
    });
}

#[test]
fn buffer_of_much_unused_capacity_is_copied_to_its_length() {
    paused(async {
        let (tx, mut rx) = turbostream::builder().read_mode(ReadMode::ZeroCopy).build().expect("valid");
        let mut buffer = BytesMut::with_capacity(1 << 20);
        buffer.resize(40_000, 7);
        let at = buffer.as_ptr().addr();
        tx.send(buffer).await.expect("open");
        let received = rx.recv().await.expect("open");
        assert_ne!(received.as_ptr().addr(), at, "it holds 1 MiB and counts as 40,000 bytes");
        assert_eq!(received, vec![7; 40_000]);
        let exact = Vec::from(received.try_into_mut().expect("the only reference"));
        assert!(exact.capacity() <= 2 * exact.len(), "{}", exact.capacity());
    });
}

#[test]
fn refused_external_payload_leaves_pooled_segments() {
    paused(async {
        let builder = turbostream::builder().segment_bytes(4096).segment_messages(16).max_bytes(100_000);
        let builder = builder.max_message_bytes(94_000).read_mode(ReadMode::ZeroCopy);
        let (tx, mut rx) = builder.build().expect("valid");
        for _ in 0..6 {
            tx.try_send(&[1; 4096]).expect("room");
        }
        let lent: Vec<_> = std::iter::from_fn(|| rx.try_recv().ok()).collect();
        let kept = lent[0].clone();
        drop(lent);
        let before = tx.monitor().stats().pooled_bytes;
        assert!(before > 0, "{:?}", tx.monitor().stats());
        for _ in 0..3 {
            assert!(tx.try_send(vec![2; 94_000]).is_err(), "a lent segment leaves too little");
        }
        let after = tx.monitor().stats().pooled_bytes;
        assert!(after >= before, "{after} after {before}");
        assert_eq!(kept, vec![1; 4096]);
    });
}
