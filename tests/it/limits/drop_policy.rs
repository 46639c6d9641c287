//! Drop policies of a full channel: which messages are dropped, and that each is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::{check, current, leak, message, ms, multi, paused, poll_once};
use bytes::Bytes;
use futures::SinkExt;
use tokio::task::JoinSet;
use turbostream::{Batch, Builder, MessageCount, Monitor, ReadMode, Receiver, Sender, Stats, WhenFull};

const MESSAGES: usize = 16;
const SEGMENT: usize = 4096 + 8 * MESSAGES + 128;

/// Four segments of 16 messages.
fn four_segments(when_full: WhenFull) -> Builder {
    turbostream::builder()
        .segment_bytes(4096)
        .segment_messages(MESSAGES)
        .max_bytes(4 * SEGMENT)
        .strategy(MessageCount(usize::MAX))
        .read_mode(ReadMode::ZeroCopy)
        .when_full(when_full)
}

fn open(when_full: WhenFull) -> (Sender, Receiver) {
    four_segments(when_full).build().expect("valid")
}

fn send(tx: &Sender, numbers: std::ops::Range<u32>) {
    for number in numbers {
        tx.try_send(message(0, number, 100)).expect("never full");
    }
}

fn numbers(rx: &mut Receiver) -> Vec<u32> {
    std::iter::from_fn(|| rx.try_recv().ok()).map(|m| check(&m).expect("a message header").1).collect()
}

async fn batch(rx: &mut Receiver) -> (u64, Vec<u32>, Batch) {
    let batch = rx.recv_batch(100).await.expect("open");
    (batch.first_sequence(), batch.iter().map(|m| check(m).expect("a message header").1).collect(), batch)
}

fn conserved(monitor: &Monitor, sent: u64) -> Stats {
    let stats = monitor.stats();
    assert_eq!(stats.sent_messages, sent, "{stats:?}");
    assert_eq!(stats.received_messages + stats.dropped_messages + stats.queued_messages, sent, "{stats:?}");
    assert_eq!(stats.received_bytes + stats.dropped_bytes + stats.queued_bytes, stats.sent_bytes);
    assert!(stats.memory_bytes() <= stats.max_bytes, "{stats:?}");
    stats
}

#[test]
fn drop_newest_keeps_the_earliest_messages() {
    current(async {
        let (tx, mut rx) = open(WhenFull::DropNewest);
        send(&tx, 0..100);
        let stats = conserved(&tx.monitor(), 100);
        assert_eq!((stats.dropped_messages, stats.dropped_bytes), (36, 3600));
        let (first, taken, lent) = batch(&mut rx).await;
        assert_eq!((first, taken), (0, (0..16).collect()));
        send(&tx, 100..101);
        assert_eq!(tx.monitor().stats().dropped_messages, 37, "lent memory is not taken back");
        drop(lent);
        send(&tx, 101..102);
        assert_eq!(numbers(&mut rx), (16..64).chain([101]).collect::<Vec<_>>());
        let stats = conserved(&tx.monitor(), 102);
        assert_eq!((stats.dropped_messages, stats.queued_messages), (37, 0));
    });
}

#[test]
fn drop_oldest_keeps_the_latest_messages_and_shows_the_sequence_gap() {
    current(async {
        let (tx, mut rx) = open(WhenFull::DropOldest);
        send(&tx, 0..64);
        assert_eq!(conserved(&tx.monitor(), 64).dropped_messages, 0);
        send(&tx, 64..65);
        let stats = conserved(&tx.monitor(), 65);
        assert_eq!((stats.dropped_messages, stats.dropped_bytes), (16, 1600), "a whole segment");
        let (first, taken, _) = batch(&mut rx).await;
        assert_eq!((first, taken), (16, (16..32).collect()));
        send(&tx, 65..1000);
        let (first, taken, _) = batch(&mut rx).await;
        assert_eq!((first, taken), (944, (944..960).collect()), "960..1000 are in later segments");
        assert_eq!(numbers(&mut rx), (960..1000).collect::<Vec<_>>());
        let stats = conserved(&tx.monitor(), 1000);
        assert_eq!((stats.dropped_messages, stats.received_messages), (928, 72));
    });
}

