//! How a source ends: stopped, by its channel, by its consumer.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use async_nats::jetstream::consumer::AckPolicy;
use tokio::time::timeout;
use turbostream::forward::{SourceEnd, SourceError, SourceErrorKind, SourceHandle, SourceReport};
use turbostream::{WhenFull, builder, channel};

use crate::fixture::{Fixture, LIMIT, LONG, consumer, number, receive_all, until};

#[tokio::test(flavor = "multi_thread")]
async fn stop_waits_for_receivers_and_returns_the_rest_at_once() {
    const MESSAGES: u64 = 2_000;
    let Some(fixture) = Fixture::start(MESSAGES, 100, LONG).await else { return };
    let (tx, mut rx) = channel();
    let source = fixture.source().in_flight(500, 1 << 20).spawn(tx);
    let mut seen = BTreeSet::new();
    receive_all(&mut rx, &mut seen, 300).await;
    until(|| source.stats().accepted >= 400).await;
    let stop = async { timeout(LIMIT, source.stop()).await.unwrap().unwrap() };
    let receive = async {
        while let Some(message) = rx.recv().await {
            seen.insert(number(&message));
        }
    };
    let end = async {
        let report = stop.await;
        assert_eq!((report.end, report.confirmed), (SourceEnd::Stopped, true));
        report.stats
        // The sender is dropped here, which closes the channel.
    };
    let (stats, ()) = tokio::join!(end, receive);
    assert_eq!((stats.accepted, stats.unacknowledged), (stats.acknowledged, 0));
    assert_eq!(stats.acknowledged, seen.len() as u64);
    let info = fixture.info().await;
    assert_eq!(info.ack_floor.stream_sequence, seen.len() as u64);

    // The consumer would deliver what was not returned only after `ack_wait`.
    let (tx, mut rx) = channel();
    let _source = fixture.source().spawn(tx);
    receive_all(&mut rx, &mut seen, MESSAGES).await;
    assert_eq!(seen.len() as u64, MESSAGES);
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_with_a_limit_returns_what_no_receiver_took() {
    const MESSAGES: u64 = 1_000;
    let Some(fixture) = Fixture::start(MESSAGES, 100, LONG).await else { return };
    let (tx, mut rx) = channel();
    let source = fixture.source().spawn(tx);
    let mut seen = BTreeSet::new();
    receive_all(&mut rx, &mut seen, 100).await;
    {
        // A stop that is not waited for stops too.
        let stop = source.stop();
        assert!(timeout(Duration::from_millis(20), stop).await.is_err());
    }
    let report = timeout(LIMIT, source.stop_timeout(Duration::from_millis(50))).await.unwrap().unwrap();
    assert!(source.is_finished());
    assert_eq!(report.stats.acknowledged + report.stats.returned, report.stats.pulled);
    assert!(report.stats.acknowledged <= 100, "{:?}", report.stats);
    assert_eq!(source.join().await.unwrap_err().kind(), SourceErrorKind::AlreadyTaken);
    // The channel is open, and has what was accepted.
    report.sender.send(b"0").await.unwrap();

    let (tx, mut rx) = channel();
    let other = fixture.source().spawn(tx);
    receive_all(&mut rx, &mut seen, MESSAGES).await;
    until(|| other.stats().redelivered == report.stats.returned).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_does_not_wait_for_a_server_that_is_gone() {
    let Some(mut fixture) = Fixture::start(100, 100, LONG).await else { return };
    let (tx, mut rx) = channel();
    let source = fixture.source().spawn(tx);
    receive_all(&mut rx, &mut BTreeSet::new(), 50).await;
    fixture.server.kill();
    let report = timeout(LIMIT, source.stop_timeout(Duration::ZERO)).await.unwrap().unwrap();
    assert!(!report.confirmed);
    assert!(!source.stats().connected);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_the_last_receiver_left_unread_are_not_acknowledged() {
    const MESSAGES: u64 = 500;
    let Some(fixture) = Fixture::start(MESSAGES, 100, LONG).await else { return };
    let (tx, mut rx) = channel();
    let source = fixture.source().spawn(tx);
    let mut seen = BTreeSet::new();
    receive_all(&mut rx, &mut seen, 100).await;
    drop(rx);
    let report = timeout(LIMIT, source.join()).await.unwrap().unwrap();
    assert_eq!((report.end, report.confirmed), (SourceEnd::ChannelClosed, true));
    assert_eq!(report.stats.acknowledged + report.stats.returned, report.stats.pulled);
    assert!(report.stats.acknowledged <= 100, "{:?}", report.stats);

    let (tx, mut rx) = channel();
    let _source = fixture.source().spawn(tx);
    receive_all(&mut rx, &mut seen, MESSAGES).await;
    assert_eq!(seen.len() as u64, MESSAGES);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_received_after_the_channel_was_closed_is_acknowledged() {
    const MESSAGES: u64 = 500;
    let Some(fixture) = Fixture::start(MESSAGES, 100, LONG).await else { return };
    let (tx, mut rx) = channel();
    let source = fixture.source().in_flight(200, 1 << 20).spawn(tx);
    until(|| source.stats().accepted == 200).await;
    rx.close();
    let mut received = 0;
    while let Some(message) = timeout(LIMIT, rx.recv()).await.unwrap() {
        received += 1;
        assert_eq!(number(&message), received);
    }
    let report = timeout(LIMIT, source.join()).await.unwrap().unwrap();
    assert_eq!(report.end, SourceEnd::ChannelClosed);
    assert_eq!((report.stats.acknowledged, received), (received, 200));
    assert_eq!(fixture.info().await.ack_floor.stream_sequence, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_consumer_or_stream_ends_the_source_with_its_sender() {
    let Some(fixture) = Fixture::start(10, 100, LONG).await else { return };
    for is_stream in [false, true] {
        let (tx, mut rx) = channel();
        let source = fixture.source().spawn(tx);
        receive_all(&mut rx, &mut BTreeSet::new(), 10).await;
        fixture.until(|info| info.num_ack_pending == 0).await;
        fixture.context.delete_consumer_from_stream("C", "S").await.unwrap();
        if is_stream {
            fixture.context.delete_stream("S").await.unwrap();
        }
        let error = timeout(LIMIT, source.join()).await.unwrap().unwrap_err();
        match is_stream {
            false => assert_eq!(error.kind(), SourceErrorKind::ConsumerNotFound),
            true => assert_eq!(error.kind(), SourceErrorKind::StreamNotFound),
        }
        let tx = error.into_sender().unwrap();
        tx.send(b"11").await.unwrap();
        assert_eq!(number(&rx.recv().await.unwrap()), 11);
        if !is_stream {
            consumer(&fixture.context, AckPolicy::Explicit, LONG).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unsuitable_channels_and_consumers_are_refused() {
    let Some(fixture) = Fixture::start(10, 100, LONG).await else { return };
    for when_full in [WhenFull::Reject, WhenFull::DropNewest, WhenFull::DropOldest] {
        let (tx, _rx) = builder().when_full(when_full).build().unwrap();
        let error = timeout(LIMIT, fixture.source().spawn(tx).join()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::UnsuitableChannel);
        assert!(error.into_sender().is_some());
    }
    for ack_policy in [AckPolicy::None, AckPolicy::All] {
        fixture.context.delete_consumer_from_stream("C", "S").await.unwrap();
        consumer(&fixture.context, ack_policy, LONG).await;
        let (tx, _rx) = channel();
        let error = timeout(LIMIT, fixture.source().spawn(tx).join()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::UnsuitableConsumer);
        let words = error.source().expect("a reason").to_string();
        assert!(words.contains(&format!("{ack_policy:?}")), "{words}");
        assert!(error.into_sender().is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn panic_of_a_callback_and_the_end_of_the_runtime_are_told() {
    let Some(fixture) = Fixture::start(10, 100, LONG).await else { return };
    let (tx, _rx) = channel();
    let source = fixture.source().filter_map(|_| panic!("expected by the test")).spawn(tx);
    let error = timeout(LIMIT, source.join()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Panicked);

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (tx, mut rx) = channel();
    let source = fixture.source().spawn_on(runtime.handle(), tx);
    assert!(!source.is_finished());
    runtime.shutdown_background();
    let error = timeout(LIMIT, source.join()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Cancelled);
    assert!(source.is_finished());
    while timeout(LIMIT, rx.recv()).await.unwrap().is_some() {}
    assert!(fixture.info().await.num_ack_pending > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn source_goes_on_when_its_handle_is_dropped() {
    let Some(fixture) = Fixture::start(1_000, 100, LONG).await else { return };
    let (tx, mut rx) = channel();
    drop(fixture.source().in_flight(10, 1 << 20).spawn(tx));
    let mut seen = BTreeSet::new();
    receive_all(&mut rx, &mut seen, 1_000).await;
    fixture.until(|info| info.ack_floor.stream_sequence == 1_000).await;
    assert_eq!(seen.len(), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn consumer_that_was_created_anew_ends_the_source() {
    let Some(fixture) = Fixture::start(10, 100, LONG).await else { return };
    let (tx, mut rx) = channel();
    let source = fixture.source().spawn(tx);
    receive_all(&mut rx, &mut BTreeSet::new(), 10).await;
    // The source tells consumers apart by the server's time, which is not exact.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    fixture.context.delete_consumer_from_stream("C", "S").await.unwrap();
    consumer(&fixture.context, AckPolicy::Explicit, LONG).await;
    let error = timeout(LIMIT, source.join()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::ConsumerNotFound);
    assert_eq!(fixture.info().await.ack_floor.stream_sequence, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_was_closed_ends_the_source() {
    let Some(fixture) = Fixture::start(10, 100, LONG).await else { return };
    let (tx, mut rx) = channel();
    let source = fixture.source().spawn(tx);
    receive_all(&mut rx, &mut BTreeSet::new(), 10).await;
    fixture.context.client().drain().await.unwrap();
    let error = timeout(LIMIT, source.join()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::ClientClosed);
    let (tx, _rx) = channel();
    let error = timeout(LIMIT, fixture.source().spawn(tx).join()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::ClientClosed);
}

#[test]
fn handles_and_errors_can_be_shared() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<SourceHandle>();
    shared::<SourceReport>();
    shared::<SourceError>();
    fn is_send<T: Send>(_: &T) -> bool {
        true
    }
    fn futures(handle: &SourceHandle) -> bool {
        is_send(&handle.stop()) && is_send(&handle.join()) && is_send(&handle.stop_timeout(Duration::ZERO))
    }
    assert_eq!(size_of_val(&futures), 0);
}
