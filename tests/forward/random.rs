//! Random scripts: the destination confirms late, out of order, never, with errors, hangs, and comes back.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use turbostream::forward::{
    FlushError, ForwardError, ForwardErrorKind, ForwardHandle, ForwardReport, Forwarder, Packing, StopReason,
};
use turbostream::{Monitor, Sender};

use crate::common::{self, current_runtime, effort, plain_within};
use crate::engine::{Fate, POISON, World, is_poison};
use crate::{HOUR, Rejected};

const CASES: u32 = 300;
const MIN_RETRY: Duration = Duration::from_millis(10);
const MAX_BYTES: usize = 64 << 10;

#[derive(Clone, Debug)]
struct Setup {
    messages: usize,
    bytes: usize,
    is_ordered: bool,
    strict: bool,
    knows: bool,
    packing: Option<(Packing, usize)>,
    max_payload: Option<usize>,
    give_up_after: Option<u64>,
    on_demand: bool,
    has_ids: bool,
}

#[derive(Clone, Debug)]
enum Op {
    Send { len: usize, ending: u8 },
    SendMany(usize),
    Sleep(u64),
    Fates(Vec<Fate>),
    Disconnect,
    Reconnect,
    ReadyErrors(usize),
    ReadyDelay(u64),
    Hang(bool),
    ResumeErrors(usize),
    ResumeDelay(u64),
    Flush,
    DroppedFlush,
    DroppedJoin,
}

#[derive(Clone, Debug)]
enum Finish {
    Shutdown,
    DropSenders,
    /// Without an end to the failures.
    Limit(u64),
    RuntimeEnds,
    Stop,
    Panic,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Good),
        3 => (0..200_u64).prop_map(Fate::LateConfirmation),
        3 => (0..200_u64).prop_map(Fate::LateArrival),
        1 => Just(Fate::NoConfirmation),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Queued),
        1 => Just(Fate::Retry),
        1 => Just(Fate::StoredRetry),
        1 => (0..200_u64).prop_map(Fate::LateRetry),
        1 => Just(Fate::OutOfOrder),
        1 => Just(Fate::Dropped),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..300_usize, 0..12_u8).prop_map(|(len, ending)| Op::Send { len, ending }),
        4 => (1..40_usize).prop_map(Op::SendMany),
        6 => (0..120_u64).prop_map(Op::Sleep),
        1 => (500..2_500_u64).prop_map(Op::Sleep),
        6 => vec(fate(), 1..12).prop_map(Op::Fates),
        2 => Just(Op::Disconnect),
        3 => Just(Op::Reconnect),
        1 => (1..4_usize).prop_map(Op::ReadyErrors),
        1 => (0..100_u64).prop_map(Op::ReadyDelay),
        1 => any::<bool>().prop_map(Op::Hang),
        1 => (1..4_usize).prop_map(Op::ResumeErrors),
        1 => (0..100_u64).prop_map(Op::ResumeDelay),
        2 => Just(Op::Flush),
        1 => Just(Op::DroppedFlush),
        1 => Just(Op::DroppedJoin),
    ]
}

fn packing() -> impl Strategy<Value = Option<(Packing, usize)>> {
    let packing = prop_oneof![Just(Packing::Lines), Just(Packing::LengthDelimited)];
    prop::option::of((packing, 1..3_000_usize))
}

fn setup() -> impl Strategy<Value = Setup> {
    let window = (1..40_usize, prop_oneof![0..2_000_usize, Just(32 << 10)]);
    let booleans = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), prop::bool::weighted(0.9));
    let limits = (prop::option::of(1..600_usize), prop::option::weighted(0.1, 100..5_000_u64));
    (window, booleans, packing(), limits).prop_map(|(window, booleans, packing, limits)| Setup {
        messages: window.0,
        bytes: window.1,
        is_ordered: booleans.0,
        strict: booleans.1,
        knows: booleans.2,
        on_demand: booleans.3,
        has_ids: booleans.4 || booleans.0,
        packing,
        max_payload: limits.0,
        give_up_after: limits.1,
    })
}

