//! The state after a receiver cuts the active segment: later messages, waiters, room and the strategy timer.

use std::task::{Context, Waker};
use std::time::Duration;

use crate::common::{advance, ms, paused, poll_once, settle};
use bytes::Bytes;
use futures::SinkExt;
use turbostream::{ActiveSegment, Builder, MessageCount, ReadMode, SwitchStrategy, TimeWindow};

/// Segments of 1000 bytes. The strategy never switches, so no strategy timer is armed for unread messages.
fn segments(count: usize) -> Builder {
    turbostream::builder()
        .segment_bytes(1000)
        .segment_messages(16)
        .max_bytes(count * (1000 + 16 * 8 + 128))
        .strategy(MessageCount(usize::MAX))
}

/// A receiver finds a segment sealed at its cut, with no message after it, and advances the head. Sleeping receivers are
/// registered at the old head position.
#[test]
fn unsuccessful_poll_moves_sleeping_waiters_with_the_head() {
    paused(async {
        // The background task checks waiters when it trims the pool. Here it trims late.
        let (tx, mut rx) = segments(2).pool_idle(Duration::from_secs(3600)).build().expect("valid");
        rx.set_read_mode(ReadMode::ZeroCopy);
        tx.try_send(&[0; 600]).expect("room");
        let lent = rx.try_recv().expect("a message");
        tx.try_send(&[1; 600]).expect("room in the second segment");
        let lent_too = rx.try_recv().expect("a message");

        let (mut first, mut second) = (rx.clone(), rx.clone());
        let mut woken_and_never_polled = Box::pin(async move { first.recv().await });
        assert!(poll_once(&mut woken_and_never_polled).is_pending());
        let second = tokio::spawn(async move { second.recv().await });
        settle().await;

        assert!(tx.try_send(&[2; 600]).is_err(), "both segments are lent, and now the second one is sealed");
        assert!(rx.try_recv().is_err(), "this poll moves the head past that segment");
        drop(lent);
        advance(ms(100)).await;
        tx.try_send(&[2; 600]).expect("room again");
        let received = tokio::time::timeout(ms(60_000), second).await;
        assert_eq!(
            received.expect("a receiver sleeps beside a message").expect("no panic").unwrap(),
            vec![2; 600]
        );
        drop(lent_too);
    });
}

/// A message that was cut and not yet received is at the head: in no sealed segment, and not unread in the active one.
#[test]
fn receiver_after_unpolled_one_gets_cut_message() {
    paused(async {
        let (tx, rx) = segments(4).build().expect("valid");
        let waiting = |mut rx: turbostream::Receiver| Box::pin(async move { rx.recv().await });
        let (mut first, mut second) = (waiting(rx.clone()), waiting(rx.clone()));
        assert!(poll_once(&mut first).is_pending() && poll_once(&mut second).is_pending());
        let third = tokio::spawn(waiting(rx.clone()));
        settle().await;
        tx.try_send("1").expect("room");
        tx.try_send("2").expect("room");
        assert!(
            poll_once(&mut first).is_ready(),
            "the first receiver cuts both, receives one, and wakes the second"
        );
        // The second is not polled. After 10 ms the third is woken too.
        let received = tokio::time::timeout(ms(1000), third).await;
        assert_eq!(received.expect("a receiver sleeps beside a message").expect("no panic").unwrap(), "2");
        drop(second);
    });
}

/// The head is still at a sealed and fully read segment. The message is in the next one.
#[test]
fn receiver_after_unpolled_one_gets_message_after_drained_segment() {
    paused(async {
        let (tx, mut rx) = segments(4).build().expect("valid");
        tx.try_send(&[1; 600]).expect("room");
        rx.try_recv().expect("a message");
        let waiting = |mut rx: turbostream::Receiver| Box::pin(async move { rx.recv().await });
        let mut unpolled = waiting(rx.clone());
        assert!(poll_once(&mut unpolled).is_pending());
        let other = tokio::spawn(waiting(rx.clone()));
        settle().await;
        tx.try_send(&[2; 600]).expect("room in the second segment");
        let received = tokio::time::timeout(ms(1000), other).await;
        assert_eq!(
            received.expect("a receiver sleeps beside a message").expect("no panic").unwrap(),
            vec![2; 600]
        );
    });
}

