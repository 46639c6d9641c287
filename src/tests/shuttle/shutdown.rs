//! Handles that are dropped, channels that are closed, and messages that a policy drops, during sends and receives.

use super::*;
use crate::WhenFull;

const MESSAGES: u8 = 6;

/// Sends until the channel is closed; returns how many messages were accepted.
fn send_while_open(tx: &Sender, sender: u8) -> usize {
    (0..MESSAGES).take_while(|&number| block_on(tx.send(message(sender, number))).is_ok()).count()
}

/// Runs two senders while `end` ends the receiving side; `reads_rest` if `end` receives all that is left.
fn end_early(end: impl Fn(Receiver) -> Vec<(u8, u8)>, reads_rest: bool) {
    let (tx, rx) = open(small(2).read_mode(any_mode()));
    let monitor = tx.monitor();
    let waiting = tx.clone();
    let closed = thread::spawn(move || block_on(waiting.closed()));
    let other = tx.clone();
    let sender = thread::spawn(move || send_while_open(&other, 1));
    let drainer = tx.clone();
    let drained = thread::spawn(move || block_on(drainer.drained()).is_ok());
    let receiver = thread::spawn({
        let mut rx = rx.clone();
        move || {
            let first = block_on(rx.recv()).map(|message| check(&message));
            drop(rx);
            first
        }
    });
    let closer = rx.clone();
    drop(rx);
    let accepted_here = thread::spawn(move || send_while_open(&tx, 0));
    let mut received = end(closer);
    received.extend(receiver.join().unwrap());
    let accepted = accepted_here.join().unwrap() + sender.join().unwrap();
    drained.join().unwrap();
    closed.join().unwrap();
    assert!(!reads_rest || received.len() == accepted, "{accepted} accepted, {received:?}");
    assert_eq!(monitor.stats().sent_messages as usize, accepted);
    assert_eq!(monitor.stats().received_messages as usize, received.len());
    assert_all_released(&monitor);
}

#[test]
fn close_delivers_every_accepted_message() {
    explore("close_delivers_every_accepted_message", || {
        let close = |mut rx: Receiver| {
            rx.close();
            receive_all(&mut rx)
        };
        end_early(close, true);
    });
}

#[test]
fn last_receiver_drop_rejects_senders() {
    explore("last_receiver_drop_rejects_senders", || {
        end_early(
            |mut rx| poll_or_cancel(2, rx.recv()).flatten().iter().map(|message| check(message)).collect(),
            false,
        );
    });
}

#[test]
fn cancelled_receives_lose_no_message() {
    explore("cancelled_receives_lose_no_message", || {
        let (tx, mut rx) = open(small(3).read_mode(any_mode()));
        let monitor = tx.monitor();
        let cancelling: Vec<_> = (1..3)
            .map(|patience| {
                let mut rx = rx.clone();
                thread::spawn(move || {
                    let one = poll_or_cancel(patience, rx.recv()).flatten();
                    let batch = poll_or_cancel(patience, rx.recv_batch(2)).flatten();
                    let mut received: Vec<_> = one.iter().map(|message| check(message)).collect();
                    received.extend(batch.iter().flat_map(|batch| batch.iter().map(check)));
                    received
                })
            })
            .collect();
        let other = tx.clone();
        let sender = thread::spawn(move || assert_eq!(send_while_open(&other, 1), MESSAGES.into()));
        let another = thread::spawn(move || assert_eq!(send_while_open(&tx, 0), MESSAGES.into()));
        let mut received = vec![receive_all(&mut rx)];
        sender.join().unwrap();
        another.join().unwrap();
        received.extend(cancelling.into_iter().map(|receiver| receiver.join().unwrap()));
        assert_all_received(&received, 2, MESSAGES);
        drop(rx);
        assert_all_released(&monitor);
    });
}

fn drop_by_policy(when_full: WhenFull) {
    let (tx, mut rx) = open(small(3).when_full(when_full).read_mode(any_mode()));
    let monitor = tx.monitor();
    let senders: Vec<_> = (0..2)
        .map(|sender| {
            let tx = tx.clone();
            thread::spawn(move || assert_eq!(send_while_open(&tx, sender), MESSAGES.into()))
        })
        .collect();
    drop(tx);
    let mut other = rx.clone();
    let receiver = thread::spawn(move || receive_all(&mut other));
    let received = [receive_all(&mut rx), receiver.join().unwrap()];
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    for (list, sender) in received.iter().flat_map(|list| [(list, 0), (list, 1)]) {
        assert!(list.iter().filter(|message| message.0 == sender).is_sorted(), "out of order: {list:?}");
    }
    let mut all = received.concat();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count, "a message was received twice");
    let stats = monitor.stats();
    assert_eq!(stats.sent_messages, 2 * u64::from(MESSAGES));
    assert_eq!(stats.received_messages, count as u64);
    drop(rx);
    assert_all_released(&monitor);
}

#[test]
fn drop_oldest_accounts_for_every_message() {
    explore("drop_oldest_accounts_for_every_message", || drop_by_policy(WhenFull::DropOldest));
}

#[test]
fn drop_newest_accounts_for_every_message() {
    explore("drop_newest_accounts_for_every_message", || drop_by_policy(WhenFull::DropNewest));
}
