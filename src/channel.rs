//! What both ends of a channel share, and how it is opened and closed.

mod drain;
mod failures;
mod figures;
mod limits;
mod overflow;
mod plan;
mod read;
mod reserve;
mod switch;
mod write;

use std::panic::RefUnwindSafe;
use std::time::Duration;

pub(crate) use self::reserve::{Refusal, Standing};
pub(crate) use self::switch::{Progress, SwitchCause};
pub(crate) use self::write::{BY_REFERENCE_FROM, RUN_MESSAGES};

use self::failures::Failures;
use self::overflow::DroppedNewest;
use self::plan::Plan;
use crate::alarm::Alarm;
use crate::config::{Config, WhenFull};
use crate::cut::LastCut;
use crate::events::{Events, are_warnings_wanted};
use crate::head::Head;
use crate::histogram::{SWITCH_BOUNDS, SharedHistogram};
use crate::lull::Lull;
use crate::pending::Pending;
use crate::pool::Pool;
use crate::receiver::Receiver;
use crate::reporter::Reporter;
use crate::segment::state::{Capacity, Kind};
use crate::sender::Sender;
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, CachePadded, Mutex, Ordering};
use crate::tasks::Tasks;
use crate::timer::{Clock, Timer};
use crate::user_code::UserCode;
use crate::wake::WaitList;

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
    match crate::builder().build() {
        Ok(ends) => ends,
        Err(error) => panic!("turbostream::channel(): {error}"),
    }
}

pub(crate) fn open(config: Config) -> (Sender, Receiver) {
    let mode = config.read_mode;
    let core = Arc::new(Core::new(config));
    core.timer.attach(&core);
    core.reporter.start(&core);
    (Sender::new(Arc::clone(&core)), Receiver::new(core, mode))
}

/// What both ends of a channel share. What writers look at for every message is apart from what receivers write.
pub(crate) struct Core {
    name: Option<String>,
    capacity: Capacity,
    max_message_bytes: usize,
    when_full: WhenFull,
    on_demand: bool,
    lend_ttl: Duration,
    pool_idle: Duration,
    clock: Clock,

    pending: Pending,
    pool: Arc<Pool>,

    plan: Plan,
    reading: CachePadded<Reading>,
    switching: CachePadded<Switching>,
    dropped_newest: CachePadded<DroppedNewest>,
    failures: CachePadded<Failures>,

    senders: AtomicUsize,
    receivers: AtomicUsize,
    closed: AtomicBool,
    /// Senders waiting for the channel to close.
    pub(crate) closing: WaitList,
    /// Senders waiting until what was accepted is handed out.
    drainers: WaitList,
    /// Callbacks that are run, and payloads that are dropped.
    callbacks: UserCode,
    payloads: UserCode,
    /// Some message was written in place, and may turn out shorter than its reservation, or none.
    in_place: AtomicBool,
    tasks: Tasks,
    pub(crate) events: Events,
    timer: Timer,
    reporter: Reporter,
}

/// What receivers write.
struct Reading {
    head: Mutex<Head>,
    /// All that was sealed or cut was taken, when the head was last left. A hint.
    caught_up: AtomicBool,
    /// Receivers waiting for a message.
    waiting: WaitList,
    /// Whether it is worth to look again before waiting.
    lull: Lull,
}

/// What whoever switches writes.
struct Switching {
    /// When the last switch was made, by the clock.
    switched_at: AtomicU64,
    /// What was cut off the active segment.
    cut: LastCut,
    /// One for each [`SwitchCause`].
    switches: [AtomicU64; 5],
    /// What they took, but for cuts.
    latency: SharedHistogram,
    /// Looks of the timer after which it made none.
    skipped: AtomicU64,
    /// A switch that the strategy wants is put off because the backlog is long.
    deferred: AtomicBool,
}

