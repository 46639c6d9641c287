//! What is stored when nothing goes wrong, or when the connection does.

use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::future::poll_fn;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use turbostream::forward::Destination;
use turbostream_kafka::Kafka;

use crate::support::*;

#[tokio::test]
async fn records_carry_key_partition_id_and_payload() {
    let cluster = cluster(3);
    let kafka = kafka(&cluster)
        .key(|message| message.get(..1).map(Into::into))
        .partition(|message| Some(i32::from(message[0] - b'a')));
    let messages = ["a1", "b1", "c1", "a2"].map(Bytes::from);
    Driver::new(kafka, messages.to_vec(), 10).run().await.expect("delivered");
    let mut stored = stored(&cluster);
    stored.sort_by_key(|stored| stored.id.clone());
    let expected: Vec<Stored> = (1..)
        .zip(messages)
        .map(|(sequence, payload)| Stored {
            partition: i32::from(payload[0] - b'a'),
            key: Some(vec![payload[0]]),
            id: Some(format!("test-1-{sequence}")),
            payload,
        })
        .collect();
    assert_eq!(stored, expected);
}

#[tokio::test]
async fn topic_is_a_function_of_the_message() {
    let cluster = cluster(1);
    cluster.create_topic("other", 1, 1).expect("a topic");
    let config = client(&cluster.bootstrap_servers());
    let kafka = Kafka::with_topic_of(&config, |message| match message.starts_with(b"o") {
        true => "other".into(),
        false => TOPIC.into(),
    });
    let messages = ["one", "two", "over"].map(Bytes::from).to_vec();
    Driver::new(kafka.expect("a destination"), messages, 10).run().await.expect("delivered");
    assert_eq!(payloads(&stored(&cluster)), ["two"]);
    assert_eq!(payloads(&read_back(&cluster.bootstrap_servers(), "other")), ["one", "over"]);
}

#[tokio::test]
async fn an_empty_message_is_an_empty_value() {
    let cluster = cluster(1);
    let messages = vec![Bytes::new(), Bytes::from("x"), Bytes::new()];
    Driver::new(kafka(&cluster), messages.clone(), 10).run().await.expect("delivered");
    assert_same(&payloads(&stored(&cluster)), &messages);
}

#[tokio::test]
async fn packs_hold_messages_of_one_topic_key_and_partition() {
    let cluster = cluster(1);
    let config = client(&cluster.bootstrap_servers());
    let mut kafka = Kafka::with_topic_of(&config, |message| String::from_utf8_lossy(&message[..1]))
        .expect("a destination")
        .key(|message| Some(message[1..2].into()))
        .partition(|message| Some(i32::from(message[2])));
    assert!(kafka.may_pack(b"abc-1", b"abc-2"));
    assert!(!kafka.may_pack(b"abc", b"xbc"));
    assert!(!kafka.may_pack(b"abc", b"axc"));
    assert!(!kafka.may_pack(b"abc", b"abx"));
}

#[tokio::test]
async fn going_back_produces_nothing_twice() {
    let cluster = cluster(1);
    cluster.broker_round_trip_time(-1, Duration::from_millis(20)).expect("a delay");
    let messages = numbered(2_000);
    let mut driver = Driver::new(kafka(&cluster), messages.clone(), 500);
    for count in (0..2_000).step_by(150) {
        driver.run_until(count).await.expect("delivered");
        driver.go_back();
    }
    driver.run().await.expect("delivered");
    assert_eq!(driver.retries, 0);
    assert_same(&payloads(&stored(&cluster)), &messages);
}

#[tokio::test]
async fn going_back_while_nothing_is_answered_produces_nothing_twice() {
    let cluster = cluster(1);
    let messages = numbered(300);
    let mut driver = Driver::new(kafka(&cluster), messages.clone(), 100);
    driver.run_until(50).await.expect("delivered");
    driver.settle().await;
    cluster.broker_down(-1).expect("down");
    for _ in 0..10 {
        driver.publish().await;
        driver.go_back();
        // Resumes, and publishes the window again; nothing can be confirmed.
        let outcome = tokio::time::timeout(Duration::from_millis(50), driver.run()).await;
        assert!(outcome.is_err());
        driver.go_back();
    }
    cluster.broker_up(-1).expect("up");
    driver.run().await.expect("delivered");
    assert_same(&payloads(&stored(&cluster)), &messages);
}

