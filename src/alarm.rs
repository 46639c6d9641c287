//! What wakes the channel's task.

use crate::reason::{Reason, Resignation};
use crate::sync::Notify;

/// Tells the task that there is something to watch.
#[derive(Default)]
pub(crate) struct Alarm {
    /// Messages lie in the active segment and nobody waits for them.
    pub(crate) unread: Reason,
    /// Somebody waits who may be passed over.
    pub(crate) waiters: Reason,
    /// The task looks after those who wait more and more seldom.
    pub(crate) resigned: Resignation,
    /// There is memory that may not be needed.
    pub(crate) memory: Reason,
    /// There may be something to warn of.
    pub(crate) trouble: Reason,
    notify: Notify,
}

impl Alarm {
    pub(crate) fn unread(&self) {
        if self.unread.raise() {
            self.notify();
        }
    }

    /// To be called behind a SeqCst fence that came after the change: somebody began to wait, or what others wait for is
    /// there.
    pub(crate) fn waiters(&self) {
        let resigned = self.resigned.take_back();
        if self.waiters.raise() || resigned {
            self.notify();
        }
    }

    pub(crate) fn trouble(&self) {
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

    pub(crate) async fn notified(&self) {
        self.notify.notified().await;
    }
}
