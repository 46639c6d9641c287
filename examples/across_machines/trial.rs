//! The trial: starts servers and processes, kills some of them, and collects what they report.

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{Config, ConsumerErrorKind, StorageType, Stream};
use async_nats::jetstream::{self, Context};
use futures::StreamExt;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{interval, timeout};
use turbostream::forward::unpack;

use crate::message::Mark;
use crate::nats_server::Cluster;
use crate::process::{Process, Report};
use crate::proof::{Life, Seen};
use crate::workers::PACKING;
use crate::{CONSUMER, Options, STREAM};

/// How long the servers may take for one thing.
const PATIENCE: Duration = Duration::from_secs(60);

struct Producer {
    process: Process,
    /// The number that the reports of the process carry.
    report_number: usize,
    lives: Vec<Life>,
    is_done: bool,
}

struct Consumer {
    process: Process,
    report_number: usize,
    is_stopped: bool,
}

/// The servers, the processes, and what they have reported.
pub(crate) struct Trial<'a> {
    options: &'a Options,
    start: Instant,
    // In this order, processes end before the servers.
    producers: Vec<Producer>,
    consumers: Vec<Consumer>,
    cluster: Cluster,
    stream: Stream,
    reports: UnboundedReceiver<Report>,
    reporting: UnboundedSender<Report>,
    started: usize,
    /// The leader, while it is dead.
    dead_leader: Option<String>,
    outcome: Outcome,
}

/// What the trial has come to.
#[derive(Default)]
pub(crate) struct Outcome {
    /// The lives of each producer.
    pub(crate) producers: Vec<Vec<Life>>,
    pub(crate) stream: Seen,
    pub(crate) consumed: Seen,
    /// How often messages were given to consumers.
    pub(crate) deliveries: u64,
    /// Payloads, each of one or more messages.
    pub(crate) redelivered: u64,
    pub(crate) acknowledged: u64,
    pub(crate) retried: u64,
    pub(crate) duplicates: u64,
    pub(crate) elapsed: Duration,
}

impl<'a> Trial<'a> {
    /// Starts the servers and the processes.
    pub(crate) async fn start(options: &'a Options) -> anyhow::Result<Self> {
        let start = Instant::now();
        let cluster = tokio::task::block_in_place(|| Cluster::start(""));
        crate::say(&format!("{:5.1} s  started 3 servers", start.elapsed().as_secs_f64()));
        let client = async_nats::connect(cluster.urls()).await.context("no connection to the servers")?;
        let mut context = jetstream::new(client);
        context.set_timeout(Duration::from_secs(1)); // without a leader, no server answers
        let stream =
            timeout(PATIENCE, create_stream(&context)).await.context("the servers have no leader")?;
        let (reporting, reports) = mpsc::unbounded_channel();
        let mut trial = Self {
            options,
            start,
            producers: Vec::new(),
            consumers: Vec::new(),
            cluster,
            stream,
            reports,
            reporting,
            started: 0,
            dead_leader: None,
            outcome: Outcome::default(),
        };
        trial.say("created a stream of three replicas");
        for _ in 0..options.consumers {
            let (process, report_number) = trial.spawn(&["consumer".into()])?;
            trial.consumers.push(Consumer { process, report_number, is_stopped: false });
        }
        for number in 0..options.producers {
            let (process, report_number) = trial.spawn_producer(number, 0, 0)?;
            let lives = vec![Life { from: 0, confirmed: 0 }];
            trial.producers.push(Producer { process, report_number, lives, is_done: false });
        }
        trial.say(&format!("started {} producers and {} consumers", options.producers, options.consumers));
        Ok(trial)
    }

    fn spawn_producer(
        &mut self,
        producer: usize,
        life: usize,
        from: u64,
    ) -> anyhow::Result<(Process, usize)> {
        let to = self.options.messages_each();
        let mut arguments = vec!["producer".to_owned()];
        for (name, value) in
            [("producer", producer as u64), ("life", life as u64), ("from", from), ("to", to)]
        {
            arguments.extend([format!("--{name}"), value.to_string()]);
        }
        self.spawn(&arguments)
    }

