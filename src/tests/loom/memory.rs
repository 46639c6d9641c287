//! The lifetime of segments, drop policies, and the drop of the last handle.

use super::*;

#[test]
fn last_batch_drop_and_channel_drop_free_all_memory() {
    explore("last_batch_drop_and_channel_drop_free_all_memory", || {
        let (tx, mut rx) = open(small(2).read_mode(ReadMode::ZeroCopy));
        send(&tx, "lent");
        send(&tx, "too");
        // Batches instead of `Bytes`, whose reference count loom does not model.
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
fn last_batch_drop_wakes_sender_waiting_for_segment() {
    explore("last_batch_drop_wakes_sender_waiting_for_segment", || {
        let (tx, mut rx) =
            open(small(2).segment_messages(1).read_mode(ReadMode::ZeroCopy).max_bytes(2 * 200));
        send(&tx, "1");
        let lent = block_on(rx.recv_batch(1)).unwrap();
        send(&tx, "2");
        let elsewhere = thread::spawn(move || drop(lent));
        block_on(tx.send("3")).unwrap();
        elsewhere.join().unwrap();
        assert_fifo(&drain(&mut rx), &[&["2", "3"]]);
    });
}

#[test]
fn last_receiver_drop_during_send_frees_all_memory() {
    explore("last_receiver_drop_during_send_frees_all_memory", || {
        let (tx, rx) = open(small(2).read_mode(ReadMode::ZeroCopy));
        let monitor = tx.monitor();
        let sender = thread::spawn(move || {
            let accepted = tx.try_send("1").is_ok();
            (tx, accepted)
        });
        drop(rx);
        let (tx, accepted) = sender.join().unwrap();
        let stats = monitor.stats();
        assert_eq!(stats.memory_bytes(), 0, "{stats:?}");
        assert_eq!((stats.dropped_messages, stats.queued_messages), (u64::from(accepted), 0));
        drop(tx);
    });
}

#[test]
fn drained_active_release_during_send_and_recv_loses_nothing() {
    explore_within(1, "drained_active_release_during_send_and_recv_loses_nothing", || {
        let (tx, mut rx) = open(small(3).read_mode(ReadMode::ZeroCopy));
        let releasing = tx.clone();
        send(&tx, "1");
        assert_eq!(rx.try_recv().unwrap(), "1");
        let background = thread::spawn(move || releasing.core().release_idle_memory());
        let sender = thread::spawn(move || send(&tx, "2"));
        assert_eq!(block_on(rx.recv()).unwrap(), "2");
        background.join().unwrap();
        sender.join().unwrap();
        assert_eq!(block_on(rx.recv()), None);
    });
}

#[test]
fn backlog_never_underflows() {
    explore("backlog_never_underflows", || {
        let (tx, mut rx) = open(small(3).segment_messages(1).read_mode(ReadMode::ZeroCopy));
        let observing = tx.clone();
        let observer = thread::spawn(move || assert!(observing.core().queue.ring.backlog() < 4));
        send(&tx, "1");
        assert_eq!(rx.try_recv().unwrap(), "1");
        observer.join().unwrap();
    });
}

fn drop_when_full(name: &str, when_full: crate::WhenFull) {
    explore(name, move || {
        let (tx, mut rx) = open(small(2).segment_messages(1).max_bytes(2 * 200).when_full(when_full));
        send(&tx, "1");
        send(&tx, "2");
        let sending = tx.clone();
        let sender = thread::spawn(move || send(&sending, "3"));
        let mut messages: Vec<_> = rx.try_recv().into_iter().collect();
        sender.join().unwrap();
        messages.extend(drain(&mut rx));
        assert!(messages.is_sorted() && messages.len() >= 2, "{messages:?}");
        let stats = tx.monitor().stats();
        assert_eq!((stats.sent_messages, stats.queued_messages), (3, 0));
        assert_eq!(stats.dropped_messages as usize, 3 - messages.len());
        assert_eq!(stats.received_messages as usize, messages.len());
    });
}

#[test]
fn drop_oldest_during_recv_accounts_for_every_message() {
    drop_when_full("drop_oldest_during_recv_accounts_for_every_message", crate::WhenFull::DropOldest);
}

#[test]
fn drop_newest_during_recv_accounts_for_every_message() {
    drop_when_full("drop_newest_during_recv_accounts_for_every_message", crate::WhenFull::DropNewest);
}

#[test]
fn two_senders_dropping_oldest_account_for_every_message() {
    explore_within(1, "two_senders_dropping_oldest_account_for_every_message", || {
        let (tx, mut rx) =
            open(small(2).segment_messages(1).max_bytes(2 * 200).when_full(crate::WhenFull::DropOldest));
        send(&tx, "0");
        let sending = tx.clone();
        let sender = thread::spawn(move || {
            send(&sending, "a1");
            send(&sending, "a2");
        });
        send(&tx, "b1");
        sender.join().unwrap();
        let left = drain(&mut rx).len() as u64;
        let stats = tx.monitor().stats();
        assert_eq!((stats.sent_messages, stats.queued_messages), (4, 0));
        assert_eq!(stats.dropped_messages + left, 4);
    });
}

#[test]
fn trim_wakes_sender_waiting_for_room() {
    explore("trim_wakes_sender_waiting_for_room", || {
        let (tx, mut rx) =
            open(small(2).segment_messages(1).read_mode(ReadMode::ZeroCopy).max_bytes(2 * 200));
        send(&tx, "1");
        let lent = block_on(rx.recv_batch(1)).unwrap();
        send(&tx, "2");
        drop(block_on(rx.recv_batch(1)).unwrap());
        let trimming = tx.clone();
        let background = thread::spawn(move || trimming.core().queue.pool.trim(0));
        block_on(tx.send("3")).unwrap();
        background.join().unwrap();
        drop(lent);
    });
}

#[test]
fn weak_sender_upgrade_fails_after_last_sender_drop() {
    explore("weak_sender_upgrade_fails_after_last_sender_drop", || {
        let (tx, mut rx) = open(small(3).read_mode(ReadMode::ZeroCopy));
        let weak = tx.downgrade();
        let dropping = thread::spawn(move || drop(tx));
        let upgraded = weak.upgrade();
        dropping.join().unwrap();
        let sent = upgraded.is_some();
        if let Some(tx) = upgraded {
            send(&tx, "1");
        }
        assert!(weak.upgrade().is_none(), "the last one has left");
        assert_eq!(drain(&mut rx).len(), usize::from(sent));
        assert!(matches!(rx.try_recv(), Err(crate::TryRecvError::Closed)));
    });
}

#[test]
fn last_receiver_drop_during_send_many_frees_all_memory() {
    explore("last_receiver_drop_during_send_many_frees_all_memory", || {
        let (tx, rx) = open(small(2).read_mode(ReadMode::ZeroCopy));
        let monitor = tx.monitor();
        let sender = thread::spawn(move || {
            let accepted = match block_on(tx.send_many(["1", "2"])) {
                Ok(accepted) => accepted,
                Err(error) => error.into_inner().accepted,
            };
            (tx, accepted as u64)
        });
        drop(rx);
        let (tx, accepted) = sender.join().unwrap();
        let stats = monitor.stats();
        assert_eq!(stats.memory_bytes(), 0, "{stats:?}");
        assert_eq!((stats.dropped_messages, stats.queued_messages), (accepted, 0));
        drop(tx);
    });
}

#[test]
fn refused_external_payload_returns_its_bytes() {
    explore_within(1, "refused_external_payload_returns_its_bytes", || {
        let (tx, mut rx) = open(small(2).segment_messages(1).max_bytes(2 * 200 + 200).max_message_bytes(100));
        send(&tx, "1");
        let large = || Bytes::from(vec![7; 100]);
        let tx1 = tx.clone();
        let other = thread::spawn(move || tx1.try_send(large()).is_ok());
        let accepted = usize::from(tx.try_send(large()).is_ok()) + usize::from(other.join().unwrap());
        let stats = tx.monitor().stats();
        assert_eq!(stats.external_bytes, 100 * accepted, "{stats:?}");
        assert_eq!(drain(&mut rx).len(), 1 + accepted);
    });
}

/// A small segment of one message, and then full ones of two.
#[test]
fn growth_during_concurrent_opens_keeps_fifo_order() {
    explore("growth_during_concurrent_opens_keeps_fifo_order", || {
        let (tx, mut rx) = open(small(6).read_mode(ReadMode::ZeroCopy));
        let sender = thread::spawn({
            let tx = tx.clone();
            move || {
                send(&tx, "a1");
                send(&tx, "a2");
            }
        });
        send(&tx, "b1");
        sender.join().unwrap();
        assert!(tx.core().queue.pool.used_bytes() <= tx.max_bytes());
        assert_fifo(&drain(&mut rx), &[&["a1", "a2"], &["b1"]]);
        drop(rx);
        assert_eq!(tx.monitor().stats().memory_bytes(), 0);
    });
}

#[test]
fn small_segment_is_used_again_by_another_thread() {
    explore("small_segment_is_used_again_by_another_thread", || {
        let (tx, mut rx) = open(small(6).read_mode(ReadMode::ZeroCopy));
        send(&tx, "1");
        let batch = block_on(rx.recv_batch(1)).unwrap();
        tx.core().release_idle_memory();
        let elsewhere = thread::spawn(move || {
            assert_eq!(batch.get(0).unwrap(), b"1");
            drop(batch);
        });
        send(&tx, "2");
        elsewhere.join().unwrap();
        assert_fifo(&drain(&mut rx), &[&["2"]]);
        drop((tx, rx));
    });
}
