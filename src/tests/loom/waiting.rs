//! Waits and wakes through a whole channel: no waiter sleeps while it could proceed.

use std::future::poll_fn;

use super::*;

#[test]
fn cancelled_recv_passes_wake_to_waiting_receiver() {
    explore("cancelled_recv_passes_wake_to_waiting_receiver", || {
        let (tx, mut rx) = open(small(3).read_mode(ReadMode::ZeroCopy));
        let mut rx1 = rx.clone();
        let other = thread::spawn(move || block_on(rx1.recv()).unwrap());
        let cancelled = {
            let mut recv = pin!(rx.recv());
            let polled = recv.as_mut().poll(&mut Context::from_waker(&noop_waker()));
            send(&tx, "1");
            match polled {
                Poll::Ready(message) => message,
                Poll::Pending => None,
            }
        };
        // The other receiver gets a message whether or not the cancelled receive took one.
        if cancelled.is_some() {
            send(&tx, "2");
        }
        other.join().unwrap();
        assert!(rx.try_recv().is_err());
    });
}

#[test]
fn woken_receiver_wakes_next_receiver() {
    explore("woken_receiver_wakes_next_receiver", || {
        let (tx, mut rx) = open(small(3).read_mode(ReadMode::ZeroCopy));
        let mut rx1 = rx.clone();
        let other = thread::spawn(move || block_on(rx1.recv()).unwrap());
        send(&tx, "1");
        send(&tx, "2");
        let mut messages = vec![block_on(rx.recv()).unwrap(), other.join().unwrap()];
        messages.sort();
        assert_eq!(messages, ["1", "2"]);
    });
}

#[test]
fn seal_wakes_waiting_receiver() {
    explore("seal_wakes_waiting_receiver", || {
        let (tx, mut rx) = open(small(3).on_demand(false).read_mode(ReadMode::ZeroCopy));
        let receiver = thread::spawn(move || block_on(rx.recv()).unwrap());
        send(&tx, "1");
        tx.core().switch();
        assert_eq!(receiver.join().unwrap(), "1");
    });
}

#[test]
fn seal_wakes_polled_receiver() {
    explore("seal_wakes_polled_receiver", || {
        let (tx, mut rx) = open(small(3).on_demand(false).read_mode(ReadMode::ZeroCopy));
        let receiver = thread::spawn(move || block_on(poll_fn(|cx| rx.poll_recv(cx))).unwrap());
        send(&tx, "1");
        tx.core().switch();
        assert_eq!(receiver.join().unwrap(), "1");
    });
}

#[test]
fn cancelled_send_passes_wake_to_waiting_sender() {
    explore("cancelled_send_passes_wake_to_waiting_sender", || {
        let (tx, mut rx) = open(small(2).segment_messages(1).max_bytes(2 * 200));
        send(&tx, "1");
        send(&tx, "2");
        let tx1 = tx.clone();
        let other = thread::spawn(move || block_on(tx1.send("3")).unwrap());
        let accepted = {
            let mut send = pin!(tx.send("4"));
            let polled = send.as_mut().poll(&mut Context::from_waker(&noop_waker()));
            assert_eq!(rx.try_recv().unwrap(), "1");
            polled.is_ready()
        };
        if accepted {
            assert_eq!(rx.try_recv().unwrap(), "2");
        }
        other.join().unwrap();
        drop(tx);
        let left = drain(&mut rx).len();
        assert_eq!(left, 2, "accepted: {accepted}");
    });
}

#[test]
fn last_sender_drop_wakes_waiting_receiver() {
    explore("last_sender_drop_wakes_waiting_receiver", || {
        let (tx, mut rx) = open(small(2).read_mode(ReadMode::ZeroCopy));
        let sender = thread::spawn(move || send(&tx, "1"));
        assert_eq!(block_on(rx.recv()).unwrap(), "1");
        assert_eq!(block_on(rx.recv()), None);
        sender.join().unwrap();
    });
}

#[test]
fn commit_wakes_waiting_receiver() {
    explore("commit_wakes_waiting_receiver", || {
        let (tx, mut rx) = open(small(2).read_mode(ReadMode::ZeroCopy));
        let tx1 = tx.clone();
        let sender = thread::spawn(move || send(&tx1, "1"));
        send(&tx, "2");
        let mut messages = vec![block_on(rx.recv()).unwrap(), block_on(rx.recv()).unwrap()];
        sender.join().unwrap();
        messages.sort();
        assert_eq!(messages, ["1", "2"]);
    });
}

