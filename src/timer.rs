//! Time, in one Tokio task per channel that sleeps unless there is something to watch.
//!
//! The task is spawned when it is first needed and ends with the channel. It is armed while unread messages
//! lie in the active segment and nobody waits for them, while somebody may be passed over, and while there is memory to give
//! back: pooled segments, pages, and a segment all of which was read;
//! otherwise it waits for its alarm, so that an idle channel makes no wakeups.

use std::sync::Weak;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::channel::{Core, Progress};
use crate::events::Trouble;
use crate::sync::{Arc, AtomicBool, Notify, OnceLock, Ordering, fence};
use crate::tasks::{Task, Tasks};

/// Nanoseconds since the channel was made, in `tokio::time`.
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Never 0.
    pub(crate) fn nanos(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// One reason to wake the task: set by whoever has it, taken back by the task before it looks a last time.
pub(crate) struct Reason(AtomicBool);

impl Reason {
    /// True if the task may be asleep on this account.
    fn raise(&self) -> bool {
        // ORDERING: Release pairs with the Acquire in `lower`, both being exchanges on one variable: either
        // this one comes first, and the task's last look sees why it was raised, or it finds the reason
        // lowered, and the task is notified.
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// `raise` for a caller whose own SeqCst fence came after the change.
    fn raise_behind_fence(&self) -> bool {
        // ORDERING: Relaxed behind the fence: a reason seen raised is either lowered later, and then the task's
        // last look, which is behind a fence too, sees the change; or it was not lowered since.
        !self.0.load(Ordering::Relaxed) && self.raise()
    }

    fn is_raised(&self) -> bool {
        // ORDERING: Relaxed: if it is not seen raised yet, the notification that follows brings the task back.
        self.0.load(Ordering::Relaxed)
    }

    fn lower(&self) {
        // ORDERING: see `raise`; the fence is for `raise_behind_fence`.
        self.0.swap(false, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }
}

/// Tells the task that there is something to watch.
pub(crate) struct Alarm {
    /// Messages lie in the active segment and nobody waits for them.
    unread: Reason,
    /// Somebody waits who may be passed over.
    waiters: Reason,
    /// The task looks after those who wait more and more seldom, as nothing came of it. Set by the task before it wakes
    /// them, taken back by whoever gives it a reason to look.
    resigned: AtomicBool,
    /// There is memory that may not be needed.
    memory: Reason,
    /// There may be something to warn of.
    trouble: Reason,
    notify: Notify,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        let lowered = || Reason(AtomicBool::new(false));
        Self {
            unread: lowered(),
            waiters: lowered(),
            resigned: AtomicBool::new(false),
            memory: lowered(),
            trouble: lowered(),
            notify: Notify::new(),
        }
    }

    pub(crate) fn unread(&self) {
        if self.unread.raise() {
            self.notify();
        }
    }

    pub(crate) fn waiters(&self) {
        // ORDERING: Relaxed behind the fence that comes after the change, against the one in `WaitList::wake`: either this
        // one sees the task resigned, or the task that resigns, and wakes all then, sees the change.
        let resigned = self.resigned.load(Ordering::Relaxed) && self.resigned.swap(false, Ordering::Relaxed);
        if self.waiters.raise() || resigned {
            self.notify();
        }
    }

    fn trouble(&self) {
        if self.trouble.raise() {
            self.notify();
        }
    }

    /// To be called behind a SeqCst fence that came after the memory was pooled.
    #[inline]
    pub(crate) fn memory(&self) {
        if self.is_memory_due() {
            self.notify();
        }
    }

    /// Raises that reason; true if the task has to be notified. Behind a fence as above, or under a lock that the task
    /// takes too, to look, after it has lowered the reason.
    #[inline]
    pub(crate) fn is_memory_due(&self) -> bool {
        self.memory.raise_behind_fence()
    }

    pub(crate) fn notify(&self) {
        self.notify.notify_one();
    }
}

/// A channel's way to its task.
pub(crate) struct Timer {
    alarm: Arc<Alarm>,
    runtime: Option<Handle>,
    core: OnceLock<Weak<Core>>,
    spawned: AtomicBool,
    tasks: Tasks,
}

impl Timer {
    pub(crate) fn new(alarm: Arc<Alarm>, runtime: Option<Handle>, tasks: Tasks) -> Self {
        Self { alarm, runtime, core: OnceLock::new(), spawned: AtomicBool::new(false), tasks }
    }

    /// Names the channel to watch, once.
    pub(crate) fn attach(&self, core: &Arc<Core>) {
        let _ = self.core.set(Arc::downgrade(core));
    }

    /// Makes sure that the task is there.
    pub(crate) fn start(&self) {
        // ORDERING: Relaxed: the exchange alone decides who spawns.
        if self.spawned.load(Ordering::Relaxed) || self.spawned.swap(true, Ordering::Relaxed) {
            return;
        }
        if let (Some(runtime), Some(core)) = (&self.runtime, self.core.get()) {
            runtime.spawn(run(core.clone(), Arc::clone(&self.alarm), self.tasks.enter()));
        }
    }

    /// Has the task look after unread messages.
    pub(crate) fn watch_unread(&self) {
        self.start();
        self.alarm.unread();
    }

    /// Has the task look after those who wait.
    pub(crate) fn watch_waiters(&self) {
        self.start();
        self.alarm.waiters();
    }

    /// Has the task look for what to warn of.
    pub(crate) fn watch_trouble(&self) {
        self.start();
        self.alarm.trouble();
    }

    /// Lets the task find out that the channel is gone.
    pub(crate) fn end(&self) {
        self.alarm.notify.notify_one();
    }

    /// The runtime to make a sleep on.
    pub(crate) fn runtime(&self) -> Option<&Handle> {
        self.runtime.as_ref()
    }
}

async fn run(core: Weak<Core>, alarm: Arc<Alarm>, _alive: Task) {
    let mut duties = Duties::default();
    loop {
        let Some(next) = duties.look(&core, &alarm) else { return };
        match next {
            Some(delay) => {
                let _ = tokio::time::timeout(delay, alarm.notify.notified()).await;
            }
            None => alarm.notify.notified().await,
        }
    }
}

/// What the task looks after.
#[derive(Default)]
struct Duties {
    window: Window,
    patience: Patience,
    trimmer: Trimmer,
    /// Made by the first trouble: most channels have none.
    trouble: Option<Box<Trouble>>,
}

impl Duties {
    /// Looks after the channel; returns when to look again, if at all, or nothing if the channel is gone.
    fn look(&mut self, core: &Weak<Core>, alarm: &Alarm) -> Option<Option<Duration>> {
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

/// Looks, and once more after the reason was lowered if there is nothing left to watch.
fn watch(reason: &Reason, mut look: impl FnMut() -> Option<Duration>) -> Option<Duration> {
    look().or_else(|| {
        reason.lower();
        let next = look();
        if next.is_some() {
            reason.raise();
        }
        next
    })
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
    fn look(&mut self, core: &Core, resigned: &AtomicBool) -> Option<Duration> {
        // ORDERING: Relaxed, here and below: see `Alarm::waiters`.
        if !core.is_anybody_passed_over() {
            *self = Self::default();
            resigned.store(false, Ordering::Relaxed);
            return None;
        }
        if self.in_vain > 0 && !resigned.load(Ordering::Relaxed) {
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
        resigned.store(self.in_vain > 0, Ordering::Relaxed);
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
