//! The statistic of background tasks.

use crate::sync::{Arc, AtomicUsize, Ordering};

/// The number of tasks that are alive.
///
/// The count is shared with the tasks, since a task may outlive the channel.
#[derive(Clone)]
pub(crate) struct TaskCount(Arc<AtomicUsize>);

impl TaskCount {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(0)))
    }

    /// Counts one task until the returned guard is dropped. The guard is to be moved into the task.
    pub(crate) fn enter(&self) -> TaskGuard {
        // ORDERING: Relaxed: statistic only.
        self.0.fetch_add(1, Ordering::Relaxed);
        TaskGuard(Arc::clone(&self.0))
    }

    pub(crate) fn alive(&self) -> usize {
        // ORDERING: Relaxed: statistic only.
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts one task; its drop uncounts it.
pub(crate) struct TaskGuard(Arc<AtomicUsize>);

impl Drop for TaskGuard {
    fn drop(&mut self) {
        // ORDERING: Relaxed: statistic only.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
