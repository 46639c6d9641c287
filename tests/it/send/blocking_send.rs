//! Sending from plain threads: waits, errors, and where it must not be called.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use crate::common::{check, current_runtime, message, multi, multi_runtime, paused, plain};
use turbostream::{ReadMode, Receiver, SendError, Sender, WhenFull};

/// Two segments of four messages.
fn narrow(when_full: WhenFull) -> (Sender, Receiver) {
    turbostream::builder()
        .segment_bytes(1024)
        .segment_messages(4)
        .max_bytes(3 << 10)
        .when_full(when_full)
        .read_mode(ReadMode::Safe)
        .build()
        .expect("valid")
}

fn text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map_or_else(|| *panic.downcast_ref::<&str>().expect("a text"), String::as_str)
}

#[test]
fn threads_send_while_a_task_reads() {
    multi(async {
        const EACH: u32 = 2000;
        let (tx, rx) = narrow(WhenFull::Wait);
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
            let (writer, number) = check(&received).expect("long enough to say");
            assert_eq!(number, next[writer as usize]);
            next[writer as usize] += 1;
        }
        assert_eq!(next, [EACH; 3]);
        writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
    });
}

#[test]
fn a_thread_that_waits_for_room_goes_on_when_there_is_some_or_gets_its_payload_back() {
    plain(|| {
        let runtime = current_runtime(false);
        let context = runtime.enter();
        let (tx, rx) = narrow(WhenFull::Wait);
        drop(context);
        while tx.try_send("").is_ok() {}
        let waits = |n: usize| {
            while rx.monitor().stats().waiting_senders < n {
                thread::yield_now()
            }
        };
        let waiting = {
            let tx = tx.clone();
            thread::spawn(move || tx.blocking_send("after a wait"))
        };
        waits(1);
        let queued = rx.len();
        for _ in 0..queued {
            assert_eq!(rx.try_recv().as_deref(), Ok(&b""[..]));
        }
        waiting.join().expect("no panic").expect("there was room");
        assert_eq!(rx.try_recv().as_deref(), Ok(&b"after a wait"[..]));

        while tx.try_send("").is_ok() {}
        let waiting = thread::spawn(move || tx.blocking_send(String::from("never")));
        waits(1);
        rx.close();
        let error = waiting.join().expect("no panic").expect_err("closed meanwhile");
        assert!(matches!(error, SendError::Closed(payload) if payload == "never"));
    });
}

#[test]
fn refusals_give_the_payload_back() {
    plain(|| {
        let runtime = current_runtime(false);
        let context = runtime.enter();
        let (tx, _rx) = narrow(WhenFull::Reject);
        drop(context);
        let error = tx.blocking_send(vec![1; 10_000]).expect_err("too large");
        assert!(matches!(error, SendError::TooLarge { payload, len: 10_000, .. } if payload.len() == 10_000));
        while tx.blocking_send("").is_ok() {}
        assert!(matches!(tx.blocking_send("full"), Err(SendError::Full("full"))));
    });
}

#[test]
fn threads_for_blocking_work_and_threads_that_only_know_a_runtime_may_block() {
    plain(|| {
        let runtime = multi_runtime();
        let (tx, rx) = runtime.block_on(async { turbostream::channel() });
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
        tx.blocking_send("4").expect("open, and needs no runtime");
        let all: Vec<_> = std::iter::from_fn(|| rx.try_recv().ok()).collect();
        assert_eq!(all, ["1", "2", "3", "4"]);
    });
}

#[test]
fn a_thread_that_runs_tasks_must_not_block() {
    paused(async {
        let (tx, rx) = turbostream::channel();
        let panic = catch_unwind(AssertUnwindSafe(|| tx.blocking_send("no"))).expect_err("in a task");
        let text = text(&*panic);
        assert!(text.contains("Sender::blocking_send") && text.contains("spawn_blocking"), "{text}");
        assert!(rx.is_empty(), "nothing was sent");
        tx.send("goes on").await.expect("open");
        assert_eq!(rx.recv().await.as_deref(), Some(&b"goes on"[..]));
    });
}
