//! The background task of a channel, and the task that reports.
//!
//! The background task checks the strategy while unread messages lie in the active segment and no receiver waits for
//! them, wakes waiters that are stuck, gives idle memory back, and emits warnings. It is spawned when it is first
//! needed, ends with the channel, and sleeps unless its [`TaskSignal`] gives it a reason to check: an idle channel
//! causes no wakeups.

mod task;
mod watchdog;

pub(crate) use self::task::{maintain, report_periodically};

use tokio::runtime::Handle;

use crate::sync::{Arc, AtomicBool, OnceLock, Ordering};
use crate::wait::task_signal::TaskSignal;

/// The handle of a channel to its background task.
pub(crate) struct BackgroundTask {
    signal: Arc<TaskSignal>,
    runtime: Option<Handle>,
    /// Spawns the task. Without it there is none, as under the checkers.
    spawn: OnceLock<Box<dyn Fn() + Send + Sync>>,
    spawned: AtomicBool,
}

impl BackgroundTask {
    pub(crate) fn new(signal: Arc<TaskSignal>, runtime: Option<Handle>) -> Self {
        Self { signal, runtime, spawn: OnceLock::new(), spawned: AtomicBool::new(false) }
    }

    /// Sets what spawns the task, once.
    pub(crate) fn spawn_with(&self, spawn: impl Fn() + Send + Sync + 'static) {
        let _ = self.spawn.set(Box::new(spawn));
    }

    pub(crate) fn signal(&self) -> &Arc<TaskSignal> {
        &self.signal
    }

    /// Spawns the task unless that was done.
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

    /// Has the task check for stuck waiters.
    pub(crate) fn watch_waiters(&self) {
        self.start();
        self.signal.signal_waiters();
    }

    /// Has the task check for conditions to warn of.
    pub(crate) fn watch_warnings(&self) {
        self.start();
        self.signal.signal_warnings();
    }

    /// Lets the task find that the channel is dropped.
    pub(crate) fn end(&self) {
        self.signal.notify();
    }

    /// Returns the runtime of the channel.
    pub(crate) fn runtime(&self) -> Option<&Handle> {
        self.runtime.as_ref()
    }
}