#[tokio::test]
async fn leader_change_loses_and_doubles_nothing() {
    let cluster = cluster(1);
    let messages = numbered(3_000);
    let mut driver = Driver::new(kafka(&cluster), messages.clone(), 200);
    for (leader, count) in [1, 2, 3, 1, 2].into_iter().zip((500..).step_by(500)) {
        cluster.partition_leader(TOPIC, 0, Some(leader)).expect("a leader");
        driver.run_until(count).await.expect("delivered");
    }
    driver.run().await.expect("delivered");
    assert_same(&payloads(&stored(&cluster)), &messages);
}

/// Waits for what librdkafka learns by itself.
async fn connection_is(driver: &Driver, is_up: bool) {
    within(async {
        while driver.destination.connection().is_up != is_up {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn brokers_that_go_down_and_come_up_lose_and_double_nothing() {
    let cluster = cluster(1);
    let messages = numbered(3_000);
    let mut driver = Driver::new(kafka(&cluster), messages.clone(), 200);
    for (round, count) in (1..).zip([500, 1_000, 1_500]) {
        driver.run_until(count).await.expect("delivered");
        driver.settle().await;
        cluster.broker_down(-1).expect("down");
        driver.publish().await;
        connection_is(&driver, false).await;
        assert!(driver.destination.connection().losses >= round);
        cluster.broker_up(-1).expect("up");
        driver.run_until(count + 250).await.expect("delivered");
        connection_is(&driver, true).await;
    }
    driver.run().await.expect("delivered");
    assert_same(&payloads(&stored(&cluster)), &messages);
}

#[tokio::test]
async fn brokers_that_are_down_at_first_are_waited_for() {
    let cluster = cluster(1);
    cluster.broker_down(-1).expect("down");
    let mut driver = Driver::new(kafka(&cluster), numbered(10), 100);
    driver.publish().await;
    connection_is(&driver, false).await;
    cluster.broker_up(-1).expect("up");
    driver.run().await.expect("delivered");
    assert_eq!(payloads(&stored(&cluster)), numbered(10));
}

#[tokio::test]
async fn passing_errors_lose_and_double_nothing() {
    use RDKafkaRespErr::*;
    let cluster = cluster(1);
    let messages = numbered(2_000);
    let mut driver = Driver::new(careful(&cluster), messages.clone(), 100);
    for count in (100..2_000).step_by(200) {
        cluster.request_errors(
            RDKafkaApiKey::Produce,
            &[
                RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
                RD_KAFKA_RESP_ERR__TRANSPORT,
                RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
                RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            ],
        );
        driver.run_until(count).await.expect("delivered");
    }
    driver.run().await.expect("delivered");
    assert_eq!(driver.retries, 0, "librdkafka retries by itself");
    assert_same(&payloads(&stored(&cluster)), &messages);
}

#[tokio::test]
async fn a_full_queue_makes_the_forwarder_wait() {
    let cluster = cluster(1);
    for (key, value) in [("queue.buffering.max.messages", "10"), ("queue.buffering.max.kbytes", "1")] {
        let mut config = client(&cluster.bootstrap_servers());
        config.set(key, value);
        cluster.broker_down(-1).expect("down");
        let kafka = Kafka::new(&config, TOPIC).expect("a destination");
        let mut driver = Driver::new(kafka, vec![Bytes::from(vec![b'x'; 200]); 500], 100);
        let full = tokio::time::timeout(Duration::from_millis(200), driver.publish()).await;
        assert!(full.is_err(), "{key}: the window of 100 is not filled");
        poll_fn(|cx| {
            assert!(driver.destination.poll_ready(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        cluster.broker_up(-1).expect("up");
        driver.run().await.expect("delivered");
    }
    assert_eq!(stored(&cluster).len(), 1_000);
}

#[tokio::test]
async fn dropping_abandons_what_is_not_delivered() {
    let cluster = cluster(1);
    cluster.broker_down(-1).expect("down");
    let mut kafka = kafka(&cluster);
    let message = turbostream::forward::Outgoing::new(1, "x", None);
    let receipt = kafka.publish(&message);
    drop(kafka);
    let error = within(receipt).await.expect_err("abandoned");
    assert!(matches!(error, turbostream::forward::PublishError::Retry(_)), "{error}");
    cluster.broker_up(-1).expect("up");
    assert_eq!(stored(&cluster), []);
}
