//! The forwarder with this destination, from the channel to the topic.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use turbostream::Sender;
use turbostream::forward::{ForwardErrorKind, Forwarder, Packing, StopReason, unpack};

use crate::support::*;

fn forwarder(kafka: turbostream_kafka::Kafka) -> (Sender, Forwarder<turbostream_kafka::Kafka>) {
    let (tx, rx) = turbostream::builder().max_bytes(4 << 20).build().expect("a channel");
    let forwarder = Forwarder::new(rx, kafka)
        .message_ids("test")
        .in_flight(1_000, 1 << 20)
        .retry(Duration::from_millis(5), Duration::from_millis(50));
    (tx, forwarder)
}

async fn send(tx: &Sender, messages: &[bytes::Bytes]) {
    for message in messages {
        within(tx.send(message.clone())).await.expect("open");
    }
}

#[tokio::test]
async fn flush_and_shutdown_mean_stored() {
    let cluster = cluster(1);
    let (tx, forwarder) = forwarder(kafka(&cluster));
    let handle = forwarder.spawn();
    let messages = numbered(5_000);
    send(&tx, &messages).await;
    within(handle.flush()).await.expect("confirmed");
    assert_eq!(handle.stats().confirmed, 5_000);
    let report = within(handle.shutdown()).await.expect("complete");
    assert_eq!((report.stats.confirmed, report.stats.duplicates), (5_000, 0));
    let stored = stored(&cluster);
    assert_same(&payloads(&stored), &messages);
    let id = stored[0].id.as_deref().expect("an id");
    assert!(id.starts_with("test-") && id.ends_with("-1"), "{id}");
}

/// Disturbs the cluster while messages are forwarded, and returns what it stored.
async fn forward_through_trouble(is_strict: bool, confirm_timeout: Duration) -> Vec<bytes::Bytes> {
    let cluster = cluster(1);
    let (tx, forwarder) = forwarder(careful(&cluster));
    let forwarder = forwarder.confirm_timeout(confirm_timeout);
    let handle = if is_strict { forwarder.strict_order() } else { forwarder }.spawn();
    let messages = numbered(12_000);
    for (round, messages) in (0..).zip(messages.chunks(2_000)) {
        match round % 6 {
            1 => cluster.partition_leader(TOPIC, 0, Some(2)).expect("a leader"),
            2 => cluster.broker_round_trip_time(-1, Duration::from_millis(100)).expect("a delay"),
            3 => cluster.broker_down(-1).expect("down"),
            4 => cluster.request_errors(
                RDKafkaApiKey::Produce,
                &[
                    RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
                    RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
                ],
            ),
            5 if is_strict => {
                cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN]);
            }
            _ => {}
        }
        send(&tx, messages).await;
        if round == 3 {
            within(async {
                while handle.stats().connected {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
            cluster.broker_up(-1).expect("up");
        }
        within(handle.flush()).await.expect("confirmed");
        cluster.broker_round_trip_time(-1, Duration::ZERO).expect("no delay");
    }
    let report = within(handle.shutdown()).await.expect("complete");
    assert_eq!(report.stats.confirmed, 12_000);
    payloads(&stored(&cluster))
}

#[tokio::test]
async fn trouble_loses_and_doubles_nothing() {
    assert_same(&forward_through_trouble(false, Duration::from_secs(10)).await, &numbered(12_000));
}

#[tokio::test]
async fn a_short_confirm_timeout_doubles_nothing() {
    assert_same(&forward_through_trouble(false, Duration::from_millis(20)).await, &numbered(12_000));
}

#[tokio::test]
async fn strict_order_keeps_the_order() {
    assert_same(&forward_through_trouble(true, Duration::from_millis(50)).await, &numbered(12_000));
}

#[tokio::test]
async fn packs_are_taken_apart_where_one_is_refused() {
    let cluster = cluster(1);
    let (tx, forwarder) = forwarder(kafka(&cluster));
    let rejected = Arc::new(Mutex::new(Vec::new()));
    let seen = rejected.clone();
    let handle = forwarder
        .pack(Packing::LengthDelimited, 4_096)
        .on_rejected(move |message, _| seen.lock().expect("no panic").push(message.len()))
        .spawn();
    let mut messages = numbered(3_000);
    messages[1_500] = vec![b'x'; 1_500_000].into();
    send(&tx, &messages).await;
    within(handle.shutdown()).await.expect("complete");
    assert_eq!(*rejected.lock().expect("no panic"), [1_500_000]);
    messages.remove(1_500);
    let packs = payloads(&stored(&cluster));
    assert!(packs.len() < 1_000, "{} packs", packs.len());
    let found: Vec<_> =
        packs.iter().flat_map(|pack| unpack(Packing::LengthDelimited, pack)).map(Result::unwrap).collect();
    assert_same(&found, &messages);
}

#[tokio::test]
async fn what_is_not_confirmed_comes_back_when_the_time_is_up() {
    let cluster = cluster(1);
    cluster.broker_down(-1).expect("down");
    let (tx, forwarder) = forwarder(kafka(&cluster));
    let handle = forwarder.spawn();
    let messages = numbered(500);
    send(&tx, &messages).await;
    let error = within(handle.shutdown_timeout(Duration::from_millis(200))).await.expect_err("too short");
    assert_eq!(error.kind(), ForwardErrorKind::TimedOut);
    let mut unconfirmed = error.into_unconfirmed();
    if let Some(receiver) = &mut unconfirmed.receiver {
        while let Some(message) = within(receiver.recv()).await {
            unconfirmed.messages.push(message);
        }
    }
    assert_same(&unconfirmed.messages, &messages);
    cluster.broker_up(-1).expect("up");
    assert_eq!(stored(&cluster), [], "what was given back is not stored later");
}

#[tokio::test]
async fn an_unknown_topic_ends_the_forwarder_with_the_words_of_the_broker() {
    let cluster = cluster(1);
    cluster
        .topic_error(TOPIC, RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
        .expect("an error");
    let (tx, forwarder) = forwarder(kafka(&cluster));
    let handle = forwarder.spawn();
    send(&tx, &numbered(1)).await;
    let error = within(handle.join()).await.expect_err("stopped");
    assert_eq!(error.kind(), ForwardErrorKind::Stopped(StopReason::NotPermitted));
    assert!(error.to_string().contains("Topic authorization failed"), "{error}");
    assert_eq!(error.unconfirmed().messages, numbered(1));
}