fn parks() -> u64 {
    tokio::runtime::Handle::current().metrics().worker_park_count(0)
}

async fn assert_no_wakeups_in_a_day() {
    let before = parks();
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    let parks = parks() - before;
    assert!(parks < 50, "{parks} wakeups in an idle day");
}

#[test]
fn drained_closed_channel_holds_no_memory_and_makes_no_wakeups() {
    paused(async {
        let (tx, mut rx) = turbostream::channel();
        tx.send("1").await.expect("open");
        assert_eq!(rx.recv().await.unwrap(), "1");
        drop(tx);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let stats = rx.monitor().stats();
        assert_no_wakeups_in_a_day().await;
        assert_eq!(stats.memory_bytes(), 0, "{stats:?}");
    });
}

/// The background task checks for stuck waiters, finds no message for them, and does not check again.
#[test]
fn receivers_waiting_after_others_make_no_wakeups() {
    paused(async {
        let (tx, rx) = turbostream::channel();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let mut rx = rx.clone();
                tokio::spawn(async move { rx.recv().await })
            })
            .collect();
        settle().await;
        tx.send("1").await.expect("open");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(tx.monitor().stats().waiting_receivers, 2, "one receiver has the message");
        assert_no_wakeups_in_a_day().await;
        drop(tx);
        for receiver in waiting {
            receiver.await.expect("no panic");
        }
    });
}

#[test]
fn message_after_cut_without_waiters_makes_no_wakeups() {
    paused(async {
        let (tx, mut rx) = turbostream::channel();
        tx.send("1").await.expect("open");
        assert_eq!(rx.recv().await.unwrap(), "1");
        tx.send("2").await.expect("open");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_no_wakeups_in_a_day().await;
        assert_eq!(rx.recv().await.unwrap(), "2");
    });
}

/// A sender seals a fully read segment. Only the next poll of a receiver retires it, and there may be no such poll: one
/// task may both receive and wait for room.
#[test]
fn fully_read_segment_is_room_for_a_sender() {
    paused(async {
        let (tx, mut rx) = turbostream::builder()
            .segment_bytes(10_000)
            .segment_messages(16)
            .max_bytes(40_000)
            .max_message_bytes(20_000)
            .build()
            .expect("valid");
        tx.try_send(&[0; 9_990]).expect("room");
        rx.try_recv().expect("a message");
        assert!(rx.is_empty());
        // This payload and two segments exceed the limit, but the first segment is fully read.
        let large = Bytes::from(vec![1; 20_000]);
        let sent = tokio::time::timeout(Duration::from_secs(3600), tx.send(large)).await;
        let stats = tx.monitor().stats();
        assert!(sent.is_ok(), "a sender waits beside an empty channel: {stats:?}");
    });
}

/// The same beside lent memory. `Full` would be wrong: all but one segment is neither lent nor holds a message.
#[test]
fn fully_read_segment_is_room_beside_lent_memory() {
    paused(async {
        let (tx, mut rx) = segments(2).build().expect("valid");
        rx.set_read_mode(ReadMode::ZeroCopy);
        tx.try_send(&[0; 600]).expect("room");
        let lent = rx.try_recv().expect("a message");
        rx.set_read_mode(ReadMode::Safe);
        for round in 1..10 {
            let sent = tx.try_send(&[round; 600]).map_err(|_| ());
            let stats = tx.monitor().stats();
            assert!(sent.is_ok(), "round {round}: {stats:?}");
            assert_eq!(rx.try_recv().expect("a message"), vec![round; 600]);
        }
        drop(lent);
    });
}

