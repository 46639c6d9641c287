//! What a receiver that cut the active segment leaves to others: found by a review of that change.

use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use crate::common::{advance, ms, paused, poll_once, settle};
use futures::SinkExt;
use turbostream::{ActiveSegment, Builder, MessageCount, ReadMode, SwitchStrategy, TimeWindow};

/// Segments of 1000 bytes; no strategy, and so no timer for unread messages.
fn segments(count: usize) -> Builder {
    turbostream::builder()
        .segment_bytes(1000)
        .segment_messages(16)
        .max_bytes(count * (1000 + 16 * 8 + 128))
        .strategy(MessageCount(usize::MAX))
}

/// Somebody else finds a segment sealed behind its cut and nothing after it. The receivers that sleep had asked for
/// their wake at that segment.
#[test]
fn a_turn_in_vain_moves_the_marks_of_those_who_sleep_on_with_the_head() {
    paused(async {
        // The timer that looks after memory looks after everything else too: here it takes its time.
        let (tx, rx) = segments(2).pool_idle(Duration::from_secs(3600)).build().expect("valid");
        rx.set_read_mode(ReadMode::ZeroCopy);
        tx.try_send(&[0; 600]).expect("room");
        let lent = rx.try_recv().expect("a message");
        tx.try_send(&[1; 600]).expect("room in the second segment");
        let lent_too = rx.try_recv().expect("a message");

        let (first, second) = (rx.clone(), rx.clone());
        let mut woken_and_never_polled = Box::pin(async move { first.recv().await });
        assert!(poll_once(&mut woken_and_never_polled).is_pending());
        let second = tokio::spawn(async move { second.recv().await });
        settle().await;

        assert!(tx.try_send(&[2; 600]).is_err(), "both segments are lent, and the second one is sealed now");
        assert!(rx.try_recv().is_err(), "this turn leaves that segment behind");
        drop(lent);
        advance(ms(100)).await;
        tx.try_send(&[2; 600]).expect("room again");
        let received = tokio::time::timeout(ms(60_000), second).await;
        assert_eq!(
            received.expect("a receiver sleeps beside a message").expect("it ran").unwrap(),
            vec![2; 600]
        );
        drop(lent_too);
    });
}

/// A message that was cut and not yet taken waits at the head, in no sealed segment and no longer among the unread ones
/// of the active segment.
#[test]
fn a_receiver_behind_one_that_is_not_polled_gets_what_was_cut() {
    paused(async {
        let (tx, rx) = segments(4).build().expect("valid");
        let waiting = |rx: turbostream::Receiver| Box::pin(async move { rx.recv().await });
        let (mut first, mut second) = (waiting(rx.clone()), waiting(rx.clone()));
        assert!(poll_once(&mut first).is_pending() && poll_once(&mut second).is_pending());
        let third = tokio::spawn(waiting(rx.clone()));
        settle().await;
        tx.try_send("1").expect("room");
        tx.try_send("2").expect("room");
        assert!(
            poll_once(&mut first).is_ready(),
            "it cuts both, takes one, and wakes the second for the other"
        );
        // The second is not polled: after 10 ms the third is woken too.
        let received = tokio::time::timeout(ms(1000), third).await;
        assert_eq!(received.expect("a receiver sleeps beside a message").expect("it ran").unwrap(), "2");
        drop(second);
    });
}

