//! Receiving several messages at once, in every way: by vector and by batch, waiting, blocking and polling, within limits
//! of messages and of bytes.

use std::future::poll_fn;
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use crate::common::{WakeCounter, current_runtime, ms, multi, paused, plain, poll_once, settle, write_bytes};
use bytes::Bytes;
use futures::stream::FusedStream;
use futures::{FutureExt, StreamExt};
use tokio::task::yield_now;
use tokio::time::Instant;
use turbostream::{Batch, Limit, ReadMode, Receiver, RecvTimeoutError, Sender, TryRecvError};

/// One segment for all messages of a test, and room for external payloads.
fn channel(mode: ReadMode) -> (Sender, Receiver) {
    turbostream::builder().read_mode(mode).build().expect("valid")
}

fn lengths(batch: &Batch) -> Vec<usize> {
    batch.iter().map(<[u8]>::len).collect()
}

/// Receives once, within `limit`, in the given way; returns the lengths of the messages, or none if there are none now.
fn receive(rx: &mut Receiver, way: usize, limit: Limit) -> Option<Vec<usize>> {
    let cx = &mut Context::from_waker(Waker::noop());
    let mut many = Vec::new();
    let batch = match way {
        0 => rx.recv_batch(limit).now_or_never().flatten(),
        1 => rx.try_recv_batch(limit).ok(),
        2 => rx.recv_batch_timeout(limit, ms(1)).now_or_never().and_then(Result::ok),
        3 => poll_fn(|cx| rx.poll_recv_batch(cx, limit)).now_or_never().flatten(),
        4 => rx.batches(limit).next().now_or_never().flatten(),
        5 => rx.clone().into_batches(limit).next().now_or_never().flatten(),
        6 => {
            rx.recv_many(&mut many, limit).now_or_never();
            None
        }
        _ => {
            let _ = rx.poll_recv_many(cx, &mut many, limit);
            None
        }
    };
    let many = (!many.is_empty()).then(|| many.iter().map(Bytes::len).collect());
    batch.map(|batch| lengths(&batch)).or(many)
}

/// Receives everything that is queued, within `limit` at once.
fn receive_all(rx: &mut Receiver, way: usize, limit: Limit) -> Vec<Vec<usize>> {
    iter::from_fn(|| receive(rx, way, limit)).collect()
}

const WAYS: usize = 8;

#[test]
fn limits_hold_for_every_way_to_receive() {
    paused(async {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            for way in 0..WAYS {
                for (limit, expected) in [
                    (Limit::messages(3), vec![vec![5, 0, 20], vec![7, 7, 7], vec![1]]),
                    (Limit::messages(100), vec![vec![5, 0, 20, 7, 7, 7, 1]]),
                    (Limit::messages(100).bytes(14), vec![vec![5, 0], vec![20], vec![7, 7], vec![7, 1]]),
                    (Limit::messages(100).bytes(46), vec![vec![5, 0, 20, 7, 7, 7], vec![1]]),
                    (Limit::messages(100).bytes(47), vec![vec![5, 0, 20, 7, 7, 7, 1]]),
                    (Limit::messages(2).bytes(25), vec![vec![5, 0], vec![20], vec![7, 7], vec![7, 1]]),
                    (Limit::messages(1).bytes(0), [5, 0, 20, 7, 7, 7, 1].map(|len| vec![len]).to_vec()),
                ] {
                    let (tx, mut rx) = channel(mode);
                    tx.send_many([5, 0, 20, 7, 7, 7, 1].map(|len| vec![9; len])).await.expect("open");
                    assert_eq!(receive_all(&mut rx, way, limit), expected, "way {way}, {limit:?}");
                    assert!(rx.is_empty());
                    yield_now().await; // for a new cooperative budget
                }
            }
        }
    });
}

/// External payloads count with their length, and a batch ends before padding.
#[test]
fn byte_limit_counts_external_payloads_and_skips_padding() {
    paused(async {
        for way in 0..WAYS {
            let (tx, mut rx) = channel(ReadMode::ZeroCopy);
            tx.send("small").await.expect("open");
            tx.send(vec![1; 40_000]).await.expect("open");
            let panics = AssertUnwindSafe(tx.send_with(10, |_| panic!("on purpose")));
            assert!(panics.catch_unwind().await.is_err());
            tx.send_with(100, write_bytes(b"in place")).await.expect("open");
            tx.send(vec![2; 50_000]).await.expect("open");
            let received = receive_all(&mut rx, way, Limit::messages(100).bytes(40_005));
            assert_eq!(received, [vec![5, 40_000], vec![8], vec![50_000]], "way {way}");
        }
    });
}

