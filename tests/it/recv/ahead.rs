//! Messages that a receiver has taken ahead: who sees them, and where they go.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use turbostream::{
    BuildError, Builder, Limit, MessageCount, ReadMode, Receiver, Sender, TryRecvError, builder,
};

use crate::common::current;

/// Counts its wakes.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wakes {
    fn new() -> (Arc<Self>, Waker) {
        let wakes = Arc::new(Self::default());
        (Arc::clone(&wakes), Waker::from(wakes))
    }
    fn take(&self) -> usize {
        self.0.swap(0, Relaxed)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// A channel with two receivers that take up to `prefetch` messages ahead. It has 16 segments of 64 messages.
fn two(prefetch: usize) -> (Sender, Receiver, Receiver) {
    let (tx, rx) = roomy().prefetch(prefetch).build().unwrap();
    let other = rx.clone();
    (tx, rx, other)
}

fn roomy() -> Builder {
    segments(16)
}

/// A channel of `count` segments of 64 messages, which switches only when it must.
fn segments(count: usize) -> Builder {
    let footprint = 4096 + 64 * 8 + 128;
    let builder = builder().segment_bytes(4096).segment_messages(64).max_bytes(count * footprint);
    builder.max_message_bytes(1024).strategy(MessageCount(usize::MAX))
}

fn send_all(tx: &Sender, numbers: std::ops::Range<u8>) {
    numbers.for_each(|number| tx.try_send(&[number]).unwrap());
}

/// Two receivers. The first one has taken message 1, and the next ones ahead: together `prefetch`. The other one has taken
/// message 0, which made all of them readable.
fn first_has_claimed(prefetch: usize, messages: u8) -> (Sender, Receiver, Receiver) {
    let (tx, mut rx, mut other) = two(prefetch);
    send_all(&tx, 0..messages);
    assert_eq!((try_number(&mut other), try_number(&mut rx)), (0, 1));
    (tx, rx, other)
}

fn number(message: &Bytes) -> u8 {
    assert_eq!(message.len(), 1);
    message[0]
}

fn try_number(rx: &mut Receiver) -> u8 {
    number(&rx.try_recv().unwrap())
}

fn rest(rx: &mut Receiver) -> Vec<u8> {
    std::iter::from_fn(|| rx.try_recv().ok()).map(|message| number(&message)).collect()
}

/// Asserts that sent, received and queued messages, and their bytes, are these.
fn assert_figures(tx: &Sender, sent: u64, received: u64) {
    let stats = tx.monitor().stats();
    assert_eq!((stats.sent_messages, stats.sent_bytes), (sent, sent));
    assert_eq!((stats.received_messages, stats.received_bytes), (received, received));
    assert_eq!((stats.queued_messages, stats.queued_bytes), (sent - received, sent - received));
    assert_eq!((tx.len() as u64, tx.queued_bytes() as u64), (sent - received, sent - received));
}

#[test]
fn figures_follow_each_message_that_a_lone_receiver_takes() {
    current(async {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let (tx, mut rx) = roomy().read_mode(mode).build().unwrap();
            send_all(&tx, 0..200);
            for received in 0..200 {
                assert_figures(&tx, 200, received);
                assert_eq!(number(&rx.recv().await.unwrap()), received as u8);
            }
            assert_figures(&tx, 200, 200);
        }
    });
}

#[test]
fn drained_waits_for_what_a_lone_receiver_holds() {
    current(async {
        let (tx, mut rx) = roomy().build().unwrap();
        send_all(&tx, 0..10);
        assert_eq!(try_number(&mut rx), 0);
        let mut drained = pin!(tx.drained());
        for received in 1..10 {
            assert!(drained.as_mut().now_or_never().is_none(), "{received}");
            assert_eq!(try_number(&mut rx), received);
        }
        drained.now_or_never().unwrap().unwrap();
    });
}

#[test]
fn clone_gets_what_the_handle_had_taken_ahead() {
    current(async {
        let (tx, mut rx) = roomy().build().unwrap();
        send_all(&tx, 0..70);
        assert_eq!(number(&rx.recv().await.unwrap()), 0);
        let mut other = rx.clone();
        for next in (1..70).step_by(2).take(34) {
            assert_eq!((try_number(&mut other), try_number(&mut rx)), (next, next + 1));
            assert_figures(&tx, 70, u64::from(next) + 2);
        }
        drop(rx);
        assert_eq!(rest(&mut other), [69]);
    });
}

