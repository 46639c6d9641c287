//! Makes channels: [`channel`], [`builder`], and the check of every setting.

use std::cell::Cell;
use std::sync::Arc as StdArc;
use std::time::Duration;

use tokio::runtime::{Handle, Id};

use crate::channel::Core;
use crate::channel::background;
use crate::channel::config::{Config, WhenFull};
use crate::channel::strategy::{SwitchStrategy, Weighted};
use crate::error::BuildError;
use crate::queue::ReadMode;
use crate::queue::head::ahead::MAX_CLAIM;
use crate::queue::pool::footprint;
use crate::queue::segment::MAX_MESSAGE_BYTES;
use crate::queue::segment::slot_state::{Capacity, MAX_BYTES, MAX_MESSAGES, MAX_SEGMENTS, MIN_BYTES};
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::sync::unwind::catch;
use crate::sync::{Arc, downgrade};
use crate::telemetry::recorder::Recorder;

const DEFAULT_MAX_BYTES: usize = 16 << 20;
const DEFAULT_SEGMENT_BYTES: usize = 256 << 10;
const DEFAULT_MAX_MESSAGE_BYTES: usize = 8 << 20;
/// Payload bytes for each message that a segment has room for by default.
const DEFAULT_BYTES_PER_MESSAGE: usize = 32;
const DEFAULT_REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Creates a channel with default settings.
///
/// See [`builder`] for the settings and their defaults.
///
/// # Panics
///
/// Panics if called outside of a Tokio runtime, or in a runtime without a time driver. Use
/// [`builder().runtime(..)`](Builder::runtime) there.
///
/// # Examples
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (tx, mut rx) = turbostream::channel();
/// tx.send(b"one").await?;
/// drop(tx);
/// assert_eq!(rx.recv().await.as_deref(), Some(&b"one"[..]));
/// assert_eq!(rx.recv().await, None);
/// # Ok(()) }
/// ```
#[track_caller]
pub fn channel() -> (Sender, Receiver) {
    match builder().build() {
        Ok(handles) => handles,
        Err(error) => panic!("turbostream::channel(): {error}"),
    }
}

/// Configures a channel. Created by [`builder`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder {
    name: Option<String>,
    segment_bytes: Option<usize>,
    segment_messages: Option<usize>,
    max_bytes: usize,
    max_message_bytes: Option<usize>,
    strategy: Box<dyn SwitchStrategy>,
    on_demand: bool,
    read_mode: ReadMode,
    when_full: WhenFull,
    lend_ttl: Duration,
    pool_idle: Duration,
    prefetch: usize,
    runtime: Option<Handle>,
    recorder: Option<StdArc<dyn Recorder>>,
    report_interval: Duration,
    /// Set by `tracing_writer`.
    pub(crate) is_silent: bool,
}

/// Returns a builder with the default settings.
///
/// # Examples
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use turbostream::{ReadMode, Weighted};
///
/// let (tx, mut rx) = turbostream::builder()
///     .name("ingest")
///     .max_bytes(4 << 20)
///     .strategy(Weighted::new(Duration::from_millis(2)))
///     .read_mode(ReadMode::ZeroCopy)
///     .build()?;
/// tx.send("a line").await?;
/// assert_eq!(rx.recv().await.unwrap(), "a line");
/// # Ok(()) }
/// ```
pub fn builder() -> Builder {
    Builder::new()
}

impl Builder {
    fn new() -> Self {
        Self {
            name: None,
            segment_bytes: None,
            segment_messages: None,
            max_bytes: DEFAULT_MAX_BYTES,
            max_message_bytes: None,
            strategy: Box::new(Weighted::default()),
            on_demand: true,
            read_mode: ReadMode::default(),
            when_full: WhenFull::default(),
            lend_ttl: Duration::from_secs(5),
            pool_idle: Duration::from_secs(1),
            prefetch: 1,
            runtime: None,
            recorder: None,
            report_interval: DEFAULT_REPORT_INTERVAL,
            is_silent: false,
        }
    }

