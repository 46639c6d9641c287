//! Wakes that must not be lost, repeated without end, or given to the wrong waiter.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::common::{current, current_runtime, paused, plain, poll_once, settle};
use futures::StreamExt;
use tokio::runtime::Handle;
use turbostream::{Builder, MessageCount, ReadMode, Receiver, Sender, builder};

#[derive(Default)]
struct WakeCounter(AtomicUsize);

impl Wake for WakeCounter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

struct PanickingWaker;

impl Wake for PanickingWaker {
    fn wake(self: Arc<Self>) {
        panic!("a panic on purpose");
    }
}

fn wake_counter() -> (Arc<WakeCounter>, Waker) {
    let wake_counter = Arc::new(WakeCounter::default());
    (Arc::clone(&wake_counter), Waker::from(wake_counter))
}

/// The strategy never switches: only full segments, demand and requests do.
fn without_timer() -> Builder {
    builder().strategy(MessageCount(usize::MAX))
}

#[test]
fn external_payload_without_segment_does_not_wake_its_own_sender() {
    current(async {
        let footprint = 65536 + 4 * 8 + 128;
        let channel = without_timer().segment_bytes(65536).segment_messages(4).max_message_bytes(40_000);
        let (tx, mut rx) = channel.max_bytes(2 * footprint + 40_000).build().expect("valid");
        for _ in 0..8 {
            tx.try_send(b"x").expect("room");
        }
        let reading = tokio::spawn(async move {
            for _ in 0..9 {
                rx.recv().await.expect("open");
            }
        });
        tx.send(vec![0; 32768]).await.expect("open");
        reading.await.expect("no panic in the receiver");
    });
}

