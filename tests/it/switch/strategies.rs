//! When each strategy switches, under a paused clock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{advance, ms, paused, poll_once, settle};
use bytes::Bytes;
use futures::SinkExt;
use tokio::runtime::Handle;
use tokio::time::Instant;
use turbostream::{
    ActiveSegment, ByteCount, Linger, MessageCount, Receiver, Sender, SwitchLimits, SwitchStrategy,
    TimeWindow, TryRecvError, Weighted,
};

/// A channel that switches by strategy only: 100 messages a segment, no switch on demand.
fn by_strategy(strategy: impl SwitchStrategy) -> (Sender, Receiver) {
    turbostream::builder()
        .segment_bytes(64 << 10)
        .segment_messages(100)
        .strategy(strategy)
        .on_demand(false)
        .build()
        .expect("a valid configuration")
}

fn send(tx: &Sender, count: usize, len: usize) {
    for _ in 0..count {
        tx.try_send(vec![7; len]).expect("room");
    }
}

fn drain(rx: &mut Receiver) -> usize {
    std::iter::from_fn(|| rx.try_recv().ok()).count()
}

fn drain_some(rx: &mut Receiver, count: usize) {
    assert_eq!(std::iter::from_fn(|| rx.try_recv().ok()).take(count).count(), count);
}

/// Checks that no message is readable just before `moment`, and all are just after it.
async fn readable_at(rx: &mut Receiver, moment: Duration, count: usize) {
    advance(moment - ms(5)).await;
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty), "5 ms before {moment:?}");
    advance(ms(10)).await;
    assert_eq!(drain(rx), count, "5 ms after {moment:?}");
}

#[test]
fn time_window_switches_at_its_end() {
    paused(async {
        for count in [1, 3, 99] {
            let (tx, mut rx) = by_strategy(TimeWindow(ms(100)));
            send(&tx, count, 10);
            readable_at(&mut rx, ms(100), count).await;
            assert_eq!(tx.monitor().stats().switches.strategy, 1);
            // The window starts at the last switch: a message after an idle time is due at once.
            for idle in [1000, 150, 100_000] {
                advance(ms(idle)).await;
                send(&tx, count, 10);
                advance(ms(2)).await;
                assert_eq!(drain(&mut rx), count, "after {idle} ms without messages");
            }
            assert_eq!(tx.monitor().stats().switches.total(), 4);
        }
    });
}

#[test]
fn message_count_switches_exactly_at_its_count() {
    paused(async {
        let (tx, mut rx) = by_strategy(MessageCount(10));
        for _ in 0..5 {
            send(&tx, 9, 10);
            advance(ms(60_000)).await;
            assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
            send(&tx, 1, 10);
            settle().await;
            assert_eq!(drain(&mut rx), 10);
        }
        assert_eq!(tx.monitor().stats().switches.strategy, 5);
    });
}

#[test]
fn byte_count_switches_exactly_at_its_count() {
    paused(async {
        let (tx, mut rx) = by_strategy(ByteCount(1000));
        for _ in 0..5 {
            send(&tx, 9, 100);
            advance(ms(60_000)).await;
            assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
            send(&tx, 1, 100);
            settle().await;
            assert_eq!(drain(&mut rx), 10);
            // Exact to the byte, whatever the length of the last message.
            send(&tx, 1, 999);
            assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
            send(&tx, 1, 1);
            assert_eq!(drain(&mut rx), 2);
        }
    });
}

#[test]
fn byte_count_counts_external_payloads() {
    paused(async {
        let (tx, mut rx) = by_strategy(ByteCount(100_000));
        for _ in 0..3 {
            send(&tx, 1, 90_000);
            send(&tx, 9, 1024);
            assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
            send(&tx, 1, 1024);
            assert_eq!(drain(&mut rx), 11);
        }
    });
}

#[test]
fn weighted_limit_falls_as_time_passes() {
    paused(async {
        // 0.4 * elapsed / 1 s + 0.6 * messages / 100 >= 0.85
        for (messages, moment) in [(1, 1000), (70, 1000), (80, 925), (90, 775), (99, 640)] {
            let (tx, mut rx) = by_strategy(Weighted::new(ms(1000)));
            send(&tx, messages, 10);
            readable_at(&mut rx, ms(moment), messages).await;
        }
        let (tx, mut rx) = by_strategy(Weighted::new(ms(1000)));
        send(&tx, 80, 10);
        advance(ms(800)).await;
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty), "0.32 + 0.48 is below the threshold");
        send(&tx, 9, 10);
        advance(ms(1)).await;
        assert_eq!(drain(&mut rx), 89, "0.32 + 0.534 reaches the threshold");
    });
}

