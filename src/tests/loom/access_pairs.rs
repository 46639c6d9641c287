//! Models in which a single pair of accesses orders what the model asserts.
//!
//! In a whole channel most values are published by more than one pair, so a weakened pair would go unnoticed.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::sync::{AccessLog, spins};

/// A channel for external payloads, with room for two of them and one segment.
fn external() -> (Sender, Receiver) {
    open(small(2).segment_messages(4).segment_bytes(200).max_bytes(1000))
}

fn payload() -> Bytes {
    Bytes::from(vec![7; 300])
}

#[test]
fn reuse_of_segment_acquires_reads_of_two_threads() {
    explore("reuse_of_segment_acquires_reads_of_two_threads", || {
        let (tx, mut rx) = open(small(2).read_mode(ReadMode::ZeroCopy));
        send(&tx, "1");
        send(&tx, "2");
        let (one, two) = (block_on(rx.recv_batch(1)).unwrap(), block_on(rx.recv_batch(1)).unwrap());
        send(&tx, "3");
        send(&tx, "4");
        let first = thread::spawn(move || assert_eq!(one.get(0).unwrap(), b"1"));
        let second = thread::spawn(move || assert_eq!(two.get(0).unwrap(), b"2"));
        // Without waiting: a wake would publish everything too.
        let accepted = tx.try_send("5").is_ok();
        first.join().unwrap();
        second.join().unwrap();
        assert_eq!(drain(&mut rx).len(), 2 + usize::from(accepted));
    });
}

#[test]
fn take_of_segment_id_acquires_its_trim() {
    explore("take_of_segment_id_acquires_its_trim", || {
        let three = small(3).segment_messages(1).max_bytes(3 * 200);
        let (tx, mut rx) = open(three.read_mode(ReadMode::ZeroCopy));
        ["1", "2", "3"].into_iter().for_each(|message| send(&tx, message));
        let lent = block_on(rx.recv_batch(1)).unwrap();
        assert_eq!(rx.try_recv().unwrap(), "2");
        tx.core().queue.pool.trim(0);
        // `max_bytes` allows another segment, so only the bitset orders the reuse of the first, which is tried first.
        drop(lent);
        let freeing = tx.clone();
        let trimmer = thread::spawn(move || freeing.core().queue.pool.trim(0));
        yield_to_others();
        send(&tx, "4");
        trimmer.join().unwrap();
        assert_eq!(drain(&mut rx), ["3", "4"]);
    });
}

#[test]
fn reservation_of_freed_bytes_finds_vacant_id() {
    explore("reservation_of_freed_bytes_finds_vacant_id", || {
        let (tx, mut rx) = open(small(2).segment_messages(1).max_bytes(2 * 200));
        send(&tx, "1");
        send(&tx, "2");
        assert_eq!(rx.try_recv().unwrap(), "1");
        let before = spins();
        let trimming = tx.clone();
        let trimmer = thread::spawn(move || trimming.core().queue.pool.trim(0));
        // There may be no room while the pooled segment is being freed.
        let accepted = tx.try_send("3").is_ok();
        trimmer.join().unwrap();
        assert_eq!(spins(), before, "a sender spins until another thread runs");
        assert_eq!(drain(&mut rx).len(), 1 + usize::from(accepted));
    });
}

/// Three segments and four ring slots: the fifth message uses the slot of the first.
fn full_lap() -> (Sender, Receiver) {
    open(small(3).segment_messages(1).max_bytes(3 * 200))
}

#[test]
fn segment_returned_during_pool_close_is_freed() {
    explore("segment_returned_during_pool_close_is_freed", || {
        let (tx, mut rx) =
            open(small(2).segment_messages(1).max_bytes(2 * 200).read_mode(ReadMode::ZeroCopy));
        send(&tx, "1");
        let lent = block_on(rx.recv_batch(1)).unwrap();
        let elsewhere = thread::spawn(move || drop(lent));
        tx.core().queue.pool.close();
        elsewhere.join().unwrap();
        assert_eq!(tx.core().queue.pool.used_bytes(), 0, "the returned segment was not freed");
    });
}

