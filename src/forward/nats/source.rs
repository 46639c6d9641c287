//! [`JetStreamSource`]: a durable pull consumer of JetStream into a channel.
//!
//! One task does everything. It never waits in two places at once: each of its turns polls what may have happened, then
//! starts what can be started.
//!
//! A message goes through these states. The task keeps its reply subject, a copy, until the last one.
//!
//! ```text
//!              requested ──arrives──▶ waiting ──the channel accepts──▶ accepted ──the group was received──▶ acknowledged
//!                                        │                                │
//!                                        │ stop                           │ time limit of stop, last receiver dropped
//!                                        └────────────▶ returned ◀────────┘
//! ```
//!
//! - **requested**: the task has asked the server for it, by a pull request on an inbox of its own. What is requested,
//!   waiting and accepted stays within the window of [`in_flight`](JetStreamSource::in_flight). While a message waits,
//!   the task requests no more: this is the back-pressure.
//! - **waiting**: it has arrived, and the channel has no room. The first of them is in a `send`; the others queue up.
//! - **accepted**: it is in the channel. With [`AckWhen::Accepted`] it is acknowledged at once.
//! - **acknowledged**: with [`AckWhen::HandedOut`], messages are acknowledged in groups. The task notes how many messages
//!   it has had accepted, and only then starts [`Sender::drained`](crate::Sender::drained), which resolves once all
//!   messages accepted before were received. Then it acknowledges that many. One such call runs at a time; messages accepted
//!   meanwhile are the next group. If `drained` fails, the last receiver has left with messages unread, and no message
//!   of the group is acknowledged.
//! - **returned**: a negative acknowledgement, with which the server delivers the message again at once, to any puller. It
//!   is sent after the task has unsubscribed, so that the server does not choose this source.
//!
//! Messages that are waiting or accepted for a third of the consumer's `ack_wait` get a progress acknowledgement, so the
//! server does not deliver them again while readers are slow.
//!
//! The pull is a state machine of its own, in `pull.rs`:
//!
//! ```text
//!            ┌─────────────── pause, longer each time ◀──────────────┐
//!            ▼                                                       │ no answer, missed heartbeats, refused,
//!   checks the consumer ──▶ subscribes to a new inbox ──▶ open ──────┤ connection came back (no pause)
//!            │    │                  ▲                     │         │
//!            │    │ no client        │ it arrives          │ stop    │
//!            │    └──────▶ requests the first message ─────┼─────────┘
//!            │                       │                     ▼
//!            │ not found,            │ stop        takes what is on its way, unsubscribes
//!            │ three times           ▼
//!            ▼              waits for the request's end
//!      SourceError
//! ```
//!
//! async-nats gives no client of a consumer, except with a message. A source that was made without a context therefore has
//! async-nats pull the first message, alone, and asks again as long as there is none (`first.rs`). To check the
//! consumer takes no client, so an unsuitable one is refused before.
//!
//! The end of a pull has an order, too: the task takes what is on its way, unsubscribes, and has the server forget the
//! requests, for the reasons given there.
//!
//! Every state may end by a crash of the process, of the server, or by a lost connection. None loses a message: the server
//! delivers again, after `ack_wait`, what is not acknowledged. A message that is delivered twice is sent twice.

mod first;
mod handle;
mod pull;
mod task;
mod waiting;

use std::pin::Pin;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::{Client, Message};
use bytes::Bytes;
use tokio::runtime::Handle;

pub use self::handle::{SourceEnd, SourceError, SourceErrorKind, SourceHandle, SourceReport, SourceStats};
pub use self::waiting::SourceRejection;
use crate::forward::Packing;
use crate::sender::Sender;

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type FilterMap = Box<dyn FnMut(&Message) -> Option<Bytes> + Send>;
type OnRejected = Box<dyn FnMut(&[u8], &SourceRejection) + Send>;

/// When a [`JetStreamSource`] acknowledges a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AckWhen {
    /// After a receiver of the channel got it. This is the default.
    ///
    /// A message that was received may not be processed yet: if the process ends before that, it is lost.
    #[default]
    HandedOut,
    /// After the channel accepted it. If the process ends before a receiver got it, it is lost.
    Accepted,
}

/// A durable JetStream pull consumer whose messages are sent to a channel.
///
/// With a [`Forwarder`](crate::forward) at the other end, a channel's two ends stand on two machines. Several sources, in
/// one process or in many, may share a consumer; each message then goes to one of them.
///
/// - Delivery is at least once. After a crash, a lost connection or a negative acknowledgement, the server delivers a
///   message again, and readers get it twice.
/// - Messages are sent in the order in which the server delivers them. A message that is delivered again comes later.
/// - The source requests no more messages than [`in_flight`](Self::in_flight) leaves room for, and none while the channel
///   is full.
/// - It tells the server that it still works on the messages it holds, so `ack_wait` may be shorter than a reader's pause.
///   A consumer with `max_deliver` still gives up a message after so many deliveries.
/// - When the connection is lost, or the server restarts, it pulls again as soon as the connection is back.
///
/// # Requirements
///
/// The consumer's `ack_policy` must be `Explicit`. With `All`, an acknowledgement would include messages that another
/// source holds, or that were lost with a connection. The senders of the channel must wait when it is full
/// ([`WhenFull::Wait`](crate::WhenFull::Wait)); otherwise a message could be acknowledged and dropped. If one of
/// these does not hold, the source ends with a [`SourceError`].
///
/// # Examples
///
/// ```no_run
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// use async_nats::jetstream::consumer::{PullConsumer, pull};
/// use turbostream::forward::JetStreamSource;
///
/// let context = async_nats::jetstream::new(async_nats::connect("nats://127.0.0.1:4222").await?);
/// let stream = context.get_stream("logs").await?;
/// let config = pull::Config { durable_name: Some("archive".into()), ..Default::default() };
/// let consumer: PullConsumer = stream.get_or_create_consumer("archive", config).await?;
///
/// let (tx, mut rx) = turbostream::channel();
/// let source = JetStreamSource::new(consumer).spawn(tx);
/// while let Some(message) = rx.recv().await {
///     println!("{}", String::from_utf8_lossy(&message));
/// #   break;
/// }
/// let report = source.stop().await?;
/// println!("{} acknowledged", report.stats.acknowledged);
/// # Ok(()) }
/// ```
pub struct JetStreamSource {
    client: Option<Client>,
    consumer: PullConsumer,
    ack_when: AckWhen,
    in_flight: Option<(usize, usize)>,
    packing: Option<Packing>,
    filter_map: Option<FilterMap>,
    on_rejected: Option<OnRejected>,
}

