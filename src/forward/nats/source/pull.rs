//! The pull: pull requests, the inbox that their messages arrive at, and what is done when they are not answered.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use async_nats::client::Statistics;
use async_nats::connection::State;
use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::jetstream::consumer::{AckPolicy, Info, PullConsumer};
use async_nats::jetstream::context::{ConsumerInfoError, ConsumerInfoErrorKind};
use async_nats::{Client, Message, StatusCode, Subscriber};
use futures_core::Stream;
use tokio::time::{Instant, timeout};

use super::BoxFuture;
use super::first::{First, FirstPulled};
use super::handle::{SourceError, SourceErrorKind};
use crate::forward::BoxError;
use crate::sync::Ordering;

/// How long the server keeps a pull request that it has no messages for.
const EXPIRES: Duration = Duration::from_secs(30);
/// How often the server sends a sign of life while a request waits.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The shortest and the longest pause before the consumer is checked again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How much longer a pause is while the client is not connected: a request then fails only if the client was closed.
const DISCONNECTED_PAUSE: Duration = Duration::from_secs(20);
/// How long the check of the consumer may take. The client's own limit may be longer, or none.
const CHECK_LIMIT: Duration = Duration::from_secs(5);
/// How often in a row the consumer must be missing, or the client closed, before the source ends: right after its start a
/// server may not know its consumers yet.
const CONFIRMATIONS: u32 = 3;
/// How much the time of a consumer's creation may differ after a restart of the server, which keeps it inexactly.
const CREATED_TOLERANCE: Duration = Duration::from_secs(1);
/// How long the pull may take to end.
const END_LIMIT: Duration = Duration::from_secs(3);
/// While the pull ends, it unsubscribes once no message has arrived for so long. A message that the server sends just as
/// it is told to unsubscribe is lost on the way, and delivered again only after `ack_wait`.
const QUIET: Duration = Duration::from_millis(50);

