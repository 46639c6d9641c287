//! Who waits behind a sender that leaves, or that waits for more: polled by hand.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use bytes::Bytes;
use crate::common::paused;
use futures::SinkExt;
use turbostream::{MessageCount, ReadMode, Receiver, Sender, TrySendError};

/// Segments of four messages and 200 bytes, 360 bytes of memory each; what is longer travels by reference.
const SEGMENT: usize = 200 + 4 * 8 + 128;

fn tiny(max_bytes: usize) -> (Sender, Receiver) {
    turbostream::builder()
        .segment_bytes(200)
        .segment_messages(4)
        .max_bytes(max_bytes)
        .max_message_bytes(max_bytes - SEGMENT)
        .read_mode(ReadMode::ZeroCopy)
        .strategy(MessageCount(1000))
        .build()
        .expect("a valid configuration")
}

fn large(len: usize) -> Bytes {
    Bytes::from(vec![7; len])
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Woken {
    fn new() -> (Arc<Self>, Waker) {
        let woken = Arc::new(Self::default());
        (Arc::clone(&woken), Waker::from(woken))
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// The room is what a segment leaves that was sealed after all of it was read, and that no receiver comes for.
#[test]
fn behind_a_sender_that_gives_up_there_is_room_in_what_was_read() {
    paused(async {
        let (tx, rx) = tiny(2 * SEGMENT + 99);
        for _ in 0..4 {
            tx.try_send("lent").unwrap();
        }
        let lent = rx.recv_batch(4).await.unwrap();
        let noop = &mut Context::from_waker(Waker::noop());
        let mut first = Box::pin(tx.send(large(201)));
        assert!(first.as_mut().poll(noop).is_pending(), "both segments are taken, and 99 bytes are left");
        tx.try_send("read").unwrap();
        assert_eq!(rx.try_recv().unwrap(), "read");
        assert!(matches!(tx.try_send(large(201)), Err(TrySendError::Full(_))));

        let (woken, waker) = Woken::new();
        let cx = &mut Context::from_waker(&waker);
        let mut second = pin!(tx.send("second"));
        let polled = second.as_mut().poll(cx);
        drop(first);
        assert!(polled.is_ready() || woken.take(), "nobody is before it, and all was read");
        assert!(second.poll(cx).is_ready());
        drop(lent);
    });
}

/// A waker that panics when nobody needs it any more.
struct Unwanted;

impl Wake for Unwanted {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Unwanted {
    fn drop(&mut self) {
        panic!("a waker of the user");
    }
}

#[test]
fn behind_a_sink_whose_waker_panics_there_is_room() {
    paused(async {
        let (tx, rx) = tiny(2 * SEGMENT + 420);
        tx.try_send(large(201)).unwrap();
        let noop = &mut Context::from_waker(Waker::noop());
        let mut sink = tx.clone();
        sink.start_send_unpin(large(600)).unwrap();
        let unwanted = Waker::from(Arc::new(Unwanted));
        assert!(sink.poll_ready_unpin(&mut Context::from_waker(&unwanted)).is_pending());
        drop(unwanted); // the channel has one

        let (woken, waker) = Woken::new();
        let cx = &mut Context::from_waker(&waker);
        let mut second = pin!(tx.send(large(210)));
        assert!(second.as_mut().poll(cx).is_pending(), "there is room for it, and another comes first");
        let polled = catch_unwind(AssertUnwindSafe(|| sink.poll_ready_unpin(noop)));
        assert!(polled.is_err());
        assert!(woken.take(), "nobody is before it");
        assert!(second.poll(cx).is_ready());
        drop((sink, rx));
    });
}

#[test]
fn a_sink_whose_waker_panics_keeps_its_message() {
    paused(async {
        let (tx, rx) = tiny(2 * SEGMENT + 420);
        tx.try_send(large(201)).unwrap();
        let noop = &mut Context::from_waker(Waker::noop());
        let mut sink = tx.clone();
        sink.start_send_unpin(large(600)).unwrap();
        let unwanted = Waker::from(Arc::new(Unwanted));
        assert!(sink.poll_ready_unpin(&mut Context::from_waker(&unwanted)).is_pending());
        drop(unwanted);
        assert!(catch_unwind(AssertUnwindSafe(|| sink.poll_ready_unpin(noop))).is_err());

        assert_eq!(rx.try_recv().unwrap().len(), 201);
        assert!(sink.poll_ready_unpin(noop).is_ready());
        assert_eq!(rx.try_recv().unwrap().len(), 600);
    });
}

/// With `on_demand(false)` nobody can take what was not switched.
#[test]
fn what_was_not_switched_wakes_no_receiver() {
    paused(async {
        let untimed = turbostream::builder().on_demand(false).strategy(MessageCount(usize::MAX));
        let (tx, rx) = untimed.build().expect("a valid configuration");
        let (first, second) = (rx.clone(), rx.clone());
        let (woken, waker) = Woken::new();
        let noop = &mut Context::from_waker(Waker::noop());
        assert!(first.poll_recv(noop).is_pending());
        assert!(second.poll_recv(&mut Context::from_waker(&waker)).is_pending());
        tx.try_send("switched").unwrap();
        tx.switch();
        tx.try_send("not switched").unwrap();
        assert!(first.poll_recv(noop).is_ready());
        assert!(!woken.take() && second.poll_recv(noop).is_pending());
    });
}

#[test]
fn one_message_wakes_one_receiver_whoever_was_woken_in_vain_before() {
    paused(async {
        let (tx, rx) = tiny(4 * SEGMENT);
        let recv = |waiters: &mut VecDeque<_>| {
            let (woken, waker) = Woken::new();
            let rx = rx.clone();
            let mut recv = Box::pin(async move { rx.recv().await });
            assert!(recv.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            waiters.push_back((recv, woken, waker));
        };
        let mut waiters = VecDeque::new();
        (0..4).for_each(|_| recv(&mut waiters));
        let mut wakes = 0;
        for message in 0..100 {
            tx.try_send("message").unwrap();
            if message == 0 {
                rx.try_recv().unwrap();
            }
            for _ in 0..waiters.len() {
                let (mut receiving, woken, waker) = waiters.pop_front().unwrap();
                if woken.take() {
                    wakes += 1;
                    if receiving.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                        recv(&mut waiters);
                        continue;
                    }
                }
                waiters.push_back((receiving, woken, waker));
            }
        }
        assert_eq!(rx.len(), 0);
        assert!(wakes <= 100 + 100 / 4, "one for each message, and one where a segment is left: {wakes}");
    });
}
