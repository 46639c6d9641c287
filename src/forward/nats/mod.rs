//! [`JetStream`]: a destination that publishes to a stream of NATS JetStream.
//!
//! # Acknowledgements
//!
//! Each message is published with a reply subject of its own, `<inbox>.<token>`. The server answers there. One
//! subscription to `<inbox>.*` receives all answers, and the receipts read it; no task, timer or allocation belongs to a
//! single message. An answer whose token is not in flight any more is ignored.
//!
//! # Strict order
//!
//! async-nats queues what is published. After a reconnection it sends what is still queued, before the messages that the
//! forwarder publishes again. Data of an old connection may even reach the stream later than that, through a server that
//! was stopped for a while. Such a late message must not be stored unless it is the next one.
//!
//! ```text
//!                        stored alone, often enough
//!            Alone ------------------------------------> Chained
//!     one message in flight,                      a window of messages in flight,
//!     no expectations                             each expects the one before it
//!            ^                                            |
//!            +--------------------------------------------+
//!              the stream refuses the first message of a round three times, or has
//!              stored messages of the round before, but not at its end
//! ```
//!
//! Chained messages carry two headers besides their id:
//!
//! - `Nats-Expected-Last-Sequence`: the stream's last sequence, predicted from that of the message before. A message is
//!   stored only at its own position: not if one before it is missing, and not a second time. This holds for any
//!   age of the message, while an id is recognised only within the stream's duplicate window.
//! - `Nats-Expected-Last-Msg-Id`: the id of the message before. It guards against a message of an earlier round whose
//!   prediction fits by chance, because a message in between was rejected or another publisher added one.
//!   The first message of a round does without: a server forgets its last id when the duplicate window has passed, and
//!   would refuse it for ever. The sequence alone is enough there, since it was read from the stream in this round.
//!
//! When the forwarder goes back, the destination starts a new *round*. It asks the stream for its last sequence, and for
//! the ids of the last messages there, and of the last one with the forwarder's subject. If one is the id of one of its own
//! messages, this and all before are stored, since each was stored after the one before it. They are confirmed without
//! being published again. The rest is published with expectations that begin at the last sequence.
//!
//! A stream of several replicas is never sent a chain: its replicas apply messages that fail an expectation as well. One
//! that restarts with such messages in its log can count them wrongly, and does not catch up with its leader. This was
//! seen with nats-server 2.9.10 and 2.15.1.
//!
//! A pack that the destination rejects itself, as too large, breaks the row: nothing after it is published until its first
//! message is. Otherwise its messages would count as stored once a later one is.
//!
//! A message that the server rejects leaves a gap: those after it fail, and the next round begins after it. Another
//! publisher on the same stream makes predictions fail. The window then shrinks to what was confirmed in the round, and
//! doubles with each window that is confirmed. If whole rounds are fruitless, messages travel alone: order is kept
//! because the next is published after the acknowledgement of the one before, and ids recognise what is published again.

mod acks;
mod answer;
mod events;
mod order;
mod resync;
mod source;
mod subject;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker, ready};
use std::time::Duration;

use async_nats::connection::State as ConnectionState;
use async_nats::header::{NATS_EXPECTED_LAST_MESSAGE_ID, NATS_EXPECTED_LAST_SEQUENCE, NATS_MESSAGE_ID};
use async_nats::jetstream::Context;
use async_nats::message::OutboundMessage;
use async_nats::{
    Client, ConnectError, ConnectOptions, HeaderMap, Statistics, Subject, Subscriber, ToServerAddrs,
};
use futures_sink::Sink;
use tokio::time::Instant;

pub use self::acks::Receipt;
use self::acks::{Acks, closed};
pub use self::events::JetStreamEvents;
use self::events::Violation;
use self::order::{Expectation, StrictOrder};
use self::resync::{Answers, Questions};
pub use self::source::{
    AckWhen, JetStreamSource, SourceEnd, SourceError, SourceErrorKind, SourceHandle, SourceRejection,
    SourceReport, SourceStats,
};
pub use self::subject::IntoSubjects;
use self::subject::Subjects;
use super::{Confirmation, Connection, Destination, Outgoing, PublishError, Rejection, StopReason};
use crate::sync::Ordering;

