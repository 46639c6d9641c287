//! Waiters on one thread, polled and dropped by hand, against a plain queue as the model.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use crate::common::{advance, check, current, message, ms, multi, paused, poll_once, settle};
use futures::Sink;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use turbostream::{MessageCount, ReadMode, Receiver, SendError, Sender};

/// Two segments of 16 messages each: senders wait nearly all the time.
fn narrow(mode: ReadMode) -> (Sender, Receiver) {
    turbostream::builder()
        .segment_bytes(4096)
        .segment_messages(16)
        .max_bytes(9 << 10)
        .read_mode(mode)
        .build()
        .expect("a valid configuration")
}

fn len_of(number: u32) -> usize {
    16 + number as usize * 37 % 400
}

type Sent = Result<(), SendError<Vec<u8>>>;
type Waiting<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Random polls and drops of many futures at once against a plain queue as the model.
#[test]
fn random_polls_and_drops_follow_a_model() {
    current(async {
        for seed in 0..60 {
            let (tx, rx) = narrow(if seed % 2 == 0 { ReadMode::Safe } else { ReadMode::ZeroCopy });
            let mut rng = StdRng::seed_from_u64(seed);
            let mut sends: Vec<(u32, Waiting<Sent>)> = Vec::new();
            let mut recvs: Vec<Waiting<Option<Bytes>>> = Vec::new();
            let mut model = VecDeque::new();
            for number in 0..2000 {
                tokio::task::consume_budget().await;
                match rng.random_range(0..8) {
                    0 | 1 if sends.len() < 40 => {
                        let (tx, bytes) = (tx.clone(), message(0, number, len_of(number)));
                        sends.push((number, Box::pin(async move { tx.send(bytes).await })));
                    }
                    2 | 3 if recvs.len() < 5 => {
                        let rx = rx.clone();
                        recvs.push(Box::pin(async move { rx.recv().await }));
                    }
                    4 | 5 if !sends.is_empty() => {
                        let at = rng.random_range(0..sends.len());
                        if poll_once(&mut sends[at].1).is_ready() {
                            model.push_back(sends.remove(at).0);
                        }
                    }
                    6 if !recvs.is_empty() => {
                        let at = rng.random_range(0..recvs.len());
                        if let Poll::Ready(m) = poll_once(&mut recvs[at]) {
                            let expected = model.pop_front().expect("nothing was accepted");
                            assert_eq!(check(&m.expect("open")), Some((0, expected)), "seed {seed}");
                            drop(recvs.swap_remove(at));
                        }
                    }
                    7 if rng.random_bool(0.5) => drop(sends.pop()),
                    _ => drop(recvs.pop()),
                }
                assert_eq!(rx.len(), model.len(), "seed {seed}");
            }
            drop((tx, sends, recvs));
            while let Some(m) = rx.recv().await {
                assert_eq!(check(&m), Some((0, model.pop_front().expect("too many"))), "seed {seed}");
            }
            assert!(model.is_empty(), "seed {seed}: lost {model:?}");
        }
    });
}

/// A waiter that was woken and is dropped before it looked hands the wake on.
#[test]
fn a_dropped_waiter_hands_its_wake_on() {
    current(async {
        for waiters in 1..4 {
            let (tx, rx) = narrow(ReadMode::Safe);
            let mut first: Waiting<_> = Box::pin({
                let rx = rx.clone();
                async move { rx.recv().await }
            });
            assert!(poll_once(&mut first).is_pending());
            let others: Vec<_> = (0..waiters)
                .map(|_| {
                    tokio::spawn({
                        let rx = rx.clone();
                        async move { rx.recv().await }
                    })
                })
                .collect();
            settle().await;
            for number in 0..waiters {
                tx.try_send(message(0, number, 20)).expect("room");
            }
            drop(first);
            for other in others {
                assert!(other.await.expect("a receiver").is_some());
            }

            let mut filled = 0;
            while tx.try_send(message(0, filled, 200)).is_ok() {
                filled += 1;
            }
            let mut first: Waiting<_> = Box::pin({
                let tx = tx.clone();
                async move { tx.send(vec![0; 200]).await }
            });
            assert!(poll_once(&mut first).is_pending());
            let other = tokio::spawn(async move { tx.send(vec![0; 200]).await });
            settle().await;
            for number in 0..filled {
                assert_eq!(check(&rx.recv().await.expect("open")), Some((0, number)));
            }
            drop(first);
            other.await.expect("a sender").expect("open");
            assert_eq!(rx.recv().await.expect("open"), vec![0; 200]);
        }
    });
}

