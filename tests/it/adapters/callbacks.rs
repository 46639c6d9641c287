//! Callback mode: `on_message`, `on_batch`, and `unregister`.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use crate::common::{
    advance, check, current_runtime, message, multi, multi_runtime, paused, plain, poll_once, settle,
};
use bytes::Bytes;
use futures::FutureExt;
use static_assertions::assert_impl_all;
use tokio::sync::mpsc;
use turbostream::{Batch, Callback, Receiver, Sender, TimeWindow};

assert_impl_all!(Callback: Send, Sync, Unpin, std::fmt::Debug);

fn open() -> (Sender, Receiver) {
    turbostream::builder().max_bytes(256 << 10).build().expect("valid")
}

fn number(m: &[u8]) -> u32 {
    check(m).expect("has a header").1
}

/// Registers a callback that collects the numbers of its messages.
fn collect(rx: Receiver) -> (Callback, Arc<Mutex<Vec<u32>>>) {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let callback = rx.on_message({
        let kept = kept.clone();
        move |m| kept.lock().expect("not poisoned").push(number(&m))
    });
    (callback, kept)
}

fn send(tx: &Sender, numbers: std::ops::Range<u32>) {
    for number in numbers {
        tx.try_send(message(0, number, 40)).expect("room");
    }
}

fn remaining(rx: &mut Receiver) -> Vec<u32> {
    std::iter::from_fn(|| rx.try_recv().ok()).map(|m| number(&m)).collect()
}

#[test]
fn callback_gets_all_messages_in_order_and_ends_with_channel() {
    paused(async {
        let (tx, rx) = open();
        send(&tx, 0..5);
        let (callback, kept) = collect(rx);
        settle().await;
        send(&tx, 5..10);
        settle().await;
        assert!(!callback.is_finished() && !tx.is_closed());
        send(&tx, 10..15);
        drop(tx);
        settle().await;
        assert_eq!(*kept.lock().expect("not poisoned"), (0..15).collect::<Vec<_>>());
        assert!(callback.is_finished());
        assert_eq!(format!("{callback:?}"), "Callback { finished: true, .. }");
        let mut rx = callback.unregister().await;
        assert_eq!(rx.recv().await, None, "the receiver is returned all the same");
    });
}

#[test]
fn batch_callback_keeps_its_limit() {
    paused(async {
        let (tx, rx) = open();
        send(&tx, 0..100);
        let (batches_tx, mut batches) = mpsc::unbounded_channel();
        rx.on_batch(30, move |batch: Batch| batches_tx.send(batch).expect("read below"));
        drop(tx);
        let mut numbers = Vec::new();
        while let Some(batch) = batches.recv().await {
            assert!((1..=30).contains(&batch.len()));
            numbers.extend(batch.iter().map(number));
        }
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    });
}

#[test]
fn dropped_handle_leaves_callback_running() {
    paused(async {
        let (tx, rx) = open();
        let (callback, kept) = collect(rx);
        drop(callback);
        settle().await;
        send(&tx, 0..3);
        settle().await;
        assert_eq!(*kept.lock().expect("not poisoned"), [0, 1, 2]);
        assert!(!tx.is_closed());
        drop(tx);
        settle().await;
        assert_eq!(Arc::strong_count(&kept), 1, "the task and its receiver are dropped");
    });
}

#[test]
fn unregister_returns_receiver_with_undelivered_messages() {
    paused(async {
        let (tx, rx) = open();
        let (callback, kept) = collect(rx);
        send(&tx, 0..3);
        settle().await;
        send(&tx, 3..6); // wakes the task, which runs only once this task waits
        let mut rx = callback.unregister().await;
        send(&tx, 6..9);
        assert_eq!(remaining(&mut rx), [3, 4, 5, 6, 7, 8]);
        settle().await;
        assert_eq!(*kept.lock().expect("not poisoned"), [0, 1, 2]);
        assert_eq!(Arc::strong_count(&kept), 1, "the task has ended");
        assert_eq!(tx.monitor().stats().waiting_receivers, 0);
        let (callback, kept) = collect(rx);
        send(&tx, 9..10);
        settle().await;
        assert_eq!(*kept.lock().expect("not poisoned"), [9], "registered again");
        assert_eq!(remaining(&mut callback.unregister().await), Vec::<u32>::new());
    });
}