/// What packs leave of the server's limit for headers.
const HEADER_ROOM: usize = 1024;
/// How long messages of a subject are rejected after the server refused it.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// How many refused subjects are remembered.
const MAX_REFUSED: usize = 1024;
/// How often in a row the server must say that no stream has the subject.
const MAX_MISSES: u32 = 2;
/// For how long it must say so of the subject of all messages: a stream may be deleted and created again.
const MISSING_FOR: Duration = Duration::from_secs(2);

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Publishes to a stream of NATS JetStream.
///
/// # Examples
///
/// ```no_run
/// # async fn forward(rx: turbostream::Receiver) -> Result<(), Box<dyn std::error::Error>> {
/// use turbostream::forward::JetStream;
///
/// let client = async_nats::connect("nats://127.0.0.1:4222").await?;
/// let destination = JetStream::new(async_nats::jetstream::new(client), "logs.audit");
/// # drop((rx, destination));
/// # Ok(()) }
/// ```
///
/// A function can choose the subject of each message:
///
/// ```no_run
/// # async fn forward() -> Result<(), Box<dyn std::error::Error>> {
/// # use turbostream::forward::JetStream;
/// use async_nats::Subject;
///
/// let client = async_nats::connect("nats://127.0.0.1:4222").await?;
/// let destination = JetStream::new(async_nats::jetstream::new(client), |message: &[u8]| {
///     Subject::from_static(if message.starts_with(b"ERROR") { "logs.error" } else { "logs.other" })
/// });
/// # drop(destination);
/// # Ok(()) }
/// ```
///
/// # What becomes of a message
///
/// | the server | the forwarder |
/// |---|---|
/// | acknowledges the message, or recognises its id | confirms it |
/// | is not connected, has no leader, no storage, no room in the stream | publishes again |
/// | has no stream for the subject for two seconds, by its JetStream API | ends with [`StopReason::NoStream`]; rejects the message at once if a function chose the subject |
/// | permits no message to the subject; see [`JetStreamEvents`] | ends with [`StopReason::NotPermitted`]; rejects the message if a function chose the subject |
/// | refuses the credentials after a lost connection; see [`JetStreamEvents`] | ends with [`StopReason::BadCredentials`] |
/// | has a smaller `max_payload`, or the stream a smaller `max_message_size` | rejects the message |
///
/// The server's answers wait in a subscription of the client until the forwarder reads them. A window of more messages
/// than [`ConnectOptions::subscription_capacity`], 65,536 by default, can lose answers, and is published again then.
///
/// async-nats notices a connection that is silently dead after two unanswered pings: in two to three minutes, unless
/// [`ConnectOptions::ping_interval`] is set lower.
///
/// # Strict order
///
/// With [`Forwarder::strict_order`](crate::forward::Forwarder::strict_order) the stream has the messages in their
/// order, and each once, also if an outage is longer than the stream's duplicate window. The credentials must permit the
/// requests `STREAM.NAMES`, `STREAM.INFO` and `STREAM.MSG.GET` of the JetStream API: without, the forwarder does not get past an outage.
/// Messages must have ids, and all subjects must belong to one stream. Another publisher on the same stream costs speed.
/// One on the same subject also hides what is stored, if it adds more than eight messages in an outage: then only ids within
/// the duplicate window recognise it.
///
/// Messages to a stream of several replicas travel one by one in strict order, each after the acknowledgement of the one
/// before: [packs](crate::forward::Forwarder::pack) make up for it. Messages are then recognised by their ids, within the
/// duplicate window. This holds as well if the last message cannot be read after an outage, as in a stream that deletes
/// what was acknowledged.
pub struct JetStream {
    context: Context,
    client: Client,
    statistics: Arc<Statistics>,
    subjects: Subjects,
    acks: Acks,
    subscribing: Option<BoxFuture<Result<Subscriber, PublishError>>>,
    events: Option<JetStreamEvents>,
    /// The waker that the events have.
    event_waker: Option<Waker>,
    id_prefix: Option<Arc<str>>,
    order: Option<StrictOrder>,
    /// The subject of the last message that was published in strict order.
    own_subject: Option<Subject>,
    /// The subject for which no stream answered.
    unanswered: Option<Subject>,
    misses: u32,
    /// When the server said first that no stream has the subject.
    missing_since: Option<Instant>,
    resync: Option<BoxFuture<Result<Answers, PublishError>>>,
    /// The first question to the stream, before messages are chained.
    inspection: Option<BoxFuture<Result<Answers, PublishError>>>,
    /// How many connections there were when questions were asked.
    asked_on: u64,
    refused: HashMap<String, (Instant, String)>,
}

