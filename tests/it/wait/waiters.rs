//! Waiters on one thread, polled and dropped by hand: order, wakes passed on, and waiters that are not polled.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crate::common::{advance, check, current, message, ms, multi, paused, poll_once, settle};
use bytes::Bytes;
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

/// Polls and drops many futures at random, and compares with a plain queue.
#[test]
fn random_polls_and_drops_match_a_plain_queue() {
    current(async {
        for seed in 0..60 {
            let (tx, mut rx) = narrow(if seed % 2 == 0 { ReadMode::Safe } else { ReadMode::ZeroCopy });
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
                        let mut rx = rx.clone();
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
                            let expected = model.pop_front().expect("a message was sent");
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

/// A waiter that is dropped after its wake and before its retry passes the wake on.
#[test]
fn woken_waiter_passes_wake_on_when_dropped() {
    current(async {
        for waiters in 1..4 {
            let (tx, mut rx) = narrow(ReadMode::Safe);
            let mut first: Waiting<_> = Box::pin({
                let mut rx = rx.clone();
                async move { rx.recv().await }
            });
            assert!(poll_once(&mut first).is_pending());
            let others: Vec<_> = (0..waiters)
                .map(|_| {
                    tokio::spawn({
                        let mut rx = rx.clone();
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
                assert!(other.await.expect("no panic in the receiver").is_some());
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
            other.await.expect("no panic in the sender").expect("open");
            assert_eq!(rx.recv().await.expect("open"), vec![0; 200]);
        }
    });
}

#[test]
fn waiting_senders_are_served_in_fifo_order() {
    paused(async {
        for _ in 0..20 {
            let (tx, mut rx) = narrow(ReadMode::Safe);
            let accepted =
                (0..).find(|&n| tx.try_send(message(0, n, 100)).is_err()).expect("full eventually");
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
            let all = waiting.into_iter().map(tokio::spawn).collect::<Vec<_>>();
            for sender in 1..=20 {
                assert_eq!(check(&rx.recv().await.expect("open")), Some((sender, 0)));
            }
            for send in all {
                send.await.expect("no panic in the sender").expect("open");
            }
        }
    });
}

/// Senders that need little room do not overtake one that needs much room for ever.
#[test]
fn large_message_is_not_starved_by_small_ones() {
    multi(async {
        let (tx, mut rx) = narrow(ReadMode::Safe);
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
                large += usize::from(check(&m).expect("has a header").0 == 0);
            }
            large
        });
        for number in 0..20 {
            tx.send(message(0, number, 4500)).await.expect("open");
        }
        done.store(true, Ordering::Relaxed);
        drop(tx);
        assert_eq!(reading.await.expect("no panic in the receiver"), 20);
    });
}

/// A future that was woken and is neither dropped nor polled, such as one kept beside a `select!`.
#[test]
fn unpolled_waiter_delays_no_other() {
    paused(async {
        let (tx, mut rx) = narrow(ReadMode::Safe);
        let receive = |mut rx: Receiver| async move { rx.recv().await };
        let mut first = Box::pin(receive(rx.clone()));
        assert!(poll_once(&mut first).is_pending());
        let other = tokio::spawn(receive(rx.clone()));
        settle().await;
        tx.try_send(message(0, 0, 100)).expect("room");
        settle().await;
        assert!(other.is_finished(), "a message is queued while a receiver sleeps");
        assert_eq!(check(&other.await.expect("no panic in the other task").expect("open")), Some((0, 0)));
        tx.try_send(message(0, 1, 100)).expect("room");
        assert_eq!(check(&first.await.expect("open")), Some((0, 1)));

        let filled = (1..).find(|&n| tx.try_send(message(0, n, 100)).is_err()).expect("full eventually");
        let send = |tx: Sender, sender| async move { tx.send(message(sender, 0, 100)).await };
        let mut first = Box::pin(send(tx.clone(), 1));
        assert!(poll_once(&mut first).is_pending());
        let other = tokio::spawn(send(tx.clone(), 2));
        settle().await;
        for number in 1..filled {
            assert_eq!(check(&rx.recv().await.expect("open")), Some((0, number)));
        }
        settle().await;
        assert!(other.is_finished(), "the channel has room while a sender sleeps");
        first.await.expect("open");
        assert_eq!(check(&rx.recv().await.expect("open")), Some((2, 0)));
        assert_eq!(check(&rx.recv().await.expect("open")), Some((1, 0)));
    });
}

/// Also while the background task sleeps without a deadline.
#[test]
fn unpolled_waiter_delays_no_other_while_timer_sleeps() {
    paused(async {
        for (on_demand, messages) in [(true, usize::MAX), (false, 1)] {
            let builder = turbostream::builder().strategy(MessageCount(messages)).on_demand(on_demand);
            let (tx, mut rx) = builder.build().expect("valid");
            tx.try_send("long ago").expect("room");
            assert!(rx.recv().await.is_some());
            tokio::time::sleep(ms(60_000)).await;
            let receive = |mut rx: Receiver| async move { rx.recv().await };
            let mut unpolled = Box::pin(receive(rx.clone()));
            assert!(poll_once(&mut unpolled).is_pending());
            let other = tokio::spawn(receive(rx));
            settle().await;
            tx.try_send("one for two").expect("room");
            settle().await;
            assert!(
                other.is_finished(),
                "a message is queued while a receiver sleeps; on_demand {on_demand}"
            );
            assert_eq!(other.await.expect("no panic").as_deref(), Some(&b"one for two"[..]));
        }
    });
}

/// The receiver deregisters also when the message was already cut.
#[test]
fn receiver_deregisters_when_poll_returns_its_message() {
    current(async {
        let (tx, mut rx) = narrow(ReadMode::Safe);
        let mut other = rx.clone();
        let mut poll = || rx.poll_recv(&mut Context::from_waker(Waker::noop()));
        assert!(poll().is_pending());
        assert_eq!(tx.monitor().stats().waiting_receivers, 1);
        for number in 0..3 {
            tx.try_send(message(0, number, 100)).expect("room");
        }
        assert_eq!(check(&other.try_recv().expect("cut")), Some((0, 0)));
        let Poll::Ready(Some(second)) = poll() else { panic!("the message is cut") };
        assert_eq!(check(&second), Some((0, 1)));
        assert_eq!(tx.monitor().stats().waiting_receivers, 0);
    });
}

/// A dropped waiter passes its wake on, and survives a panic of the next waiter's waker.
#[test]
fn dropped_waiter_survives_panic_of_next_waker() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            std::panic::panic_any("on purpose");
        }
    }
    paused(async {
        let (tx, mut rx) = turbostream::channel();
        let panics = Waker::from(Arc::new(Panics));
        let (mut one, mut another, mut other) = (rx.clone(), rx.clone(), rx.clone());
        let mut first = Box::pin(one.recv());
        let mut second = Box::pin(another.recv());
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

/// Two segments of four messages, and room for one external payload of 600 bytes.
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

/// No segment returns to the pool: the one that referred to the payload holds another message.
#[test]
fn received_external_payload_makes_room_for_the_next() {
    paused(async {
        let (tx, mut rx) = with_room_for_one_payload();
        tx.try_send(vec![1; 600]).unwrap();
        tx.try_send("after it").unwrap();
        let other = tx.clone();
        let waiting = tokio::spawn(async move { other.send(vec![2; 600]).await });
        settle().await;
        assert!(!waiting.is_finished());
        assert_eq!(rx.try_recv().unwrap().len(), 600);
        settle().await;
        assert!(waiting.is_finished(), "{:?}", tx.monitor().stats());
    });
}

/// Returns whether a sink still holds its pending item.
fn must_wait(sink: &mut Sender) -> bool {
    Pin::new(sink).poll_ready(&mut Context::from_waker(Waker::noop())).is_pending()
}

/// The received payload is one release, and makes room for more than the first sender.
#[test]
fn freed_memory_wakes_all_senders_that_fit_in_it() {
    paused(async {
        let (mut tx, mut rx) = with_room_for_one_payload();
        let other = tx.clone();
        tx.try_send(vec![1; 600]).unwrap();
        tx.try_send("after it").unwrap();
        while other.try_send(vec![2; 250]).is_ok() {}
        Pin::new(&mut tx).start_send(Bytes::from_static(&[3; 10])).unwrap();
        assert!(must_wait(&mut tx));
        let waiting = tokio::spawn(async move { other.send(&[4; 10]).await });
        settle().await;
        // The payload's bytes are room for a segment, which has room for both messages.
        assert_eq!(rx.try_recv().unwrap().len(), 600);
        settle().await;
        assert!(waiting.is_finished() && !must_wait(&mut tx), "{:?}", rx.monitor().stats());
    });
}

/// The received payload makes room for a segment, and the first that is woken for it is no longer polled.
#[test]
fn unpolled_sender_delays_no_other() {
    paused(async {
        let (tx, mut rx) = with_room_for_one_payload();
        tx.try_send(vec![1; 600]).unwrap();
        tx.try_send("after it").unwrap();
        while tx.try_send(vec![2; 250]).is_ok() {}
        let other = tx.clone();
        let mut unpolled: Waiting<Sent> = Box::pin(async move { other.send(vec![3; 10]).await });
        assert!(poll_once(&mut unpolled).is_pending());
        let waiting = tokio::spawn(async move { tx.send(&[4; 10]).await });
        settle().await;
        assert_eq!(rx.try_recv().unwrap().len(), 600);
        settle().await;
        assert!(waiting.is_finished(), "{:?}", rx.monitor().stats());
    });
}

/// However long ago the unpolled ones were woken.
#[test]
fn late_sender_is_not_delayed_by_unpolled_ones() {
    paused(async {
        let (tx, mut rx) = with_room_for(1000);
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
            settle().await;
            assert!(late.is_finished(), "{number}: {:?}", rx.monitor().stats());
        }
    });
}

/// The second sender waits only because the first is ahead of it.
#[test]
fn dropped_sender_lets_the_next_send() {
    paused(async {
        let (tx, _rx) = with_room_for(1000);
        tx.try_send(vec![1; 700]).unwrap();
        let (first, second) = (tx.clone(), tx.clone());
        let mut first: Waiting<Sent> = Box::pin(async move { first.send(vec![2; 800]).await });
        assert!(poll_once(&mut first).is_pending());
        let waiting = tokio::spawn(async move { second.send(vec![3; 300]).await });
        settle().await;
        assert!(!waiting.is_finished(), "the message would fit, but another sender is ahead");
        drop(first);
        settle().await;
        assert!(waiting.is_finished(), "{:?}", tx.monitor().stats());
    });
}

/// A live sender waits after many that are woken and never polled again. Each of them keeps its 10 bytes and an entry.
#[test]
fn unpolled_senders_keep_no_more_than_they_were_woken_for() {
    paused(async {
        for count in [1, 63, 64, 65, 130, 1000] {
            let one = 4096 + 16 * 8 + 128;
            let builder = turbostream::builder().segment_bytes(4096).segment_messages(16);
            let segments = count / 16 + 2;
            let (tx, mut rx) = builder.max_bytes(segments * one).build().expect("valid");
            let fill = || (0..).take_while(|_| tx.try_send([1; 10]).is_ok()).count();
            assert_eq!(fill(), segments * 16);
            let mut unpolled: Vec<_> = (0..count).map(|_| Box::pin(tx.send([2; 10]))).collect();
            for send in &mut unpolled {
                tokio::task::yield_now().await;
                assert!(poll_once(send).is_pending());
            }
            let live = tx.clone();
            let live = tokio::spawn(async move {
                for _ in 0..100 {
                    live.send([3; 10]).await.expect("open");
                }
            });
            settle().await;
            while !live.is_finished() {
                while rx.try_recv().is_ok() {}
                let waiting = tx.monitor().stats().waiting_senders;
                settle().await;
                assert!(
                    live.is_finished() || !rx.is_empty(),
                    "{count}, {waiting} wait beside an empty channel"
                );
            }
            while rx.try_recv().is_ok() {}
            assert!(tx.try_send([4; 10]).is_ok(), "a sender that has not waited, after {count}");
            assert_eq!(rx.recv().await.expect("open"), vec![4; 10]);
            drop(unpolled);
            assert!(fill() > (segments - 1) * 16, "dropped waiters keep nothing");
            assert_eq!(tx.monitor().stats().waiting_senders, 0);
        }
    });
}

/// A long message is sent after at most one lap of the queue, copied or external, however busy a short sender is.
#[test]
fn long_message_is_sent_among_short_ones_after_one_lap() {
    paused(async {
        for (len, owned) in [(4000, false), (8000, false), (8000, true)] {
            let builder = turbostream::builder().segment_bytes(4096).segment_messages(16).max_bytes(20_000);
            let (tx, mut rx) =
                builder.max_message_bytes(8000).read_mode(ReadMode::ZeroCopy).build().expect("valid");
            while tx.try_send([1; 200]).is_ok() {}
            let lap = rx.len() + 16;
            let long = tx.clone();
            let long = tokio::spawn(async move {
                let payload = vec![2; len];
                if owned { long.send(payload).await.is_ok() } else { long.send(&payload).await.is_ok() }
            });
            settle().await;
            let mut received = 0;
            while !long.is_finished() {
                assert!(rx.recv().await.is_some());
                received += 1;
                assert!(received <= lap, "{len} bytes wait for more than one lap");
                while tx.try_send([3; 200]).is_ok() {}
                settle().await;
            }
            assert!(long.await.expect("no panic"));
        }
    });
}

#[test]
fn longest_wait_is_that_of_the_first_sender() {
    paused(async {
        let (tx, mut rx) = narrow(ReadMode::Safe);
        while tx.try_send(message(0, 0, 200)).is_ok() {}
        assert_eq!(tx.monitor().stats().longest_wait, ms(0));
        let mut first = Box::pin(tx.send([1; 200]));
        assert!(poll_once(&mut first).is_pending());
        advance(ms(700)).await;
        let mut second = Box::pin(tx.send([2; 200]));
        assert!(poll_once(&mut second).is_pending());
        advance(ms(800)).await;
        assert_eq!(tx.monitor().stats().longest_wait, ms(1500));
        drop(first);
        assert_eq!(tx.monitor().stats().longest_wait, ms(800));
        while rx.try_recv().is_ok() {}
        assert!(poll_once(&mut second).is_ready());
        assert_eq!(tx.monitor().stats().longest_wait, ms(0));
    });
}
