//! Who sleeps, who wakes whom, and who is left behind.

use super::*;
use crate::sync::{AtomicBool, Ordering};
use crate::wait::wait_list::WaitList;

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
fn a_sender_waits_until_two_receivers_took_it_all() {
    explore("a_sender_waits_until_two_receivers_took_it_all", || {
        let (tx, rx) = open(small(3).read_mode(ReadMode::ZeroCopy));
        send(&tx, "1");
        send(&tx, "2");
        let rx1 = rx.clone();
        let one = thread::spawn(move || assert!(block_on(rx1.recv()).is_some()));
        let two = thread::spawn(move || assert!(block_on(rx.recv()).is_some()));
        block_on(tx.drained()).unwrap();
        assert_eq!(tx.monitor().stats().received_messages, 2);
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
        assert!(tx.monitor().stats().received_messages >= 2);
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
        tx.core().give_up(1);
        drainer.join().unwrap();
        block_on(tx.drained()).unwrap();
        assert!(rx.try_recv().is_err());
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

#[test]
fn a_sender_waits_for_bytes_that_the_pool_is_not_told_of() {
    explore_within(1, "a_sender_waits_for_bytes_that_the_pool_is_not_told_of", || {
        let (tx, rx) =
            open(small(2).segment_messages(4).segment_bytes(200).max_bytes(2000).max_message_bytes(1300));
        for len in [201, 202, 203] {
            tx.try_send(Bytes::from(vec![7; len])).unwrap();
        }
        assert_eq!(rx.try_recv().unwrap().len(), 201);
        let reader = thread::spawn(move || {
            for _ in 0..2 {
                block_on(rx.recv()).unwrap();
            }
            rx
        });
        // Too long as long as two of the others are there.
        block_on(tx.send(Bytes::from(vec![7; 1300]))).unwrap();
        let rx = reader.join().unwrap();
        assert_eq!(drain(&rx).len(), 1);
    });
}

#[test]
fn who_is_in_front_leaves_while_it_is_woken() {
    explore("who_is_in_front_leaves_while_it_is_woken", || {
        let list = Arc::new(WaitList::new());
        let come = Arc::new(AtomicBool::new(false));
        let mut requeued = Box::pin({
            let list = Arc::clone(&list);
            async move { list.wait_until(|_| None::<()>).await }
        });
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        assert!(requeued.as_mut().poll(&mut cx).is_pending());
        list.wake(1);
        assert!(requeued.as_mut().poll(&mut cx).is_pending(), "woken in vain");
        let waiter = thread::spawn({
            let (list, come) = (Arc::clone(&list), Arc::clone(&come));
            move || block_on(list.wait_until(|_| come.swap(false, Ordering::Relaxed).then_some(())))
        });
        let waking = thread::spawn({
            let list = Arc::clone(&list);
            move || {
                // An exchange: loom lets a store slip in before the exchange that did not see it.
                come.swap(true, Ordering::Relaxed);
                list.wake(1);
            }
        });
        drop(requeued);
        waking.join().unwrap();
        waiter.join().unwrap();
        assert_eq!(list.waiting(), 0);
    });
}