/// The closure's sender commits while a receiver sleeps for it, and another message follows.
#[test]
fn receiver_waits_for_closure() {
    explore_within(1, "receiver_waits_for_closure", || {
        let (tx, mut rx) = open(small(2).read_mode(ReadMode::ZeroCopy));
        let tx1 = tx.clone();
        let sender = thread::spawn(move || {
            let write = |bytes: &mut [u8]| {
                bytes[0] = b'1';
                1
            };
            block_on(tx1.send_with(1, write)).map_err(drop).unwrap();
        });
        send(&tx, "2");
        let mut messages = vec![block_on(rx.recv()).unwrap(), block_on(rx.recv()).unwrap()];
        sender.join().unwrap();
        messages.sort();
        assert_eq!(messages, ["1", "2"]);
    });
}

/// A drainer sleeps while a receiver waits for a message that is not committed.
#[test]
fn drained_waits_for_commit() {
    explore_within(1, "drained_waits_for_commit", || {
        let (tx, mut rx) = open(small(2).read_mode(ReadMode::ZeroCopy));
        let tx1 = tx.clone();
        let sender = thread::spawn(move || send(&tx1, "1"));
        let receiver = thread::spawn(move || assert_eq!(block_on(rx.recv()).unwrap(), "1"));
        block_on(tx.drained()).unwrap();
        sender.join().unwrap();
        block_on(tx.drained()).unwrap();
        assert_eq!(tx.monitor().stats().received_messages, 1);
        receiver.join().unwrap();
    });
}

/// The last receiver leaves while a message is not committed, and a drainer waits for it.
#[test]
fn drainer_fails_after_commit_without_receiver() {
    explore("drainer_fails_after_commit_without_receiver", || {
        let (tx, rx) = open(small(2).read_mode(ReadMode::ZeroCopy));
        let tx1 = tx.clone();
        let sender = thread::spawn(move || tx1.try_send("1").is_ok());
        let receiver = thread::spawn(move || drop(rx));
        // It fails if the message precedes it, and the channel may be empty otherwise.
        let _ = block_on(tx.drained());
        let accepted = sender.join().unwrap();
        receiver.join().unwrap();
        let stats = tx.monitor().stats();
        assert_eq!((stats.dropped_messages, stats.queued_messages), (u64::from(accepted), 0));
        assert_eq!(stats.memory_bytes(), 0, "{stats:?}");
    });
}

#[test]
fn first_message_after_cut_wakes_waiting_receiver() {
    explore("first_message_after_cut_wakes_waiting_receiver", || {
        let (tx, mut rx) = open(small(3).read_mode(ReadMode::ZeroCopy));
        send(&tx, "1");
        let receiver = thread::spawn(move || std::array::from_fn(|_| block_on(rx.recv()).unwrap()));
        send(&tx, "2");
        send(&tx, "3"); // in the next segment
        let messages: [Bytes; 3] = receiver.join().unwrap();
        assert_eq!(messages, ["1", "2", "3"]);
    });
}

#[test]
fn external_send_waits_for_free_segment() {
    explore_within(1, "external_send_waits_for_free_segment", || {
        let (tx, mut rx) = open(small(2).segment_messages(1).max_bytes(2 * 200 + 100).max_message_bytes(100));
        send(&tx, "1");
        send(&tx, "2");
        let receiver = thread::spawn(move || {
            let mut received = 0;
            while block_on(rx.recv()).is_some() {
                received += 1;
            }
            received
        });
        block_on(tx.send(Bytes::from(vec![7; 100]))).unwrap();
        drop(tx);
        assert_eq!(receiver.join().unwrap(), 3);
    });
}

#[test]
fn drained_waits_for_two_receivers() {
    explore("drained_waits_for_two_receivers", || {
        let (tx, mut rx) = open(small(3).read_mode(ReadMode::ZeroCopy));
        send(&tx, "1");
        send(&tx, "2");
        let mut rx1 = rx.clone();
        let one = thread::spawn(move || assert!(block_on(rx1.recv()).is_some()));
        let two = thread::spawn(move || assert!(block_on(rx.recv()).is_some()));
        block_on(tx.drained()).unwrap();
        assert_eq!(tx.monitor().stats().received_messages, 2);
        one.join().unwrap();
        two.join().unwrap();
    });
}