#[test]
fn ring_wrap_admits_one_of_two_senders() {
    explore_within(1, "ring_wrap_admits_one_of_two_senders", || {
        let (tx, mut rx) = full_lap();
        ["1", "2", "3"].into_iter().for_each(|message| send(&tx, message));
        let (tx1, tx2) = (tx.clone(), tx);
        let late = thread::spawn(move || tx1.try_send("late").is_ok());
        let mut messages = vec![rx.try_recv().unwrap()];
        let other = thread::spawn(move || tx2.try_send("4").is_ok());
        let accepted = other.join().unwrap();
        assert!(late.join().unwrap() != accepted, "there was room for one message");
        messages.extend(drain(&mut rx));
        assert_eq!(messages, ["1", "2", "3", if accepted { "4" } else { "late" }]);
    });
}

#[test]
fn is_closed_implies_recv_returns_closed() {
    explore("is_closed_implies_recv_returns_closed", || {
        let (tx, mut rx) = open(small(2).read_mode(ReadMode::ZeroCopy));
        let closing = thread::spawn(move || drop(tx));
        if rx.is_closed() {
            assert_eq!(rx.try_recv(), Err(crate::TryRecvError::Closed));
        }
        closing.join().unwrap();
    });
}

#[test]
fn recv_closed_acquires_writes_of_all_senders() {
    explore_within(1, "recv_closed_acquires_writes_of_all_senders", || {
        let (tx, mut rx) = open(small(2));
        let done = Arc::new(AccessLog::for_messages(1));
        let (tx1, done1) = (tx.clone(), Arc::clone(&done));
        let first = thread::spawn(move || {
            done1.writing(0, || ());
            drop(tx1);
        });
        let second = thread::spawn(move || drop(tx));
        yield_to_others();
        if rx.try_recv() == Err(crate::TryRecvError::Closed) {
            done.reading(0, || ());
        }
        first.join().unwrap();
        second.join().unwrap();
    });
}

#[test]
fn send_closed_acquires_writes_of_all_receivers() {
    explore_within(1, "send_closed_acquires_writes_of_all_receivers", || {
        let (tx, rx) = open(small(2));
        let done = Arc::new(AccessLog::for_messages(1));
        let (rx1, done1) = (rx.clone(), Arc::clone(&done));
        let first = thread::spawn(move || {
            done1.writing(0, || ());
            drop(rx1);
        });
        let second = thread::spawn(move || drop(rx));
        yield_to_others();
        if tx.try_send("late").is_err() {
            done.reading(0, || ());
        }
        first.join().unwrap();
        second.join().unwrap();
    });
}

#[test]
fn released_external_payloads_wake_waiting_sender() {
    explore_within(1, "released_external_payloads_wake_waiting_sender", || {
        let (tx, mut rx) = external();
        tx.try_send(payload()).unwrap();
        tx.try_send(payload()).unwrap();
        let receiver = thread::spawn(move || {
            for _ in 0..2 {
                assert_eq!(rx.try_recv().unwrap().len(), 300);
            }
            rx
        });
        // It fits beside a segment only once both of the other payloads are released.
        block_on(tx.send(Bytes::from(vec![7; 500]))).unwrap();
        assert_eq!(drain(&mut receiver.join().unwrap()).len(), 1);
    });
}

#[test]
fn deferred_switch_is_made_when_backlog_shrinks() {
    explore("deferred_switch_is_made_when_backlog_shrinks", || {
        let each = small(4).strategy(crate::MessageCount(1)).on_demand(false);
        let (tx, mut rx) = open_with_own_strategy(each.read_mode(ReadMode::ZeroCopy));
        for message in ["1", "2", "3"] {
            send(&tx, message);
        }
        // The lent batch is dropped after the check, so that its return wakes no sender.
        let receiver = thread::spawn(move || (block_on(rx.recv_batch(1)).unwrap(), rx));
        send(&tx, "4");
        let (_lent, _rx) = receiver.join().unwrap();
        assert_eq!(tx.monitor().stats().switches.strategy, 4, "the deferred switch was not made");
    });
}

/// Wants a switch as long as the flag is set.
struct Flagged(Arc<AtomicBool>);

impl crate::SwitchStrategy for Flagged {
    fn should_switch(&self, active: &crate::ActiveSegment) -> bool {
        active.messages > 0 && self.0.load(Relaxed)
    }
}