#[test]
fn linger_counts_from_the_first_unread_message() {
    paused(async {
        let (tx, mut rx) = by_strategy(Linger(ms(100)));
        for pause in [0, 1, 99, 100, 101, 150, 1000, 100_000] {
            advance(ms(pause)).await;
            send(&tx, 1, 10);
            advance(ms(50)).await;
            send(&tx, 9, 10); // later messages do not delay the first one
            readable_at(&mut rx, ms(50), 10).await;
        }
        assert_eq!(tx.monitor().stats().switches.strategy, 8);
        send(&tx, 1, 10);
        advance(ms(60)).await;
        tx.switch();
        send(&tx, 1, 10); // after a switch that was requested, the next one counts anew
        advance(ms(60)).await;
        assert_eq!(drain(&mut rx), 1);
        advance(ms(45)).await;
        assert_eq!(drain(&mut rx), 1);
    });
}

/// Bursts after a pause: the first row of each waits for the others, as with `chunks_timeout`.
#[test]
fn linger_gathers_a_burst_after_a_pause() {
    paused(async {
        let (tx, mut rx) = by_strategy(Linger(ms(20)));
        let sending = tokio::spawn(async move {
            for _ in 0..4 {
                tokio::time::sleep(ms(1000)).await;
                for _ in 0..10 {
                    tx.send("row").await.expect("open");
                    tokio::time::sleep(ms(1)).await;
                }
            }
            tokio::time::sleep(ms(1000)).await;
        });
        let mut sizes = Vec::new();
        while let Some(batch) = rx.recv_batch(500).await {
            sizes.push(batch.len());
        }
        assert_eq!(sizes, [10, 10, 10, 10]);
        sending.await.expect("no panic");
    });
}

/// A message after a cut, on a channel that switches on demand, waits as long as any other one.
#[test]
fn linger_counts_from_the_first_message_after_a_cut() {
    paused(async {
        let (tx, mut rx) = turbostream::builder().strategy(Linger(ms(100))).build().expect("valid");
        for pause in [50, 150, 1000] {
            send(&tx, 2, 10);
            assert_eq!(drain(&mut rx), 2); // a cut
            let before = tx.monitor().stats().switches.strategy;
            advance(ms(pause)).await;
            send(&tx, 1, 10);
            advance(ms(95)).await;
            assert_eq!(tx.monitor().stats().switches.strategy, before, "{pause} ms after the cut");
            advance(ms(10)).await;
            assert_eq!(tx.monitor().stats().switches.strategy, before + 1);
            assert_eq!(drain(&mut rx), 1);
        }
    });
}

/// The time of a message that wakes a receiver is not recorded, as that receiver cuts. The message has the age that it has
/// reached since a strategy was first asked, and not that of the messages before the cut.
#[test]
fn message_that_wakes_a_receiver_ages_once_a_strategy_is_asked() {
    paused(async {
        let (tx, mut rx) = turbostream::builder().strategy(MessageCount(usize::MAX)).build().expect("valid");
        send(&tx, 1, 10);
        assert_eq!(drain(&mut rx), 1);
        let mut woken_and_never_polled = Box::pin(rx.recv());
        assert!(poll_once(&mut woken_and_never_polled).is_pending());
        advance(ms(1000)).await;
        send(&tx, 1, 10);
        tx.set_strategy(Linger(ms(100)));
        assert_eq!(tx.monitor().stats().switches.strategy, 0, "the message is new");
        advance(ms(105)).await;
        assert_eq!(tx.monitor().stats().switches.strategy, 1);
        drop(woken_and_never_polled);
    });
}

