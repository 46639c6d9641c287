//! Small channels: segments that grow, and the background task that comes with them.

use std::time::Duration;

use crate::common::{advance, current, message, ms, paused, settle};
use tokio::runtime::Handle;
use turbostream::{BuildError, Builder, Linger, MessageCount, ReadMode, Sender, TimeWindow};

const KIB: usize = 1 << 10;

/// Returns what a segment takes of `max_bytes`.
const fn footprint(bytes: usize, messages: usize) -> usize {
    bytes + 8 * messages + 128
}

const FULL: usize = footprint(32 * KIB, 512);

fn growing() -> Builder {
    turbostream::builder()
        .segment_bytes(32 * KIB)
        .segment_messages(512)
        .max_bytes(20 * FULL)
        .read_mode(ReadMode::ZeroCopy)
        .strategy(MessageCount(usize::MAX))
}

fn active(tx: &Sender) -> usize {
    tx.monitor().stats().active_bytes
}

#[test]
fn segments_double_up_to_the_configured_size() {
    paused(async {
        let (tx, mut rx) = growing().build().expect("valid");
        let mut seen = Vec::new();
        while seen.last() != Some(&FULL) {
            tx.try_send(&[1; 64]).expect("room");
            let active = active(&tx);
            if seen.last() != Some(&active) {
                seen.push(active);
            }
            rx.try_recv().expect("a message");
        }
        let doubled = [4, 8, 16].map(|kib| footprint(kib * KIB, 16 * kib));
        assert_eq!(seen, [&doubled[..], &[FULL]].concat());
        let stats = tx.monitor().stats();
        assert_eq!(stats.memory_bytes(), FULL, "read small segments are freed: {stats:?}");
    });
}

#[test]
fn unread_small_segments_count_what_they_take() {
    paused(async {
        let (tx, mut rx) = growing().build().expect("valid");
        (0..64 + 128 + 256 + 1).for_each(|_| tx.try_send(&[1; 16]).expect("room"));
        let stats = tx.monitor().stats();
        let sealed = [4, 8, 16].map(|kib| footprint(kib * KIB, 16 * kib)).iter().sum::<usize>();
        assert_eq!((stats.sealed_bytes, stats.active_bytes), (sealed, FULL), "{stats:?}");
        let kept: Vec<_> = std::iter::from_fn(|| rx.try_recv().ok()).step_by(64).collect();
        let stats = tx.monitor().stats();
        assert_eq!((kept.len(), stats.lent_bytes), (8, sealed + FULL), "{stats:?}");
        drop(kept);
        assert_eq!(tx.monitor().stats().lent_bytes, 0);
    });
}

#[test]
fn long_message_gets_a_segment_that_holds_it() {
    paused(async {
        for (len, expected) in [
            (4 * KIB, footprint(4 * KIB, 64)),
            (4 * KIB + 1, footprint(8 * KIB, 128)),
            (10 * KIB, footprint(16 * KIB, 256)),
            (32 * KIB, FULL),
        ] {
            let (tx, mut rx) = growing().build().expect("valid");
            tx.try_send(&message(0, 0, len)[..]).expect("room");
            assert_eq!((active(&tx), tx.monitor().stats().external_bytes), (expected, 0), "{len}");
            rx.try_recv().expect("a message");
            tx.try_send(&message(0, 1, 32 * KIB)[..]).expect("room");
            assert_eq!(active(&tx), FULL, "after {len}");
        }
        let (tx, _rx) = growing().build().expect("valid");
        let mut many: Vec<_> = (0..100).map(|_| &[7; 100][..]).collect();
        assert_eq!(tx.send_many(many.drain(..)).await.expect("open"), 100);
        assert_eq!(active(&tx), footprint(8 * KIB, 128), "a range goes on in the next segment");
    });
}