/// A sender that wants to defer its switch, while the segment is sealed and the backlog is read, leaves its flag set.
#[test]
fn flag_of_a_switch_that_was_made_silences_no_later_check() {
    explore("flag_of_a_switch_that_was_made_silences_no_later_check", || {
        let wanted = Arc::new(AtomicBool::new(true));
        let flagged = small(4).strategy(Flagged(Arc::clone(&wanted))).on_demand(false);
        let (tx, mut rx) = open_with_own_strategy(flagged);
        for message in ["1", "2", "3"] {
            send(&tx, message);
        }
        let other = tx.clone();
        let receiver = thread::spawn(move || {
            other.switch();
            drop(drain(&mut rx));
            rx
        });
        send(&tx, "4");
        let mut rx = receiver.join().unwrap();
        drop(drain(&mut rx));
        wanted.store(false, Relaxed);
        send(&tx, "5");
        assert_eq!(tx.core().queue.ring.backlog(), 0);
        assert!(tx.core().check_active().is_some(), "the strategy is not asked about the last message again");
    });
}

#[test]
fn deferred_flush_is_made_when_backlog_shrinks() {
    explore("deferred_flush_is_made_when_backlog_shrinks", || {
        let each = small(4).strategy(crate::MessageCount(100)).on_demand(false);
        let (tx, mut rx) = open_with_own_strategy(each.read_mode(ReadMode::ZeroCopy));
        for message in ["1", "2", "3"] {
            send(&tx, message);
            tx.core().flush();
        }
        // The lent batch is dropped after the check, so that its return wakes no sender.
        let receiver = thread::spawn(move || (block_on(rx.recv_batch(1)).unwrap(), rx));
        send(&tx, "4");
        tx.core().flush();
        let (_lent, _rx) = receiver.join().unwrap();
        assert_eq!(tx.monitor().stats().switches.requested, 4, "the deferred flush was not made");
    });
}

#[test]
fn bytes_before_cut_are_not_counted_twice() {
    explore("bytes_before_cut_are_not_counted_twice", || {
        let (tx, mut rx) = open_with_own_strategy(
            small(2)
                .segment_messages(4)
                .segment_bytes(200)
                .max_bytes(1000)
                .strategy(crate::ByteCount(500))
                .read_mode(ReadMode::ZeroCopy),
        );
        tx.try_send(payload()).unwrap();
        let receiver = thread::spawn(move || {
            assert_eq!(rx.try_recv().unwrap().len(), 300);
            rx
        });
        tx.try_send(payload()).unwrap();
        let _rx = receiver.join().unwrap();
        let switches = tx.monitor().stats().switches;
        assert!(switches.on_demand + switches.strategy <= 1, "300 bytes after the cut: {switches:?}");
    });
}

#[test]
fn timed_strategy_set_during_switch_signals_unread() {
    explore("timed_strategy_set_during_switch_signals_unread", || {
        let (tx, rx) = open(small(3).on_demand(false));
        send(&tx, "1");
        let setting = tx.clone();
        let setter = thread::spawn(move || {
            setting.set_strategy(crate::TimeWindow(std::time::Duration::from_secs(1)));
        });
        tx.core().switch();
        send(&tx, "2");
        setter.join().unwrap();
        assert!(tx.core().queue.pool.signal.was_unread_signalled(), "the background task was not signalled");
        drop(rx);
    });
}

/// The other receiver has cut, and left a message of the cut, before it was dropped.
#[test]
fn last_receiver_takes_what_another_left_of_its_cut() {
    explore_within(3, "last_receiver_takes_what_another_left_of_its_cut", || {
        let (tx, mut rx) = open(small(2).segment_messages(4).max_bytes(1000).read_mode(ReadMode::ZeroCopy));
        let mut other = rx.clone();
        assert!(rx.try_recv().is_err());
        send(&tx, "1");
        send(&tx, "2");
        let leaving = thread::spawn(move || other.try_recv().unwrap());
        yield_to_others();
        let taken = block_on(rx.recv()).unwrap();
        let mut messages = [taken, leaving.join().unwrap()];
        messages.sort();
        assert_eq!(messages, ["1", "2"]);
    });
}