    fn spawn(&mut self, arguments: &[String]) -> anyhow::Result<(Process, usize)> {
        let number = self.started;
        self.started += 1;
        let servers = ["--servers".to_owned(), self.cluster.urls().join(",")];
        let arguments: Vec<_> = arguments.iter().cloned().chain(servers).collect();
        Ok((Process::start(number, &arguments, self.reporting.clone())?, number))
    }

    fn say(&self, what: &str) {
        crate::say(&format!("{:5.1} s  {what}", self.start.elapsed().as_secs_f64()));
    }

    /// Runs until everything is confirmed and consumed, and kills a leader and a producer meanwhile.
    pub(crate) async fn run(mut self) -> anyhow::Result<Outcome> {
        let total = self.options.messages_each() * self.options.producers as u64;
        self.until_confirmed(total / 4).await?;
        self.kill_leader().await?;
        self.until_confirmed(total / 2).await?;
        self.replace_producer()?;
        self.until_confirmed(total * 3 / 4).await?;
        self.restart_leader();
        while self.producers.iter().any(|producer| !producer.is_done) {
            self.next_report().await?;
        }
        self.say(&format!("all producers have ended: {total} messages are confirmed"));
        self.outcome.producers = self.producers.iter().map(|producer| producer.lives.clone()).collect();
        self.read_stream().await.context("cannot read the stream back")?;
        // Consumers get all that is in the stream, also what a killed producer did not know to be confirmed.
        while self.outcome.consumed.messages() < self.outcome.stream.messages() {
            self.next_report().await?;
        }
        self.say("all messages are consumed");
        for consumer in &mut self.consumers {
            consumer.process.close_stdin();
        }
        while self.consumers.iter().any(|consumer| !consumer.is_stopped) {
            self.next_report().await?;
        }
        self.outcome.elapsed = self.start.elapsed();
        Ok(self.outcome)
    }

    async fn until_confirmed(&mut self, count: u64) -> anyhow::Result<()> {
        let confirmed = |life: &Life| life.confirmed - life.from;
        while self.producers.iter().flat_map(|one| &one.lives).map(confirmed).sum::<u64>() < count {
            self.next_report().await?;
        }
        Ok(())
    }

    /// Kills the server that leads the stream.
    async fn kill_leader(&mut self) -> anyhow::Result<()> {
        let info = self.stream.info().await.context("cannot ask for the leader")?;
        let leader = info.cluster.as_ref().and_then(|cluster| cluster.leader.clone());
        let leader = leader.context("the stream has no leader")?;
        tokio::task::block_in_place(|| self.cluster.named(&leader).kill());
        self.say(&format!("killed the server {leader}, the leader of the stream"));
        self.dead_leader = Some(leader);
        Ok(())
    }

    fn restart_leader(&mut self) {
        if let Some(leader) = self.dead_leader.take() {
            tokio::task::block_in_place(|| self.cluster.named(&leader).restart());
            self.say(&format!("started the server {leader} again"));
        }
    }

    /// Kills a producer, and starts another process that goes on after what the first one knew to be confirmed.
    fn replace_producer(&mut self) -> anyhow::Result<()> {
        let running = self.producers.iter().position(|producer| !producer.is_done);
        let number = running.context("all producers have ended too early: use more --messages")?;
        self.producers[number].process.kill();
        self.producers[number].is_done = true; // the process is to end
        // What it has reported before its death counts.
        while let Ok(report) = self.reports.try_recv() {
            self.apply(report)?;
        }
        let producer = &self.producers[number];
        let (from, life) = (producer.lives.last().map_or(0, |life| life.confirmed), producer.lives.len());
        let (process, report_number) = self.spawn_producer(number, life, from)?;
        let producer = &mut self.producers[number];
        (producer.process, producer.report_number, producer.is_done) = (process, report_number, false);
        producer.lives.push(Life { from, confirmed: from });
        self.say(&format!("killed the producer {number}; another process goes on from its message {from}"));
        Ok(())
    }

