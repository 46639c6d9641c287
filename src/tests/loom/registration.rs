//! Waiters that register while the channel closes, and waiters that are polled by hand.

use futures::SinkExt;
use tokio::io::AsyncWrite;

use super::*;
use crate::sync::{AtomicBool, Ordering};
use crate::wait::wait_list::WaitList;

/// A channel with two messages and no room for a third.
fn full() -> (Sender, Receiver) {
    let (tx, rx) = open(small(2).segment_messages(1).max_bytes(2 * 200));
    send(&tx, "1");
    send(&tx, "2");
    (tx, rx)
}

/// Runs `wait` on two threads while this thread closes the channel.
fn close_while_two_wait(
    (tx, rx): (Sender, Receiver),
    wait: impl Fn(Sender, Receiver) + Copy + Send + 'static,
) {
    let [one, two] = [(); 2].map(|()| {
        let (tx, rx) = (tx.clone(), rx.clone());
        thread::spawn(move || wait(tx, rx))
    });
    rx.close();
    one.join().unwrap();
    two.join().unwrap();
}

#[test]
fn close_wakes_two_registering_receivers() {
    explore_within(1, "close_wakes_two_registering_receivers", || {
        let recv = |_: Sender, mut rx: Receiver| assert_eq!(block_on(rx.recv()), None);
        close_while_two_wait(open(small(2)), recv);
    });
}

#[test]
fn close_wakes_two_registering_senders() {
    explore_within(1, "close_wakes_two_registering_senders", || {
        let refused = |tx: Sender, _: Receiver| {
            let result = block_on(tx.send("3"));
            assert!(matches!(result, Err(crate::SendError::Closed(()))), "{result:?}");
        };
        close_while_two_wait(full(), refused);
    });
}

#[test]
fn wake_reaches_two_registering_waiters() {
    explore("wake_reaches_two_registering_waiters", || {
        let list = Arc::new(WaitList::new());
        let is_set = Arc::new(AtomicBool::new(false));
        let [one, two] = [(); 2].map(|()| {
            let (list, is_set) = (Arc::clone(&list), Arc::clone(&is_set));
            thread::spawn(move || block_on(list.wait_until(|_| is_set.load(Ordering::Relaxed).then_some(()))))
        });
        yield_to_others();
        is_set.store(true, Ordering::Relaxed);
        list.wake();
        one.join().unwrap();
        two.join().unwrap();
        assert_eq!(list.waiting(), 0);
    });
}

fn write(writer: &mut crate::Writer, cx: &mut Context<'_>) -> Poll<usize> {
    std::pin::Pin::new(writer).poll_write(cx, b"3").map(Result::unwrap)
}

#[test]
fn dropped_writer_passes_wake_to_waiting_writer() {
    explore("dropped_writer_passes_wake_to_waiting_writer", || {
        let (tx, mut rx) = full();
        let (mut waiting, mut cancelled) = (tx.clone().into_writer(), tx.into_writer());
        let other = thread::spawn(move || {
            assert_eq!(block_on(std::future::poll_fn(|cx| write(&mut waiting, cx))), 1);
        });
        let polled = write(&mut cancelled, &mut Context::from_waker(&noop_waker()));
        assert_eq!(rx.try_recv().unwrap(), "1");
        drop(cancelled);
        if polled.is_ready() {
            assert_eq!(rx.try_recv().unwrap(), "2");
        }
        other.join().unwrap();
        assert_eq!(drain(&mut rx).len(), 2);
    });
}

#[test]
fn dropped_sink_passes_wake_to_waiting_sink() {
    explore("dropped_sink_passes_wake_to_waiting_sink", || {
        let (tx, mut rx) = full();
        let (mut waiting, mut cancelled) = (tx.clone(), tx);
        // In full, because `Sender` has an inherent `send`.
        let other =
            thread::spawn(move || block_on(SinkExt::send(&mut waiting, Bytes::from_static(b"3"))).unwrap());
        let polled = {
            let mut sending = pin!(SinkExt::send(&mut cancelled, Bytes::from_static(b"4")));
            sending.as_mut().poll(&mut Context::from_waker(&noop_waker()))
        };
        assert_eq!(rx.try_recv().unwrap(), "1");
        // Drops the message that the sink holds, unless it was sent.
        drop(cancelled);
        if polled.is_ready() {
            assert_eq!(rx.try_recv().unwrap(), "2");
        }
        other.join().unwrap();
        assert_eq!(drain(&mut rx).len(), 2);
    });
}
