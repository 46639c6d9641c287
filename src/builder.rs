//! Makes channels: [`channel`], [`builder`], and the check of every setting.

use std::panic::catch_unwind;
use std::sync::Arc as StdArc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::channel::Core;
use crate::channel::background;
use crate::channel::config::{Config, WhenFull};
use crate::channel::strategy::{SwitchStrategy, Weighted};
use crate::error::BuildError;
use crate::queue::ReadMode;
use crate::queue::pool::footprint;
use crate::queue::segment::slot_state::{Capacity, MAX_BYTES, MAX_MESSAGES, MAX_SEGMENTS};
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::sync::{Arc, downgrade};
use crate::telemetry::recorder::Recorder;

const DEFAULT_MAX_BYTES: usize = 16 << 20;
const DEFAULT_SEGMENT_BYTES: usize = 256 << 10;
const DEFAULT_MAX_MESSAGE_BYTES: usize = 8 << 20;
/// A segment of this many bytes has one index entry by default.
const DEFAULT_BYTES_PER_MESSAGE: usize = 32;
const MIN_SEGMENT_BYTES: usize = 64;
const DEFAULT_REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Makes a channel with all defaults.
///
/// # Panics
///
/// If called outside of a Tokio runtime, or in one without a time driver; use `builder().runtime(..)` there.
///
/// # Examples
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (tx, rx) = turbostream::channel();
/// tx.send(b"one").await?;
/// drop(tx);
/// assert_eq!(rx.recv().await.as_deref(), Some(&b"one"[..]));
/// assert_eq!(rx.recv().await, None);
/// # Ok(()) }
/// ```
#[track_caller]
pub fn channel() -> (Sender, Receiver) {
    match builder().build() {
        Ok(ends) => ends,
        Err(error) => panic!("turbostream::channel(): {error}"),
    }
}

/// Settings of a channel to be built; see [`builder`].
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
    runtime: Option<Handle>,
    recorder: Option<StdArc<dyn Recorder>>,
    report_interval: Duration,
}

