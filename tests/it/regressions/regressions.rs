//! Faults that were found once by looking for the interleaving that breaks the channel.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use crate::common::{advance, current, current_runtime, ms, multi_runtime, paused, plain, poll_once, settle};
use futures::{Sink, StreamExt};
use tokio::runtime::Handle;
use turbostream::{Builder, MessageCount, ReadMode, Receiver, Sender, TimeWindow, builder};

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

// The timer is there as soon as there is a message, whatever the thread that sent it does next.

fn timed() -> Builder {
    builder().on_demand(false).strategy(TimeWindow(ms(1)))
}

/// An executor's queue of ready tasks: whoever is woken sends its number.
struct Ready(Sender);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.0.try_send("ready").expect("room");
    }
}

#[test]
fn a_waker_that_yielded_may_send_a_first_message() {
    current(async {
        let (tx, rx) = builder().build().expect("valid");
        let waker = Waker::from(Arc::new(Ready(tx)));
        assert!(pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        assert_eq!(rx.recv().await.as_deref(), Some(&b"ready"[..]));
    });
}

#[test]
fn a_paused_clock_that_is_advanced_past_the_window_shows_a_first_message() {
    paused(async {
        let (tx, rx) = timed().build().expect("valid");
        tx.send("1").await.expect("open");
        tokio::time::advance(ms(5)).await;
        assert_eq!(rx.try_recv().as_deref(), Ok(&b"1"[..]));
    });
}

/// The timer's runtime is idle, while the sender's worker is not.
#[test]
fn the_window_holds_on_the_timers_own_runtime_while_the_senders_worker_is_busy() {
    plain(|| {
        let (timers, busy) = (multi_runtime(), current_runtime(false));
        let (tx, rx) = timed().runtime(timers.handle().clone()).build().expect("valid");
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
        assert!(in_time, "nobody saw it while its sender's worker was busy");
        reader.join().expect("no panic");
    });
}

#[test]
fn a_nested_executor_does_not_keep_the_timer_from_running() {
    plain(|| {
        let (timers, busy) = (multi_runtime(), current_runtime(false));
        let (tx, rx) = timed().runtime(timers.handle().clone()).build().expect("valid");
        busy.block_on(async move {
            futures::executor::block_on(async {
                tx.send("1").await.expect("open");
                assert_eq!(rx.recv().await.as_deref(), Some(&b"1"[..]));
            });
        });
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

/// Segments of one message of up to 64 bytes, four of them, and room for larger payloads by reference in their stead.
fn four_segments() -> (Sender, Receiver) {
    let footprint = 64 + 8 + 128;
    let channel = untimed().segment_bytes(64).segment_messages(1).max_message_bytes(3 * footprint);
    channel.max_bytes(4 * footprint).read_mode(ReadMode::ZeroCopy).build().expect("valid")
}

#[test]
fn a_segment_that_a_large_message_opened_in_vain_is_had_by_a_small_one() {
    plain(|| {
        // Nothing runs on it: no timer helps.
        let runtime = current_runtime(false);
        let _context = runtime.enter();
        let (tx, rx) = four_segments();
        for message in ["1", "2", "3", "4"] {
            tx.try_send(message).expect("room");
        }
        let ((woken1, waker1), (woken2, waker2)) = (flag(), flag());
        let (mut large, mut small) = (pin!(tx.send(vec![0; 600])), pin!(tx.send(vec![1; 60])));
        assert!(large.as_mut().poll(&mut Context::from_waker(&waker1)).is_pending());
        assert!(small.as_mut().poll(&mut Context::from_waker(&waker2)).is_pending());
        let _kept = rx.try_recv().expect("a message");
        drop(rx.try_recv().expect("a message"));
        assert_eq!((woken1.0.load(SeqCst), woken2.0.load(SeqCst)), (1, 0));
        assert!(large.as_mut().poll(&mut Context::from_waker(&waker1)).is_pending());
        assert_eq!(woken2.0.load(SeqCst), 1);
        assert!(small.as_mut().poll(&mut Context::from_waker(&waker2)).is_ready());
    });
}

#[test]
fn large_messages_that_wait_beside_a_free_segment_are_not_woken_for_ever() {
    paused(async {
        let (tx, rx) = four_segments();
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

#[test]
fn a_sender_that_was_woken_in_vain_stays_ahead_of_later_ones() {
    plain(|| {
        let runtime = current_runtime(false);
        let _context = runtime.enter();
        // Two segments of up to two messages, or one of 60 bytes.
        let channel = untimed().segment_bytes(64).segment_messages(2).max_bytes(2 * (64 + 2 * 8 + 128));
        let (tx, rx) = channel.build().expect("valid");
        let (first, second) = (flag(), flag());
        let send = |number| Box::pin(tx.send([number; 60]));
        let mut waiting = [send(3), send(4)];
        assert!(tx.try_send([1; 60]).is_ok() && tx.try_send([2; 60]).is_ok());
        assert!(waiting[0].as_mut().poll(&mut Context::from_waker(&first.1)).is_pending());
        assert!(waiting[1].as_mut().poll(&mut Context::from_waker(&second.1)).is_pending());
        assert_eq!(rx.try_recv().expect("a message")[0], 1);
        assert_eq!((first.0.0.load(SeqCst), second.0.0.load(SeqCst)), (1, 1), "two would fit");
        assert!(waiting[0].as_mut().poll(&mut Context::from_waker(&first.1)).is_ready());
        let mut later = [send(5), send(6)];
        for later in &mut later {
            assert!(later.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert!(waiting[1].as_mut().poll(&mut Context::from_waker(&second.1)).is_pending());
        assert_eq!(rx.try_recv().expect("a message")[0], 2);
        assert_eq!(second.0.0.load(SeqCst), 2, "it comes before those who came later");
        assert!(waiting[1].as_mut().poll(&mut Context::from_waker(&second.1)).is_ready());
        assert!(later.iter_mut().all(|later| poll_once(later).is_pending()));
    });
}

/// The same for sinks, which keep their place in the list from one poll to the next.
#[test]
fn a_sink_that_was_woken_in_vain_stays_ahead_of_later_ones() {
    fn poll_ready(sink: &mut Sender, waker: &Waker) -> Poll<()> {
        Pin::new(sink).poll_ready(&mut Context::from_waker(waker)).map(|ready| ready.expect("open"))
    }
    plain(|| {
        let runtime = current_runtime(false);
        let _context = runtime.enter();
        let channel = untimed().segment_bytes(64).segment_messages(2).max_bytes(2 * (64 + 2 * 8 + 128));
        let (tx, rx) = channel.build().expect("valid");
        let (first, second) = (flag(), flag());
        let park = |number| {
            let mut sink = tx.clone();
            Pin::new(&mut sink).start_send(Bytes::from(vec![number; 60])).expect("it is kept");
            sink
        };
        assert!(tx.try_send([1; 60]).is_ok() && tx.try_send([2; 60]).is_ok());
        let mut waiting = [park(3), park(4)];
        assert!(poll_ready(&mut waiting[0], &first.1).is_pending());
        assert!(poll_ready(&mut waiting[1], &second.1).is_pending());
        assert_eq!(rx.try_recv().expect("a message")[0], 1);
        assert_eq!((first.0.0.load(SeqCst), second.0.0.load(SeqCst)), (1, 1), "two would fit");
        assert!(poll_ready(&mut waiting[0], &first.1).is_ready());
        let mut later = [park(5), park(6)];
        assert!(later.iter_mut().all(|later| poll_ready(later, Waker::noop()).is_pending()));
        assert!(poll_ready(&mut waiting[1], &second.1).is_pending());
        assert_eq!(rx.try_recv().expect("a message")[0], 2);
        assert_eq!(second.0.0.load(SeqCst), 2, "it comes before those who came later");
        assert!(poll_ready(&mut waiting[1], &second.1).is_ready());
        assert!(later.iter_mut().all(|later| poll_ready(later, Waker::noop()).is_pending()));
    });
}
