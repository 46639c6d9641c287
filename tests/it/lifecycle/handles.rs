//! Operations of handles other than sending and receiving: switch, close, comparison, counts, room and weak senders.

use std::sync::{Arc, Barrier};
use std::thread;

use crate::common::{current_runtime, ms, paused, plain, poll_once};
use futures::{FutureExt, SinkExt, Stream};
use static_assertions::assert_impl_all;
use turbostream::{ReadMode, Receiver, SendError, Sender, TryRecvError, TrySendError, WeakSender};

assert_impl_all!(WeakSender: Send, Sync, Unpin, Clone, std::fmt::Debug);

#[test]
fn switch_makes_all_sent_messages_readable() {
    paused(async {
        let (tx, mut rx) = turbostream::builder().on_demand(false).build().expect("valid");
        let monitor = tx.monitor();
        tx.switch();
        assert_eq!(monitor.stats().switches.total(), 0, "an empty segment is never switched");
        let mut waiting = Box::pin(rx.recv());
        assert!(poll_once(&mut waiting).is_pending());
        tx.send("1").await.expect("open");
        tx.send("2").await.expect("open");
        assert!(poll_once(&mut waiting).is_pending(), "no switch was requested yet");
        tx.switch();
        assert_eq!(waiting.await.as_deref(), Some(&b"1"[..]));
        assert_eq!(rx.try_recv().as_deref(), Ok(&b"2"[..]));
        tx.switch();
        assert_eq!(monitor.stats().switches.requested, 1);
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        rx.close();
        tx.switch();
        assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
    });
}

#[test]
fn switch_puts_later_messages_into_a_new_segment() {
    paused(async {
        let (tx, mut rx) = turbostream::builder().on_demand(false).build().expect("valid");
        for round in ["one", "two"] {
            tx.send(round).await.expect("open");
            tx.send(round).await.expect("open");
            tx.switch();
        }
        for (round, first) in [("one", 0), ("two", 2)] {
            let batch = rx.recv_batch(100).await.expect("open");
            assert_eq!((batch.len(), batch.first_sequence()), (2, first));
            assert!(batch.iter().all(|m| m == round.as_bytes()));
        }
    });
}

#[test]
fn same_channel_compares_senders_by_channel() {
    paused(async {
        let (tx, _rx) = turbostream::channel();
        let (other, _rx2) = turbostream::channel();
        let upgraded = tx.downgrade().upgrade().expect("the sender exists");
        assert!(tx.same_channel(&tx) && tx.same_channel(&tx.clone()) && upgraded.same_channel(&tx));
        assert!(!tx.same_channel(&other) && !other.same_channel(&upgraded));
    });
}

#[test]
fn receiver_debug_shows_the_number_of_senders() {
    paused(async {
        let (tx, rx) = turbostream::builder().name("named").build().expect("valid");
        let second = tx.clone();
        let shown = format!("{rx:?}");
        assert!(shown.contains("named") && shown.contains("senders: 2"), "{shown}");
        drop((tx, second));
        assert!(format!("{rx:?}").contains("closed: true, senders: 0"), "{rx:?}");
    });
}

#[test]
fn same_channel_compares_receivers_by_channel() {
    paused(async {
        let (_tx, rx) = turbostream::channel();
        let (_tx2, other) = turbostream::channel();
        assert!(rx.same_channel(&rx) && rx.same_channel(&rx.clone()));
        assert!(!rx.same_channel(&other) && !other.same_channel(&rx));
    });
}

/// The senders, receivers and weak senders of a channel, all of which close it in the same way.
#[test]
fn close_by_any_handle_refuses_sends_and_wakes_all_waiters() {
    let closes: [fn(&Sender, &Receiver, &WeakSender); 3] =
        [|tx, _, _| tx.close(), |_, rx, _| rx.close(), |_, _, weak| weak.close()];
    for close in closes {
        paused(async move {
            let (tx, mut rx) = tiny();
            let (other, mut reader, weak) = (tx.clone(), rx.clone(), tx.downgrade());
            let mut waiting = (Box::pin(other.closed()), Box::pin(reader.recv()));
            assert!(poll_once(&mut waiting.0).is_pending() && poll_once(&mut waiting.1).is_pending());
            close(&tx, &rx, &weak);
            assert!(poll_once(&mut waiting.0).is_ready());
            assert_eq!(waiting.1.await, None);
            assert!(tx.is_closed() && rx.is_closed());
            assert!(matches!(tx.send("late").await, Err(SendError::Closed(_))));
            assert_eq!(rx.recv().await, None);

            let (tx, mut rx) = tiny();
            let weak = tx.downgrade();
            let accepted = std::iter::from_fn(|| tx.try_send("accepted").ok()).count();
            let mut sending = Box::pin(tx.send("waits for room"));
            assert!(poll_once(&mut sending).is_pending());
            close(&tx, &rx, &weak);
            assert!(matches!(sending.await, Err(SendError::Closed(_))));
            for _ in 0..accepted {
                assert_eq!(rx.recv().await.expect("accepted before"), "accepted");
            }
            assert_eq!(rx.recv().await, None);
            close(&tx, &rx, &weak);
        });
    }
}

