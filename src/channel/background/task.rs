//! The tasks themselves.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::watchdog::Watchdog;
use crate::channel::Core;
use crate::channel::stats::Progress;
use crate::sync::{Arc, Notify, Weak};
use crate::telemetry::task_count::TaskGuard;
use crate::wait::task_signal::{BackoffFlag, TaskSignal, watch};

/// Runs the background task of a channel until the channel is dropped.
pub(crate) async fn maintain(core: Weak<Core>, signal: Arc<TaskSignal>, _alive: TaskGuard) {
    let mut maintenance = Maintenance::default();
    while let Some(core) = core.upgrade() {
        let next = maintenance.run(&core, &signal);
        drop(core);
        match next {
            Some(delay) => _ = timeout(delay, signal.notified()).await,
            None => signal.notified().await,
        }
    }
}

/// Reports to the recorder of a channel at every interval until the channel is dropped.
pub(crate) async fn report_periodically(
    core: Weak<Core>,
    interval: Duration,
    ended: Arc<Notify>,
    _alive: TaskGuard,
) {
    while let Some(core) = core.upgrade() {
        core.report();
        drop(core);
        let _ = timeout(interval, ended.notified()).await;
    }
}

/// The checks that the background task makes, and what they remember.
#[derive(Default)]
struct Maintenance {
    strategy: StrategyTimer,
    waiters: StuckWaiterCheck,
    memory: Trimmer,
    /// Made by the first condition to warn of: most channels have none.
    watchdog: Option<Box<Watchdog>>,
}

impl Maintenance {
    /// Makes all checks; returns when to make them again, if at all.
    fn run(&mut self, core: &Core, signal: &TaskSignal) -> Option<Duration> {
        let unread = watch(&signal.unread, || self.strategy.check(core));
        let waiters = watch(&signal.waiters, || self.waiters.check(core, &signal.backoff));
        let memory = watch(&signal.memory, || self.memory.check(core));
        // Only if it was signalled: this check costs more than the others.
        let check = || watch(&signal.warnings, || self.watchdog.get_or_insert_default().check(core));
        let warnings = signal.warnings.is_set().then(check).flatten();
        [unread, waiters, memory, warnings].into_iter().flatten().min()
    }
}

/// No longer than this the task stays armed without messages to watch: some may come that are due earlier.
const MOMENT: Duration = Duration::from_millis(1);

/// Asks the strategy when it is time to.
#[derive(Default)]
struct StrategyTimer {
    switches: u64,
}

impl StrategyTimer {
    fn check(&mut self, core: &Core) -> Option<Duration> {
        core.check_active().or_else(|| {
            // Where messages are read as they come, each would wake the task anew: it stays armed for a moment more.
            let switches = core.queue.switches();
            let goes_on = switches != self.switches;
            self.switches = switches;
            if goes_on { core.first_check().map(|delay| delay.min(MOMENT)) } else { None }
        })
    }
}

/// Wakes whoever waits behind a task that was woken and does not poll its future any more.
#[derive(Default)]
struct StuckWaiterCheck {
    since: Option<Instant>,
    /// How often all were woken since then, and nothing came of it.
    fruitless: u32,
    progress: Option<Progress>,
}

/// How long a wake may go unheeded at first; twice as long each time that was in vain, as what is there may not be
/// enough for those who wait.
const STUCK_AFTER: Duration = Duration::from_millis(10);
const MAX_FRUITLESS: u32 = 7;

impl StuckWaiterCheck {
    fn check(&mut self, core: &Core, backoff: &BackoffFlag) -> Option<Duration> {
        if !core.has_stuck_waiters() {
            *self = Self::default();
            backoff.set(false);
            return None;
        }
        if self.fruitless > 0 && !backoff.is_set() {
            // Somebody came who knows nothing of what was in vain.
            self.fruitless = 0;
        }
        let now = Instant::now();
        let waited = now - *self.since.get_or_insert(now);
        let stuck_after = STUCK_AFTER * (1 << self.fruitless);
        if waited < stuck_after {
            return Some(stuck_after - waited);
        }
        let progress = Some(core.progress());
        let fruitless = if progress == self.progress { self.fruitless + 1 } else { 0 };
        *self = Self { since: Some(now), fruitless: fruitless.min(MAX_FRUITLESS), progress };
        backoff.set(self.fruitless > 0);
        core.wake_stuck_waiters();
        Some(STUCK_AFTER * (1 << self.fruitless))
    }
}

/// Gives memory back that was not needed: the surplus over two segments first, all of it at rest.
#[derive(Default)]
struct Trimmer {
    checked_at: Option<Instant>,
    switches: u64,
    quiet: u32,
}

/// Looks without a switch in between after which a channel is at rest.
const QUIET_CHECKS: u32 = 2;
const KEPT_SEGMENTS: usize = 2;

impl Trimmer {
    /// Twice in `pool_idle`, so that memory is back after that long wherever the rest began; and no more often as long
    /// as switches are made, whatever the channel holds at the moment.
    fn check(&mut self, core: &Core) -> Option<Duration> {
        let interval = (core.pool_idle() / 2).max(Duration::from_millis(1));
        let now = Instant::now();
        let Some(checked_at) = self.checked_at else {
            return core.has_idle_memory().then(|| {
                self.begin(core, now);
                interval
            });
        };
        let passed = now - checked_at;
        if passed < interval {
            return Some(interval - passed);
        }
        let switches = core.queue.switches();
        self.quiet = if switches == self.switches { self.quiet + 1 } else { 0 };
        let idle = core.queue.pool.take_idle();
        if self.quiet > QUIET_CHECKS {
            core.release_idle_memory();
        } else {
            let pooled = core.queue.pool.pooled_segments();
            core.queue.pool.trim(KEPT_SEGMENTS.max(pooled.saturating_sub(idle)));
        }
        (self.checked_at, self.switches) = (Some(now), switches);
        if self.quiet > 0 && !core.has_idle_memory() {
            self.checked_at = None;
            return None;
        }
        Some(interval)
    }

    fn begin(&mut self, core: &Core, now: Instant) {
        core.queue.pool.take_idle();
        *self = Self { checked_at: Some(now), switches: core.queue.switches(), quiet: 0 };
    }
}