#[test]
fn repeated_registration_loses_and_repeats_nothing() {
    multi(async {
        let (tx, mut rx) = open();
        let writing = tokio::spawn(async move {
            for number in 0..50_000 {
                tx.send(message(0, number, 40)).await.expect("open");
            }
        });
        let received = Arc::new(Mutex::new(Vec::new()));
        let collect = |m: Bytes| received.lock().expect("not poisoned").push(number(&m));
        let mut rounds = 0;
        loop {
            let kept = received.clone();
            let callback: Callback = match rounds % 2 {
                0 => rx.on_message(move |m| kept.lock().expect("not poisoned").push(number(&m))),
                _ => rx.on_batch(5, move |batch| {
                    kept.lock().expect("not poisoned").extend(batch.iter().map(number));
                }),
            };
            for _ in 0..rounds % 7 {
                tokio::task::yield_now().await;
            }
            rx = callback.unregister().await;
            rounds += 1;
            match rx.recv().await {
                Some(m) => collect(m),
                None => break,
            }
        }
        writing.await.expect("no panic in the sender");
        assert_eq!(*received.lock().expect("not poisoned"), (0..50_000).collect::<Vec<_>>());
    });
}

#[test]
fn callback_panic_is_counted_and_next_message_is_delivered() {
    paused(async {
        let (tx, rx) = open();
        let (seen_tx, mut seen) = mpsc::unbounded_channel();
        let callback = rx.on_message(move |m| {
            assert!(number(&m) % 3 != 0, "a panic on purpose");
            seen_tx.send(number(&m)).expect("read below");
        });
        send(&tx, 0..7);
        settle().await;
        let stats = tx.monitor().stats();
        assert_eq!((stats.callback_panics, stats.received_messages), (3, 7));
        let rx = callback.unregister().await;
        let callback = rx.on_batch(1, |_| panic!("a panic on purpose"));
        send(&tx, 7..9);
        settle().await;
        assert!(!callback.is_finished());
        assert_eq!(tx.monitor().stats().callback_panics, 5);
        assert_eq!([seen.recv().await, seen.recv().await, seen.recv().await], [Some(1), Some(2), Some(4)]);
    });
}

#[test]
fn busy_callback_yields_to_other_tasks() {
    paused(async {
        for (takes, at_most) in [(Duration::ZERO, 4096), (Duration::from_micros(50), 128)] {
            let (tx, rx) = turbostream::channel();
            send(&tx, 0..10_000);
            let calls = Arc::new(AtomicU32::new(0));
            let callback = rx.on_message({
                let calls = calls.clone();
                move |_| {
                    calls.fetch_add(1, Ordering::Relaxed);
                    let _ = tokio::time::advance(takes).now_or_never();
                }
            });
            let (mut before, mut most_in_a_row) = (0, 0);
            while before < 10_000 {
                tokio::task::yield_now().await;
                let now = calls.load(Ordering::Relaxed);
                most_in_a_row = most_in_a_row.max(now - before);
                before = now;
            }
            assert!(most_in_a_row <= at_most, "{most_in_a_row} without a yield");
            assert!(callback.unregister().await.is_empty());
        }
    });
}

/// Registers a callback whose first call signals its start and then blocks until released.
fn blocking_callback(rx: Receiver) -> (Callback, Arc<Barrier>, Arc<Barrier>, Arc<AtomicU32>) {
    let (called, release) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let calls = Arc::new(AtomicU32::new(0));
    let callback = rx.on_message({
        let (called, release, calls) = (called.clone(), release.clone(), calls.clone());
        move |_| {
            if calls.load(Ordering::Relaxed) == 0 {
                called.wait();
                release.wait();
            }
            calls.fetch_add(1, Ordering::Relaxed);
        }
    });
    (callback, called, release, calls)
}

#[test]
fn unregister_waits_for_call_in_progress() {
    plain(|| {
        let runtime = multi_runtime();
        let (tx, rx) = turbostream::builder().runtime(runtime.handle().clone()).build().expect("valid");
        let (callback, called, release, calls) = blocking_callback(rx);
        send(&tx, 0..3);
        called.wait();
        let mut unregistering = Box::pin(callback.unregister());
        assert!(poll_once(&mut unregistering).is_pending());
        release.wait();
        let mut rx = futures::executor::block_on(unregistering);
        assert_eq!(calls.load(Ordering::Relaxed), 1, "the call in progress finished, and no other began");
        assert_eq!(remaining(&mut rx), [1, 2]);
    });
}

