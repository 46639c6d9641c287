//! Faults that were found once by looking for the interleaving that breaks the channel.

mod common;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use common::{advance, current, current_runtime, paused, plain, settle};
use futures::StreamExt;
use turbostream::{Builder, MessageCount, ReadMode, TimeWindow, builder};

#[derive(Default)]
struct Flag(AtomicUsize);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

struct Bomb;

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        panic!("a waker that panics");
    }
}

fn flag() -> (Arc<Flag>, Waker) {
    let flag = Arc::new(Flag::default());
    (Arc::clone(&flag), Waker::from(flag))
}

/// No switch but full, on demand or on request.
fn untimed() -> Builder {
    builder().strategy(MessageCount(usize::MAX))
}

#[test]
fn a_payload_by_reference_that_finds_no_segment_does_not_wake_its_own_sender() {
    current(async {
        let footprint = 65536 + 4 * 8 + 128;
        let channel = untimed().segment_bytes(65536).segment_messages(4).max_message_bytes(40_000);
        let (tx, rx) = channel.max_bytes(2 * footprint + 40_000).build().expect("valid");
        for _ in 0..8 {
            tx.try_send(b"x").expect("room");
        }
        let reading = tokio::spawn(async move {
            for _ in 0..9 {
                rx.recv().await.expect("open");
            }
        });
        tx.send(vec![0; 32768]).await.expect("open");
        reading.await.expect("all nine");
    });
}

#[test]
fn the_second_sleeping_receiver_is_not_forgotten() {
    plain(|| {
        let runtime = current_runtime(false);
        let _context = runtime.enter();
        let (tx, rx1) = untimed().build().expect("valid");
        let rx2 = rx1.clone();
        let ((_, waker1), (woken2, waker2)) = (flag(), flag());
        let (mut first, mut second) = (pin!(rx1.recv()), pin!(rx2.recv()));
        assert!(first.as_mut().poll(&mut Context::from_waker(&waker1)).is_pending());
        assert!(second.as_mut().poll(&mut Context::from_waker(&waker2)).is_pending());
        tx.try_send("1").expect("room");
        assert_eq!(first.as_mut().poll(&mut Context::from_waker(&waker1)), Poll::Ready(Some("1".into())));
        tx.try_send("2").expect("room");
        assert_eq!(woken2.0.load(SeqCst), 1);
    });
}

#[test]
fn a_waker_that_panics_at_close_keeps_no_other_asleep() {
    plain(|| {
        let runtime = current_runtime(false);
        let _context = runtime.enter();
        let (tx, rx1) = untimed().build().expect("valid");
        let rx2 = rx1.clone();
        let (woken, waker) = flag();
        let (mut first, mut second) = (pin!(rx1.recv()), pin!(rx2.recv()));
        assert!(first.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::new(Bomb)))).is_pending());
        assert!(second.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(tx);
        assert_eq!(woken.0.load(SeqCst), 1);
    });
}

#[test]
fn the_timer_hears_of_messages_while_it_waits_to_trim() {
    paused(async {
        let window = TimeWindow(Duration::from_millis(5));
        let (tx, rx) = builder().on_demand(false).strategy(window).build().expect("valid");
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
fn a_switch_put_off_is_made_when_what_was_read_stays_lent() {
    for batches in [false, true] {
        paused(async move {
            let channel = builder().segment_bytes(64).segment_messages(4).max_bytes(4 * (64 + 4 * 8 + 128));
            let channel = channel.on_demand(false).read_mode(ReadMode::ZeroCopy).strategy(MessageCount(2));
            let (tx, rx) = channel.build().expect("valid");
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
fn the_timer_task_ends_with_the_channel() {
    paused(async {
        let metrics = tokio::runtime::Handle::current().metrics();
        for _ in 0..10 {
            let (tx, rx) = builder().build().expect("valid");
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

#[test]
fn a_stream_that_is_not_polled_again_does_not_keep_a_wake_for_good() {
    paused(async {
        let (tx, mut rx1) = untimed().build().expect("valid");
        let rx2 = rx1.clone();
        let (_, waker) = flag();
        assert!(Pin::new(&mut rx1.next()).poll(&mut Context::from_waker(&waker)).is_pending());
        let second = tokio::spawn(async move { rx2.recv().await });
        settle().await;
        tx.send("1").await.expect("open");
        assert_eq!(second.await.expect("a receiver").expect("open"), "1");
    });
}

#[test]
fn a_sender_whose_message_fits_is_served_behind_one_whose_does_not() {
    paused(async {
        let footprint = 64 + 8 + 128;
        let channel = untimed().segment_bytes(64).segment_messages(1).max_message_bytes(3 * footprint);
        let (tx, rx) = channel.max_bytes(4 * footprint).read_mode(ReadMode::ZeroCopy).build().expect("valid");
        for message in ["1", "2", "3", "4"] {
            tx.try_send(message).expect("room");
        }
        let (tx1, tx2) = (tx.clone(), tx.clone());
        let _large = tokio::spawn(async move { tx1.send(vec![0; 3 * footprint]).await });
        settle().await;
        let small = tokio::spawn(async move { tx2.send("small").await });
        settle().await;
        let _kept = rx.try_recv().expect("a message");
        drop(rx.try_recv().expect("a message"));
        small.await.expect("a sender").expect("open");
        assert_eq!(tx.len(), 3);
    });
}