#[test]
fn elapsed_counts_from_the_last_switch_and_age_from_the_first_unread_message() {
    /// Stores what it is asked about.
    struct Asked(Arc<Mutex<Option<ActiveSegment>>>);
    impl SwitchStrategy for Asked {
        fn should_switch(&self, active: &ActiveSegment) -> bool {
            *self.0.lock().expect("not poisoned") = Some(*active);
            false
        }
        fn limits(&self, _: &ActiveSegment) -> SwitchLimits {
            SwitchLimits::EVERY_MESSAGE
        }
        fn next_check(&self, _: &ActiveSegment) -> Option<Duration> {
            None
        }
    }
    paused(async {
        let asked = Arc::default();
        let (tx, mut rx) = turbostream::builder().strategy(Asked(Arc::clone(&asked))).build().expect("valid");
        let assert_last = |messages, elapsed, age| {
            let last: ActiveSegment = asked.lock().expect("not poisoned").expect("asked");
            let times = (last.elapsed.as_millis(), last.age.as_millis());
            assert_eq!((last.messages, times), (messages, (elapsed, age)));
        };
        send(&tx, 1, 10);
        tx.switch();
        advance(ms(10)).await;
        send(&tx, 1, 10);
        assert_last(1, 10, 0);
        advance(ms(5)).await;
        send(&tx, 1, 10);
        assert_last(2, 15, 5);
        assert_eq!(drain(&mut rx), 3); // a cut, which is on demand
        advance(ms(5)).await;
        send(&tx, 1, 10);
        assert_last(1, 20, 0);
        advance(ms(5)).await;
        send(&tx, 1, 10);
        assert_last(2, 25, 5);
        tx.switch();
        send(&tx, 1, 10);
        assert_last(1, 0, 0);
    });
}

#[test]
fn full_segment_switches_under_any_strategy() {
    paused(async {
        let (tx, mut rx) = by_strategy(TimeWindow(Duration::from_secs(3600)));
        send(&tx, 100, 10);
        send(&tx, 1, 10);
        settle().await;
        assert_eq!(drain(&mut rx), 100, "by messages");
        send(&tx, 3, 30_000);
        settle().await;
        assert_eq!(drain(&mut rx), 3, "by bytes: the message before, and the two that fit");
        assert_eq!(tx.monitor().stats().switches.full, 2);
    });
}

/// Before a sender waits for room, the channel switches, so that receivers see the messages that fill it.
#[test]
fn full_channel_switches_before_a_sender_waits() {
    for len in [100, 5000, 40_000, 100_000] {
        paused(async move {
            let (tx, mut rx) = turbostream::builder()
                .segment_bytes(1 << 20)
                .segment_messages(1024)
                .max_bytes(5 << 19)
                .strategy(MessageCount(usize::MAX))
                .on_demand(false)
                .build()
                .expect("valid");
            let writing = tokio::spawn(async move {
                for _ in 0..1_000_000 / len {
                    tx.send(vec![7; len]).await.expect("open");
                }
                tx.send(vec![8; 5 << 18]).await.expect("open");
                tx.send(vec![8; 5 << 18]).await.expect("open");
            });
            let mut seen = 0;
            while let Some(m) = rx.recv().await {
                seen += m.len();
            }
            writing.await.expect("no panic in the sender");
            assert_eq!(seen, 1_000_000 + 2 * (5 << 18), "{len}");
        });
    }
}

#[test]
fn custom_strategy_decides_the_switch() {
    struct Custom(Arc<AtomicUsize>);
    impl SwitchStrategy for Custom {
        fn should_switch(&self, active: &ActiveSegment) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed);
            assert!((active.capacity_messages, active.capacity_bytes) == (100, 64 << 10));
            active.elapsed >= ms(300) || active.messages >= 20 || active.bytes >= 5000
        }
    }
    paused(async {
        let asked = Arc::new(AtomicUsize::new(0));
        for (messages, len) in [(20, 10), (5, 1000), (17, 300)] {
            let (tx, mut rx) = by_strategy(Custom(asked.clone()));
            send(&tx, messages, len);
            advance(ms(20)).await;
            assert_eq!(drain(&mut rx), messages, "{messages} messages of {len}");
        }
        let (tx, mut rx) = by_strategy(Custom(asked.clone()));
        send(&tx, 1, 10);
        advance(ms(250)).await;
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        advance(ms(70)).await;
        assert_eq!(drain(&mut rx), 1, "by time");
        assert!(asked.load(Ordering::Relaxed) > 0);
    });
}

