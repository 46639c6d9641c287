//! A model of an engine that stores messages and recognises their ids, and a destination that does what a script says.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};
use turbostream::forward::{
    Confirmation, Connection, Destination, Outgoing, Packing, PublishError, Rejection, StopReason, unpack,
};

/// A message with these bytes is one that the engine can never take. They are no length of a message.
pub(crate) const POISON: &[u8] = b"!!!";

pub(crate) fn is_poison(payload: &[u8]) -> bool {
    payload.windows(POISON.len()).any(|bytes| bytes == POISON)
}

/// What becomes of one publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Stored and confirmed at once.
    Good,
    /// Stored at once, confirmed after some milliseconds.
    LateConfirmation(u64),
    /// Arrives, is stored and confirmed after some milliseconds.
    LateArrival(u64),
    /// Stored, never confirmed.
    NoConfirmation,
    /// Neither stored nor confirmed.
    Lost,
    /// Lies in the client's queue until the connection comes back; then it is stored, before anything else.
    Queued,
    /// Not stored; the receipt fails at once.
    Retry,
    /// Stored, but the receipt fails.
    StoredRetry,
    /// Not stored; the receipt fails after some milliseconds.
    LateRetry(u64),
    OutOfOrder,
    /// The client drops the receipt's other end.
    Dropped,
    Stop,
}

type Outcome = Result<Confirmation, PublishError>;

/// What the engine has stored: one payload.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) sequence: u64,
    pub(crate) messages: usize,
    pub(crate) payload: Bytes,
}

#[derive(Default)]
pub(crate) struct Engine {
    pub(crate) stored: Vec<Record>,
    ids: HashSet<String>,
    /// Refuses a payload while one before it is missing.
    pub(crate) is_ordered: bool,
    /// The sequence that an ordered engine takes next.
    expected: u64,
    /// The outcomes that are never sent.
    kept: Vec<oneshot::Sender<Outcome>>,
    queued: Vec<Outgoing>,
    pub(crate) fates: VecDeque<Fate>,
    /// The fate once the script is used up.
    pub(crate) fate: Option<Fate>,
    pub(crate) is_down: bool,
    pub(crate) losses: u64,
    pub(crate) max_payload: Option<usize>,
    pub(crate) ready_errors: usize,
    pub(crate) ready_delay: Option<u64>,
    pub(crate) hangs: bool,
    pub(crate) resume_errors: usize,
    pub(crate) resume_delay: Option<u64>,
    pub(crate) knows: bool,
    pub(crate) panics: bool,
    waker: Option<Waker>,
    /// What the forwarder did.
    pub(crate) turns: u64,
    pub(crate) publishes: u64,
    pub(crate) resumed: Vec<u64>,
    pub(crate) published: Vec<u64>,
}

fn text(error: &str) -> Box<dyn std::error::Error + Send + Sync> {
    error.into()
}

impl Engine {
    fn store(&mut self, message: &Outgoing) -> Outcome {
        let (sequence, messages) = (message.sequence(), message.messages());
        let is_poison = is_poison(message.payload());
        if self.is_ordered {
            self.expected = self.expected.max(1);
            if sequence > self.expected {
                return Err(PublishError::OutOfOrder(text("one before is missing")));
            }
            if sequence < self.expected && !is_poison {
                return Ok(Confirmation::Duplicate);
            }
            if sequence == self.expected && (!is_poison || messages == 1) {
                self.expected += messages as u64;
            }
        }
        let id = message.id().map(|id| id.to_string());
        if id.as_ref().is_some_and(|id| self.ids.contains(id)) {
            return Ok(Confirmation::Duplicate);
        }
        if is_poison {
            return Err(PublishError::Reject(Rejection::new("poison")));
        }
        self.ids.extend(id);
        self.stored.push(Record { sequence, messages, payload: Bytes::copy_from_slice(message.payload()) });
        Ok(Confirmation::Stored)
    }