    /// Sets a name for metrics and traces.
    ///
    /// By default a channel has no name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets how many payload bytes one segment holds: 64 B to 64 MiB.
    ///
    /// The first segments of a channel may be smaller: they double from 4 KiB up to this. A sealed segment takes all its
    /// memory, however little is in it: see [`segment_messages`](Self::segment_messages).
    ///
    /// The default is 256 KiB, but at most an eighth and at least a 4096th of [`max_bytes`](Self::max_bytes).
    pub fn segment_bytes(mut self, bytes: usize) -> Self {
        self.segment_bytes = Some(bytes);
        self
    }

    /// Sets how many messages one segment holds: 1 to 1,048,575. Each takes 8 bytes of index.
    ///
    /// The default is one message for each 32 bytes of the segment: 8192 for a segment of 256 KiB.
    ///
    /// A segment that is full by this number still takes the memory of all its [`segment_bytes`](Self::segment_bytes). To batch
    /// by count, set those to about as many times the length of a message.
    ///
    /// # Examples
    ///
    /// Batches of 500 messages of 128 bytes:
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use turbostream::{Builder, MessageCount, builder};
    /// let queued_when_full = |builder: Builder| {
    ///     let builder = builder.segment_messages(500).strategy(MessageCount(500)).on_demand(false);
    ///     let (tx, _rx) = builder.max_bytes(8 << 20).build().unwrap();
    ///     while tx.try_send([0; 128]).is_ok() {}
    ///     tx.queued_bytes()
    /// };
    /// // With 256 KiB a segment, three quarters of the memory hold nothing.
    /// assert_eq!(queued_when_full(builder()), 31 * 500 * 128); // 1.9 MiB
    /// assert_eq!(queued_when_full(builder().segment_bytes(500 * 128)), 123 * 500 * 128); // 7.5 MiB
    /// # Ok(()) }
    /// ```
    pub fn segment_messages(mut self, messages: usize) -> Self {
        self.segment_messages = Some(messages);
        self
    }

