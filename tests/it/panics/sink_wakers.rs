//! A sink whose waker panics when it is dropped keeps its message and its place.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use crate::common::{WakeCounter, paused};
use bytes::Bytes;
use futures::SinkExt;
use turbostream::{MessageCount, ReadMode, Receiver, Sender};

/// Two segments of four messages and 200 bytes, and 420 bytes for external payloads.
fn small() -> (Sender, Receiver) {
    let one = 200 + 4 * 8 + 128;
    turbostream::builder()
        .segment_bytes(200)
        .segment_messages(4)
        .max_bytes(2 * one + 420)
        .max_message_bytes(one + 420)
        .read_mode(ReadMode::ZeroCopy)
        .strategy(MessageCount(1000))
        .build()
        .expect("valid")
}

/// An external payload.
fn large(len: usize) -> Bytes {
    Bytes::from(vec![7; len])
}

/// A waker that panics when its last reference is dropped.
struct PanicsOnDrop;

impl Wake for PanicsOnDrop {
    fn wake(self: Arc<Self>) {}
}

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

#[test]
fn sink_whose_waker_panics_keeps_its_message_and_its_place() {
    paused(async {
        let (tx, mut rx) = small();
        tx.try_send(large(201)).unwrap();
        let mut sink = tx.clone();
        sink.start_send_unpin(large(600)).unwrap();
        let panicking = Waker::from(Arc::new(PanicsOnDrop));
        assert!(sink.poll_ready_unpin(&mut Context::from_waker(&panicking)).is_pending());
        drop(panicking); // the channel holds the last reference

        let (wakes, waker) = WakeCounter::new();
        let cx = &mut Context::from_waker(&waker);
        let mut second = pin!(tx.send(large(210)));
        assert!(second.as_mut().poll(cx).is_pending(), "there is room, but the sink is ahead in the queue");
        let noop = &mut Context::from_waker(Waker::noop());
        assert!(sink.poll_ready_unpin(noop).is_pending(), "the waker is replaced, and its panic is caught");
        assert_eq!(tx.monitor().stats().panics, 1);
        assert_eq!((wakes.take(), second.as_mut().poll(cx).is_pending()), (0, true));

        assert_eq!(rx.try_recv().unwrap().len(), 201);
        assert!(sink.poll_ready_unpin(noop).is_ready());
        assert_eq!(rx.try_recv().unwrap().len(), 600);
        assert!(wakes.take() > 0 && second.poll(cx).is_ready());
    });
}
