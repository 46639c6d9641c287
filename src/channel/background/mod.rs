//! The background task of a channel, and the task that reports.
//!
//! The background task has three checks:
//!
//! - It asks the strategy while unread messages lie in the active segment and no receiver waits for them.
//! - It frees idle memory.
//! - It emits warnings ([`watchdog`]).
//!
//! The task is spawned when it is first needed and ends with the channel: for a warning, or when a segment is opened whose
//! memory an idle channel does not keep. Until then, the channel has had only its first small segment, which receivers may
//! cut. A switch by time makes none of its messages readable that were not, so it can wait until a thread asks for the
//! statistics ([`Core::make_overdue_switch`]).
//!
//! The task sleeps unless its [`TaskSignal`](crate::wait::task_signal::TaskSignal) gives it a reason to check: an idle channel causes no wakeups.

mod task;
mod watchdog;

pub(crate) use self::task::report_periodically;

use tokio::runtime::Handle;

use self::task::maintain;
use super::Core;
use crate::sync::{Arc, AtomicBool, Ordering, Weak};
use crate::telemetry::task_count::TaskCount;

/// The channel's handle to its background task.
pub(crate) struct BackgroundTask {
    /// There is no task without a runtime, as under loom and shuttle.
    runtime: Option<Handle>,
    core: Weak<Core>,
    tasks: TaskCount,
    started: AtomicBool,
}

impl BackgroundTask {
    pub(crate) fn new(runtime: Option<Handle>, core: Weak<Core>) -> Self {
        Self { runtime, core, tasks: TaskCount::default(), started: AtomicBool::new(false) }
    }

    pub(crate) fn tasks(&self) -> &TaskCount {
        &self.tasks
    }

    /// Whether the task was spawned.
    pub(crate) fn is_started(&self) -> bool {
        // ORDERING: Relaxed: a sender in a segment that needs the task has acquired the word of its ring slot from the
        // sender that opened it, which had started the task. A thread that needs no task may see either.
        self.started.load(Ordering::Relaxed)
    }

    /// Returns the reference by which the background task and the stall watcher reach the channel.
    pub(crate) fn core(&self) -> &Weak<Core> {
        &self.core
    }

    pub(crate) fn runtime(&self) -> Option<&Handle> {
        self.runtime.as_ref()
    }
}

impl Core {
    /// Spawns the background task at the first call.
    pub(crate) fn start_background(&self) {
        let background = &self.background;
        // ORDERING: Relaxed: the exchange alone decides which thread spawns.
        if background.is_started() || background.started.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Some(runtime) = &background.runtime {
            let pool = Arc::clone(&self.queue.pool);
            runtime.spawn(maintain(background.core.clone(), pool, background.tasks.enter()));
        }
    }

    /// Has the background task check the strategy for unread messages, if it was spawned.
    pub(crate) fn watch_unread(&self) {
        if self.background.is_started() {
            self.queue.pool.signal.signal_unread();
        }
    }

    /// Has the background task check for conditions to warn of.
    pub(crate) fn watch_warnings(&self) {
        self.start_background();
        self.queue.pool.signal.signal_warnings();
    }

    /// Wakes the background task, if it was spawned: it checks the channel, or ends if the channel is dropped.
    pub(crate) fn notify_background(&self) {
        if self.background.is_started() {
            self.queue.pool.signal.notify();
        }
    }
}
