//! The policy around the queue: what waits, what is woken, when the active segment is switched.
//!
//! Senders and receivers of a channel share one [`Core`]. Its methods are grouped by topic:
//!
//! - [`send`] sends messages, the fast path first; [`source`] is what a message is made of; [`reserve`] finds room for it;
//!   [`room`] waits, or [`drop_policy`] drops messages, when there is none.
//! - [`recv`] receives messages, and applies what was recorded under the lock of the head; [`drain`] waits until they are
//!   out of the channel.
//! - [`stall`] ends waits for messages that are not committed.
//! - [`switch`] seals the active segment, and [`strategy`] decides when.
//! - [`stats`] counts, and [`background`] holds the background task.

pub(crate) mod background;
pub(crate) mod config;
mod drain;
mod drop_policy;
pub(crate) mod parked;
pub(crate) mod payload;
mod recv;
mod reserve;
mod room;
mod send;
pub(crate) mod source;
mod stall;
mod stats;
pub(crate) mod strategy;
mod switch;

use std::panic::RefUnwindSafe;
use std::time::Duration;

pub(crate) use self::reserve::Refusal;
pub(crate) use self::send::MAX_RANGE_MESSAGES;

use self::background::BackgroundTask;
use self::config::{Config, WhenFull};
use self::drop_policy::DroppedNewest;
use self::parked::ParkedItems;
use self::stats::Counters;
use self::strategy::active::ActiveStrategy;
use crate::queue::Queue;
use crate::queue::head::Head;
use crate::queue::pool::footprint;
use crate::queue::segment::slot_state::Phase;
use crate::sync::short_lock::ShortLock;
use crate::sync::{
    Arc, AtomicBool, AtomicU64, AtomicUsize, CachePadded, OnceLock, Ordering, SAVES_EXCHANGES, Weak,
    new_cyclic,
};
use crate::telemetry::catch_panic::CatchPanic;
use crate::telemetry::events::{Events, NotedSwitches, is_emitting};
use crate::telemetry::forwarding::ForwardCounters;
use crate::telemetry::reporter::Reporter;
use crate::telemetry::stats::SwitchCause;
use crate::telemetry::task_count::TaskCount;
use crate::wait::wait_list::WaitList;

/// The state that senders and receivers of a channel share.
///
/// What senders read for every message lies on other cache lines than what receivers write.
pub(crate) struct Core {
    pub(crate) queue: Queue,

    name: Option<String>,
    max_message_bytes: usize,
    when_full: WhenFull,
    pool_idle: Duration,
    /// How many messages each of several receivers may claim at once.
    prefetch: usize,
    /// How many receivers may claim. Each that has claimed and is not polled keeps a segment from being reused: together at most
    /// half of all, and the longest message has room beside them and an open segment.
    max_claimers: usize,

    strategy: ActiveStrategy,
    reading: CachePadded<Reading>,
    deferral: CachePadded<Deferral>,
    dropped_newest: CachePadded<DroppedNewest>,
    parked: ParkedItems,
    counters: CachePadded<Counters>,

    senders: AtomicUsize,
    receivers: AtomicUsize,
    closed: AtomicBool,
    /// Senders that wait for the channel to close, and the thread of the `tracing` writer.
    pub(crate) closing: WaitList,
    /// Drainers: senders that wait until the messages accepted before are out of the channel.
    drainers: WaitList,
    /// Catches the panics of callbacks.
    callbacks: CatchPanic,
    /// Catches the panics of payloads that are dropped.
    payloads: CatchPanic,
    /// Whether a message was ever written in place; see [`note_in_place`](Self::note_in_place).
    in_place: AtomicBool,
    pub(crate) events: Events,
    background: BackgroundTask,
    reporter: Reporter,
    /// The statistics of forwarders, once there is one.
    forwarding: OnceLock<Box<ForwardCounters>>,
}

/// Written by receivers.
struct Reading {
    head: ShortLock<Head>,
    /// A hint: all that was sealed or cut was taken when the head was last unlocked.
    caught_up: AtomicBool,
    /// Receivers that wait for a message. A sender locks the list after each cut.
    waiting: CachePadded<WaitList>,
}

