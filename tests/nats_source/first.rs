//! The time before the first message, in which the source does not know its client.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::Subscriber;
use async_nats::jetstream::consumer::AckPolicy;
use futures::StreamExt;
use tokio::time::timeout;
use turbostream::channel;
use turbostream::forward::{JetStreamSource, SourceErrorKind};

use crate::fixture::{Fixture, LIMIT, LONG, connect, consumer, number, receive_all};

/// Returns a subscription that gets each pull request.
async fn requests(fixture: &Fixture) -> Subscriber {
    let client = connect(&fixture.server.url()).await.client();
    let requests = client.subscribe("$JS.API.CONSUMER.MSG.NEXT.S.C").await.unwrap();
    client.flush().await.unwrap();
    requests
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_consumer_gets_few_requests_and_its_messages_come_in_order() {
    let Some(fixture) = Fixture::start(0, 0, LONG).await else { return };
    let mut requests = requests(&fixture).await;
    let (tx, mut rx) = channel();
    let source = fixture.source().spawn(tx);
    timeout(LIMIT, requests.next()).await.unwrap().unwrap();
    let mut count = 1;
    // The server's own clock decides when a request expires.
    while let Ok(Some(_)) = timeout(Duration::from_secs(3), requests.next()).await {
        count += 1;
        if count == 3 {
            break;
        }
    }
    assert_eq!(count, 3);
    assert!(timeout(Duration::from_secs(1), requests.next()).await.is_err(), "requests follow at once");
    let stats = source.stats();
    assert_eq!((stats.pull_failures, stats.connected), (0, true));
    fixture.publish(1..=500, 100).await;
    for expected in 1..=500 {
        assert_eq!(number(&timeout(LIMIT, rx.recv()).await.unwrap().unwrap()), expected);
    }
    let report = timeout(LIMIT, source.stop()).await.unwrap().unwrap();
    let stats = report.stats;
    assert_eq!((stats.pulled, stats.acknowledged, stats.redelivered), (500, 500, 0));
    assert_eq!((stats.pull_failures, report.confirmed), (0, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn message_that_arrives_while_the_source_stops_is_returned_at_once() {
    let Some(fixture) = Fixture::start(0, 0, LONG).await else { return };
    let mut requests = requests(&fixture).await;
    let mut returned = 0;
    let mut seen = BTreeSet::new();
    for round in 1..=3 {
        let (tx, _rx) = channel();
        let source = fixture.source().spawn(tx);
        timeout(LIMIT, requests.next()).await.unwrap().unwrap();
        fixture.until(|info| info.num_waiting == 1).await;
        let stop = timeout(LIMIT, source.stop_timeout(Duration::ZERO));
        let (report, ()) = tokio::join!(stop, fixture.publish(round..=round, 100));
        let report = report.unwrap().unwrap();
        assert_eq!((report.stats.acknowledged, report.confirmed), (0, true));
        assert_eq!(report.stats.returned, report.stats.pulled);
        returned += report.stats.returned;

        let (tx, mut rx) = channel();
        let source = fixture.source().spawn(tx);
        receive_all(&mut rx, &mut seen, round).await;
        assert!(timeout(LIMIT, source.stop()).await.unwrap().unwrap().confirmed);
        assert_eq!(fixture.info().await.num_waiting, 0);
        while timeout(Duration::from_millis(100), requests.next()).await.is_ok() {}
    }
    // In most rounds the message arrives before the request expires.
    assert!(returned > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_leaves_no_request() {
    let Some(mut fixture) = Fixture::start(0, 0, LONG).await else { return };
    let (tx, _rx) = channel();
    let source = fixture.source().spawn(tx);
    fixture.until(|info| info.num_waiting == 1).await;
    let report = timeout(LIMIT, source.stop()).await.unwrap().unwrap();
    assert_eq!((report.stats.pulled, report.confirmed), (0, true));
    assert_eq!(fixture.info().await.num_waiting, 0);

    let source = fixture.source().spawn(report.sender);
    fixture.until(|info| info.num_waiting == 1).await;
    fixture.server.kill();
    let report = timeout(LIMIT, source.stop()).await.unwrap().unwrap();
    assert_eq!(report.stats.pulled, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_consumer_or_stream_ends_a_source_without_messages() {
    let Some(fixture) = Fixture::start(0, 0, LONG).await else { return };
    for is_stream in [false, true] {
        let (tx, _rx) = channel();
        let source = fixture.source().spawn(tx);
        fixture.until(|info| info.num_waiting == 1).await;
        let expected = if is_stream {
            fixture.context.delete_stream("S").await.unwrap();
            SourceErrorKind::StreamNotFound
        } else {
            fixture.context.delete_consumer_from_stream("C", "S").await.unwrap();
            SourceErrorKind::ConsumerNotFound
        };
        let error = timeout(LIMIT, source.join()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), expected);
        assert!(error.into_sender().is_some());
        if !is_stream {
            consumer(&fixture.context, AckPolicy::Explicit, LONG).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_was_closed_ends_a_source_without_messages() {
    let Some(fixture) = Fixture::start(0, 0, LONG).await else { return };
    let (tx, _rx) = channel();
    let source = fixture.source().spawn(tx);
    fixture.until(|info| info.num_waiting == 1).await;
    fixture.context.client().drain().await.unwrap();
    let error = timeout(LIMIT, source.join()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::ClientClosed);
}

#[tokio::test(flavor = "multi_thread")]
async fn source_with_a_context_needs_no_first_message() {
    let Some(fixture) = Fixture::start(0, 0, LONG).await else { return };
    let mut requests = requests(&fixture).await;
    let (tx, mut rx) = channel();
    let source = JetStreamSource::with_context(&fixture.context, fixture.consumer.clone()).spawn(tx);
    let request = timeout(LIMIT, requests.next()).await.unwrap().unwrap();
    // It asks for as much as its window at once.
    assert!(String::from_utf8_lossy(&request.payload).contains("\"batch\":8192"), "{request:?}");
    fixture.publish(1..=10, 100).await;
    receive_all(&mut rx, &mut BTreeSet::new(), 10).await;
    assert!(timeout(LIMIT, source.stop()).await.unwrap().unwrap().confirmed);
    assert_eq!(fixture.info().await.num_ack_pending, 0);
}
