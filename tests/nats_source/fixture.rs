//! A stream, a durable consumer and what the tests do with them.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Info, PullConsumer, pull};
use async_nats::jetstream::{self, Context, stream};
use tokio::time::{interval, timeout};
use turbostream::Receiver;
use turbostream::forward::JetStreamSource;

use crate::server::{HOW_TO_INSTALL, NatsServer, is_installed};

/// The bound on a wait that should end.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// Longer than a test.
pub(crate) const LONG: Duration = Duration::from_secs(600);

pub(crate) struct Fixture {
    pub(crate) server: NatsServer,
    pub(crate) context: Context,
    pub(crate) consumer: PullConsumer,
}

/// The messages of a stream are their numbers, counted from 1 and padded.
pub(crate) fn message(number: u64, len: usize) -> String {
    format!("{number:>len$}")
}

pub(crate) fn number(message: &[u8]) -> u64 {
    std::str::from_utf8(message).expect("text").trim().parse().expect("a number")
}

pub(crate) async fn connect(url: &str) -> Context {
    // Other tests, and checkers, may take the processor for longer than the 5 seconds of the default.
    let options = async_nats::ConnectOptions::new().connection_timeout(Duration::from_secs(60));
    jetstream::new(options.connect(url).await.expect("the server runs"))
}

impl Fixture {
    /// Starts a server with a stream of `messages`, each of `len` bytes, and a consumer with this `ack_wait`.
    pub(crate) async fn start(messages: u64, len: usize, ack_wait: Duration) -> Option<Self> {
        if !is_installed() {
            let is_required = std::env::var("TURBOSTREAM_REQUIRE_SERVERS").is_ok_and(|value| value == "1");
            assert!(!is_required, "{HOW_TO_INSTALL}");
            eprintln!("not tested: {HOW_TO_INSTALL}");
            return None;
        }
        let server = NatsServer::start("");
        let context = connect(&server.url()).await;
        let config = stream::Config { name: "S".into(), subjects: vec!["s.>".into()], ..Default::default() };
        context.create_stream(config).await.expect("a stream");
        let consumer = consumer(&context, AckPolicy::Explicit, ack_wait).await;
        let fixture = Self { server, context, consumer };
        fixture.publish(1..=messages, len).await;
        Some(fixture)
    }

    pub(crate) async fn publish(&self, numbers: std::ops::RangeInclusive<u64>, len: usize) {
        let mut acks = Vec::new();
        for number in numbers {
            acks.push(self.context.publish("s.a", message(number, len).into()).await.expect("published"));
            if acks.len() == 200 {
                for ack in acks.drain(..) {
                    ack.await.expect("stored");
                }
            }
        }
        for ack in acks {
            ack.await.expect("stored");
        }
    }

    pub(crate) fn source(&self) -> JetStreamSource {
        JetStreamSource::new(self.consumer.clone())
    }

    pub(crate) async fn info(&self) -> Info {
        self.consumer.get_info().await.expect("the consumer exists")
    }

    /// Waits until the server's view of the consumer satisfies `condition`.
    pub(crate) async fn until(&self, condition: impl Fn(&Info) -> bool) -> Info {
        let mut last = None;
        let satisfied = async {
            let mut ticks = interval(Duration::from_millis(20));
            loop {
                ticks.tick().await;
                let info = self.info().await;
                if condition(&info) {
                    return info;
                }
                last = Some(info);
            }
        };
        match timeout(LIMIT, satisfied).await {
            Ok(info) => info,
            Err(_) => panic!("not in time: {last:?}"),
        }
    }
}

pub(crate) async fn consumer(context: &Context, ack_policy: AckPolicy, ack_wait: Duration) -> PullConsumer {
    let config = pull::Config {
        durable_name: Some("C".into()),
        ack_policy,
        ack_wait,
        max_ack_pending: 100_000,
        ..Default::default()
    };
    let stream = context.get_stream("S").await.expect("the stream exists");
    stream.create_consumer(config).await.expect("a consumer")
}

/// Waits until `condition` holds.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let satisfied = async {
        let mut ticks = interval(Duration::from_millis(5));
        while !condition() {
            ticks.tick().await;
        }
    };
    timeout(LIMIT, satisfied).await.expect("in time");
}

/// Receives until `seen` has all numbers up to `last`.
pub(crate) async fn receive_all(rx: &mut Receiver, seen: &mut BTreeSet<u64>, last: u64) {
    while (seen.len() as u64) < last {
        let Ok(message) = timeout(LIMIT, rx.recv()).await else {
            let missing: Vec<_> = (1..=last).filter(|number| !seen.contains(number)).collect();
            panic!("not in time: {} are missing, from {:?} on", missing.len(), missing.first());
        };
        let message = message.expect("the channel is open");
        seen.insert(number(&message));
    }
}
