//! Waits that were given up: what they leave in a handle keeps no other from being woken, whatever becomes of the runtime
//! in which the channel was built.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::common::{WakeCounter, current_runtime, plain};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::runtime::Runtime;
use turbostream::{Receiver, Sender};

/// What becomes of the runtime in which the channel was built.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Dropped,
    NotDriven,
    Replaced,
}

/// Builds a channel of two segments of one message, and runs `test` in what is left of its runtime.
fn with_each_fate(test: impl Fn(Fate, Sender, Receiver) + Copy + Send + 'static) {
    plain(move || {
        for fate in [Fate::Dropped, Fate::NotDriven, Fate::Replaced] {
            let built_in = current_runtime(false);
            let (tx, rx) = built_in.block_on(async {
                let builder = turbostream::builder().segment_bytes(64).segment_messages(1).max_bytes(2 * 200);
                builder.max_message_bytes(200).build().expect("valid")
            });
            match fate {
                Fate::Dropped => {
                    drop(built_in);
                    test(fate, tx, rx);
                }
                Fate::NotDriven => {
                    test(fate, tx, rx);
                    drop(built_in);
                }
                Fate::Replaced => {
                    drop(built_in);
                    let other: Runtime = current_runtime(false);
                    let _context = other.enter();
                    test(fate, tx, rx);
                }
            }
        }
    });
}

fn poll<F: Future>(future: F, waker: &Waker) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(waker))
}

#[test]
fn stream_that_was_given_up_keeps_no_wake_from_its_own_handle() {
    with_each_fate(|fate, tx, mut rx| {
        assert!(poll(rx.next(), Waker::noop()).is_pending());
        let (wakes, waker) = WakeCounter::new();
        let mut recv = pin!(rx.recv());
        assert!(recv.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        tx.try_send("1").unwrap();
        assert_eq!(wakes.take(), 1, "{fate:?}");
        assert_eq!(recv.poll(&mut Context::from_waker(&waker)), Poll::Ready(Some(Bytes::from_static(b"1"))));
    });
}

#[test]
fn stream_that_was_given_up_keeps_no_wake_from_other_handles() {
    with_each_fate(|fate, tx, mut rx| {
        let mut others: Vec<_> = (0..130).map(|_| rx.clone()).collect();
        for other in &mut others {
            assert!(poll(other.next(), Waker::noop()).is_pending());
        }
        let (wakes, waker) = WakeCounter::new();
        let mut recv = pin!(rx.recv());
        assert!(recv.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        tx.try_send("1").unwrap();
        assert_eq!(wakes.take(), 1, "{fate:?}");
        assert!(recv.poll(&mut Context::from_waker(&waker)).is_ready());
    });
}

#[test]
fn sink_that_was_given_up_keeps_no_room_from_later_senders() {
    with_each_fate(|fate, tx, mut rx| {
        for message in ["1", "2"] {
            tx.try_send(message).unwrap();
        }
        let mut sink = tx.clone();
        assert!(poll(SinkExt::feed(&mut sink, Bytes::from_static(b"given up")), Waker::noop()).is_pending());
        let (wakes, waker) = WakeCounter::new();
        let mut send = pin!(tx.send("3"));
        assert!(send.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(rx.try_recv().unwrap(), "1");
        assert_eq!(wakes.take(), 1, "{fate:?}");
        assert_eq!(send.poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(())));
        assert_eq!(rx.try_recv().unwrap(), "2");
        assert_eq!(tx.try_send("4"), Ok(()), "nothing is kept for a sink that was woken");
        drop(sink);
    });
}

/// Also sinks that were polled again after others had taken their room.
#[test]
fn sinks_that_were_passed_and_given_up_keep_no_room() {
    with_each_fate(|fate, tx, mut rx| {
        for message in ["1", "2"] {
            tx.try_send(message).unwrap();
        }
        let mut sinks: Vec<_> = (0..65).map(|_| tx.clone()).collect();
        for sink in &mut sinks {
            assert!(poll(SinkExt::feed(sink, Bytes::from_static(b"given up")), Waker::noop()).is_pending());
        }
        for message in ["1", "2"] {
            assert_eq!(rx.try_recv().unwrap(), message);
        }
        for message in ["3", "4"] {
            assert_eq!(tx.try_send(message), Ok(()), "{fate:?}");
        }
        for sink in &mut sinks {
            assert!(poll(SinkExt::feed(sink, Bytes::from_static(b"given up")), Waker::noop()).is_pending());
        }
        let (wakes, waker) = WakeCounter::new();
        let mut send = pin!(tx.send(vec![5; 200]));
        assert!(send.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        for message in ["3", "4"] {
            assert_eq!(rx.try_recv().unwrap(), message);
        }
        assert_eq!(wakes.take(), 1, "{fate:?}");
        assert_eq!(send.poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(())));
    });
}

#[test]
fn send_that_was_dropped_wakes_the_next() {
    with_each_fate(|fate, tx, mut rx| {
        for message in ["1", "2"] {
            tx.try_send(message).unwrap();
        }
        let mut dropped = Box::pin(tx.send("dropped"));
        assert!(dropped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let (wakes, waker) = WakeCounter::new();
        let mut send = pin!(tx.send("3"));
        assert!(send.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(rx.try_recv().unwrap(), "1");
        drop(dropped);
        assert_eq!(wakes.take(), 1, "{fate:?}");
        assert!(send.poll(&mut Context::from_waker(&waker)).is_ready());
    });
}
