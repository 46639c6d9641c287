//! Errors give the payload back and keep it to themselves; handles are what they must be.

use std::error::Error;
use std::fmt::Debug;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use crate::common::{ms, paused};
use futures::SinkExt;
use static_assertions::assert_impl_all;
use turbostream::{
    Batch, BuildError, Builder, Monitor, Receiver, RecvTimeoutError, SendError, SendTimeoutError, Sender,
    Stats, TryRecvError, TrySendError, WhenFull,
};

assert_impl_all!(Sender: Send, Sync, Unpin, Clone, futures::Sink<Bytes, Error = SendError<Bytes>>);
assert_impl_all!(Receiver: Send, Sync, Unpin, Clone, futures::Stream<Item = Bytes>, futures::stream::FusedStream);
assert_impl_all!(Batch: Send, Sync, Unpin, IntoIterator<Item = Bytes>);
assert_impl_all!(Monitor: Send, Sync, Unpin, Clone);
assert_impl_all!(Stats: Send, Sync, Unpin, Clone);
assert_impl_all!(Builder: Send);
assert_impl_all!(SendError<Vec<u8>>: Error, Send, Sync);
assert_impl_all!(TrySendError<&'static [u8]>: Error, Send, Sync);
assert_impl_all!(SendTimeoutError<Bytes>: Error, Send, Sync);
assert_impl_all!(TryRecvError: Error, Send, Sync, Copy, Eq);
assert_impl_all!(RecvTimeoutError: Error, Send, Sync, Copy, Eq);
assert_impl_all!(BuildError: Error, Send, Sync);

const SECRET: &str = "SECRET-PAYLOAD-OF-ONE-USER";

/// Neither text of an error shows the payload, as text or as a list of bytes.
fn keeps_quiet<E: Error + Debug>(error: &E) -> String {
    let bytes = format!("{:?}", SECRET.as_bytes());
    let shown = error.to_string();
    for text in [shown.clone(), format!("{error:?}"), format!("{error:#?}")] {
        assert!(
            !text.contains(SECRET) && !text.contains(&bytes[1..20]) && !text.contains("SECRET"),
            "{text}"
        );
        assert!(!text.is_empty());
    }
    shown
}

fn closed() -> Sender {
    turbostream::channel().0
}

/// A channel that refuses when full, filled.
fn full(when_full: WhenFull) -> (Sender, Receiver) {
    let (tx, rx) = turbostream::builder().max_bytes(64 << 10).when_full(when_full).build().expect("valid");
    while tx.try_send(vec![0; 500]).is_ok() {}
    while tx.try_send("").is_ok() {}
    (tx, rx)
}

fn strict() -> (Sender, Receiver) {
    turbostream::builder().max_message_bytes(16).build().expect("valid")
}

#[test]
fn closed_gives_the_payload_back() {
    paused(async {
        let tx = closed();
        let error = tx.try_send(SECRET).expect_err("closed");
        assert!(matches!(error, TrySendError::Closed(SECRET)));
        keeps_quiet(&error);

        let error = tx.send(SECRET.to_owned()).await.expect_err("closed");
        assert!(matches!(&error, SendError::Closed(p) if p == SECRET));
        keeps_quiet(&error);
        assert_eq!(error.into_inner(), SECRET);

        let error = tx.send_timeout(SECRET.as_bytes(), ms(1)).await.expect_err("closed");
        assert!(matches!(error, SendTimeoutError::Closed(_)));
        keeps_quiet(&error);
        assert_eq!(error.into_inner(), SECRET.as_bytes());

        let mut tx = tx;
        let error = SinkExt::send(&mut tx, Bytes::from_static(SECRET.as_bytes())).await.expect_err("closed");
        keeps_quiet(&error);
        assert!(matches!(error, SendError::Closed(p) if p == SECRET.as_bytes()));
    });
}

#[test]
fn full_gives_the_payload_back() {
    paused(async {
        let (tx, _rx) = full(WhenFull::Wait);
        let error = tx.try_send(SECRET.to_owned()).expect_err("full");
        assert!(matches!(&error, TrySendError::Full(p) if p == SECRET));
        keeps_quiet(&error);
        let error = tx.send_timeout(SECRET, ms(5)).await.expect_err("full");
        assert!(matches!(error, SendTimeoutError::Timeout(SECRET)));
        keeps_quiet(&error);
        let error = tx.send_timeout(SECRET, Duration::ZERO).await.expect_err("full");
        assert!(matches!(error, SendTimeoutError::Timeout(SECRET)), "a zero timeout is a try");

        let (tx, _rx) = full(WhenFull::Reject);
        let error = tx.send(SECRET.as_bytes()).await.expect_err("full");
        assert!(matches!(error, SendError::Full(p) if p == SECRET.as_bytes()));
        keeps_quiet(&error);
        let error = tx.send_timeout(SECRET, ms(5)).await.expect_err("full");
        assert!(matches!(error, SendTimeoutError::Full(SECRET)), "rejected, not timed out");
        keeps_quiet(&error);
        assert!(matches!(tx.try_send(SECRET), Err(TrySendError::Full(SECRET))));
    });
}

#[test]
fn too_large_gives_the_payload_back_and_names_the_sizes() {
    paused(async {
        let (tx, rx) = strict();
        let len = SECRET.len();
        let texts = [
            keeps_quiet(&tx.send(SECRET).await.expect_err("too large")),
            keeps_quiet(&tx.try_send(SECRET).expect_err("too large")),
            keeps_quiet(&tx.send_timeout(SECRET, ms(1)).await.expect_err("too large")),
        ];
        for text in texts {
            assert!(text.contains(&len.to_string()) && text.contains("16"), "{text}");
        }
        let error = tx.send(SECRET).await.expect_err("too large");
        assert!(matches!(error, SendError::TooLarge { payload: SECRET, max: 16, len: l, .. } if l == len));
        let error = tx.try_send(SECRET).expect_err("too large");
        assert!(matches!(error, TrySendError::TooLarge { payload: SECRET, max: 16, len: l, .. } if l == len));
        let error = tx.send_timeout(SECRET, ms(1)).await.expect_err("too large");
        assert!(
            matches!(error, SendTimeoutError::TooLarge { payload: SECRET, max: 16, len: l, .. } if l == len)
        );
        tx.send(&SECRET[..16]).await.expect("exactly the largest");
        assert_eq!(rx.recv().await.as_deref(), Some(&SECRET.as_bytes()[..16]));
    });
}

/// Not an equal payload but the very one: same memory, same capacity.
#[test]
fn into_inner_is_the_payload_itself() {
    paused(async {
        let (large, _rx) = strict();
        let (full, _rx) = full(WhenFull::Wait);
        for tx in [closed(), full, large] {
            let mut vec = Vec::with_capacity(100_000);
            vec.resize(50_000, 3);
            let (at, capacity) = (vec.as_ptr().addr(), vec.capacity());
            let mut vec = tx.try_send(vec).expect_err("refused").into_inner();
            vec = tx.send_timeout(vec, ms(1)).await.expect_err("refused").into_inner();
            assert_eq!((vec.as_ptr().addr(), vec.len(), vec.capacity()), (at, 50_000, capacity));

            let bytes = Bytes::from(vec);
            let back = tx.try_send(bytes.clone()).expect_err("refused").into_inner();
            assert_eq!((back.as_ptr().addr(), back.len()), (at, 50_000));
            let back = tx.send_timeout(&bytes[..], ms(1)).await.expect_err("refused").into_inner();
            assert_eq!((back.as_ptr().addr(), back.len()), (at, 50_000));

            let text = "s".repeat(40_000);
            let at = text.as_ptr().addr();
            let text = tx.try_send(text).expect_err("refused").into_inner();
            assert_eq!(text.as_ptr().addr(), at);
            let mut buffer = BytesMut::with_capacity(90_000);
            buffer.resize(40_000, 5);
            let (at, capacity) = (buffer.as_ptr().addr(), buffer.capacity());
            let back = tx.try_send(buffer).expect_err("refused").into_inner();
            assert_eq!((back.as_ptr().addr(), back.capacity()), (at, capacity));
        }
    });
}

#[test]
fn receive_errors_tell_empty_from_closed() {
    paused(async {
        let (tx, rx) = turbostream::channel();
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(rx.recv_timeout(ms(5)).await, Err(RecvTimeoutError::Timeout));
        drop(tx);
        assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
        assert_eq!(rx.recv_timeout(ms(5)).await, Err(RecvTimeoutError::Closed));
        let texts = [
            TryRecvError::Empty.to_string(),
            TryRecvError::Closed.to_string(),
            RecvTimeoutError::Timeout.to_string(),
            RecvTimeoutError::Closed.to_string(),
        ];
        assert!(texts.iter().all(|text| !text.is_empty()) && texts[0] != texts[1] && texts[2] != texts[3]);
    });
}