#[test]
fn try_recv_batch_says_why_there_is_none() {
    plain(|| {
        let runtime = current_runtime(false);
        let (tx, mut rx) = turbostream::builder().runtime(runtime.handle().clone()).build().expect("valid");
        assert_eq!(rx.try_recv_batch(10).expect_err("empty"), TryRecvError::Empty);
        tx.try_send("a").expect("room");
        tx.try_send("b").expect("room");
        assert_eq!(rx.try_recv_batch(0).expect("a batch").len(), 1, "a limit of 0 counts as 1");
        drop(tx);
        assert_eq!(rx.try_recv_batch(10).expect("a batch").len(), 1);
        assert_eq!(rx.try_recv_batch(10).expect_err("closed"), TryRecvError::Closed);
    });
}

#[test]
fn recv_batch_timeout_waits_for_the_first_message_only() {
    paused(async {
        let (tx, mut rx) = channel(ReadMode::Safe);
        let before = Instant::now();
        assert_eq!(rx.recv_batch_timeout(9, ms(70)).await.expect_err("empty"), RecvTimeoutError::Timeout);
        assert!((ms(70)..ms(75)).contains(&before.elapsed()));
        assert_eq!(tx.monitor().stats().recv_timeouts, 1);
        let mut waiting = Box::pin(rx.recv_batch_timeout(9, ms(70)));
        assert!(poll_once(&mut waiting).is_pending());
        tx.try_send("wakes").expect("room");
        assert_eq!(lengths(&waiting.await.expect("in time")), [5]);
        drop(tx);
        assert_eq!(rx.recv_batch_timeout(9, ms(70)).await.expect_err("closed"), RecvTimeoutError::Closed);
    });
}

#[test]
fn poll_recv_many_registers_one_waiter_and_appends() {
    paused(async {
        let (tx, mut rx) = channel(ReadMode::Safe);
        let mut many = vec![Bytes::from_static(b"before")];
        let (wakes, waker) = WakeCounter::new();
        let cx = &mut Context::from_waker(&waker);
        assert_eq!(rx.poll_recv_many(cx, &mut many, 0), Poll::Ready(0));
        for _ in 0..3 {
            assert!(rx.poll_recv_many(cx, &mut many, 9).is_pending());
            assert!(rx.poll_recv_batch(cx, 9).is_pending());
        }
        assert_eq!(tx.monitor().stats().waiting_receivers, 1);
        tx.try_send("a").expect("room");
        tx.try_send("b").expect("room");
        assert_eq!(wakes.take(), 1);
        assert_eq!(rx.poll_recv_many(cx, &mut many, 9), Poll::Ready(2));
        assert_eq!(many, ["before", "a", "b"]);
        drop(tx);
        assert_eq!(rx.poll_recv_many(cx, &mut many, 9), Poll::Ready(0));
        assert!(matches!(rx.poll_recv_batch(cx, 9), Poll::Ready(None)));
    });
}

/// Each on a plain thread, while no thread drives the runtime of the channel.
#[test]
fn blocking_receives_wait_for_a_message_and_for_the_end() {
    plain(|| {
        let runtime = current_runtime(false);
        let receives: [fn(&mut Receiver) -> usize; 4] = [
            |rx| rx.blocking_recv_many(&mut Vec::new(), 100),
            |rx| rx.blocking_recv_batch(100).map_or(0, |batch| batch.len()),
            |rx| usize::from(rx.blocking_recv_timeout(Duration::from_secs(3600)).is_ok()),
            |rx| usize::from(rx.blocking_recv_timeout(Duration::MAX).is_ok()),
        ];
        for receive in receives {
            let (tx, mut rx) =
                turbostream::builder().runtime(runtime.handle().clone()).build().expect("valid");
            let receiving = thread::spawn(move || [receive(&mut rx), receive(&mut rx)]);
            let wait_for_receiver = || {
                while tx.monitor().stats().waiting_receivers == 0 {
                    thread::yield_now();
                }
            };
            wait_for_receiver();
            tx.try_send("wakes").expect("room");
            while !tx.is_empty() {
                thread::yield_now();
            }
            wait_for_receiver();
            drop(tx);
            assert_eq!(receiving.join().expect("no panic"), [1, 0]);
        }
    });
}

#[test]
fn blocking_recv_timeout_ends_and_passes_its_wake_on() {
    plain(|| {
        let runtime = current_runtime(false);
        let (tx, mut rx) = turbostream::builder().runtime(runtime.handle().clone()).build().expect("valid");
        assert_eq!(rx.blocking_recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
        assert_eq!(rx.blocking_recv_timeout(ms(1)), Err(RecvTimeoutError::Timeout));
        let stats = tx.monitor().stats();
        assert_eq!((stats.recv_timeouts, stats.waiting_receivers), (2, 0));
        tx.try_send("there").expect("room");
        assert_eq!(rx.blocking_recv_timeout(Duration::ZERO).expect("a message"), "there");
        drop(tx);
        assert_eq!(rx.blocking_recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Closed));
    });
}

