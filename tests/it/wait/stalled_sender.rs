//! A receiver while a writer takes its time between its reservation and its commit.

use std::sync::mpsc;
use std::thread;

use crate::common::{plain, poll_once};
use futures::SinkExt;
use futures::executor::block_on;

/// Every wait sleeps after a bounded spin: one poll of `recv` ends, whatever a writer on another thread does.
#[test]
fn a_receiver_sleeps_while_a_writer_is_between_reservation_and_commit() {
    for sealed in [false, true] {
        plain(move || {
            let runtime = crate::common::current_runtime(false);
            let _context = runtime.enter();
            let (mut tx, rx) = turbostream::channel();
            let ((stalls, stalled), (goes_on, go_on)) = (mpsc::channel(), mpsc::channel::<()>());
            let writer = thread::spawn({
                let tx = tx.clone();
                move || {
                    let write = |buf: &mut [u8]| {
                        stalls.send(()).expect("somebody waits");
                        go_on.recv().expect("somebody tells");
                        buf[0] = 7;
                        1
                    };
                    block_on(tx.send_with(10, write)).map_err(drop).expect("open");
                }
            });
            stalled.recv().expect("the writer stalls");
            assert!(rx.try_recv().is_err(), "reserved, and not committed");
            // It does not matter which: there is something behind what the receiver waits for.
            if sealed {
                block_on(SinkExt::flush(&mut tx)).expect("open");
                tx.try_send("in the next segment").expect("room");
            } else {
                tx.try_send("behind").expect("room");
            }
            let mut recv = Box::pin(rx.recv());
            assert!(poll_once(&mut recv).is_pending());
            // Another finds that it is waited for already.
            let other = rx.clone();
            assert!(poll_once(&mut Box::pin(other.recv())).is_pending());
            goes_on.send(()).expect("the writer waits");
            assert_eq!(block_on(recv).as_deref(), Some(&[7][..]));
            writer.join().expect("the writer");
        });
    }
}