/// Each way to receive continues where the one before it has stopped.
#[test]
fn receives_of_all_kinds_keep_the_order() {
    current(async {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let (tx, mut rx) = roomy().read_mode(mode).build().unwrap();
            send_all(&tx, 0..200);
            let mut next = 0;
            while next < 192 {
                let mut got = Vec::new();
                match next % 8 {
                    0 => got.push(rx.recv().await.unwrap()),
                    1 => got.push(rx.try_recv().unwrap()),
                    2 => got.push(rx.recv_ref().await.unwrap().into_bytes()),
                    3 => got.push(rx.try_recv_ref().unwrap().into_bytes()),
                    4 => got.extend(rx.recv_batch(1).await.unwrap()),
                    5 => assert_eq!(rx.recv_many(&mut got, 1).await, 1),
                    6 => got.push(futures::future::poll_fn(|cx| rx.poll_recv(cx)).await.unwrap()),
                    _ => got.push(rx.next().await.unwrap()),
                }
                rx.set_read_mode(if next % 3 == 0 { ReadMode::Safe } else { ReadMode::ZeroCopy });
                assert_eq!(got.iter().map(number).collect::<Vec<_>>(), [next]);
                next += 1;
            }
            assert_eq!(rest(&mut rx), (192..200).collect::<Vec<_>>());
        }
    });
}

#[test]
fn an_idle_handle_holds_no_more_than_prefetch() {
    current(async {
        for prefetch in [1, 2, 16] {
            let (tx, mut rx, mut other) = first_has_claimed(prefetch, 60);
            let end = 1 + prefetch as u8;
            assert_eq!(rest(&mut other), (end..60).collect::<Vec<_>>(), "prefetch {prefetch}");
            assert_figures(&tx, 60, 61 - prefetch as u64);
            assert_eq!(rest(&mut rx), (2..end).collect::<Vec<_>>());
            assert_figures(&tx, 60, 60);
        }
    });
}

#[test]
fn prefetch_is_1_to_256() {
    current(async {
        for value in [0, 257, usize::MAX] {
            let expected = BuildError::OutOfRange { field: "prefetch", value, min: 1, max: 256 };
            assert_eq!(builder().prefetch(value).build().unwrap_err(), expected);
        }
        for accepted in [1, 256] {
            builder().prefetch(accepted).build().unwrap();
        }
    });
}

#[test]
fn drop_gives_back_in_order_and_before_all_others() {
    current(async {
        for in_order in [false, true] {
            let (tx, mut rx, mut other) = first_has_claimed(4, 20);
            let mut third = other.clone();
            assert_eq!((try_number(&mut other), try_number(&mut third)), (5, 9));
            if in_order {
                std::mem::swap(&mut rx, &mut other);
            }
            drop(other);
            drop(rx);
            assert_figures(&tx, 20, 4);
            // What the handle itself had taken is given back by the batch.
            let batch = third.try_recv_batch(2).unwrap();
            assert_eq!((batch.first_sequence(), batch.len()), (2, 2));
            let mut many = Vec::new();
            assert_eq!(third.recv_many(&mut many, 3).await, 3);
            assert_eq!(many.iter().map(number).collect::<Vec<_>>(), [4, 6, 7]);
            assert_eq!(rest(&mut third), [8].into_iter().chain(10..20).collect::<Vec<_>>());
            assert_figures(&tx, 20, 20);
        }
    });
}

