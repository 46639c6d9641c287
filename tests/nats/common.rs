//! What the tests share: streams, numbered messages, and what a stream has of them.

use std::collections::HashSet;
use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::stream::{Config, StorageType, Stream};
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use futures::StreamExt;
use turbostream::Sender;
use turbostream::forward::{ForwardHandle, Forwarder, JetStream, JetStreamEvents, Packing, unpack};

use crate::server::{HOW_TO_INSTALL, NatsServer, is_installed};

/// Bounds a hang, times the effort.
const LIMIT: Duration = Duration::from_secs(120);
pub(crate) const SUBJECT: &str = "logs.a";

/// Runs a test on a runtime of its own if `nats-server` is installed.
pub(crate) fn with_servers(test: impl Future<Output = ()>) {
    if !is_installed() {
        let is_required = std::env::var("TURBOSTREAM_REQUIRE_SERVERS").is_ok_and(|value| value == "1");
        assert!(!is_required, "{HOW_TO_INSTALL}");
        eprintln!("not tested: {HOW_TO_INSTALL}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(LIMIT * u32::try_from(effort(1).max(1)).expect("an effort"), test)
            .await
            .expect("the test hangs")
    });
}

/// Returns `count` times the effort.
pub(crate) fn effort(count: u64) -> u64 {
    let effort =
        std::env::var("TURBOSTREAM_EFFORT").ok().and_then(|value| value.parse().ok()).unwrap_or(1.0_f64);
    (count as f64 * effort) as u64
}

/// Connects to a server, with the destination's events.
pub(crate) async fn connect(url: &str) -> (Context, JetStreamEvents) {
    let events = JetStreamEvents::new();
    // Other tests, and checkers, may take the processor for longer than the 5 seconds of the default.
    let options = async_nats::ConnectOptions::new().connection_timeout(Duration::from_secs(60));
    let options = options.event_callback(events.callback());
    (jetstream::new(options.connect(url).await.expect("a connection")), events)
}

/// The configuration of the stream `LOGS` with the subjects `logs.>`.
pub(crate) fn config() -> Config {
    Config {
        name: "LOGS".into(),
        subjects: vec!["logs.>".into()],
        storage: StorageType::File,
        duplicate_window: Duration::from_secs(120),
        ..Config::default()
    }
}

pub(crate) async fn create(server: &NatsServer, config: Config) -> Stream {
    let (context, _) = connect(&server.url()).await;
    context.create_stream(config).await.expect("a stream")
}

/// A channel and a forwarder from it into `SUBJECT`.
pub(crate) struct Pipeline {
    pub(crate) tx: Sender,
    pub(crate) handle: ForwardHandle,
}

pub(crate) const MAX_BYTES: usize = 16 << 20;

impl Pipeline {
    pub(crate) async fn start(
        url: &str,
        set: impl FnOnce(Forwarder<JetStream>) -> Forwarder<JetStream>,
    ) -> Self {
        let (context, events) = connect(url).await;
        Self::with(JetStream::new(context, SUBJECT).events(events), set)
    }

    pub(crate) fn with(
        destination: JetStream,
        set: impl FnOnce(Forwarder<JetStream>) -> Forwarder<JetStream>,
    ) -> Self {
        let (tx, rx) = turbostream::builder().max_bytes(MAX_BYTES).build().expect("valid settings");
        let forwarder =
            Forwarder::new(rx, destination).retry(Duration::from_millis(20), Duration::from_millis(500));
        Self { tx, handle: set(forwarder).spawn() }
    }

    /// Sends the messages with these numbers.
    pub(crate) async fn send(&self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            self.tx.send(message(number)).await.expect("the forwarder runs");
        }
    }

    /// Waits until this many messages are confirmed.
    pub(crate) async fn confirmed(&self, count: u64) {
        until(async || self.handle.stats().confirmed >= count || self.handle.is_finished()).await;
        assert!(
            self.handle.stats().confirmed >= count,
            "the forwarder has ended: {:?}",
            self.handle.join().await
        );
    }
}

/// The message with this number.
pub(crate) fn message(number: u64) -> String {
    format!("{number:012}{:100}", "")
}

/// Waits for a condition of another process.
pub(crate) async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let mut interval = tokio::time::interval(Duration::from_millis(5));
    while !condition().await {
        interval.tick().await;
    }
}

/// What a stream has of the messages 0 to `count - 1`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) missing: u64,
    pub(crate) twice: u64,
    pub(crate) out_of_order: u64,
}

/// Reads a stream from the beginning. Other messages than numbered ones are passed over.
pub(crate) async fn read(url: &str, count: u64) -> Found {
    check(messages(url).await.iter(), count)
}

/// Reads a stream of packs of lines.
pub(crate) async fn read_packed(url: &str, count: u64) -> Found {
    let messages = messages(url).await;
    let lines = messages.iter().flat_map(|pack| unpack(Packing::Lines, pack));
    let lines: Vec<Bytes> = lines.collect::<Result<_, _>>().expect("lines");
    check(lines.iter(), count)
}

/// Returns the payloads of all messages of the stream.
async fn messages(url: &str) -> Vec<Bytes> {
    let (context, _) = connect(url).await;
    // A cluster whose servers were killed answers once it has elected leaders for the stream and for the consumer.
    let (total, consumer) = loop {
        let Ok(stream) = context.get_stream("LOGS").await else { continue };
        if let Ok(consumer) = stream.create_consumer(pull::OrderedConfig::default()).await {
            break (stream.cached_info().state.messages, consumer);
        }
    };
    let messages =
        consumer.messages().await.expect("messages").take(usize::try_from(total).expect("a count"));
    messages.map(|message| message.expect("a message").payload.clone()).collect().await
}

fn check<'a>(messages: impl Iterator<Item = &'a Bytes>, count: u64) -> Found {
    let (mut found, mut seen, mut highest) = (Found::default(), HashSet::new(), None);
    for message in messages {
        let text = message.get(..12).and_then(|digits| std::str::from_utf8(digits).ok());
        let Some(number) = text.and_then(|digits| digits.parse::<u64>().ok()) else { continue };
        found.twice += u64::from(!seen.insert(number));
        found.out_of_order += u64::from(highest.is_some_and(|highest| number < highest));
        highest = highest.max(Some(number));
    }
    found.missing = (0..count).filter(|number| !seen.contains(number)).count() as u64;
    found
}