fn finish() -> impl Strategy<Value = Finish> {
    prop_oneof![
        4 => Just(Finish::Shutdown),
        3 => Just(Finish::DropSenders),
        2 => (0..3_000_u64).prop_map(Finish::Limit),
        1 => Just(Finish::RuntimeEnds),
        1 => Just(Finish::Stop),
        1 => Just(Finish::Panic),
    ]
}

/// A flush, and how many messages were accepted before it.
struct RunningFlush {
    accepted: usize,
    flush: JoinHandle<Result<HashSet<Bytes>, FlushError>>,
}

struct Case {
    setup: Setup,
    world: World,
    rejected: Rejected,
    tx: Option<Sender>,
    handle: Arc<ForwardHandle>,
    monitor: Monitor,
    accepted: Vec<Bytes>,
    flushes: Vec<RunningFlush>,
    started: Instant,
    reconnects: u64,
    sends: u64,
}

impl Case {
    fn start(setup: &Setup) -> Self {
        let world = World::default();
        {
            let mut engine = world.lock();
            (engine.is_ordered, engine.knows) = (setup.is_ordered, setup.knows);
            engine.max_payload = setup.max_payload;
        }
        let (tx, rx) = turbostream::builder()
            .max_bytes(MAX_BYTES)
            .segment_bytes(4 << 10)
            .on_demand(setup.on_demand)
            .build()
            .expect("valid settings");
        let rejected = Rejected::default();
        let mut forwarder = Forwarder::new(rx, world.destination())
            .in_flight(setup.messages, setup.bytes)
            .retry(MIN_RETRY, 20 * MIN_RETRY)
            .confirm_timeout(Duration::from_secs(1))
            .on_rejected(rejected.callback());
        if setup.strict {
            forwarder = forwarder.strict_order();
        }
        if !setup.has_ids {
            forwarder = forwarder.without_message_ids();
        }
        if let Some((packing, bytes)) = setup.packing {
            forwarder = forwarder.pack(packing, bytes);
        }
        if let Some(limit) = setup.give_up_after {
            forwarder = forwarder.give_up_after(Duration::from_millis(limit));
        }
        let monitor = tx.monitor();
        Self {
            setup: setup.clone(),
            world,
            rejected,
            tx: Some(tx),
            handle: Arc::new(forwarder.spawn()),
            monitor,
            accepted: Vec::new(),
            flushes: Vec::new(),
            started: Instant::now(),
            reconnects: 0,
            sends: 0,
        }
    }

    fn packing(&self) -> Option<Packing> {
        self.setup.packing.map(|(packing, _)| packing)
    }

    fn send(&mut self, len: usize, ending: u8) {
        let mut message = format!("{:06}", self.accepted.len()).into_bytes();
        message.resize(6 + len, b'x');
        // A newline inside would make several messages of it, for a reader of lines.
        match ending {
            0 => message.extend_from_slice(POISON),
            1..=4 => message.push(b'\n'),
            _ => {}
        }
        let message = Bytes::from(message);
        self.sends += 1;
        let tx = self.tx.as_ref().expect("open until the end");
        if tx.try_send(&message[..]).is_ok() {
            self.accepted.push(message);
        }
    }

    fn flush(&mut self) {
        let (handle, world, packing) = (Arc::clone(&self.handle), self.world.clone(), self.packing());
        let flush = tokio::spawn(async move {
            handle.flush().await?;
            let stored = world.lock().messages(packing);
            Ok(stored.into_iter().collect())
        });
        self.flushes.push(RunningFlush { accepted: self.accepted.len(), flush });
    }

    /// Ends all failures, or begins one that ends the forwarder.
    fn heal(&mut self, finish: &Finish) {
        self.reconnects += 1;
        let mut engine = self.world.lock();
        engine.heal();
        engine.panics = matches!(finish, Finish::Panic);
        engine.fate = matches!(finish, Finish::Stop).then_some(Fate::Stop);
    }