#[test]
fn drained_waits_only_for_prior_messages() {
    explore_within(1, "drained_waits_only_for_prior_messages", || {
        let (tx, mut rx) = open(small(3).segment_messages(4).read_mode(ReadMode::ZeroCopy));
        send(&tx, "1");
        send(&tx, "2");
        let (tx1, mut rx1) = (tx.clone(), rx.clone());
        let sender = thread::spawn(move || send(&tx1, "3"));
        let receiver = thread::spawn(move || {
            for _ in 0..2 {
                block_on(rx1.recv()).unwrap();
            }
        });
        block_on(tx.drained()).unwrap();
        assert!(tx.monitor().stats().received_messages >= 2);
        receiver.join().unwrap();
        sender.join().unwrap();
        assert_eq!(drain(&mut rx), ["3"]);
    });
}

#[test]
fn last_receiver_drop_fails_waiting_drainer() {
    explore("last_receiver_drop_fails_waiting_drainer", || {
        let (tx, mut rx) = open(small(3).read_mode(ReadMode::ZeroCopy));
        send(&tx, "1");
        drop(block_on(rx.recv()));
        send(&tx, "2");
        let tx1 = tx.clone();
        let other = thread::spawn(move || {
            let mut drained = pin!(tx1.drained());
            let _ = drained.as_mut().poll(&mut Context::from_waker(&noop_waker()));
        });
        let receiver = thread::spawn(move || drop(rx));
        let result = block_on(tx.drained());
        assert!(matches!(result, Err(crate::SendError::Closed(()))), "{result:?}");
        other.join().unwrap();
        receiver.join().unwrap();
        assert!(matches!(block_on(tx.drained()), Err(crate::SendError::Closed(()))));
    });
}

#[test]
fn drained_does_not_wait_for_padding() {
    explore("drained_does_not_wait_for_padding", || {
        let (tx, mut rx) = open(small(4));
        send(&tx, "1");
        assert_eq!(rx.try_recv().unwrap(), "1");
        let tx1 = tx.clone();
        let drainer = thread::spawn(move || block_on(tx1.drained()).unwrap());
        tx.core().abandon_reservation(1);
        drainer.join().unwrap();
        block_on(tx.drained()).unwrap();
        assert!(rx.try_recv().is_err());
    });
}

#[test]
fn callback_is_not_called_after_unregister() {
    explore("callback_is_not_called_after_unregister", || {
        let (tx, rx) = open(small(3).read_mode(ReadMode::ZeroCopy));
        let called = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::new(Shared::new(rx));
        let driver = thread::spawn({
            let (shared, called) = (Arc::clone(&shared), Arc::clone(&called));
            move || {
                let keep = |message| called.lock().unwrap().push(message);
                let mut driving = pin!(drive(shared, Receiver::poll_recv, keep));
                let (waker, mut polls) = (noop_waker(), 0);
                while polls < 2 && driving.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                    polls += 1;
                }
            }
        });
        send(&tx, "a1");
        let mut rx = block_on(shared.unregister());
        send(&tx, "a2");
        let mut messages = called.lock().unwrap().split_off(0);
        messages.extend(drain(&mut rx));
        assert_fifo(&messages, &[&["a1", "a2"]]);
        assert_eq!(rx.monitor().stats().waiting_receivers, 0);
        driver.join().unwrap();
        assert!(called.lock().unwrap().is_empty(), "the callback was called after it was unregistered");
    });
}

#[test]
fn send_many_wakes_waiting_receiver() {
    explore("send_many_wakes_waiting_receiver", || {
        let (tx, mut rx) = open(small(2).read_mode(ReadMode::ZeroCopy));
        let many = thread::spawn(move || assert_eq!(block_on(tx.send_many(["1", "2"])).unwrap(), 2));
        let messages = [block_on(rx.recv()).unwrap(), block_on(rx.recv()).unwrap()];
        assert_eq!(messages, ["1", "2"]);
        // The checker counts them as read here, before anything of the sender's end is acquired.
        drop(messages);
        assert_eq!(block_on(rx.recv()), None);
        many.join().unwrap();
    });
}

#[test]
fn abandoned_reservation_wakes_waiting_receiver() {
    explore("abandoned_reservation_wakes_waiting_receiver", || {
        let (tx, mut rx) = open(small(2).read_mode(ReadMode::ZeroCopy));
        let sender = thread::spawn(move || {
            tx.core().abandon_reservation(10);
            send(&tx, "1");
        });
        assert_eq!(block_on(rx.recv()).unwrap(), "1");
        assert_eq!(block_on(rx.recv()), None);
        sender.join().unwrap();
    });
}

