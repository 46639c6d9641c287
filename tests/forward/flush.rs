//! `flush`: what was accepted before is confirmed.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::{Instant, timeout};
use turbostream::forward::{FlushError, ForwardErrorKind, Forwarder, StopReason};

use crate::common::{ms, multi, paused, settle};
use crate::engine::{Fate, World};
use crate::{HOUR, Rejected, forwarder, forwarder_of, send_numbered};

#[test]
fn returns_once_the_engine_has_confirmed() {
    paused(async {
        let world = World::always(Fate::LateConfirmation(300));
        let (tx, forwarder) = forwarder(&world);
        let handle = forwarder.spawn();
        let messages = send_numbered(&tx, 100).await;
        let start = Instant::now();
        timeout(HOUR, handle.flush()).await.unwrap().unwrap();
        assert!(start.elapsed() >= ms(300));
        assert_eq!(world.lock().messages(None), messages);
        assert_eq!(handle.stats().confirmed, 100);
        assert_eq!((handle.stats().in_flight_messages, handle.stats().in_flight_bytes), (0, 0));
    });
}

#[test]
fn of_an_empty_channel_returns_at_once() {
    paused(async {
        let world = World::default();
        let (tx, forwarder) = forwarder(&world);
        let handle = forwarder.spawn();
        assert_eq!(timeout(ms(1), handle.flush()).await, Ok(Ok(())));
        send_numbered(&tx, 1).await;
        assert_eq!(timeout(ms(1), handle.flush()).await, Ok(Ok(())));
        assert_eq!(timeout(ms(1), handle.flush()).await, Ok(Ok(())));
    });
}

#[test]
fn does_not_wait_for_what_is_sent_later() {
    paused(async {
        let world = World::with_fates([Fate::LateConfirmation(100), Fate::Lost]);
        let (tx, forwarder) = forwarder(&world);
        let handle = Arc::new(forwarder.confirm_timeout(HOUR).spawn());
        tx.send("first").await.unwrap();
        let flushing = tokio::spawn({
            let handle = Arc::clone(&handle);
            async move { handle.flush().await }
        });
        settle().await;
        tx.send("never confirmed").await.unwrap();
        assert_eq!(timeout(ms(200), flushing).await.unwrap().unwrap(), Ok(()));
        assert!(timeout(ms(500), handle.flush()).await.is_err());
    });
}

#[test]
fn many_at_once_and_dropped_ones_are_true() {
    paused(async {
        let world = World::always(Fate::LateConfirmation(50));
        let (tx, forwarder) = forwarder(&world);
        let handle = Arc::new(forwarder.in_flight(3, 1 << 20).spawn());
        let mut flushes = Vec::new();
        for number in 0..50_u32 {
            tx.send(format!("{number:06}")).await.unwrap();
            for _ in 0..20 {
                assert!(handle.flush().now_or_never().is_none());
            }
            assert!(timeout(ms(1), handle.flush()).await.is_err());
            let (handle, world) = (Arc::clone(&handle), world.clone());
            flushes.push(tokio::spawn(async move {
                handle.flush().await.unwrap();
                assert!(world.lock().stored.len() > number as usize);
                assert!(handle.stats().confirmed > u64::from(number));
            }));
        }
        for flush in flushes {
            timeout(HOUR, flush).await.unwrap().unwrap();
        }
    });
}

#[test]
fn tells_how_many_were_rejected() {
    paused(async {
        let world = World::always(Fate::LateConfirmation(20));
        let (tx, forwarder) = forwarder(&world);
        let rejected = Rejected::default();
        let handle = forwarder.on_rejected(rejected.callback()).spawn();
        for message in ["good", "bad!!!", "good too", "worse!!!"] {
            tx.send(message).await.unwrap();
        }
        assert_eq!(handle.flush().await, Err(FlushError::Rejected { messages: 2 }));
        assert_eq!(rejected.messages(), [b"bad!!!".to_vec(), b"worse!!!".to_vec()]);
        assert_eq!((handle.stats().confirmed, handle.stats().rejected), (2, 2));
        // They were told of once.
        assert_eq!(handle.flush().await, Ok(()));

        let point = handle.flush_point();
        tx.send("worst!!!").await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await; // of the paused clock
        assert_eq!(handle.stats().rejected, 3);
        // Rejected before the call.
        assert_eq!(handle.flush().await, Ok(()));
        assert_eq!(handle.flush_since(point).await, Err(FlushError::Rejected { messages: 1 }));
        assert_eq!(handle.flush_since(handle.flush_point()).await, Ok(()));
    });
}