#[test]
fn waiting_senders_are_served_first_come_first_served() {
    paused(async {
        for _ in 0..20 {
            let (tx, rx) = narrow(ReadMode::Safe);
            let accepted =
                (0..).find(|&n| tx.try_send(message(0, n, 100)).is_err()).expect("full in the end");
            let mut waiting: Vec<_> = (1..=20)
                .map(|sender| {
                    let tx = tx.clone();
                    Box::pin(async move { tx.send(message(sender, 0, 100)).await })
                })
                .collect();
            for send in &mut waiting {
                assert!(poll_once(send).is_pending());
            }
            assert_eq!(tx.monitor().stats().waiting_senders, 20);
            for number in 0..accepted {
                assert_eq!(check(&rx.recv().await.expect("open")), Some((0, number)));
            }
            // Room for all, but a newcomer does not overtake those who were told and have not looked yet.
            let newcomer = tokio::spawn(async move { tx.send(message(21, 0, 100)).await });
            settle().await;
            let all = waiting.into_iter().map(tokio::spawn).collect::<Vec<_>>();
            for sender in 1..=21 {
                assert_eq!(check(&rx.recv().await.expect("open")), Some((sender, 0)));
            }
            for send in all.into_iter().chain([newcomer]) {
                send.await.expect("a sender").expect("open");
            }
        }
    });
}