/// The head is still at a segment that was sealed after all of it was read, and the message is in the next one.
#[test]
fn a_receiver_behind_one_that_is_not_polled_gets_what_is_behind_a_segment_that_was_read() {
    paused(async {
        let (tx, rx) = segments(4).build().expect("valid");
        tx.try_send(&[1; 600]).expect("room");
        rx.try_recv().expect("a message");
        let waiting = |rx: turbostream::Receiver| Box::pin(async move { rx.recv().await });
        let mut unpolled = waiting(rx.clone());
        assert!(poll_once(&mut unpolled).is_pending());
        let other = tokio::spawn(waiting(rx.clone()));
        settle().await;
        tx.try_send(&[2; 600]).expect("room in the second segment");
        let received = tokio::time::timeout(ms(1000), other).await;
        assert_eq!(
            received.expect("a receiver sleeps beside a message").expect("it ran").unwrap(),
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
fn a_closed_channel_that_was_read_holds_no_memory_and_makes_no_wakeups() {
    paused(async {
        let (tx, rx) = turbostream::channel();
        tx.send("1").await.expect("open");
        assert_eq!(rx.recv().await.unwrap(), "1");
        drop(tx);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let stats = rx.monitor().stats();
        assert_no_wakeups_in_a_day().await;
        assert_eq!(stats.memory_bytes(), 0, "{stats:?}");
    });
}

/// The timer looks whether anybody was passed over, finds that nothing is there, and does not look again.
#[test]
fn receivers_that_wait_behind_others_make_no_wakeups() {
    paused(async {
        let (tx, rx) = turbostream::channel();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let rx = rx.clone();
                tokio::spawn(async move { rx.recv().await })
            })
            .collect();
        settle().await;
        tx.send("1").await.expect("open");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(tx.monitor().stats().waiting_receivers, 2, "one has it");
        assert_no_wakeups_in_a_day().await;
        drop(tx);
        for receiver in waiting {
            receiver.await.expect("it ran");
        }
    });
}

#[test]
fn a_message_behind_a_cut_that_nobody_waits_for_makes_no_wakeups_for_ever() {
    paused(async {
        let (tx, rx) = turbostream::channel();
        tx.send("1").await.expect("open");
        assert_eq!(rx.recv().await.unwrap(), "1");
        tx.send("2").await.expect("open");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_no_wakeups_in_a_day().await;
        assert_eq!(rx.recv().await.unwrap(), "2");
    });
}

/// A sender seals a segment all of which was read. Only a receiver's next turn gives it back, and none may come: the
/// task that receives may be the one that waits for room.
#[test]
fn what_was_read_to_its_end_is_room_for_a_sender() {
    paused(async {
        let (tx, rx) = turbostream::builder()
            .segment_bytes(10_000)
            .segment_messages(16)
            .max_bytes(40_000)
            .max_message_bytes(20_000)
            .build()
            .expect("valid");
        tx.try_send(&[0; 9_990]).expect("room");
        rx.try_recv().expect("a message");
        assert!(rx.is_empty());
        // Two segments and this would be too much; but the first is done with.
        let large = Bytes::from(vec![1; 20_000]);
        let sent = tokio::time::timeout(Duration::from_secs(3600), tx.send(large)).await;
        let stats = tx.monitor().stats();
        assert!(sent.is_ok(), "a sender waits beside an empty channel: {stats:?}");
    });
}

/// The same with memory that is lent: `Full`, and all but one segment is neither lent nor holds anything.
#[test]
fn what_was_read_to_its_end_is_room_beside_lent_memory() {
    paused(async {
        let (tx, rx) = segments(2).build().expect("valid");
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

/// The timer stays armed for one window more after a switch; what is written in it may be due earlier.
#[test]
fn a_message_is_switched_when_the_strategy_says_so_also_while_the_timer_is_still_armed() {
    paused(async {
        let (mut tx, rx) = segments(4).strategy(TimeWindow(ms(100))).on_demand(false).build().expect("valid");
        tx.try_send("1").expect("room");
        advance(ms(60)).await;
        SinkExt::flush(&mut tx).await.expect("open"); // the last switch
        advance(ms(45)).await; // the timer has looked at 100 ms
        tx.try_send("2").expect("room");
        advance(ms(60)).await;
        let switches = tx.monitor().stats().switches;
        assert_eq!((switches.requested, switches.strategy), (1, 1), "105 ms after the last switch");
        assert_eq!((rx.recv().await.unwrap(), rx.recv().await.unwrap()), ("1".into(), "2".into()));
    });
}

/// "How long the timer may sleep, if nothing is written".
#[test]
fn a_strategy_of_ones_own_that_has_nothing_to_look_for_in_an_empty_segment_is_asked_about_the_next() {
    struct Soon;
    impl SwitchStrategy for Soon {
        fn should_switch(&self, active: &ActiveSegment) -> bool {
            active.messages > 0 && active.elapsed >= ms(5)
        }
        fn next_check(&self, active: &ActiveSegment) -> Option<Duration> {
            let nothing_to_look_for = active.messages == 0;
            Some(if nothing_to_look_for {
                Duration::from_secs(3600)
            } else {
                ms(5).saturating_sub(active.elapsed)
            })
        }
    }
    paused(async {
        let (tx, rx) = segments(4).strategy(Soon).on_demand(false).build().expect("valid");
        for message in ["1", "2", "3"] {
            let from = tokio::time::Instant::now();
            tx.send(message).await.expect("open");
            assert_eq!(rx.recv().await.unwrap(), message);
            let waited = from.elapsed();
            assert!(waited < ms(20), "{message} was due after 5 ms at most; it took {waited:?}");
        }
    });
}

/// Limits that were set for what comes behind a cut, in a segment that was left without a switch.
#[test]
fn the_limits_of_a_cut_end_with_its_segment() {
    paused(async {
        for rest in [false, true] {
            let (tx, rx) = segments(4).strategy(MessageCount(2)).build().expect("valid");
            for _ in 0..8 {
                tx.try_send(&[0; 100]).expect("room");
                rx.try_recv().expect("a message");
            }
            if rest {
                advance(Duration::from_secs(60)).await;
                for _ in 0..10 {
                    advance(Duration::from_secs(1)).await;
                }
                assert_eq!(tx.monitor().stats().memory_bytes(), 0, "the rest was given up");
            }
            for _ in 0..2 {
                tx.try_send(&[0; 300]).expect("room"); // in the next segment
            }
            let stats = tx.monitor().stats();
            assert_eq!(stats.switches.strategy, 1, "two messages, with a rest: {rest}, {stats:?}");
        }
    });
}

/// It is a mistake to poll a future that is done; a panic tells so, a second message does not.
#[test]
fn a_send_that_is_done_does_not_send_again() {
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

/// A sender seals a segment while the last of what was cut is still to be taken, and sleeps: whoever takes that makes
/// room.
#[test]
fn the_last_message_of_a_cut_in_a_segment_that_was_sealed_meanwhile_makes_room() {
    paused(async {
        let (tx, rx) = segments(2).pool_idle(Duration::from_secs(3600)).build().expect("valid");
        rx.set_read_mode(ReadMode::ZeroCopy);
        tx.try_send(&[0; 600]).expect("room");
        let lent = rx.try_recv().expect("a message");
        rx.set_read_mode(ReadMode::Safe);
        tx.try_send(&[1; 500]).expect("room in the second segment");
        tx.try_send(&[2; 400]).expect("room beside it");
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

/// Padding that a writer left at the end of a segment keeps nobody from its memory.
#[test]
fn padding_at_the_end_of_what_was_read_is_room_for_a_sender() {
    crate::common::current(async {
        let segment = 64 + 8 * 2 + 128;
        let channel = turbostream::builder().segment_bytes(64).segment_messages(2).max_bytes(2 * segment);
        let (tx, rx) = channel.build().expect("valid");
        tx.try_send("1").expect("room");
        let panicking = tokio::spawn({
            let tx = tx.clone();
            async move { tx.send_with(1, |_: &mut [u8]| panic!("on purpose")).await.map_err(drop) }
        });
        assert!(panicking.await.is_err_and(|error| error.is_panic()));
        tx.try_send("2").expect("room");
        tx.try_send("3").expect("room");
        assert_eq!(rx.try_recv().expect("there"), "1");
        tx.try_send("4").expect("nothing but padding is left in the first segment");
        let rest: Vec<_> = std::iter::from_fn(|| rx.try_recv().ok()).collect();
        assert_eq!(rest, ["2", "3", "4"]);
    });
}

/// A receiver that was told of a message, so that the timer does not look after it, and that gives up.
#[test]
fn a_message_whose_receiver_gives_up_is_switched_when_the_strategy_says_so() {
    paused(async {
        for poll in [false, true] {
            let rests_for_long = segments(4).pool_idle(Duration::from_secs(3600));
            let (tx, rx) = rests_for_long.strategy(TimeWindow(ms(100))).build().expect("valid");
            tx.try_send("1").expect("room");
            assert_eq!(rx.try_recv().expect("a message"), "1");
            advance(ms(60_000)).await; // the timer has nothing to look after
            let (polled, other) = (rx.clone(), rx.clone());
            let mut waiting = Box::pin(async move { other.recv().await });
            if poll {
                assert!(polled.poll_recv(&mut Context::from_waker(Waker::noop())).is_pending());
            } else {
                assert!(poll_once(&mut waiting).is_pending());
            }
            tx.try_send("2").expect("room");
            settle().await;
            assert_eq!(tx.monitor().stats().switches.strategy, 0, "it is the receiver's");
            drop((polled, waiting));
            advance(ms(1)).await;
            let stats = tx.monitor().stats();
            assert_eq!(stats.switches.strategy, 1, "nobody waits for it, by poll: {poll}, {stats:?}");
        }
    });
}

/// Sealing it would lend a segment for each message.
#[test]
fn a_switch_where_all_was_cut_off_leaves_the_rest_of_the_segment_to_writers() {
    paused(async {
        let (tx, rx) = segments(2).build().expect("valid");
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
