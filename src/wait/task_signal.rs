//! What wakes a channel's background task.
//!
//! The task sleeps unless a flag gives it a reason to check the channel. A thread that changes the channel sets the
//! flag after the change, and notifies the task if the flag was clear. The task checks, and once there is nothing left
//! to watch it clears the flag and checks a last time: so either its last check sees a change, or the thread that made
//! the change finds the flag clear and notifies.

use std::time::Duration;

use crate::sync::{AtomicBool, Notify, Ordering, fence};

/// The checkers run no background task: signals would only add steps to their models.
const IS_ENABLED: bool = cfg!(not(any(turbostream_loom, turbostream_shuttle)));

/// The reasons of the background task to check the channel.
#[derive(Default)]
pub(crate) struct TaskSignal {
    /// Messages lie in the active segment, and no receiver waits for them.
    pub(crate) unread: WakeFlag,
    /// There is memory that may not be needed.
    pub(crate) memory: WakeFlag,
    /// A condition that calls for a warning may hold.
    pub(crate) warnings: WakeFlag,
    notify: Notify,
    /// For models: whether `unread` was signalled.
    #[cfg(all(test, turbostream_loom))]
    unread_signalled: std::sync::atomic::AtomicBool,
}

impl TaskSignal {
    pub(crate) fn signal_unread(&self) {
        #[cfg(all(test, turbostream_loom))]
        self.unread_signalled.store(true, std::sync::atomic::Ordering::Relaxed);
        if IS_ENABLED && self.unread.set() {
            self.notify();
        }
    }

    #[cfg(all(test, turbostream_loom))]
    pub(crate) fn was_unread_signalled(&self) -> bool {
        self.unread_signalled.load(std::sync::atomic::Ordering::Relaxed)
    }

    pub(crate) fn signal_warnings(&self) {
        if IS_ENABLED && self.warnings.set() {
            self.notify();
        }
    }

    /// Signals pooled memory. The caller has passed a SeqCst fence after the memory was pooled.
    #[inline]
    pub(crate) fn signal_memory(&self) {
        if self.set_memory() {
            self.notify();
        }
    }

    /// Sets the `memory` flag; returns whether the caller has to notify the task.
    ///
    /// The caller has passed a SeqCst fence after its change, or holds a lock that the task takes for its last check too.
    #[inline]
    pub(crate) fn set_memory(&self) -> bool {
        IS_ENABLED && self.memory.set_after_fence()
    }

    pub(crate) fn notify(&self) {
        if IS_ENABLED {
            self.notify.notify_one();
        }
    }

    pub(crate) async fn notified(&self) {
        self.notify.notified().await;
    }
}

/// One reason to wake the background task: set by the thread that has it, cleared by the task before its last check.
#[derive(Default)]
pub(crate) struct WakeFlag(AtomicBool);

impl WakeFlag {
    /// Sets the flag; returns whether it was clear, and the task has to be notified.
    pub(crate) fn set(&self) -> bool {
        // ORDERING: Release: pairs with the fence in `clear`; both are read-modify-writes of one variable. Either this
        // one is first, and the task's last check sees the change, or it finds the flag clear, and the task is notified.
        !self.0.swap(true, Ordering::Release)
    }

    /// [`set`](Self::set) for a caller that has passed a SeqCst fence after its change.
    pub(crate) fn set_after_fence(&self) -> bool {
        // ORDERING: Relaxed: follows the caller's fence. A flag that is seen set is cleared later, and then the task's
        // last check, which follows a fence too, sees the change; or it stays set.
        !self.0.load(Ordering::Relaxed) && self.set()
    }

    pub(crate) fn is_set(&self) -> bool {
        // ORDERING: Relaxed: if the flag is not seen set yet, the notification that follows brings the task back.
        self.0.load(Ordering::Relaxed)
    }

    fn clear(&self) {
        // ORDERING: Relaxed: the fence after it acquires what was set, and pairs with the fence of `set_after_fence`.
        self.0.swap(false, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }
}

/// Runs `check`, and runs it once more after the flag was cleared if there is nothing left to watch.
///
/// Returns when to check again, if at all.
pub(crate) fn watch(flag: &WakeFlag, mut check: impl FnMut() -> Option<Duration>) -> Option<Duration> {
    check().or_else(|| {
        flag.clear();
        let next = check();
        if next.is_some() {
            flag.set();
        }
        next
    })
}