impl JetStream {
    /// Makes a destination that publishes with this context: with its client, and with its prefix of the JetStream API.
    ///
    /// `subject` is a [`Subject`], a string, or a function `Fn(&[u8]) -> Subject` of the message.
    pub fn new(context: Context, subject: impl IntoSubjects) -> Self {
        let subjects = subject.into_subjects();
        let client = context.client();
        let acks = Acks::new(client.new_inbox(), subjects.as_fixed().is_none());
        let subscribing = subscribe(client.clone(), acks.inbox());
        Self {
            statistics: client.statistics(),
            context,
            client,
            subjects,
            acks,
            subscribing: Some(Box::pin(subscribing)),
            events: None,
            event_waker: None,
            id_prefix: None,
            order: None,
            own_subject: None,
            unanswered: None,
            misses: 0,
            missing_since: None,
            resync: None,
            inspection: None,
            asked_on: 0,
            refused: HashMap::new(),
        }
    }

    /// Connects to servers, and makes a destination that has [`JetStreamEvents`] attached.
    ///
    /// It replaces an event callback of the options.
    ///
    /// # Errors
    ///
    /// Those of [`ConnectOptions::connect`]. The kind
    /// [`AuthorizationViolation`](async_nats::ConnectErrorKind::AuthorizationViolation) says that a server refused the
    /// credentials.
    pub async fn connect(
        addrs: impl ToServerAddrs,
        options: ConnectOptions,
        subject: impl IntoSubjects,
    ) -> Result<Self, ConnectError> {
        let events = JetStreamEvents::new();
        let client = options.event_callback(events.callback()).connect(addrs).await?;
        Ok(Self::new(async_nats::jetstream::new(client), subject).events(events))
    }

    /// Returns the context that messages are published with.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Attaches events that the client's event callback observes.
    pub fn events(mut self, events: JetStreamEvents) -> Self {
        self.events = Some(events);
        self
    }

