//! `try_recv` and `try_recv_batch` beside threads that are in the middle of a send.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use crate::common::{current_runtime, plain, poll_once};
use bytes::Bytes;
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

/// A waker that tries to receive, as an executor does that runs a task at once when it is woken.
struct Receiving(Mutex<Receiver>, Mutex<Vec<Result<Bytes, TryRecvError>>>);

impl Wake for Receiving {
    fn wake(self: Arc<Self>) {
        let received = self.0.lock().expect("no panic").try_recv();
        self.1.lock().expect("no panic").push(received);
    }
}

/// Two segments of four messages: one is lent, and the other one is free, and kept for the first of two senders.
///
/// Calls `first` with a sender that waits, and returns what the waker of the second one has received when the first has sent.
fn wake_by_opening<F: Future<Output = bool>>(
    first: impl FnOnce(Sender) -> F,
) -> Vec<Result<Bytes, TryRecvError>> {
    let one = 64 + 4 * 8 + 128;
    let builder = turbostream::builder().segment_bytes(64).segment_messages(4).max_bytes(2 * one);
    let (tx, mut rx) = builder.max_message_bytes(one).build().expect("valid");
    let receiving = Arc::new(Receiving(Mutex::new(rx.clone()), Mutex::default()));
    let waker = Waker::from(Arc::clone(&receiving));
    while tx.try_send("1").is_ok() {}
    let _lent = rx.try_recv_batch(4).expect("sent");
    let mut first = Box::pin(first(tx.clone()));
    assert!(poll_once(&mut first).is_pending());
    // Others use the segment that was free for it, so the next one is kept for it.
    drop(rx.try_recv_batch(4).expect("sent"));
    while tx.try_send("2").is_ok() {}
    assert!(poll_once(&mut first).is_pending());
    let mut second = pin!(tx.send("second"));
    assert!(second.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(rx.try_recv_batch(4).expect("sent"));
    assert_eq!(poll_once(&mut first), Poll::Ready(true));
    std::mem::take(&mut *receiving.1.lock().expect("no panic"))
}

/// The sender that opens a segment wakes others. It must not wait for itself if one of their wakers receives.
#[test]
fn waker_that_receives_does_not_wait_for_its_own_thread() {
    plain(|| {
        let runtime = current_runtime(false);
        let _context = runtime.enter();
        let copied = wake_by_opening(|tx| async move { tx.send("first").await.is_ok() });
        assert_eq!(copied, [Ok(Bytes::from_static(b"first"))]);
        // A closure writes the message meanwhile, however long that takes.
        let in_place = wake_by_opening(|tx| async move { tx.send_with(8, |_| 8).await.is_ok() });
        assert_eq!(in_place, [Err(TryRecvError::Busy)]);
    });
}