impl Core {
    pub(crate) fn new(config: Config) -> Self {
        let alarm = Arc::<Alarm>::default();
        let segments = config.max_bytes / crate::pool::footprint(config.capacity);
        let plan = Plan::new(config.strategy, config.capacity, config.first_sequence);
        let tasks = Tasks::new();
        Self {
            capacity: config.capacity,
            max_message_bytes: config.max_message_bytes,
            when_full: config.when_full,
            on_demand: config.on_demand,
            lend_ttl: config.lend_ttl,
            pool_idle: config.pool_idle,
            clock: Clock::start(),
            pending: Pending::new(segments, config.first_sequence),
            pool: Arc::new(Pool::new(config.capacity, config.max_bytes, Arc::clone(&alarm))),
            plan,
            reading: CachePadded(Reading {
                head: Mutex::new(Head::new(config.first_sequence)),
                caught_up: AtomicBool::new(false),
                waiting: WaitList::new(),
                lull: Lull::default(),
            }),
            switching: CachePadded(Switching {
                switched_at: AtomicU64::new(1),
                cut: LastCut::default(),
                switches: Default::default(),
                latency: SharedHistogram::new(SWITCH_BOUNDS),
                skipped: AtomicU64::new(0),
                deferred: AtomicBool::new(false),
            }),
            dropped_newest: CachePadded::default(),
            failures: CachePadded::default(),
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
            closed: AtomicBool::new(false),
            closing: WaitList::new(),
            drainers: WaitList::new(),
            callbacks: UserCode::default(),
            payloads: UserCode::default(),
            in_place: AtomicBool::new(false),
            reporter: Reporter::new(config.recorder, config.runtime.clone(), tasks.clone()),
            timer: Timer::new(alarm, config.runtime, tasks.clone()),
            tasks,
            events: Events::new(config.name.as_deref()),
            name: config.name,
        }
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
    pub(crate) fn readers(&self) -> &WaitList {
        &self.reading.waiting
    }
    pub(crate) fn lull(&self) -> &Lull {
        &self.reading.lull
    }
    pub(crate) fn pending(&self) -> &Pending {
        &self.pending
    }
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
    pub(crate) fn timer(&self) -> &Timer {
        &self.timer
    }
    pub(crate) fn reporter(&self) -> &Reporter {
        &self.reporter
    }
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }
    /// How long ago that was, by the channel's clock.
    pub(crate) fn nanos_since(&self, then: u64) -> u64 {
        self.clock.nanos().saturating_sub(then)
    }
    pub(crate) fn on_demand(&self) -> bool {
        self.on_demand
    }
    pub(crate) fn max_message_bytes(&self) -> usize {
        self.max_message_bytes
    }
    pub(crate) fn rejects_when_full(&self) -> bool {
        self.when_full == WhenFull::Reject
    }
    pub(crate) fn pool_idle(&self) -> Duration {
        self.pool_idle
    }

    pub(crate) fn add_sender(&self) {
        // ORDERING: Relaxed, as in `Arc::clone`.
        self.senders.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one more sender if there are others; false if the last one has left, and the channel closes for good.
    pub(crate) fn add_sender_to_others(&self) -> bool {
        let one_more = |senders: usize| (senders > 0).then(|| senders + 1);
        // ORDERING: Relaxed, as in `add_sender`: somebody else counts at that instant, and whoever leaves last acquires
        // through this exchange what was done before it.
        self.senders.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    pub(crate) fn remove_sender(&self) {
        // ORDERING: AcqRel, as in `Arc::drop`: the last one closes after all that the others sent.
        if self.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close();
        }
    }

    pub(crate) fn add_receiver(&self) {
        // ORDERING: Relaxed, as in `Arc::clone`.
        self.receivers.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove_receiver(&self) {
        // ORDERING: AcqRel, as in `Arc::drop`; a writer that finds its message awaited by the discarding below
        // sees the count through the entry.
        if self.receivers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close();
            self.discard();
            self.look_for_trouble();
        }
    }

    /// Has the timer look for what an operator should be warned of, if one wants to be.
    pub(crate) fn look_for_trouble(&self) {
        if are_warnings_wanted() {
            self.timer.watch_trouble();
        }
    }

    pub(super) fn receivers(&self) -> usize {
        // ORDERING: Relaxed: ordered by the awaited entry, see `remove_receiver`.
        self.receivers.load(Ordering::Relaxed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `close`.
        self.closed.load(Ordering::Acquire)
    }

    /// Accepts nothing more. What was accepted before is sealed and can still be read.
    pub(crate) fn close(&self) {
        loop {
            let sequence = self.pending.active();
            let place = self.pending.place(sequence);
            self.switch_place(sequence, SwitchCause::Close);
            if let Some(state) = place.close(sequence) {
                if let Some(segment) = state.segment() {
                    self.pool.give_back(segment);
                }
                break;
            }
            match place.load().kind() {
                Kind::Closed => break,
                Kind::Sealed => self.pending.advance(sequence),
                Kind::Ready | Kind::Open => {}
            }
        }
        // ORDERING: Release: whoever sees the flag finds the place closed.
        self.closed.store(true, Ordering::Release);
        self.leave_what_was_read();
        self.pool.close();
        self.readers().wake_all();
        self.pool.space.wake_all();
        self.closing.wake_all();
        self.timer.end();
        self.report();
    }

    /// Drops everything that was accepted and that nobody will read.
    #[cold]
    pub(super) fn discard(&self) {
        self.visit(|head, after| {
            head.discard(self, after);
            head.drop_pages();
        });
    }
}

// Code of the user runs where everything is whole: under no lock, and before or after what is changed.
impl RefUnwindSafe for Core {}

impl Drop for Core {
    fn drop(&mut self) {
        self.timer.end();
        self.discard();
        self.report_last();
    }
}
