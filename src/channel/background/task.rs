//! The body of the background task and of the task that reports.

use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, timeout};

use super::watchdog::Watchdog;
use crate::channel::Core;
use crate::queue::pool::Pool;
use crate::sync::{Arc, Notify, Weak};
use crate::telemetry::task_count::TaskGuard;
use crate::wait::task_signal::{TaskSignal, watch};

/// Runs the background task of a channel until the channel is dropped.
pub(crate) async fn maintain(core: Weak<Core>, pool: Arc<Pool>, _alive: TaskGuard) {
    let mut maintenance = Maintenance::default();
    while let Some(core) = core.upgrade() {
        let next = maintenance.run(&core, &pool.signal);
        drop(core);
        match next {
            Some(delay) => _ = timeout(delay, pool.signal.notified()).await,
            None => pool.signal.notified().await,
        }
    }
}

/// Reports to the recorder of a channel at every interval until the channel is dropped.
///
/// Yields between the calls of the recorder for one report.
pub(crate) async fn report_periodically(
    core: Weak<Core>,
    interval: Duration,
    ended: Arc<Notify>,
    _alive: TaskGuard,
) {
    while let Some(core) = core.upgrade() {
        let is_behind = core.report_some();
        drop(core);
        if is_behind {
            yield_now().await;
        } else {
            let _ = timeout(interval, ended.notified()).await;
        }
    }
}

/// The checks that the background task makes, and what they remember.
#[derive(Default)]
struct Maintenance {
    strategy: StrategyTimer,
    memory: Trimmer,
    /// Created at the first condition to warn of: most channels have none.
    watchdog: Option<Box<Watchdog>>,
}

impl Maintenance {
    /// Makes all checks; returns when to make them again, if at all.
    fn run(&mut self, core: &Core, signal: &TaskSignal) -> Option<Duration> {
        let unread = watch(&signal.unread, || self.strategy.check(core));
        let memory = watch(&signal.memory, || self.memory.check(core));
        // Only if it was signalled: this check locks the head and computes all statistics.
        let check = || watch(&signal.warnings, || self.watchdog.get_or_insert_default().check(core));
        let warnings = signal.warnings.is_set().then(check).flatten();
        [unread, memory, warnings].into_iter().flatten().min()
    }
}

/// The longest time that the strategy timer stays armed without unread messages.
///
/// Messages sent meanwhile may be due earlier than the timer.
const STAY_ARMED: Duration = Duration::from_millis(1);

/// Asks the strategy when time may have changed its decision.
#[derive(Default)]
struct StrategyTimer {
    /// The number of switches at the last check without unread messages.
    switches: u64,
}

impl StrategyTimer {
    /// Asks the strategy if there are unread messages; returns when to check again.
    fn check(&mut self, core: &Core) -> Option<Duration> {
        core.check_active().or_else(|| {
            // The timer stays armed for a short time after a switch. Otherwise, if each message is read at once, each
            // would wake the task again.
            let switches = core.queue.switches();
            let has_switched = switches != self.switches;
            self.switches = switches;
            if has_switched { core.first_check().map(|delay| delay.min(STAY_ARMED)) } else { None }
        })
    }
}

/// Frees memory that was not needed: at first segments above [`KEPT_SEGMENTS`], and all of it once the channel is idle.
#[derive(Default)]
struct Trimmer {
    /// When the last check was made; `None` if there is nothing to free.
    checked_at: Option<Instant>,
    /// The number of switches at the last check.
    switches: u64,
    /// How many checks in a row saw no switch.
    quiet: u32,
}

/// A channel is idle after more than this many checks in a row without a switch.
const QUIET_CHECKS: u32 = 2;
const KEPT_SEGMENTS: usize = 2;

impl Trimmer {
    /// Checks twice per `pool_idle`; returns when to check again, or `None` if there is nothing to free.
    ///
    /// At that rate memory is freed in time, at whatever point of an interval the channel becomes idle. While switches are
    /// made, the checks keep this rate, even if there is nothing to free at the moment.
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

    /// Starts to check, when idle memory is first seen.
    fn begin(&mut self, core: &Core, now: Instant) {
        core.queue.pool.take_idle();
        *self = Self { checked_at: Some(now), switches: core.queue.switches(), quiet: 0 };
    }
}