#[test]
fn panicking_strategy_leaves_channel_working() {
    struct Panics;
    impl SwitchStrategy for Panics {
        fn should_switch(&self, _: &ActiveSegment) -> bool {
            panic!("a panic on purpose")
        }
    }
    paused(async {
        let (mut tx, mut rx) = by_strategy(Panics);
        for round in 0..3 {
            send(&tx, 250, 10);
            advance(ms(50)).await;
            SinkExt::flush(&mut tx).await.expect("open");
            assert_eq!(drain(&mut rx), 250, "round {round}");
        }
        assert!(tx.monitor().stats().panics > 0);
        drop(tx);
        assert_eq!(rx.recv().await, None);
    });
}

#[test]
fn waiting_receiver_is_served_on_demand_at_once() {
    paused(async {
        let (tx, mut rx) =
            turbostream::builder().strategy(TimeWindow(Duration::from_secs(5))).build().expect("valid");
        let before = Instant::now();
        send(&tx, 1, 10);
        assert_eq!(rx.recv().await, Some(Bytes::from(vec![7; 10])));
        let waiting = tokio::spawn(async move { (rx.recv().await, rx) });
        settle().await;
        send(&tx, 1, 20);
        let (got, mut rx) = waiting.await.expect("no panic in the receiver");
        assert_eq!(got, Some(Bytes::from(vec![7; 20])));
        send(&tx, 1, 30);
        assert_eq!(rx.try_recv(), Ok(Bytes::from(vec![7; 30])), "`try_recv` demands a switch, too");
        assert_eq!(Instant::now(), before, "no time passed");
        let switches = tx.monitor().stats().switches;
        assert_eq!((switches.on_demand, switches.total()), (3, 3));
    });
}

#[test]
fn waiting_receiver_without_on_demand_waits_for_strategy() {
    paused(async {
        let (mut tx, mut rx) = by_strategy(TimeWindow(ms(1000)));
        let before = Instant::now();
        send(&tx, 2, 10);
        assert_eq!(rx.recv().await, Some(Bytes::from(vec![7; 10])));
        assert!((ms(1000)..ms(1005)).contains(&before.elapsed()), "after {:?}", before.elapsed());
        assert!(rx.recv().await.is_some());
        let before = Instant::now();
        send(&tx, 1, 10);
        SinkExt::flush(&mut tx).await.expect("open");
        assert!(rx.recv().await.is_some());
        assert_eq!(before.elapsed(), Duration::ZERO, "a flush switches");
        assert_eq!(tx.monitor().stats().switches.requested, 1);
    });
}

#[test]
fn idle_channel_makes_no_wakeups() {
    struct Counting(Arc<AtomicUsize>);
    impl SwitchStrategy for Counting {
        fn should_switch(&self, active: &ActiveSegment) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed);
            active.messages > 0 && active.elapsed >= ms(5)
        }
    }
    paused(async {
        let asked = Arc::new(AtomicUsize::new(0));
        let (own_tx, mut own_rx) = by_strategy(Counting(asked.clone()));
        let (tx, mut rx) = by_strategy(TimeWindow(ms(5)));
        let (demand_tx, mut demand_rx) = turbostream::channel();
        for (tx, rx) in [(&own_tx, &mut own_rx), (&tx, &mut rx), (&demand_tx, &mut demand_rx)] {
            send(tx, 10, 10);
            advance(ms(50)).await;
            assert_eq!(drain(rx), 10);
        }
        let waiting = tokio::spawn(async move { demand_rx.recv().await });
        tokio::time::sleep(Duration::from_secs(60)).await; // the pool has been trimmed
        let (parks, asks) = (Handle::current().metrics().worker_park_count(0), asked.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
        let parks = Handle::current().metrics().worker_park_count(0) - parks;
        assert!(parks < 50, "{parks} wakeups in an idle day");
        assert_eq!(asked.load(Ordering::Relaxed), asks, "the strategy of an idle channel was called");
        drop(demand_tx);
        assert_eq!(waiting.await.expect("no panic in the receiver"), None);
    });
}

