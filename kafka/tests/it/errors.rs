//! Refusals of the brokers: permanent and transient ones, of one message and of all.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::future::poll_fn;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use turbostream::forward::{Destination, PublishError, StopReason};
use turbostream_kafka::Kafka;

use crate::support::*;

fn stop(outcome: Result<(), PublishError>) -> (StopReason, String) {
    match outcome {
        Err(PublishError::Stop(reason, error)) => (reason, error.to_string()),
        other => panic!("not a stop: {other:?}"),
    }
}

#[tokio::test]
async fn a_message_over_message_max_bytes_is_rejected_alone() {
    let cluster = cluster(1);
    let mut messages = numbered(100);
    messages[49] = vec![b'x'; 2_000_000].into();
    let mut driver = Driver::new(kafka(&cluster), messages.clone(), 20);
    driver.run().await.expect("delivered");
    assert_eq!((&driver.rejected, driver.retries), (&vec![50], 0));
    messages.remove(49);
    assert_same(&payloads(&stored(&cluster)), &messages);
}

#[tokio::test]
async fn max_payload_is_taken() {
    let cluster = cluster(1);
    let kafka = kafka(&cluster);
    let len = kafka.max_payload().expect("known");
    let mut driver = Driver::new(kafka, vec![vec![b'x'; len].into()], 1);
    driver.run().await.expect("delivered");
    assert!(driver.rejected.is_empty());
    assert_eq!(payloads(&stored(&cluster))[0].len(), len);
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_sent_in_smaller_ones() {
    let cluster = cluster(1);
    let messages = numbered(500);
    cluster
        .request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 3]);
    let mut driver = Driver::new(kafka(&cluster), messages.clone(), 100);
    driver.run().await.expect("delivered");
    assert!(driver.rejected.is_empty());
    assert!(driver.retries > 0);
    assert_same(&sorted(payloads(&stored(&cluster))), &sorted(messages));
}

#[tokio::test]
async fn a_message_that_is_too_large_for_the_broker_is_rejected_alone() {
    let cluster = cluster(1);
    let mut messages = numbered(10);
    messages[0] = vec![b'x'; 900_000].into();
    // Refused with a batch limit of 1,000,000, when others may have been with it, and again when it was alone.
    cluster
        .request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 2]);
    let mut driver = Driver::new(kafka(&cluster), messages.clone(), 1);
    driver.run().await.expect("delivered");
    assert_eq!((&driver.rejected, driver.retries), (&vec![1], 1));
    assert_same(&payloads(&stored(&cluster)), &messages[1..]);
}

#[tokio::test]
async fn a_record_that_is_not_valid_is_rejected_alone() {
    let cluster = cluster(1);
    let messages = numbered(500);
    // The first batch is refused, and then the first record when it is alone.
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD; 2]);
    let mut driver = Driver::new(kafka(&cluster), messages.clone(), 100);
    driver.run().await.expect("delivered");
    assert_eq!(driver.rejected, [1]);
    assert_same(&sorted(payloads(&stored(&cluster))), &sorted(messages[1..].to_vec()));
}

#[tokio::test]
async fn an_unknown_topic_ends_it() {
    let cluster = cluster(1);
    cluster.topic_error(TOPIC, RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).expect("an error");
    let mut config = client(&cluster.bootstrap_servers());
    config.set("topic.metadata.propagation.max.ms", "100");
    let kafka = Kafka::new(&config, TOPIC).expect("a destination");
    let (reason, words) = stop(Driver::new(kafka, numbered(10), 10).run().await);
    assert_eq!(reason, StopReason::NoStream);
    assert!(words.contains("topic `events`") && words.contains("nknown topic"), "{words}");
}

#[tokio::test]
async fn an_unknown_partition_ends_it() {
    let cluster = cluster(2);
    let kafka = kafka(&cluster).partition(|_| Some(7));
    let (reason, words) = stop(Driver::new(kafka, numbered(10), 10).run().await);
    assert_eq!(reason, StopReason::NoStream);
    assert!(words.contains("artition"), "{words}");
}

