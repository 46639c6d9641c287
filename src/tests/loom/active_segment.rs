//! Senders, seals and cuts on the active segment.

use super::*;

#[test]
fn two_senders_seal_and_recv_keep_fifo_order() {
    explore_within(1, "two_senders_seal_and_recv_keep_fifo_order", || {
        let (tx, mut rx) = open(small(3).read_mode(ReadMode::ZeroCopy));
        let (tx1, tx2) = (tx.clone(), tx);
        let one = thread::spawn(move || {
            send(&tx1, "a1");
            send(&tx1, "a2");
        });
        let two = thread::spawn(move || {
            send(&tx2, "b1");
            tx2.core().switch();
        });
        let mut messages: Vec<_> = drain(&mut rx);
        one.join().unwrap();
        two.join().unwrap();
        messages.extend(drain(&mut rx));
        assert_fifo(&messages, &[&["a1", "a2"], &["b1"]]);
    });
}

#[test]
fn consecutive_switches_keep_fifo_order() {
    explore_within(1, "consecutive_switches_keep_fifo_order", || {
        let (tx, mut rx) = open(small(4).segment_messages(1).on_demand(false));
        let (tx1, tx2) = (tx.clone(), tx);
        let one = thread::spawn(move || {
            send(&tx1, "a1");
            send(&tx1, "a2");
        });
        send(&tx2, "b1");
        one.join().unwrap();
        drop(tx2);
        assert_fifo(&drain(&mut rx), &[&["a1", "a2"], &["b1"]]);
        assert!(matches!(rx.try_recv(), Err(crate::TryRecvError::Closed)));
    });
}

#[test]
fn stale_sender_retries_on_recycled_segment() {
    explore_within(1, "stale_sender_retries_on_recycled_segment", || {
        let (tx, mut rx) = open(small(4).read_mode(ReadMode::ZeroCopy));
        let tx1 = tx.clone();
        let stale = thread::spawn(move || tx1.try_send("late").is_ok());
        let mut messages = Vec::new();
        for message in ["1", "2"] {
            send(&tx, message);
            messages.extend(drain(&mut rx));
        }
        assert!(stale.join().unwrap(), "there was room at all times");
        messages.extend(drain(&mut rx));
        assert_fifo(&messages, &[&["1", "2"], &["late"]]);
    });
}

#[test]
fn close_during_send_delivers_accepted_message() {
    explore("close_during_send_delivers_accepted_message", || {
        let (tx, mut rx) = open(small(2).read_mode(ReadMode::ZeroCopy));
        let sender = thread::spawn(move || tx.try_send("1").is_ok());
        rx.close();
        let early = drain(&mut rx);
        let accepted = sender.join().unwrap();
        let late = drain(&mut rx);
        assert_eq!(early.len() + late.len(), usize::from(accepted));
        assert!(matches!(rx.try_recv(), Err(crate::TryRecvError::Closed)));
    });
}

#[test]
fn external_payload_is_delivered_without_copy() {
    explore("external_payload_is_delivered_without_copy", || {
        let (tx, mut rx) = open(small(4).max_message_bytes(500));
        let monitor = tx.monitor();
        let large = Bytes::from(vec![7; 100]);
        let copy = large.clone();
        let sender = thread::spawn(move || tx.try_send(copy).unwrap());
        let received = block_on(rx.recv()).unwrap();
        assert_eq!(received.as_ptr(), large.as_ptr());
        sender.join().unwrap();
        drop(rx);
        assert_eq!(monitor.stats().memory_bytes(), 0);
    });
}

#[test]
fn strategy_swap_during_switch_takes_effect() {
    explore("strategy_swap_during_switch_takes_effect", || {
        let (tx, mut rx) = open(small(4).on_demand(false));
        let swapping = tx.clone();
        let swapper = thread::spawn(move || swapping.set_strategy(crate::MessageCount(1)));
        for message in ["1", "2", "3"] {
            send(&tx, message); // the third opens a new segment
        }
        swapper.join().unwrap();
        assert_eq!(drain(&mut rx), ["1", "2", "3"], "the strategy switches at each message");
        send(&tx, "4");
        assert_eq!(drain(&mut rx), ["4"], "the limits of the new strategy apply");
    });
}

#[test]
fn switch_after_cut_is_not_counted() {
    explore("switch_after_cut_is_not_counted", || {
        let (tx, mut rx) = open(small(3).read_mode(ReadMode::ZeroCopy));
        let monitor = tx.monitor();
        send(&tx, "1");
        let flushing = thread::spawn(move || tx.core().switch());
        assert_eq!(rx.try_recv().unwrap(), "1");
        flushing.join().unwrap();
        let switches = monitor.stats().switches;
        assert_eq!(switches.total(), 1, "one message was switched twice: {switches:?}");
    });
}