#[test]
fn counts_follow_every_way_to_make_and_drop_a_handle() {
    paused(async {
        let (mut tx, rx) = turbostream::builder().max_bytes(1 << 20).build().expect("valid");
        let weak = tx.downgrade();
        let check = |senders, receivers| {
            assert_eq!((weak.sender_count(), weak.receiver_count()), (senders, receivers));
        };
        check(1, 1);
        let (other, upgraded) = (tx.clone(), weak.upgrade().expect("a sender exists"));
        let (batches, reader) = (rx.clone().into_batches(1), rx.clone().into_reader());
        check(3, 3);
        assert_eq!((tx.sender_count(), tx.receiver_count()), (3, 3));
        assert_eq!((rx.sender_count(), rx.receiver_count()), (3, 3));
        assert_eq!((tx.max_bytes(), rx.max_bytes(), weak.max_bytes()), (1 << 20, 1 << 20, 1 << 20));
        let callback = batches.into_inner().on_message(drop);
        drop(reader);
        check(3, 2);
        drop(callback.unregister().await);
        SinkExt::close(&mut tx).await.expect("open");
        drop(other);
        check(1, 1);
        drop(upgraded);
        drop(rx);
        check(0, 0);
    });
}

/// Four segments of two messages and 64 bytes; a payload of 200 bytes is external.
fn tiny() -> (Sender, Receiver) {
    let one = 64 + 2 * 8 + 128;
    let builder = turbostream::builder().segment_bytes(64).segment_messages(2).max_bytes(4 * one);
    builder.max_message_bytes(400).read_mode(ReadMode::ZeroCopy).build().expect("valid")
}

/// Asserts that `is_full` says what a send finds; returns whether it was refused.
fn is_refused(tx: &Sender, rx: &Receiver) -> bool {
    let is_full = tx.is_full();
    assert_eq!(rx.is_full(), is_full);
    let refused = matches!(tx.try_send("1"), Err(TrySendError::Full(_)));
    assert_eq!(refused, is_full, "{:?}", tx.monitor().stats());
    refused
}

#[test]
fn is_full_agrees_with_sends_while_messages_come_and_go() {
    paused(async {
        for external in [false, true] {
            for kept in [false, true] {
                let (tx, mut rx) = tiny();
                let mut messages = Vec::new();
                for step in 0..60 {
                    if external && step % 5 == 0 {
                        let _ = tx.try_send(vec![1; 200]);
                    }
                    is_refused(&tx, &rx);
                    if step % 3 == 0 || step > 40 {
                        messages.extend(rx.try_recv());
                    }
                    if !kept || step > 50 {
                        messages.clear();
                    }
                }
                drop(messages);
                while rx.try_recv().is_ok() {}
                assert!(!is_refused(&tx, &rx), "external {external}, kept {kept}");
            }
        }
    });
}

/// The memory of received payloads is returned in large steps, or when a sender needs it.
#[test]
fn is_full_counts_received_payloads_as_room() {
    paused(async {
        let (segment, payload) = (512 + 8 * 8 + 128, 600);
        let builder = turbostream::builder().segment_bytes(512).segment_messages(8);
        let builder = builder.max_bytes(2 * segment + 16 * payload).max_message_bytes(payload);
        let (tx, mut rx) = builder.build().expect("valid");
        for _ in 0..16 {
            tx.try_send(vec![1; payload]).expect("room for two segments of them");
        }
        assert!(is_refused(&tx, &rx));
        for _ in 0..2 {
            rx.try_recv().expect("a payload");
        }
        assert!(!is_refused(&tx, &rx));
    });
}

#[test]
fn is_full_sees_senders_that_wait() {
    paused(async {
        let (tx, mut rx) = tiny();
        while !is_refused(&tx, &rx) {}
        let mut waiting = Box::pin(tx.send(vec![1; 200]));
        assert!(poll_once(&mut waiting).is_pending());
        // Of what is freed, the waiting sender keeps its share; the rest is for others.
        for _ in 0..20 {
            let _ = rx.try_recv();
            is_refused(&tx, &rx);
        }
        drop(waiting);
        while rx.try_recv().is_ok() {}
        assert!(!is_refused(&tx, &rx));
    });
}