#[tokio::test]
async fn missing_permission_for_the_only_topic_ends_it() {
    let cluster = cluster(1);
    cluster
        .topic_error(TOPIC, RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
        .expect("an error");
    let (reason, words) = stop(Driver::new(kafka(&cluster), numbered(10), 10).run().await);
    assert_eq!(reason, StopReason::NotPermitted);
    assert!(words.contains("Topic authorization failed"), "{words}");
}

#[tokio::test]
async fn missing_permission_for_one_of_several_topics_rejects_its_messages() {
    let cluster = cluster(1);
    cluster.create_topic("secret", 1, 1).expect("a topic");
    cluster
        .topic_error("secret", RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
        .expect("an error");
    let config = client(&cluster.bootstrap_servers());
    let kafka = Kafka::with_topic_of(&config, |message| match message {
        b"message 3" => "secret".into(),
        b"message 4" => "not a topic\0".into(),
        _ => TOPIC.into(),
    });
    let mut driver = Driver::new(kafka.expect("a destination"), numbered(10), 10);
    driver.run().await.expect("delivered");
    assert_eq!(driver.rejected, [3, 4]);
    assert_eq!(stored(&cluster).len(), 8);
}

#[tokio::test]
async fn a_cluster_that_permits_no_idempotent_producer_ends_it() {
    let cluster = cluster(1);
    cluster.request_errors(
        RDKafkaApiKey::InitProducerId,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED; 5],
    );
    let (reason, words) = stop(Driver::new(kafka(&cluster), numbered(10), 10).run().await);
    assert_eq!(reason, StopReason::NotPermitted);
    assert!(words.contains("Cluster authorization failed"), "{words}");
}

#[tokio::test]
async fn refused_credentials_end_it_and_are_not_shown() {
    let mut config = client(&refusing_broker().await);
    config
        .set("security.protocol", "sasl_plaintext")
        .set("sasl.mechanism", "PLAIN")
        .set("sasl.username", "user")
        .set("sasl.password", "opensesame");
    let kafka = Kafka::new(&config, TOPIC).expect("a destination");
    assert!(!format!("{kafka:?}").contains("opensesame"));
    let mut driver = Driver::new(kafka, numbered(10), 10);
    let (reason, words) = stop(driver.run().await);
    assert_eq!(reason, StopReason::BadCredentials);
    assert!(words.contains("no such user") && !words.contains("opensesame"), "{words}");
    let again = poll_fn(|cx| driver.destination.poll_ready(cx)).await;
    assert_eq!(stop(again).0, StopReason::BadCredentials);
}

/// A broker that speaks as much of the protocol as it takes to refuse credentials. Returns its address.
async fn refusing_broker() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(refuse(connection));
        }
    });
    address
}

async fn refuse(mut connection: TcpStream) -> std::io::Result<()> {
    const API_VERSIONS: i16 = 18;
    const SASL_HANDSHAKE: i16 = 17;
    const SASL_AUTHENTICATE: i16 = 36;
    loop {
        let len = connection.read_u32().await?;
        let mut request = vec![0; len as usize];
        connection.read_exact(&mut request).await?;
        let mut request = &request[..];
        let (api, version, correlation) = (request.get_i16(), request.get_i16(), request.get_i32());
        let mut answer = BytesMut::new();
        answer.put_i32(correlation);
        match api {
            API_VERSIONS => {
                // Asked in a later version, it answers in the first one that it knows no other.
                answer.put_i16(if version == 0 { 0 } else { 35 });
                answer.put_i32(3);
                for (api, last) in [(API_VERSIONS, 0), (SASL_HANDSHAKE, 1), (SASL_AUTHENTICATE, 0)] {
                    [api, 0, last].into_iter().for_each(|number| answer.put_i16(number));
                }
            }
            SASL_HANDSHAKE => {
                answer.put_i16(0);
                answer.put_i32(1);
                answer.put_i16(5);
                answer.put_slice(b"PLAIN");
            }
            SASL_AUTHENTICATE => {
                answer.put_i16(58);
                answer.put_i16(12);
                answer.put_slice(b"no such user");
                answer.put_i32(0);
            }
            _ => return Ok(()),
        }
        connection.write_u32(answer.len() as u32).await?;
        connection.write_all(&answer).await?;
    }
}

#[tokio::test]
async fn a_producer_that_failed_fatally_is_replaced() {
    let cluster = cluster(1);
    let messages = numbered(1_000);
    let mut driver = Driver::new(careful(&cluster), messages.clone(), 100);
    for count in [200, 400, 600] {
        driver.run_until(count).await.expect("delivered");
        cluster.request_errors(
            RDKafkaApiKey::Produce,
            &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER],
        );
    }
    driver.run().await.expect("delivered");
    assert!(driver.retries >= 3, "{}", driver.retries);
    assert_same(&payloads(&stored(&cluster)), &messages);
}

#[tokio::test]
async fn an_error_that_librdkafka_does_not_retry_loses_nothing() {
    let cluster = cluster(1);
    let messages = numbered(1_000);
    let mut driver = Driver::new(careful(&cluster), messages.clone(), 100);
    for count in [200, 400, 600] {
        driver.run_until(count).await.expect("delivered");
        cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN]);
    }
    driver.run().await.expect("delivered");
    assert!(driver.retries >= 1);
    assert_same(&sorted(payloads(&stored(&cluster))), &sorted(messages));
}

#[test]
fn errors_are_sent_between_threads() {
    fn is_error<E: std::error::Error + Send + Sync + 'static>() {}
    is_error::<turbostream_kafka::DeliveryError>();
    is_error::<turbostream_kafka::ConfigError>();
    let _: Vec<Bytes> = numbered(1);
}