/// The switch serves no receiver. A segment for each nearly empty switch would use up the ring.
#[test]
fn unread_trickle_uses_a_quarter_of_segments_then_fills_them() {
    let one = 4096 + 8 * 64 + 128;
    let builder = || turbostream::builder().segment_bytes(4096).segment_messages(64).max_bytes(20 * one);
    for builder in [builder().strategy(TimeWindow(ms(5))), builder().strategy(Linger(ms(5))), builder()] {
        paused(async move {
            let (tx, mut rx) = builder.on_demand(false).build().expect("valid");
            let mut sent = 0;
            while tx.try_send("a").is_ok() {
                sent += 1;
                advance(ms(6)).await;
            }
            assert_eq!(
                sent,
                5 + 15 * 64,
                "a quarter of the segments hold one message each, the others are full"
            );
            let stats = tx.monitor().stats();
            assert_eq!((stats.switches.strategy, stats.switches.full), (5, 15), "{stats:?}");
            assert_eq!(std::iter::from_fn(|| rx.try_recv().ok()).count(), sent);
            for _ in 0..200 {
                tx.try_send("a").expect("room");
                advance(ms(6)).await;
            }
            assert_eq!(tx.monitor().stats().switches.strategy, 5 + 5);
            // Once the backlog is received, the deferred switch is made.
            assert_eq!(std::iter::from_fn(|| rx.try_recv().ok()).count(), 200);
            assert_eq!(tx.monitor().stats().switches.strategy, 5 + 6);
        });
    }
}

/// A count that is reached says how large the batches shall be. Time says only how long they may wait.
#[test]
fn unread_messages_are_sealed_by_count_up_to_three_quarters_of_segments() {
    paused(async {
        let one = 4096 + 8 * 64 + 128;
        let builder = turbostream::builder().segment_bytes(4096).segment_messages(64).max_bytes(20 * one);
        let (tx, mut rx) = builder.strategy(MessageCount(2)).on_demand(false).build().expect("valid");
        while tx.try_send("a").is_ok() {}
        assert_eq!(tx.len(), 15 * 2 + 5 * 64);
        for _ in 0..15 {
            assert_eq!(rx.try_recv_batch(64).expect("sealed").len(), 2);
        }
        assert_eq!(rx.try_recv_batch(64).expect("sealed").len(), 64);
    });
}

/// What a channel of default segments holds while its receiver stalls, with 7 messages in each window of the strategy.
#[test]
fn stall_with_slow_senders_fills_most_of_the_memory() {
    paused(async {
        let (tx, _rx) = turbostream::builder().max_bytes(4 << 20).build().expect("valid");
        while (0..7).all(|_| tx.try_send([b'a'; 120]).is_ok()) {
            advance(ms(5)).await;
        }
        let stats = tx.monitor().stats();
        assert!(stats.queued_bytes >= 2 << 20, "{stats:?}");
    });
}

/// A waiting receiver gets the message before its cut. A message after it, with no waiter, is left to the strategy.
#[test]
fn message_after_cut_is_switched_when_window_ends() {
    paused(async {
        let builder = turbostream::builder().strategy(TimeWindow(ms(5)));
        let (tx, mut rx) = builder.build().expect("valid");
        let reader = tokio::spawn(async move { (rx.recv().await, rx) });
        settle().await;
        tx.try_send("received at once").expect("room");
        let (received, _rx) = reader.await.expect("no panic");
        assert_eq!(received.as_deref(), Some(&b"received at once"[..]));
        // Between two trims of the pool by the background task.
        tokio::time::sleep(ms(1100)).await;
        tx.try_send("after the cut").expect("room");
        advance(ms(10)).await;
        assert_eq!(tx.monitor().stats().switches.strategy, 1);
    });
}

#[test]
fn deferred_switch_makes_no_wakeups() {
    paused(async {
        let (tx, mut rx) = turbostream::builder()
            .segment_bytes(4096)
            .segment_messages(4)
            .max_bytes(40 << 10)
            .strategy(TimeWindow(ms(5)))
            .on_demand(false)
            .build()
            .expect("a valid configuration");
        while tx.try_send([7; 100]).is_ok() {}
        let queued = tx.len();
        drain_some(&mut rx, 4);
        tx.try_send([7; 100]).expect("room");
        settle().await;
        let parks = Handle::current().metrics().worker_park_count(0);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let parks = Handle::current().metrics().worker_park_count(0) - parks;
        assert!(parks < 50, "{parks} wakeups while no receiver reads");
        drain_some(&mut rx, queued - 4);
        advance(ms(10)).await;
        assert_eq!(drain(&mut rx), 1);
    });
}

