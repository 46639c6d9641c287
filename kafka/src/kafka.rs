//! [`Kafka`]: the destination.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use turbostream::forward::{Connection, Destination, Outgoing, PublishError};

use crate::ID_HEADER;
use crate::config::{self, ConfigError, Limits};
use crate::failure::{self, Refusal};
use crate::producer::{Producer, Route};
use crate::record::{Receipt, Record};
use crate::shared::{Fault, Shared, Snapshot};

/// The part of a record that [`max_payload`](Destination::max_payload) leaves to the key, the header and the framing.
const OVERHEAD: usize = 512;

type TopicOf = dyn for<'a> FnMut(&'a [u8]) -> Cow<'a, str> + Send;
type KeyOf = dyn for<'a> FnMut(&'a [u8]) -> Option<Cow<'a, [u8]>> + Send;
type PartitionOf = dyn FnMut(&[u8]) -> Option<i32> + Send;

/// A Kafka topic as the destination of a [`Forwarder`](turbostream::forward::Forwarder).
///
/// It publishes with librdkafka's idempotent producer, which batches, compresses, connects and retries by itself, and
/// never gives up a record. A message is confirmed when the delivery report of its record says so: the leader of the
/// partition and all replicas in sync have it.
///
/// A sequence that is still with librdkafka is not produced a second time when the forwarder goes back: publishing it
/// again returns a new receipt for the same record.
///
/// # Example
///
/// ```
/// use rdkafka::config::ClientConfig;
/// use turbostream_kafka::Kafka;
///
/// let mut config = ClientConfig::new();
/// config.set("bootstrap.servers", "127.0.0.1:9092").set("compression.type", "lz4");
/// let kafka = Kafka::new(&config, "orders")?
///     .key(|message| message.get(..8).map(Into::into))
///     .partition(|message| (message == b"heartbeat").then_some(0));
/// # Ok::<(), turbostream_kafka::ConfigError>(())
/// ```
pub struct Kafka {
    config: ClientConfig,
    shared: Arc<Shared>,
    producer: Producer,
    topic: Topic,
    key: Option<Box<KeyOf>>,
    partition: Option<Box<PartitionOf>>,
    /// The records whose outcome the forwarder may not know yet, by sequence.
    records: BTreeMap<u64, Arc<Record>>,
    /// The sequence that the forwarder publishes next. Those before it in `records` have a receipt.
    next: u64,
    /// The largest batch of the producer in use.
    batch: usize,
    isolation: Option<Isolation>,
    id: String,
}

enum Topic {
    One(String),
    Of(Box<TopicOf>),
}

/// Every record is sent alone, so that one with bad content is told from the others.
#[derive(Clone, Copy)]
struct Isolation {
    /// The last sequence that the refused batch may have held.
    until: u64,
    /// The largest batch before and after.
    batch: usize,
}

impl Kafka {
    /// Makes a destination that publishes to one topic.
    ///
    /// The settings are librdkafka's. The destination sets `enable.idempotence=true` and `message.timeout.ms=0`, and
    /// keeps the limits of `queue.buffering.max.messages` and `queue.buffering.max.kbytes` itself: when one is reached, the
    /// forwarder waits for delivery reports.
    ///
    /// It does not wait for a connection: brokers that cannot be reached are no error.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Refused`] for a setting that contradicts what the destination promises, [`ConfigError::Topic`] for a
    /// name that Kafka does not accept, [`ConfigError::Client`] for what librdkafka refuses, and
    /// [`ConfigError::Thread`].
    pub fn new(config: &ClientConfig, topic: impl Into<String>) -> Result<Self, ConfigError> {
        let topic = topic.into();
        if !config::is_topic(&topic) {
            return Err(ConfigError::Topic(topic));
        }
        Self::start(config, Topic::One(topic))
    }