#[test]
fn what_was_given_back_is_lent_or_copied_as_the_read_mode_says() {
    current(async {
        for (mode, is_lent) in [(ReadMode::Safe, false), (ReadMode::ZeroCopy, true)] {
            let (tx, rx, mut other) = first_has_claimed(4, 7);
            other.set_read_mode(mode);
            assert_eq!(rest(&mut other), [5, 6]);
            drop(rx);
            let kept: Vec<_> = std::iter::from_fn(|| other.try_recv().ok()).collect();
            assert_eq!(kept.iter().map(number).collect::<Vec<_>>(), [2, 3, 4]);
            // What else refers to the segment is gone.
            send_all(&tx, 7..8);
            tx.switch();
            assert_eq!(rest(&mut other), [7]);
            assert_eq!(tx.monitor().stats().lent_bytes > 0, is_lent);
            drop(kept);
            assert_eq!(tx.monitor().stats().lent_bytes, 0);
        }
    });
}

#[test]
fn limit_of_bytes_counts_what_was_given_back() {
    current(async {
        for in_between in [false, true] {
            let (tx, mut rx, mut other) = two(4);
            for len in [1, 1, 100, 100, 100, 1, 1, 1] {
                tx.try_send(vec![7; len]).unwrap();
            }
            assert_eq!((other.try_recv().unwrap().len(), rx.try_recv().unwrap().len()), (1, 1));
            if in_between {
                // What `rx` has claimed no longer precedes the next message.
                assert_eq!(other.try_recv().unwrap().len(), 1);
            }
            drop(rx);
            for expected in [1, 1, 3] {
                let mut many = Vec::new();
                assert_eq!(other.recv_many(&mut many, Limit::messages(3).bytes(150)).await, expected);
                assert_eq!(many[0].len(), 100);
            }
        }
    });
}

