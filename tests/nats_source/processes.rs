//! Processes that share a consumer. A process is this test's own program again, with the server's address in a variable.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use tokio::sync::mpsc;
use tokio::time::timeout;
use turbostream::channel;
use turbostream::forward::JetStreamSource;

use crate::fixture::{Fixture, LIMIT, connect, number};

const SERVER: &str = "TURBOSTREAM_TEST_SERVER";
const MOST: &str = "TURBOSTREAM_TEST_MESSAGES";

/// A process that receives, and writes what it received to a pipe.
struct Process {
    child: Child,
    numbers: mpsc::UnboundedReceiver<u64>,
}

impl Process {
    /// Starts a process that receives at most `most` messages, and then no more until its input ends.
    fn start(test: &str, url: &str, most: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .envs([(SERVER, url), (MOST, &most.to_string())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts again");
        let output = child.stdout.take().expect("a pipe");
        let (numbers, receiver) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(number) = line.strip_prefix("received ") {
                    let _ = numbers.send(number.parse().expect("a number"));
                }
            }
        });
        Self { child, numbers: receiver }
    }

    async fn next(&mut self) -> u64 {
        timeout(LIMIT, self.numbers.recv()).await.expect("in time").expect("the process runs")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It fails if the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the other process does.
async fn receive(url: String) {
    let most = std::env::var(MOST).expect("set with the server").parse::<u64>().expect("a number");
    let context = connect(&url).await;
    let consumer: PullConsumer =
        context.get_consumer_from_stream("C", "S").await.expect("the consumer exists");
    let (tx, mut rx) = channel();
    let source = JetStreamSource::new(consumer).in_flight(500, 1 << 20).spawn(tx);
    let input = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let mut received = 0;
    let receive = async {
        while received < most {
            let Some(message) = rx.recv().await else { break };
            received += 1;
            let mut out = std::io::stdout().lock();
            writeln!(out, "\nreceived {}", number(&message))
                .and_then(|()| out.flush())
                .expect("the parent reads");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = receive => {}
        _ = input => {}
    }
    let report = source.stop_timeout(Duration::ZERO).await.expect("the source was stopped");
    assert!(report.stats.acknowledged <= received);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_is_received_when_one_of_two_processes_is_killed() {
    const MESSAGES: u64 = 3_000;
    const TEST: &str = "processes::every_message_is_received_when_one_of_two_processes_is_killed";
    if let Ok(url) = std::env::var(SERVER) {
        return receive(url).await;
    }
    let Some(fixture) = Fixture::start(MESSAGES, 100, Duration::from_secs(2)).await else { return };
    let mut first = Process::start(TEST, &fixture.server.url(), 700);
    let mut seen = BTreeSet::new();
    while seen.len() < 700 {
        seen.insert(first.next().await);
    }
    // The first process has received 700, and holds many more. All acknowledged messages are among the 700.
    let mut last =
        fixture.until(|info| info.ack_floor.stream_sequence >= 200 && info.num_ack_pending >= 100).await;
    for _ in 0..20 {
        last = fixture.info().await;
        assert!(last.ack_floor.stream_sequence <= 700, "{last:?}");
    }
    let mut second = Process::start(TEST, &fixture.server.url(), u64::MAX);
    // Both hold messages now.
    seen.insert(second.next().await);
    first.child.kill().expect("the first process runs");
    while (seen.len() as u64) < MESSAGES {
        seen.insert(second.next().await);
    }
    assert_eq!(seen, (1..=MESSAGES).collect());
    fixture.until(|info| info.num_ack_pending == 0 && info.ack_floor.stream_sequence == MESSAGES).await;
    drop(second.child.stdin.take());
    assert!(second.child.wait().expect("a child").success());
    assert!(last.num_ack_pending > 0);
}
