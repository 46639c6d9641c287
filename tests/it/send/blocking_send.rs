//! `Sender::blocking_send`: waiting, errors, and the contexts in which it may be called.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use crate::common::{check, current_runtime, message, multi, multi_runtime, paused, plain};
use turbostream::{ReadMode, Receiver, SendError, Sender, WhenFull};

/// Two segments of four messages.
fn two_segments(when_full: WhenFull) -> (Sender, Receiver) {
    turbostream::builder()
        .segment_bytes(1024)
        .segment_messages(4)
        .max_bytes(3 << 10)
        .when_full(when_full)
        .read_mode(ReadMode::Safe)
        .build()
        .expect("valid")
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map_or_else(|| *panic.downcast_ref::<&str>().expect("a text"), String::as_str)
}

#[test]
fn blocking_send_from_threads_delivers_to_a_task_in_order() {
    multi(async {
        const EACH: u32 = 2000;
        let (tx, mut rx) = two_segments(WhenFull::Wait);
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let tx = tx.clone();
                thread::spawn(move || {
                    for number in 0..EACH {
                        tx.blocking_send(message(writer, number, 16 + number as usize % 100)).expect("open");
                    }
                })
            })
            .collect();
        drop(tx);
        let mut next = [0; 3];
        while let Some(received) = rx.recv().await {
            let (writer, number) = check(&received).expect("a message header");
            assert_eq!(number, next[writer as usize]);
            next[writer as usize] += 1;
        }
        assert_eq!(next, [EACH; 3]);
        writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
    });
}

#[test]
fn blocking_send_waits_for_room_and_returns_payload_on_close() {
    plain(|| {
        let runtime = current_runtime(false);
        let context = runtime.enter();
        let (tx, mut rx) = two_segments(WhenFull::Wait);
        drop(context);
        while tx.try_send("").is_ok() {}
        let monitor = rx.monitor();
        let wait_for_senders = |n: usize| {
            while monitor.stats().waiting_senders < n {
                thread::yield_now()
            }
        };
        let waiting = {
            let tx = tx.clone();
            thread::spawn(move || tx.blocking_send("after a wait"))
        };
        wait_for_senders(1);
        let queued = rx.len();
        for _ in 0..queued {
            assert_eq!(rx.try_recv().as_deref(), Ok(&b""[..]));
        }
        waiting.join().expect("no panic").expect("room after the reads");
        assert_eq!(rx.try_recv().as_deref(), Ok(&b"after a wait"[..]));

        while tx.try_send("").is_ok() {}
        let waiting = thread::spawn(move || tx.blocking_send(String::from("never")));
        wait_for_senders(1);
        rx.close();
        let error = waiting.join().expect("no panic").expect_err("closed while waiting");
        assert!(matches!(error, SendError::Closed(payload) if payload == "never"));
    });
}

#[test]
fn blocking_send_errors_return_the_payload() {
    plain(|| {
        let runtime = current_runtime(false);
        let context = runtime.enter();
        let (tx, _rx) = two_segments(WhenFull::Reject);
        drop(context);
        let error = tx.blocking_send(vec![1; 10_000]).expect_err("too large");
        assert!(matches!(error, SendError::TooLarge { payload, len: 10_000, .. } if payload.len() == 10_000));
        while tx.blocking_send("").is_ok() {}
        assert!(matches!(tx.blocking_send("full"), Err(SendError::Full(()))));
    });
}

#[test]
fn blocking_send_works_on_blocking_threads_and_in_entered_runtimes() {
    plain(|| {
        let runtime = multi_runtime();
        let (tx, mut rx) = runtime.block_on(async { turbostream::channel() });
        runtime.block_on(async {
            let sender = tx.clone();
            tokio::task::spawn_blocking(move || sender.blocking_send("1").expect("open"))
                .await
                .expect("no panic");
            tokio::task::block_in_place(|| tx.blocking_send("2").expect("open"));
        });
        let context = runtime.enter();
        tx.blocking_send("3").expect("open");
        drop(context);
        drop(runtime);
        tx.blocking_send("4").expect("open; no runtime is needed");
        let all: Vec<_> = std::iter::from_fn(|| rx.try_recv().ok()).collect();
        assert_eq!(all, ["1", "2", "3", "4"]);
    });
}

#[test]
fn blocking_send_panics_inside_a_task() {
    paused(async {
        let (tx, mut rx) = turbostream::channel();
        let panic = catch_unwind(AssertUnwindSafe(|| tx.blocking_send("no"))).expect_err("in a task");
        let text = panic_text(&*panic);
        assert!(text.contains("Sender::blocking_send") && text.contains("spawn_blocking"), "{text}");
        assert!(rx.is_empty(), "nothing was sent");
        tx.send("after the panic").await.expect("open");
        assert_eq!(rx.recv().await.as_deref(), Some(&b"after the panic"[..]));
    });
}
