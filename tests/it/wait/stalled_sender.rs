//! A receiver's wait while a sender is between reservation and commit.

use std::sync::mpsc;
use std::thread;

use crate::common::{plain, poll_once};
use futures::SinkExt;
use futures::executor::block_on;
use turbostream::{Receiver, Sender};

/// Every wait sleeps after a bounded spin: a poll of `recv` returns whatever a sender on another thread does.
#[test]
fn receiver_sleeps_while_sender_is_between_reserve_and_commit() {
    for sealed in [false, true] {
        plain(move || {
            let runtime = crate::common::current_runtime(false);
            let _context = runtime.enter();
            let (mut tx, mut rx) = turbostream::channel();
            let ((stalls, stalled), (release, released)) = (mpsc::channel(), mpsc::channel::<()>());
            let sender = thread::spawn({
                let tx = tx.clone();
                move || {
                    let write = |buf: &mut [u8]| {
                        stalls.send(()).expect("the test waits");
                        released.recv().expect("the test releases the sender");
                        buf[0] = 7;
                        1
                    };
                    block_on(tx.send_with(10, write)).map_err(drop).expect("open");
                }
            });
            stalled.recv().expect("the sender stalls");
            assert!(rx.try_recv().is_err(), "reserved, and not committed");
            // In both cases a message follows the one that the receiver waits for.
            if sealed {
                block_on(SinkExt::flush(&mut tx)).expect("open");
                tx.try_send("in the next segment").expect("room");
            } else {
                tx.try_send("after it").expect("room");
            }
            let mut other = rx.clone();
            let mut recv = Box::pin(rx.recv());
            assert!(poll_once(&mut recv).is_pending());
            // A second receiver finds that a waiter is registered already.
            assert!(poll_once(&mut Box::pin(other.recv())).is_pending());
            release.send(()).expect("the sender waits");
            assert_eq!(block_on(recv).as_deref(), Some(&[7][..]));
            sender.join().expect("no panic in the sender");
        });
    }
}

/// Starts a `send_with` whose closure writes one byte once it is released, and a message after it; returns while the closure
/// waits.
fn stall(tx: &Sender) -> (mpsc::Sender<()>, thread::JoinHandle<()>) {
    let ((stalls, stalled), (release, released)) = (mpsc::channel(), mpsc::channel::<()>());
    let sender = thread::spawn({
        let tx = tx.clone();
        move || {
            let write = |buf: &mut [u8]| {
                stalls.send(()).expect("the test waits");
                released.recv().expect("the test releases the sender");
                buf[0] = 7;
                1
            };
            block_on(tx.send_with(10, write)).map_err(drop).expect("open");
        }
    });
    stalled.recv().expect("the sender stalls");
    tx.try_send("after it").expect("room");
    (release, sender)
}

/// A channel whose runtime has shut down, and the stall of its first message.
fn stalled() -> (Sender, Receiver, mpsc::Sender<()>, thread::JoinHandle<()>) {
    let runtime = crate::common::current_runtime(false);
    let (tx, rx) = turbostream::builder().runtime(runtime.handle().clone()).build().expect("a channel");
    drop(runtime);
    let (release, sender) = stall(&tx);
    (tx, rx, release, sender)
}

/// Waits until a receiver sleeps.
fn await_sleeper(tx: &Sender) {
    while tx.monitor().stats().waiting_receivers == 0 {
        thread::yield_now();
    }
}

#[test]
fn blocked_receiver_is_woken_after_a_closure() {
    plain(|| {
        let (tx, mut rx, release, sender) = stalled();
        let receiver = thread::spawn(move || [(); 2].map(|()| rx.blocking_recv().expect("a message")));
        await_sleeper(&tx);
        release.send(()).expect("the sender waits");
        assert_eq!(receiver.join().expect("no panic"), [&[7][..], b"after it"]);
        sender.join().expect("no panic in the sender");
    });
}

#[test]
fn drainer_is_woken_after_a_closure() {
    plain(|| {
        let (tx, mut rx, release, sender) = stalled();
        let receiver = thread::spawn(move || [(); 2].map(|()| rx.blocking_recv().expect("a message")));
        await_sleeper(&tx);
        let mut drained = Box::pin(tx.drained());
        assert!(poll_once(&mut drained).is_pending());
        release.send(()).expect("the sender waits");
        block_on(drained).expect("all was received");
        receiver.join().expect("no panic in the receiver");
        sender.join().expect("no panic in the sender");
    });
}

/// The last receiver leaves during the closure, while a drainer waits: then the messages are discarded.
#[test]
fn messages_are_discarded_after_a_closure() {
    plain(|| {
        let (tx, rx, release, sender) = stalled();
        let mut drained = Box::pin(tx.drained());
        assert!(poll_once(&mut drained).is_pending());
        drop(rx);
        assert_eq!(tx.len(), 2, "not discarded yet");
        release.send(()).expect("the sender waits");
        block_on(drained).expect_err("the messages were discarded");
        sender.join().expect("no panic in the sender");
        let stats = tx.monitor().stats();
        assert_eq!((stats.dropped_messages, stats.memory_bytes()), (2, 0));
    });
}

/// The closure drops the last receiver itself.
#[test]
fn closure_may_drop_the_last_receiver() {
    plain(|| {
        let runtime = crate::common::current_runtime(false);
        let _context = runtime.enter();
        let (tx, rx) = turbostream::channel();
        let monitor = tx.monitor();
        let write = |buf: &mut [u8]| {
            drop(rx);
            buf.len()
        };
        block_on(tx.send_with(10, write)).map_err(drop).expect("it was reserved before");
        assert_eq!((monitor.stats().dropped_messages, monitor.stats().memory_bytes()), (1, 0));
    });
}

/// No timer of the runtime is needed, and its only thread sleeps.
#[test]
fn receiver_is_woken_under_a_paused_clock() {
    plain(|| {
        let runtime = crate::common::current_runtime(true);
        runtime.block_on(async {
            let (tx, mut rx) = turbostream::channel();
            let (release, sender) = stall(&tx);
            let releasing = thread::spawn(move || {
                await_sleeper(&tx);
                release.send(()).expect("the sender waits");
                tx
            });
            assert_eq!(rx.recv().await.as_deref(), Some(&[7][..]));
            let _tx = releasing.join().expect("no panic");
            sender.join().expect("no panic in the sender");
        });
    });
}
