//! Threads that block for messages, and where they may.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use crate::common::{check, current_runtime, message, multi, multi_runtime, plain};
use futures::executor;
use tokio::task::{block_in_place, spawn_blocking};
use turbostream::{Receiver, Sender, TimeWindow};

/// A channel whose runtime nobody drives.
fn undriven() -> (Sender, Receiver) {
    let runtime = current_runtime(false);
    turbostream::builder().max_bytes(64 << 10).runtime(runtime.handle().clone()).build().expect("valid")
}

#[test]
fn a_plain_thread_gets_every_message_in_order_and_the_end() {
    plain(|| {
        let (tx, rx) = undriven();
        let reading = thread::spawn(move || {
            let mut next = 0;
            while let Some(m) = rx.blocking_recv() {
                assert_eq!(check(&m), Some((0, next)));
                next += 1;
            }
            assert_eq!(rx.blocking_recv(), None, "and for ever");
            next
        });
        executor::block_on(async {
            for number in 0..5000 {
                tx.send(message(0, number, 64)).await.expect("open");
            }
        });
        drop(tx);
        assert_eq!(reading.join().expect("the reader"), 5000);
    });
}

#[test]
fn a_blocked_thread_is_woken_by_a_message_and_by_the_end() {
    plain(|| {
        let (tx, rx) = undriven();
        let asked = Arc::new(Barrier::new(2));
        let reading = thread::spawn({
            let asked = asked.clone();
            move || {
                let first = rx.blocking_recv();
                asked.wait();
                (first, rx.blocking_recv())
            }
        });
        let wait_for_reader = || {
            while tx.monitor().stats().waiting_receivers == 0 {
                thread::yield_now();
            }
        };
        wait_for_reader();
        tx.try_send("wakes").expect("room");
        asked.wait();
        wait_for_reader();
        drop(tx);
        assert_eq!(reading.join().expect("the reader"), (Some(Bytes::from_static(b"wakes")), None));
    });
}

#[test]
fn it_works_beside_a_runtime_but_not_in_one() {
    multi(async {
        let (tx, rx) = turbostream::channel();
        (0..3).for_each(|_| tx.try_send("there").expect("room"));
        let rx = Arc::new(rx);
        let refused = catch_unwind(AssertUnwindSafe(|| rx.blocking_recv())).expect_err("in a task");
        let text = refused.downcast::<String>().expect("a message");
        assert!(text.contains("Receiver::blocking_recv"), "{text}");
        assert_eq!(rx.len(), 3, "nothing was taken");

        assert_eq!(block_in_place(|| rx.blocking_recv()).expect("open"), "there");
        let moved = rx.clone();
        let got = spawn_blocking(move || moved.blocking_recv()).await.expect("may block");
        assert_eq!(got.expect("open"), "there");
        let entering = thread::spawn({
            let runtime = tokio::runtime::Handle::current();
            move || {
                let _entered = runtime.enter();
                rx.blocking_recv()
            }
        });
        assert_eq!(entering.join().expect("drives no tasks").expect("open"), "there");
    });
}

#[test]
fn block_on_of_either_runtime_refuses_it() {
    plain(|| {
        for runtime in [multi_runtime(), current_runtime(false)] {
            let (tx, rx) = undriven();
            tx.try_send("there").expect("room");
            let call = AssertUnwindSafe(|| rx.blocking_recv());
            assert!(runtime.block_on(async { catch_unwind(call) }).is_err());
            assert_eq!(rx.blocking_recv().expect("open"), "there");
        }
    });
}

#[test]
fn what_is_sealed_by_time_alone_reaches_a_blocked_thread() {
    multi(async {
        let (tx, rx) = turbostream::builder()
            .strategy(TimeWindow(Duration::from_millis(1)))
            .on_demand(false)
            .build()
            .expect("valid");
        let reading = thread::spawn(move || rx.blocking_recv());
        tx.send("in time").await.expect("open");
        let got = spawn_blocking(|| reading.join()).await.expect("joined").expect("the reader");
        assert_eq!(got.expect("open"), "in time");
    });
}