#[test]
fn dropped_unregister_leaves_callback_registered() {
    plain(|| {
        let runtime = multi_runtime();
        let (tx, rx) = turbostream::builder().runtime(runtime.handle().clone()).build().expect("valid");
        let (callback, called, release, calls) = blocking_callback(rx);
        send(&tx, 0..3);
        called.wait();
        let mut unregistering = Box::pin(callback.unregister());
        assert!(poll_once(&mut unregistering).is_pending());
        release.wait();
        while calls.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        drop(unregistering);
        while calls.load(Ordering::Relaxed) < 3 {
            thread::yield_now();
        }
        assert!(!tx.is_closed());
        send(&tx, 3..4);
        while calls.load(Ordering::Relaxed) < 4 {
            thread::yield_now();
        }
        assert!(tx.is_empty());
    });
}

#[test]
fn runtime_shutdown_leaves_receiver_to_unregister() {
    plain(|| {
        for registered_before in [true, false] {
            let runtime = multi_runtime();
            let (tx, rx) = turbostream::builder().runtime(runtime.handle().clone()).build().expect("valid");
            let mut other = rx.clone();
            let mut runtime = Some(runtime);
            if !registered_before {
                drop(runtime.take());
            }
            let (callback, kept) = collect(rx);
            if registered_before {
                send(&tx, 0..3);
                while kept.lock().expect("not poisoned").len() < 3
                    || tx.monitor().stats().waiting_receivers < 1
                {
                    thread::yield_now();
                }
                drop(runtime);
            }
            assert!(callback.is_finished());
            assert_eq!(tx.monitor().stats().waiting_receivers, 0, "the dropped task is deregistered");
            assert_eq!(Arc::strong_count(&kept), 1);
            send(&tx, 3..5);
            assert_eq!(number(&other.blocking_recv().expect("open")), 3, "other receivers continue");
            drop(other);
            assert!(!tx.is_closed());
            let mut rx = futures::executor::block_on(callback.unregister());
            assert_eq!(remaining(&mut rx), [4]);
            drop(rx);
            assert!(tx.is_closed());
        }
    });
}

#[test]
fn runtime_shutdown_drops_callback_without_handle() {
    plain(|| {
        let runtime = multi_runtime();
        let (tx, rx) = turbostream::builder().runtime(runtime.handle().clone()).build().expect("valid");
        drop(collect(rx).0);
        send(&tx, 0..3);
        drop(runtime);
        assert!(tx.is_closed(), "the last receiver was dropped");
    });
}

#[test]
fn unregister_completes_on_runtime_that_is_not_driven() {
    plain(|| {
        let runtime = current_runtime(false);
        let (tx, rx) = turbostream::builder().runtime(runtime.handle().clone()).build().expect("valid");
        let (callback, kept) = collect(rx);
        runtime.block_on(settle()); // the task registers as a waiter
        send(&tx, 0..2);
        let mut rx = callback.unregister().now_or_never().expect("at once");
        assert_eq!(remaining(&mut rx), [0, 1]);
        let waiting = thread::spawn(move || rx.blocking_recv());
        while tx.monitor().stats().waiting_receivers == 0 {
            thread::yield_now();
        }
        send(&tx, 2..3);
        assert_eq!(
            number(&waiting.join().expect("no panic in the receiver").expect("open")),
            2,
            "woken at once"
        );
        assert!(kept.lock().expect("not poisoned").is_empty());
    });
}

#[test]
fn callback_may_use_its_channel() {
    paused(async {
        let (tx, rx) = open();
        let (own_tx, mut own_rx) = (tx.clone(), rx.clone());
        let callback = rx.on_message(move |m| {
            if number(&m) == 0 {
                send(&own_tx, 1..3);
                assert_eq!(number(&own_rx.try_recv().expect("just sent")), 1);
                assert_eq!(own_tx.monitor().stats().queued_messages, 1);
            }
        });
        send(&tx, 0..1);
        settle().await;
        let stats = tx.monitor().stats();
        assert_eq!((stats.received_messages, stats.callback_panics), (3, 0));
        assert!(callback.unregister().await.is_empty());
    });
}

#[test]
fn messages_left_by_unregister_are_switched_by_strategy() {
    paused(async {
        let (tx, rx) =
            turbostream::builder().strategy(TimeWindow(Duration::from_millis(20))).build().expect("valid");
        let (callback, kept) = collect(rx);
        send(&tx, 0..1);
        for _ in 0..10 {
            advance(Duration::from_secs(1)).await; // until the background task sleeps
        }
        assert_eq!(*kept.lock().expect("not poisoned"), [0]);
        let before = tx.monitor().stats().switches.strategy;
        send(&tx, 1..2); // wakes the callback's task, so the strategy timer is not armed
        let mut rx = callback.unregister().now_or_never().expect("at once");
        advance(Duration::from_millis(25)).await;
        assert_eq!(tx.monitor().stats().switches.strategy, before + 1);
        assert_eq!(remaining(&mut rx), [1]);
    });
}
