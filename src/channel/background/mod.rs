//! The background task of a channel, and the task that reports.
//!
//! The background task has three checks:
//!
//! - It asks the strategy while unread messages lie in the active segment and no receiver waits for them.
//! - It frees idle memory.
//! - It emits warnings ([`watchdog`]).
//!
//! The task is spawned when it is first needed and ends with the channel. It sleeps unless its [`TaskSignal`] gives it a
//! reason to check: an idle channel causes no wakeups.

mod task;
mod watchdog;

pub(crate) use self::task::{maintain, report_periodically};

use tokio::runtime::Handle;

use crate::sync::{Arc, AtomicBool, OnceLock, Ordering};
use crate::wait::task_signal::TaskSignal;

/// The channel's handle to its background task.
pub(crate) struct BackgroundTask {
    signal: Arc<TaskSignal>,
    runtime: Option<Handle>,
    /// Spawns the task. If it is not set, as under loom and shuttle, there is no task.
    spawn: OnceLock<Box<dyn Fn() + Send + Sync>>,
    spawned: AtomicBool,
}

impl BackgroundTask {
    pub(crate) fn new(signal: Arc<TaskSignal>, runtime: Option<Handle>) -> Self {
        Self { signal, runtime, spawn: OnceLock::new(), spawned: AtomicBool::new(false) }
    }

    /// Sets the function that spawns the task; only the first call counts.
    pub(crate) fn spawn_with(&self, spawn: impl Fn() + Send + Sync + 'static) {
        let _ = self.spawn.set(Box::new(spawn));
    }

    pub(crate) fn signal(&self) -> &Arc<TaskSignal> {
        &self.signal
    }

    /// Spawns the task at the first call.
    pub(crate) fn start(&self) {
        let Some(spawn) = self.spawn.get() else { return };
        // ORDERING: Relaxed: the exchange alone decides which thread spawns.
        if !self.spawned.load(Ordering::Relaxed) && !self.spawned.swap(true, Ordering::Relaxed) {
            spawn();
        }
    }

    /// Has the task check the strategy for unread messages.
    pub(crate) fn watch_unread(&self) {
        self.start();
        self.signal.signal_unread();
    }

    /// Has the task check for conditions to warn of.
    pub(crate) fn watch_warnings(&self) {
        self.start();
        self.signal.signal_warnings();
    }

    /// Wakes the task: it checks the channel, or ends if the channel is dropped.
    pub(crate) fn notify(&self) {
        self.signal.notify();
    }

    pub(crate) fn runtime(&self) -> Option<&Handle> {
        self.runtime.as_ref()
    }
}