#[test]
fn second_sleeping_receiver_is_woken_by_second_message() {
    plain(|| {
        let runtime = current_runtime(false);
        let _context = runtime.enter();
        let (tx, mut rx1) = without_timer().build().expect("valid");
        let mut rx2 = rx1.clone();
        let ((_, waker1), (woken2, waker2)) = (wake_counter(), wake_counter());
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
fn panicking_waker_at_close_does_not_stop_other_wakes() {
    plain(|| {
        let runtime = current_runtime(false);
        let _context = runtime.enter();
        let (tx, mut rx1) = without_timer().build().expect("valid");
        let mut rx2 = rx1.clone();
        let (woken, waker) = wake_counter();
        let (mut first, mut second) = (pin!(rx1.recv()), pin!(rx2.recv()));
        assert!(
            first
                .as_mut()
                .poll(&mut Context::from_waker(&Waker::from(Arc::new(PanickingWaker))))
                .is_pending()
        );
        assert!(second.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(tx);
        assert_eq!(woken.0.load(SeqCst), 1);
    });
}

#[test]
fn stream_not_polled_again_does_not_keep_its_wake() {
    paused(async {
        let (tx, mut rx1) = without_timer().build().expect("valid");
        let mut rx2 = rx1.clone();
        let (_, waker) = wake_counter();
        assert!(Pin::new(&mut rx1.next()).poll(&mut Context::from_waker(&waker)).is_pending());
        let second = tokio::spawn(async move { rx2.recv().await });
        settle().await;
        tx.send("1").await.expect("open");
        assert_eq!(second.await.expect("no panic in the receiver").expect("open"), "1");
    });
}

/// Four segments of one message of up to 64 bytes. Larger, external payloads use the room of unused segments.
fn four_segments() -> (Sender, Receiver) {
    let footprint = 64 + 8 + 128;
    let channel = without_timer().segment_bytes(64).segment_messages(1).max_message_bytes(3 * footprint);
    channel.max_bytes(4 * footprint).read_mode(ReadMode::ZeroCopy).build().expect("valid")
}

/// Received messages hold memory without which the first sender cannot be served. Later ones need not wait for that.
#[test]
fn sender_that_cannot_be_served_does_not_block_later_ones() {
    paused(async {
        for large in [1, 2, 63, 64, 65, 130] {
            let (tx, mut rx) = four_segments();
            for message in ["1", "2", "3", "4"] {
                tx.try_send(message).expect("room");
            }
            let sending: Vec<_> = (0..large)
                .map(|_| {
                    let tx = tx.clone();
                    tokio::spawn(async move { tx.send(vec![0; 600]).await })
                })
                .collect();
            settle().await;
            let kept = rx.try_recv().expect("a message");
            let tx1 = tx.clone();
            let small = tokio::spawn(async move { tx1.send("small").await });
            for message in ["2", "3", "4"] {
                settle().await;
                assert!(!small.is_finished(), "what is freed is kept together for those before it");
                assert_eq!(rx.try_recv().expect("a message"), message);
            }
            settle().await;
            assert!(small.is_finished(), "behind {large}: {:?}", tx.monitor().stats());
            assert_eq!(rx.recv().await.expect("open"), "small");
            assert!(sending.iter().all(|send| !send.is_finished()));
            // One lap of the queue may overtake them, not more.
            let mut laps = 0;
            while tx.try_send("a lap").is_ok() {
                assert_eq!(rx.recv().await.expect("open"), "a lap");
                laps += 1;
            }
            assert_eq!(laps, 3, "of four segments, the first for the small message");
            drop(kept);
            for send in sending {
                assert_eq!(rx.recv().await.expect("open").len(), 600);
                send.await.expect("no panic").expect("open");
            }
        }
    });
}

/// What is freed is kept together for the sender that came first, also while a later one could use it.
#[test]
fn freed_memory_is_kept_together_for_a_large_message() {
    plain(|| {
        // The test never drives this runtime, so the background task never runs.
        let runtime = current_runtime(false);
        let _context = runtime.enter();
        let (tx, mut rx) = four_segments();
        for message in ["1", "2", "3", "4"] {
            tx.try_send(message).expect("room");
        }
        let ((woken1, waker1), (woken2, waker2)) = (wake_counter(), wake_counter());
        let (mut large, mut small) = (pin!(tx.send(vec![0; 600])), pin!(tx.send(vec![1; 60])));
        assert!(large.as_mut().poll(&mut Context::from_waker(&waker1)).is_pending());
        assert!(small.as_mut().poll(&mut Context::from_waker(&waker2)).is_pending());
        for message in ["1", "2", "3"] {
            assert_eq!(rx.try_recv().expect("a message"), message);
            assert!(small.as_mut().poll(&mut Context::from_waker(&waker2)).is_pending());
            assert!(tx.try_send("newcomer").is_err());
        }
        assert_eq!(rx.try_recv().expect("a message"), "4");
        assert!(woken1.0.load(SeqCst) > 0);
        assert!(large.as_mut().poll(&mut Context::from_waker(&waker1)).is_ready());
        assert!(small.as_mut().poll(&mut Context::from_waker(&waker2)).is_pending());
        assert_eq!(rx.try_recv().expect("a message").len(), 600);
        assert!(woken2.0.load(SeqCst) > 0);
        assert!(small.as_mut().poll(&mut Context::from_waker(&waker2)).is_ready());
    });
}

#[test]
fn large_sends_waiting_beside_free_segment_do_not_spin() {
    paused(async {
        let (tx, mut rx) = four_segments();
        for message in ["1", "2", "3"] {
            tx.try_send(message).expect("room");
        }
        for _ in 0..2 {
            let tx = tx.clone();
            tokio::spawn(async move { tx.send(vec![0; 600]).await });
        }
        settle().await;
        let parks = Handle::current().metrics().worker_park_count(0);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let parks = Handle::current().metrics().worker_park_count(0) - parks;
        assert!(parks < 20_000, "{parks} wakeups in an hour");
        for message in ["1", "2", "3"] {
            assert_eq!(rx.recv().await.expect("open"), message);
        }
        assert_eq!(rx.recv().await.expect("open").len(), 600);
        assert_eq!(rx.recv().await.expect("open").len(), 600);
    });
}

/// Two segments of up to two messages and 64 bytes.
fn two_segments() -> (Sender, Receiver) {
    let channel = without_timer().segment_bytes(64).segment_messages(2).max_bytes(2 * (64 + 2 * 8 + 128));
    channel.build().expect("valid")
}

/// Another sender takes the room in the open segment that the second waiter was woken for.
#[test]
fn sender_woken_unsuccessfully_stays_ahead_of_later_ones() {
    plain(|| {
        let runtime = current_runtime(false);
        let _context = runtime.enter();
        let (tx, mut rx) = two_segments();
        let (first, second) = (wake_counter(), wake_counter());
        let send = |number| Box::pin(tx.send([number; 30]));
        let mut waiting = [send(3), send(4)];
        assert!(tx.try_send([1; 60]).is_ok() && tx.try_send([2; 60]).is_ok());
        assert!(waiting[0].as_mut().poll(&mut Context::from_waker(&first.1)).is_pending());
        assert!(waiting[1].as_mut().poll(&mut Context::from_waker(&second.1)).is_pending());
        assert_eq!(rx.try_recv().expect("a message")[0], 1);
        assert_eq!((first.0.0.load(SeqCst), second.0.0.load(SeqCst)), (1, 1), "both messages fit");
        assert!(waiting[0].as_mut().poll(&mut Context::from_waker(&first.1)).is_ready());
        assert!(tx.try_send([7; 30]).is_ok(), "room in the open segment is for every sender");
        assert!(waiting[1].as_mut().poll(&mut Context::from_waker(&second.1)).is_pending());
        let mut later = [send(5), send(6)];
        for later in &mut later {
            assert!(later.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert_eq!(rx.try_recv().expect("a message")[0], 2);
        assert_eq!(second.0.0.load(SeqCst), 2, "it stays ahead of later senders");
        assert!(tx.try_send([8; 30]).is_err());
        assert!(
            later.iter_mut().all(|later| poll_once(later).is_pending()),
            "a whole segment is kept for it"
        );
        assert!(waiting[1].as_mut().poll(&mut Context::from_waker(&second.1)).is_ready());
        assert!(poll_once(&mut later[0]).is_ready(), "the segment that it opened has room for one more");
        assert!(poll_once(&mut later[1]).is_pending());
    });
}

/// A sender that opens a segment wakes others before it runs user code, which may take long.
#[test]
fn opened_segment_wakes_senders_before_its_first_message_is_written() {
    plain(|| {
        let runtime = current_runtime(false);
        let _context = runtime.enter();
        let (tx, mut rx) = two_segments();
        let (opens, other) = (wake_counter(), wake_counter());
        let writes = |to: &mut [u8]| {
            assert_eq!(other.0.0.load(SeqCst), 1, "the segment has room for one more");
            to.len()
        };
        assert!(tx.try_send([1; 60]).is_ok() && tx.try_send([2; 60]).is_ok());
        let (mut first, mut opening) = (Box::pin(tx.send([3; 30])), Box::pin(tx.send_with(30, writes)));
        assert!(poll_once(&mut first).is_pending());
        assert!(opening.as_mut().poll(&mut Context::from_waker(&opens.1)).is_pending());
        assert_eq!(rx.try_recv().expect("a message")[0], 1);
        assert!(poll_once(&mut first).is_ready());
        assert!(tx.try_send([7; 30]).is_ok(), "room in the open segment is for every sender");
        assert!(opening.as_mut().poll(&mut Context::from_waker(&opens.1)).is_pending());
        let mut later = Box::pin(tx.send([4; 30]));
        assert!(later.as_mut().poll(&mut Context::from_waker(&other.1)).is_pending());
        assert_eq!(rx.try_recv().expect("a message")[0], 2);
        assert_eq!(other.0.0.load(SeqCst), 0, "a whole segment is kept for the sender before it");
        assert!(opening.as_mut().poll(&mut Context::from_waker(&opens.1)).is_ready());
        assert!(poll_once(&mut later).is_ready());
    });
}

/// Two segments of up to four messages and 200 bytes.
fn two_longer_segments(mode: ReadMode) -> (Sender, Receiver) {
    let channel = without_timer().segment_bytes(200).segment_messages(4).max_bytes(2 * (200 + 4 * 8 + 128));
    channel.max_message_bytes(300).read_mode(mode).build().expect("valid")
}

/// A sender that came first opens a segment and leaves no room in it. Once its message was received, only the memory of
/// that segment lacks for the second sender, and no other sender would seal it.
#[test]
fn drained_segment_is_sealed_for_a_sleeping_sender() {
    plain(|| {
        // The test never drives this runtime, so the background task never runs.
        let runtime = current_runtime(false);
        let _context = runtime.enter();
        let (tx, mut rx) = two_longer_segments(ReadMode::Safe);
        assert!(tx.try_send([1; 190]).is_ok() && tx.try_send([2; 190]).is_ok());
        let (woken, waker) = wake_counter();
        let (mut first, mut second) = (Box::pin(tx.send([3; 190])), Box::pin(tx.send(vec![4; 300])));
        assert!(poll_once(&mut first).is_pending());
        assert!(second.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(rx.try_recv().expect("a message")[0], 1);
        assert!(poll_once(&mut first).is_ready());
        assert_eq!(rx.try_recv().expect("a message")[0], 2);
        assert_eq!(woken.0.load(SeqCst), 0, "the open segment has no entry for it");
        assert_eq!(rx.try_recv().expect("a message")[0], 3);
        assert_eq!(woken.0.load(SeqCst), 1);
        assert!(second.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
    });
}

/// The thread that drops a message does not know that the first sender has room in the open segment.
#[test]
fn segment_returned_by_a_dropped_message_serves_the_sender_after_an_unpolled_one() {
    plain(|| {
        let runtime = current_runtime(false);
        let _context = runtime.enter();
        let (tx, mut rx) = two_longer_segments(ReadMode::ZeroCopy);
        assert!(tx.try_send([1; 200]).is_ok() && tx.try_send([2; 200]).is_ok());
        let (mut unpolled, mut second, mut last) =
            (Box::pin(tx.send([3; 80])), Box::pin(tx.send([4; 40])), Box::pin(tx.send([5; 140])));
        let (woken, waker) = wake_counter();
        assert!(poll_once(&mut unpolled).is_pending() && poll_once(&mut second).is_pending());
        assert!(last.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let kept = rx.try_recv().expect("a message");
        assert_eq!(rx.try_recv().expect("a message")[0], 2);
        assert!(poll_once(&mut second).is_ready());
        assert_eq!(woken.0.load(SeqCst), 0, "80 bytes of the open segment are kept for the first sender");
        drop(kept);
        assert_eq!(woken.0.load(SeqCst), 1);
        assert!(last.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
        assert!(poll_once(&mut unpolled).is_ready());
    });
}

/// Two of four senders find the room taken that they were woken for, and are not polled again after their second wake.
#[test]
fn passed_senders_that_are_not_polled_do_not_use_up_the_memory() {
    plain(|| {
        let runtime = current_runtime(false);
        let _context = runtime.enter();
        let (tx, mut rx) = two_segments();
        let counters = [wake_counter(), wake_counter(), wake_counter(), wake_counter()];
        let mut waiting = [3, 4, 5, 6].map(|number| Box::pin(tx.send([number; 20])));
        assert!(tx.try_send([1; 60]).is_ok() && tx.try_send([2; 60]).is_ok());
        for (send, (_, waker)) in waiting.iter_mut().zip(&counters) {
            assert!(send.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        }
        for first in [1, 2] {
            assert_eq!(rx.try_recv().expect("a message")[0], first);
        }
        assert!(counters.iter().all(|(woken, _)| woken.0.load(SeqCst) == 1));
        for at in [0, 2] {
            assert!(poll_once(&mut waiting[at]).is_ready());
            assert!(tx.try_send([7; 20]).is_ok(), "room in the open segment is for every sender");
        }
        for at in [1, 3] {
            assert!(waiting[at].as_mut().poll(&mut Context::from_waker(&counters[at].1)).is_pending());
        }
        for first in [3, 7, 5, 7] {
            assert_eq!(rx.try_recv().expect("a message")[0], first);
        }
        assert!([1, 3].iter().all(|&at| counters[at].0.0.load(SeqCst) == 2));
        for _ in 0..10 {
            assert!(tx.try_send([8; 20]).is_ok(), "{:?}", tx.monitor().stats());
            assert_eq!(rx.try_recv().expect("a message")[0], 8);
        }
        assert!(poll_once(&mut waiting[1]).is_ready() && poll_once(&mut waiting[3]).is_ready());
    });
}

/// Four segments of four messages and 64 bytes; receivers see what is sealed, and nothing but a full segment is.
fn sealed_when_full() -> (Sender, Receiver) {
    let one = 64 + 4 * 8 + 128;
    let builder =
        builder().segment_bytes(64).segment_messages(4).max_bytes(4 * one).max_message_bytes(3 * one);
    let builder = builder.strategy(MessageCount(usize::MAX)).on_demand(false);
    builder.read_mode(ReadMode::ZeroCopy).build().expect("valid")
}

/// The message of the first sender takes the memory that the second one needs, and lies in the active segment.
#[test]
fn sender_that_sleeps_does_not_wait_for_the_active_segment() {
    paused(async {
        let (tx, mut rx) = sealed_when_full();
        tx.try_send(vec![1; 600]).expect("room");
        let (mut first, mut second) = (Box::pin(tx.send(vec![2; 600])), Box::pin(tx.send(vec![3; 600])));
        assert!(poll_once(&mut first).is_pending() && poll_once(&mut second).is_pending());
        assert_eq!(rx.try_recv().expect("sealed")[0], 1);
        assert_eq!(poll_once(&mut first), Poll::Ready(Ok(())));
        assert_eq!(rx.try_recv().expect("sealed")[0], 2);
        assert_eq!(poll_once(&mut second), Poll::Ready(Ok(())));
    });
}

/// While a received message holds the memory that a sender needs, another one overtakes it.
#[test]
fn sender_that_was_overtaken_does_not_wait_for_the_active_segment() {
    paused(async {
        let (tx, mut rx) = sealed_when_full();
        for _ in 0..4 {
            tx.try_send("1").expect("room");
        }
        let held = rx.try_recv_batch(4).expect("full");
        let mut waiting = Box::pin(tx.send(vec![3; 600]));
        assert!(poll_once(&mut waiting).is_pending());
        tx.try_send(vec![2; 100]).expect("room for a short one");
        drop(held);
        assert_eq!(rx.try_recv().expect("sealed")[0], 2);
        assert_eq!(poll_once(&mut waiting), Poll::Ready(Ok(())));
    });
}
