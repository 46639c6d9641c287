//! Loom models: the crate's own code, run through all interleavings within a bound.
//!
//! ```text
//! RUSTFLAGS="--cfg turbostream_loom" cargo test --release --lib models
//! ```
//!
//! `LOOM_MAX_PREEMPTIONS` sets the bound; each model prints how many executions it explored.
//! Segments hold two messages, and sequences start just before their wrap.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::task::noop_waker;
use loom::future::block_on;
use loom::thread;

use crate::callback::{Shared, drive};
use crate::sync::{Arc, Mutex};
use crate::{Builder, ReadMode, Receiver, Sender, builder, channel};

const SEGMENT_BYTES: usize = 64;
const SEGMENT_MESSAGES: usize = 2;

/// A channel of `segments` segments of two messages.
fn small(segments: usize) -> Builder {
    let one = SEGMENT_BYTES + SEGMENT_MESSAGES * crate::pool::ENTRY_BYTES + crate::pool::HEADER_BYTES;
    builder().segment_bytes(SEGMENT_BYTES).segment_messages(SEGMENT_MESSAGES).max_bytes(segments * one)
}

fn open(builder: Builder) -> (Sender, Receiver) {
    open_as_it_is(builder.strategy(crate::MessageCount(usize::MAX)))
}

fn open_as_it_is(builder: Builder) -> (Sender, Receiver) {
    let mut config = builder.check(None).unwrap();
    config.first_sequence = u64::MAX - 1;
    let (tx, rx) = channel::open(config);
    // What is made by the first use is made in a `OnceLock`, which loom cannot see into.
    tx.core().pending().place(0);
    tx.core().pool().segment(0);
    (tx, rx)
}

/// Most models are explored with two preemptions; the two with the most steps with one.
fn explore(name: &str, model: impl Fn() + Send + Sync + 'static) {
    explore_within(2, name, model);
}

fn explore_within(preemptions: usize, name: &str, model: impl Fn() + Send + Sync + 'static) {
    let executions = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(builder.preemption_bound.unwrap_or(preemptions));
    builder.max_branches = 100_000;
    let bound = builder.preemption_bound;
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        model();
    });
    println!("{name}: {} executions, preemption bound {bound:?}", executions.load(Relaxed));
}

fn send(tx: &Sender, message: &'static str) {
    tx.try_send(message).unwrap();
}

/// What is left in a channel whose senders are gone.
fn drain(rx: &Receiver) -> Vec<Bytes> {
    std::iter::from_fn(|| rx.try_recv().ok()).collect()
}

/// Every message exactly once, and each writer's in its order.
fn assert_fifo(messages: &[Bytes], writers: &[&[&str]]) {
    assert_eq!(messages.len(), writers.iter().map(|sent| sent.len()).sum::<usize>());
    for sent in writers {
        let received: Vec<_> = messages.iter().filter(|m| sent.iter().any(|s| *m == s.as_bytes())).collect();
        assert_eq!(received, *sent);
    }
}

#[test]
fn two_writers_a_sealer_and_a_reader() {
    explore("two_writers_a_sealer_and_a_reader", || {
        let (tx, rx) = open(small(3).read_mode(ReadMode::ZeroCopy));
        let (tx1, tx2) = (tx.clone(), tx);
        let one = thread::spawn(move || {
            send(&tx1, "a1");
            send(&tx1, "a2");
        });
        let two = thread::spawn(move || {
            send(&tx2, "b1");
            tx2.core().switch();
        });
        let mut messages: Vec<_> = drain(&rx);
        one.join().unwrap();
        two.join().unwrap();
        messages.extend(drain(&rx));
        assert_fifo(&messages, &[&["a1", "a2"], &["b1"]]);
    });
}

