//! A real broker in a process of its own: tansu, which speaks Kafka's protocol and keeps its topics in memory.
//!
//! `tests/install-tansu.sh FOLDER` installs it and prints the path of its executable, by which `TURBOSTREAM_TANSU` names it.
//! Without it a test prints `SKIPPED` and passes, unless `TURBOSTREAM_REQUIRE_SERVERS` is set: then it fails.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::FutureExt;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::sync::watch;
use turbostream::forward::{Destination, Forwarder};
use turbostream_kafka::Kafka;

use crate::support::*;

/// A running broker, which ends with this value, and a proxy before it.
struct Broker {
    process: Child,
    /// The address of the proxy, which the broker gives to its clients as its own.
    servers: String,
    cut: watch::Sender<u64>,
    refuse: Arc<AtomicUsize>,
}

/// Passes requests and answers on between clients and the broker. Cuts all connections when `cut` changes, and refuses as many
/// requests to store as `refuse` says, which the broker then does not get.
async fn proxy(
    listener: tokio::net::TcpListener,
    broker: String,
    cut: watch::Receiver<u64>,
    refuse: Arc<AtomicUsize>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let (mut cut, broker, refuse) = (cut.clone(), broker.clone(), refuse.clone());
        cut.mark_unchanged();
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(broker).await else { return };
            tokio::select! {
                _ = pass_on(client, server, &refuse) => {}
                _ = cut.changed() => {}
            }
        });
    }
}

async fn pass_on(client: TcpStream, server: TcpStream, refuse: &AtomicUsize) -> std::io::Result<()> {
    let (mut requests, mut to_client) = client.into_split();
    let (mut answers, mut to_server) = server.into_split();
    let (tx, mut rx) = mpsc::unbounded_channel();
    let refusals = tx.clone();
    let ask = async {
        loop {
            let request = read_frame(&mut requests).await?;
            let is_refused = request.starts_with(&[0, 0])
                && refuse.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
            match is_refused {
                true => refusals.send(refusal(&request)).expect("open"),
                false => write_frame(&mut to_server, &request).await?,
            }
        }
    };
    let answer = async {
        loop {
            tx.send(read_frame(&mut answers).await?).expect("open");
        }
    };
    let write = async {
        while let Some(answer) = rx.recv().await {
            write_frame(&mut to_client, &answer).await?;
        }
        Ok(())
    };
    tokio::select! {
        result = ask => result,
        result = answer => result,
        result = write => result,
    }
}

async fn read_frame(from: &mut OwnedReadHalf) -> std::io::Result<Vec<u8>> {
    let mut frame = vec![0; from.read_u32().await? as usize];
    from.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn write_frame(to: &mut OwnedWriteHalf, frame: &[u8]) -> std::io::Result<()> {
    to.write_all(&[&(frame.len() as u32).to_be_bytes(), frame].concat()).await
}

/// Answers a request to store in partition 0 of the topic with the error -1, in the version of the request.
fn refusal(request: &[u8]) -> Vec<u8> {
    let version = i16::from_be_bytes([request[2], request[3]]);
    let is_flexible = version >= 9;
    let mut answer = BytesMut::from(&request[4..8]);
    match is_flexible {
        true => answer.put_slice(&[0, 2, TOPIC.len() as u8 + 1]),
        false => answer.put_slice(&[0, 0, 0, 1, 0, TOPIC.len() as u8]),
    }
    answer.put_slice(TOPIC.as_bytes());
    match is_flexible {
        true => answer.put_u8(2),
        false => answer.put_i32(1),
    }
    answer.put_i32(0);
    answer.put_i16(-1);
    // The offset, and the times of appending and of the start of the log.
    answer.put_i64(-1);
    answer.put_i64(-1);
    if version >= 5 {
        answer.put_i64(-1);
    }
    match version {
        9.. => answer.put_slice(&[1, 0, 0, 0]),
        8 => answer.put_slice(&[0, 0, 0, 0, 255, 255]),
        _ => {}
    }
    answer.put_i32(0);
    if is_flexible {
        answer.put_u8(0);
    }
    answer.to_vec()
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
        let refuse = Arc::<AtomicUsize>::default();
        let broker = Self { process, servers, cut, refuse: refuse.clone() };
        within(async {
            while TcpStream::connect(&address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::spawn(proxy(listener, address, is_cut, refuse));
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

/// Has single requests refused while several are in flight, and returns what the broker stored.
async fn store_despite_refusals(broker: Broker, is_strict: bool) -> Vec<Bytes> {
    let mut config = client(&broker.servers);
    // Many requests, so that several are in flight when one is refused.
    let mut kafka = Kafka::new(config.set("batch.num.messages", "50"), TOPIC).expect("a destination");
    assert!(!is_strict || kafka.strict_order());
    let mut driver = Driver::new(kafka, numbered(30_000), 2_000);
    for count in (2_000..30_000).step_by(4_000) {
        driver.run_until(count).await.expect("delivered");
        broker.refuse.store(1, Relaxed);
    }
    driver.run().await.expect("delivered");
    assert!(driver.retries >= 5, "{}", driver.retries);
    payloads(&broker.stored().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_overtakes_a_refused_request_in_strict_order() {
    let Some(broker) = Broker::start(1).await else { return };
    assert_same(&store_despite_refusals(broker, true).await, &numbered(30_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_request_loses_and_doubles_nothing() {
    let Some(broker) = Broker::start(1).await else { return };
    let stored = store_despite_refusals(broker, false).await;
    assert_same(&sorted(stored), &sorted(numbered(30_000)));
}
