//! A receiver is woken only for a message that it can take; polled by hand.

use std::collections::VecDeque;
use std::task::{Context, Waker};

use crate::common::{WakeCounter, paused};
use turbostream::{MessageCount, ReadMode, Receiver, Sender};

/// Four segments of four messages and 200 bytes.
fn small() -> (Sender, Receiver) {
    let one = 200 + 4 * 8 + 128;
    turbostream::builder()
        .segment_bytes(200)
        .segment_messages(4)
        .max_bytes(4 * one)
        .max_message_bytes(3 * one)
        .read_mode(ReadMode::ZeroCopy)
        .strategy(MessageCount(1000))
        .build()
        .expect("valid")
}

/// With `on_demand(false)` no receiver can take a message before a switch.
#[test]
fn unswitched_message_wakes_no_receiver() {
    paused(async {
        let untimed = turbostream::builder().on_demand(false).strategy(MessageCount(usize::MAX));
        let (tx, rx) = untimed.build().expect("valid");
        let (first, second) = (rx.clone(), rx.clone());
        let (wakes, waker) = WakeCounter::new();
        let noop = &mut Context::from_waker(Waker::noop());
        assert!(first.poll_recv(noop).is_pending());
        assert!(second.poll_recv(&mut Context::from_waker(&waker)).is_pending());
        tx.try_send("switched").unwrap();
        tx.switch();
        tx.try_send("not switched").unwrap();
        assert!(first.poll_recv(noop).is_ready());
        assert!(wakes.take() == 0 && second.poll_recv(noop).is_pending());
    });
}

#[test]
fn each_message_wakes_one_receiver_despite_unsuccessful_wakes() {
    paused(async {
        let (tx, rx) = small();
        let recv = |waiters: &mut VecDeque<_>| {
            let (wakes, waker) = WakeCounter::new();
            let rx = rx.clone();
            let mut recv = Box::pin(async move { rx.recv().await });
            assert!(recv.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            waiters.push_back((recv, wakes, waker));
        };
        let mut waiters = VecDeque::new();
        (0..4).for_each(|_| recv(&mut waiters));
        let mut total = 0;
        for message in 0..100 {
            tx.try_send("message").unwrap();
            if message == 0 {
                rx.try_recv().unwrap();
            }
            for _ in 0..waiters.len() {
                let (mut receiving, wakes, waker) = waiters.pop_front().unwrap();
                if wakes.take() > 0 {
                    total += 1;
                    if receiving.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                        recv(&mut waiters);
                        continue;
                    }
                }
                waiters.push_back((receiving, wakes, waker));
            }
        }
        assert_eq!(rx.len(), 0);
        assert!(total <= 100 + 100 / 4, "one wake per message and one per retired segment: {total}");
    });
}
