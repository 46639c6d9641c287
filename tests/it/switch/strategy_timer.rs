//! The strategy timer of the background task.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use crate::common::{advance, current, current_runtime, ms, multi_runtime, paused, plain, settle};
use turbostream::{Builder, MessageCount, ReadMode, Sender, TimeWindow, builder};

#[test]
fn message_arms_strategy_timer_while_task_waits_to_trim() {
    paused(async {
        let window = TimeWindow(Duration::from_millis(5));
        let (tx, mut rx) = builder().on_demand(false).strategy(window).build().expect("valid");
        for _ in 0..3 {
            advance(Duration::from_millis(20)).await;
            let sent = tokio::time::Instant::now();
            tx.send("1").await.expect("open");
            rx.recv().await.expect("open");
            assert!(sent.elapsed() <= Duration::from_millis(10), "visible after {:?}", sent.elapsed());
        }
    });
}

#[test]
fn deferred_switch_is_made_while_read_messages_stay_lent() {
    for batches in [false, true] {
        paused(async move {
            let channel = builder().segment_bytes(64).segment_messages(4).max_bytes(4 * (64 + 4 * 8 + 128));
            let channel = channel.on_demand(false).read_mode(ReadMode::ZeroCopy).strategy(MessageCount(2));
            let (tx, mut rx) = channel.build().expect("valid");
            for _ in 0..8 {
                tx.try_send("m").expect("room");
            }
            let (mut kept, mut read) = (Vec::new(), 0);
            while read < 8 {
                if batches {
                    read += rx.recv_batch(10).await.expect("open").len();
                } else {
                    kept.push(rx.recv().await.expect("open"));
                    read += 1;
                }
            }
            assert_eq!(read, 8);
        });
    }
}

#[test]
fn background_task_ends_with_the_channel() {
    paused(async {
        let metrics = tokio::runtime::Handle::current().metrics();
        for _ in 0..10 {
            let (tx, mut rx) = builder().build().expect("valid");
            let monitor = tx.monitor();
            tx.send("1").await.expect("open");
            rx.recv().await.expect("open");
            drop((tx, rx));
            settle().await;
            drop(monitor);
        }
        settle().await;
        assert_eq!(metrics.num_alive_tasks(), 0);
    });
}

// The strategy timer is armed as soon as a message is queued, whatever the sender's thread does next.

fn with_timer() -> Builder {
    builder().on_demand(false).strategy(TimeWindow(ms(1)))
}

/// An executor's queue of ready tasks: each wake sends a message.
struct ReadyQueue(Sender);

impl Wake for ReadyQueue {
    fn wake(self: Arc<Self>) {
        self.0.try_send("ready").expect("room");
    }
}

#[test]
fn waker_of_yield_now_may_send_the_first_message() {
    current(async {
        let (tx, mut rx) = builder().build().expect("valid");
        let waker = Waker::from(Arc::new(ReadyQueue(tx)));
        assert!(pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        assert_eq!(rx.recv().await.as_deref(), Some(&b"ready"[..]));
    });
}

#[test]
fn paused_clock_advanced_past_window_switches_first_message() {
    paused(async {
        let (tx, mut rx) = with_timer().build().expect("valid");
        tx.send("1").await.expect("open");
        tokio::time::advance(ms(5)).await;
        assert_eq!(rx.try_recv().as_deref(), Ok(&b"1"[..]));
    });
}

/// The background task's runtime is idle, while the sender's worker is busy.
#[test]
fn window_ends_on_time_while_senders_worker_is_busy() {
    plain(|| {
        let (timers, busy) = (multi_runtime(), current_runtime(false));
        let (tx, mut rx) = with_timer().runtime(timers.handle().clone()).build().expect("valid");
        let (seen, was_seen) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let got = rx.blocking_recv();
            let _ = seen.send(());
            got
        });
        let in_time = busy.block_on(async move {
            tx.send("1").await.expect("open");
            was_seen.recv_timeout(Duration::from_secs(10)).is_ok()
        });
        assert!(in_time, "the message was not received while its sender's worker was busy");
        reader.join().expect("no panic");
    });
}

#[test]
fn nested_executor_does_not_delay_the_strategy_timer() {
    plain(|| {
        let (timers, busy) = (multi_runtime(), current_runtime(false));
        let (tx, mut rx) = with_timer().runtime(timers.handle().clone()).build().expect("valid");
        busy.block_on(async move {
            futures::executor::block_on(async {
                tx.send("1").await.expect("open");
                assert_eq!(rx.recv().await.as_deref(), Some(&b"1"[..]));
            });
        });
    });
}