/// The strategy timer stays armed for one more window after a switch. A message of that time may be due earlier.
#[test]
fn strategy_switches_on_time_while_timer_is_still_armed() {
    paused(async {
        let (mut tx, mut rx) =
            segments(4).strategy(TimeWindow(ms(100))).on_demand(false).build().expect("valid");
        tx.try_send("1").expect("room");
        advance(ms(60)).await;
        SinkExt::flush(&mut tx).await.expect("open"); // the last switch
        advance(ms(45)).await; // the strategy timer fired at 100 ms
        tx.try_send("2").expect("room");
        advance(ms(60)).await;
        let switches = tx.monitor().stats().switches;
        assert_eq!((switches.requested, switches.strategy), (1, 1), "105 ms after the last switch");
        assert_eq!((rx.recv().await.unwrap(), rx.recv().await.unwrap()), ("1".into(), "2".into()));
    });
}

/// For an empty segment, `next_check` says how long the background task may sleep if no message arrives.
#[test]
fn next_check_of_empty_segment_does_not_delay_first_message() {
    struct Soon;
    impl SwitchStrategy for Soon {
        fn should_switch(&self, active: &ActiveSegment) -> bool {
            active.messages > 0 && active.elapsed >= ms(5)
        }
        fn next_check(&self, active: &ActiveSegment) -> Option<Duration> {
            let is_empty = active.messages == 0;
            Some(if is_empty { Duration::from_secs(3600) } else { ms(5).saturating_sub(active.elapsed) })
        }
    }
    paused(async {
        let (tx, mut rx) = segments(4).strategy(Soon).on_demand(false).build().expect("valid");
        for message in ["1", "2", "3"] {
            let from = tokio::time::Instant::now();
            tx.send(message).await.expect("open");
            assert_eq!(rx.recv().await.unwrap(), message);
            let waited = from.elapsed();
            assert!(waited < ms(20), "{message} was due after 5 ms at most; it took {waited:?}");
        }
    });
}

/// Limits that were set for messages after a cut, in a segment that ends without a switch.
#[test]
fn limits_set_at_cut_end_with_the_segment() {
    paused(async {
        for idle in [false, true] {
            let (tx, mut rx) = segments(4).strategy(MessageCount(2)).build().expect("valid");
            for _ in 0..8 {
                tx.try_send(&[0; 100]).expect("room");
                rx.try_recv().expect("a message");
            }
            if idle {
                advance(Duration::from_secs(60)).await;
                for _ in 0..10 {
                    advance(Duration::from_secs(1)).await;
                }
                assert_eq!(tx.monitor().stats().memory_bytes(), 0, "the drained active segment was released");
            }
            for _ in 0..2 {
                tx.try_send(&[0; 300]).expect("room"); // in the next segment
            }
            let stats = tx.monitor().stats();
            assert_eq!(stats.switches.strategy, 1, "two messages, after an idle time: {idle}, {stats:?}");
        }
    });
}

/// Polling a completed future is a caller's mistake. It may panic; it must not send again.
#[test]
fn completed_send_does_not_send_again() {
    paused(async {
        let (tx, rx) = segments(4).build().expect("valid");
        tx.try_send("room from now on").expect("room");
        let mut send = Box::pin(tx.send("once"));
        assert!(poll_once(&mut send).is_ready());
        let again = std::panic::AssertUnwindSafe(|| poll_once(&mut send).is_ready());
        let _ = std::panic::catch_unwind(again);
        assert_eq!(rx.len(), 2);
    });
}