#[test]
fn two_switches_in_a_row() {
    explore_within(1, "two_switches_in_a_row", || {
        let (tx, rx) = open(small(4).segment_messages(1).on_demand(false));
        let (tx1, tx2) = (tx.clone(), tx);
        let one = thread::spawn(move || {
            send(&tx1, "a1");
            send(&tx1, "a2");
        });
        send(&tx2, "b1");
        one.join().unwrap();
        drop(tx2);
        assert_fifo(&drain(&rx), &[&["a1", "a2"], &["b1"]]);
        assert!(matches!(rx.try_recv(), Err(crate::TryRecvError::Closed)));
    });
}

#[test]
fn a_segment_comes_back_while_a_stale_writer_looks() {
    explore_within(1, "a_segment_comes_back_while_a_stale_writer_looks", || {
        let (tx, rx) = open(small(4).read_mode(ReadMode::ZeroCopy));
        let tx1 = tx.clone();
        let stale = thread::spawn(move || tx1.try_send("late").is_ok());
        let mut messages = Vec::new();
        for message in ["1", "2"] {
            send(&tx, message);
            messages.extend(drain(&rx));
        }
        assert!(stale.join().unwrap(), "there was room all along");
        messages.extend(drain(&rx));
        assert_fifo(&messages, &[&["1", "2"], &["late"]]);
    });
}

#[test]
fn last_bytes_dropped_against_the_channel() {
    explore("last_bytes_dropped_against_the_channel", || {
        let (tx, rx) = open(small(2).read_mode(ReadMode::ZeroCopy));
        send(&tx, "lent");
        send(&tx, "too");
        // Batches and not `Bytes`, whose reference count loom does not see.
        let (one, two) = (block_on(rx.recv_batch(1)).unwrap(), block_on(rx.recv_batch(1)).unwrap());
        let elsewhere = thread::spawn(move || {
            assert_eq!(one.get(0).unwrap(), b"lent");
            drop(one);
        });
        let monitor = tx.monitor();
        drop(rx);
        drop(tx);
        assert_eq!(two.get(0).unwrap(), b"too");
        drop(two);
        elsewhere.join().unwrap();
        assert_eq!(monitor.stats().memory_bytes(), 0, "{:?}", monitor.stats());
    });
}

#[test]
fn last_bytes_dropped_against_a_writer_who_needs_the_segment() {
    explore("last_bytes_dropped_against_a_writer_who_needs_the_segment", || {
        let (tx, rx) = open(small(2).segment_messages(1).read_mode(ReadMode::ZeroCopy).max_bytes(2 * 200));
        send(&tx, "1");
        let lent = block_on(rx.recv_batch(1)).unwrap();
        send(&tx, "2");
        let elsewhere = thread::spawn(move || drop(lent));
        block_on(tx.send("3")).unwrap();
        elsewhere.join().unwrap();
        assert_fifo(&drain(&rx), &[&["2", "3"]]);
    });
}

#[test]
fn two_receivers_are_woken_and_one_cancels() {
    explore("two_receivers_are_woken_and_one_cancels", || {
        let (tx, rx) = open(small(3).read_mode(ReadMode::ZeroCopy));
        let rx1 = rx.clone();
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
        // Whatever became of the cancelled wait, the other receiver gets a message.
        if cancelled.is_some() {
            send(&tx, "2");
        }
        other.join().unwrap();
        assert!(rx.try_recv().is_err());
    });
}

#[test]
fn two_receivers_share_one_batch() {
    explore("two_receivers_share_one_batch", || {
        let (tx, rx) = open(small(3).read_mode(ReadMode::ZeroCopy));
        let rx1 = rx.clone();
        let other = thread::spawn(move || block_on(rx1.recv()).unwrap());
        send(&tx, "1");
        send(&tx, "2");
        let mut messages = vec![block_on(rx.recv()).unwrap(), other.join().unwrap()];
        messages.sort();
        assert_eq!(messages, ["1", "2"]);
    });
}