/// One that needs much room is not passed by for ever by those who need little.
#[test]
fn a_large_message_gets_its_turn_among_small_ones() {
    multi(async {
        let (tx, rx) = narrow(ReadMode::Safe);
        let done = Arc::new(AtomicBool::new(false));
        for sender in 1..=4 {
            let (tx, done) = (tx.clone(), done.clone());
            tokio::spawn(async move {
                for number in 0.. {
                    tx.send(message(sender, number, 200)).await.expect("open");
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        let reading = tokio::spawn(async move {
            let mut large = 0;
            while let Some(m) = rx.recv().await {
                large += usize::from(check(&m).expect("named").0 == 0);
            }
            large
        });
        for number in 0..20 {
            tx.send(message(0, number, 4500)).await.expect("open");
        }
        done.store(true, Ordering::Relaxed);
        drop(tx);
        assert_eq!(reading.await.expect("the reader"), 20);
    });
}

/// A future that was woken, is alive and is not polled any more, as one kept beside a `select!`.
#[test]
fn a_waiter_that_is_kept_unpolled_does_not_hold_up_the_others_for_long() {
    paused(async {
        let (tx, rx) = narrow(ReadMode::Safe);
        let receive = |rx: Receiver| async move { rx.recv().await };
        let mut first = Box::pin(receive(rx.clone()));
        assert!(poll_once(&mut first).is_pending());
        let other = tokio::spawn(receive(rx.clone()));
        settle().await;
        tx.try_send(message(0, 0, 100)).expect("room");
        advance(ms(50)).await;
        assert!(other.is_finished(), "a message is there, and a receiver");
        assert_eq!(check(&other.await.expect("the other").expect("open")), Some((0, 0)));
        tx.try_send(message(0, 1, 100)).expect("room");
        assert_eq!(check(&first.await.expect("open")), Some((0, 1)));

        let filled = (1..).find(|&n| tx.try_send(message(0, n, 100)).is_err()).expect("full in the end");
        let send = |tx: Sender, sender| async move { tx.send(message(sender, 0, 100)).await };
        let mut first = Box::pin(send(tx.clone(), 1));
        assert!(poll_once(&mut first).is_pending());
        let other = tokio::spawn(send(tx.clone(), 2));
        settle().await;
        for number in 1..filled {
            assert_eq!(check(&rx.recv().await.expect("open")), Some((0, number)));
        }
        advance(ms(50)).await;
        assert!(other.is_finished(), "room is there, and a sender");
        first.await.expect("open");
        assert_eq!(check(&rx.recv().await.expect("open")), Some((2, 0)));
        assert_eq!(check(&rx.recv().await.expect("open")), Some((1, 0)));
    });
}

/// Nothing else has the timer look: it has nothing to do any more when the message comes.
#[test]
fn nor_does_it_where_the_timer_sleeps() {
    paused(async {
        for (on_demand, messages) in [(true, usize::MAX), (false, 1)] {
            let builder = turbostream::builder().strategy(MessageCount(messages)).on_demand(on_demand);
            let (tx, rx) = builder.build().expect("valid");
            tx.try_send("long ago").expect("room");
            assert!(rx.recv().await.is_some());
            tokio::time::sleep(ms(60_000)).await;
            let receive = |rx: Receiver| async move { rx.recv().await };
            let mut unpolled = Box::pin(receive(rx.clone()));
            assert!(poll_once(&mut unpolled).is_pending());
            let other = tokio::spawn(receive(rx));
            settle().await;
            tx.try_send("one for two").expect("room");
            advance(ms(50)).await;
            assert!(other.is_finished(), "a message is there, and a receiver; on_demand {on_demand}");
            assert_eq!(other.await.expect("it ran").as_deref(), Some(&b"one for two"[..]));
        }
    });
}

/// Those who were told first may be slow to look: whoever goes on taking tells one more each time.
#[test]
fn a_waiter_behind_some_that_are_kept_unpolled_is_told_as_messages_are_taken() {
    paused(async {
        let (tx, rx) = narrow(ReadMode::Safe);
        let receive = |rx: Receiver| Box::pin(async move { rx.recv().await });
        let mut unpolled: Vec<_> = (0..3).map(|_| receive(rx.clone())).collect();
        assert!(unpolled.iter_mut().all(|recv| poll_once(recv).is_pending()));
        let last = tokio::spawn(receive(rx.clone()));
        settle().await;
        for number in 0..3 {
            tx.try_send(message(0, number, 100)).expect("room");
        }
        assert_eq!(check(&rx.try_recv().expect("cut")), Some((0, 0)));
        settle().await;
        assert!(!last.is_finished(), "one was told of the first message, and two of what is left");
        assert_eq!(check(&rx.try_recv().expect("known of")), Some((0, 1)));
        settle().await;
        assert!(last.is_finished(), "no time has passed, and a message is there");
        assert_eq!(check(&last.await.expect("it ran").expect("open")), Some((0, 2)));
    });
}

/// Its place in the list is left also where the message was there for the taking.
#[test]
fn a_receiver_that_is_polled_and_gets_its_message_waits_no_more() {
    current(async {
        let (tx, rx) = narrow(ReadMode::Safe);
        let other = rx.clone();
        let poll = || rx.poll_recv(&mut Context::from_waker(Waker::noop()));
        assert!(poll().is_pending());
        assert_eq!(tx.monitor().stats().waiting_receivers, 1);
        for number in 0..3 {
            tx.try_send(message(0, number, 100)).expect("room");
        }
        assert_eq!(check(&other.try_recv().expect("cut")), Some((0, 0)));
        let Poll::Ready(Some(second)) = poll() else { panic!("it is known of") };
        assert_eq!(check(&second), Some((0, 1)));
        assert_eq!(tx.monitor().stats().waiting_receivers, 0);
    });
}

/// Whoever gives up passes its wake on, and does not die of the next one's waker.
#[test]
fn a_wake_is_passed_on_to_a_waker_that_panics() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            std::panic::panic_any("on purpose");
        }
    }
    paused(async {
        let (tx, rx) = turbostream::channel();
        let panics = Waker::from(Arc::new(Panics));
        let mut first = Box::pin(rx.recv());
        let mut second = Box::pin(rx.recv());
        let other = rx.clone();
        assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(second.as_mut().poll(&mut Context::from_waker(&panics)).is_pending());
        assert!(other.poll_recv(&mut Context::from_waker(&panics)).is_pending());
        tx.try_send("for the first").unwrap();
        drop(first);
        drop(second);
        drop(other);
        assert_eq!(rx.recv().await.unwrap(), "for the first");
    });
}

/// Two segments of four messages, and room for one payload of 600 bytes that travels by reference.
fn with_room_for_one_payload() -> (Sender, Receiver) {
    with_room_for(600)
}

fn with_room_for(payloads: usize) -> (Sender, Receiver) {
    let one = 256 + 4 * 8 + 128;
    turbostream::builder()
        .segment_bytes(256)
        .segment_messages(4)
        .max_bytes(2 * one + payloads)
        .max_message_bytes(payloads)
        .read_mode(ReadMode::ZeroCopy)
        .build()
        .expect("a valid configuration")
}

/// Nothing goes back to the pool: the segment that it was in holds another message.
#[test]
fn a_payload_that_leaves_makes_room_for_the_next() {
    paused(async {
        let (tx, rx) = with_room_for_one_payload();
        tx.try_send(vec![1; 600]).unwrap();
        tx.try_send("behind it").unwrap();
        let other = tx.clone();
        let waiting = tokio::spawn(async move { other.send(vec![2; 600]).await });
        settle().await;
        assert!(!waiting.is_finished());
        assert_eq!(rx.try_recv().unwrap().len(), 600);
        settle().await;
        assert!(waiting.is_finished(), "{:?}", tx.monitor().stats());
    });
}

/// Whether a sink has to wait for what it took.
fn must_wait(sink: &mut Sender) -> bool {
    Pin::new(sink).poll_ready(&mut Context::from_waker(Waker::noop())).is_pending()
}

/// One wake for the payload that left, and room for more than the one who is woken.
#[test]
fn whoever_gets_in_wakes_the_next_if_there_is_room_left() {
    paused(async {
        let (mut tx, rx) = with_room_for_one_payload();
        let other = tx.clone();
        tx.try_send(vec![1; 600]).unwrap();
        tx.try_send("behind it").unwrap();
        while other.try_send(vec![2; 250]).is_ok() {}
        Pin::new(&mut tx).start_send(Bytes::from_static(&[3; 10])).unwrap();
        assert!(must_wait(&mut tx));
        let waiting = tokio::spawn(async move { other.send(&[4; 10]).await });
        settle().await;
        // The payload's bytes are room for a segment, in which there is room for both.
        assert_eq!(rx.try_recv().unwrap().len(), 600);
        settle().await;
        assert!(!waiting.is_finished() && !must_wait(&mut tx));
        settle().await;
        assert!(waiting.is_finished(), "{:?}", rx.monitor().stats());
    });
}

/// One wake for the payload that left, and it goes to a future that is not polled any more.
#[test]
fn a_sender_that_is_kept_unpolled_does_not_hold_up_the_others_for_long() {
    paused(async {
        let (tx, rx) = with_room_for_one_payload();
        tx.try_send(vec![1; 600]).unwrap();
        tx.try_send("behind it").unwrap();
        while tx.try_send(vec![2; 250]).is_ok() {}
        let other = tx.clone();
        let mut unpolled: Waiting<Sent> = Box::pin(async move { other.send(vec![3; 10]).await });
        assert!(poll_once(&mut unpolled).is_pending());
        let waiting = tokio::spawn(async move { tx.send(&[4; 10]).await });
        settle().await;
        assert_eq!(rx.try_recv().unwrap().len(), 600);
        settle().await;
        assert!(!waiting.is_finished());
        for _ in 0..2 {
            advance(ms(11)).await;
        }
        assert!(waiting.is_finished(), "{:?}", rx.monitor().stats());
    });
}

/// However long those ahead were woken in vain before it came.
#[test]
fn a_sender_that_comes_late_is_not_held_up_for_longer_by_those_who_are_not_polled() {
    paused(async {
        let (tx, rx) = with_room_for(1000);
        while tx.try_send(vec![1; 250]).is_ok() {}
        let mut unpolled: Vec<Waiting<Sent>> = Vec::new();
        for _ in 0..2 {
            let tx = tx.clone();
            unpolled.push(Box::pin(async move { tx.send(vec![2; 10]).await }));
        }
        unpolled.iter_mut().for_each(|unpolled| assert!(poll_once(unpolled).is_pending()));
        while rx.try_recv().is_ok() {}
        for number in 0..3 {
            for _ in 0..300 {
                advance(ms(10)).await;
            }
            let tx = tx.clone();
            let late = tokio::spawn(async move { tx.send(vec![number; 10]).await });
            advance(ms(11)).await;
            assert!(late.is_finished(), "{number}: {:?}", rx.monitor().stats());
        }
    });
}

/// It waits behind another for no other reason than to let it go first.
#[test]
fn a_sender_that_gives_up_lets_the_next_in() {
    paused(async {
        for sink in [false, true] {
            let (tx, _rx) = with_room_for(1000);
            tx.try_send(vec![1; 700]).unwrap();
            let (mut first_sink, first, second) = (tx.clone(), tx.clone(), tx.clone());
            let mut first: Waiting<Sent> = Box::pin(async move { first.send(vec![2; 800]).await });
            if sink {
                Pin::new(&mut first_sink).start_send(vec![2; 800].into()).unwrap();
                assert!(must_wait(&mut first_sink));
            } else {
                assert!(poll_once(&mut first).is_pending());
            }
            let waiting = tokio::spawn(async move { second.send(vec![3; 300]).await });
            settle().await;
            assert!(!waiting.is_finished(), "it would fit, and is not its turn");
            drop((first, first_sink));
            settle().await;
            assert!(waiting.is_finished(), "sink: {sink}, {:?}", tx.monitor().stats());
        }
    });
}