#[test]
fn limits_after_cut_do_not_apply_to_next_segment() {
    explore("limits_after_cut_do_not_apply_to_next_segment", || {
        let two = small(3).segment_messages(4).max_bytes(3 * 300).strategy(crate::MessageCount(2));
        let (tx, mut rx) = open_with_own_strategy(two.read_mode(ReadMode::ZeroCopy));
        let monitor = tx.monitor();
        send(&tx, "1");
        let receiver = thread::spawn(move || {
            assert_eq!(rx.try_recv().unwrap(), "1");
            rx
        });
        send(&tx, "2");
        tx.core().switch();
        // The first segment is sealed by now, cut or not.
        send(&tx, "3");
        send(&tx, "4");
        let _rx = receiver.join().unwrap();
        let stats = monitor.stats();
        assert_eq!(stats.active_bytes, 0, "the strategy switches at two messages: {stats:?}");
    });
}

#[test]
fn bytes_after_cut_count_toward_limit() {
    // Three preemptions: cut; reserve and write; read `payload_delta`; ask the strategy.
    explore_within(3, "bytes_after_cut_count_toward_limit", || {
        let some = small(4).segment_messages(4).max_bytes(2000).max_message_bytes(500);
        let (tx, mut rx) = open_with_own_strategy(some.strategy(crate::ByteCount(60)));
        let monitor = tx.monitor();
        send(&tx, "1");
        let receiver = thread::spawn(move || {
            assert_eq!(rx.try_recv().unwrap(), "1");
            rx
        });
        tx.try_send(Bytes::from(vec![7; 100])).unwrap();
        let mut rx = receiver.join().unwrap();
        let before = monitor.stats().switches;
        assert_eq!(rx.try_recv().unwrap().len(), 100);
        let cut_by_now = monitor.stats().switches.on_demand > before.on_demand;
        assert!(
            !cut_by_now || before.strategy == 1,
            "100 bytes after the cut, and the limit is 60: {before:?}"
        );
    });
}

#[test]
fn send_many_during_send_and_recv_keeps_fifo_order() {
    explore_within(1, "send_many_during_send_and_recv_keeps_fifo_order", || {
        let (tx, mut rx) = open(small(4).read_mode(ReadMode::ZeroCopy));
        let tx1 = tx.clone();
        let many = thread::spawn(move || assert_eq!(block_on(tx1.send_many(["a1", "a2", "a3"])).unwrap(), 3));
        send(&tx, "b1");
        let mut messages = drain(&mut rx);
        many.join().unwrap();
        messages.extend(drain(&mut rx));
        assert_fifo(&messages, &[&["a1", "a2", "a3"], &["b1"]]);
    });
}

#[test]
fn send_with_during_send_and_recv_keeps_fifo_order() {
    explore_within(1, "send_with_during_send_and_recv_keeps_fifo_order", || {
        let (tx, mut rx) = open(small(4).read_mode(ReadMode::ZeroCopy));
        let tx1 = tx.clone();
        let in_place = thread::spawn(move || {
            let write = |buf: &mut [u8]| {
                buf[..2].copy_from_slice(b"a1");
                2
            };
            block_on(tx1.send_with(10, write)).map_err(drop).unwrap();
        });
        send(&tx, "b1");
        let mut messages = drain(&mut rx);
        send(&tx, "b2");
        messages.extend(drain(&mut rx));
        in_place.join().unwrap();
        messages.extend(drain(&mut rx));
        assert_fifo(&messages, &[&["a1"], &["b1", "b2"]]);
    });
}

/// A channel whose strategy counts bytes, and whose segments have room for inline and external payloads.
fn with_byte_limit(limit: usize) -> (Sender, Receiver) {
    let some = small(4).segment_bytes(256).segment_messages(8).max_bytes(4 * 450).max_message_bytes(300);
    open_with_own_strategy(some.strategy(crate::ByteCount(limit)).on_demand(false))
}

fn large() -> Bytes {
    Bytes::from(vec![7; 260])
}

#[test]
fn external_bytes_count_after_concurrent_limit_update() {
    explore_within(1, "external_bytes_count_after_concurrent_limit_update", || {
        let (tx, mut rx) = with_byte_limit(600);
        let tx1 = tx.clone();
        let other = thread::spawn(move || tx1.try_send(large()).unwrap());
        tx.try_send(large()).unwrap();
        other.join().unwrap();
        tx.try_send([7; 90]).unwrap();
        assert_eq!(drain(&mut rx).len(), 3, "610 bytes, and the limit is 600");
    });
}

#[test]
fn external_bytes_count_before_first_strategy_check() {
    explore_within(1, "external_bytes_count_before_first_strategy_check", || {
        let (tx, mut rx) = with_byte_limit(400);
        let tx1 = tx.clone();
        let other = thread::spawn(move || tx1.try_send(large()).unwrap());
        send(&tx, "1");
        other.join().unwrap();
        tx.try_send([7; 140]).unwrap();
        assert_eq!(drain(&mut rx).len(), 3, "401 bytes, and the limit is 400");
    });
}