#[test]
fn drop_wakes_a_receiver_that_sleeps() {
    current(async {
        let (_tx, rx, mut other) = first_has_claimed(4, 6);
        assert_eq!(rest(&mut other), [5]);
        let (wakes, waker) = Wakes::new();
        let mut recv = Box::pin(other.recv());
        assert!(recv.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(rx);
        assert_eq!(wakes.take(), 1);
        assert_eq!(number(&recv.now_or_never().unwrap().unwrap()), 2);
        assert_eq!(rest(&mut other), [3, 4]);
    });
}

/// Whatever gives messages back, receivers that sleep are woken if it leaves some.
#[test]
fn giving_back_wakes_a_receiver_that_sleeps() {
    type GiveBack = fn(&mut Receiver) -> (Vec<Bytes>, Option<Receiver>);
    let ways: [GiveBack; 5] = [
        |rx| (Vec::new(), Some(rx.clone())),
        |rx| (rx.try_recv_batch(1).unwrap().into_iter().collect(), None),
        |rx| (rx.recv_batch(1).now_or_never().unwrap().unwrap().into_iter().collect(), None),
        |rx| {
            let mut many = Vec::new();
            rx.recv_many(&mut many, 1).now_or_never().unwrap();
            (many, None)
        },
        |rx| {
            let mut many = Vec::new();
            let mut cx = Context::from_waker(Waker::noop());
            assert!(rx.poll_recv_many(&mut cx, &mut many, 1).is_ready());
            (many, None)
        },
    ];
    current(async move {
        for (way, give_back) in ways.iter().enumerate() {
            let (_tx, mut rx, mut other) = first_has_claimed(4, 6);
            assert_eq!(rest(&mut other), [5]);
            let (wakes, waker) = Wakes::new();
            let mut recv = pin!(other.recv());
            assert!(recv.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            let (taken, _clone) = give_back(&mut rx);
            assert_eq!(wakes.take(), 1, "way {way}");
            assert_eq!(number(&recv.now_or_never().unwrap().unwrap()), 2 + taken.len() as u8, "way {way}");
        }
    });
}

/// A handle that is registered by `poll_recv` completes that registration, and gives back before.
#[test]
fn registered_poll_gives_back() {
    current(async {
        let (tx, mut rx, mut other) = two(4);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(rx.poll_recv(&mut cx).is_pending());
        send_all(&tx, 0..6);
        assert_eq!((try_number(&mut other), try_number(&mut rx)), (0, 1));
        assert_eq!(rest(&mut other), [5]);
        assert_eq!(rx.poll_recv(&mut cx).map(|message| number(&message.unwrap())), Poll::Ready(2));
        assert_figures(&tx, 6, 4);
        assert_eq!(rest(&mut other), [3, 4]);
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    });
}

#[test]
fn drained_waits_for_what_an_idle_handle_holds() {
    current(async {
        for is_lent in [false, true] {
            let (tx, mut rx, mut other) = first_has_claimed(4, 7);
            let (wakes, waker) = Wakes::new();
            let mut drained = pin!(tx.drained());
            assert!(drained.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            assert_eq!(rest(&mut other), [5, 6]);
            for left in 2..5 {
                assert_eq!(wakes.take(), 0);
                let next = if is_lent { rx.try_recv_ref().unwrap()[0] } else { try_number(&mut rx) };
                assert_eq!(next, left);
            }
            assert_eq!(wakes.take(), 1, "woken by the last message of the claim");
            drained.now_or_never().unwrap().unwrap();
        }
    });
}

#[test]
fn drained_waits_for_what_was_given_back() {
    current(async {
        let (tx, rx, mut other) = first_has_claimed(4, 7);
        assert_eq!(rest(&mut other), [5, 6]);
        let mut drained = pin!(tx.drained());
        assert!(drained.as_mut().now_or_never().is_none());
        drop(rx);
        assert!(drained.as_mut().now_or_never().is_none());
        assert_eq!(rest(&mut other), [2, 3, 4]);
        drained.now_or_never().unwrap().unwrap();
    });
}

/// While a drainer waits, a handle takes no more than it hands out at once: it may be idle after that.
#[test]
fn nothing_is_held_that_a_drainer_waits_for() {
    current(async {
        let (tx, mut rx, mut other) = two(16);
        send_all(&tx, 0..10);
        tx.switch();
        send_all(&tx, 10..12);
        let mut drained = pin!(tx.drained());
        assert!(drained.as_mut().now_or_never().is_none());
        assert_eq!((try_number(&mut other), try_number(&mut rx)), (0, 1));
        assert_eq!(rest(&mut other), (2..12).collect::<Vec<_>>());
        drained.now_or_never().unwrap().unwrap();
    });
}

/// The figures of the active segment are its own, although messages of an earlier one are not handed out yet.
#[test]
fn figures_of_the_active_segment_exclude_earlier_claims() {
    current(async {
        let (tx, mut rx, mut other) = first_has_claimed(4, 64);
        assert_eq!(rest(&mut other).len(), 59);
        send_all(&tx, 64..71);
        for taken in 1..6 {
            assert_eq!(try_number(&mut other), 63 + taken);
            let stats = tx.monitor().stats();
            // What `other` has taken ahead of the active segment counts there.
            let active = 7 - u64::from(taken);
            assert_eq!((stats.active_messages, stats.queued_messages), (active, active + 3));
        }
        assert_eq!(rest(&mut rx).len() + rest(&mut other).len(), 5);
    });
}

/// The message that follows the target of a drainer may be taken ahead before the drainer is polled again.
#[test]
fn drained_does_not_wait_for_later_messages_that_an_idle_handle_holds() {
    current(async {
        let (tx, mut rx, mut other) = two(16);
        send_all(&tx, 0..4);
        let mut first = pin!(tx.drained());
        assert!(first.as_mut().now_or_never().is_none());
        send_all(&tx, 4..6);
        let mut second = pin!(tx.drained());
        assert!(second.as_mut().now_or_never().is_none());
        send_all(&tx, 6..20);
        for taken in 0..6 {
            assert_eq!(try_number(&mut other), taken);
        }
        first.now_or_never().unwrap().unwrap();
        assert_eq!((try_number(&mut other), try_number(&mut rx)), (6, 7));
        assert_eq!(rest(&mut other), [19]);
        second.now_or_never().expect("all messages before were handed out").unwrap();
    });
}

#[test]
fn last_receivers_drop_counts_what_was_taken_ahead_as_dropped() {
    current(async {
        for prefetch in [1, 4] {
            let (tx, rx, mut other) = first_has_claimed(prefetch, 12);
            // So the claim of the first one was passed.
            assert_eq!(usize::from(try_number(&mut other)), prefetch + 1);
            let mut drained = pin!(tx.drained());
            assert!(drained.as_mut().now_or_never().is_none());
            drop(rx);
            drop(other);
            let stats = tx.monitor().stats();
            assert_eq!((stats.received_messages, stats.received_bytes), (3, 3));
            assert_eq!((stats.dropped_messages, stats.dropped_bytes, stats.drops.unread), (9, 9, 9));
            assert_eq!((stats.queued_messages, stats.memory_bytes()), (0, 0));
            assert!(drained.now_or_never().unwrap().is_err());
        }
    });
}

#[test]
fn messages_taken_ahead_survive_the_close() {
    current(async {
        let (tx, mut rx, mut other) = first_has_claimed(4, 7);
        drop(tx);
        assert_eq!(rest(&mut other), [5, 6]);
        assert_eq!(rest(&mut rx), [2, 3, 4]);
        assert_eq!((rx.recv().await, other.recv().await), (None, None));
    });
}

#[test]
fn a_sleeping_handle_pins_no_segment() {
    current(async {
        let (tx, mut rx, mut other) = first_has_claimed(1, 3);
        assert!(tx.monitor().stats().memory_bytes() > 0);
        let mut recv = pin!(rx.recv());
        assert_eq!(try_number(&mut other), 2);
        assert!(recv.as_mut().now_or_never().is_none());
        tx.switch();
        let _ = other.recv().now_or_never();
        assert_eq!(tx.monitor().stats().lent_bytes, 0);
    });
}

/// Handles that are not polled keep no sender from the memory of a small channel, and none from that of the longest message.
#[test]
fn idle_handles_of_a_small_channel_block_no_sender() {
    current(async {
        for (count, handles) in [(2, 2), (2, 9), (3, 2), (4, 2), (4, 9), (8, 4)] {
            for longest in [1024, 10_000] {
                let builder = segments(count).prefetch(16);
                let longest = longest.min((count - 1) * 4736);
                let (tx, mut rx) = builder.max_message_bytes(longest).build().unwrap();
                let mut idle: Vec<_> = (1..handles).map(|_| rx.clone()).collect();
                for idle in &mut idle {
                    let held = tx.len();
                    send_all(&tx, 0..60);
                    assert_eq!((try_number(&mut rx), try_number(idle)), (0, 1));
                    assert_eq!(rest(&mut rx).len() + tx.len(), held + 58);
                    tx.switch();
                }
                for _ in 0..200 {
                    tx.try_send("not blocked").unwrap();
                    assert_eq!(rx.try_recv().unwrap(), "not blocked");
                }
                tx.try_send(vec![7; longest]).unwrap();
                assert_eq!(rx.try_recv().unwrap().len(), longest);
            }
        }
    });
}

/// Waking a sender runs its waker, which may clone the receiver that is being cloned.
#[test]
fn waker_may_clone_the_receiver_that_is_being_cloned() {
    struct CloneReceiver(OnceLock<Arc<Receiver>>, AtomicUsize);
    impl Wake for CloneReceiver {
        fn wake(self: Arc<Self>) {
            if let Some(rx) = self.0.get() {
                let _ = Receiver::clone(rx);
                self.1.fetch_add(1, Relaxed);
            }
        }
    }
    current(async {
        let (tx, mut rx) = segments(4).build().unwrap();
        let mut other = rx.clone();
        send_all(&tx, 0..64);
        // The handle refers to the segment from now on, and the other one reads the rest.
        assert_eq!((try_number(&mut other), try_number(&mut rx)), (0, 1));
        assert_eq!(rest(&mut other).len(), 62);
        for _ in 0..3 {
            send_all(&tx, 0..64);
        }
        let waker = Arc::new(CloneReceiver(OnceLock::new(), AtomicUsize::new(0)));
        let mut send = pin!(tx.send("waits"));
        let polled = send.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&waker))));
        assert!(polled.is_pending(), "the segment is referred to");
        let rx = Arc::new(rx);
        waker.0.set(Arc::clone(&rx)).ok().unwrap();
        let _clone = Receiver::clone(&rx);
        assert_eq!(waker.1.load(Relaxed), 1, "cloning the receiver returns the segment");
        send.now_or_never().expect("room").unwrap();
    });
}