#[test]
fn receivers_wait_for_a_seal() {
    explore("receivers_wait_for_a_seal", || {
        let (tx, rx) = open(small(3).on_demand(false).read_mode(ReadMode::ZeroCopy));
        let reader = thread::spawn(move || block_on(rx.recv()).unwrap());
        send(&tx, "1");
        tx.core().switch();
        assert_eq!(reader.join().unwrap(), "1");
    });
}

#[test]
fn two_senders_wait_and_one_cancels() {
    explore("two_senders_wait_and_one_cancels", || {
        let (tx, rx) = open(small(2).segment_messages(1).max_bytes(2 * 200));
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
        let left = drain(&rx).len();
        assert_eq!(left, 2, "accepted: {accepted}");
    });
}

#[test]
fn close_against_send() {
    explore("close_against_send", || {
        let (tx, rx) = open(small(2).read_mode(ReadMode::ZeroCopy));
        let writer = thread::spawn(move || tx.try_send("1").is_ok());
        rx.close();
        let early = drain(&rx);
        let accepted = writer.join().unwrap();
        let late = drain(&rx);
        assert_eq!(early.len() + late.len(), usize::from(accepted));
        assert!(matches!(rx.try_recv(), Err(crate::TryRecvError::Closed)));
    });
}

#[test]
fn the_last_sender_leaves_while_a_receiver_waits() {
    explore("the_last_sender_leaves_while_a_receiver_waits", || {
        let (tx, rx) = open(small(2).read_mode(ReadMode::ZeroCopy));
        let writer = thread::spawn(move || send(&tx, "1"));
        assert_eq!(block_on(rx.recv()).unwrap(), "1");
        assert_eq!(block_on(rx.recv()), None);
        writer.join().unwrap();
    });
}

#[test]
fn the_last_receiver_leaves_while_a_writer_is_at_it() {
    explore("the_last_receiver_leaves_while_a_writer_is_at_it", || {
        let (tx, rx) = open(small(2).read_mode(ReadMode::ZeroCopy));
        let monitor = tx.monitor();
        let writer = thread::spawn(move || {
            let accepted = tx.try_send("1").is_ok();
            (tx, accepted)
        });
        drop(rx);
        let (tx, accepted) = writer.join().unwrap();
        let stats = monitor.stats();
        assert_eq!(stats.memory_bytes(), 0, "{stats:?}");
        assert_eq!((stats.dropped_messages, stats.queued_messages), (u64::from(accepted), 0));
        drop(tx);
    });
}

#[test]
fn a_reader_sleeps_for_a_commit() {
    explore("a_reader_sleeps_for_a_commit", || {
        let (tx, rx) = open(small(2).read_mode(ReadMode::ZeroCopy));
        let tx1 = tx.clone();
        let writer = thread::spawn(move || send(&tx1, "1"));
        send(&tx, "2");
        let mut messages = vec![block_on(rx.recv()).unwrap(), block_on(rx.recv()).unwrap()];
        writer.join().unwrap();
        messages.sort();
        assert_eq!(messages, ["1", "2"]);
    });
}

#[test]
fn a_receiver_sleeps_behind_a_cut_at_the_end_of_a_segment() {
    explore("a_receiver_sleeps_behind_a_cut_at_the_end_of_a_segment", || {
        let (tx, rx) = open(small(3).read_mode(ReadMode::ZeroCopy));
        send(&tx, "1");
        let reader = thread::spawn(move || std::array::from_fn(|_| block_on(rx.recv()).unwrap()));
        send(&tx, "2");
        send(&tx, "3"); // in the next segment
        let messages: [Bytes; 3] = reader.join().unwrap();
        assert_eq!(messages, ["1", "2", "3"]);
    });
}

#[test]
fn a_rest_is_given_up_while_a_writer_and_a_receiver_go_on() {
    explore_within(1, "a_rest_is_given_up_while_a_writer_and_a_receiver_go_on", || {
        let (tx, rx) = open(small(3).read_mode(ReadMode::ZeroCopy));
        let resting = tx.clone();
        send(&tx, "1");
        assert_eq!(rx.try_recv().unwrap(), "1");
        let timer = thread::spawn(move || resting.core().release_idle_memory());
        let writer = thread::spawn(move || send(&tx, "2"));
        assert_eq!(block_on(rx.recv()).unwrap(), "2");
        timer.join().unwrap();
        writer.join().unwrap();
        assert_eq!(block_on(rx.recv()), None);
    });
}