    async fn next_report(&mut self) -> anyhow::Result<()> {
        let report = timeout(PATIENCE, self.reports.recv()).await;
        let report = report.map_err(|_| anyhow!("no process has reported for {} s", PATIENCE.as_secs()))?;
        self.apply(report.context("the trial keeps a sender")?)
    }

    /// Takes note of a report.
    fn apply(&mut self, Report { from, line }: Report) -> anyhow::Result<()> {
        let producer = self.producers.iter_mut().find(|producer| producer.report_number == from);
        let consumer = self.consumers.iter_mut().find(|consumer| consumer.report_number == from);
        let Some(line) = line else {
            // A killed producer is not among them any more.
            let has_ended = producer.is_none_or(|producer| producer.is_done)
                && consumer.is_none_or(|consumer| consumer.is_stopped);
            ensure!(has_ended, "process {from} has ended early");
            return Ok(());
        };
        let unknown = || anyhow!("a process has reported {line:?}");
        let (word, rest) = line.split_once(' ').ok_or_else(unknown)?;
        let numbers: Vec<u64> =
            rest.split(' ').map(str::parse).collect::<Result<_, _>>().map_err(|_| unknown())?;
        match (word, &numbers[..], producer, consumer) {
            ("flushed", &[number], Some(producer), _) => {
                producer.lives.last_mut().context("a producer has a life")?.confirmed = number;
            }
            ("done", &[retried, duplicates], Some(producer), _) => {
                producer.is_done = true;
                self.outcome.retried += retried;
                self.outcome.duplicates += duplicates;
            }
            ("got", _, _, Some(_)) => {
                self.outcome.consumed.add(Mark::read(rest.as_bytes()).ok_or_else(unknown)?);
                self.outcome.deliveries += 1;
            }
            ("stopped", &[acknowledged, redelivered], _, Some(consumer)) => {
                consumer.is_stopped = true;
                self.outcome.acknowledged += acknowledged;
                self.outcome.redelivered += redelivered;
            }
            ("flushed" | "done", ..) => {} // of a producer that was killed since
            _ => bail!(unknown()),
        }
        Ok(())
    }

    /// Reads all messages of the stream.
    async fn read_stream(&mut self) -> anyhow::Result<()> {
        // The servers may still elect a leader for the consumer, after one of them was started again.
        let create = async || loop {
            match self.stream.create_consumer(pull::OrderedConfig::default()).await {
                Err(error) if error.kind() == ConsumerErrorKind::TimedOut => {}
                created => break created,
            }
        };
        let consumer = timeout(PATIENCE, create()).await.context("no leader for a consumer")??;
        let mut pending = consumer.cached_info().num_pending;
        let mut messages = consumer.messages().await?;
        while pending > 0 {
            let message = timeout(PATIENCE, messages.next()).await?.context("the stream has ended")??;
            pending = message.info().map_err(|error| anyhow!(error))?.pending;
            for message in unpack(PACKING, &message.payload) {
                let mark = Mark::read(&message?).context("a message of another publisher")?;
                self.outcome.stream.add(mark);
            }
        }
        Ok(())
    }
}

/// Creates the stream and its consumer, as soon as the servers have elected a leader.
async fn create_stream(context: &Context) -> Stream {
    let config = Config {
        name: STREAM.into(),
        subjects: vec!["events.>".into()],
        storage: StorageType::File,
        num_replicas: 3,
        ..Config::default()
    };
    let consumer = pull::Config {
        durable_name: Some(CONSUMER.into()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: Duration::from_secs(5),
        max_ack_pending: 16_384,
        ..pull::Config::default()
    };
    let mut attempts = interval(Duration::from_millis(100));
    loop {
        attempts.tick().await;
        let Ok(stream) = context.get_or_create_stream(config.clone()).await else { continue };
        if stream.get_or_create_consumer(CONSUMER, consumer.clone()).await.is_ok() {
            return stream;
        }
    }
}
