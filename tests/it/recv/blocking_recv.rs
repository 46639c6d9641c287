//! `Receiver::blocking_recv`: waiting, close, and the contexts in which it may be called.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use crate::common::{check, current_runtime, message, multi, multi_runtime, plain};
use bytes::Bytes;
use futures::executor;
use tokio::task::{block_in_place, spawn_blocking};
use turbostream::{Receiver, Sender, TimeWindow};

/// A channel whose runtime is never driven.
fn undriven() -> (Sender, Receiver) {
    let runtime = current_runtime(false);
    turbostream::builder().max_bytes(64 << 10).runtime(runtime.handle().clone()).build().expect("valid")
}

#[test]
fn blocking_recv_gets_every_message_in_order_and_the_end() {
    plain(|| {
        let (tx, mut rx) = undriven();
        let reading = thread::spawn(move || {
            let mut next = 0;
            while let Some(m) = rx.blocking_recv() {
                assert_eq!(check(&m), Some((0, next)));
                next += 1;
            }
            assert_eq!(rx.blocking_recv(), None, "the channel stays closed");
            next
        });
        executor::block_on(async {
            for number in 0..5000 {
                tx.send(message(0, number, 64)).await.expect("open");
            }
        });
        drop(tx);
        assert_eq!(reading.join().expect("the receiver"), 5000);
    });
}

#[test]
fn blocking_recv_is_woken_by_a_message_and_by_close() {
    plain(|| {
        let (tx, mut rx) = undriven();
        let first_received = Arc::new(Barrier::new(2));
        let reading = thread::spawn({
            let first_received = first_received.clone();
            move || {
                let first = rx.blocking_recv();
                first_received.wait();
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
        first_received.wait();
        wait_for_reader();
        drop(tx);
        assert_eq!(reading.join().expect("the receiver"), (Some(Bytes::from_static(b"wakes")), None));
    });
}

#[test]
fn blocking_recv_panics_in_a_task_and_works_on_other_threads() {
    multi(async {
        let (tx, mut rx) = turbostream::channel();
        (0..3).for_each(|_| tx.try_send("there").expect("room"));
        let panic = catch_unwind(AssertUnwindSafe(|| rx.blocking_recv())).expect_err("in a task");
        let text = panic.downcast::<String>().expect("a message");
        assert!(text.contains("Receiver::blocking_recv"), "{text}");
        assert_eq!(rx.len(), 3, "no message was taken");

        assert_eq!(block_in_place(|| rx.blocking_recv()).expect("open"), "there");
        let mut moved = rx.clone();
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
fn blocking_recv_panics_inside_block_on() {
    plain(|| {
        for runtime in [multi_runtime(), current_runtime(false)] {
            let (tx, mut rx) = undriven();
            tx.try_send("there").expect("room");
            let call = AssertUnwindSafe(|| rx.blocking_recv());
            assert!(runtime.block_on(async { catch_unwind(call) }).is_err());
            assert_eq!(rx.blocking_recv().expect("open"), "there");
        }
    });
}

#[test]
fn blocking_recv_gets_messages_sealed_by_the_time_window() {
    multi(async {
        let (tx, mut rx) = turbostream::builder()
            .strategy(TimeWindow(Duration::from_millis(1)))
            .on_demand(false)
            .build()
            .expect("valid");
        let reading = thread::spawn(move || rx.blocking_recv());
        tx.send("in time").await.expect("open");
        let got = spawn_blocking(|| reading.join()).await.expect("joined").expect("the receiver");
        assert_eq!(got.expect("open"), "in time");
    });
}