#[test]
fn large_payloads_travel_by_reference() {
    explore("large_payloads_travel_by_reference", || {
        let (tx, rx) = open(small(4).max_message_bytes(500));
        let monitor = tx.monitor();
        let large = Bytes::from(vec![7; 100]);
        let copy = large.clone();
        let writer = thread::spawn(move || tx.try_send(copy).unwrap());
        let received = block_on(rx.recv()).unwrap();
        assert_eq!(received.as_ptr(), large.as_ptr());
        writer.join().unwrap();
        drop(rx);
        assert_eq!(monitor.stats().memory_bytes(), 0);
    });
}

#[test]
fn a_large_payload_finds_room_for_its_bytes_but_no_segment() {
    explore_within(1, "a_large_payload_finds_room_for_its_bytes_but_no_segment", || {
        let (tx, rx) = open(small(2).segment_messages(1).max_bytes(2 * 200 + 100).max_message_bytes(100));
        send(&tx, "1");
        send(&tx, "2");
        let reader = thread::spawn(move || {
            let mut read = 0;
            while block_on(rx.recv()).is_some() {
                read += 1;
            }
            read
        });
        block_on(tx.send(Bytes::from(vec![7; 100]))).unwrap();
        drop(tx);
        assert_eq!(reader.join().unwrap(), 3);
    });
}

#[test]
fn the_backlog_is_never_less_than_nothing() {
    explore("the_backlog_is_never_less_than_nothing", || {
        let (tx, rx) = open(small(3).segment_messages(1).read_mode(ReadMode::ZeroCopy));
        let looking = tx.clone();
        let looker = thread::spawn(move || assert!(looking.core().pending().backlog() < 4));
        send(&tx, "1");
        assert_eq!(rx.try_recv().unwrap(), "1");
        looker.join().unwrap();
    });
}

#[test]
fn a_strategy_is_swapped_while_a_writer_switches() {
    explore("a_strategy_is_swapped_while_a_writer_switches", || {
        let (tx, rx) = open(small(4).on_demand(false));
        let swapping = tx.clone();
        let swapper = thread::spawn(move || swapping.set_strategy(crate::MessageCount(1)));
        for message in ["1", "2", "3"] {
            send(&tx, message); // the third in a segment of its own
        }
        swapper.join().unwrap();
        assert_eq!(drain(&rx), ["1", "2", "3"], "each of them is reason enough to switch");
        send(&tx, "4");
        assert_eq!(drain(&rx), ["4"], "the limits are the new ones");
    });
}

#[test]
fn a_sender_waits_until_two_receivers_took_it_all() {
    explore("a_sender_waits_until_two_receivers_took_it_all", || {
        let (tx, rx) = open(small(3).read_mode(ReadMode::ZeroCopy));
        send(&tx, "1");
        send(&tx, "2");
        let rx1 = rx.clone();
        let one = thread::spawn(move || assert!(block_on(rx1.recv()).is_some()));
        let two = thread::spawn(move || assert!(block_on(rx.recv()).is_some()));
        block_on(tx.drained()).unwrap();
        assert_eq!(tx.monitor().stats().handed_out_messages, 2);
        one.join().unwrap();
        two.join().unwrap();
    });
}

