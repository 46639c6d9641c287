//! Why the channel's task has to look: what passes between those who know a reason and the task, which sleeps without one.

use std::time::Duration;

use crate::sync::{AtomicBool, Ordering, fence};

/// One reason to wake the task: raised by whoever has it, lowered by the task before it looks a last time.
#[derive(Default)]
pub(crate) struct Reason(AtomicBool);

impl Reason {
    /// True if the task may be asleep on this account, and has to be notified.
    pub(crate) fn raise(&self) -> bool {
        // ORDERING: Release pairs with the fence in `lower`, both being exchanges on one variable: either this one comes
        // first, and the task's last look sees why it was raised, or it finds the reason lowered, and the task is notified.
        !self.0.swap(true, Ordering::Release)
    }

    /// `raise` for a caller whose own SeqCst fence came after the change.
    pub(crate) fn raise_behind_fence(&self) -> bool {
        // ORDERING: Relaxed behind the fence: a reason seen raised is either lowered later, and then the task's last look,
        // which is behind a fence too, sees the change; or it was not lowered since.
        !self.0.load(Ordering::Relaxed) && self.raise()
    }

    pub(crate) fn is_raised(&self) -> bool {
        // ORDERING: Relaxed: if it is not seen raised yet, the notification that follows brings the task back.
        self.0.load(Ordering::Relaxed)
    }

    fn lower(&self) {
        // ORDERING: Relaxed before the fence, which acquires what was raised, and is for `raise_behind_fence` too.
        self.0.swap(false, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }
}

/// Looks, and once more after the reason was lowered if there is nothing left to watch: when to look again, if at all.
pub(crate) fn watch(reason: &Reason, mut look: impl FnMut() -> Option<Duration>) -> Option<Duration> {
    look().or_else(|| {
        reason.lower();
        let next = look();
        if next.is_some() {
            reason.raise();
        }
        next
    })
}

/// The task looks after somebody more and more seldom, as nothing came of it.
#[derive(Default)]
pub(crate) struct Resignation(AtomicBool);

impl Resignation {
    /// By the task, before a SeqCst fence and its look at who is there.
    pub(crate) fn set(&self, resigned: bool) {
        // ORDERING: Relaxed before the fence, against that of `take_back`.
        self.0.store(resigned, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        // ORDERING: Relaxed: if it is seen set though it was taken back, the notification that follows brings the task back.
        self.0.load(Ordering::Relaxed)
    }

    /// By somebody whom the task does not know, and whose own SeqCst fence came after what tells of him. True if the task
    /// has to be notified.
    pub(crate) fn take_back(&self) -> bool {
        // ORDERING: Relaxed behind the fence: either this one sees that the task resigned, or the task's look, which is
        // behind a fence too, sees who came.
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}