/// Starts the settings of a channel; every one has a default.
///
/// # Examples
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use turbostream::{ReadMode, Weighted};
///
/// let (tx, rx) = turbostream::builder()
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
            runtime: None,
            recorder: None,
            report_interval: DEFAULT_REPORT_INTERVAL,
        }
    }

    /// A name for metrics and traces. By default there is none.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Payload bytes that one segment holds: 64 B to 64 MiB.
    ///
    /// By default 256 KiB, or an eighth of `max_bytes` if that is less, or as much as makes `max_bytes` out of
    /// 4096 segments if that is more.
    pub fn segment_bytes(mut self, bytes: usize) -> Self {
        self.segment_bytes = Some(bytes);
        self
    }

    /// Messages that one segment holds: 1 to 1,048,575. Each takes 8 bytes of index.
    ///
    /// By default one for each 32 bytes of the segment: 8192 for a segment of 256 KiB.
    pub fn segment_messages(mut self, messages: usize) -> Self {
        self.segment_messages = Some(messages);
        self
    }

    /// The hard ceiling on memory, 16 MiB by default: active, sealed, pooled and lent segments with their index,
    /// and payloads that travel by reference while queued. Two segments have to fit.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// The longest message that is accepted. By default the smaller of 8 MiB and half of `max_bytes`; at most
    /// what `max_bytes` leaves beside one segment.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = Some(bytes);
        self
    }

    /// When the active segment is switched before it is full; [`Weighted`] over 5 ms by default.
    pub fn strategy(mut self, strategy: impl SwitchStrategy) -> Self {
        self.strategy = Box::new(strategy);
        self
    }

    /// Whether a waiting receiver causes a switch when nothing sealed is left; true by default.
    ///
    /// With `false` a receiver sees messages only once the strategy, a full segment, [`switch`](crate::Sender::switch),
    /// [`drained`](crate::Sender::drained), the flush of a sink, or a close switches.
    pub fn on_demand(mut self, on_demand: bool) -> Self {
        self.on_demand = on_demand;
        self
    }

    /// How messages are handed out; [`ReadMode::Safe`] by default.
    pub fn read_mode(mut self, mode: ReadMode) -> Self {
        self.read_mode = mode;
        self
    }

    /// What becomes of a message when there is no room; [`WhenFull::Wait`] by default.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// How long after its last switch a segment is lent from in [`ReadMode::Safe`]; 5 s by default.
    pub fn lend_ttl(mut self, ttl: Duration) -> Self {
        self.lend_ttl = ttl;
        self
    }

    /// How long memory that is not needed stays pooled; 1 s by default. Two segments stay longer: while the channel is in
    /// use, and at rest for half as long again.
    pub fn pool_idle(mut self, idle: Duration) -> Self {
        self.pool_idle = idle;
        self
    }

    /// The runtime that the channel's timer runs on, and what reports to its [`recorder`](Self::recorder). It needs its
    /// time driver enabled (Tokio's `enable_time`). By default the one that [`build`](Self::build) is called in.
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Who is told what the channel does; nobody by default. [`Recorder`] says when.
    ///
    /// Several channels may share one: pass each a clone of an `Arc`.
    pub fn recorder(mut self, recorder: impl Recorder) -> Self {
        self.recorder = Some(StdArc::new(recorder));
        self
    }

    /// How often the [`recorder`](Self::recorder) is told: 1 ms or more, 5 s by default.
    pub fn report_interval(mut self, interval: Duration) -> Self {
        self.report_interval = interval;
        self
    }

    /// Makes the channel. No memory for messages is taken before the first one is written.
    ///
    /// Its timer runs on [`runtime`](Self::runtime), or on the current one, which needs its time driver enabled as well.
    ///
    /// # Errors
    ///
    /// [`BuildError::OutOfRange`] names the setting that cannot work and what would be accepted, given the others;
    /// [`BuildError::NoRuntime`] if called outside of a Tokio runtime without [`runtime`](Self::runtime);
    /// [`BuildError::NoTime`] if that runtime has no time driver. Tokio tells that by a panic alone, which is caught: a panic
    /// hook sees it, and where panics abort, the process ends.
    pub fn build(self) -> Result<(Sender, Receiver), BuildError> {
        let runtime =
            self.runtime.clone().or_else(|| Handle::try_current().ok()).ok_or(BuildError::NoRuntime)?;
        let config = self.check(Some(runtime.clone()))?;
        if !keeps_time(&runtime) {
            return Err(BuildError::NoTime);
        }
        Ok(open(config))
    }

    /// Checks every number against its range, which depends on those before it.
    pub(crate) fn check(self, runtime: Option<Handle>) -> Result<Config, BuildError> {
        let capacity = self.capacity(self.max_bytes)?;
        let one = footprint(capacity);
        let (least, most) = self.max_bytes_range()?;
        in_range("max_bytes", self.max_bytes, least, most)?;
        let max_message_bytes =
            self.max_message_bytes.unwrap_or(DEFAULT_MAX_MESSAGE_BYTES.min(self.max_bytes / 2));
        in_range("max_message_bytes", max_message_bytes, 1, self.max_bytes - one)?;
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
            runtime,
            recorder: self.recorder.map(|recorder| (recorder, self.report_interval)),
            first_sequence: 0,
        })
    }

    /// The size of segments, which follows `max_bytes` where it was not set.
    fn capacity(&self, max_bytes: usize) -> Result<Capacity, BuildError> {
        let bytes = self.segment_bytes.unwrap_or_else(|| {
            let usual = (max_bytes / 8).min(DEFAULT_SEGMENT_BYTES);
            usual.max(max_bytes / 4096).clamp(MIN_SEGMENT_BYTES, MAX_BYTES)
        });
        in_range("segment_bytes", bytes, MIN_SEGMENT_BYTES, MAX_BYTES)?;
        let messages =
            self.segment_messages.unwrap_or((bytes / DEFAULT_BYTES_PER_MESSAGE).clamp(1, MAX_MESSAGES));
        in_range("segment_messages", messages, 1, MAX_MESSAGES)?;
        Ok(Capacity { messages, bytes })
    }

    /// The least that holds two segments, and the most that segments can be numbered for.
    fn max_bytes_range(&self) -> Result<(usize, usize), BuildError> {
        let two = |max_bytes| self.capacity(max_bytes).map(|capacity| 2 * footprint(capacity));
        let mut least = two(0)?;
        // Where segments grow with `max_bytes` they do so by less than half of it: this settles.
        while two(least)? > least {
            least = two(least)?;
        }
        let largest = footprint(self.capacity(usize::MAX)?);
        Ok((least, largest.saturating_mul(MAX_SEGMENTS).min(isize::MAX as usize)))
    }
}

/// Opens a channel and spawns its tasks.
pub(crate) fn open(config: Config) -> (Sender, Receiver) {
    let (mode, runtime) = (config.read_mode, config.runtime.clone());
    let core = Arc::new(Core::new(config));
    if let Some(runtime) = runtime {
        spawn_tasks(&core, runtime);
    }
    (Sender::new(Arc::clone(&core)), Receiver::new(core, mode))
}

/// Spawns the task that reports, if there is a recorder, and arranges for the background task to be spawned when it is
/// first needed.
fn spawn_tasks(core: &Arc<Core>, runtime: Handle) {
    if let Some((interval, ended)) = core.reporter().schedule() {
        let alive = core.tasks().enter();
        runtime.spawn(background::report_periodically(downgrade(core), interval, ended, alive));
    }
    let (weak, signal, tasks) =
        (downgrade(core), Arc::clone(core.background().signal()), core.tasks().clone());
    core.background().spawn_with(move || {
        runtime.spawn(background::maintain(weak.clone(), Arc::clone(&signal), tasks.enter()));
    });
}

/// Whether the runtime has a time driver. Tokio does not tell, but panics where one is needed and is not there.
fn keeps_time(runtime: &Handle) -> bool {
    let _entered = runtime.enter();
    catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO))).is_ok()
}

fn in_range(field: &'static str, value: usize, min: usize, max: usize) -> Result<(), BuildError> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(BuildError::OutOfRange { field, value, min, max }) }
}
