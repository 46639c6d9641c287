//! [`Forwarder`]: the settings of a forwarder, and its start.

use std::fmt;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;

use super::destination::Destination;
use super::error::Rejection;
use super::handle::ForwardHandle;
use super::ids::id_prefix;
use super::packing::Packing;
use super::shared::Shared;
use super::task::{ForwardTask, Running, Settings};
use crate::receiver::Receiver;
use crate::sync::Arc;

const DEFAULT_IN_FLIGHT: usize = 8_192;
const DEFAULT_RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
const DEFAULT_CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);
/// A shorter pause would be a busy loop.
const MIN_RETRY: Duration = Duration::from_millis(1);
/// A longer pause would never end, and could not be added to the time.
const MAX_RETRY: Duration = Duration::from_secs(365 * 24 * 3600);

/// Forwards the messages of a channel to a [`Destination`], an engine that keeps them, at least once.
///
/// The forwarder takes messages out of the channel and publishes them, without waiting for one before it publishes the
/// next. A message stays in memory until the engine has confirmed that it has taken responsibility for it. If the
/// engine does not, or the connection is lost, the forwarder publishes again, in order, from the oldest unconfirmed
/// message on. Each message has an id that stays the same, by which the engine recognises what it has stored already.
///
/// The messages in flight are lent from the channel: as long as they are not confirmed, their segments, or the payloads that
/// travel by reference count, count in [`max_bytes`](crate::Builder::max_bytes). So what is queued and what is in flight
/// share one limit, and if the engine is slow or away, senders wait, or [`WhenFull`](crate::WhenFull) applies. Only
/// [packs](Self::pack), which are copies, come on top, and stay within the bytes of [`in_flight`](Self::in_flight).
///
/// Several forwarders may read from clones of one receiver; each message then goes to one of them.
///
/// # Examples
///
/// A destination that stores in a vector stands for an engine:
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
#[doc = include_str!("example.md")]
/// let (tx, rx) = turbostream::channel();
/// let forwarder = Forwarder::new(rx, destination).message_ids("host-7").spawn();
///
/// tx.send("line").await?;
/// forwarder.flush().await?; // the destination has confirmed it
/// assert_eq!(*stored.lock().unwrap(), ["line"]);
///
/// let report = forwarder.shutdown().await?;
/// assert_eq!(report.stats.confirmed, 1);
/// # Ok(()) }
/// ```
#[must_use = "a forwarder forwards once it is spawned"]
pub struct Forwarder<D> {
    receiver: Receiver,
    destination: D,
    settings: Settings,
    /// The name of the ids; `None` for no ids.
    ids: Option<String>,
}

impl<D: Destination> Forwarder<D> {
    /// Makes a forwarder of the messages that `receiver` receives, with the default settings.
    ///
    /// The forwarder sets the receiver to [`ReadMode::ZeroCopy`](crate::ReadMode::ZeroCopy) while it runs.
    pub fn new(receiver: Receiver, destination: D) -> Self {
        let settings = Settings {
            max_messages: DEFAULT_IN_FLIGHT,
            max_bytes: receiver.max_bytes() / 2,
            retry: DEFAULT_RETRY,
            give_up_after: None,
            confirm_timeout: DEFAULT_CONFIRM_TIMEOUT,
            strict_order: false,
            packing: None,
            on_rejected: None,
        };
        Self { receiver, destination, settings, ids: Some(String::new()) }
    }

    /// Limits what is in flight: taken out of the channel, and neither confirmed nor rejected.
    ///
    /// The default is 8,192 messages, and half of the channel's [`max_bytes`](crate::Builder::max_bytes) of payload. The
    /// throughput is at most the window divided by the time in which the engine confirms: 8,192 messages at 10 ms are
    /// 819,200 messages a second. A message larger than `bytes` travels when nothing else is in flight. A limit of 0
    /// messages counts as 1.
    ///
    /// A limit of more bytes than the channel has is never reached: the channel lends no more than it has, and its senders
    /// wait meanwhile.
    pub fn in_flight(mut self, messages: usize, bytes: usize) -> Self {
        (self.settings.max_messages, self.settings.max_bytes) = (messages.max(1), bytes);
        self
    }

    /// Names the ids of messages: `<name>-<run>-<sequence>` instead of `<run>-<sequence>`.
    ///
    /// The run is 16 hexadecimal digits, random for each forwarder: a restarted process does not use an id again. Engines
    /// take ids in headers: a character of `name` that is not visible ASCII becomes `_`.
    pub fn message_ids(mut self, name: impl Into<String>) -> Self {
        self.ids = Some(name.into());
        self
    }

    /// Publishes messages without ids. The engine then cannot recognise a message that it has stored already.
    pub fn without_message_ids(mut self) -> Self {
        self.ids = None;
        self
    }

