//! Strict order: nothing overtakes a record that failed.

use std::time::Duration;

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use turbostream::forward::Destination;
use turbostream_kafka::Kafka;

use crate::support::*;

/// Has the cluster answer `error` once to a batch, three times.
///
/// Each time the window is in one batch: the mock cluster would take a batch that follows the refused one.
async fn deliver_despite(error: RDKafkaRespErr) -> (Driver, Cluster) {
    let cluster = cluster(1);
    cluster.broker_round_trip_time(-1, Duration::from_millis(5)).expect("a delay");
    let mut config = client(&cluster.bootstrap_servers());
    config.set("max.in.flight", "1").set("linger.ms", "100");
    let mut kafka = Kafka::new(&config, TOPIC).expect("a destination");
    assert!(kafka.strict_order());
    let mut driver = Driver::new(kafka, numbered(2_000), 300);
    for count in [200, 800, 1_400] {
        driver.run_until(count).await.expect("delivered");
        driver.settle().await;
        cluster.request_errors(RDKafkaApiKey::Produce, &[error]);
    }
    driver.run().await.expect("delivered");
    assert!(driver.retries > 0);
    (driver, cluster)
}

#[tokio::test]
async fn a_failure_that_librdkafka_does_not_retry_keeps_the_order() {
    let (_, cluster) = deliver_despite(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN).await;
    assert_same(&payloads(&stored(&cluster)), &numbered(2_000));
}

#[tokio::test]
async fn a_fatal_failure_keeps_the_order() {
    let (_, cluster) = deliver_despite(RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER).await;
    assert_same(&payloads(&stored(&cluster)), &numbered(2_000));
}

#[tokio::test]
async fn a_refused_batch_keeps_the_order() {
    let (driver, cluster) = deliver_despite(RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE).await;
    assert!(driver.rejected.is_empty());
    assert_same(&payloads(&stored(&cluster)), &numbered(2_000));
}