#[test]
fn blocking_receives_panic_in_a_task() {
    multi(async {
        let (tx, mut rx) = channel(ReadMode::Safe);
        tx.send("there").await.expect("open");
        type Call = fn(&mut Receiver);
        let calls: [(&str, Call); 3] = [
            ("blocking_recv_many", |rx| _ = rx.blocking_recv_many(&mut Vec::new(), 1)),
            ("blocking_recv_batch", |rx| drop(rx.blocking_recv_batch(1))),
            ("blocking_recv_timeout", |rx| drop(rx.blocking_recv_timeout(Duration::ZERO))),
        ];
        for (name, call) in calls {
            let panic = catch_unwind(AssertUnwindSafe(|| call(&mut rx))).expect_err("in a task");
            let text = panic.downcast::<String>().expect("a message");
            assert!(text.contains(name), "{text}");
        }
        assert_eq!(rx.len(), 1, "no message was taken");
    });
}

#[test]
fn into_batches_moves_to_a_task_and_returns_the_receiver() {
    multi(async {
        let (tx, rx) = channel(ReadMode::Safe);
        let mut batches = rx.into_batches(10);
        let receiving = tokio::spawn(async move {
            let first = batches.next().await.expect("open");
            assert!(!batches.is_terminated());
            (first.len(), batches)
        });
        tx.send("first").await.expect("open");
        let (len, mut batches) = receiving.await.expect("no panic");
        assert_eq!(len, 1);
        assert!(batches.next().now_or_never().is_none());
        assert_eq!(tx.monitor().stats().waiting_receivers, 1);
        let mut rx = batches.into_inner();
        assert_eq!(
            tx.monitor().stats().waiting_receivers,
            0,
            "the receiver is not polled as a stream any more"
        );
        drop(tx);
        assert_eq!(rx.recv().await, None);
        let mut batches = rx.into_batches(10);
        assert!(batches.next().await.is_none() && batches.is_terminated());
        assert!(batches.get_ref().is_closed());
    });
}

#[test]
fn into_batches_dropped_after_a_wake_passes_it_on() {
    paused(async {
        let (tx, rx) = channel(ReadMode::Safe);
        let mut other = rx.clone();
        let mut batches = rx.into_batches(10);
        assert!(batches.next().now_or_never().is_none());
        let waiting = tokio::spawn(async move { other.recv().await });
        settle().await;
        tx.try_send("for the stream, which is woken first").expect("room");
        drop(batches);
        assert!(waiting.await.expect("no panic").is_some());
    });
}

#[test]
fn batch_bytes_are_lent_and_outlive_the_batch() {
    paused(async {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let (tx, mut rx) = channel(mode);
            let external = Bytes::from(vec![1; 40_000]);
            tx.send_many(["one", "", "three"]).await.expect("open");
            tx.send(external.clone()).await.expect("open");
            tx.send_many(["after", "last"]).await.expect("open");
            let batch = rx.recv_batch(10).await.expect("open");
            assert_eq!(batch.bytes(6), None);
            let all: Vec<Bytes> = (0..6).map(|index| batch.bytes(index).expect("a message")).collect();
            for (index, message) in all.iter().enumerate() {
                let in_place = batch.get(index).expect("a message");
                assert_eq!(message, in_place);
                assert!(message.is_empty() || message.as_ptr() == in_place.as_ptr(), "{index} was copied");
            }
            drop((batch, tx));
            assert_eq!(rx.recv().await, None);
            let monitor = rx.monitor();
            drop(rx);
            assert!(monitor.stats().lent_bytes > 0, "the slices keep the segment");
            assert_eq!((&all[0], &all[2], &all[4]), (&"one".into(), &"three".into(), &"after".into()));
            assert_eq!(all[3], external);
            drop(all);
            assert_eq!(monitor.stats().lent_bytes, 0);
            assert!(external.is_unique());
        }
    });
}

/// A payload that is not shared yet is promoted by its first clone, where it lies in the segment.
#[test]
fn batch_bytes_of_a_vector_are_shared_and_lent_slices_do_not_surround_it() {
    paused(async {
        let (tx, mut rx) = channel(ReadMode::ZeroCopy);
        let mut other = rx.clone();
        tx.send_many(["before", "too"]).await.expect("open");
        tx.send(vec![1; 40_000]).await.expect("open");
        tx.send("after").await.expect("open");
        let before = rx.recv().await.expect("open");
        let batch = other.recv_batch(10).await.expect("open");
        let (first, second) = (batch.bytes(1).expect("external"), batch.bytes(1).expect("external"));
        assert_eq!(first.as_ptr(), second.as_ptr());
        assert_eq!(
            (&before, &batch.bytes(0), &batch.bytes(2)),
            (&"before".into(), &Some("too".into()), &Some("after".into()))
        );
        let mut owned = batch.into_iter();
        assert_eq!(owned.next().expect("inline"), "too");
        assert_eq!(owned.next().expect("external").as_ptr(), first.as_ptr());
        drop(owned);
        drop(first);
        assert_eq!(second, vec![1; 40_000]);
    });
}