#[test]
fn a_sender_waits_for_what_came_before_and_no_more() {
    explore_within(1, "a_sender_waits_for_what_came_before_and_no_more", || {
        let (tx, rx) = open(small(3).segment_messages(4).read_mode(ReadMode::ZeroCopy));
        send(&tx, "1");
        send(&tx, "2");
        let (tx1, rx1) = (tx.clone(), rx.clone());
        let writer = thread::spawn(move || send(&tx1, "3"));
        let reader = thread::spawn(move || {
            for _ in 0..2 {
                block_on(rx1.recv()).unwrap();
            }
        });
        block_on(tx.drained()).unwrap();
        assert!(tx.monitor().stats().handed_out_messages >= 2);
        reader.join().unwrap();
        writer.join().unwrap();
        assert_eq!(drain(&rx), ["3"]);
    });
}

#[test]
fn a_sender_waits_while_another_gives_up_and_the_last_receiver_leaves() {
    explore("a_sender_waits_while_another_gives_up_and_the_last_receiver_leaves", || {
        let (tx, rx) = open(small(3).read_mode(ReadMode::ZeroCopy));
        send(&tx, "1");
        drop(block_on(rx.recv()));
        send(&tx, "2");
        let tx1 = tx.clone();
        let other = thread::spawn(move || {
            let mut drained = pin!(tx1.drained());
            let _ = drained.as_mut().poll(&mut Context::from_waker(&noop_waker()));
        });
        let reader = thread::spawn(move || drop(rx));
        let result = block_on(tx.drained());
        assert!(matches!(result, Err(crate::SendError::Closed(()))), "{result:?}");
        other.join().unwrap();
        reader.join().unwrap();
        assert!(matches!(block_on(tx.drained()), Err(crate::SendError::Closed(()))));
    });
}

#[test]
fn padding_is_nothing_to_wait_for() {
    explore("padding_is_nothing_to_wait_for", || {
        let (tx, rx) = open(small(4));
        send(&tx, "1");
        assert_eq!(rx.try_recv().unwrap(), "1");
        let tx1 = tx.clone();
        let drainer = thread::spawn(move || block_on(tx1.drained()).unwrap());
        tx.core().reserve_and_give_up();
        drainer.join().unwrap();
        block_on(tx.drained()).unwrap();
        assert!(rx.try_recv().is_err());
    });
}

fn full_by_policy(name: &str, when_full: crate::WhenFull) {
    explore(name, move || {
        let (tx, rx) = open(small(2).segment_messages(1).max_bytes(2 * 200).when_full(when_full));
        send(&tx, "1");
        send(&tx, "2");
        let writing = tx.clone();
        let writer = thread::spawn(move || send(&writing, "3"));
        let mut messages: Vec<_> = rx.try_recv().into_iter().collect();
        writer.join().unwrap();
        messages.extend(drain(&rx));
        assert!(messages.is_sorted() && messages.len() >= 2, "{messages:?}");
        let stats = tx.monitor().stats();
        assert_eq!((stats.accepted_messages, stats.queued_messages), (3, 0));
        assert_eq!(stats.dropped_messages as usize, 3 - messages.len());
        assert_eq!(stats.handed_out_messages as usize, messages.len());
    });
}

#[test]
fn the_oldest_is_dropped_while_a_receiver_takes_it() {
    full_by_policy("the_oldest_is_dropped_while_a_receiver_takes_it", crate::WhenFull::DropOldest);
}

#[test]
fn the_newest_is_dropped_while_a_receiver_makes_room() {
    full_by_policy("the_newest_is_dropped_while_a_receiver_makes_room", crate::WhenFull::DropNewest);
}

#[test]
fn two_writers_drop_the_oldest() {
    explore_within(1, "two_writers_drop_the_oldest", || {
        let (tx, rx) =
            open(small(2).segment_messages(1).max_bytes(2 * 200).when_full(crate::WhenFull::DropOldest));
        send(&tx, "0");
        let writing = tx.clone();
        let writer = thread::spawn(move || {
            send(&writing, "a1");
            send(&writing, "a2");
        });
        send(&tx, "b1");
        writer.join().unwrap();
        let left = drain(&rx).len() as u64;
        let stats = tx.monitor().stats();
        assert_eq!((stats.accepted_messages, stats.queued_messages), (4, 0));
        assert_eq!(stats.dropped_messages + left, 4);
    });
}