    /// Makes a destination that chooses the topic of each message.
    ///
    /// A message for a topic whose name Kafka does not accept, or that the credentials do not permit, is rejected alone.
    ///
    /// # Errors
    ///
    /// As with [`new`](Self::new).
    pub fn with_topic_of<F>(config: &ClientConfig, topic: F) -> Result<Self, ConfigError>
    where
        F: for<'a> FnMut(&'a [u8]) -> Cow<'a, str> + Send + 'static,
    {
        Self::start(config, Topic::Of(Box::new(topic)))
    }

    fn start(config: &ClientConfig, topic: Topic) -> Result<Self, ConfigError> {
        let (config, limits) = config::prepare(config)?;
        let Limits { batch, .. } = limits;
        let shared = Shared::new(limits);
        let producer = Producer::start(&config, &shared, batch, matches!(topic, Topic::One(_)))?;
        Ok(Self {
            config,
            shared,
            producer,
            topic,
            key: None,
            partition: None,
            records: BTreeMap::new(),
            next: 0,
            batch,
            isolation: None,
            id: String::new(),
        })
    }

    /// Sets a function that returns the key of a message; of a pack, that of its first message.
    ///
    /// Without it, or where it returns `None`, a record has no key.
    #[must_use]
    pub fn key<F>(mut self, key: F) -> Self
    where
        F: for<'a> FnMut(&'a [u8]) -> Option<Cow<'a, [u8]>> + Send + 'static,
    {
        self.key = Some(Box::new(key));
        self
    }

    /// Sets a function that returns the partition of a message; of a pack, that of its first message.
    ///
    /// Without it, or where it returns `None`, librdkafka chooses the partition as its setting `partitioner` says. A
    /// partition that the topic does not have ends the forwarder.
    #[must_use]
    pub fn partition<F>(mut self, partition: F) -> Self
    where
        F: FnMut(&[u8]) -> Option<i32> + Send + 'static,
    {
        self.partition = Some(Box::new(partition));
        self
    }

    /// Forgets the records before `first`.
    fn forget_before(&mut self, first: u64) {
        self.forget_while(|sequence, _| sequence < first);
    }

    /// Forgets the oldest records as far as receipts have said that they are stored or rejected.
    ///
    /// From `next` on the forwarder may still ask: in strict order it publishes again what was stored after a gap.
    fn forget_settled(&mut self) {
        let next = self.next;
        self.forget_while(|sequence, record| sequence < next && record.is_settled());
    }

    fn forget_while(&mut self, is_over: impl Fn(u64, &Record) -> bool) {
        while let Some(entry) = self.records.first_entry().filter(|entry| is_over(*entry.key(), entry.get()))
        {
            if entry.remove().is_failed() {
                self.shared.forget_failed();
            }
        }
    }

    /// Returns the last record of the unbroken row of stored records from `first` on, and the sequence after it.
    fn last_stored(&self, first: u64) -> (Option<u64>, u64) {
        let (mut last, mut end) = (None, first);
        for (sequence, record) in self.records.range(first..) {
            if *sequence != end || !record.is_stored() {
                break;
            }
            last = Some(*sequence);
            end += record.messages();
        }
        (last, end)
    }

    /// Replaces a producer that is of no more use, once it has reported all its records.
    fn poll_producer(&mut self, snapshot: &Snapshot) -> Poll<Result<(), PublishError>> {
        if let Some((reason, words)) = &snapshot.stop {
            return Poll::Ready(Err(PublishError::Stop(*reason, words.clone().into())));
        }
        let is_suspect = snapshot.failed > 0 || snapshot.fault.is_some();
        let is_fatal = is_suspect && self.producer.fatal_error().is_some();
        let fault = snapshot.fault.or_else(|| is_fatal.then_some(Fault::Fatal));
        let is_isolation_over =
            self.isolation.is_some_and(|isolation| self.records.range(..=isolation.until).next().is_none());
        if fault.is_none() && !is_isolation_over {
            return Poll::Ready(Ok(()));
        }
        if self.shared.wait_for_report() {
            if is_fatal {
                self.producer.purge_queue();
            }
            return Poll::Pending;
        }
        Poll::Ready(self.replace_producer(fault))
    }

    fn replace_producer(&mut self, fault: Option<Fault>) -> Result<(), PublishError> {
        if let Some((code, words)) = self.producer.fatal_error() {
            if let Some(reason) = failure::stop_reason(code) {
                return Err(PublishError::Stop(reason, format!("{code}: {words}").into()));
            }
        }
        match fault {
            Some(Fault::Refused(Refusal::Size)) => self.batch = (self.batch / 4).max(1),
            Some(Fault::Refused(Refusal::Content)) => {
                let until = self.records.last_key_value().map_or(0, |(sequence, _)| *sequence);
                let batch = self.isolation.map_or(self.batch, |isolation| isolation.batch);
                self.isolation = Some(Isolation { until, batch });
                self.batch = 1;
            }
            Some(Fault::Fatal) => {}
            None => {
                if let Some(isolation) = self.isolation.take() {
                    self.batch = isolation.batch;
                }
            }
        }
        self.restart().map_err(|error| PublishError::Retry(error.into()))
    }

    fn restart(&mut self) -> Result<(), ConfigError> {
        let has_one_topic = matches!(self.topic, Topic::One(_));
        self.producer = Producer::start(&self.config, &self.shared, self.batch, has_one_topic)?;
        Ok(())
    }

    /// Returns whether the next record is with librdkafka, or has an outcome that is final.
    fn is_next_known(&self) -> bool {
        self.records.range(self.next..).next().is_some_and(|(_, record)| !record.is_to_be_produced_again())
    }

    fn produce(&mut self, message: &Outgoing, record: &Arc<Record>) {
        let first = message.first_message();
        let topic = match &mut self.topic {
            Topic::One(topic) => Cow::Borrowed(topic.as_str()),
            Topic::Of(topic) => topic(first),
        };
        let key = self.key.as_mut().and_then(|key| key(first));
        let partition = self.partition.as_mut().and_then(|partition| partition(first));
        let headers = message.id().map(|id| {
            self.id.clear();
            let _ = write!(self.id, "{id}");
            OwnedHeaders::new_with_capacity(1)
                .insert(Header { key: ID_HEADER, value: Some(self.id.as_str()) })
        });
        let route = Route { topic: &topic, key: key.as_deref(), partition, headers };
        self.producer.produce(record, message.payload(), route);
    }
}