/// Clones may be made from several threads at once, since `clone` takes `&self`.
#[test]
fn clones_are_made_from_several_threads() {
    current(async {
        let (tx, mut rx) = roomy().build().unwrap();
        send_all(&tx, 0..60);
        assert_eq!(try_number(&mut rx), 0);
        let mut clones: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| rx.clone())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(tx.receiver_count(), 5);
        for next in 1..60 {
            assert_eq!(try_number(&mut clones[usize::from(next) % 4]), next);
        }
    });
}

/// After external payloads, which are taken one by one, a handle takes ahead again.
#[test]
fn a_handle_takes_ahead_again_after_external_payloads() {
    type Take = fn(&mut Receiver) -> u8;
    let ways: [Take; 3] = [
        |rx| rx.try_recv().unwrap()[0],
        |rx| rx.try_recv_ref().unwrap()[0],
        |rx| match rx.poll_recv(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(message) => message.unwrap()[0],
            Poll::Pending => panic!("nothing to receive"),
        },
    ];
    current(async move {
        for take in ways {
            let (tx, mut rx) = builder().prefetch(4).build().unwrap();
            let mut other = rx.clone();
            for number in 0..5_u8 {
                tx.try_send(Bytes::from(vec![number; 40_000])).unwrap();
            }
            send_all(&tx, 5..20);
            for number in 0..5 {
                assert_eq!(rx.recv().await.unwrap()[0], number);
            }
            for number in 5..8 {
                assert_eq!(take(&mut rx), number);
            }
            // It holds some of those that follow.
            assert!(try_number(&mut other) > 8);
        }
    });
}