#[test]
fn drop_oldest_drops_unread_messages_of_a_partly_read_segment() {
    for keep in [false, true] {
        current(async move {
            let (tx, mut rx) = open(WhenFull::DropOldest);
            send(&tx, 0..64);
            let taken: Vec<Bytes> = (0..3).map(|_| rx.try_recv().expect("sealed")).collect();
            let kept = keep.then_some(taken);
            send(&tx, 64..65);
            let stats = conserved(&tx.monitor(), 65);
            // A lent segment frees nothing, so the next segment is dropped as well.
            assert_eq!(stats.dropped_messages, if keep { 29 } else { 13 });
            assert_eq!(stats.lent_bytes, if keep { SEGMENT } else { 0 });
            let (first, taken, _) = batch(&mut rx).await;
            let next = if keep { 32 } else { 16 };
            assert_eq!((first, taken[0]), (u64::from(next), next));
            for (number, m) in kept.into_iter().flatten().enumerate() {
                assert_eq!(check(&m), Some((0, number as u32)), "lent memory is untouched");
            }
        });
    }
}

/// Holds however many other segments are lent.
#[test]
fn drop_oldest_drops_the_last_segment_that_is_not_lent() {
    current(async {
        let (tx, mut rx) = open(WhenFull::DropOldest);
        send(&tx, 0..64);
        let mut lent = Vec::new();
        for _ in 0..3 {
            lent.push(batch(&mut rx).await);
        }
        send(&tx, 64..65);
        assert_eq!(conserved(&tx.monitor(), 65).dropped_messages, 16);
        assert_eq!(numbers(&mut rx), [64]);
    });
}

#[test]
fn drop_oldest_drops_the_new_message_when_all_memory_is_lent() {
    // The previous contents of a reused segment make no difference.
    for shortened_before in [0, 64] {
        current(async move {
            let (tx, mut rx) = open(WhenFull::DropOldest);
            for _ in 0..shortened_before {
                tx.send_with(100, |_| 50).await.map_err(drop).expect("never full");
            }
            assert_eq!(std::iter::from_fn(|| rx.try_recv().ok()).count() as u64, shortened_before);
            send(&tx, 0..64);
            let mut lent = Vec::new();
            for _ in 0..3 {
                lent.push(batch(&mut rx).await);
            }
            let part = rx.recv_batch(10).await.expect("open");
            send(&tx, 64..70);
            let stats = conserved(&tx.monitor(), shortened_before + 70);
            assert_eq!(
                (stats.dropped_messages, stats.queued_messages),
                (6, 6),
                "the six messages of the lent segment stay"
            );
            drop(lent.pop());
            send(&tx, 70..71);
            assert_eq!(
                conserved(&tx.monitor(), shortened_before + 71).dropped_messages,
                6,
                "there is room: nothing more is dropped"
            );
            assert_eq!(numbers(&mut rx), [58, 59, 60, 61, 62, 63, 70]);
            assert_eq!(check(part.get(9).expect("ten")), Some((0, 57)));
        });
    }
}

/// A segment sealed after it was drained is retired first; that frees room without a drop.
#[test]
fn drop_policy_drops_nothing_while_memory_can_be_freed() {
    for when_full in [WhenFull::DropNewest, WhenFull::DropOldest] {
        current(async move {
            let (tx, mut rx) = open(when_full);
            send(&tx, 0..16);
            assert_eq!(numbers(&mut rx).len(), 16, "by a cut");
            send(&tx, 16..64);
            send(&tx, 64..80);
            assert_eq!(conserved(&tx.monitor(), 80).dropped_messages, 0, "{when_full:?}");
            assert_eq!(numbers(&mut rx).len(), 64);
            // Freeing pooled segments makes room for an external payload.
            tx.try_send(vec![8; 2 * SEGMENT]).expect("never full");
            assert_eq!(conserved(&tx.monitor(), 81).dropped_messages, 0, "{when_full:?}");
            assert_eq!(rx.try_recv().expect("a queued message").len(), 2 * SEGMENT);
        });
    }
}

