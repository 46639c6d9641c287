//! What the tests share: a mock cluster, a driver that does what a forwarder does, and a reader of topics.

use std::collections::{HashSet, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use turbostream::forward::{Destination, Outgoing, PublishError};
use turbostream_kafka::{ID_HEADER, Kafka, Receipt};

/// A bound on a hang.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const TOPIC: &str = "events";

pub(crate) type Cluster = MockCluster<'static, DefaultProducerContext>;

/// A mock cluster of three brokers with a topic of as many partitions.
pub(crate) fn cluster(partitions: i32) -> Cluster {
    let cluster = MockCluster::new(3).expect("a mock cluster");
    cluster.create_topic(TOPIC, partitions, 3).expect("a topic");
    cluster
}

pub(crate) fn client(servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", servers)
        .set("retry.backoff.ms", "10")
        .set("reconnect.backoff.ms", "10")
        .set("reconnect.backoff.max.ms", "100")
        .set("topic.metadata.refresh.fast.interval.ms", "20");
    config
}

/// A destination with up to five requests in flight for each broker.
///
/// The mock cluster does not check the sequences of an idempotent producer, as a broker does: it takes a request after one
/// that it refused, and takes one twice whose answer was lost. Tests that make it refuse a request use [`careful`], and those
/// that cut connections do so while none is answered.
pub(crate) fn kafka(cluster: &Cluster) -> Kafka {
    Kafka::new(&client(&cluster.bootstrap_servers()), TOPIC).expect("a destination")
}

/// A destination with one request in flight for each broker.
pub(crate) fn careful(cluster: &Cluster) -> Kafka {
    let mut config = client(&cluster.bootstrap_servers());
    Kafka::new(config.set("max.in.flight", "1"), TOPIC).expect("a destination")
}

pub(crate) fn numbered(count: usize) -> Vec<Bytes> {
    (1..=count).map(|number| Bytes::from(format!("message {number}"))).collect()
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("no hang")
}

/// Does what a forwarder does: a window of receipts, confirmed in order, and going back after a failure.
pub(crate) struct Driver {
    pub(crate) destination: Kafka,
    messages: Vec<Bytes>,
    window: usize,
    in_flight: VecDeque<Receipt>,
    confirmed: usize,
    /// The next sequence to publish, counted from 1.
    next: usize,
    is_resuming: bool,
    /// Sequences that were rejected.
    pub(crate) rejected: Vec<usize>,
    pub(crate) retries: usize,
}

impl Driver {
    pub(crate) fn new(destination: Kafka, messages: Vec<Bytes>, window: usize) -> Self {
        Self {
            destination,
            messages,
            window,
            in_flight: VecDeque::new(),
            confirmed: 0,
            next: 1,
            is_resuming: false,
            rejected: Vec::new(),
            retries: 0,
        }
    }

    /// Drops all receipts, as the forwarder does before it publishes again.
    pub(crate) fn go_back(&mut self) {
        self.in_flight.clear();
        self.is_resuming = true;
    }

    /// Publishes until `count` messages are confirmed or rejected.
    pub(crate) async fn run_until(&mut self, count: usize) -> Result<(), PublishError> {
        within(async {
            while self.confirmed < count {
                match poll_fn(|cx| self.poll_step(cx, count)).await {
                    Ok(()) => {}
                    Err(PublishError::Retry(_) | PublishError::OutOfOrder(_)) => {
                        self.retries += 1;
                        self.go_back();
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
        .await
    }

    pub(crate) async fn run(&mut self) -> Result<(), PublishError> {
        self.run_until(self.messages.len()).await
    }

    /// Waits until all that is published is confirmed.
    pub(crate) async fn settle(&mut self) {
        within(poll_fn(|cx| {
            self.poll_receipts(cx).expect("delivered");
            if self.in_flight.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        }))
        .await;
    }

    /// Publishes what the window has room for, without confirming anything.
    pub(crate) async fn publish(&mut self) {
        within(poll_fn(|cx| {
            while self.next <= self.messages.len() && self.in_flight.len() < self.window {
                match self.destination.poll_ready(cx) {
                    Poll::Ready(Ok(())) => self.publish_next(),
                    Poll::Ready(Err(error)) => panic!("{error}"),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(())
        }))
        .await;
    }

    fn publish_next(&mut self) {
        let payload = self.messages[self.next - 1].clone();
        let message = Outgoing::new(self.next as u64, payload, Some("test-1-".into()));
        self.in_flight.push_back(self.destination.publish(&message));
        self.next += 1;
    }

    fn poll_step(&mut self, cx: &mut Context<'_>, count: usize) -> Poll<Result<(), PublishError>> {
        if self.is_resuming {
            let Poll::Ready(resumed) = self.destination.poll_resume(cx, self.confirmed as u64 + 1) else {
                return Poll::Pending;
            };
            if let Some(last) = resumed? {
                self.confirmed = last as usize;
            }
            self.next = self.confirmed + 1;
            self.is_resuming = false;
        }
        let mut has_moved = self.poll_receipts(cx)?;
        while let Poll::Ready(ready) = self.destination.poll_ready(cx) {
            ready?;
            if self.next > self.messages.len() || self.in_flight.len() == self.window {
                break;
            }
            self.publish_next();
            has_moved = true;
        }
        has_moved |= self.poll_receipts(cx)?;
        if has_moved || self.confirmed >= count { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_receipts(&mut self, cx: &mut Context<'_>) -> Result<bool, PublishError> {
        let mut has_moved = false;
        while let Some(receipt) = self.in_flight.front_mut() {
            match Pin::new(receipt).poll(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(PublishError::Reject(_))) => self.rejected.push(self.confirmed + 1),
                Poll::Ready(Err(error)) => return Err(error),
            }
            self.in_flight.pop_front();
            self.confirmed += 1;
            has_moved = true;
        }
        Ok(has_moved)
    }
}

/// A record that was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) partition: i32,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) payload: Bytes,
    pub(crate) id: Option<String>,
}

/// Ends a partition for [`read_back`].
const END: &[u8] = b"the end of the partition";

/// Reads all that the topic holds, in the order of each partition: up to a mark that it writes first.
pub(crate) fn read_back(servers: &str, topic: &str) -> Vec<Stored> {
    let consumer: BaseConsumer = client(servers)
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), LIMIT).expect("metadata");
    let producer: BaseProducer = client(servers).create().expect("a producer");
    let mut assignment = TopicPartitionList::new();
    let mut left = 0;
    for partition in metadata.topics()[0].partitions() {
        let mark: BaseRecord<'_, (), _> = BaseRecord::to(topic).payload(END).partition(partition.id());
        producer.send(mark).expect("sent");
        assignment.add_partition_offset(topic, partition.id(), Offset::Beginning).expect("an offset");
        left += 1;
    }
    producer.flush(LIMIT).expect("delivered");
    consumer.assign(&assignment).expect("an assignment");
    let mut stored = Vec::new();
    while left > 0 {
        let message = consumer.poll(LIMIT).expect("a record in time").expect("a record");
        let payload = message.payload().expect("a value");
        if payload == END {
            left -= 1;
            continue;
        }
        let id = message.headers().and_then(|headers| {
            let header = headers.iter().find(|header| header.key == ID_HEADER)?;
            Some(String::from_utf8(header.value?.to_vec()).expect("UTF-8"))
        });
        stored.push(Stored {
            partition: message.partition(),
            key: message.key().map(<[u8]>::to_vec),
            payload: Bytes::copy_from_slice(payload),
            id,
        });
    }
    stored
}

/// Reads the mock cluster's topic.
pub(crate) fn stored(cluster: &Cluster) -> Vec<Stored> {
    read_back(&cluster.bootstrap_servers(), TOPIC)
}

pub(crate) fn payloads(stored: &[Stored]) -> Vec<Bytes> {
    stored.iter().map(|stored| stored.payload.clone()).collect()
}

/// Asserts that the payloads are the expected ones in their order, and says in short what is not as expected.
pub(crate) fn assert_same(found: &[Bytes], expected: &[Bytes]) {
    if found == expected {
        return;
    }
    let first = found.iter().zip(expected).position(|(found, expected)| found != expected);
    let known: HashSet<_> = found.iter().collect();
    let missing: Vec<_> = expected.iter().filter(|payload| !known.contains(payload)).take(3).collect();
    panic!(
        "{} found, {} expected; first difference at {first:?}: {:?}; missing, among others: {missing:?}",
        found.len(),
        expected.len(),
        first.and_then(|first| found.get(first)),
    );
}

/// The same, in an order that does not depend on the partitions.
pub(crate) fn sorted(mut payloads: Vec<Bytes>) -> Vec<Bytes> {
    payloads.sort();
    payloads
}
