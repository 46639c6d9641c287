//! Items that a sink has taken while there was no room.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use crate::common::{WakeCounter, current_runtime, paused, plain, poll_once, settle};
use bytes::Bytes;
use futures::executor::block_on;
use futures::{Sink, SinkExt};
use tokio::task::unconstrained;
use turbostream::{MessageCount, ReadMode, Receiver, SendError, Sender, TryRecvError, TrySendError};

/// Two segments of one message of 64 bytes.
fn full() -> (Sender, Receiver) {
    let (tx, rx) = turbostream::builder()
        .segment_bytes(64)
        .segment_messages(1)
        .max_bytes(2 * (64 + 8 + 128))
        .max_message_bytes(200)
        .strategy(MessageCount(usize::MAX))
        .build()
        .expect("valid");
    for message in ["1", "2"] {
        tx.try_send(message).expect("room");
    }
    (tx, rx)
}

fn park(tx: &Sender, item: &'static str) -> Sender {
    let mut sink = tx.clone();
    sink.start_send_unpin(Bytes::from_static(item.as_bytes())).expect("parked");
    sink
}

fn poll_ready(sink: &mut Sender, waker: &Waker) -> Poll<Result<(), SendError<Bytes>>> {
    Pin::new(sink).poll_ready(&mut Context::from_waker(waker))
}

fn received(rx: &mut Receiver) -> Vec<Bytes> {
    std::iter::from_fn(|| rx.try_recv().ok()).collect()
}

#[test]
fn sink_is_ready_once_there_is_room() {
    paused(async {
        let (tx, mut rx) = full();
        let mut sink = tx.clone();
        let (wakes, waker) = WakeCounter::new();
        assert!(poll_ready(&mut sink, &waker).is_pending());
        assert_eq!(wakes.take(), 0);
        assert_eq!(rx.try_recv().unwrap(), "1");
        assert_eq!(wakes.take(), 1);
        assert_eq!(poll_ready(&mut sink, &waker), Poll::Ready(Ok(())));
        sink.start_send_unpin(Bytes::from_static(b"3")).unwrap();
        assert_eq!(received(&mut rx), ["2", "3"]);
        assert_eq!(tx.monitor().stats().waiting_senders, 0);
    });
}

#[test]
fn waiting_sink_fails_once_the_channel_is_closed() {
    paused(async {
        for closed_by_receiver in [true, false] {
            let (tx, rx) = full();
            let mut sink = tx.clone();
            let (wakes, waker) = WakeCounter::new();
            assert!(poll_ready(&mut sink, &waker).is_pending());
            if closed_by_receiver {
                rx.close()
            } else {
                tx.close()
            }
            assert_eq!(wakes.take(), 1);
            assert_eq!(poll_ready(&mut sink, &waker), Poll::Ready(Err(SendError::Closed(Bytes::new()))));
            assert_eq!(tx.monitor().stats().waiting_senders, 0);
        }
    });
}

#[test]
fn channel_that_rejects_or_drops_is_always_ready() {
    use turbostream::WhenFull::{DropNewest, DropOldest, Reject};
    paused(tokio::task::unconstrained(async {
        for when_full in [Reject, DropNewest, DropOldest] {
            let (mut tx, _rx) =
                turbostream::builder().max_bytes(1 << 16).when_full(when_full).build().expect("valid");
            for _ in 0..2000 {
                assert_eq!(poll_ready(&mut tx, Waker::noop()), Poll::Ready(Ok(())));
                match tx.start_send_unpin(Bytes::from_static(&[7; 100])) {
                    Ok(()) => {}
                    Err(error) => assert!(when_full == Reject && matches!(error, SendError::Full(_))),
                }
            }
            assert!(tx.monitor().stats().memory_bytes() <= 1 << 16);
        }
    }));
}

