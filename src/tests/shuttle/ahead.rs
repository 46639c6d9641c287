//! Receivers that take messages ahead, are cloned and dropped. A segment holds six messages.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;

const SENDERS: u8 = 2;
const MESSAGES: u8 = 12;

fn wide() -> Builder {
    let one = SEGMENT_BYTES + 6 * crate::queue::pool::ENTRY_BYTES + crate::queue::pool::HEADER_BYTES;
    let builder = builder().segment_bytes(SEGMENT_BYTES).segment_messages(6).max_bytes(6 * one + 200);
    builder.max_message_bytes(128).prefetch(thread_rng().gen_range(1..3)).read_mode(any_mode())
}

/// Receives up to `limit` messages, choosing a method that takes ahead or one that gives back.
fn receive_some(rx: &mut Receiver, limit: usize, received: &mut Vec<(u8, u8)>) -> bool {
    for _ in 0..limit {
        rx.set_read_mode(any_mode());
        let message = match thread_rng().gen_range(0..5) {
            0 => block_on(rx.recv_ref()).map(|message| check(&message)),
            1 => match rx.try_recv_ref() {
                Ok(message) => Some(check(&message)),
                Err(_) => continue,
            },
            2 => block_on(rx.recv_batch(1)).map(|batch| check(batch.get(0).unwrap())),
            _ => block_on(rx.recv()).map(|message| check(&message)),
        };
        match message {
            Some(message) => received.push(message),
            None => return false,
        }
    }
    true
}

fn start_senders(tx: Sender) -> Vec<thread::JoinHandle<()>> {
    let start = |sender| {
        let tx = tx.clone();
        thread::spawn(move || {
            (0..MESSAGES).for_each(|number| block_on(tx.send(message(sender, number))).unwrap());
        })
    };
    (0..SENDERS).map(start).collect()
}

/// Without clones and drops, each handle gets each sender's messages in order.
#[test]
fn handles_that_take_ahead_deliver_in_order() {
    explore("handles_that_take_ahead_deliver_in_order", || {
        let (tx, mut rx) = open(wide());
        let monitor = tx.monitor();
        let senders = start_senders(tx);
        let mut other = rx.clone();
        let all = |rx: &mut Receiver| {
            let mut received = Vec::new();
            while receive_some(rx, 4, &mut received) {}
            received
        };
        let receiver = thread::spawn(move || {
            let received = all(&mut other);
            // What the other handle has taken ahead is its own, also at the end of the channel.
            (received, other)
        });
        let mine = all(&mut rx);
        let (others, other) = receiver.join().unwrap();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        // A batch gives back what others have passed already: in order only where nothing was given back.
        let mut sorted = [mine, others].concat();
        sorted.sort_unstable();
        assert_all_received(&[sorted], SENDERS, MESSAGES);
        drop((rx, other));
        assert_all_released(&monitor);
    });
}

/// Handles come and go while messages lie ahead of them, and a drainer waits.
#[test]
fn clones_and_drops_deliver_exactly_once() {
    explore("clones_and_drops_deliver_exactly_once", || {
        let (tx, mut rx) = open(wide());
        let monitor = tx.monitor();
        let drainer = {
            let tx = tx.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    let sent = tx.monitor().stats().sent_messages;
                    block_on(tx.drained()).unwrap();
                    let stats = tx.monitor().stats();
                    assert!(stats.received_messages >= sent, "{sent} {stats:?}");
                }
            })
        };
        let senders = start_senders(tx);
        let ended = std::sync::Arc::new(AtomicUsize::new(0));
        let start = |mut rx: Receiver| {
            let ended = std::sync::Arc::clone(&ended);
            thread::spawn(move || {
                let mut received = Vec::new();
                while receive_some(&mut rx, 3, &mut received) {
                    let clone = rx.clone();
                    if thread_rng().gen_bool(0.5) {
                        // The clone goes on, and what the other one takes next is given back by its drop.
                        let mut old = std::mem::replace(&mut rx, clone);
                        receive_ready(&mut old, &mut received);
                    }
                }
                ended.fetch_add(1, Relaxed);
                received
            })
        };
        let receivers = [start(rx.clone()), start(rx.clone())];
        let mut received = Vec::new();
        receive_ready(&mut rx, &mut received);
        drop(rx);
        received.extend(receivers.into_iter().flat_map(|receiver| receiver.join().unwrap()));
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        drainer.join().unwrap();
        received.sort_unstable();
        assert_all_received(&[received], SENDERS, MESSAGES);
        assert_all_released(&monitor);
    });
}

/// Receives two messages, if they are there.
fn receive_ready(rx: &mut Receiver, received: &mut Vec<(u8, u8)>) {
    received.extend((0..2).filter_map(|_| rx.try_recv().ok()).map(|message| check(&message)));
}