#[test]
fn external_payloads_lie_between_messages_taken_ahead() {
    current(async {
        let (tx, mut rx) = builder().prefetch(4).build().unwrap();
        let mut other = rx.clone();
        let external = |number: u8| Bytes::from(vec![number; 40_000]);
        for number in 0..60 {
            match number % 5 {
                4 => tx.send(external(number)).await.unwrap(),
                _ => tx.send(&[number]).await.unwrap(),
            }
        }
        let mut seen = Vec::new();
        for turn in 0..60 {
            let rx = if turn % 3 == 0 { &mut other } else { &mut rx };
            seen.extend(rx.try_recv().ok().map(|message| (message[0], message.len())));
        }
        while let Ok(message) = rx.try_recv().or_else(|_| other.try_recv()) {
            seen.push((message[0], message.len()));
        }
        seen.sort_unstable();
        let sent = (0..60).map(|number| (number, if number % 5 == 4 { 40_000 } else { 1 }));
        assert_eq!(seen, sent.collect::<Vec<_>>());
        let stats = tx.monitor().stats();
        assert_eq!((stats.received_bytes, stats.queued_messages), (12 * 40_000 + 48, 0));
    });
}

/// One receiver sleeps at the end of a closed channel while another one holds messages 2 to 4.
async fn at_the_end_beside_a_holder(hand_out: impl AsyncFnOnce(Receiver) -> Option<Receiver>) {
    let (tx, rx, mut other) = first_has_claimed(4, 7);
    drop(tx);
    assert_eq!(rest(&mut other), [5, 6]);
    assert_eq!(other.try_recv().unwrap_err(), TryRecvError::Empty, "the other one may give some back");
    let sleeping = tokio::spawn(async move {
        let message = other.recv().await;
        (message, other)
    });
    tokio::task::yield_now().await;
    assert!(!sleeping.is_finished());
    let holder = hand_out(rx).await;
    let (message, _other) = tokio::time::timeout(Duration::from_secs(5), sleeping).await.unwrap().unwrap();
    assert_eq!(message.as_ref().map(number), if holder.is_some() { None } else { Some(2) });
}

#[test]
fn end_of_the_channel_waits_for_what_another_handle_holds() {
    current(async {
        at_the_end_beside_a_holder(async |mut rx| {
            assert_eq!(rest(&mut rx), [2, 3, 4]);
            Some(rx)
        })
        .await;
        at_the_end_beside_a_holder(async |mut rx| {
            assert_eq!(rx.recv_batch(10).await.unwrap().len(), 3);
            Some(rx)
        })
        .await;
        at_the_end_beside_a_holder(async |rx| {
            drop(rx);
            None
        })
        .await;
    });
}