/// The thread that makes room sends the item. No runtime is driven, and no task polls the sink.
#[test]
fn parked_item_counts_as_queued_and_is_sent_without_a_poll() {
    plain(|| {
        let runtime = current_runtime(false);
        let _context = runtime.enter();
        let (tx, mut rx) = full();
        let mut sink = park(&tx, "3");
        let stats = tx.monitor().stats();
        assert_eq!((tx.len(), rx.len(), tx.queued_bytes()), (3, 3, 3));
        assert_eq!((stats.sent_messages, stats.queued_messages, stats.external_bytes), (3, 3, 1));
        assert_eq!(stats.waiting_senders, 1);
        let error = sink.start_send_unpin(Bytes::from_static(b"4")).expect_err("one is parked");
        assert_eq!(error, SendError::Full(Bytes::from_static(b"4")));
        assert_eq!(received(&mut rx), ["1", "2", "3"]);
        let stats = tx.monitor().stats();
        assert_eq!((stats.sent_messages, stats.queued_messages, stats.external_bytes), (3, 0, 0));
        assert_eq!(sink.start_send_unpin(Bytes::from_static(b"4")), Ok(()));
        assert_eq!(received(&mut rx), ["4"]);
    });
}

#[test]
fn later_sends_of_the_handle_follow_the_parked_item() {
    paused(async {
        let (tx, mut rx) = full();
        let sink = park(&tx, "3");
        assert_eq!(sink.try_send("5"), Err(TrySendError::Full(())));
        assert!(sink.send_timeout("5", std::time::Duration::ZERO).await.is_err());
        let mut send = Box::pin(sink.send("4"));
        let mut many = Box::pin(sink.send_many(["5", "6"]));
        assert!(poll_once(&mut send).is_pending() && poll_once(&mut many).is_pending());
        let sending = async { (send.await, many.await.map_err(drop)) };
        let receiving = async {
            let mut all = Vec::new();
            while all.len() < 6 {
                all.push(rx.recv().await.expect("open"));
            }
            all
        };
        let (sent, all) = tokio::join!(sending, receiving);
        assert_eq!(sent, (Ok(()), Ok(2)));
        assert_eq!(all, ["1", "2", "3", "4", "5", "6"]);
    });
}

/// Another handle may overtake an item that cannot be sent, as what was received holds its memory. Its own may not.
#[test]
fn handle_does_not_overtake_its_parked_item() {
    paused(async {
        let footprint = 64 + 8 + 128;
        let builder = turbostream::builder().segment_bytes(64).segment_messages(1).max_bytes(4 * footprint);
        let builder = builder.max_message_bytes(3 * footprint).read_mode(ReadMode::ZeroCopy);
        let (tx, mut rx) = builder.build().expect("valid");
        for message in ["1", "2", "3", "4"] {
            tx.try_send(message).expect("room");
        }
        let mut sink = tx.clone();
        sink.start_send_unpin(Bytes::from(vec![5; 600])).expect("parked");
        let kept = rx.try_recv().unwrap();
        assert_eq!(received(&mut rx), ["2", "3", "4"]);
        assert_eq!(sink.try_send("own"), Err(TrySendError::Full(())));
        assert_eq!(tx.try_send("other"), Ok(()));
        assert_eq!(received(&mut rx), ["other"]);
        drop(kept);
        assert_eq!(rx.try_recv().unwrap().len(), 600);
        assert_eq!(sink.try_send("own"), Ok(()));
        assert_eq!(received(&mut rx), ["own"]);
    });
}

#[test]
fn dropped_handle_sends_its_item_before_the_channel_closes() {
    paused(async {
        let (tx, mut rx) = full();
        let sink = park(&tx, "3");
        drop((sink, tx));
        assert!(!rx.is_closed());
        assert_eq!(rx.sender_count(), 1, "the parked item");
        let mut all = Vec::new();
        while let Some(message) = rx.recv().await {
            all.push(message);
        }
        assert_eq!(all, ["1", "2", "3"]);
        assert!(rx.is_closed());
    });
}

#[test]
fn close_returns_the_parked_item_to_the_next_poll() {
    paused(async {
        let (tx, rx) = full();
        let mut sink = park(&tx, "3");
        let (wakes, waker) = WakeCounter::new();
        let flush = |sink: &mut Sender| Pin::new(sink).poll_flush(&mut Context::from_waker(&waker));
        assert!(flush(&mut sink).is_pending());
        rx.close();
        assert_eq!(wakes.take(), 1);
        assert_eq!(flush(&mut sink), Poll::Ready(Err(SendError::Closed(Bytes::from_static(b"3")))));
        let stats = tx.monitor().stats();
        assert_eq!((stats.sent_messages, stats.queued_messages, stats.dropped_messages), (2, 2, 0));
        assert_eq!(flush(&mut sink), Poll::Ready(Ok(())), "returned once");
    });
}