/// A sender seals a segment that still holds the last cut message, and sleeps. Receiving that message makes room.
#[test]
fn receiving_last_cut_message_of_sealed_segment_makes_room() {
    paused(async {
        let (tx, mut rx) = segments(2).pool_idle(Duration::from_secs(3600)).build().expect("valid");
        rx.set_read_mode(ReadMode::ZeroCopy);
        tx.try_send(&[0; 600]).expect("room");
        let lent = rx.try_recv().expect("a message");
        rx.set_read_mode(ReadMode::Safe);
        tx.try_send(&[1; 500]).expect("room in the second segment");
        tx.try_send(&[2; 400]).expect("room in the same segment");
        assert_eq!(rx.try_recv().expect("a message"), vec![1; 500]);
        let sender = tokio::spawn(async move { tx.send(&[3; 600]).await.is_ok() });
        settle().await;
        assert!(!sender.is_finished());
        assert_eq!(rx.try_recv().expect("a message"), vec![2; 400]);
        let sent = tokio::time::timeout(Duration::from_secs(60), sender).await;
        let stats = rx.monitor().stats();
        assert!(sent.is_ok(), "a sender sleeps beside an empty channel: {stats:?}");
        drop(lent);
    });
}

/// Padding at the end of a segment does not keep its memory in use.
#[test]
fn trailing_padding_of_read_segment_is_room_for_a_sender() {
    crate::common::current(async {
        let segment = 64 + 8 * 2 + 128;
        let channel = turbostream::builder().segment_bytes(64).segment_messages(2).max_bytes(2 * segment);
        let (tx, mut rx) = channel.build().expect("valid");
        tx.try_send("1").expect("room");
        let panicking = tokio::spawn({
            let tx = tx.clone();
            async move { tx.send_with(1, |_: &mut [u8]| panic!("on purpose")).await.map_err(drop) }
        });
        assert!(panicking.await.is_err_and(|error| error.is_panic()));
        tx.try_send("2").expect("room");
        tx.try_send("3").expect("room");
        assert_eq!(rx.try_recv().expect("a message"), "1");
        tx.try_send("4").expect("only padding is left in the first segment");
        let rest: Vec<_> = std::iter::from_fn(|| rx.try_recv().ok()).collect();
        assert_eq!(rest, ["2", "3", "4"]);
    });
}

/// The receiver was notified of the message, so no strategy timer is armed, and then it is dropped.
#[test]
fn message_of_dropped_receive_is_switched_by_the_strategy() {
    paused(async {
        for poll in [false, true] {
            let trims_late = segments(4).pool_idle(Duration::from_secs(3600));
            let (tx, mut rx) = trims_late.strategy(TimeWindow(ms(100))).build().expect("valid");
            tx.try_send("1").expect("room");
            assert_eq!(rx.try_recv().expect("a message"), "1");
            advance(ms(60_000)).await; // no strategy timer is armed
            let (mut polled, mut other) = (rx.clone(), rx.clone());
            let mut waiting = Box::pin(async move { other.recv().await });
            if poll {
                assert!(polled.poll_recv(&mut Context::from_waker(Waker::noop())).is_pending());
            } else {
                assert!(poll_once(&mut waiting).is_pending());
            }
            tx.try_send("2").expect("room");
            settle().await;
            assert_eq!(tx.monitor().stats().switches.strategy, 0, "a receiver waits for the message");
            drop((polled, waiting));
            advance(ms(1)).await;
            let stats = tx.monitor().stats();
            assert_eq!(
                stats.switches.strategy, 1,
                "no receiver waits for the message, by poll: {poll}, {stats:?}"
            );
        }
    });
}

/// Sealing it would lend one segment for each message.
#[test]
fn switch_of_fully_cut_segment_does_not_seal_it() {
    paused(async {
        let (tx, mut rx) = segments(2).build().expect("valid");
        rx.set_read_mode(ReadMode::ZeroCopy);
        let mut lent = Vec::new();
        for number in 0..15 {
            tx.try_send(&[number; 10]).expect("room in the first segment");
            lent.push(rx.try_recv().expect("a message"));
            tx.switch();
        }
        let stats = tx.monitor().stats();
        assert_eq!((stats.switches.on_demand, stats.switches.total()), (15, 15), "{stats:?}");
        assert!((0..15).all(|number| lent[usize::from(number)] == vec![number; 10]));
    });
}