impl JetStreamSource {
    /// Makes a source of the messages of `consumer`.
    ///
    /// A consumer does not say what its client is, but its messages do. Until the first message has arrived, the source
    /// requests one message at a time, every 2 seconds while there is none.
    pub fn new(consumer: PullConsumer) -> Self {
        Self::of(None, consumer)
    }

    /// Makes a source of the messages of `consumer`, which belongs to a stream of `context`.
    ///
    /// It does the same as one made with [`new`](Self::new), but needs no first message to know its client. While a
    /// consumer has no messages, it sends a request every 30 seconds, stops at once, and notices a lost connection at once.
    pub fn with_context(context: &Context, consumer: PullConsumer) -> Self {
        Self::of(Some(context.client()), consumer)
    }

    fn of(client: Option<Client>, consumer: PullConsumer) -> Self {
        Self {
            client,
            consumer,
            ack_when: AckWhen::default(),
            in_flight: None,
            packing: None,
            filter_map: None,
            on_rejected: None,
        }
    }

    /// Sets when messages are acknowledged.
    ///
    /// With [`AckWhen::HandedOut`] the source switches the channel as [`Sender::drained`] does, also on a channel
    /// without [`on_demand`](crate::Builder::on_demand).
    pub fn ack_when(mut self, when: AckWhen) -> Self {
        self.ack_when = when;
        self
    }

    /// Sets how many messages and bytes may be requested from the server or unacknowledged.
    ///
    /// The bytes are those of payloads, headers and subjects. A message that alone exceeds them is pulled alone. The consumer's
    /// `max_ack_pending` may be a lower limit. The messages should be fewer than the `subscription_capacity` of the client,
    /// 65,536 by default. Values below 1 count as 1, and bytes above the channel's `max_bytes` as that.
    ///
    /// The default is 8,192 messages and half of the channel's [`max_bytes`](crate::Builder::max_bytes).
    pub fn in_flight(mut self, messages: usize, bytes: usize) -> Self {
        self.in_flight = Some((messages.max(1), bytes.max(1)));
        self
    }

    /// Sets a function that makes the channel's message from the stream's: with its subject or headers, for example.
    ///
    /// A message for which it returns `None` is skipped: it is acknowledged, and not sent. The function is called on the
    /// source's task, so it should be quick. Without it, the payload is sent.
    pub fn filter_map(mut self, f: impl FnMut(&Message) -> Option<Bytes> + Send + 'static) -> Self {
        self.filter_map = Some(Box::new(f));
        self
    }

    /// Takes each payload apart, as [`unpack`](crate::forward::unpack) does, and sends its messages one by one. For streams
    /// that were filled with [`Forwarder::pack`](crate::forward::Forwarder::pack).
    ///
    /// The stream's message is acknowledged when the last of them was received or accepted. If it is given back or delivered
    /// again, all of them are received twice. What [`filter_map`](Self::filter_map) returns is taken apart.
    pub fn unpack(mut self, packing: Packing) -> Self {
        self.packing = Some(packing);
        self
    }

    /// Sets a function that is called for each message that the source can never send, with its bytes and the reason.
    ///
    /// A message of the stream of which nothing can be sent is terminated: the server does not deliver it again. Without
    /// the function, such messages are only counted.
    pub fn on_rejected(mut self, f: impl FnMut(&[u8], &SourceRejection) + Send + 'static) -> Self {
        self.on_rejected = Some(Box::new(f));
        self
    }

    /// Starts the source on the current runtime. It sends to `tx` until it is stopped or the channel closes.
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime. The runtime needs a time driver.
    pub fn spawn(self, tx: Sender) -> SourceHandle {
        self.spawn_on(&Handle::current(), tx)
    }

    /// Starts the source on `runtime`, as [`spawn`](Self::spawn) does.
    pub fn spawn_on(self, runtime: &Handle, tx: Sender) -> SourceHandle {
        let (handle, task_end) = SourceHandle::new(self.client.clone());
        runtime.spawn(task::run(self, tx, task_end));
        handle
    }
}

impl std::fmt::Debug for JetStreamSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JetStreamSource")
            .field("stream", &self.consumer.cached_info().stream_name)
            .field("consumer", &self.consumer.cached_info().name)
            .field("ack_when", &self.ack_when)
            .finish_non_exhaustive()
    }
}
