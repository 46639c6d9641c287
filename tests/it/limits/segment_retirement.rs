//! A drained segment is retired when its room is needed, also after a sender ahead is cancelled.

use std::pin::pin;
use std::task::{Context, Waker};

use crate::common::{WakeCounter, paused};
use bytes::Bytes;
use turbostream::{MessageCount, ReadMode, Receiver, Sender, TrySendError};

/// Segments of four messages and 200 bytes, 360 bytes of memory each; longer payloads are external.
const SEGMENT: usize = 200 + 4 * 8 + 128;

fn tiny(max_bytes: usize) -> (Sender, Receiver) {
    turbostream::builder()
        .segment_bytes(200)
        .segment_messages(4)
        .max_bytes(max_bytes)
        .max_message_bytes(max_bytes - SEGMENT)
        .read_mode(ReadMode::ZeroCopy)
        .strategy(MessageCount(1000))
        .build()
        .expect("a valid configuration")
}

fn large(len: usize) -> Bytes {
    Bytes::from(vec![7; len])
}

/// The active segment is drained before it is sealed, so no receiver retires it: the next sender must.
#[test]
fn cancelled_sender_retires_a_drained_segment_for_the_next_sender() {
    paused(async {
        let (tx, mut rx) = tiny(2 * SEGMENT + 99);
        for _ in 0..4 {
            tx.try_send("lent").unwrap();
        }
        let lent = rx.recv_batch(4).await.unwrap();
        let noop = &mut Context::from_waker(Waker::noop());
        tx.try_send("read").unwrap();
        let mut first = Box::pin(tx.send(large(201)));
        assert!(first.as_mut().poll(noop).is_pending(), "both segments are in use and 99 bytes are free");
        assert_eq!(rx.try_recv().unwrap(), "read");
        assert!(matches!(tx.try_send(large(201)), Err(TrySendError::Full(_))));

        let (wakes, waker) = WakeCounter::new();
        let cx = &mut Context::from_waker(&waker);
        let mut second = pin!(tx.send("second"));
        let polled = second.as_mut().poll(cx);
        drop(first);
        assert!(
            polled.is_ready() || (wakes.take() > 0 && second.poll(cx).is_ready()),
            "no sender is ahead of it, and all messages were read"
        );
        drop(lent);
    });
}
