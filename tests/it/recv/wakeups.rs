//! Which receivers a message wakes; polled by hand.

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
        let (mut first, mut second) = (rx.clone(), rx.clone());
        let (wakes, waker) = WakeCounter::new();
        let noop = &mut Context::from_waker(Waker::noop());
        assert!(first.poll_recv(noop).is_pending());
        assert!(second.poll_recv(&mut Context::from_waker(&waker)).is_pending());
        tx.try_send("switched").unwrap();
        tx.switch();
        assert!(first.poll_recv(noop).is_ready());
        let woken = &mut Context::from_waker(&waker);
        assert!(wakes.take() == 1 && second.poll_recv(woken).is_pending());
        tx.try_send("not switched").unwrap();
        assert!(wakes.take() == 0 && second.poll_recv(noop).is_pending());
    });
}

/// A message wakes all receivers that sleep, each of them once: one that is not polled keeps no other asleep.
#[test]
fn message_wakes_each_sleeping_receiver_once() {
    paused(tokio::task::unconstrained(async {
        for count in [1, 2, 63, 64, 65, 130, 1000] {
            let (tx, rx) = small();
            let mut waiters: Vec<_> = (0..count)
                .map(|_| {
                    let ((wakes, waker), mut rx) = (WakeCounter::new(), rx.clone());
                    let mut recv = Box::pin(async move { rx.recv().await });
                    assert!(recv.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                    (recv, wakes, waker)
                })
                .collect();
            assert_eq!(tx.monitor().stats().waiting_receivers, count);
            tx.try_send("for the last one").unwrap();
            tx.try_send("for the one before").unwrap();
            assert!(waiters.iter().all(|(_, wakes, _)| wakes.take() == 1), "of {count}");
            assert_eq!(tx.monitor().stats().waiting_receivers, 0);

            let (mut last, _, waker) = waiters.pop().unwrap();
            assert!(last.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
            while let Some((mut recv, wakes, waker)) = waiters.pop() {
                let polled = recv.as_mut().poll(&mut Context::from_waker(&waker));
                assert_eq!(polled.is_ready(), waiters.len() + 2 == count);
                assert_eq!(wakes.take(), 0);
            }
            assert_eq!((rx.len(), tx.monitor().stats().waiting_receivers), (usize::from(count == 1), 0));
        }
    }));
}