#[test]
fn strategy_is_swapped_while_messages_are_queued() {
    paused(async {
        let (tx, mut rx) = by_strategy(MessageCount(1000));
        send(&tx, 7, 10);
        advance(ms(60_000)).await;
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        tx.set_strategy(MessageCount(7));
        assert_eq!(drain(&mut rx), 7, "the queued messages reach the new count");
        send(&tx, 6, 10);
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        send(&tx, 1, 10);
        assert_eq!(drain(&mut rx), 7, "the limits are the new ones");

        // From a strategy without a time window to one with a window, with and without queued messages, then to a shorter window.
        send(&tx, 1, 10);
        tx.set_strategy(TimeWindow(ms(100_000)));
        advance(ms(30_000)).await;
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        tx.set_strategy(TimeWindow(ms(30_010)));
        readable_at(&mut rx, ms(10), 1).await;
        tx.set_strategy(MessageCount(1000));
        tx.set_strategy(TimeWindow(ms(50)));
        advance(ms(50)).await;
        send(&tx, 3, 10);
        advance(ms(2)).await;
        assert_eq!(drain(&mut rx), 3);

        // And back: time alone no longer causes a switch.
        send(&tx, 3, 10);
        tx.set_strategy(ByteCount(100));
        advance(ms(60_000)).await;
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        send(&tx, 7, 10);
        assert_eq!(drain(&mut rx), 10);
        send(&tx, 3, 10);
        tx.set_strategy(MessageCount(3));
        assert_eq!(drain(&mut rx), 3, "in any segment");
        assert_eq!(tx.monitor().stats().switches.total(), 6);
    });
}

/// These strategies use the channel that calls them, and panic when they are dropped.
#[test]
fn swapped_strategies_run_and_are_dropped_without_lock() {
    struct Nested(Sender);
    impl SwitchStrategy for Nested {
        fn should_switch(&self, active: &ActiveSegment) -> bool {
            if active.messages == 2 {
                self.0.set_strategy(MessageCount(4));
            }
            false
        }
        fn limits(&self, active: &ActiveSegment) -> turbostream::SwitchLimits {
            assert!(self.0.len() >= active.messages);
            turbostream::SwitchLimits::EVERY_MESSAGE
        }
    }
    impl Drop for Nested {
        fn drop(&mut self) {
            assert!(self.0.is_empty(), "a panic on purpose, as messages are queued");
        }
    }
    paused(async {
        let (tx, mut rx) = by_strategy(MessageCount(1000));
        tx.set_strategy(Nested(tx.clone()));
        send(&tx, 3, 10);
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty), "the strategy was swapped for a count of four");
        send(&tx, 1, 10);
        assert_eq!(drain(&mut rx), 4);
        drop(tx);
        assert_eq!(rx.recv().await, None, "the strategy's own sender was dropped with it");
    });
}

#[test]
fn strategies_are_swapped_while_senders_send() {
    crate::common::multi(async {
        let (tx, mut rx) = by_strategy(MessageCount(50));
        let mut senders = tokio::task::JoinSet::new();
        for sender in 0..3 {
            let tx = tx.clone();
            senders.spawn(async move {
                for number in 0..20_000 {
                    tx.send(crate::common::message(sender, number, 20)).await.expect("open");
                }
            });
        }
        let reading = tokio::spawn(async move {
            let mut next = [0; 3];
            while next.iter().sum::<u32>() < 60_001 {
                let m = rx.recv().await.expect("open");
                let (sender, number) = crate::common::check(&m).expect("has a header");
                assert_eq!(next[sender as usize], number);
                next[sender as usize] += 1;
            }
            next
        });
        for round in 0..2000 {
            match round % 3 {
                0 => tx.set_strategy(TimeWindow(Duration::from_micros(200))),
                1 => tx.set_strategy(MessageCount(round % 90 + 1)),
                _ => tx.set_strategy(Weighted::new(ms(1))),
            }
            tokio::task::yield_now().await;
        }
        // The last swap must take effect, whatever the ones before raced with: only it makes the last message readable.
        senders.join_all().await;
        tx.set_strategy(MessageCount(1));
        tx.send(crate::common::message(0, 20_000, 20)).await.expect("open");
        assert_eq!(reading.await.expect("no panic in the receiver"), [20_001, 20_000, 20_000]);
    });
}