#[test]
fn switches_a_channel_without_on_demand() {
    paused(async {
        let world = World::default();
        let (tx, rx) = turbostream::builder()
            .on_demand(false)
            .strategy(turbostream::MessageCount(1000))
            .build()
            .unwrap();
        let handle = forwarder_of(rx, &world).spawn();
        tx.send("unread").await.unwrap();
        settle().await;
        assert_eq!(world.lock().stored.len(), 0);
        assert_eq!(timeout(ms(10), handle.flush()).await, Ok(Ok(())));
        assert_eq!(world.lock().stored.len(), 1);
    });
}

#[test]
fn covers_a_pack_and_a_message_without_room() {
    paused(async {
        let world = World::always(Fate::LateConfirmation(10));
        let (tx, rx) = turbostream::channel();
        let packing = turbostream::forward::Packing::LengthDelimited;
        let handle = Forwarder::new(rx, world.destination()).in_flight(2, 100).pack(packing, 40).spawn();
        for _ in 0..20 {
            let messages = send_numbered(&tx, 7).await;
            handle.flush().await.unwrap();
            assert!(
                world
                    .lock()
                    .messages(Some(packing))
                    .ends_with(&messages.into_iter().map(bytes::Bytes::from).collect::<Vec<_>>())
            );
        }
        assert_eq!(handle.stats().confirmed, 140);
    });
}

#[test]
fn ends_with_the_forwarder() {
    paused(async {
        let world = World::with_fates([Fate::LateConfirmation(50), Fate::Stop]);
        let (tx, forwarder) = forwarder(&world);
        let handle = Arc::new(forwarder.in_flight(1, 1 << 20).spawn());
        send_numbered(&tx, 5).await;
        let kind = ForwardErrorKind::Stopped(StopReason::NoStream);
        let reason = "the destination has no stream for the messages: no stream here".to_owned();
        let ended = FlushError::Ended { kind, reason };
        // The first waits for the channel, the second for a confirmation.
        assert_eq!(timeout(HOUR, handle.flush()).await, Ok(Err(ended.clone())));
        assert_eq!(timeout(HOUR, handle.flush()).await, Ok(Err(ended.clone())));
        drop(handle.join().await);
        assert_eq!(timeout(HOUR, handle.flush()).await, Ok(Err(ended.clone())));
    });
}

#[test]
fn of_a_completed_forwarder_is_true() {
    paused(async {
        let world = World::default();
        let (tx, forwarder) = forwarder(&world);
        let handle = forwarder.spawn();
        send_numbered(&tx, 5).await;
        tx.close();
        assert_eq!(timeout(HOUR, handle.flush()).await, Ok(Ok(())));
        assert_eq!(handle.join().await.unwrap().stats.confirmed, 5);
        assert_eq!(timeout(HOUR, handle.flush()).await, Ok(Ok(())));
    });
}

#[test]
fn does_not_wait_for_other_receivers_of_the_channel() {
    paused(async {
        let world = World::default();
        let (tx, rx) = turbostream::channel();
        let mut other = rx.clone();
        tx.send("for the other").await.unwrap();
        assert_eq!(other.recv().await.unwrap(), "for the other");
        let handle = forwarder_of(rx, &world).spawn();
        tx.send("for the forwarder").await.unwrap();
        assert_eq!(timeout(Duration::from_millis(1), handle.flush()).await, Ok(Ok(())));
        assert_eq!(world.lock().messages(None), ["for the forwarder"]);
    });
}

#[test]
fn is_true_between_threads() {
    multi(async {
        let world = World::always(Fate::LateArrival(0));
        let (tx, rx) = turbostream::builder().max_bytes(256 << 10).build().unwrap();
        let handle = Arc::new(Forwarder::new(rx, world.destination()).in_flight(50, 1 << 20).spawn());
        let senders: Vec<_> = (0..3_u32)
            .map(|sender| {
                let (tx, handle, world) = (tx.clone(), Arc::clone(&handle), world.clone());
                tokio::spawn(async move {
                    for number in 0..300_u32 {
                        let message = format!("{sender} {number}");
                        tx.send(message.as_str()).await.unwrap();
                        if number % 7 == 0 {
                            let _ = timeout(Duration::ZERO, handle.flush()).await;
                        }
                        if number % 3 == 0 {
                            handle.flush().await.unwrap();
                            let stored = world.lock().messages(None);
                            assert!(stored.iter().rev().any(|stored| *stored == message), "{message}");
                        }
                    }
                })
            })
            .collect();
        for sender in senders {
            timeout(Duration::from_secs(50), sender).await.expect("no flush hangs").unwrap();
        }
        let report = timeout(Duration::from_secs(10), handle.shutdown()).await.unwrap().unwrap();
        assert_eq!((report.stats.confirmed, report.stats.retried), (900, 0));
    });
}
