//! An idempotent producer of librdkafka, with the thread that serves its delivery reports.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig};

use crate::config::{self, ConfigError};
use crate::failure::DeliveryError;
use crate::record::Record;
use crate::shared::{Callbacks, Shared};

/// How long the thread waits for events at a time, and so at most goes on after its producer was dropped.
const POLL: Duration = Duration::from_millis(100);
/// How long the thread waits for the reports of purged records before it destroys the client.
const PURGE: Duration = Duration::from_secs(5);

type Client = BaseProducer<Callbacks>;

/// A producer and its thread. Dropping it abandons the records that are still with librdkafka; their receipts fail.
pub(crate) struct Producer {
    client: Option<Arc<Client>>,
    is_dropped: Arc<AtomicBool>,
    shared: Arc<Shared>,
}

/// Where a record goes.
pub(crate) struct Route<'a> {
    pub(crate) topic: &'a str,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) partition: Option<i32>,
    pub(crate) headers: Option<OwnedHeaders>,
}

impl Producer {
    /// Makes a producer whose batches are not larger than `batch` bytes; with 1, a batch is one record.
    pub(crate) fn start(
        config: &ClientConfig,
        shared: &Arc<Shared>,
        batch: usize,
        has_one_topic: bool,
    ) -> Result<Self, ConfigError> {
        let generation = shared.next_generation();
        let callbacks = Callbacks { shared: shared.clone(), batch, has_one_topic, generation };
        let mut config = config.clone();
        config.set("batch.size", batch.to_string());
        let client: Client = config
            .create_with_context(callbacks)
            .map_err(|error| ConfigError::Client(config::words(&error)))?;
        let client = Arc::new(client);
        let is_dropped = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name("turbostream-kafka".into());
        let (polled, flag) = (client.clone(), is_dropped.clone());
        thread.spawn(move || serve(polled, &flag)).map_err(ConfigError::Thread)?;
        Ok(Self { client: Some(client), is_dropped, shared: shared.clone() })
    }

    fn client(&self) -> &Client {
        self.client.as_ref().expect("taken only when dropped")
    }

    /// Hands a record to librdkafka. A failure that is known at once becomes the record's outcome.
    pub(crate) fn produce(&self, record: &Arc<Record>, payload: &[u8], route: Route<'_>) {
        self.shared.add(record);
        let produced = self.client().send(BaseRecord {
            topic: route.topic,
            partition: route.partition,
            payload: Some(payload),
            key: route.key,
            timestamp: None,
            headers: route.headers,
            delivery_opaque: record.clone(),
        });
        if let Err((error, _)) = produced {
            let is_too_large = error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge);
            let error = DeliveryError::new(route.topic, error);
            let callbacks = self.client().context();
            // librdkafka itself measures a record alone.
            let (error, fault) = match is_too_large {
                true => (crate::failure::publish_error(error, callbacks.has_one_topic), None),
                false => callbacks.judge(error, record.bytes()),
            };
            self.shared.settle(record, Err(error), fault);
        }
    }

    /// Returns the error after which the producer takes no more records, if there was one.
    pub(crate) fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.client().client().fatal_error()
    }

    /// Has the records that are not sent fail. librdkafka does so itself after a fatal error, but may miss a record that was
    /// produced in the same instant.
    pub(crate) fn purge_queue(&self) {
        self.client().purge(PurgeConfig::default().queue().non_blocking());
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // Nothing more is sent from here on. The thread takes the reports of what is purged, and destroys the client,
        // which may block.
        self.client().purge(PurgeConfig::default().queue().inflight().non_blocking());
        self.client = None;
        self.is_dropped.store(true, Ordering::Release);
    }
}

fn serve(client: Arc<Client>, is_dropped: &AtomicBool) {
    // Acquire: pairs with Release in `Producer::drop`; this thread then holds the last reference to the client.
    while !is_dropped.load(Ordering::Acquire) {
        client.poll(POLL);
    }
    let start = Instant::now();
    client.purge(PurgeConfig::default().queue().inflight());
    while client.in_flight_count() > 0 && start.elapsed() < PURGE {
        client.poll(Duration::from_millis(10));
    }
}
