//! Messages that receivers have taken ahead, against everything that sees or takes them. A segment holds four messages.

use super::*;

/// A channel of `segments` segments of four messages. Handles may take two messages ahead.
fn wide(segments: usize) -> Builder {
    let one = SEGMENT_BYTES + 4 * crate::queue::pool::ENTRY_BYTES + crate::queue::pool::HEADER_BYTES;
    let builder = builder().segment_bytes(SEGMENT_BYTES).segment_messages(4).max_bytes(segments * one);
    builder.max_message_bytes(16).prefetch(2).read_mode(ReadMode::ZeroCopy)
}

fn receive(rx: &mut Receiver, expected: &'static str) {
    assert_eq!(rx.try_recv().unwrap(), expected);
}

/// Four messages were sent. The receiver got "1" and "2", and has taken "3" ahead.
fn lone() -> (Sender, Receiver) {
    let (tx, mut rx) = open(wide(4));
    ["1", "2", "3", "4"].into_iter().for_each(|message| send(&tx, message));
    receive(&mut rx, "1");
    receive(&mut rx, "2");
    (tx, rx)
}

/// Four messages were sent. The second receiver got "1" and "4", the first one "2", and that has taken "3" ahead.
fn two() -> (Sender, Receiver, Receiver) {
    let (tx, mut rx) = open(wide(4));
    let mut other = rx.clone();
    ["1", "2", "3", "4"].into_iter().for_each(|message| send(&tx, message));
    receive(&mut other, "1");
    receive(&mut rx, "2");
    receive(&mut other, "4");
    (tx, rx, other)
}

#[test]
fn clone_gives_back_during_a_send() {
    explore_within(1, "clone_gives_back_during_a_send", || {
        let (tx, mut rx) = lone();
        let sender = thread::spawn(move || send(&tx, "5"));
        let mut other = rx.clone();
        let receiver = thread::spawn(move || drain(&mut other));
        let mut messages = drain(&mut rx);
        let others = receiver.join().unwrap();
        sender.join().unwrap();
        assert!(messages.is_sorted() && others.is_sorted());
        messages.extend(others);
        messages.extend(drain(&mut rx));
        messages.sort();
        assert_eq!(messages, ["3", "4", "5"]);
    });
}

#[test]
fn drop_of_a_claim_wakes_sleeping_receiver() {
    explore("drop_of_a_claim_wakes_sleeping_receiver", || {
        let (tx, rx, mut other) = two();
        let receiver = thread::spawn(move || block_on(other.recv()).unwrap());
        drop(rx);
        assert_eq!(receiver.join().unwrap(), "3");
        assert!(tx.is_empty());
    });
}

#[test]
fn clone_that_gives_back_wakes_sleeping_receiver() {
    explore("clone_that_gives_back_wakes_sleeping_receiver", || {
        let (tx, rx, mut other) = two();
        let receiver = thread::spawn(move || block_on(other.recv()).unwrap());
        let clone = rx.clone();
        assert_eq!(receiver.join().unwrap(), "3");
        assert!(tx.is_empty());
        drop((rx, clone));
    });
}

/// The next messages at the head are external, and another handle gives back one before them after this one has passed it.
#[test]
fn returned_message_precedes_external_payload() {
    explore("returned_message_precedes_external_payload", || {
        let builder = builder().segment_bytes(280).segment_messages(9).max_bytes(3000).max_message_bytes(300);
        let (tx, mut rx) = open(builder.prefetch(2).read_mode(ReadMode::ZeroCopy));
        let mut other = rx.clone();
        let send_external = || tx.try_send(Bytes::from(vec![7; 281])).unwrap();
        let receive_external = |rx: &mut Receiver| assert_eq!(block_on(rx.recv()).unwrap().len(), 281);
        (0..4).for_each(|_| send_external());
        ["1", "2"].into_iter().for_each(|message| send(&tx, message));
        (0..3).for_each(|_| send_external());
        (0..4).for_each(|_| receive_external(&mut rx));
        receive(&mut other, "1");
        receive_external(&mut rx);
        drop(other);
        assert_eq!(block_on(rx.recv()).unwrap(), "2");
        assert_eq!(drain(&mut rx).len(), 2);
    });
}

#[test]
fn last_message_of_a_claim_wakes_drainer() {
    explore("last_message_of_a_claim_wakes_drainer", || {
        let (tx, mut rx, _other) = two();
        let handled = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        let seen = Arc::clone(&handled);
        let drainer = thread::spawn(move || {
            block_on(tx.drained()).unwrap();
            assert_eq!(seen.load(Relaxed), 2, "what the receiver did before it took the last message");
            assert_eq!(tx.monitor().stats().received_messages, 4);
        });
        handled.store(2, Relaxed);
        receive(&mut rx, "3");
        drainer.join().unwrap();
    });
}

#[test]
fn drained_waits_for_all_that_a_lone_receiver_takes_ahead() {
    explore("drained_waits_for_all_that_a_lone_receiver_takes_ahead", || {
        let (tx, mut rx) = open(wide(3));
        ["1", "2", "3", "4"].into_iter().for_each(|message| send(&tx, message));
        let drainer = thread::spawn(move || {
            block_on(tx.drained()).unwrap();
            assert_eq!(tx.monitor().stats().received_messages, 4);
        });
        ["1", "2", "3", "4"].into_iter().for_each(|message| receive(&mut rx, message));
        drainer.join().unwrap();
    });
}