/// Messages and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Amount {
    pub(super) fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes;
    }

    pub(super) fn remove(&mut self, bytes: usize) {
        self.messages -= 1;
        self.bytes -= bytes;
    }

    fn saturating_sub(self, other: Self) -> Self {
        Self {
            messages: self.messages.saturating_sub(other.messages),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// What a turn of the pull has found.
pub(super) enum Pulled {
    /// A message of the stream.
    Message(Message),
    /// The pull has changed its state by itself.
    Changed,
    /// The consumer as the server describes it.
    Consumer(Box<Info>),
    /// The pull cannot go on.
    Failed(SourceError),
}

pub(super) struct Pull {
    /// Unknown until the first message has arrived.
    client: Option<Client>,
    consumer: Arc<PullConsumer>,
    statistics: Option<Arc<Statistics>>,
    state: PullState,
    /// Whether the server gave the answer that was last waited for.
    answers: bool,
    /// How often the connection was established when the state was entered.
    connects: u64,
    pause: Duration,
    missing: u32,
    closed: u32,
    /// When the consumer was created, as the server said first.
    created: Option<SystemTime>,
    limits: Limits,
    pub(super) failures: usize,
}

/// What the consumer's configuration permits for one pull request.
#[derive(Clone, Copy)]
struct Limits {
    messages: usize,
    bytes: usize,
    expires: Duration,
}

/// `First` is entered only while the client is unknown, and `SettlingFirst` ends it.
///
/// `Settling` to `Forgetting` end the pull. Servers such as 2.9 keep the requests of an inbox that is gone, and may choose
/// such a request for a message that is given back; the message is then delivered only after `ack_wait`. To describe the
/// consumer makes the server forget these requests, so the task gives back only after that.
enum PullState {
    Paused { until: Instant },
    Checking(Checking),
    First(First),
    Subscribing { inbox: String, subscribing: BoxFuture<'static, Result<Subscriber, BoxError>> },
    Open(Open),
    SettlingFirst { first: First, deadline: Instant },
    Settling { open: Open, deadline: Instant },
    Unsubscribing { unsubscribing: BoxFuture<'static, Subscriber>, deadline: Instant },
    Draining { subscriber: Subscriber, deadline: Instant },
    Forgetting { checking: Checking, deadline: Instant },
    Ended,
}

/// The consumer as the server describes it; `None` if the server does not answer.
type Checking = BoxFuture<'static, Option<Result<Info, ConsumerInfoError>>>;

struct Open {
    inbox: String,
    subscriber: Subscriber,
    /// What the server was asked for and has neither sent nor refused.
    requested: Amount,
    requesting: Option<BoxFuture<'static, Result<(), BoxError>>>,
    last_request: Instant,
    last_sign_of_life: Instant,
    last_amount: Amount,
    /// Whether a message has arrived since the last request.
    is_answered: bool,
    /// The next message is longer than this many bytes, which the last request asked for.
    too_few_bytes: usize,
}

impl Open {
    fn new(inbox: String, subscriber: Subscriber) -> Self {
        let now = Instant::now();
        Self {
            inbox,
            subscriber,
            requested: Amount::default(),
            requesting: None,
            last_request: now,
            last_sign_of_life: now,
            last_amount: Amount::default(),
            is_answered: false,
            too_few_bytes: 0,
        }
    }

    /// Returns what to request now; 0 bytes stand for any number.
    fn next_request(
        &self,
        window: Amount,
        held: Amount,
        limits: Limits,
        max_bytes: impl FnOnce() -> usize,
    ) -> Option<Amount> {
        let most_bytes = window.bytes.min(limits.bytes);
        if self.too_few_bytes >= most_bytes && held.messages == 0 {
            return (self.requested.messages == 0).then_some(Amount { messages: 1, bytes: 0 });
        }
        let room = window.saturating_sub(self.requested).saturating_sub(held);
        let part = if self.requested.messages == 0 { 64 } else { 4 };
        let least = Amount { messages: (window.messages / part).max(1), bytes: (window.bytes / part).max(1) };
        if room.messages < least.messages || room.bytes < least.bytes {
            return None;
        }
        let bytes = room.bytes.min(max_bytes()).min(limits.bytes);
        let least_bytes = (window.bytes / 64).max(self.too_few_bytes * 2).clamp(1, most_bytes);
        (bytes >= least_bytes).then_some(Amount { messages: room.messages.min(limits.messages), bytes })
    }
}

impl Pull {
    pub(super) fn new(client: Option<Client>, consumer: Arc<PullConsumer>) -> Self {
        let statistics = client.as_ref().map(Client::statistics);
        let limits = Limits { messages: usize::MAX, bytes: usize::MAX, expires: EXPIRES };
        let state = PullState::Paused { until: Instant::now() };
        Self {
            client,
            consumer,
            statistics,
            state,
            answers: false,
            connects: 0,
            pause: PAUSE.0,
            missing: 0,
            closed: 0,
            created: None,
            limits,
            failures: 0,
        }
    }

    pub(super) fn client(&self) -> Option<&Client> {
        self.client.as_ref()
    }

    pub(super) fn answers(&self) -> bool {
        self.answers
    }

    /// Returns whether the client is connected; `true` while the client is unknown.
    pub(super) fn is_connected(&self) -> bool {
        self.client.as_ref().is_none_or(|client| client.connection_state() == State::Connected)
    }

    fn connects(&self) -> u64 {
        // ORDERING: Relaxed: statistic only; a later turn sees the change.
        self.statistics.as_ref().map_or(0, |statistics| statistics.connects.load(Ordering::Relaxed))
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, PullState::Ended)
    }

    /// Requests as much as `window` leaves room for beside what is `held`, and at most `max_bytes`. Returns whether it does.
    ///
    /// While some is requested, it waits until there is room for a quarter of the window.
    pub(super) fn request(
        &mut self,
        window: Amount,
        held: Amount,
        max_bytes: impl FnOnce() -> usize,
    ) -> bool {
        let (limits, is_connected) = (self.limits, self.is_connected());
        if let PullState::First(first) = &mut self.state {
            return max_bytes() > 0 && first.request(&self.consumer);
        }
        let PullState::Open(open) = &mut self.state else { return false };
        if open.requesting.is_some() || !is_connected {
            return false;
        }
        let Some(amount) = open.next_request(window, held, limits, max_bytes) else { return false };
        let batch = BatchConfig {
            batch: amount.messages,
            max_bytes: amount.bytes,
            expires: Some(limits.expires),
            idle_heartbeat: HEARTBEAT.min(limits.expires / 3),
            ..Default::default()
        };
        open.requested.messages += amount.messages;
        open.requested.bytes += amount.bytes;
        (open.last_request, open.last_amount, open.is_answered) = (Instant::now(), amount, false);
        open.last_sign_of_life = open.last_request;
        let (consumer, inbox) = (Arc::clone(&self.consumer), open.inbox.clone().into());
        open.requesting =
            Some(Box::pin(async move { consumer.request_batch(batch, inbox).await.map_err(BoxError::from) }));
        true
    }

    /// Polls for the next event of the pull.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Pulled> {
        match &mut self.state {
            PullState::Paused { until } => {
                let until = *until;
                // The caller polls again with its timer. A connection that has come back ends the pause.
                let is_over = match self.is_connected() {
                    true => Instant::now() >= until || self.connects() != self.connects,
                    false => Instant::now() >= until + DISCONNECTED_PAUSE,
                };
                if !is_over {
                    return Poll::Pending;
                }
                self.check();
                Poll::Ready(Pulled::Changed)
            }
            PullState::Checking(checking) => match checking.as_mut().poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(info) => Poll::Ready(self.checked(info)),
            },
            PullState::Subscribing { inbox, subscribing } => match subscribing.as_mut().poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(subscriber)) => {
                    self.state = PullState::Open(Open::new(std::mem::take(inbox), subscriber));
                    Poll::Ready(Pulled::Changed)
                }
                Poll::Ready(Err(_)) => Poll::Ready(self.fail()),
            },
            PullState::First(first) | PullState::SettlingFirst { first, .. } => match first.poll(cx) {
                Poll::Ready(outcome) => Poll::Ready(self.pulled_first(outcome)),
                Poll::Pending => self.end_if_past(),
            },
            PullState::Open(_) => self.poll_open(cx),
            PullState::Settling { .. } => self.poll_settling(cx),
            _ => self.poll_ending(cx),
        }
    }

    fn pulled_first(&mut self, outcome: FirstPulled) -> Pulled {
        self.answers = !matches!(outcome, FirstPulled::Failed);
        let is_ending = matches!(self.state, PullState::SettlingFirst { .. });
        if is_ending {
            self.state = PullState::Ended;
        }
        match outcome {
            FirstPulled::Message(message) => {
                let client = message.context.client();
                self.pause = PAUSE.0;
                (self.client, self.statistics) = (Some(client.clone()), Some(client.statistics()));
                self.connects = self.connects();
                if !is_ending {
                    self.subscribe(client);
                }
                Pulled::Message(message.message)
            }
            _ if is_ending => Pulled::Changed,
            FirstPulled::Expired => {
                self.pause = PAUSE.0;
                self.state = PullState::First(First::new(self.limits.expires));
                Pulled::Changed
            }
            FirstPulled::Failed => self.fail(),
        }
    }

    fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<Pulled> {
        match &mut self.state {
            PullState::Unsubscribing { unsubscribing, deadline } => match unsubscribing.as_mut().poll(cx) {
                Poll::Ready(subscriber) => {
                    self.state = PullState::Draining { subscriber, deadline: *deadline };
                    Poll::Ready(Pulled::Changed)
                }
                Poll::Pending => self.end_if_past(),
            },
            PullState::Draining { subscriber, deadline } => match Pin::new(subscriber).poll_next(cx) {
                Poll::Ready(Some(message)) if is_of_stream(&message) => Poll::Ready(Pulled::Message(message)),
                Poll::Ready(Some(_)) => Poll::Ready(Pulled::Changed),
                Poll::Ready(None) => {
                    let (checking, deadline) = (get_info(&self.consumer), *deadline);
                    self.state = PullState::Forgetting { checking, deadline };
                    Poll::Ready(Pulled::Changed)
                }
                Poll::Pending => self.end_if_past(),
            },
            PullState::Forgetting { checking, .. } => match checking.as_mut().poll(cx) {
                Poll::Ready(_) => {
                    self.state = PullState::Ended;
                    Poll::Ready(Pulled::Changed)
                }
                Poll::Pending => self.end_if_past(),
            },
            _ => Poll::Pending,
        }
    }

    /// Takes what was requested, until nothing more is on its way.
    fn poll_settling(&mut self, cx: &mut Context<'_>) -> Poll<Pulled> {
        let now = Instant::now();
        let PullState::Settling { open, deadline } = &mut self.state else { return Poll::Pending };
        let deadline = *deadline;
        match Pin::new(&mut open.subscriber).poll_next(cx) {
            Poll::Ready(Some(message)) if is_of_stream(&message) => {
                open.requested = open.requested.saturating_sub(Amount { messages: 1, bytes: message.length });
                open.last_sign_of_life = now;
                return Poll::Ready(Pulled::Message(message));
            }
            Poll::Ready(Some(_)) => return Poll::Ready(Pulled::Changed),
            Poll::Ready(None) => self.state = PullState::Ended,
            Poll::Pending => {
                let is_quiet =
                    open.requested.messages == 0 || now.duration_since(open.last_sign_of_life) >= QUIET;
                if !is_quiet && now < deadline {
                    return Poll::Pending;
                }
                let PullState::Settling { open: Open { mut subscriber, .. }, .. } =
                    std::mem::replace(&mut self.state, PullState::Ended)
                else {
                    return Poll::Pending;
                };
                let unsubscribing = Box::pin(async move {
                    // It fails only if the client was closed; then no message arrives either.
                    let _ = subscriber.drain().await;
                    subscriber
                });
                self.state = PullState::Unsubscribing { unsubscribing, deadline };
            }
        }
        Poll::Ready(Pulled::Changed)
    }

    /// Ends the pull if no more messages can be waited for.
    fn end_if_past(&mut self) -> Poll<Pulled> {
        match &self.state {
            PullState::SettlingFirst { deadline, .. }
            | PullState::Unsubscribing { deadline, .. }
            | PullState::Draining { deadline, .. }
            | PullState::Forgetting { deadline, .. }
                if Instant::now() >= *deadline || !self.is_connected() =>
            {
                self.state = PullState::Ended;
                Poll::Ready(Pulled::Changed)
            }
            _ => Poll::Pending,
        }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Pulled> {
        let (is_connected, connects) = (self.is_connected(), self.connects());
        let PullState::Open(open) = &mut self.state else { return Poll::Pending };
        match Pin::new(&mut open.subscriber).poll_next(cx) {
            Poll::Ready(Some(message)) => return Poll::Ready(self.arrived(message)),
            Poll::Ready(None) => {
                let error = SourceError::new(SourceErrorKind::ClientClosed, None);
                return Poll::Ready(Pulled::Failed(error));
            }
            Poll::Pending => {}
        }
        if let Some(requesting) = &mut open.requesting {
            match requesting.as_mut().poll(cx) {
                Poll::Ready(Ok(())) => open.requesting = None,
                Poll::Ready(Err(_)) => return Poll::Ready(self.fail()),
                Poll::Pending => {}
            }
        }
        if connects != self.connects {
            // The server may have lost the requests. What it still sends to the old inbox, it delivers again later.
            self.failures += 1;
            self.check();
            return Poll::Ready(Pulled::Changed);
        }
        let now = Instant::now();
        let is_waiting = open.requested.messages > 0 && is_connected;
        if is_waiting && now.duration_since(open.last_sign_of_life) > 2 * HEARTBEAT + HEARTBEAT / 2 {
            return Poll::Ready(self.fail());
        }
        if is_waiting && now.duration_since(open.last_request) > self.limits.expires + HEARTBEAT {
            // All requests have expired by now. Their messages were lost on the way.
            open.requested = Amount::default();
            return Poll::Ready(Pulled::Changed);
        }
        Poll::Pending
    }

    /// Handles a message of the inbox: of the stream, or the server's word on a request.
    fn arrived(&mut self, message: Message) -> Pulled {
        let PullState::Open(open) = &mut self.state else { return Pulled::Changed };
        open.last_sign_of_life = Instant::now();
        if is_of_stream(&message) {
            self.pause = PAUSE.0;
            (open.is_answered, open.too_few_bytes) = (true, 0);
            open.requested.messages = open.requested.messages.saturating_sub(1);
            open.requested.bytes = open.requested.bytes.saturating_sub(message.length);
            if open.requested.messages == 0 {
                open.requested.bytes = 0;
            }
            return Pulled::Message(message);
        }
        if message.status == Some(StatusCode::IDLE_HEARTBEAT) {
            self.pause = PAUSE.0;
            return Pulled::Changed;
        }
        let header = |name: &str| message.headers.as_ref()?.get(name)?.as_str().parse::<usize>().ok();
        // A word without these headers is a refusal, such as that the consumer was deleted.
        let Some(messages) = header("Nats-Pending-Messages") else { return self.fail() };
        let bytes = header("Nats-Pending-Bytes").unwrap_or(0);
        let is_oversized =
            message.description.as_deref().is_some_and(|words| words.contains("Exceeds MaxBytes"));
        open.requested = open.requested.saturating_sub(Amount { messages, bytes });
        if open.requested.messages == 0 {
            open.requested.bytes = 0;
        }
        if is_oversized && !open.is_answered {
            open.too_few_bytes = open.last_amount.bytes;
        }
        Pulled::Changed
    }

    /// Pauses, and then checks the consumer.
    fn fail(&mut self) -> Pulled {
        self.failures += 1;
        self.answers = false;
        self.connects = self.connects();
        self.state = PullState::Paused { until: Instant::now() + self.pause };
        self.pause = (self.pause * 2).min(PAUSE.1);
        Pulled::Changed
    }

    fn check(&mut self) {
        self.connects = self.connects();
        self.state = PullState::Checking(get_info(&self.consumer));
    }

    fn checked(&mut self, info: Option<Result<Info, ConsumerInfoError>>) -> Pulled {
        let error = match info {
            Some(Ok(info)) => return self.found(info),
            Some(Err(error)) => error,
            None => {
                (self.missing, self.closed) = (0, 0);
                return self.fail();
            }
        };
        let kind = match error.kind() {
            ConsumerInfoErrorKind::NotFound => Some(SourceErrorKind::ConsumerNotFound),
            ConsumerInfoErrorKind::StreamNotFound => Some(SourceErrorKind::StreamNotFound),
            _ => None,
        };
        self.missing = if kind.is_some() { self.missing + 1 } else { 0 };
        self.closed = if error.kind() == ConsumerInfoErrorKind::Request { self.closed + 1 } else { 0 };
        match kind {
            Some(kind) if self.missing >= CONFIRMATIONS => {
                Pulled::Failed(SourceError::new(kind, Some(Box::new(error))))
            }
            _ if self.closed >= CONFIRMATIONS => {
                Pulled::Failed(SourceError::new(SourceErrorKind::ClientClosed, Some(Box::new(error))))
            }
            _ => self.fail(),
        }
    }

    fn found(&mut self, info: Info) -> Pulled {
        (self.missing, self.closed, self.answers) = (0, 0, true);
        let unsuitable =
            |words: String| SourceError::new(SourceErrorKind::UnsuitableConsumer, Some(words.into()));
        if info.config.deliver_subject.is_some() {
            return Pulled::Failed(unsuitable("it pushes its messages".into()));
        }
        if info.config.ack_policy != AckPolicy::Explicit {
            return Pulled::Failed(unsuitable(format!("its policy is {:?}", info.config.ack_policy)));
        }
        let created = SystemTime::from(info.created);
        let first = *self.created.get_or_insert(created);
        if created.duration_since(first).is_ok_and(|later| later > CREATED_TOLERANCE) {
            // Acknowledgements of the old one's messages would count for other messages.
            let words = "it was deleted, and created anew";
            return Pulled::Failed(SourceError::new(SourceErrorKind::ConsumerNotFound, Some(words.into())));
        }
        let limit = |limit: i64| usize::try_from(limit).ok().filter(|&limit| limit > 0).unwrap_or(usize::MAX);
        let expires = match info.config.max_expires {
            Duration::ZERO => EXPIRES,
            longest => EXPIRES.min(longest),
        };
        self.limits =
            Limits { messages: limit(info.config.max_batch), bytes: limit(info.config.max_bytes), expires };
        match self.client.clone() {
            Some(client) => self.subscribe(client),
            None => self.state = PullState::First(First::new(expires)),
        }
        Pulled::Consumer(Box::new(info))
    }

    fn subscribe(&mut self, client: Client) {
        let inbox = client.new_inbox();
        let subject = inbox.clone();
        let subscribing = Box::pin(async move { client.subscribe(subject).await.map_err(BoxError::from) });
        self.state = PullState::Subscribing { inbox, subscribing };
    }

    /// Requests nothing more. Messages that are on their way still arrive, until the pull has ended.
    pub(super) fn stop(&mut self) {
        self.state = match std::mem::replace(&mut self.state, PullState::Ended) {
            PullState::Open(mut open) => {
                let now = Instant::now();
                open.last_sign_of_life = now;
                PullState::Settling { open, deadline: now + END_LIMIT }
            }
            PullState::First(first) if first.is_requested() => {
                PullState::SettlingFirst { first, deadline: Instant::now() + END_LIMIT }
            }
            _ => PullState::Ended,
        };
    }
}

fn get_info(consumer: &Arc<PullConsumer>) -> Checking {
    let consumer = Arc::clone(consumer);
    Box::pin(async move { timeout(CHECK_LIMIT, consumer.get_info()).await.ok() })
}

fn is_of_stream(message: &Message) -> bool {
    message.status.is_none_or(|status| status == StatusCode::OK)
}