    /// Handles the server's errors that are not answers.
    fn handle_events(&mut self, cx: &mut TaskContext<'_>) -> Result<(), PublishError> {
        let Some(events) = &self.events else { return Ok(()) };
        if !self.event_waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            events.register(cx.waker());
            self.event_waker = Some(cx.waker().clone());
        }
        if !events.has_news() {
            return Ok(());
        }
        let events = events.clone();
        while let Some(violation) = events.next_violation() {
            match violation {
                Violation::Publish { subject, words } => self.refuse_permission(subject, words)?,
                Violation::Subscribe { subject, words } if subject == self.acks.inbox() => {
                    return Err(PublishError::Stop(StopReason::NotPermitted, words.into()));
                }
                Violation::Subscribe { .. } => {}
            }
        }
        match events.refused_credentials() {
            Some(words) if self.client.connection_state() != ConnectionState::Connected => {
                Err(PublishError::Stop(StopReason::BadCredentials, words.into()))
            }
            _ => Ok(()),
        }
    }

    fn refuse_permission(&mut self, subject: String, words: String) -> Result<(), PublishError> {
        let is_api = subject.starts_with("$JS.") && (self.order.is_some() || self.unanswered.is_some());
        match self.subjects.as_fixed() {
            Some(fixed) if fixed.as_str() == subject => {
                Err(PublishError::Stop(StopReason::NotPermitted, words.into()))
            }
            _ if is_api => Err(PublishError::Stop(StopReason::NotPermitted, words.into())),
            Some(_) => Ok(()),
            None => {
                self.acks.settle_subject(&subject, || PublishError::Reject(Rejection::new(words.clone())));
                self.refuse(subject, words);
                Ok(())
            }
        }
    }

    /// Remembers that messages of a subject are rejected for a while.
    fn refuse(&mut self, subject: String, words: String) {
        if self.refused.len() >= MAX_REFUSED {
            self.refused.clear();
        }
        self.refused.insert(subject, (Instant::now() + REFUSED_FOR, words));
    }

    /// Returns why the destination rejects a message without asking the server.
    fn check(&mut self, subject: &Subject, is_valid: bool, len: usize) -> Result<(), PublishError> {
        if !is_valid {
            let words = format!("{:?} is not a subject to publish to", subject.as_str());
            return Err(match self.subjects.as_fixed() {
                Some(_) => PublishError::Stop(StopReason::NoStream, words.into()),
                None => PublishError::Reject(Rejection::new(words)),
            });
        }
        if !self.refused.is_empty()
            && let Some((until, words)) = self.refused.get(subject.as_str())
        {
            if *until > Instant::now() {
                return Err(PublishError::Reject(Rejection::new(words.clone())));
            }
            self.refused.remove(subject.as_str());
        }
        let max_payload = self.client.max_payload();
        if len > max_payload {
            let words = format!("{len} bytes with headers exceed the server's max_payload of {max_payload}");
            return Err(PublishError::Reject(Rejection::new(words)));
        }
        Ok(())
    }

    /// Forgets questions of an earlier connection: the answers are lost with it.
    fn forget_lost_questions(&mut self) {
        // ORDERING: Relaxed: a count of the client, which publishes nothing else.
        let connects = self.statistics.connects.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.asked_on, connects) != connects {
            (self.resync, self.inspection) = (None, None);
        }
    }

    /// Waits until the strict order lets the next message go.
    fn poll_order(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        self.forget_lost_questions();
        let Some(order) = &mut self.order else { return Poll::Ready(()) };
        let mut stream = None;
        ready!(self.acks.poll_room(cx, |round| {
            order.leave_alone(round);
            stream = order.stream_to_ask(round).map(str::to_owned);
            order.window(round)
        }));
        if let Some(stream) = stream {
            let inspection = self.inspection.get_or_insert_with(|| {
                let questions = Questions { stream: Some(stream), ..Questions::default() };
                Box::pin(resync::ask(self.context.clone(), questions))
            });
            let answers = ready!(inspection.as_mut().poll(cx));
            self.inspection = None;
            order.answer(answers.ok().and_then(|answers| answers.snapshot));
            // Nothing is in flight: the next message may be the first of a chain. Not the one after it.
            return self.acks.poll_room(cx, |round| {
                order.leave_alone(round);
                order.window(round)
            });
        }
        Poll::Ready(())
    }

    /// Uses the answers to the questions asked when the forwarder went back.
    fn resume(&mut self, answers: Answers) -> Result<(), PublishError> {
        if let Some(has_stream) = answers.has_stream {
            let is_fixed = self.subjects.as_fixed().is_some();
            let subject = self.unanswered.as_ref().map_or("", |subject| subject.as_str());
            let words = format!("no stream has the subject {subject:?}");
            if !has_stream {
                self.misses += 1;
                let missing_since = *self.missing_since.get_or_insert_with(Instant::now);
                let is_brief = is_fixed && missing_since.elapsed() < MISSING_FOR;
                if self.misses < MAX_MISSES || is_brief {
                    return Err(PublishError::Retry(words.into()));
                }
                if is_fixed {
                    return Err(PublishError::Stop(StopReason::NoStream, words.into()));
                }
            }
            (self.misses, self.missing_since) = (0, None);
            if let Some(subject) = self.unanswered.take()
                && !has_stream
            {
                self.refuse(subject.to_string(), words);
            }
        }
        if let Some(order) = &mut self.order {
            order.start_round(answers.snapshot);
        }
        Ok(())
    }
}

