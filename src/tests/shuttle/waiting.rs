//! Senders that wait, give up, or keep a future that they do not poll.

use super::*;

const MESSAGES: u8 = 6;

/// The threads open one segment at a time, and all messages fit: none is refused, also while another thread opens one.
#[test]
fn concurrent_try_sends_beside_room_are_accepted() {
    explore("concurrent_try_sends_beside_room_are_accepted", || {
        let (tx, rx) = open(small(2));
        let senders: Vec<_> = (0..3)
            .map(|number| {
                let tx = tx.clone();
                thread::spawn(move || tx.try_send([number; 5]).unwrap())
            })
            .collect();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        assert_eq!(rx.len(), 3);
    });
}

/// Short and long messages; a send may be cancelled, or kept and polled no more before the others are sent.
fn send_some(tx: &Sender, sender: u8) -> usize {
    let mut sent = 0;
    let mut unpolled: Option<std::pin::Pin<Box<dyn Future<Output = bool>>>> = None;
    for number in 0..MESSAGES {
        let message = message(sender, number);
        match thread_rng().gen_range(0..4) {
            0 => sent += usize::from(poll_or_cancel(2, tx.send(message)).is_some()),
            1 if unpolled.is_none() && message.len() < SEGMENT_BYTES => {
                let tx = tx.clone();
                let mut send = Box::pin(async move { tx.send(message).await.is_ok() });
                match send.as_mut().poll(&mut Context::from_waker(&noop_waker())) {
                    Poll::Ready(is_sent) => sent += usize::from(is_sent),
                    Poll::Pending => unpolled = Some(send),
                }
            }
            2 => sent += block_on(tx.send_many([message.clone(), message])).map_err(drop).unwrap(),
            _ => {
                block_on(tx.send(message)).unwrap();
                sent += 1;
            }
        }
    }
    sent + unpolled.map_or(0, |send| usize::from(block_on(send)))
}

/// Each of three senders keeps at most one short message unpolled: two segments of four.
#[test]
fn unpolled_and_cancelled_sends_keep_no_sender_asleep() {
    explore("unpolled_and_cancelled_sends_keep_no_sender_asleep", || {
        let (tx, mut rx) = open(small(4).read_mode(any_mode()).on_demand(thread_rng().gen_bool(0.7)));
        let monitor = tx.monitor();
        let senders: Vec<_> = (0..3)
            .map(|sender| {
                let tx = tx.clone();
                thread::spawn(move || send_some(&tx, sender))
            })
            .collect();
        let receiver = thread::spawn(move || {
            let (mut received, mut kept) = (0, Vec::new());
            loop {
                let message = match poll_or_cancel(3, rx.recv()) {
                    Some(message) => message,
                    None => {
                        kept.clear();
                        block_on(rx.recv())
                    }
                };
                let Some(message) = message else { break };
                received += 1;
                kept.truncate(1);
                if thread_rng().gen_bool(0.5) {
                    kept.push(message);
                }
            }
            received
        });
        drop(tx);
        let sent: usize = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
        assert_eq!(receiver.join().unwrap(), sent);
        assert_all_released(&monitor);
    });
}