    /// Sets the limit on the memory of the channel, in bytes.
    ///
    /// The limit covers active, sealed, free and lent segments, with their index, and the queued external payloads: owned ones
    /// of 32 KiB and more, and all that are longer than a segment. An external payload counts until it is received. A
    /// [`Bytes`](bytes::Bytes) or [`Batch`](crate::Batch) that keeps it then holds memory of the program, not of the channel: with
    /// [`Limit::bytes`](crate::Limit::bytes) a batch of long messages stays small.
    ///
    /// It must leave room for two segments. The default is 16 MiB.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets the maximum length of a message, in bytes.
    ///
    /// It can be at most [`max_bytes`](Self::max_bytes) without the memory of one segment, and less than 8 GiB. The default is
    /// the smaller of 8 MiB and half of `max_bytes`.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = Some(bytes);
        self
    }

    /// Sets the strategy that decides when to switch the active segment before it is full.
    ///
    /// The default is [`Weighted`] over 5 ms.
    pub fn strategy(mut self, strategy: impl SwitchStrategy) -> Self {
        self.strategy = Box::new(strategy);
        self
    }

    /// Sets whether a receiver that has read everything sealed cuts the active segment. The default is `true`.
    ///
    /// With `false`, a receiver sees messages only after a switch by the strategy, by a full segment or channel, by
    /// [`switch`](crate::Sender::switch), by [`drained`](crate::Sender::drained), by the flush or the shutdown of a
    /// sink or a writer, or by a close. Each of these ends a batch and uses a segment, however little is in it; a flush
    /// beside a long backlog is deferred until a receiver has shortened it.
    pub fn on_demand(mut self, on_demand: bool) -> Self {
        self.on_demand = on_demand;
        self
    }

    /// Sets whether receivers copy small messages or lend them.
    ///
    /// The default is [`ReadMode::Safe`].
    pub fn read_mode(mut self, mode: ReadMode) -> Self {
        self.read_mode = mode;
        self
    }

    /// Sets what happens to a message when there is no room for it.
    ///
    /// The default is [`WhenFull::Wait`].
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Sets for how long after its last switch a segment is lent in [`ReadMode::Safe`].
    ///
    /// The default is 5 s.
    pub fn lend_ttl(mut self, ttl: Duration) -> Self {
        self.lend_ttl = ttl;
        self
    }

    /// Sets how long unused memory stays in the pool before it is freed. The default is 1 s.
    ///
    /// Two segments are kept longer: until the channel has made no switch for one and a half times this long.
    pub fn pool_idle(mut self, idle: Duration) -> Self {
        self.pool_idle = idle;
        self
    }

    /// Sets how many messages each of several receivers may take ahead: 1 to 256. The default is 1.
    ///
    /// Receivers that are clones of each other compete for messages. With the default they take them one by one, in order. A
    /// receiver that takes several at once finds the other ones less often in its way, but what it has taken waits for it,
    /// while another receiver may be idle, or wait for the end of the channel. What a receiver has taken ahead counts as
    /// queued. It is given back in order when that receiver is cloned or dropped, or takes messages as a batch or by
    /// [`recv_many`](crate::Receiver::recv_many); then another receiver may get it after later messages.
    ///
    /// A single receiver takes messages ahead at any setting, as there is no other one to notice.
    pub fn prefetch(mut self, messages: usize) -> Self {
        self.prefetch = messages;
        self
    }

    /// Sets the runtime for the channel's background task and for its reports to the [`recorder`](Self::recorder).
    ///
    /// The runtime must have a time driver (Tokio's `enable_time`). The default is the runtime in which
    /// [`build`](Self::build) is called.
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Sets a [`Recorder`] that receives the changes of the channel's statistics. By default there is none.
    ///
    /// Several channels can share one recorder: pass each a clone of an `Arc`. A channel has one recorder: a second call of
    /// this method replaces the first one. To feed two, pass a closure that calls both.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    /// use turbostream::{Counter, Recorder, StatsDelta};
    ///
    /// #[derive(Default)]
    /// struct Bytes(AtomicU64);
    /// impl Recorder for Bytes {
    ///     fn record(&self, delta: &StatsDelta<'_>) {
    ///         self.0.fetch_add(delta.counter(Counter::SentBytes), Relaxed);
    ///     }
    /// }
    /// let (first, second) = (Arc::new(Bytes::default()), Arc::new(Bytes::default()));
    /// let (tx, _rx) = turbostream::builder()
    ///     .recorder({
    ///         let (first, second) = (first.clone(), second.clone());
    ///         move |delta: &StatsDelta<'_>| {
    ///             first.record(delta);
    ///             second.record(delta);
    ///         }
    ///     })
    ///     .build()?;
    /// tx.send("abc").await?;
    /// tx.monitor().flush();
    /// assert_eq!((first.0.load(Relaxed), second.0.load(Relaxed)), (3, 3));
    /// # Ok(()) }
    /// ```
    pub fn recorder(mut self, recorder: impl Recorder) -> Self {
        self.recorder = Some(StdArc::new(recorder));
        self
    }

    /// Sets the interval of reports to the [`recorder`](Self::recorder).
    ///
    /// It must be at least 1 ms. The default is 5 s.
    pub fn report_interval(mut self, interval: Duration) -> Self {
        self.report_interval = interval;
        self
    }

    /// Creates the channel.
    ///
    /// Memory for messages is allocated with the first message. The background task of the channel is spawned when it is
    /// first needed. It runs on [`runtime`](Self::runtime), or on the current runtime, which must have a time driver.
    ///
    /// # Errors
    ///
    /// - [`BuildError::OutOfRange`] if a setting is out of range. It names the setting and the values that are
    ///   accepted, given the other settings.
    /// - [`BuildError::NoRuntime`] if called outside of a Tokio runtime without [`runtime`](Self::runtime).
    /// - [`BuildError::NoTime`] if the runtime has no time driver. The only way to detect this is a panic of Tokio,
    ///   which is caught: a panic hook sees it, and where panics abort, the process ends.
    pub fn build(self) -> Result<(Sender, Receiver), BuildError> {
        let mut builder = self;
        let runtime = builder.runtime.take().or_else(|| Handle::try_current().ok());
        let config = builder.check(Some(runtime.ok_or(BuildError::NoRuntime)?))?;
        if !config.runtime.as_ref().is_some_and(has_time_driver) {
            return Err(BuildError::NoTime);
        }
        Ok(open(config))
    }

    /// Checks each setting against its range, which depends on the settings checked before it.
    pub(crate) fn check(self, runtime: Option<Handle>) -> Result<Config, BuildError> {
        let capacity = self.capacity(self.max_bytes)?;
        let segment_footprint = footprint(capacity);
        let (min, max) = self.max_bytes_range()?;
        in_range("max_bytes", self.max_bytes, min, max)?;
        let max_message_bytes =
            self.max_message_bytes.unwrap_or(DEFAULT_MAX_MESSAGE_BYTES.min(self.max_bytes / 2));
        let longest = usize::try_from(MAX_MESSAGE_BYTES).unwrap_or(usize::MAX);
        let longest = longest.min(self.max_bytes - segment_footprint);
        in_range("max_message_bytes", max_message_bytes, 1, longest)?;
        in_range("prefetch", self.prefetch, 1, MAX_CLAIM)?;
        let interval = usize::try_from(self.report_interval.as_millis()).unwrap_or(usize::MAX);
        in_range("report_interval", interval, 1, usize::MAX)?;
        Ok(Config {
            name: self.name,
            capacity,
            max_bytes: self.max_bytes,
            max_message_bytes,
            strategy: self.strategy,
            on_demand: self.on_demand,
            read_mode: self.read_mode,
            when_full: self.when_full,
            lend_ttl: self.lend_ttl,
            pool_idle: self.pool_idle,
            prefetch: self.prefetch,
            runtime,
            recorder: self.recorder.map(|recorder| (recorder, self.report_interval)),
            first_sequence: 0,
            is_silent: self.is_silent,
        })
    }

    /// Returns the capacity of a segment. It depends on `max_bytes` unless it was set.
    fn capacity(&self, max_bytes: usize) -> Result<Capacity, BuildError> {
        let bytes = self.segment_bytes.unwrap_or_else(|| {
            let preferred = (max_bytes / 8).min(DEFAULT_SEGMENT_BYTES);
            preferred.max(max_bytes / 4096).clamp(MIN_BYTES, MAX_BYTES)
        });
        in_range("segment_bytes", bytes, MIN_BYTES, MAX_BYTES)?;
        let messages =
            self.segment_messages.unwrap_or((bytes / DEFAULT_BYTES_PER_MESSAGE).clamp(1, MAX_MESSAGES));
        in_range("segment_messages", messages, 1, MAX_MESSAGES)?;
        Ok(Capacity { messages, bytes })
    }

    /// Returns the range of `max_bytes`: at least two segments, and at most as much as the segment numbers allow.
    fn max_bytes_range(&self) -> Result<(usize, usize), BuildError> {
        let two_segments = |max_bytes| self.capacity(max_bytes).map(|capacity| 2 * footprint(capacity));
        let mut min = two_segments(0)?;
        // The default segment size grows with `max_bytes`, but by less than half of it, so the loop ends.
        while two_segments(min)? > min {
            min = two_segments(min)?;
        }
        let largest = footprint(self.capacity(usize::MAX)?);
        Ok((min, largest.saturating_mul(MAX_SEGMENTS).min(isize::MAX as usize)))
    }
}

