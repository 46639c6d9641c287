//! Servers that are killed, restarted, or stopped for a while.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::connection::State;
use tokio::time::timeout;
use turbostream::channel;

use crate::fixture::{Fixture, LIMIT, LONG, message, receive_all, until};

#[tokio::test(flavor = "multi_thread")]
async fn every_message_is_received_when_the_server_is_killed_and_restarted() {
    const MESSAGES: u64 = 20_000;
    let Some(mut fixture) = Fixture::start(MESSAGES, 100, Duration::from_secs(2)).await else { return };
    let (tx, mut rx) = channel();
    let source = fixture.source().in_flight(2_000, 1 << 20).spawn(tx);
    let mut seen = BTreeSet::new();
    for kill_at in [3_000, 10_000] {
        receive_all(&mut rx, &mut seen, kill_at).await;
        fixture.server.kill();
        fixture.server.restart();
    }
    receive_all(&mut rx, &mut seen, MESSAGES).await;
    assert_eq!(seen, (1..=MESSAGES).collect());
    // What the server has not stored as acknowledged comes again.
    let reader = tokio::spawn(async move { while rx.recv().await.is_some() {} });
    fixture.until(|info| info.num_ack_pending == 0 && info.num_pending == 0).await;
    assert!(source.stats().pull_failures >= 2, "{:?}", source.stats());
    assert!(source.stats().connected);
    drop(timeout(LIMIT, source.stop()).await.unwrap().unwrap());
    timeout(LIMIT, reader).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn first_message_comes_after_the_server_was_killed_and_restarted() {
    let Some(mut fixture) = Fixture::start(0, 0, LONG).await else { return };
    let (tx, mut rx) = channel();
    let source = fixture.source().spawn(tx);
    fixture.until(|info| info.num_waiting == 1).await;
    assert!(source.stats().connected);
    fixture.server.kill();
    until(|| source.stats().pull_failures > 0).await;
    assert!(!source.stats().connected);
    fixture.server.restart();
    until(|| fixture.context.client().connection_state() == State::Connected).await;
    fixture.publish(1..=300, 100).await;
    let mut seen = BTreeSet::new();
    receive_all(&mut rx, &mut seen, 300).await;
    let report = timeout(LIMIT, source.stop()).await.unwrap().unwrap();
    assert_eq!((report.stats.acknowledged, report.confirmed), (300, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_after_the_server_was_stopped_for_longer_than_a_heartbeat() {
    let Some(fixture) = Fixture::start(0, 0, Duration::from_secs(2)).await else { return };
    let (tx, mut rx) = channel();
    let source = fixture.source().spawn(tx);
    fixture.until(|info| info.num_waiting == 1).await;
    let mut seen = BTreeSet::new();
    // In the first round the source waits for its first message, in the second for heartbeats.
    for last in [10, 20] {
        fixture.server.pause();
        for number in last - 9..=last {
            // The server gets them before it learns that the source has given up the inbox.
            let published = fixture.context.publish("s.a", message(number, 100).into()).await;
            drop(published.unwrap());
        }
        fixture.context.client().flush().await.ok();
        let failures = source.stats().pull_failures;
        until(|| source.stats().pull_failures > failures).await;
        fixture.server.resume();
        receive_all(&mut rx, &mut seen, last).await;
        assert_eq!(seen, (1..=last).collect());
    }
    assert!(source.stats().connected);
    // What the server has delivered twice meanwhile is received too.
    let reader = tokio::spawn(async move { while rx.recv().await.is_some() {} });
    fixture.until(|info| info.num_ack_pending == 0 && info.num_pending == 0).await;
    drop(timeout(LIMIT, source.stop()).await.unwrap().unwrap());
    timeout(LIMIT, reader).await.unwrap().unwrap();
}
