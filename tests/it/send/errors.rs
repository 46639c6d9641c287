//! Errors return an owned payload and never print it; handles and errors implement their traits.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Debug;
use std::time::Duration;

use crate::common::{ms, paused};
use bytes::{Bytes, BytesMut};
use futures::SinkExt;
use static_assertions::assert_impl_all;
use turbostream::{
    Batch, BuildError, Builder, Monitor, Receiver, RecvTimeoutError, SendError, SendTimeoutError, Sender,
    Stats, TryRecvError, TrySendError, WhenFull,
};

assert_impl_all!(Sender: Send, Sync, Unpin, Clone, futures::Sink<Bytes, Error = SendError<Bytes>>);
assert_impl_all!(Receiver: Send, Sync, Unpin, Clone, futures::Stream<Item = Bytes>, futures::stream::FusedStream);
assert_impl_all!(Batch: Send, Sync, Unpin, IntoIterator<Item = Bytes>);
assert_impl_all!(&'static Batch: IntoIterator<Item = &'static [u8]>);
assert_impl_all!(Monitor: Send, Sync, Unpin, Clone);
assert_impl_all!(Stats: Send, Sync, Unpin, Clone);
assert_impl_all!(Builder: Send);
assert_impl_all!(SendError<Vec<u8>>: Error, Send, Sync);
assert_impl_all!(TrySendError<()>: Error, Send, Sync);
assert_impl_all!(SendTimeoutError<Bytes>: Error, Send, Sync);
assert_impl_all!(TryRecvError: Error, Send, Sync, Copy, Eq);
assert_impl_all!(RecvTimeoutError: Error, Send, Sync, Copy, Eq);
assert_impl_all!(BuildError: Error, Send, Sync);

const SECRET: &str = "SECRET-PAYLOAD-OF-ONE-USER";

