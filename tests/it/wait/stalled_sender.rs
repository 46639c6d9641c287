//! A receiver's wait while a sender is between reservation and commit.

use std::sync::mpsc;
use std::thread;

use crate::common::{plain, poll_once};
use futures::SinkExt;
use futures::executor::block_on;

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