/// Opens a channel, and spawns the task that reports if there is a recorder. The background task is spawned when it is first
/// needed.
pub(crate) fn open(config: Config) -> (Sender, Receiver) {
    let mode = config.read_mode;
    let core = Core::new(config);
    if let (Some(runtime), Some((interval, ended))) =
        (core.background().runtime(), core.reporter().schedule())
    {
        let alive = core.tasks().enter();
        runtime.spawn(background::report_periodically(downgrade(&core), interval, ended, alive));
    }
    (Sender::new(Arc::clone(&core)), Receiver::new(core, mode))
}

thread_local! {
    /// The last runtime of which this thread has found that it has a time driver.
    static TIMED_RUNTIME: Cell<Option<Id>> = const { Cell::new(None) };
}

/// Whether the runtime has a time driver. Tokio has no method for this, but panics if a driver is needed and missing.
///
/// A thread asks once for the channels that it makes for one runtime.
fn has_time_driver(runtime: &Handle) -> bool {
    if TIMED_RUNTIME.get() == Some(runtime.id()) {
        return true;
    }
    let _entered = runtime.enter();
    let has_time = catch(|| drop(tokio::time::sleep(Duration::ZERO))).is_ok();
    if has_time {
        TIMED_RUNTIME.set(Some(runtime.id()));
    }
    has_time
}

fn in_range(field: &'static str, value: usize, min: usize, max: usize) -> Result<(), BuildError> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(BuildError::OutOfRange { field, value, min, max }) }
}