async fn subscribe(client: Client, inbox: String) -> Result<Subscriber, PublishError> {
    client.subscribe(inbox).await.map_err(|_| closed())
}

impl Destination for JetStream {
    type Receipt = Receipt;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), PublishError>> {
        self.handle_events(cx)?;
        if let Some(subscribing) = &mut self.subscribing {
            let subscription = ready!(subscribing.as_mut().poll(cx))?;
            self.subscribing = None;
            self.acks.subscribe(subscription);
        }
        ready!(self.poll_order(cx));
        Pin::new(&mut self.client).poll_ready(cx).map_err(|_| closed())
    }

    fn publish(&mut self, message: &Outgoing) -> Receipt {
        let (subject, is_valid) = self.subjects.of(message.first_message());
        let sequence = message.sequence();
        if let Some(order) = &mut self.order {
            if order.is_stored(sequence) {
                return self.acks.settled(&subject, Ok(Confirmation::Duplicate));
            }
            if order.is_early(sequence) {
                let words = "the messages of a rejected pack come first";
                return self.acks.settled(&subject, Err(PublishError::OutOfOrder(words.into())));
            }
        }
        if self.id_prefix.is_none() {
            self.id_prefix.clone_from(&message.id_prefix);
            if message.id_prefix.as_ref().is_some_and(|prefix| prefix.contains(['\r', '\n'])) {
                self.id_prefix = None;
                let words = "the name of the message ids has a line break";
                return self.acks.settled(&subject, Err(PublishError::Stop(StopReason::Other, words.into())));
            }
        }
        let prefix = self.id_prefix.as_deref();
        let len = message.payload().len() + headers_len(prefix, self.order.is_some());
        if let Err(error) = self.check(&subject, is_valid, len) {
            if let Some(order) = &mut self.order
                && message.messages() > 1
            {
                order.reject_pack(sequence);
            }
            return self.acks.settled(&subject, Err(error));
        }
        let expectation = match &mut self.order {
            Some(order) => {
                self.own_subject = Some(subject.clone());
                order.publish(sequence)
            }
            None => Expectation::default(),
        };
        let headers = headers(self.id_prefix.as_deref(), sequence, expectation);
        let (receipt, reply) = self.acks.expect(&subject);
        let payload = message.payload().clone();
        let outbound = OutboundMessage { subject, payload, reply: Some(reply), headers };
        if Pin::new(&mut self.client).start_send(outbound).is_err() {
            // The size was checked, so the client is closed.
            self.acks.settle(&receipt, Err(closed()));
        }
        receipt
    }

    fn poll_resume(
        &mut self,
        cx: &mut TaskContext<'_>,
        _first: u64,
    ) -> Poll<Result<Option<u64>, PublishError>> {
        self.handle_events(cx)?;
        self.forget_lost_questions();
        if self.resync.is_none() {
            self.inspection = None;
            let mut round = self.acks.reset();
            if let Some(subject) = round.unanswered.take() {
                self.unanswered = subject.or_else(|| self.subjects.as_fixed().cloned());
            }
            let stream = self.order.as_mut().and_then(|order| {
                order.end_round(round);
                order.stream.clone()
            });
            let questions = Questions {
                subject: self.unanswered.clone(),
                stream,
                own_subject: self.own_subject.clone(),
                id_prefix: self.id_prefix.clone(),
            };
            if questions.subject.is_none() && questions.stream.is_none() && questions.own_subject.is_none() {
                return Poll::Ready(Ok(None));
            }
            self.resync = Some(Box::pin(resync::ask(self.context.clone(), questions)));
        }
        let Some(resync) = &mut self.resync else { return Poll::Ready(Ok(None)) };
        let answers = ready!(resync.as_mut().poll(cx));
        self.resync = None;
        self.resume(answers?)?;
        Poll::Ready(Ok(None))
    }

    fn connection(&self) -> Connection {
        // The number of connections is read first: a connection between the two reads is seen as a loss later.
        // ORDERING: Relaxed: a count of the client, which publishes nothing else.
        let connects = self.statistics.connects.load(Ordering::Relaxed);
        let is_up = self.client.connection_state() == ConnectionState::Connected;
        Connection { is_up, losses: connects.saturating_sub(1) }
    }

    fn strict_order(&mut self) -> bool {
        self.order = Some(StrictOrder::new());
        true
    }

    fn max_payload(&self) -> Option<usize> {
        Some(self.client.max_payload().saturating_sub(HEADER_ROOM))
    }

    fn may_pack(&mut self, first: &[u8], next: &[u8]) -> bool {
        self.subjects.are_same(first, next)
    }
}

