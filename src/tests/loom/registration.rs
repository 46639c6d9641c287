//! Who begins to wait as the channel closes, and who waits by being polled.

use futures::SinkExt;
use tokio::io::AsyncWrite;

use super::*;
use crate::sync::{AtomicBool, Ordering};
use crate::wait::wait_list::WaitList;

/// A channel with two messages and no room for another.
fn full() -> (Sender, Receiver) {
    let (tx, rx) = open(small(2).segment_messages(1).max_bytes(2 * 200));
    send(&tx, "1");
    send(&tx, "2");
    (tx, rx)
}

/// Two threads that run `wait` each, while this one closes the channel.
fn two_wait((tx, rx): (Sender, Receiver), wait: impl Fn(Sender, Receiver) + Copy + Send + 'static) {
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
        let recv = |_: Sender, rx: Receiver| assert_eq!(block_on(rx.recv()), None);
        two_wait(open(small(2)), recv);
    });
}

#[test]
fn close_wakes_two_registering_senders() {
    explore_within(1, "close_wakes_two_registering_senders", || {
        let refused = |tx: Sender, _: Receiver| {
            let result = block_on(tx.send("3"));
            assert!(matches!(result, Err(crate::SendError::Closed("3"))), "{result:?}");
        };
        two_wait(full(), refused);
    });
}

#[test]
fn wake_all_reaches_two_registering_waiters() {
    explore("wake_all_reaches_two_registering_waiters", || {
        let list = Arc::new(WaitList::new());
        let come = Arc::new(AtomicBool::new(false));
        let [one, two] = [(); 2].map(|()| {
            let (list, come) = (Arc::clone(&list), Arc::clone(&come));
            thread::spawn(move || block_on(list.wait_until(|_| come.load(Ordering::Relaxed).then_some(()))))
        });
        make_way();
        come.store(true, Ordering::Relaxed);
        list.wake_all();
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
        let (tx, rx) = full();
        let (mut waiting, mut leaving) = (tx.clone().into_writer(), tx.into_writer());
        let other = thread::spawn(move || {
            assert_eq!(block_on(std::future::poll_fn(|cx| write(&mut waiting, cx))), 1);
        });
        let polled = write(&mut leaving, &mut Context::from_waker(&noop_waker()));
        assert_eq!(rx.try_recv().unwrap(), "1");
        drop(leaving);
        if polled.is_ready() {
            assert_eq!(rx.try_recv().unwrap(), "2");
        }
        other.join().unwrap();
        assert_eq!(drain(&rx).len(), 2);
    });
}

#[test]
fn dropped_sink_passes_wake_to_waiting_sink() {
    explore("dropped_sink_passes_wake_to_waiting_sink", || {
        let (tx, rx) = full();
        let (mut waiting, mut leaving) = (tx.clone(), tx);
        // By its name, as a `Sender` has a `send` of its own.
        let other =
            thread::spawn(move || block_on(SinkExt::send(&mut waiting, Bytes::from_static(b"3"))).unwrap());
        let polled = {
            let mut sending = pin!(SinkExt::send(&mut leaving, Bytes::from_static(b"4")));
            sending.as_mut().poll(&mut Context::from_waker(&noop_waker()))
        };
        assert_eq!(rx.try_recv().unwrap(), "1");
        // What it has taken is lost with it, unless it got in.
        drop(leaving);
        if polled.is_ready() {
            assert_eq!(rx.try_recv().unwrap(), "2");
        }
        other.join().unwrap();
        assert_eq!(drain(&rx).len(), 2);
    });
}