/// The segment may be sealed with messages after the target of the drainer.
#[test]
fn drained_waits_only_for_prior_messages_of_a_lone_receiver() {
    explore("drained_waits_only_for_prior_messages_of_a_lone_receiver", || {
        let (tx, mut rx) = open(wide(3));
        send(&tx, "1");
        send(&tx, "2");
        let tx1 = tx.clone();
        let sender = thread::spawn(move || send(&tx1, "3"));
        let receiver = thread::spawn(move || {
            assert_eq!(block_on(rx.recv()).unwrap(), "1");
            assert_eq!(block_on(rx.recv()).unwrap(), "2");
            rx
        });
        block_on(tx.drained()).unwrap();
        let mut rx = receiver.join().unwrap();
        sender.join().unwrap();
        assert_eq!(drain(&mut rx), ["3"]);
    });
}

/// What one receiver takes ahead while a drainer waits for an earlier message, which another one takes.
#[test]
fn drained_is_woken_despite_two_receivers_that_take_ahead() {
    explore_within(1, "drained_is_woken_despite_two_receivers_that_take_ahead", || {
        let (tx, mut rx) = open(wide(4));
        let mut other = rx.clone();
        ["1", "2", "3", "4"].into_iter().for_each(|message| send(&tx, message));
        let drainer = thread::spawn(move || {
            block_on(tx.drained()).unwrap();
            assert_eq!(tx.monitor().stats().received_messages, 4);
        });
        let receiver = thread::spawn(move || drain(&mut other));
        let mut messages = drain(&mut rx);
        messages.extend(receiver.join().unwrap());
        drainer.join().unwrap();
        messages.sort();
        assert_eq!(messages, ["1", "2", "3", "4"]);
    });
}

#[test]
fn figures_add_up_while_messages_are_handed_out() {
    explore("figures_add_up_while_messages_are_handed_out", || {
        let (tx, mut rx) = lone();
        let reader = thread::spawn(move || {
            let mut received = 2;
            for _ in 0..2 {
                let stats = tx.monitor().stats();
                assert_eq!((stats.sent_messages, stats.sent_bytes), (4, 4));
                assert_eq!(stats.received_messages + stats.queued_messages, 4);
                assert!((received..=4).contains(&stats.received_messages));
                received = stats.received_messages;
            }
        });
        receive(&mut rx, "3");
        receive(&mut rx, "4");
        reader.join().unwrap();
    });
}

/// A drainer is told that messages were dropped, also if the receiver had taken them ahead.
#[test]
fn last_receivers_drop_discards_its_claim() {
    explore("last_receivers_drop_discards_its_claim", || {
        let (tx, rx) = lone();
        let monitor = tx.monitor();
        let drainer = thread::spawn(move || block_on(tx.drained()).is_err());
        drop(rx);
        assert!(drainer.join().unwrap());
        let stats = monitor.stats();
        assert_eq!((stats.received_messages, stats.dropped_messages, stats.queued_messages), (2, 2, 0));
        assert_eq!(stats.memory_bytes(), 0);
    });
}

/// Two handles are dropped at once: whichever is the last one discards what the other has given back.
#[test]
fn dropped_receivers_discard_every_claim() {
    explore("dropped_receivers_discard_every_claim", || {
        let (tx, rx, other) = two();
        let monitor = tx.monitor();
        let dropper = thread::spawn(move || drop(other));
        drop(rx);
        dropper.join().unwrap();
        let stats = monitor.stats();
        assert_eq!((stats.received_messages, stats.dropped_messages, stats.queued_messages), (3, 1, 0));
        assert_eq!(stats.memory_bytes(), 0);
        drop(tx);
    });
}

#[test]
fn close_keeps_what_was_taken_ahead() {
    explore("close_keeps_what_was_taken_ahead", || {
        let (tx, mut rx) = lone();
        let closer = thread::spawn(move || drop(tx));
        assert_eq!(block_on(rx.recv()).unwrap(), "3");
        assert_eq!(*block_on(rx.recv_ref()).unwrap(), *b"4");
        assert!(block_on(rx.recv()).is_none());
        closer.join().unwrap();
    });
}

/// A segment is reused only after a handle has read what it has taken ahead from it.
#[test]
fn segment_is_not_reused_before_a_claim_was_read() {
    explore("segment_is_not_reused_before_a_claim_was_read", || {
        let (tx, mut rx, mut other) = two();
        let sender = thread::spawn(move || {
            let mut sent = 0;
            for message in ["5", "6", "7", "8", "9"] {
                sent += usize::from(tx.try_send(message).is_ok());
                assert_eq!(other.try_recv().is_ok(), true);
            }
            sent
        });
        assert_eq!(*rx.try_recv_ref().unwrap(), *b"3");
        drop(rx);
        assert_eq!(sender.join().unwrap(), 5);
    });
}