    /// Returns the last sequence of an unbroken row from `first` on.
    fn row_from(&self, first: u64) -> Option<u64> {
        let stored: HashMap<_, _> =
            self.stored.iter().map(|record| (record.sequence, record.messages)).collect();
        let (mut next, mut last) = (first, None);
        while let Some(messages) = stored.get(&next) {
            last = Some(next);
            next += *messages as u64;
        }
        last
    }

    /// Returns the messages that are stored, in the engine's order.
    pub(crate) fn messages(&self, packing: Option<Packing>) -> Vec<Bytes> {
        let messages_of = |record: &Record| match packing {
            Some(packing) => {
                let messages: Vec<_> =
                    unpack(packing, &record.payload).map(|message| message.expect("a whole pack")).collect();
                assert_eq!(messages.len(), record.messages, "{record:?}");
                messages
            }
            None => vec![record.payload.clone()],
        };
        self.stored.iter().flat_map(messages_of).collect()
    }

    /// Returns how many publishes and turns there were.
    pub(crate) fn work(&self) -> (u64, u64) {
        (self.publishes, self.turns)
    }

    /// Ends all failures.
    pub(crate) fn heal(&mut self) {
        self.fates.clear();
        self.fate = None;
        (self.ready_errors, self.resume_errors) = (0, 0);
        (self.ready_delay, self.resume_delay) = (None, None);
        self.set_hangs(false);
        self.reconnect();
    }

    pub(crate) fn set_hangs(&mut self, hangs: bool) {
        self.hangs = hangs;
        if let (false, Some(waker)) = (hangs, self.waker.take()) {
            waker.wake();
        }
    }

    pub(crate) fn disconnect(&mut self) {
        if !self.is_down {
            self.losses += 1;
        }
        self.is_down = true;
    }

    pub(crate) fn reconnect(&mut self) {
        self.is_down = false;
        for message in std::mem::take(&mut self.queued) {
            let _ = self.store(&message);
        }
    }
}

/// The engine, as the test sees it.
#[derive(Clone, Default)]
pub(crate) struct World(Arc<Mutex<Engine>>);

impl World {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Engine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn with_fates(fates: impl IntoIterator<Item = Fate>) -> Self {
        let world = Self::default();
        world.lock().fates = fates.into_iter().collect();
        world
    }

    pub(crate) fn always(fate: Fate) -> Self {
        let world = Self::default();
        world.lock().fate = Some(fate);
        world
    }

    pub(crate) fn destination(&self) -> Scripted {
        Scripted { world: self.clone(), ready: None, resume: None }
    }

    /// Stores and confirms after `milliseconds`.
    fn arrive_later(&self, milliseconds: u64, message: Outgoing, outcome: oneshot::Sender<Outcome>) {
        let world = self.clone();
        tokio::spawn(async move {
            sleep(Duration::from_millis(milliseconds)).await;
            let stored = world.lock().store(&message);
            let _ = outcome.send(stored);
        });
    }
}

fn send_later(milliseconds: u64, result: Outcome, outcome: oneshot::Sender<Outcome>) {
    tokio::spawn(async move {
        sleep(Duration::from_millis(milliseconds)).await;
        let _ = outcome.send(result);
    });
}

/// The destination of a [`World`].
pub(crate) struct Scripted {
    world: World,
    ready: Option<Pin<Box<Sleep>>>,
    resume: Option<Pin<Box<Sleep>>>,
}

/// The outcome of one publish.
pub(crate) struct Receipt(oneshot::Receiver<Outcome>);

impl Future for Receipt {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        Pin::new(&mut self.0)
            .poll(cx)
            .map(|outcome| outcome.unwrap_or_else(|gone| Err(PublishError::Retry(gone.into()))))
    }
}

