//! Time, in one Tokio task per channel that sleeps unless there is something to watch.
//!
//! The task is spawned when it is first needed and ends with the channel. It is armed while unread messages
//! lie in the active segment and nobody waits for them, while somebody may be passed over, and while there is memory to give
//! back: pooled segments, pages, and a segment all of which was read;
//! otherwise it waits for its alarm, so that an idle channel makes no wakeups.

mod duties;

use std::sync::Weak;

use tokio::runtime::Handle;
use tokio::time::Instant;

use self::duties::Duties;
use crate::alarm::Alarm;
use crate::channel::Core;
use crate::sync::{Arc, AtomicBool, OnceLock, Ordering};
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
        self.alarm.notify();
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
                let _ = tokio::time::timeout(delay, alarm.notified()).await;
            }
            None => alarm.notified().await,
        }
    }
}