    async fn step(&mut self, op: &Op) {
        match op {
            Op::Send { len, ending } => self.send(*len, *ending),
            Op::SendMany(count) => (0..*count).for_each(|_| self.send(10, 9)),
            Op::Sleep(milliseconds) => tokio::time::sleep(Duration::from_millis(*milliseconds)).await,
            Op::Fates(fates) => self.world.lock().fates.extend(fates),
            Op::Disconnect => self.world.lock().disconnect(),
            Op::Reconnect => {
                self.reconnects += 1;
                self.world.lock().reconnect();
            }
            Op::ReadyErrors(errors) => self.world.lock().ready_errors = *errors,
            Op::ReadyDelay(delay) => self.world.lock().ready_delay = Some(*delay),
            Op::Hang(hangs) => self.world.lock().set_hangs(*hangs),
            Op::ResumeErrors(errors) => self.world.lock().resume_errors = *errors,
            Op::ResumeDelay(delay) => self.world.lock().resume_delay = Some(*delay),
            Op::Flush => {
                self.flush();
                tokio::task::yield_now().await;
            }
            Op::DroppedFlush => drop(timeout(Duration::ZERO, self.handle.flush()).await),
            // It may have ended: then its outcome would be taken.
            Op::DroppedJoin if !self.handle.is_finished() => {
                let waiting = tokio::time::timeout(Duration::ZERO, self.handle.join());
                if let Ok(Ok(report)) = waiting.await {
                    panic!("ended with an open channel: {report:?}");
                }
            }
            Op::DroppedJoin => {}
        }
        self.check_memory();
    }

    fn check_memory(&self) {
        let stats = self.monitor.stats();
        let memory = stats.memory_bytes();
        assert!(memory <= MAX_BYTES, "{stats:?}");
        let stats = self.handle.stats();
        let one = 400_usize;
        assert!(stats.peak_in_flight_messages <= self.setup.messages.max(1) as u64 + 1, "{stats:?}");
        assert!(stats.peak_in_flight_bytes <= self.setup.bytes.max(one) as u64 + one as u64, "{stats:?}");
    }

    /// Whether the forwarder did no more than time and events explain.
    fn check_work(&self) {
        let engine = self.world.lock();
        let stats = self.handle.stats();
        let elapsed = self.started.elapsed().as_millis() as u64;
        let pauses = elapsed / (MIN_RETRY.as_millis() as u64 / 2);
        let settled = stats.confirmed + stats.rejected;
        let go_backs = pauses + 2 * settled + self.reconnects + engine.losses + 10;
        assert!(stats.go_backs <= go_backs, "{} of {go_backs}: {stats:?}", stats.go_backs);
        let turns = 2 * pauses + 4 * (engine.publishes + self.sends + settled) + 200;
        assert!(engine.turns <= turns, "{} turns of {turns}: {stats:?}", engine.turns);
    }

    async fn check_flushes(&mut self) {
        let rejected = self.rejected.messages();
        for RunningFlush { accepted, flush } in std::mem::take(&mut self.flushes) {
            let result = timeout(HOUR, flush).await.expect("a flush ends").expect("no panic");
            match result {
                Ok(stored) => {
                    for message in &self.accepted[..accepted] {
                        let is_settled =
                            stored.contains(message) || rejected.iter().any(|rejected| rejected == message);
                        assert!(is_settled, "flushed, and not stored: {message:?}");
                    }
                }
                Err(FlushError::Rejected { messages }) => assert!(messages <= rejected.len() as u64),
                Err(_) => assert!(self.handle.is_finished()),
            }
        }
    }

    /// Checks where each accepted message is, after the end. `left` is what the error gave back, and the channel had.
    fn check_end(&self, left: &[Bytes]) {
        let stored = self.world.lock().messages(self.packing());
        let unique: HashSet<&[u8]> = stored.iter().map(|message| &message[..]).collect();
        if self.setup.has_ids {
            assert_eq!(unique.len(), stored.len(), "nothing is stored twice");
        }
        let rejected = self.rejected.messages();
        let mut open: Vec<_> = self.accepted.clone();
        open.retain(|message| !rejected.iter().any(|rejected| rejected == message));
        assert_eq!(open.len() + rejected.len(), self.accepted.len(), "each is rejected once at most");
        // What was confirmed after an unconfirmed message is not given back.
        let mut given_back = left.iter().peekable();
        let confirmed: Vec<_> =
            open.iter().filter(|message| given_back.next_if_eq(message).is_none()).collect();
        assert_eq!(given_back.next(), None, "given back in order, once");
        for message in &confirmed {
            assert!(unique.contains(&message[..]), "confirmed, and not stored: {message:?}");
        }
        assert!(rejected.iter().all(|message| is_poison(message) && !unique.contains(&message[..])));
        let stats = self.handle.stats();
        assert_eq!(
            (stats.confirmed, stats.rejected),
            (confirmed.len() as u64, rejected.len() as u64),
            "{stats:?}"
        );
        if self.setup.strict && self.setup.has_ids {
            assert!(stored.is_sorted_by_key(|message| message[..6].to_vec()), "the order is kept");
        }
        self.check_memory();
    }
}