/// Polls a delay, which ends it when it is over.
fn poll_delay(delay: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> Poll<()> {
    let Some(running) = delay else { return Poll::Ready(()) };
    let polled = running.as_mut().poll(cx);
    if polled.is_ready() {
        *delay = None;
    }
    polled
}

impl Destination for Scripted {
    type Receipt = Receipt;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PublishError>> {
        let mut engine = self.world.lock();
        if engine.hangs {
            engine.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if engine.ready_errors > 0 {
            engine.ready_errors -= 1;
            return Poll::Ready(Err(PublishError::Retry(text("not ready"))));
        }
        if let Some(delay) = engine.ready_delay.take() {
            self.ready = Some(Box::pin(sleep(Duration::from_millis(delay))));
        }
        poll_delay(&mut self.ready, cx).map(Ok)
    }

    fn publish(&mut self, message: &Outgoing) -> Receipt {
        let mut engine = self.world.lock();
        assert!(!engine.panics, "the test panics on purpose");
        engine.publishes += 1;
        engine.published.push(message.sequence());
        let (outcome, receipt) = oneshot::channel();
        let fate = engine.fates.pop_front().or(engine.fate).unwrap_or(Fate::Good);
        let result = match fate {
            Fate::Good => engine.store(message),
            Fate::LateConfirmation(milliseconds) => {
                let stored = engine.store(message);
                send_later(milliseconds, stored, outcome);
                return Receipt(receipt);
            }
            Fate::LateArrival(milliseconds) => {
                drop(engine);
                self.world.arrive_later(milliseconds, message.clone(), outcome);
                return Receipt(receipt);
            }
            Fate::LateRetry(milliseconds) => {
                send_later(milliseconds, Err(PublishError::Retry(text("late"))), outcome);
                return Receipt(receipt);
            }
            Fate::NoConfirmation | Fate::Lost | Fate::Queued => {
                match fate {
                    Fate::NoConfirmation => drop(engine.store(message)),
                    Fate::Queued => engine.queued.push(message.clone()),
                    _ => {}
                }
                engine.kept.push(outcome);
                return Receipt(receipt);
            }
            Fate::Retry => Err(PublishError::Retry(text("refused"))),
            Fate::StoredRetry => {
                let _ = engine.store(message);
                Err(PublishError::Retry(text("refused after all")))
            }
            Fate::OutOfOrder => Err(PublishError::OutOfOrder(text("out of order"))),
            Fate::Dropped => return Receipt(receipt),
            Fate::Stop => Err(PublishError::Stop(StopReason::NoStream, text("no stream here"))),
        };
        let _ = outcome.send(result);
        Receipt(receipt)
    }

    fn poll_resume(&mut self, cx: &mut Context<'_>, first: u64) -> Poll<Result<Option<u64>, PublishError>> {
        let mut engine = self.world.lock();
        if engine.hangs {
            engine.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if engine.resume_errors > 0 {
            engine.resume_errors -= 1;
            return Poll::Ready(Err(PublishError::Retry(text("cannot resume"))));
        }
        if let Some(delay) = engine.resume_delay.take() {
            self.resume = Some(Box::pin(sleep(Duration::from_millis(delay))));
        }
        if poll_delay(&mut self.resume, cx).is_pending() {
            return Poll::Pending;
        }
        engine.resumed.push(first);
        Poll::Ready(Ok(engine.row_from(first).filter(|_| engine.knows)))
    }

    fn connection(&self) -> Connection {
        let mut engine = self.world.lock();
        engine.turns += 1;
        Connection { is_up: !engine.is_down, losses: engine.losses }
    }

    fn strict_order(&mut self) -> bool {
        self.world.lock().is_ordered
    }

    fn max_payload(&self) -> Option<usize> {
        self.world.lock().max_payload
    }

    fn may_pack(&mut self, first: &[u8], next: &[u8]) -> bool {
        // A subject by the last byte of the number.
        self.world.lock().max_payload.is_none() || first.get(5) == next.get(5)
    }
}