#[test]
fn dropped_external_payloads_free_their_memory() {
    current(async {
        let (tx, mut rx) = open(WhenFull::DropOldest);
        let large = |number| message(1, number, 5000);
        for number in 0..50 {
            tx.try_send(large(number)).expect("never full");
            let stats = conserved(&tx.monitor(), u64::from(number) + 1);
            assert!(stats.queued_messages > 0, "the newest is never dropped: {stats:?}");
        }
        let queued: Vec<_> = std::iter::from_fn(|| rx.try_recv().ok()).collect();
        assert_eq!(queued.last().map(|m| check(m)), Some(Some((1, 49))));
        assert_eq!(tx.monitor().stats().external_bytes, 0);

        // External payloads in the active segment are dropped too.
        let (tx, mut rx) = open(WhenFull::DropOldest);
        (0..3).for_each(|number| tx.try_send(large(number)).expect("never full"));
        assert_eq!(conserved(&tx.monitor(), 3).dropped_messages, 2);
        assert_eq!(numbers(&mut rx), [2]);

        let (tx, _rx) = open(WhenFull::DropOldest);
        send(&tx, 0..64);
        tx.try_send(message(1, 50, 2 * SEGMENT)).expect("never full");
        let stats = conserved(&tx.monitor(), 65);
        assert_eq!(stats.queued_bytes, (2 * SEGMENT + 1600) as u64, "one segment of small ones stays");

        let (tx, mut rx) = open(WhenFull::DropNewest);
        let accepted = (0..).take_while(|_| {
            tx.try_send(vec![7; 5000]).expect("never full");
            tx.monitor().stats().dropped_messages == 0
        });
        assert_eq!(accepted.count(), 2);
        assert_eq!(conserved(&tx.monitor(), 3).dropped_bytes, 5000);
        assert_eq!(rx.try_recv().expect("the first").len(), 5000);
    });
}

#[test]
fn drop_policy_makes_every_send_succeed_without_waiting() {
    for when_full in [WhenFull::DropNewest, WhenFull::DropOldest] {
        paused(async move {
            let (mut tx, mut rx) = open(when_full);
            for number in 0..500 {
                let bytes = message(0, number, 100);
                match number % 4 {
                    0 => tx.send(bytes).await.expect("open"),
                    1 => tx.try_send(&bytes[..]).expect("open"),
                    2 => tx.send_timeout(bytes, ms(0)).await.expect("open"),
                    _ => tx.feed(Bytes::from(bytes)).await.expect("open"),
                }
            }
            assert_eq!(tx.monitor().stats().waiting_senders, 0);
            let stats = conserved(&tx.monitor(), 500);
            assert_eq!(stats.queued_messages, if when_full == WhenFull::DropNewest { 64 } else { 52 });
            tx.send(vec![7; 3 * SEGMENT]).await.expect_err("too large for any drop to help");
            rx.close();
            tx.send(vec![7; 100]).await.expect_err("closed");
            assert!(tx.try_send(vec![7; 100]).is_err());
            assert_eq!(numbers(&mut rx).len() as u64, stats.queued_messages);
            conserved(&tx.monitor(), 500);
        });
    }
}

/// A receiver that waits for a switch stays registered when the head moves past dropped segments.
#[test]
fn waiting_receiver_is_woken_after_drops_move_the_head() {
    current(async {
        let (mut tx, rx) = four_segments(WhenFull::DropOldest).on_demand(false).build().expect("valid");
        let mut first = Box::pin({
            let mut rx = rx.clone();
            async move { rx.recv().await }
        });
        assert!(poll_once(&mut first).is_pending());
        send(&tx, 0..65);
        let receiving = tokio::spawn(first);
        SinkExt::flush(&mut tx).await.expect("open");
        let m = receiving.await.expect("the receiver").expect("open");
        assert_eq!(check(&m), Some((0, 16)));
        conserved(&tx.monitor(), 65);
    });
}