/// No handle can get it back: the statistics say so.
#[test]
fn item_of_a_dropped_handle_counts_as_dropped_if_the_channel_is_closed() {
    paused(async {
        for close_first in [false, true] {
            let (tx, mut rx) = full();
            let sink = park(&tx, "3");
            if close_first {
                rx.close();
                drop(sink);
            } else {
                drop(sink);
                rx.close();
            }
            assert_eq!(received(&mut rx), ["1", "2"]);
            assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
            let stats = tx.monitor().stats();
            assert_eq!((stats.sent_messages, stats.dropped_messages, stats.drops.newest), (3, 1, 1));
            assert_eq!((stats.queued_messages, stats.memory_bytes(), stats.waiting_senders), (0, 0, 0));
        }
    });
}

#[test]
fn drained_waits_for_items_that_were_parked_before() {
    paused(async {
        let (tx, mut rx) = full();
        let _sink = park(&tx, "3");
        let draining = tx.clone();
        let drained = tokio::spawn(async move { draining.drained().await });
        settle().await;
        let _later = park(&tx, "later");
        for message in ["1", "2"] {
            assert_eq!(rx.try_recv().unwrap(), message);
            settle().await;
            assert!(!drained.is_finished());
        }
        assert_eq!(rx.try_recv().unwrap(), "3");
        settle().await;
        assert!(drained.is_finished());
        assert_eq!(drained.await.expect("no panic"), Ok(()));
    });
}

/// Each item that is sent makes the next one possible. A thread sends one after the other, and not from within.
#[test]
fn many_parked_items_are_sent_in_order() {
    plain(|| {
        let runtime = current_runtime(false);
        let _context = runtime.enter();
        let builder = turbostream::builder().segment_messages(1 << 16).max_bytes(4 << 20);
        let (tx, mut rx) = builder.segment_bytes(1 << 20).build().expect("valid");
        let payload = |number: u32| Bytes::copy_from_slice(&number.to_le_bytes());
        let mut next = 0;
        while tx.try_send(payload(next)).is_ok() {
            next += 1;
        }
        let all = next + 50_000;
        for number in next..all {
            tx.clone().start_send_unpin(payload(number)).expect("parked");
        }
        assert_eq!(rx.len(), all as usize);
        let mut received = 0;
        while let Ok(message) = rx.try_recv() {
            assert_eq!(message, payload(received));
            received += 1;
        }
        assert_eq!((received, tx.monitor().stats().waiting_senders), (all, 0));
    });
}

/// An item is woken on a thread that sends another one, and a waker there waits for it.
#[test]
fn waker_of_one_item_may_wait_for_another() {
    struct Flushing(Mutex<(Sender, Receiver)>);
    impl Wake for Flushing {
        fn wake(self: Arc<Self>) {
            let (sink, rx) = &mut *self.0.lock().expect("no panic");
            rx.try_recv().expect("full");
            block_on(unconstrained(sink.flush())).expect("open");
            sink.start_send_unpin(Bytes::from_static(b"4")).expect("parked");
            for _ in 0..2 {
                rx.try_recv().expect("full");
            }
            block_on(unconstrained(Sender::send(sink, "5"))).expect("open");
            assert_eq!(received(rx), ["4", "5"]);
        }
    }
    plain(|| {
        let runtime = current_runtime(false);
        let _context = runtime.enter();
        let ((tx, mut rx), (other, other_rx)) = (full(), full());
        let (mut sink, other) = (park(&tx, "3"), park(&other, "3"));
        let flushing = Arc::new(Flushing(Mutex::new((other, other_rx))));
        let waker = Waker::from(Arc::clone(&flushing));
        assert!(Pin::new(&mut sink).poll_flush(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(received(&mut rx), ["1", "2", "3"]);
        assert_eq!(flushing.0.lock().expect("no panic").1.monitor().stats().sent_messages, 5);
        assert_eq!(tx.monitor().stats().panics, 0);
    });
}
