//! Messages from several senders to several receivers.

use super::*;

const SENDERS: u8 = 3;
const MESSAGES: u8 = 7;

/// Runs `send` on a thread for each sender, and receives all messages on two threads.
fn deliver(builder: Builder, send: impl Fn(&Sender, u8) + Clone + Send + 'static) {
    let (tx, mut rx) = open(builder.read_mode(any_mode()));
    let monitor = tx.monitor();
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let (tx, send) = (tx.clone(), send.clone());
            thread::spawn(move || send(&tx, sender))
        })
        .collect();
    drop(tx);
    let mut other = rx.clone();
    let receiver = thread::spawn(move || receive_all(&mut other));
    let received = [receive_all(&mut rx), receiver.join().unwrap()];
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    assert_all_received(&received, SENDERS, MESSAGES);
    drop(rx);
    assert_all_released(&monitor);
}

#[test]
fn send_delivers_in_order() {
    explore("send_delivers_in_order", || {
        deliver(small(2), |tx, sender| {
            (0..MESSAGES).for_each(|number| block_on(tx.send(message(sender, number))).unwrap());
        });
    });
}

#[test]
fn send_without_on_demand_delivers_in_order() {
    explore("send_without_on_demand_delivers_in_order", || {
        deliver(small(3).on_demand(false), |tx, sender| {
            for number in 0..MESSAGES {
                block_on(tx.send(message(sender, number))).unwrap();
                if number % 3 == 0 {
                    tx.switch();
                }
            }
        });
    });
}

#[test]
fn send_many_delivers_in_order() {
    explore("send_many_delivers_in_order", || {
        deliver(small(2), |tx, sender| {
            let messages = (0..MESSAGES).map(|number| message(sender, number));
            assert_eq!(block_on(tx.send_many(messages)).map_err(drop), Ok(usize::from(MESSAGES)));
        });
    });
}

#[test]
fn send_with_delivers_in_order() {
    explore("send_with_delivers_in_order", || {
        deliver(small(2), |tx, sender| {
            for number in 0..MESSAGES {
                let message = message(sender, number);
                let write = |buf: &mut [u8]| {
                    buf[..message.len()].copy_from_slice(&message);
                    message.len()
                };
                block_on(tx.send_with(message.len() + 3, write)).map_err(drop).unwrap();
            }
        });
    });
}

#[test]
fn cancelled_and_retried_sends_deliver_exactly_once() {
    explore("cancelled_and_retried_sends_deliver_exactly_once", || {
        deliver(small(2), |tx, sender| {
            for number in 0..MESSAGES {
                let mut patience = thread_rng().gen_range(1..4);
                while poll_or_cancel(patience, tx.send(message(sender, number))).is_none() {
                    patience += 1;
                    if patience > 6 {
                        block_on(tx.send(message(sender, number))).unwrap();
                        break;
                    }
                }
            }
        });
    });
}

#[test]
fn send_waits_for_retained_messages() {
    explore("send_waits_for_retained_messages", || {
        let (tx, mut rx) = open(small(3).read_mode(ReadMode::ZeroCopy));
        let monitor = tx.monitor();
        let sender = thread::spawn(move || {
            (0..MESSAGES).for_each(|number| block_on(tx.send(message(0, number))).unwrap());
        });
        let (keep, kept) = shuttle::sync::mpsc::channel::<Bytes>();
        // The keeper drops the messages, and the sender waits for their memory.
        let keeper = thread::spawn(move || kept.iter().map(|message| check(&message)).collect::<Vec<_>>());
        while let Some(message) = block_on(rx.recv()) {
            keep.send(message).unwrap();
        }
        drop(keep);
        let received = keeper.join().unwrap();
        sender.join().unwrap();
        assert_all_received(&[received], 1, MESSAGES);
        drop(rx);
        assert_all_released(&monitor);
    });
}

#[test]
fn drained_during_sends_waits_for_prior_messages() {
    explore("drained_during_sends_waits_for_prior_messages", || {
        deliver(small(3), |tx, sender| {
            for number in 0..MESSAGES {
                block_on(tx.send(message(sender, number))).unwrap();
                if number == 3 {
                    let accepted = tx.monitor().stats().sent_messages;
                    if poll_or_cancel(sender.into(), tx.drained()).is_none() {
                        block_on(tx.drained()).unwrap();
                    }
                    assert!(tx.monitor().stats().received_messages >= accepted);
                }
            }
        });
    });
}

/// Sinks that do not wait for room park their items. Every second handle is dropped at once.
#[test]
fn sinks_deliver_every_item_in_order() {
    use futures::SinkExt;
    explore("sinks_deliver_every_item_in_order", || {
        deliver(small(2), |tx, sender| {
            let mut sink = tx.clone();
            for number in 0..MESSAGES {
                let item = message(sender, number);
                if thread_rng().gen_bool(0.5) {
                    block_on(sink.feed(item)).unwrap();
                    continue;
                }
                // Without `poll_ready`: an item may be parked already.
                let mut item = Some(item);
                while let Some(next) = item.take() {
                    if let Err(error) = sink.start_send_unpin(next) {
                        item = Some(error.into_inner());
                        block_on(futures::SinkExt::<Bytes>::flush(&mut sink)).unwrap();
                    }
                }
            }
        });
    });
}