#[test]
fn the_pool_is_trimmed_while_a_sender_looks_for_room() {
    explore("the_pool_is_trimmed_while_a_sender_looks_for_room", || {
        let (tx, rx) = open(small(2).segment_messages(1).read_mode(ReadMode::ZeroCopy).max_bytes(2 * 200));
        send(&tx, "1");
        let lent = block_on(rx.recv_batch(1)).unwrap();
        send(&tx, "2");
        drop(block_on(rx.recv_batch(1)).unwrap());
        let trimming = tx.clone();
        let timer = thread::spawn(move || trimming.core().pool().trim(0));
        block_on(tx.send("3")).unwrap();
        timer.join().unwrap();
        drop(lent);
    });
}

#[test]
fn a_switch_behind_a_cut_is_none() {
    explore("a_switch_behind_a_cut_is_none", || {
        let (tx, rx) = open(small(3).read_mode(ReadMode::ZeroCopy));
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
fn limits_behind_a_cut_are_not_those_of_the_next_segment() {
    explore("limits_behind_a_cut_are_not_those_of_the_next_segment", || {
        let two = small(3).segment_messages(4).max_bytes(3 * 300).strategy(crate::MessageCount(2));
        let (tx, rx) = open_as_it_is(two.read_mode(ReadMode::ZeroCopy));
        let monitor = tx.monitor();
        send(&tx, "1");
        let reader = thread::spawn(move || {
            assert_eq!(rx.try_recv().unwrap(), "1");
            rx
        });
        send(&tx, "2");
        tx.core().switch();
        // Sealed by now, whatever the reader has cut.
        send(&tx, "3");
        send(&tx, "4");
        let _rx = reader.join().unwrap();
        let stats = monitor.stats();
        assert_eq!(stats.active_bytes, 0, "two messages are what the strategy switches at: {stats:?}");
    });
}

#[test]
fn bytes_behind_a_cut_are_counted_behind_it() {
    // Three: cut, reserve and attach, look at the extra bytes, ask the strategy.
    explore_within(3, "bytes_behind_a_cut_are_counted_behind_it", || {
        let some = small(4).segment_messages(4).max_bytes(2000).max_message_bytes(500);
        let (tx, rx) = open_as_it_is(some.strategy(crate::ByteCount(60)));
        let monitor = tx.monitor();
        send(&tx, "1");
        let reader = thread::spawn(move || {
            assert_eq!(rx.try_recv().unwrap(), "1");
            rx
        });
        tx.try_send(Bytes::from(vec![7; 100])).unwrap();
        let rx = reader.join().unwrap();
        let before = monitor.stats().switches;
        assert_eq!(rx.try_recv().unwrap().len(), 100);
        let cut_by_now = monitor.stats().switches.on_demand > before.on_demand;
        assert!(
            !cut_by_now || before.strategy == 1,
            "100 bytes behind the cut, and the limit is 60: {before:?}"
        );
    });
}

#[test]
fn a_callback_is_unregistered_while_it_is_called() {
    explore("a_callback_is_unregistered_while_it_is_called", || {
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
        let rx = block_on(shared.give_back());
        send(&tx, "a2");
        let mut messages = called.lock().unwrap().split_off(0);
        messages.extend(drain(&rx));
        assert_fifo(&messages, &[&["a1", "a2"]]);
        assert_eq!(rx.monitor().stats().waiting_receivers, 0);
        driver.join().unwrap();
        assert!(called.lock().unwrap().is_empty(), "nothing is called after it was unregistered");
    });
}

#[test]
fn a_weak_sender_is_upgraded_while_the_last_one_leaves() {
    explore("a_weak_sender_is_upgraded_while_the_last_one_leaves", || {
        let (tx, rx) = open(small(3).read_mode(ReadMode::ZeroCopy));
        let weak = tx.downgrade();
        let leaving = thread::spawn(move || drop(tx));
        let upgraded = weak.upgrade();
        leaving.join().unwrap();
        let sent = upgraded.is_some();
        if let Some(tx) = upgraded {
            send(&tx, "1");
        }
        assert!(weak.upgrade().is_none(), "the last one has left");
        assert_eq!(drain(&rx).len(), usize::from(sent));
        assert!(matches!(rx.try_recv(), Err(crate::TryRecvError::Closed)));
    });
}

#[test]
fn a_run_is_written_while_another_writer_and_a_reader_go_on() {
    explore_within(1, "a_run_is_written_while_another_writer_and_a_reader_go_on", || {
        let (tx, rx) = open(small(4).read_mode(ReadMode::ZeroCopy));
        let tx1 = tx.clone();
        let many = thread::spawn(move || assert_eq!(block_on(tx1.send_many(["a1", "a2", "a3"])).unwrap(), 3));
        send(&tx, "b1");
        let mut messages = drain(&rx);
        many.join().unwrap();
        messages.extend(drain(&rx));
        assert_fifo(&messages, &[&["a1", "a2", "a3"], &["b1"]]);
    });
}

#[test]
fn a_receiver_sleeps_for_a_run() {
    explore("a_receiver_sleeps_for_a_run", || {
        let (tx, rx) = open(small(2).read_mode(ReadMode::ZeroCopy));
        let many = thread::spawn(move || assert_eq!(block_on(tx.send_many(["1", "2"])).unwrap(), 2));
        let messages = [block_on(rx.recv()).unwrap(), block_on(rx.recv()).unwrap()];
        assert_eq!(messages, ["1", "2"]);
        assert_eq!(block_on(rx.recv()), None);
        many.join().unwrap();
    });
}

#[test]
fn the_last_receiver_leaves_while_a_run_is_written() {
    explore("the_last_receiver_leaves_while_a_run_is_written", || {
        let (tx, rx) = open(small(2).read_mode(ReadMode::ZeroCopy));
        let monitor = tx.monitor();
        let writer = thread::spawn(move || {
            let accepted = match block_on(tx.send_many(["1", "2"])) {
                Ok(accepted) => accepted,
                Err(error) => error.into_inner().accepted,
            };
            (tx, accepted as u64)
        });
        drop(rx);
        let (tx, accepted) = writer.join().unwrap();
        let stats = monitor.stats();
        assert_eq!(stats.memory_bytes(), 0, "{stats:?}");
        assert_eq!((stats.dropped_messages, stats.queued_messages), (accepted, 0));
        drop(tx);
    });
}

#[test]
fn a_message_is_written_in_place_while_another_writer_and_a_reader_go_on() {
    explore_within(1, "a_message_is_written_in_place_while_another_writer_and_a_reader_go_on", || {
        let (tx, rx) = open(small(4).read_mode(ReadMode::ZeroCopy));
        let tx1 = tx.clone();
        let in_place = thread::spawn(move || {
            let write = |buf: &mut [u8]| {
                buf[..2].copy_from_slice(b"a1");
                2
            };
            block_on(tx1.send_with(10, write)).map_err(drop).unwrap();
        });
        send(&tx, "b1");
        let mut messages = drain(&rx);
        send(&tx, "b2");
        messages.extend(drain(&rx));
        in_place.join().unwrap();
        messages.extend(drain(&rx));
        assert_fifo(&messages, &[&["a1"], &["b1", "b2"]]);
    });
}

#[test]
fn a_reader_sleeps_for_a_writer_that_gives_up() {
    explore("a_reader_sleeps_for_a_writer_that_gives_up", || {
        let (tx, rx) = open(small(2).read_mode(ReadMode::ZeroCopy));
        let writer = thread::spawn(move || {
            tx.core().give_up(10);
            send(&tx, "1");
        });
        assert_eq!(block_on(rx.recv()).unwrap(), "1");
        assert_eq!(block_on(rx.recv()), None);
        writer.join().unwrap();
    });
}