/// The payload's `Drop` runs without a lock, and its panic is contained.
#[test]
fn dropped_payloads_may_read_stats_and_panic() {
    struct ReadsStatsOnDrop(Monitor, Arc<AtomicUsize>);
    impl AsRef<[u8]> for ReadsStatsOnDrop {
        fn as_ref(&self) -> &[u8] {
            &[7; 40_000]
        }
    }
    impl Drop for ReadsStatsOnDrop {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::Relaxed);
            assert!(self.0.stats().sent_messages % 5 != 0, "a payload that panics in its drop");
        }
    }
    for when_full in [WhenFull::DropNewest, WhenFull::DropOldest] {
        current(async move {
            let dropped = Arc::new(AtomicUsize::new(0));
            let (tx, mut rx) =
                turbostream::builder().max_bytes(1 << 20).when_full(when_full).build().expect("valid");
            for _ in 0..100 {
                tx.try_send(Bytes::from_owner(ReadsStatsOnDrop(tx.monitor(), dropped.clone())))
                    .expect("never full");
            }
            let stats = conserved(&tx.monitor(), 100);
            assert_eq!(stats.dropped_messages, dropped.load(Ordering::Relaxed) as u64);
            assert_eq!(
                std::iter::from_fn(|| rx.try_recv().ok()).map(leak).count() as u64,
                stats.queued_messages
            );
        });
    }
}

async fn under_load(when_full: WhenFull) {
    const SENT: u32 = 20_000;
    let (tx, rx) = open(when_full);
    let monitor = tx.monitor();
    let mut writers = JoinSet::new();
    for sender in 0..3 {
        let tx = tx.clone();
        writers.spawn(async move {
            for number in 0..SENT {
                let len = if number % 97 == 0 { 5000 } else { 20 + number as usize % 300 };
                tx.send(message(sender, number, len)).await.expect("open");
            }
        });
    }
    drop(tx);
    let mut readers = JoinSet::new();
    for method in 0..2 {
        let mut rx = rx.clone();
        readers.spawn(async move {
            let (mut got, mut next) = (0, [0; 3]);
            let mut verify = |m: &[u8]| {
                let (sender, number) = check(m).expect("a message header");
                assert!(number >= next[sender as usize], "sender {sender} went back to {number}");
                next[sender as usize] = number + 1;
                got += 1;
            };
            if method == 0 {
                while let Some(m) = rx.recv().await {
                    verify(&m);
                }
            } else {
                while let Some(batch) = rx.recv_batch(7).await {
                    batch.iter().for_each(&mut verify);
                }
            }
            got
        });
    }
    writers.join_all().await;
    let got: u64 = readers.join_all().await.into_iter().sum();
    let stats = conserved(&monitor, u64::from(3 * SENT));
    assert_eq!((stats.received_messages, stats.queued_messages), (got, 0), "{stats:?}");
    assert_eq!((stats.external_bytes, stats.sealed_bytes), (0, 0), "{stats:?}");
}

#[test]
fn concurrent_sends_and_reads_account_for_every_drop() {
    multi(under_load(WhenFull::DropNewest));
    multi(under_load(WhenFull::DropOldest));
    current(under_load(WhenFull::DropOldest));
}

#[test]
fn drop_policy_applies_to_send_many_and_send_with() {
    current(async {
        for when_full in [WhenFull::DropNewest, WhenFull::DropOldest] {
            let (tx, mut rx) = open(when_full);
            let many = (0..100).map(|number| message(0, number, 100));
            assert_eq!(tx.send_many(many).await.expect("never full"), 100, "{when_full:?}");
            for number in 100..140 {
                let write = move |buf: &mut [u8]| {
                    buf.copy_from_slice(&message(0, number, 100));
                    100
                };
                tx.send_with(100, write).await.map_err(drop).expect("never full");
            }
            let stats = conserved(&tx.monitor(), 140);
            assert!(stats.dropped_messages >= 140 - 64, "{when_full:?}: {stats:?}");
            let got = numbers(&mut rx);
            assert!(got.is_sorted() && got.len() as u64 == stats.queued_messages, "{when_full:?}: {got:?}");
            match when_full {
                WhenFull::DropNewest => assert_eq!(got, (0..64).collect::<Vec<_>>()),
                _ => assert_eq!(got.last(), Some(&139)),
            }
        }
    });
}