#[test]
fn size_hint_has_an_upper_bound_once_the_channel_is_closed() {
    paused(async {
        let (tx, mut rx) = turbostream::channel();
        let mut other = rx.clone();
        tx.send_many(["a", "b", "c"]).await.expect("open");
        assert_eq!(rx.size_hint(), (0, None));
        assert_eq!(rx.batches(2).size_hint(), (0, None));
        assert_eq!(rx.clone().into_batches(2).size_hint(), (0, None));
        drop(tx);
        for left in (0..3).rev() {
            assert_eq!(rx.size_hint(), (0, Some(left + 1)));
            assert!(other.recv().now_or_never().flatten().is_some());
            assert_eq!(rx.size_hint(), (0, Some(left)));
            assert_eq!(rx.batches(2).size_hint(), (0, Some(left)));
        }
        assert_eq!(rx.into_batches(2).size_hint(), (0, Some(0)));
    });
}

#[test]
fn weak_sender_neither_keeps_open_nor_reopens_the_channel() {
    paused(async {
        let (tx, mut rx) = turbostream::channel();
        let weak = tx.downgrade();
        let monitor = rx.monitor();
        let again = weak.clone().upgrade().expect("the sender exists");
        drop(tx);
        again.send("through the second").await.expect("the upgraded sender keeps the channel open");
        assert!(!rx.is_closed());
        drop(again);
        assert!(rx.is_closed() && weak.upgrade().is_none());
        assert_eq!(rx.recv().await.as_deref(), Some(&b"through the second"[..]));
        assert_eq!(rx.recv().await, None);
        assert!(weak.upgrade().is_none() && weak.clone().upgrade().is_none());
        drop(rx);
        assert_eq!(monitor.stats().memory_bytes(), 0, "a weak sender pins no memory");
        assert!(format!("{weak:?}").contains("closed: true"));
    });
}

#[test]
fn sender_upgraded_after_close_is_closed() {
    paused(async {
        let (tx, rx) = turbostream::channel();
        let weak = tx.downgrade();
        rx.close();
        let again = weak.upgrade().expect("the sender exists");
        assert!(again.is_closed() && again.send("late").await.is_err());
        again.closed().await;
    });
}

#[test]
fn closed_sink_no_longer_counts_as_a_sender() {
    paused(async {
        let (mut tx, mut rx) = turbostream::channel();
        let weak = tx.downgrade();
        futures::SinkExt::close(&mut tx).await.expect("open");
        assert!(weak.upgrade().is_none() && tx.downgrade().upgrade().is_none());
        assert_eq!(rx.recv_timeout(ms(1)).await, Err(turbostream::RecvTimeoutError::Closed));
    });
}

/// Races an upgrade with the drop of the last sender: it sends or finds the channel closed, never both or neither.
#[test]
fn upgrade_racing_the_last_drop_sends_or_finds_the_channel_closed() {
    plain(|| {
        let runtime = current_runtime(false);
        let _context = runtime.enter();
        for _ in 0..500 {
            let (tx, mut rx) = turbostream::builder().read_mode(ReadMode::ZeroCopy).build().expect("valid");
            let weak = tx.downgrade();
            let start = Arc::new(Barrier::new(2));
            let dropping = {
                let start = Arc::clone(&start);
                thread::spawn(move || {
                    start.wait();
                    drop(tx);
                })
            };
            start.wait();
            let sent = weak
                .upgrade()
                .map(|tx| tx.try_send("1").expect("the upgraded sender keeps the channel open"))
                .is_some();
            dropping.join().expect("no panic");
            assert!(weak.upgrade().is_none());
            assert_eq!(rx.try_recv().is_ok(), sent);
            assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
        }
    });
}

/// A caller that awaits a future inside its own async function moves it in memory. For a large future that takes longer
/// than sending a small message.
#[tokio::test]
async fn futures_are_small() {
    let (tx, mut rx) = turbostream::channel();
    assert!(size_of_val(&tx.send(&b"four words"[..])) <= 6 * size_of::<usize>());
    assert!(size_of_val(&tx.send_with(1, |_| 1)) <= 6 * size_of::<usize>());
    assert!(size_of_val(&rx.recv()) <= 256);
}

/// The memory of a segment comes back although its bytes were used up by the last message, and no other has sealed it.
#[test]
fn is_full_counts_a_used_up_and_read_segment_as_room() {
    paused(async {
        let one = 64 + 2 * 8 + 128;
        let builder = turbostream::builder().segment_bytes(64).segment_messages(2).max_bytes(2 * one);
        let (tx, mut rx) = builder.max_message_bytes(64).build().expect("valid");
        tx.try_send([1; 64]).expect("room");
        let held = rx.try_recv_batch(1).expect("sent");
        tx.try_send([2; 64]).expect("room");
        drop(rx.try_recv_batch(1).expect("sent"));
        assert!(!is_refused(&tx, &rx));
        drop(held);
    });
}