/// Whether a switch that the strategy or a flush wants is deferred; see [`switch`].
#[derive(Default)]
struct Deferral {
    /// How many checks of the background task found messages and made no switch.
    skipped: AtomicU64,
    /// A switch is deferred because the backlog is long.
    deferred: AtomicBool,
    /// The switch of a flush is deferred, and receivers may not cut.
    flush: AtomicBool,
}

impl Core {
    pub(crate) fn new(config: Config) -> Arc<Self> {
        new_cyclic(|core| Self::with_weak(config, core.clone()))
    }

    fn with_weak(config: Config, core: Weak<Self>) -> Self {
        let footprint = footprint(config.capacity);
        let spare = config.max_bytes.saturating_sub(config.max_message_bytes + footprint);
        let core = Self {
            queue: Queue::new(
                config.capacity,
                config.max_bytes,
                config.first_sequence,
                config.on_demand,
                config.lend_ttl,
            ),
            max_message_bytes: config.max_message_bytes,
            when_full: config.when_full,
            pool_idle: config.pool_idle,
            prefetch: config.prefetch,
            max_claimers: (spare / footprint).min(config.max_bytes / footprint / 2).max(1),
            strategy: ActiveStrategy::new(config.strategy, config.capacity, config.first_sequence),
            reading: CachePadded(Reading {
                head: ShortLock::new(Head::new(config.first_sequence)),
                caught_up: AtomicBool::new(true),
                waiting: CachePadded(WaitList::new()),
            }),
            deferral: CachePadded(Deferral::default()),
            dropped_newest: CachePadded::default(),
            parked: ParkedItems::default(),
            counters: CachePadded::default(),
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
            closed: AtomicBool::new(false),
            closing: WaitList::new(),
            drainers: WaitList::new(),
            callbacks: CatchPanic::default(),
            payloads: CatchPanic::default(),
            in_place: AtomicBool::new(false),
            reporter: Reporter::new(config.recorder),
            forwarding: OnceLock::new(),
            background: BackgroundTask::new(config.runtime, core),
            events: Events::new(config.name.as_deref(), config.is_silent),
            name: config.name,
        };
        if config.is_silent {
            core.silence();
        }
        core
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(crate) fn receivers_waiting(&self) -> &WaitList {
        &self.reading.waiting
    }

    pub(crate) fn background(&self) -> &BackgroundTask {
        &self.background
    }

    pub(crate) fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    pub(crate) fn tasks(&self) -> &TaskCount {
        self.background.tasks()
    }

    pub(crate) fn max_message_bytes(&self) -> usize {
        self.max_message_bytes
    }

    pub(crate) fn waits_when_full(&self) -> bool {
        self.when_full.waits()
    }

    pub(crate) fn pool_idle(&self) -> Duration {
        self.pool_idle
    }

    pub(crate) fn add_sender(&self) {
        // ORDERING: Relaxed: the caller holds a sender, as in `Arc::clone`.
        self.senders.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one more sender if there are others; returns false if the last one was dropped, and the channel closes.
    pub(crate) fn try_add_sender(&self) -> bool {
        let one_more = |senders: usize| (senders > 0).then(|| senders + 1);
        // ORDERING: Relaxed, as in `add_sender`: another sender is counted at that instant. This exchange continues the
        // release sequence of earlier decrements, so the last sender to be removed acquires what was done before them.
        self.senders.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    pub(crate) fn remove_sender(&self) {
        // ORDERING: AcqRel, as in `Arc::drop`: pairs with itself; the last sender closes after all that the others sent.
        if self.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close();
        }
    }

    pub(crate) fn add_receiver(&self) {
        // ORDERING: Relaxed: the caller holds a receiver, as in `Arc::clone`.
        self.receivers.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove_receiver(&self) {
        // ORDERING: AcqRel, as in `Arc::drop`: pairs with itself. A sender whose closure has written a message, and that
        // finds its entry awaited by `discard` below, also sees this count.
        if self.receivers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close();
            if self.is_read_to_end() {
                self.lock_head().drop_arena();
            } else {
                self.discard();
            }
            self.arm_watchdog();
        }
    }

    /// Emits no event from now on.
    #[cold]
    fn silence(&self) {
        self.events.silence();
        self.callbacks.silence();
        self.payloads.silence();
        self.strategy.silence();
        self.reporter.silence();
    }

    /// Silences the channel if this thread emits an event: a subscriber writes to the channel.
    #[inline]
    pub(super) fn silence_if_emitting(&self) {
        if is_emitting() {
            self.silence();
        }
    }

    /// Has the background task check for conditions to warn of, if a subscriber is enabled for warnings.
    #[cold]
    pub(crate) fn arm_watchdog(&self) {
        self.silence_if_emitting();
        if self.events.are_warnings_enabled() {
            self.watch_warnings();
        }
    }

    pub(crate) fn max_bytes(&self) -> usize {
        self.queue.pool.max_bytes()
    }

    pub(crate) fn senders(&self) -> usize {
        // ORDERING: Relaxed: a statistic.
        self.senders.load(Ordering::Relaxed)
    }

    pub(crate) fn receivers(&self) -> usize {
        // ORDERING: Relaxed: a statistic; or ordered by `Segment::awaited`, see `remove_receiver`; or by the lock
        // with which the stall watcher was requested.
        self.receivers.load(Ordering::Relaxed)
    }

    /// Whether there is one receiver, for a caller that borrows it exclusively: no other is made meanwhile.
    fn is_lone(&self) -> bool {
        // ORDERING: Acquire: pairs with the Release in `remove_receiver`; what the others did with the head is visible.
        self.receivers.load(Ordering::Acquire) == 1
    }

    pub(crate) fn is_closed(&self) -> bool {
        // ORDERING: Acquire: pairs with the Release in `close`; makes the closed ring slot visible.
        self.closed.load(Ordering::Acquire)
    }

    /// Closes the channel: seals what was accepted, which can still be received, and accepts nothing more.
    ///
    /// It emits and reports last: a subscriber or a recorder that sends to the channel is refused.
    ///
    /// The thread that has closed the channel does what remains. A call after that has nothing to do.
    pub(crate) fn close(&self) {
        if SAVES_EXCHANGES && self.is_closed() {
            return;
        }
        let mut switches = NotedSwitches::new(&self.events);
        loop {
            let sequence = self.queue.ring.active();
            let slot = self.queue.ring.slot(sequence);
            switches.add(self.queue.seal_without_wake(sequence, SwitchCause::Close));
            if slot.close(sequence) {
                break;
            }
            match slot.load().phase() {
                Phase::Closed => break,
                Phase::Sealed => self.queue.ring.advance(sequence),
                Phase::Ready | Phase::Open => {}
            }
        }
        // ORDERING: Release: pairs with the Acquire in `is_closed`.
        self.closed.store(true, Ordering::Release);
        self.retire_drained_segments();
        // It passes a SeqCst fence, which the lists of waiters need once.
        self.queue.pool.close();
        self.receivers_waiting().wake();
        self.room_waiters().wake_all_after_fence();
        self.closing.wake();
        self.notify_background();
        switches.emit(&self.events);
        self.report_some();
    }

    /// Whether the channel is closed, and all that was accepted is out of it.
    fn is_read_to_end(&self) -> bool {
        let head = self.queue.ring.head();
        // No message follows a closed slot, and the head has passed all before. A head that is seen late is before it.
        let at_end =
            head == self.queue.ring.active() && self.queue.ring.slot(head).load().phase() == Phase::Closed;
        // ORDERING: Relaxed: false while claims were given back; the handles that did so were dropped before, see
        // `remove_receiver`.
        at_end && self.reading.caught_up.load(Ordering::Relaxed)
    }
}

// User code runs while all invariants hold: under no lock, and before or after a change.
impl RefUnwindSafe for Core {}

impl Drop for Core {
    fn drop(&mut self) {
        self.notify_background();
        if !self.is_read_to_end() {
            self.discard();
        }
        self.report_last();
    }
}
