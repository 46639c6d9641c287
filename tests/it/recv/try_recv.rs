//! `try_recv` and `try_recv_batch` beside threads that are in the middle of a send.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use crate::common::{current_runtime, plain};
use turbostream::{ReadMode, Receiver, Sender, TryRecvError};

fn channel(mode: ReadMode) -> (Sender, Receiver) {
    turbostream::builder().max_bytes(1 << 20).read_mode(mode).build().expect("valid")
}

/// Each thread sends a message and then takes one: its own, or one of another thread, must be there.
#[test]
fn message_whose_send_has_returned_is_there() {
    plain(|| {
        let runtime = current_runtime(false);
        let _context = runtime.enter();
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let (tx, rx) = channel(mode);
            let start = Barrier::new(4);
            thread::scope(|scope| {
                for number in 0..4 {
                    let (tx, mut rx, start) = (tx.clone(), rx.clone(), &start);
                    scope.spawn(move || {
                        start.wait();
                        for round in 0..20_000 {
                            tx.try_send([number; 100]).expect("room for four");
                            let received = match round % 2 {
                                0 => rx.try_recv().map(|message| message.len()),
                                _ => rx.try_recv_batch(1).map(|batch| batch.payload_bytes()),
                            };
                            assert_eq!(received, Ok(100), "{mode:?}, round {round}");
                        }
                    });
                }
            });
            assert_eq!((rx.len(), tx.monitor().stats().received_messages), (0, 80_000));
        }
    });
}

/// A thread that drains stops at the first `Empty`. Then nothing is left of what was sent before.
#[test]
fn drain_after_the_last_send_leaves_nothing() {
    plain(|| {
        let runtime = current_runtime(false);
        let _context = runtime.enter();
        let (tx, mut rx) = channel(ReadMode::Safe);
        for _ in 0..200 {
            let sent = AtomicUsize::new(0);
            thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        for _ in 0..100 {
                            tx.try_send([7; 64]).expect("room");
                            sent.fetch_add(1, Relaxed);
                        }
                    });
                }
                let (mut received, mut done) = (0, 0);
                while received < 300 {
                    let before = sent.load(Relaxed);
                    while rx.try_recv().is_ok() {
                        received += 1;
                    }
                    assert!(received >= before, "{received} of {before} received, and then `Empty`");
                    done += 1;
                    assert!(done < 10_000_000);
                }
            });
        }
    });
}

#[test]
fn message_that_a_closure_still_writes_is_busy() {
    plain(|| {
        let runtime = current_runtime(false);
        let _context = runtime.enter();
        // In a segment, and longer than one.
        for len in [8, 400_000] {
            let (tx, mut rx) = channel(ReadMode::Safe);
            let mut other = rx.clone();
            let sent = tokio::task::unconstrained(tx.send_with(len, |buf| {
                tx.try_send("accepted").expect("room");
                assert_eq!(rx.try_recv(), Err(TryRecvError::Busy));
                assert_eq!(rx.try_recv_batch(8).map(drop), Err(TryRecvError::Busy));
                assert!(!rx.is_empty() && rx.len() == 2);
                buf.fill(7);
                buf.len()
            }));
            futures::executor::block_on(sent).expect("open");
            assert_eq!(other.try_recv().unwrap(), vec![7; len]);
            assert_eq!(other.try_recv().unwrap(), "accepted");
            assert_eq!(other.try_recv(), Err(TryRecvError::Empty));
        }
    });
}
