//! The policy around the queue: which thread waits and which one is woken, when the active segment is switched, and what
//! happens when there is no room.
//!
//! [`Core`] is what both ends of a channel share. Its methods stand by topic: [`send`] and [`reserve`] for senders,
//! [`recv`] and [`drain`] for receivers and drainers, [`switch`] and [`strategy`] for switches, [`drop_policy`] for full
//! channels, [`stats`] for statistics, [`background`] for the background task.

pub(crate) mod background;
pub(crate) mod config;
mod drain;
mod drop_policy;
pub(crate) mod payload;
mod recv;
mod reserve;
mod send;
pub(crate) mod source;
mod stats;
pub(crate) mod strategy;
mod switch;

use std::panic::RefUnwindSafe;
use std::time::Duration;

pub(crate) use self::reserve::{QueuePosition, Refusal};
pub(crate) use self::send::MAX_RANGE_MESSAGES;

use self::background::BackgroundTask;
use self::config::{Config, WhenFull};
use self::drop_policy::DroppedNewest;
use self::stats::Counters;
use self::strategy::active::ActiveStrategy;
use crate::queue::Queue;
use crate::queue::head::Head;
use crate::queue::segment::slot_state::Phase;
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, CachePadded, Mutex, Ordering};
use crate::telemetry::catch_panic::CatchPanic;
use crate::telemetry::events::{Events, are_warnings_enabled};
use crate::telemetry::reporter::Reporter;
use crate::telemetry::stats::SwitchCause;
use crate::telemetry::task_count::TaskCount;
use crate::wait::task_signal::TaskSignal;
use crate::wait::wait_list::WaitList;

/// What both ends of a channel share.
///
/// What senders read for every message lies apart from what receivers write.
pub(crate) struct Core {
    pub(crate) queue: Queue,

    name: Option<String>,
    max_message_bytes: usize,
    when_full: WhenFull,
    pool_idle: Duration,

    strategy: ActiveStrategy,
    reading: CachePadded<Reading>,
    deferral: CachePadded<Deferral>,
    dropped_newest: CachePadded<DroppedNewest>,
    counters: CachePadded<Counters>,

    senders: AtomicUsize,
    receivers: AtomicUsize,
    closed: AtomicBool,
    /// Senders that wait for the channel to close.
    pub(crate) closing: WaitList,
    /// Senders that wait until accepted messages are handed out.
    drainers: WaitList,
    /// Counts the panics of callbacks.
    callbacks: CatchPanic,
    /// Counts the panics of payloads that are dropped.
    payloads: CatchPanic,
    /// Some message was written in place: it may turn out shorter than its reservation, or be abandoned.
    in_place: AtomicBool,
    tasks: TaskCount,
    pub(crate) events: Events,
    background: BackgroundTask,
    reporter: Reporter,
}

/// Written by receivers.
struct Reading {
    head: Mutex<Head>,
    /// A hint: all that was sealed or cut had been taken when the head was last unlocked.
    caught_up: AtomicBool,
    /// Receivers that wait for a message.
    waiting: WaitList,
}

/// Switches that the strategy wants and that are not made yet.
struct Deferral {
    /// Checks of the background task after which it made no switch.
    skipped: AtomicU64,
    /// A switch is deferred because the backlog is long.
    deferred: AtomicBool,
}

impl Core {
    pub(crate) fn new(config: Config) -> Self {
        let signal = Arc::<TaskSignal>::default();
        Self {
            queue: Queue::new(
                config.capacity,
                config.max_bytes,
                config.first_sequence,
                config.on_demand,
                config.lend_ttl,
                Arc::clone(&signal),
            ),
            max_message_bytes: config.max_message_bytes,
            when_full: config.when_full,
            pool_idle: config.pool_idle,
            strategy: ActiveStrategy::new(config.strategy, config.capacity, config.first_sequence),
            reading: CachePadded(Reading {
                head: Mutex::new(Head::new(config.first_sequence)),
                caught_up: AtomicBool::new(false),
                waiting: WaitList::new(),
            }),
            deferral: CachePadded(Deferral { skipped: AtomicU64::new(0), deferred: AtomicBool::new(false) }),
            dropped_newest: CachePadded::default(),
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
            background: BackgroundTask::new(signal, config.runtime),
            tasks: TaskCount::new(),
            events: Events::new(config.name.as_deref()),
            name: config.name,
        }
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the list of receivers that wait for a message.
    pub(crate) fn receivers_waiting(&self) -> &WaitList {
        &self.reading.waiting
    }

    /// Returns the list of senders that wait for room.
    pub(crate) fn room_waiters(&self) -> &WaitList {
        &self.queue.pool.room_waiters
    }

    pub(crate) fn background(&self) -> &BackgroundTask {
        &self.background
    }

    pub(crate) fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    pub(crate) fn tasks(&self) -> &TaskCount {
        &self.tasks
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
            self.arm_watchdog();
        }
    }

    /// Has the timer look for what an operator should be warned of, if one wants to be.
    pub(crate) fn arm_watchdog(&self) {
        if are_warnings_enabled() {
            self.background.watch_warnings();
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
            let sequence = self.queue.ring.active();
            let slot = self.queue.ring.slot(sequence);
            self.switch_slot(sequence, SwitchCause::Close);
            if let Some(state) = slot.close(sequence) {
                if let Some(segment) = state.segment() {
                    self.queue.pool.give_back(segment);
                }
                break;
            }
            match slot.load().phase() {
                Phase::Closed => break,
                Phase::Sealed => self.queue.ring.advance(sequence),
                Phase::Ready | Phase::Open => {}
            }
        }
        // ORDERING: Release: whoever sees the flag finds the slot closed.
        self.closed.store(true, Ordering::Release);
        self.retire_drained_segments();
        self.queue.pool.close();
        self.receivers_waiting().wake_all();
        self.queue.pool.room_waiters.wake_all();
        self.closing.wake_all();
        self.background.end();
        self.report();
    }

    /// Drops everything that was accepted and that nobody will read.
    #[cold]
    pub(super) fn discard(&self) {
        self.with_head(|head, effects| {
            head.discard(&self.queue, effects);
            head.drop_arena();
        });
    }
}

// Code of the user runs where everything is whole: under no lock, and before or after what is changed.
impl RefUnwindSafe for Core {}

impl Drop for Core {
    fn drop(&mut self) {
        self.background.end();
        self.discard();
        self.report_last();
    }
}