impl std::fmt::Debug for JetStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JetStream").field("connection", &self.connection()).finish_non_exhaustive()
    }
}

/// Returns an upper bound of the size of a message's headers.
fn headers_len(id_prefix: Option<&str>, is_strict: bool) -> usize {
    const DIGITS: usize = 20;
    const FRAME: usize = "NATS/1.0\r\n\r\n".len();
    const LINE: usize = ": \r\n".len();
    let name = |name: async_nats::HeaderName| AsRef::<str>::as_ref(&name).len() + LINE;
    let id = id_prefix.map_or(0, |prefix| prefix.len() + DIGITS);
    let ids = match (id_prefix, is_strict) {
        (None, _) => 0,
        (Some(_), false) => name(NATS_MESSAGE_ID) + id,
        (Some(_), true) => name(NATS_MESSAGE_ID) + name(NATS_EXPECTED_LAST_MESSAGE_ID) + 2 * id,
    };
    FRAME + ids + if is_strict { name(NATS_EXPECTED_LAST_SEQUENCE) + DIGITS } else { 0 }
}

/// Returns the headers of a message.
fn headers(id_prefix: Option<&str>, sequence: u64, expectation: Expectation) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    if let Some(prefix) = id_prefix {
        headers.insert(NATS_MESSAGE_ID, id(prefix, sequence));
        if let Some(previous) = expectation.previous {
            headers.insert(NATS_EXPECTED_LAST_MESSAGE_ID, id(prefix, previous));
        }
    }
    if let Some(last_sequence) = expectation.last_sequence {
        headers.insert(NATS_EXPECTED_LAST_SEQUENCE, last_sequence.to_string());
    }
    (!headers.is_empty()).then_some(headers)
}

fn id(prefix: &str, sequence: u64) -> String {
    let mut id = Vec::with_capacity(prefix.len() + 20);
    id.extend_from_slice(prefix.as_bytes());
    acks::put_decimal(&mut id, sequence);
    String::from_utf8(id).expect("a prefix and digits are UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_of_headers_is_that_of_the_longest() {
        let longest = Expectation { last_sequence: Some(u64::MAX), previous: Some(u64::MAX) };
        let prefixes = [None, Some("p-"), Some("a-prefix-of-message-ids-")];
        for (prefix, is_strict) in prefixes.into_iter().flat_map(|prefix| [(prefix, false), (prefix, true)]) {
            let expectation = if is_strict { longest } else { Expectation::default() };
            let headers = headers(prefix, u64::MAX, expectation).unwrap_or_default();
            let line = |name: &str, value: &str| format!("{name}: {value}\r\n").len();
            let lines: usize =
                headers.iter().map(|(name, values)| line(name.as_ref(), values[0].as_str())).sum();
            assert_eq!(headers_len(prefix, is_strict), "NATS/1.0\r\n\r\n".len() + lines, "{headers:?}");
        }
    }
}