    /// Sets the pauses before the forwarder publishes again after a failure. The default is 50 ms and 5 s.
    ///
    /// The first pause is at most `min`. Each one without a confirmation in between may be twice as long, up to `max`. Its
    /// length is random, from half of `min` up to that limit, so that many processes do not return at the same instant. A
    /// `min` below 1 ms counts as 1 ms, and a limit above a year as a year. When a lost connection is up again, there is no pause.
    pub fn retry(mut self, min: Duration, max: Duration) -> Self {
        let min = min.clamp(MIN_RETRY, MAX_RETRY);
        self.settings.retry = (min, max.clamp(min, MAX_RETRY));
        self
    }

    /// Ends the forwarder if the oldest message in flight was not confirmed within `limit`, although nothing else was
    /// confirmed meanwhile. By default the forwarder does not give up.
    pub fn give_up_after(mut self, limit: Duration) -> Self {
        self.settings.give_up_after = Some(limit);
        self
    }

    /// Sets how long the oldest published message waits for its confirmation, while none is confirmed. The default is 10 s.
    ///
    /// Then the forwarder publishes again from that message on.
    pub fn confirm_timeout(mut self, limit: Duration) -> Self {
        self.settings.confirm_timeout = limit;
        self
    }

    /// Keeps the order of messages also where some are published again.
    ///
    /// Without it, order is kept while nothing is retried. With it, a destination whose engine can refuse a message
    /// because the one before is missing uses that ([`Destination::strict_order`]). For any other destination the
    /// forwarder keeps one payload in flight at a time: one round trip each, so use [`pack`](Self::pack).
    ///
    /// One case is left to the engine: if it rejects a pack but takes later ones that were published already, the
    /// messages of the rejected pack follow those.
    pub fn strict_order(mut self) -> Self {
        self.settings.strict_order = true;
        self
    }

    /// Packs small messages together into payloads of up to `max_bytes`.
    ///
    /// A pack takes what the channel has ready, and waits for no more. It also ends at
    /// [`Destination::max_payload`], where [`Destination::may_pack`] says no, and at the limits of
    /// [`in_flight`](Self::in_flight). A message that is larger travels alone. The next pack begins when it can be
    /// published and a quarter of the window is free: until then messages gather in the channel, so packs grow with the
    /// load. A pack is built once: published again, it has the same content and the same id.
    ///
    /// Messages are copied into the pack, which counts in the bytes in flight; the channel gets their memory back. See
    /// [`Packing`] for the format, and [`unpack`](super::unpack) for the reader.
    pub fn pack(mut self, packing: Packing, max_bytes: usize) -> Self {
        self.settings.packing = Some((packing, max_bytes));
        self
    }

    /// Calls `callback` with each message that the engine can never take, and the reason.
    ///
    /// The forwarder goes on with the next message. If a pack is rejected, its messages are published one by one, so that
    /// only those are rejected that the engine does not take alone. The callback runs on the forwarder's task, and must
    /// not block. A panic of it is caught, and counted in
    /// [`Stats::callback_panics`](crate::Stats::callback_panics).
    pub fn on_rejected(mut self, callback: impl FnMut(&[u8], &Rejection) + Send + 'static) -> Self {
        self.settings.on_rejected = Some(Box::new(callback));
        self
    }

    /// Starts the forwarder, as a task on the current runtime.
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime, and if the runtime has no time driver (Tokio's `enable_time`).
    #[track_caller]
    pub fn spawn(self) -> ForwardHandle {
        self.spawn_on(&Handle::current())
    }

    /// Starts the forwarder, as a task on `runtime`.
    ///
    /// If the runtime shuts down first, the forwarder ends with
    /// [`ForwardErrorKind::Cancelled`](super::ForwardErrorKind::Cancelled).
    ///
    /// # Panics
    ///
    /// Panics if the runtime has no time driver (Tokio's `enable_time`).
    #[track_caller]
    pub fn spawn_on(self, runtime: &Handle) -> ForwardHandle {
        let Self { receiver, destination, settings, ids } = self;
        let timer = {
            let _context = runtime.enter();
            Box::pin(sleep(Duration::ZERO))
        };
        let channel = receiver.monitor();
        let alive = receiver.core().tasks().enter();
        let shared = Arc::new(Shared::new());
        let id_prefix = ids.map(|name| id_prefix(&name));
        let running = Running::new(receiver, destination, settings, id_prefix, timer);
        let task = ForwardTask::new(running, Arc::clone(&shared));
        runtime.spawn(async move {
            let _alive = alive;
            task.await;
        });
        ForwardHandle::new(shared, channel)
    }
}

impl<D> fmt::Debug for Forwarder<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder")
            .field("receiver", &self.receiver)
            .field("settings", &self.settings)
            .field("ids", &self.ids)
            .finish_non_exhaustive()
    }
}
