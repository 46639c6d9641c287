//! The statistic of background tasks.

use crate::sync::{Arc, AtomicUsize, OnceLock, Ordering};

/// The number of tasks that are alive.
///
/// The count is shared with the tasks, since a task may outlive the channel. It is made for the first one.
#[derive(Default)]
pub(crate) struct TaskCount(OnceLock<Arc<AtomicUsize>>);

impl TaskCount {
    /// Counts one task until the returned guard is dropped. The guard is to be moved into the task.
    pub(crate) fn enter(&self) -> TaskGuard {
        // ORDERING: Relaxed: statistic only.
        let count = self.0.get_or_init(|| Arc::new(AtomicUsize::new(0)));
        count.fetch_add(1, Ordering::Relaxed);
        TaskGuard(Arc::clone(count))
    }

    pub(crate) fn alive(&self) -> usize {
        // ORDERING: Relaxed: statistic only.
        self.0.get().map_or(0, |count| count.load(Ordering::Relaxed))
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