/// Where memory is short, small segments would take the place of larger ones.
#[test]
fn channel_of_few_segments_uses_all_of_max_bytes() {
    paused(async {
        for segments in [2, 3, 4, 5, 8, 20] {
            let (tx, _rx) = growing().max_bytes(segments * FULL).build().expect("valid");
            tx.try_send(&[1; 1]).expect("room");
            let small = if segments > 4 { footprint(4 * KIB, 64) } else { FULL };
            assert_eq!(active(&tx), small, "of {segments}");
            let mut sent = 0;
            while tx.try_send(&message(0, 0, 30 * KIB)[..]).is_ok() {
                sent += 1;
            }
            assert!(sent >= segments - 1, "{sent} in {segments} segments");
            assert!(tx.monitor().stats().memory_bytes() <= segments * FULL);
        }
    });
}

/// There a full segment is what a receiver waits for.
#[test]
fn segments_that_are_not_cut_have_the_full_size_from_the_start() {
    paused(async {
        let (tx, mut rx) = growing().on_demand(false).strategy(MessageCount(500)).build().expect("valid");
        (0..500).for_each(|_| tx.try_send(&[1; 10]).expect("room"));
        assert_eq!(rx.try_recv_batch(1000).expect("sealed").len(), 500);
    });
}

#[test]
fn idle_channel_begins_small_again() {
    paused(async {
        let (tx, mut rx) = growing().build().expect("valid");
        for _ in 0..2 {
            (0..2000).for_each(|_| tx.try_send(&[1; 64]).expect("room"));
            while rx.try_recv().is_ok() {}
            assert_eq!(active(&tx), FULL);
            tokio::time::sleep(ms(5000)).await;
            assert_eq!(tx.monitor().stats().memory_bytes(), 0, "{:?}", tx.monitor().stats());
            tx.try_send(&[1; 64]).expect("room");
            assert_eq!(active(&tx), footprint(4 * KIB, 64));
            rx.try_recv().expect("a message");
        }
    });
}

fn alive() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

#[test]
fn few_messages_spawn_no_task() {
    paused(async {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let (tx, mut rx) = turbostream::builder().read_mode(mode).build().expect("valid");
            for _ in 0..64 {
                tx.send("one").await.expect("open");
                rx.recv().await.expect("open");
            }
            advance(ms(10)).await;
            assert_eq!((alive(), tx.monitor().stats().background_tasks), (0, 0));
            tx.send("in the second segment").await.expect("open");
            assert_eq!((alive(), tx.monitor().stats().background_tasks), (1, 1));
            drop((tx, rx));
            settle().await;
            assert_eq!(alive(), 0);
        }
    });
}

/// Without cuts, the first message needs its timer.
#[test]
fn first_message_is_timed_where_receivers_may_not_cut() {
    paused(async {
        let (tx, mut rx) =
            turbostream::builder().on_demand(false).strategy(Linger(ms(20))).build().expect("valid");
        assert_eq!(alive(), 0);
        tx.send("one").await.expect("open");
        assert_eq!(alive(), 1);
        let started = tokio::time::Instant::now();
        assert_eq!(rx.recv().await.as_deref(), Some(&b"one"[..]));
        assert!((ms(20)..ms(25)).contains(&started.elapsed()));
    });
}

/// Statistics show the switch that a background task would have made.
#[test]
fn switch_by_time_is_made_when_statistics_are_read() {
    paused(async {
        let (tx, _rx) = turbostream::builder().strategy(TimeWindow(ms(5))).build().expect("valid");
        tx.send("one").await.expect("open");
        assert_eq!(tx.monitor().stats().switches.total(), 0);
        advance(ms(10)).await;
        let stats = tx.monitor().stats();
        assert_eq!((stats.switches.strategy, stats.sealed_segments, alive()), (1, 1, 0), "{stats:?}");
    });
}

#[test]
fn time_driver_is_looked_for_in_each_runtime() {
    let untimed = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    current(async move {
        for _ in 0..2 {
            drop(turbostream::channel());
            let built = turbostream::builder().runtime(untimed.handle().clone()).build();
            assert!(matches!(built, Err(BuildError::NoTime)));
        }
        tokio::time::sleep(Duration::ZERO).await;
        drop(tokio::task::spawn_blocking(move || drop(untimed)).await);
    });
}
