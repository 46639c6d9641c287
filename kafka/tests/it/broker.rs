//! A real broker in a process of its own: tansu, which speaks Kafka's protocol and keeps its topics in memory.
//!
//! `tests/install-tansu.sh FOLDER` installs it and prints the path of its executable, by which `TURBOSTREAM_TANSU` names it.
//! Without it a test prints `SKIPPED` and passes, unless `TURBOSTREAM_REQUIRE_SERVERS` is set: then it fails.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::watch;
use turbostream::forward::Forwarder;
use turbostream_kafka::Kafka;

use crate::support::*;

/// A running broker, which ends with this value, and a proxy before it.
struct Broker {
    process: Child,
    /// The address of the proxy, which the broker gives to its clients as its own.
    servers: String,
    cut: watch::Sender<u64>,
}

/// Passes bytes on between clients and the broker, and cuts all connections when `cut` changes.
async fn proxy(listener: tokio::net::TcpListener, broker: String, cut: watch::Receiver<u64>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let (mut cut, broker) = (cut.clone(), broker.clone());
        cut.mark_unchanged();
        tokio::spawn(async move {
            let Ok(mut server) = TcpStream::connect(broker).await else { return };
            tokio::select! {
                _ = copy_bidirectional(&mut client, &mut server) => {}
                _ = cut.changed() => {}
            }
        });
    }
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

impl Broker {
    /// Starts a broker with a topic, or returns `None` if none is installed.
    async fn start(partitions: i32) -> Option<Self> {
        let Some(tansu) = std::env::var_os("TURBOSTREAM_TANSU") else {
            let how = "tests/install-tansu.sh FOLDER installs it and prints the value of TURBOSTREAM_TANSU";
            assert!(std::env::var_os("TURBOSTREAM_REQUIRE_SERVERS").is_none(), "tansu is missing: {how}");
            eprintln!("SKIPPED: tansu is missing; {how}");
            return None;
        };
        let address = free_address();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let servers = listener.local_addr().expect("bound").to_string();
        let process = Command::new(tansu)
            .args(["broker", "--storage-engine", "memory://tansu/"])
            .args(["--listener-url", &format!("tcp://{address}")])
            .args(["--advertised-listener-url", &format!("tcp://{servers}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("tansu starts");
        let (cut, is_cut) = watch::channel(0);
        let broker = Self { process, servers, cut };
        within(async {
            while TcpStream::connect(&address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::spawn(proxy(listener, address, is_cut));
            broker.create_topic(partitions).await;
        })
        .await;
        Some(broker)
    }

    async fn create_topic(&self, partitions: i32) {
        let admin: AdminClient<DefaultClientContext> = client(&self.servers).create().expect("a client");
        let topic = NewTopic::new(TOPIC, partitions, TopicReplication::Fixed(1));
        let created = admin.create_topics([&topic], &AdminOptions::new()).await.expect("an answer");
        assert_eq!(created, [Ok(TOPIC.to_owned())]);
    }

    fn cut_connections(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    fn kafka(&self) -> Kafka {
        Kafka::new(&client(&self.servers), TOPIC).expect("a destination")
    }

    async fn stored(&self) -> Vec<Stored> {
        let servers = self.servers.clone();
        within(tokio::task::spawn_blocking(move || read_back(&servers, TOPIC)).map(Result::unwrap)).await
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_stores_each_message_once_in_order() {
    let Some(broker) = Broker::start(1).await else { return };
    let messages = numbered(20_000);
    let mut driver = Driver::new(broker.kafka(), messages.clone(), 5_000);
    for count in (2_000..20_000).step_by(2_000) {
        driver.run_until(count).await.expect("delivered");
        driver.go_back();
    }
    driver.run().await.expect("delivered");
    let stored = broker.stored().await;
    assert_same(&payloads(&stored), &messages);
    assert_eq!(stored[0].id.as_deref(), Some("test-1-1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_one_key_stay_in_order() {
    let Some(broker) = Broker::start(3).await else { return };
    let kafka = broker.kafka().key(|message| message.last().map(|last| vec![*last].into()));
    Driver::new(kafka, numbered(5_000), 1_000).run().await.expect("delivered");
    let stored = broker.stored().await;
    assert_same(&sorted(payloads(&stored)), &sorted(numbered(5_000)));
    for last in b'0'..=b'9' {
        let of_key: Vec<&Bytes> = stored
            .iter()
            .filter(|stored| stored.key.as_deref() == Some(&[last]))
            .map(|s| &s.payload)
            .collect();
        let expected = numbered(5_000);
        assert!(of_key.into_iter().eq(expected.iter().filter(|message| message.last() == Some(&last))));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_stands_still_loses_and_doubles_nothing() {
    let Some(broker) = Broker::start(1).await else { return };
    let messages = numbered(10_000);
    let mut driver = Driver::new(broker.kafka(), messages.clone(), 1_000);
    for count in [1_000, 4_000, 7_000] {
        driver.run_until(count).await.expect("delivered");
        broker.signal("-STOP");
        driver.publish().await;
        driver.go_back();
        let outcome = tokio::time::timeout(Duration::from_millis(300), driver.run()).await;
        assert!(outcome.is_err(), "nothing is confirmed while the broker stands still");
        broker.signal("-CONT");
    }
    driver.run().await.expect("delivered");
    assert_same(&payloads(&broker.stored().await), &messages);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_lose_and_double_nothing() {
    let Some(broker) = Broker::start(1).await else { return };
    let messages = numbered(30_000);
    let mut driver = Driver::new(broker.kafka(), messages.clone(), 3_000);
    for count in (500..30_000).step_by(500) {
        driver.run_until(count).await.expect("delivered");
        // Requests are in flight.
        broker.cut_connections();
    }
    driver.run().await.expect("delivered");
    assert_same(&payloads(&broker.stored().await), &messages);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forwarder_stores_each_message_once_in_order_through_cuts_and_stops() {
    let Some(broker) = Broker::start(1).await else { return };
    let (tx, rx) = turbostream::builder().max_bytes(1 << 20).build().expect("a channel");
    let forwarder =
        Forwarder::new(rx, broker.kafka()).confirm_timeout(Duration::from_millis(100)).strict_order();
    let handle = forwarder.spawn();
    let messages = numbered(100_000);
    for (round, chunk) in messages.chunks(2_500).enumerate() {
        for message in chunk {
            within(tx.send(message.clone())).await.expect("open");
        }
        broker.cut_connections();
        if round % 10 == 5 {
            broker.signal("-STOP");
            // Longer than the confirm timeout: the forwarder goes back.
            tokio::time::sleep(Duration::from_millis(300)).await;
            broker.signal("-CONT");
        }
    }
    let report = within(handle.shutdown()).await.expect("complete");
    assert_eq!((report.stats.confirmed, report.stats.rejected), (100_000, 0));
    assert_same(&payloads(&broker.stored().await), &messages);
}