/// Asserts that `Display` and `Debug` of an error hide the payload. Returns the `Display` text.
fn assert_hides_payload<E: Error + Debug>(error: &E) -> String {
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

fn closed_sender() -> Sender {
    turbostream::channel().0
}

/// Returns a full channel with the given policy.
fn full_channel(when_full: WhenFull) -> (Sender, Receiver) {
    let (tx, rx) = turbostream::builder().max_bytes(64 << 10).when_full(when_full).build().expect("valid");
    while tx.try_send(vec![0; 500]).is_ok() {}
    while tx.try_send("").is_ok() {}
    (tx, rx)
}

fn max_16_bytes() -> (Sender, Receiver) {
    turbostream::builder().max_message_bytes(16).build().expect("valid")
}

#[test]
fn error_without_payload_keeps_its_cause() {
    async fn send_borrowed(tx: &Sender, text: &str) -> anyhow::Result<()> {
        let write = |buf: &mut [u8]| {
            buf[..text.len()].copy_from_slice(text.as_bytes());
            text.len()
        };
        tx.send_with(16, write).await.map_err(SendError::without_payload)?;
        Ok(())
    }
    paused(async {
        let (tx, mut rx) = max_16_bytes();
        send_borrowed(&tx, "in place").await.expect("open");
        assert_eq!(rx.recv().await.expect("open"), "in place");
        drop(rx);
        let error = send_borrowed(&tx, SECRET).await.expect_err("closed");
        assert_eq!(error.downcast_ref(), Some(&SendError::Closed(())));

        let len = |payload: String| payload.len();
        assert_eq!(SendError::Full(SECRET.to_owned()).map(len), SendError::Full(SECRET.len()));
        let (tx, _rx) = max_16_bytes();
        let long = || SECRET.to_owned();
        let (payload, max) = (SECRET.len(), 16);
        let error = tx.send(long()).await.expect_err("too long").map(len);
        assert_eq!(error, SendError::TooLarge { payload, len: payload, max });
        let error = tx.try_send(long()).expect_err("too long").map(len);
        assert_eq!(error, TrySendError::TooLarge { payload, len: payload, max });
        let error = tx.send_timeout(long(), ms(1)).await.expect_err("too long").without_payload();
        assert_eq!(error, SendTimeoutError::TooLarge { payload: (), len: payload, max });
        assert_eq!(TrySendError::Full(long()).without_payload(), TrySendError::Full(()));
        assert_eq!(SendTimeoutError::Timeout(long()).without_payload(), SendTimeoutError::Timeout(()));
    });
}

#[test]
fn closed_error_returns_the_payload() {
    paused(async {
        let tx = closed_sender();
        let error = tx.try_send(SECRET).expect_err("closed");
        assert!(matches!(error, TrySendError::Closed(())));
        assert_hides_payload(&error);

        let error = tx.send(SECRET.to_owned()).await.expect_err("closed");
        assert!(matches!(&error, SendError::Closed(p) if p == SECRET));
        assert_hides_payload(&error);
        assert_eq!(error.into_inner(), SECRET);

        let error = tx.send_timeout(SECRET.as_bytes().to_vec(), ms(1)).await.expect_err("closed");
        assert!(matches!(error, SendTimeoutError::Closed(_)));
        assert_hides_payload(&error);
        assert_eq!(error.into_inner(), SECRET.as_bytes());

        let mut tx = tx;
        let error = SinkExt::send(&mut tx, Bytes::from_static(SECRET.as_bytes())).await.expect_err("closed");
        assert_hides_payload(&error);
        assert!(matches!(error, SendError::Closed(p) if p.is_empty()), "the item was not taken");
        let error = tx.start_send_unpin(Bytes::from_static(SECRET.as_bytes())).expect_err("closed");
        assert_hides_payload(&error);
        assert!(matches!(error, SendError::Closed(p) if p == SECRET.as_bytes()));
    });
}

#[test]
fn full_error_returns_the_payload() {
    paused(async {
        let (tx, _rx) = full_channel(WhenFull::Wait);
        let error = tx.try_send(SECRET.to_owned()).expect_err("full");
        assert!(matches!(&error, TrySendError::Full(p) if p == SECRET));
        assert_hides_payload(&error);
        let error = tx.send_timeout(SECRET, ms(5)).await.expect_err("full");
        assert!(matches!(error, SendTimeoutError::Timeout(())));
        assert_hides_payload(&error);
        let error = tx.send_timeout(SECRET, Duration::ZERO).await.expect_err("full");
        assert!(matches!(error, SendTimeoutError::Timeout(())), "a zero timeout makes one attempt");

        let (tx, _rx) = full_channel(WhenFull::Reject);
        let error = tx.send(SECRET.as_bytes().to_vec()).await.expect_err("full");
        assert!(matches!(&error, SendError::Full(p) if p == SECRET.as_bytes()));
        assert_hides_payload(&error);
        let error = tx.send_timeout(SECRET, ms(5)).await.expect_err("full");
        assert!(matches!(error, SendTimeoutError::Full(())), "rejected, not timed out");
        assert_hides_payload(&error);
        assert!(matches!(tx.try_send(SECRET), Err(TrySendError::Full(()))));
    });
}

#[test]
fn too_large_error_returns_the_payload_and_names_the_sizes() {
    paused(async {
        let (tx, mut rx) = max_16_bytes();
        let len = SECRET.len();
        let texts = [
            assert_hides_payload(&tx.send(SECRET).await.expect_err("too large")),
            assert_hides_payload(&tx.try_send(SECRET).expect_err("too large")),
            assert_hides_payload(&tx.send_timeout(SECRET, ms(1)).await.expect_err("too large")),
        ];
        for text in texts {
            assert!(text.contains(&len.to_string()) && text.contains("16"), "{text}");
        }
        let error = tx.send(SECRET).await.expect_err("too large");
        assert!(matches!(error, SendError::TooLarge { payload: (), max: 16, len: l, .. } if l == len));
        let error = tx.try_send(SECRET).expect_err("too large");
        assert!(matches!(error, TrySendError::TooLarge { payload: (), max: 16, len: l, .. } if l == len));
        let error = tx.send_timeout(SECRET, ms(1)).await.expect_err("too large");
        assert!(matches!(error, SendTimeoutError::TooLarge { payload: (), max: 16, len: l, .. } if l == len));
        tx.send(&SECRET[..16]).await.expect("exactly the maximum length");
        assert_eq!(rx.recv().await.as_deref(), Some(&SECRET.as_bytes()[..16]));
    });
}

/// The returned payload has the same address and capacity, not just equal bytes.
#[test]
fn into_inner_returns_the_original_allocation() {
    paused(async {
        let (small, _rx) = max_16_bytes();
        let (full, _rx) = full_channel(WhenFull::Wait);
        for tx in [closed_sender(), full, small] {
            let mut vec = Vec::with_capacity(100_000);
            vec.resize(50_000, 3);
            let (at, capacity) = (vec.as_ptr().addr(), vec.capacity());
            let mut vec = tx.try_send(vec).expect_err("rejected").into_inner();
            vec = tx.send_timeout(vec, ms(1)).await.expect_err("rejected").into_inner();
            assert_eq!((vec.as_ptr().addr(), vec.len(), vec.capacity()), (at, 50_000, capacity));

            let bytes = Bytes::from(vec);
            let back = tx.try_send(bytes.clone()).expect_err("rejected").into_inner();
            assert_eq!((back.as_ptr().addr(), back.len()), (at, 50_000));

            let text = "s".repeat(40_000);
            let at = text.as_ptr().addr();
            let text = tx.try_send(text).expect_err("rejected").into_inner();
            assert_eq!(text.as_ptr().addr(), at);
            let mut buffer = BytesMut::with_capacity(90_000);
            buffer.resize(40_000, 5);
            let (at, capacity) = (buffer.as_ptr().addr(), buffer.capacity());
            let back = tx.try_send(buffer).expect_err("rejected").into_inner();
            assert_eq!((back.as_ptr().addr(), back.capacity()), (at, capacity));
        }
    });
}

#[test]
fn recv_errors_distinguish_empty_from_closed() {
    paused(async {
        let (tx, mut rx) = turbostream::channel();
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

#[test]
fn send_errors_compare_and_clone_with_their_payloads() {
    paused(async {
        let closed = closed_sender().send(vec![1]).await.expect_err("closed");
        assert_eq!(closed, SendError::Closed(vec![1]));
        assert_ne!(closed.clone(), SendError::Closed(vec![2]));
        let (tx, _rx) = max_16_bytes();
        let too_large = tx.try_send(vec![3; 17]).expect_err("too long");
        assert_eq!(too_large.clone(), too_large);
        let too_large = tx.send_timeout(vec![3; 17], ms(1)).await.expect_err("too long");
        assert_ne!(too_large, SendTimeoutError::Closed(vec![3; 17]));
    });
}

/// Sends a line that lives no longer than the call, in each way, with `?` in a function whose error type is `E`.
async fn send_borrowed<E>(tx: &Sender, way: usize) -> Result<(), E>
where
    E: From<SendError<()>> + From<TrySendError<()>> + From<SendTimeoutError<()>>,
{
    let text = String::from("lives in this function");
    let (line, bytes) = (text.as_str(), Bytes::from(text.clone()));
    let array = *b"four";
    match way {
        0 => tx.send(line).await?,
        1 => tx.send(line.as_bytes()).await?,
        2 => tx.send(&bytes).await?,
        3 => tx.send(&array).await?,
        4 => tx.send(&text).await?,
        5 => tx.send(&line.as_bytes().to_vec()).await?,
        6 => tx.try_send(line)?,
        7 => tx.send_timeout(line, ms(1)).await?,
        _ => return Ok(()),
    }
    Ok(())
}

#[test]
fn borrowed_payloads_work_with_the_question_mark() {
    paused(async {
        let (tx, mut rx) = turbostream::channel();
        for way in 0..8 {
            send_borrowed::<anyhow::Error>(&tx, way).await.expect("open");
            send_borrowed::<Box<dyn Error + Send + Sync>>(&tx, way).await.expect("open");
            assert_eq!(rx.try_recv_batch(9).expect("two messages").len(), 2);
        }
        rx.close();
        for way in 0..8 {
            let error = send_borrowed::<anyhow::Error>(&tx, way).await.expect_err("closed");
            assert_eq!(error.to_string(), "the channel is closed");
            assert!(send_borrowed::<Box<dyn Error>>(&tx, way).await.is_err());
        }
    });
}

/// An owned payload comes back, and a `Cow` in its owned form.
#[test]
fn refused_send_returns_what_is_owned() {
    paused(async {
        let tx = closed_sender();
        let text = String::from("payload");
        let borrowed = || Cow::Borrowed(text.as_str());
        assert_eq!(tx.try_send(text.clone()), Err(TrySendError::Closed(text.clone())));
        assert_eq!(
            tx.try_send(text.clone().into_boxed_str()),
            Err(TrySendError::Closed(text.as_str().into()))
        );
        assert_eq!(tx.try_send(borrowed()), Err(TrySendError::Closed(text.clone())));
        assert_eq!(tx.send(borrowed()).await, Err(SendError::Closed(text.clone())));
        let bytes: Cow<'_, [u8]> = Cow::Owned(vec![1, 2]);
        assert_eq!(tx.try_send(bytes), Err(TrySendError::Closed(vec![1, 2])));
        assert_eq!(tx.try_send([1, 2]), Err(TrySendError::Closed([1, 2])));
        assert_eq!(tx.try_send(&[1, 2]), Err(TrySendError::Closed(())));
    });
}
