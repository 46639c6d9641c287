//! Order, acknowledgement, back-pressure, redelivery.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use bytes::Bytes;
use futures::StreamExt;
use tokio::time::timeout;
use turbostream::forward::{AckWhen, JetStreamSource, Packing, SourceEnd, SourceRejection};
use turbostream::{MessageCount, builder, channel};

use crate::fixture::{Fixture, LIMIT, LONG, number, receive_all, until};

#[tokio::test(flavor = "multi_thread")]
async fn all_messages_are_received_in_order_and_acknowledged() {
    const MESSAGES: u64 = 50_000;
    let Some(fixture) = Fixture::start(MESSAGES, 100, LONG).await else { return };
    let (tx, mut rx) = channel();
    let source = fixture.source().spawn(tx);
    for expected in 1..=MESSAGES {
        let message = timeout(LIMIT, rx.recv()).await.unwrap().unwrap();
        assert_eq!(number(&message), expected);
    }
    let report = timeout(LIMIT, source.stop()).await.unwrap().unwrap();
    assert_eq!((report.end, report.confirmed), (SourceEnd::Stopped, true));
    assert_eq!((report.stats.pulled, report.stats.acknowledged), (MESSAGES, MESSAGES));
    assert_eq!((report.stats.redelivered, report.stats.returned), (0, 0));
    let info = fixture.info().await;
    assert_eq!((info.num_ack_pending, info.ack_floor.stream_sequence), (0, MESSAGES));
}