/// Returns what an error gives back, with what is left in the channel.
fn left_of(outcome: Result<ForwardReport, ForwardError>) -> (Option<ForwardErrorKind>, Vec<Bytes>) {
    let Err(error) = outcome else { return (None, Vec::new()) };
    let kind = error.kind();
    let unconfirmed = error.into_unconfirmed();
    let mut left = unconfirmed.messages;
    let mut receiver = unconfirmed.receiver.expect("the outcome was not taken before");
    receiver.close();
    while let Ok(message) = receiver.try_recv() {
        left.push(message);
    }
    (Some(kind), left)
}

/// Ends the forwarder in the way of `finish`, and returns its outcome.
fn end(runtime: Runtime, case: &mut Case, finish: &Finish) -> Result<ForwardReport, ForwardError> {
    if matches!(finish, Finish::RuntimeEnds) {
        drop(runtime);
        return futures::executor::block_on(case.handle.join());
    }
    runtime.block_on(async {
        if !matches!(finish, Finish::Limit(_)) {
            case.heal(finish);
        }
        let outcome = match finish {
            Finish::Limit(limit) => {
                let limited = case.handle.shutdown_timeout(Duration::from_millis(*limit));
                timeout(HOUR, limited).await
            }
            Finish::DropSenders => {
                case.tx = None;
                timeout(HOUR, case.handle.join()).await
            }
            _ => timeout(HOUR, case.handle.shutdown()).await,
        };
        case.check_flushes().await;
        case.check_work();
        outcome.expect("it ends")
    })
}

fn run(setup: &Setup, ops: &[Op], finish: &Finish) {
    let runtime = current_runtime(true);
    let mut case = runtime.block_on(async {
        let mut case = Case::start(setup);
        for op in ops {
            case.step(op).await;
        }
        case
    });
    let (kind, left) = left_of(end(runtime, &mut case, finish));
    match (finish, kind) {
        (_, Some(ForwardErrorKind::GaveUp)) => assert!(setup.give_up_after.is_some()),
        (Finish::RuntimeEnds, kind) => assert_eq!(kind, Some(ForwardErrorKind::Cancelled)),
        (Finish::Limit(_), kind) => assert!(matches!(kind, None | Some(ForwardErrorKind::TimedOut))),
        (Finish::Stop, kind) => {
            assert!(matches!(kind, None | Some(ForwardErrorKind::Stopped(StopReason::NoStream))));
        }
        (Finish::Panic, kind) => assert!(matches!(kind, None | Some(ForwardErrorKind::Panicked))),
        (_, kind) => assert_eq!(kind, None),
    }
    case.check_end(&left);
}

#[test]
fn nothing_is_lost_or_doubled_whatever_the_destination_does() {
    let limit = common::LIMIT * effort() as u32;
    plain_within(limit, || {
        let config = Config {
            cases: CASES * effort() as u32,
            failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
                "tests/forward/regressions.txt",
            ))),
            max_shrink_iters: 10_000,
            ..Config::default()
        };
        let steps = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&steps);
        let strategy = (setup(), vec(op(), 0..80), finish());
        let result = TestRunner::new(config).run(&strategy, move |(setup, ops, finish)| {
            counted.fetch_add(ops.len(), Relaxed);
            run(&setup, &ops, &finish);
            Ok(())
        });
        println!("{} steps", steps.load(Relaxed));
        if let Err(failure) = result {
            panic!("{failure}");
        }
        assert!(steps.load(Relaxed) > 0);
    });
}