#[test]
fn deferred_byte_release_wakes_waiting_sender() {
    explore_within(1, "deferred_byte_release_wakes_waiting_sender", || {
        let (tx, mut rx) =
            open(small(2).segment_messages(4).segment_bytes(200).max_bytes(2000).max_message_bytes(1300));
        for len in [201, 202, 203] {
            tx.try_send(Bytes::from(vec![7; len])).unwrap();
        }
        assert_eq!(rx.try_recv().unwrap().len(), 201);
        let receiver = thread::spawn(move || {
            for _ in 0..2 {
                block_on(rx.recv()).unwrap();
            }
            rx
        });
        // It fits only once two of the other payloads are released.
        block_on(tx.send(Bytes::from(vec![7; 1300]))).unwrap();
        let mut rx = receiver.join().unwrap();
        assert_eq!(drain(&mut rx).len(), 1);
    });
}

/// The receiver takes the third payload without a full visit of the head: one unit of its budget pays for the second and
/// the third one, and it has taken the second one from the head.
#[test]
fn payload_taken_without_a_visit_wakes_waiting_sender() {
    explore_within(1, "payload_taken_without_a_visit_wakes_waiting_sender", || {
        let (tx, mut rx) =
            open(small(2).segment_messages(40).segment_bytes(400).max_bytes(3300).max_message_bytes(2300));
        (0..4).for_each(|_| tx.try_send(Bytes::from(vec![7; 401])).unwrap());
        (0..2).for_each(|_| assert_eq!(block_on(rx.recv()).unwrap().len(), 401));
        let receiver = thread::spawn(move || {
            (0..2).for_each(|_| assert_eq!(block_on(rx.recv()).unwrap().len(), 401));
            rx
        });
        // It fits only once all other payloads are released.
        block_on(tx.send(Bytes::from(vec![7; 2300]))).unwrap();
        let mut rx = receiver.join().unwrap();
        assert_eq!(drain(&mut rx).len(), 1);
    });
}

/// The sender is woken for the bytes of the first payload, finds no entry for its own, and sleeps again.
#[test]
fn woken_sender_that_sleeps_again_is_woken() {
    explore_within(1, "woken_sender_that_sleeps_again_is_woken", || {
        let (tx, mut rx) =
            open(small(2).segment_messages(2).segment_bytes(200).max_bytes(1000).max_message_bytes(300));
        for len in [201, 202] {
            tx.try_send(Bytes::from(vec![7; len])).unwrap();
        }
        let receiver = thread::spawn(move || {
            for _ in 0..2 {
                block_on(rx.recv()).unwrap();
            }
            rx
        });
        block_on(tx.send(Bytes::from(vec![7; 300]))).unwrap();
        let mut rx = receiver.join().unwrap();
        assert_eq!(drain(&mut rx).len(), 1);
    });
}

/// A waker that is never polled for stays out of the list after its wake.
#[test]
fn unpolled_receiver_keeps_no_other_asleep() {
    explore("unpolled_receiver_keeps_no_other_asleep", || {
        let (tx, mut rx) = open(small(3).read_mode(ReadMode::ZeroCopy));
        let mut rx1 = rx.clone();
        let mut unpolled = pin!(rx.recv());
        assert!(unpolled.as_mut().poll(&mut Context::from_waker(&noop_waker())).is_pending());
        let other = thread::spawn(move || block_on(rx1.recv()).unwrap());
        send(&tx, "1");
        assert_eq!(other.join().unwrap(), "1");
        assert!(unpolled.as_mut().poll(&mut Context::from_waker(&noop_waker())).is_pending());
        send(&tx, "2");
        assert_eq!(block_on(unpolled).unwrap(), "2");
    });
}

/// Two segments of two messages. The first sender that waits is woken, and not polled again.
#[test]
fn unpolled_sender_keeps_no_other_asleep() {
    explore_within(1, "unpolled_sender_keeps_no_other_asleep", || {
        let (tx, mut rx) = open(small(2));
        for message in ["1", "2", "3", "4"] {
            send(&tx, message);
        }
        let mut unpolled = pin!(tx.send("unpolled"));
        assert!(unpolled.as_mut().poll(&mut Context::from_waker(&noop_waker())).is_pending());
        let tx1 = tx.clone();
        let other = thread::spawn(move || block_on(tx1.send("5")).unwrap());
        for message in ["1", "2"] {
            assert_eq!(block_on(rx.recv()).unwrap(), message);
        }
        other.join().unwrap();
        assert_eq!(drain(&mut rx), ["3", "4", "5"]);
        block_on(unpolled).unwrap();
    });
}