impl Destination for Kafka {
    type Receipt = Receipt;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PublishError>> {
        self.forget_settled();
        let snapshot = self.shared.observe(cx);
        if snapshot.stop.is_none() && self.is_next_known() {
            return Poll::Ready(Ok(()));
        }
        // The forwarder learns of the failure by the receipt, and goes back. Until then nothing overtakes the record.
        if snapshot.stop.is_none()
            && snapshot.failed > 0
            && self.records.range(..self.next).any(|(_, record)| record.is_failed())
        {
            return Poll::Pending;
        }
        ready!(self.poll_producer(&snapshot))?;
        if snapshot.has_room { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn publish(&mut self, message: &Outgoing) -> Receipt {
        self.forget_settled();
        let sequence = message.sequence();
        self.next = sequence + message.messages() as u64;
        if let Some(record) = self.records.get(&sequence) {
            if !record.is_to_be_produced_again() {
                return Receipt { record: record.clone() };
            }
            if record.is_failed() {
                self.shared.forget_failed();
            }
        }
        let record = Record::new(message);
        self.records.insert(sequence, record.clone());
        self.produce(message, &record);
        Receipt { record }
    }

    fn poll_resume(&mut self, cx: &mut Context<'_>, first: u64) -> Poll<Result<Option<u64>, PublishError>> {
        self.forget_before(first);
        self.next = first;
        let snapshot = self.shared.observe(cx);
        ready!(self.poll_producer(&snapshot))?;
        let (last, next) = self.last_stored(first);
        self.next = next;
        self.forget_before(next);
        Poll::Ready(Ok(last))
    }

    /// Up, except from when librdkafka says that it reaches no broker, while it has records, until one of them is
    /// delivered.
    fn connection(&self) -> Connection {
        self.shared.connection()
    }

    /// Always true, by librdkafka's `enable.gapless.guarantee`, except that a producer with it cannot be made.
    fn strict_order(&mut self) -> bool {
        self.config.set("enable.gapless.guarantee", "true");
        self.restart().is_ok()
    }

    /// Returns `message.max.bytes` of librdkafka, less 512 bytes for the key, the header and the framing.
    fn max_payload(&self) -> Option<usize> {
        Some(self.shared.limits().record.saturating_sub(OVERHEAD).max(1))
    }

    fn may_pack(&mut self, first: &[u8], next: &[u8]) -> bool {
        let has_same_topic = match &mut self.topic {
            Topic::One(_) => true,
            Topic::Of(topic) => topic(first) == topic(next),
        };
        has_same_topic
            && self.key.as_mut().is_none_or(|key| key(first) == key(next))
            && self.partition.as_mut().is_none_or(|partition| partition(first) == partition(next))
    }
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topic = match &self.topic {
            Topic::One(topic) => topic.as_str(),
            Topic::Of(_) => "by a function of the message",
        };
        f.debug_struct("Kafka")
            .field("topic", &topic)
            .field("records", &self.records.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rdkafka::mocking::MockCluster;

    use super::*;

    #[tokio::test]
    async fn records_are_freed_when_receipts_and_destination_are_dropped() {
        let cluster = MockCluster::new(1).expect("a mock cluster");
        cluster.broker_down(-1).expect("down");
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers());
        let mut kafka = Kafka::new(&config, "events").expect("a destination");
        let records: Vec<_> = (1..=100)
            .map(|sequence| Arc::downgrade(&kafka.publish(&Outgoing::new(sequence, "x", None)).record))
            .collect();
        assert!(
            records.iter().all(|record| record.strong_count() == 2),
            "librdkafka's and the destination's"
        );
        drop(kafka);
        tokio::time::timeout(Duration::from_secs(30), async {
            while records.iter().any(|record| record.strong_count() > 0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("freed");
    }

    #[tokio::test]
    async fn records_are_forgotten_once_receipts_have_said_that_they_are_stored() {
        let cluster = MockCluster::new(1).expect("a mock cluster");
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers());
        let mut kafka = Kafka::new(&config, "events").expect("a destination");
        for sequence in 1..=100 {
            std::future::poll_fn(|cx| kafka.poll_ready(cx)).await.expect("ready");
            let receipt = kafka.publish(&Outgoing::new(sequence, "x", None));
            assert_eq!(kafka.records.len(), 1);
            receipt.await.expect("stored");
        }
    }
}
