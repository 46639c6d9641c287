//! `recv_ref` and `try_recv_ref`: messages that a receiver lends.

use std::pin::pin;
use std::task::{Context, Waker};

use bytes::Bytes;
use futures::FutureExt;
use turbostream::{ReadMode, Receiver, TryRecvError, builder};

use crate::common::{current, ms, paused};

/// Message `number` of a test: empty, short, longer than Safe mode copies, of another segment, or external.
fn message(number: usize) -> Bytes {
    let len = [0, 1, 1023, 1024, 33_000, 5, 31_000, 40_000][number % 8];
    Bytes::from(vec![number as u8; len])
}

const MESSAGES: usize = 200;

async fn sent(mode: ReadMode) -> Receiver {
    let (tx, rx) = builder().read_mode(mode).build().unwrap();
    for number in 0..MESSAGES {
        match number % 3 {
            0 => tx.send(message(number)).await.unwrap(),
            1 => tx.send(&message(number)[..]).await.unwrap(),
            _ => {
                let message = message(number);
                let write = |buf: &mut [u8]| {
                    buf[..message.len()].copy_from_slice(&message);
                    message.len()
                };
                tx.send_with(message.len() + 9, write).await.map_err(drop).unwrap();
            }
        }
    }
    rx
}

#[test]
fn lends_every_message_in_order() {
    current(async {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let mut rx = sent(mode).await;
            for number in 0..MESSAGES {
                assert_eq!(*rx.recv_ref().await.unwrap(), *message(number));
            }
            assert!(rx.recv_ref().await.is_none());
            let mut rx = sent(mode).await;
            for number in 0..MESSAGES {
                assert_eq!(*rx.try_recv_ref().unwrap(), *message(number));
            }
            assert_eq!(rx.try_recv_ref().unwrap_err(), TryRecvError::Closed);
        }
    });
}

#[test]
fn into_bytes_keeps_the_message() {
    current(async {
        let mut rx = sent(ReadMode::Safe).await;
        let mut kept = Vec::new();
        while let Some(message) = rx.recv_ref().await {
            kept.push(message.into_bytes());
        }
        drop(rx);
        assert!(kept.iter().eq(&(0..MESSAGES).map(message).collect::<Vec<_>>()));
    });
}

#[test]
fn try_recv_ref_tells_empty_from_closed() {
    current(async {
        let (tx, mut rx) = turbostream::channel();
        assert_eq!(rx.try_recv_ref().unwrap_err(), TryRecvError::Empty);
        tx.send("one").await.unwrap();
        drop(tx);
        assert_eq!(*rx.try_recv_ref().unwrap(), *b"one");
        assert_eq!(rx.try_recv_ref().unwrap_err(), TryRecvError::Closed);
    });
}

#[test]
fn cancelled_recv_ref_takes_no_message() {
    current(async {
        let (tx, mut rx) = turbostream::channel();
        for number in 0..100_u8 {
            {
                let mut recv = pin!(rx.recv_ref());
                assert!(recv.as_mut().now_or_never().is_none());
                tx.send(&[number]).await.unwrap();
                // Woken, and dropped.
            }
            let never_polled = rx.recv_ref();
            drop(never_polled);
            assert_eq!(*rx.recv_ref().await.unwrap(), [number]);
        }
        assert!(tx.is_empty());
    });
}

#[test]
fn recv_ref_in_select_loses_no_message() {
    paused(async {
        let (tx, mut rx) = turbostream::channel();
        let sender = tokio::spawn(async move {
            for number in 0..100_u32 {
                tx.send(&number.to_le_bytes()).await.unwrap();
                if number % 7 == 0 {
                    tokio::time::sleep(ms(3)).await;
                }
            }
        });
        let (mut next, mut ticks) = (0_u32, 0);
        let mut interval = tokio::time::interval(ms(1));
        loop {
            tokio::select! {
                message = rx.recv_ref() => match message {
                    Some(message) => assert_eq!(*message, next.to_le_bytes()),
                    None => break,
                },
                _ = interval.tick() => {
                    ticks += 1;
                    continue;
                }
            }
            next += 1;
        }
        assert_eq!(next, 100);
        assert!(ticks > 10);
        sender.await.unwrap();
    });
}

#[test]
fn debug_shows_no_payload() {
    current(async {
        let (tx, mut rx) = turbostream::channel();
        tx.send_many(["secret", "secret"]).await.unwrap();
        for _ in 0..2 {
            assert_eq!(format!("{:?}", rx.recv_ref().await.unwrap()), "MessageRef { len: 6, .. }");
        }
    });
}

/// A task that never waits yields, also if it only borrows messages.
#[test]
fn recv_ref_yields_now_and_then() {
    current(async {
        let (tx, mut rx) = turbostream::channel();
        for _ in 0..20_000 {
            tx.send("x").await.unwrap();
        }
        let mut yields = 0;
        let receiver = async {
            for _ in 0..20_000 {
                rx.recv_ref().await.unwrap();
            }
        };
        let mut receiver = pin!(receiver);
        let counted = std::future::poll_fn(|cx: &mut Context<'_>| {
            yields += 1;
            receiver.as_mut().poll(cx)
        });
        counted.await;
        assert!(yields > 2, "{yields}");
    });
}

/// A lent message keeps its segment, and the next call releases it.
#[test]
fn recv_ref_lends_nothing_after_the_next_call() {
    current(async {
        let (tx, mut rx) = builder().read_mode(ReadMode::ZeroCopy).build().unwrap();
        tx.send_many(["one", "two"]).await.unwrap();
        assert_eq!(*rx.recv_ref().await.unwrap(), *b"one");
        assert_eq!(*rx.recv_ref().await.unwrap(), *b"two");
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pin!(rx.recv_ref()).poll(&mut cx).is_pending());
        assert_eq!(tx.monitor().stats().lent_bytes, 0);
    });
}