#[tokio::test(flavor = "multi_thread")]
async fn source_pulls_no_more_than_its_window_while_nothing_is_received() {
    const MESSAGES: u64 = 5_000;
    let Some(fixture) = Fixture::start(MESSAGES, 1000, LONG).await else { return };
    for (messages, bytes) in [(100, 10 << 20), (100_000, 64 << 10)] {
        let (tx, mut rx) = builder().max_bytes(256 << 10).build().unwrap();
        let source = fixture.source().in_flight(messages, bytes).spawn(tx);
        until(|| source.stats().accepted >= 30).await;
        let most = messages.min(bytes / 1000);
        for _ in 0..50 {
            let pending = fixture.info().await.num_ack_pending;
            assert!(pending <= most, "{pending} > {most}");
            assert!(source.stats().unacknowledged <= most as u64);
            assert_eq!(source.stats().acknowledged, 0);
        }
        assert_eq!(number(&rx.recv().await.unwrap()), 1);
        let report = timeout(LIMIT, source.stop_timeout(Duration::ZERO)).await.unwrap().unwrap();
        assert!(report.stats.pulled < 2 * most as u64, "{:?}", report.stats);
        // For the next round: nothing was acknowledged but possibly the first.
        fixture.context.delete_consumer_from_stream("C", "S").await.unwrap();
        crate::fixture::consumer(
            &fixture.context,
            async_nats::jetstream::consumer::AckPolicy::Explicit,
            LONG,
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn source_pulls_while_the_channel_has_room_and_waits_while_it_is_full() {
    const MESSAGES: u64 = 3_000;
    let Some(fixture) = Fixture::start(MESSAGES, 1000, LONG).await else { return };
    let (tx, mut rx) = builder().max_bytes(128 << 10).build().unwrap();
    let monitor = tx.monitor();
    let source = fixture.source().ack_when(AckWhen::Accepted).spawn(tx);
    // With acceptance as the condition, the channel fills, and the rest waits.
    until(|| source.stats().unacknowledged > 0 && source.stats().acknowledged >= 50).await;
    let pending = fixture.info().await.num_ack_pending;
    assert!(pending <= 128, "{pending}");
    assert!(monitor.stats().queued_messages <= 128);
    let mut seen = BTreeSet::new();
    receive_all(&mut rx, &mut seen, MESSAGES).await;
    fixture.until(|info| info.num_ack_pending == 0 && info.ack_floor.stream_sequence == MESSAGES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_is_acknowledged_before_it_is_received() {
    const MESSAGES: u64 = 2_000;
    let Some(fixture) = Fixture::start(MESSAGES, 50, LONG).await else { return };
    let (tx, mut rx) = channel();
    let source = fixture.source().in_flight(400, 1 << 20).spawn(tx);
    let mut received = 0;
    for step in [0, 1, 2, 7, 90, 300, 600, 1000] {
        for _ in 0..step {
            received += 1;
            assert_eq!(number(&timeout(LIMIT, rx.recv()).await.unwrap().unwrap()), received);
        }
        for _ in 0..20 {
            let info = fixture.info().await;
            assert!(info.ack_floor.stream_sequence <= received);
            assert!(info.delivered.stream_sequence - info.num_ack_pending as u64 <= received);
        }
    }
    assert_eq!(received, MESSAGES);
    fixture.until(|info| info.ack_floor.stream_sequence == MESSAGES).await;
    assert_eq!(source.stats().redelivered, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_receiver_has_taken_ahead_is_not_acknowledged_when_others_pass_it() {
    const MESSAGES: u64 = 1_000;
    let Some(fixture) = Fixture::start(MESSAGES, 50, LONG).await else { return };
    let (tx, mut slow) = builder().prefetch(16).build().unwrap();
    let mut fast = slow.clone();
    let source = fixture.source().in_flight(400, 1 << 20).spawn(tx);
    let first = number(&timeout(LIMIT, slow.recv()).await.unwrap().unwrap());
    let mut seen = BTreeSet::from([first]);
    // The other receiver takes what it can get: what the first one has taken ahead is not among it.
    while let Ok(Some(message)) = timeout(Duration::from_millis(300), fast.recv()).await {
        seen.insert(number(&message));
        let pending = fixture.info().await;
        let acknowledged = pending.delivered.stream_sequence - pending.num_ack_pending as u64;
        assert!(acknowledged <= seen.len() as u64, "{acknowledged} > {}", seen.len());
        let floor = fixture.info().await.ack_floor.stream_sequence;
        assert!((1..=floor).all(|number| seen.contains(&number)), "{floor} {seen:?}");
    }
    drop(slow);
    receive_all(&mut fast, &mut seen, MESSAGES).await;
    fixture.until(|info| info.ack_floor.stream_sequence == MESSAGES).await;
    assert_eq!(source.stats().acknowledged, MESSAGES);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_in_progress_are_not_delivered_again_while_the_reader_pauses() {
    const MESSAGES: u64 = 300;
    let ack_wait = Duration::from_secs(1);
    let Some(fixture) = Fixture::start(MESSAGES, 1000, ack_wait).await else { return };
    let (tx, mut rx) = builder().max_bytes(128 << 10).build().unwrap();
    let source = fixture.source().spawn(tx);
    until(|| source.stats().pulled >= 50).await;
    // The server's own clock decides.
    tokio::time::sleep(ack_wait * 4).await;
    for expected in 1..=MESSAGES {
        assert_eq!(number(&timeout(LIMIT, rx.recv()).await.unwrap().unwrap()), expected);
    }
    let report = timeout(LIMIT, source.stop()).await.unwrap().unwrap();
    assert_eq!((report.stats.redelivered, report.stats.pulled), (0, MESSAGES));
    assert_eq!(fixture.info().await.num_ack_pending, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn message_longer_than_the_channel_takes_is_terminated_alone() {
    let Some(fixture) = Fixture::start(10, 100, Duration::from_secs(1)).await else { return };
    fixture.publish(11..=11, 5_000).await;
    fixture.publish(12..=20, 100).await;
    let advisories = "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.S.C";
    let mut terminated = fixture.context.client().subscribe(advisories).await.unwrap();
    let rejected = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&rejected);
    let (tx, mut rx) = builder().max_message_bytes(1_000).build().unwrap();
    let source = fixture.source().on_rejected(move |message, rejection| {
        assert_eq!(*rejection, SourceRejection::TooLarge { len: 5_000, max: 1_000 });
        seen.lock().unwrap().push(number(message));
    });
    let source = source.spawn(tx);
    for expected in (1..=10).chain(12..=20) {
        assert_eq!(number(&timeout(LIMIT, rx.recv()).await.unwrap().unwrap()), expected);
    }
    fixture.until(|info| info.num_ack_pending == 0 && info.ack_floor.stream_sequence == 20).await;
    assert_eq!(*rejected.lock().unwrap(), [11]);
    assert_eq!(source.stats().rejected, 1);
    let advisory = timeout(LIMIT, terminated.next()).await.unwrap().unwrap();
    let words = std::str::from_utf8(&advisory.payload).unwrap();
    assert!(words.contains("\"stream_seq\":11,"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_the_consumer_on_requests_are_kept() {
    const MESSAGES: u64 = 200;
    let Some(fixture) = Fixture::start(MESSAGES, 100, LONG).await else { return };
    let limits = [
        pull::Config { max_batch: 5, ..Default::default() },
        pull::Config { max_bytes: 2_000, ..Default::default() },
        pull::Config { max_expires: Duration::from_secs(2), ..Default::default() },
    ];
    for limit in limits {
        fixture.context.delete_consumer_from_stream("C", "S").await.unwrap();
        let stream = fixture.context.get_stream("S").await.unwrap();
        let config =
            pull::Config { durable_name: Some("C".into()), ack_policy: AckPolicy::Explicit, ..limit };
        let consumer = stream.create_consumer(config).await.unwrap();
        let (tx, mut rx) = channel();
        let source = JetStreamSource::new(consumer).spawn(tx);
        for expected in 1..=MESSAGES {
            assert_eq!(number(&timeout(LIMIT, rx.recv()).await.unwrap().unwrap()), expected);
        }
        fixture.until(|info| info.ack_floor.stream_sequence == MESSAGES).await;
        assert_eq!(source.stats().pull_failures, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn message_longer_than_the_window_is_pulled_alone() {
    let Some(fixture) = Fixture::start(10, 100, LONG).await else { return };
    fixture.publish(11..=13, 50_000).await;
    fixture.publish(14..=500, 100).await;
    let (tx, mut rx) = channel();
    let source = fixture.source().in_flight(100, 4_000).spawn(tx);
    for expected in 1..=500 {
        assert_eq!(number(&timeout(LIMIT, rx.recv()).await.unwrap().unwrap()), expected);
    }
    let report = timeout(LIMIT, source.stop()).await.unwrap().unwrap();
    assert_eq!(
        (report.stats.acknowledged, report.stats.redelivered, report.stats.pull_failures),
        (500, 0, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn filter_map_makes_or_skips_the_channels_message() {
    let Some(fixture) = Fixture::start(100, 10, LONG).await else { return };
    let (tx, mut rx) = channel();
    let source = fixture.source().filter_map(|message| {
        let number = number(&message.payload);
        (number % 2 == 0).then(|| Bytes::from(format!("{} {number}", message.subject)))
    });
    let source = source.spawn(tx);
    for expected in (2..=100).step_by(2) {
        assert_eq!(timeout(LIMIT, rx.recv()).await.unwrap().unwrap(), format!("s.a {expected}"));
    }
    fixture.until(|info| info.ack_floor.stream_sequence == 100).await;
    assert_eq!((source.stats().skipped, source.stats().accepted), (50, 50));
}

#[tokio::test(flavor = "multi_thread")]
async fn pack_is_acknowledged_when_its_last_message_was_received() {
    let Some(fixture) = Fixture::start(0, 0, LONG).await else { return };
    let lengths = [1_usize, 300, 2, 2_000, 5];
    let pack = || {
        let mut pack = Vec::new();
        for len in lengths {
            pack.extend_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
            pack.resize(pack.len() + len, b'x');
        }
        pack
    };
    let rest_is_missing = b"\0\0\0\x02ok\0\0\0\x09short".to_vec();
    let is_all_missing = b"\0\0\0\x09short".to_vec();
    for payload in [pack(), rest_is_missing.clone(), is_all_missing.clone(), Vec::new(), pack()] {
        fixture.context.publish("s.a", payload.into()).await.unwrap().await.unwrap();
    }
    let rejected = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&rejected);
    let (tx, mut rx) = builder().max_message_bytes(1_000).build().unwrap();
    let source = fixture.source().unpack(Packing::LengthDelimited).on_rejected(move |message, rejection| {
        let is_malformed = matches!(rejection, SourceRejection::Malformed(_));
        assert_eq!(rejection.source().is_some(), is_malformed);
        seen.lock().unwrap().push((message.len(), is_malformed));
    });
    let source = source.spawn(tx);
    let expected = [1, 300, 2, 5, 2, 1, 300, 2, 5];
    for (at, len) in expected.into_iter().enumerate() {
        assert_eq!(timeout(LIMIT, rx.recv()).await.unwrap().unwrap().len(), len);
        let floor = fixture.info().await.ack_floor.stream_sequence;
        let most = [0, 0, 0, 1, 4, 4, 4, 4, 5][at];
        assert!(floor <= most, "{floor} after {} messages", at + 1);
    }
    fixture.until(|info| info.num_ack_pending == 0 && info.ack_floor.stream_sequence == 5).await;
    let (short, none) = (rest_is_missing.len(), is_all_missing.len());
    assert_eq!(*rejected.lock().unwrap(), [(2_000, false), (short, true), (none, true), (2_000, false)]);
    let stats = source.stats();
    assert_eq!((stats.pulled, stats.accepted, stats.rejected), (5, 9, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn window_moves_on_in_a_channel_that_switches_only_for_its_strategy() {
    let Some(fixture) = Fixture::start(1_000, 100, LONG).await else { return };
    let (tx, mut rx) = builder().on_demand(false).strategy(MessageCount(1_000_000)).build().unwrap();
    let source = fixture.source().in_flight(10, 1 << 20).spawn(tx);
    receive_all(&mut rx, &mut BTreeSet::new(), 1_000).await;
    fixture.until(|info| info.ack_floor.stream_sequence == 1_000).await;
    assert_eq!(source.stats().acknowledged, 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn window_of_more_bytes_than_the_channel_takes_is_limited_to_the_channels() {
    let Some(fixture) = Fixture::start(1_000, 1_000, LONG).await else { return };
    let (tx, mut rx) = builder().max_bytes(128 << 10).build().unwrap();
    let source = fixture.source().in_flight(1_000_000, usize::MAX).spawn(tx);
    receive_all(&mut rx, &mut BTreeSet::new(), 1_000).await;
    fixture.until(|info| info.ack_floor.stream_sequence == 1_000).await;
    assert_eq!(source.stats().acknowledged, 1_000);
}