#[test]
fn nothing_is_dropped_for_a_message_that_cannot_fit() {
    current(async {
        let builder = turbostream::builder().when_full(WhenFull::DropOldest).read_mode(ReadMode::ZeroCopy);
        let (tx, mut rx) = builder.max_bytes(8 << 20).max_message_bytes(4 << 20).build().expect("valid");
        let mut lent = Vec::new();
        while tx.monitor().stats().lent_bytes <= 4 << 20 {
            tx.try_send(&[1; 32_000]).expect("never full");
            lent.push(rx.try_recv().expect("a message"));
        }
        for _ in 0..80 {
            tx.try_send(&[2; 32_000]).expect("never full");
        }
        let before = tx.monitor().stats();
        assert_eq!((before.queued_messages, before.dropped_messages), (80, 0));
        tx.try_send(vec![3; 4 << 20]).expect("never full");
        let after = tx.monitor().stats();
        assert_eq!((after.queued_messages, after.drops.newest, after.drops.oldest), (80, 1, 0));
        // With the lent memory back, the same message replaces older ones.
        drop(lent);
        tx.try_send(vec![3; 4 << 20]).expect("never full");
        let last = std::iter::from_fn(|| rx.try_recv().ok()).last();
        assert_eq!(last.map(|message| message.len()), Some(4 << 20));
        assert_eq!(tx.monitor().stats().drops.newest, 1);
    });
}

#[test]
fn message_that_fits_exactly_beside_what_is_lent_replaces_older_ones() {
    current(async {
        for (longer, newest) in [(0, 0), (1, 1)] {
            let max_bytes = 4 * SEGMENT + 100_000;
            let builder = four_segments(WhenFull::DropOldest).max_bytes(max_bytes);
            let (tx, mut rx) = builder.max_message_bytes(max_bytes - SEGMENT).build().expect("valid");
            send(&tx, 0..MESSAGES as u32);
            let lent = std::iter::from_fn(|| rx.try_recv().ok()).last();
            tx.try_send(vec![1; 50_000]).expect("never full");
            tx.try_send(vec![2; max_bytes - 2 * SEGMENT + longer]).expect("never full");
            let stats = tx.monitor().stats();
            assert_eq!(stats.drops.newest, newest, "{stats:?}");
            assert_eq!(stats.drops.oldest > 0, newest == 0, "{stats:?}");
            drop(lent);
        }
    });
}

#[test]
fn message_that_cannot_fit_beside_a_lent_segment_replaces_nothing() {
    current(async {
        let max_bytes = 4 * SEGMENT + 100_000;
        // A payload that was not read, in the active segment, of which a message is lent or none.
        for (is_lent, len, expected) in [
            (false, max_bytes - SEGMENT, (0, 1)),
            // The active segment is sealed before its payload is dropped, so the message needs another one.
            (true, max_bytes - 2 * SEGMENT, (0, 1)),
            (true, max_bytes - 2 * SEGMENT + 1, (1, 0)),
            (true, max_bytes - SEGMENT, (1, 0)),
        ] {
            let builder = four_segments(WhenFull::DropOldest).max_bytes(max_bytes);
            let (tx, mut rx) = builder.max_message_bytes(max_bytes - SEGMENT).build().expect("valid");
            send(&tx, 0..1);
            let lent = Some(rx.try_recv().expect("a message")).filter(|_| is_lent);
            tx.try_send(vec![1; 50_000]).expect("never full");
            tx.try_send(vec![2; len]).expect("never full");
            let stats = tx.monitor().stats();
            assert_eq!((stats.drops.newest, stats.drops.oldest), expected, "{stats:?}");
            assert_eq!(rx.try_recv().expect("a message").len(), if expected.0 == 0 { len } else { 50_000 });
            drop(lent);
        }
    });
}
