//! Strict order: nothing overtakes a record that failed.

use std::time::Duration;

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use turbostream::forward::Destination;

use crate::support::*;

/// Has the cluster answer `error` once, in the middle of a stream of batches.
async fn deliver_despite(error: RDKafkaRespErr, partitions: i32) -> (Driver, Cluster) {
    let cluster = cluster(partitions);
    cluster.broker_round_trip_time(-1, Duration::from_millis(5)).expect("a delay");
    let mut kafka =
        kafka(&cluster).partition(move |message| Some(i32::from(message[message.len() - 1]) % partitions));
    assert!(kafka.strict_order());
    let mut driver = Driver::new(kafka, numbered(2_000), 300);
    for count in [200, 800, 1_400] {
        driver.run_until(count).await.expect("delivered");
        cluster.request_errors(RDKafkaApiKey::Produce, &[error]);
    }
    driver.run().await.expect("delivered");
    assert!(driver.retries > 0);
    (driver, cluster)
}

#[tokio::test]
async fn a_failure_that_librdkafka_does_not_retry_keeps_the_order() {
    let (_, cluster) = deliver_despite(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN, 1).await;
    assert_same(&payloads(&stored(&cluster)), &numbered(2_000));
}

#[tokio::test]
async fn a_fatal_failure_keeps_the_order() {
    let (_, cluster) =
        deliver_despite(RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, 1).await;
    assert_same(&payloads(&stored(&cluster)), &numbered(2_000));
}

#[tokio::test]
async fn a_refused_batch_keeps_the_order() {
    let (driver, cluster) = deliver_despite(RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, 1).await;
    assert!(driver.rejected.is_empty());
    assert_same(&payloads(&stored(&cluster)), &numbered(2_000));
}

#[tokio::test]
async fn a_failure_of_one_partition_keeps_the_order_of_each() {
    let (_, cluster) = deliver_despite(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN, 3).await;
    let stored = stored(&cluster);
    assert_same(&sorted(payloads(&stored)), &sorted(numbered(2_000)));
    for partition in 0..3 {
        let found: Vec<_> = stored.iter().filter(|stored| stored.partition == partition).cloned().collect();
        let is_there = |message: &bytes::Bytes| i32::from(message[message.len() - 1]) % 3 == partition;
        let expected: Vec<_> = numbered(2_000).into_iter().filter(is_there).collect();
        assert_same(&payloads(&found), &expected);
    }
}