/// A sender that has not waited takes the room for which a waiter was woken. That waiter gets what is freed next.
#[test]
fn overtaken_sender_is_served_next() {
    explore_within(1, "overtaken_sender_is_served_next", || {
        let (tx, mut rx) = open(small(2).segment_messages(1).max_bytes(2 * 200));
        send(&tx, "1");
        send(&tx, "2");
        let tx1 = tx.clone();
        let waiting = thread::spawn(move || block_on(tx1.send("waiting")).unwrap());
        assert_eq!(block_on(rx.recv()).unwrap(), "1");
        let overtook = tx.try_send("newcomer").is_ok();
        assert_eq!(block_on(rx.recv()).unwrap(), "2");
        waiting.join().unwrap();
        let mut left = drain(&mut rx);
        left.sort();
        let expected: &[&str] = if overtook { &["newcomer", "waiting"] } else { &["waiting"] };
        assert_eq!(left, expected);
    });
}

/// A long message needs what both segments hold, and short ones are sent meanwhile.
#[test]
fn long_sender_is_served_among_short_ones() {
    explore_within(1, "long_sender_is_served_among_short_ones", || {
        let (tx, mut rx) = open(small(2).segment_messages(1).max_bytes(2 * 200 + 100).max_message_bytes(200));
        send(&tx, "1");
        send(&tx, "2");
        let tx1 = tx.clone();
        let long = thread::spawn(move || block_on(tx1.send(Bytes::from(vec![7; 200]))).unwrap());
        assert_eq!(rx.try_recv().unwrap(), "1");
        let sent = tx.try_send("short").is_ok();
        assert_eq!(rx.try_recv().unwrap(), "2");
        if sent {
            assert!(matches!(rx.try_recv().unwrap().len(), 5 | 200));
        }
        long.join().unwrap();
        assert_eq!(drain(&mut rx).len(), 1);
    });
}

/// The handle is dropped; the thread that makes room sends its item, and the channel closes after it.
#[test]
fn parked_item_is_sent_by_the_receiver() {
    explore_within(1, "parked_item_is_sent_by_the_receiver", || {
        let (tx, mut rx) = open(small(2).segment_messages(1).max_bytes(2 * 200));
        send(&tx, "1");
        send(&tx, "2");
        let receiver = thread::spawn(move || {
            let mut received = Vec::new();
            while let Some(message) = block_on(rx.recv()) {
                received.push(message);
            }
            received
        });
        let mut sink = tx;
        futures::SinkExt::start_send_unpin(&mut sink, Bytes::from_static(b"3")).unwrap();
        drop(sink);
        assert_eq!(receiver.join().unwrap(), ["1", "2", "3"]);
    });
}

/// A message whose send has returned is there, also while the one before it is copied.
#[test]
fn try_recv_finds_what_was_sent() {
    explore("try_recv_finds_what_was_sent", || {
        let (tx, mut rx) = open(small(2));
        let tx1 = tx.clone();
        let other = thread::spawn(move || send(&tx1, "1"));
        send(&tx, "2");
        assert!(rx.try_recv().is_ok());
        other.join().unwrap();
        assert!(rx.try_recv().is_ok());
    });
}

/// A receiver frees one segment, which has room for the parked item and for the send after it.
#[test]
fn later_send_of_a_handle_follows_its_parked_item() {
    explore("later_send_of_a_handle_follows_its_parked_item", || {
        let (tx, mut rx) = open(small(2));
        for message in ["1", "2", "3", "4"] {
            send(&tx, message);
        }
        let receiver = thread::spawn(move || {
            for message in ["1", "2"] {
                assert_eq!(rx.try_recv().unwrap(), message);
            }
            rx
        });
        let mut sink = tx;
        futures::SinkExt::start_send_unpin(&mut sink, Bytes::from_static(b"5")).unwrap();
        block_on(sink.send("6")).unwrap();
        let mut rx = receiver.join().unwrap();
        assert_eq!(drain(&mut rx), ["3", "4", "5", "6"]);
    });
}
