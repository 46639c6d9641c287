//! What the channel's task does when it looks.

use std::sync::Weak;
use std::time::Duration;

use tokio::time::Instant;

use crate::alarm::Alarm;
use crate::channel::{Core, Progress};
use crate::events::Trouble;
use crate::reason::{Resignation, watch};

/// What the task looks after.
#[derive(Default)]
pub(super) struct Duties {
    window: Window,
    patience: Patience,
    trimmer: Trimmer,
    /// Made by the first trouble: most channels have none.
    trouble: Option<Box<Trouble>>,
}

impl Duties {
    /// Looks after the channel; returns when to look again, if at all, or nothing if the channel is gone.
    pub(super) fn look(&mut self, core: &Weak<Core>, alarm: &Alarm) -> Option<Option<Duration>> {
        let core = core.upgrade()?;
        let unread = watch(&alarm.unread, || self.window.look(&core));
        let waiters = watch(&alarm.waiters, || self.patience.look(&core, &alarm.resigned));
        let memory = watch(&alarm.memory, || self.trimmer.look(&core));
        // Not for nothing: its look is not as cheap as the others.
        let look = || watch(&alarm.trouble, || self.trouble.get_or_insert_default().look(&core));
        let trouble = alarm.trouble.is_raised().then(look).flatten();
        Some([unread, waiters, memory, trouble].into_iter().flatten().min())
    }
}

/// No longer than this the task stays armed without messages to watch: some may come that are due earlier.
const MOMENT: Duration = Duration::from_millis(1);

/// Asks the strategy when it is time to.
#[derive(Default)]
struct Window {
    switches: u64,
}

impl Window {
    fn look(&mut self, core: &Core) -> Option<Duration> {
        core.look_at_active().or_else(|| {
            // Where messages are read as they come, each would wake the task anew: it stays armed for a moment more.
            let switches = core.switches();
            let goes_on = switches != self.switches;
            self.switches = switches;
            if goes_on { core.first_check().map(|delay| delay.min(MOMENT)) } else { None }
        })
    }
}

/// Wakes whoever waits behind a task that was woken and does not poll its future any more.
#[derive(Default)]
struct Patience {
    since: Option<Instant>,
    /// How often all were woken since then, and nothing came of it.
    in_vain: u32,
    progress: Option<Progress>,
}

/// How long a wake may go unheeded at first; twice as long each time that was in vain, as what is there may not be
/// enough for those who wait.
const UNHEEDED_FOR: Duration = Duration::from_millis(10);
const MOST_IN_VAIN: u32 = 7;

impl Patience {
    fn look(&mut self, core: &Core, resigned: &Resignation) -> Option<Duration> {
        if !core.is_anybody_passed_over() {
            *self = Self::default();
            resigned.set(false);
            return None;
        }
        if self.in_vain > 0 && !resigned.is_set() {
            // Somebody came who knows nothing of what was in vain.
            self.in_vain = 0;
        }
        let now = Instant::now();
        let waited = now - *self.since.get_or_insert(now);
        let unheeded_for = UNHEEDED_FOR * (1 << self.in_vain);
        if waited < unheeded_for {
            return Some(unheeded_for - waited);
        }
        let progress = Some(core.progress());
        let in_vain = if progress == self.progress { self.in_vain + 1 } else { 0 };
        *self = Self { since: Some(now), in_vain: in_vain.min(MOST_IN_VAIN), progress };
        resigned.set(self.in_vain > 0);
        core.wake_passed_over();
        Some(UNHEEDED_FOR * (1 << self.in_vain))
    }
}

/// Gives memory back that was not needed: the surplus over two segments first, all of it at rest.
#[derive(Default)]
struct Trimmer {
    looked: Option<Instant>,
    switches: u64,
    quiet: u32,
}

/// Looks without a switch in between after which a channel is at rest.
const QUIET_LOOKS: u32 = 2;
const KEPT_SEGMENTS: usize = 2;

impl Trimmer {
    /// Twice in `pool_idle`, so that memory is back after that long wherever the rest began; and no more often as long
    /// as switches are made, whatever the channel holds at the moment.
    fn look(&mut self, core: &Core) -> Option<Duration> {
        let interval = (core.pool_idle() / 2).max(Duration::from_millis(1));
        let now = Instant::now();
        let Some(looked) = self.looked else {
            return core.holds_idle_memory().then(|| {
                self.begin(core, now);
                interval
            });
        };
        let passed = now - looked;
        if passed < interval {
            return Some(interval - passed);
        }
        let switches = core.switches();
        self.quiet = if switches == self.switches { self.quiet + 1 } else { 0 };
        let idle = core.pool().take_idle();
        if self.quiet > QUIET_LOOKS {
            core.release_idle_memory();
        } else {
            let pooled = core.pool().pooled_segments();
            core.pool().trim(KEPT_SEGMENTS.max(pooled.saturating_sub(idle)));
        }
        (self.looked, self.switches) = (Some(now), switches);
        if self.quiet > 0 && !core.holds_idle_memory() {
            self.looked = None;
            return None;
        }
        Some(interval)
    }

    fn begin(&mut self, core: &Core, now: Instant) {
        core.pool().take_idle();
        *self = Self { looked: Some(now), switches: core.switches(), quiet: 0 };
    }
}
