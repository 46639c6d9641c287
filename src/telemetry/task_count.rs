//! How many background tasks of a channel are alive.

use crate::sync::{Arc, AtomicUsize, Ordering};

/// Counts tasks; outlives the channel for as long as one of them does.
#[derive(Clone)]
pub(crate) struct TaskCount(Arc<AtomicUsize>);

impl TaskCount {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(0)))
    }

    /// Counts one more, until what is returned is dropped; to be moved into the task.
    pub(crate) fn enter(&self) -> TaskGuard {
        // ORDERING: Relaxed: a statistic.
        self.0.fetch_add(1, Ordering::Relaxed);
        TaskGuard(Arc::clone(&self.0))
    }

    pub(crate) fn alive(&self) -> usize {
        // ORDERING: Relaxed: a statistic.
        self.0.load(Ordering::Relaxed)
    }
}

/// One task that is alive.
pub(crate) struct TaskGuard(Arc<AtomicUsize>);

impl Drop for TaskGuard {
    fn drop(&mut self) {
        // ORDERING: Relaxed: a statistic.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
