//! A handle's part in Tokio's cooperative scheduling.

use crate::sync::{AtomicU32, Ordering};

/// So many messages take one unit of the cooperative budget, whose 128 units are meant for larger steps than a
/// copy: a task that is never kept waiting yields every 4096 messages, after some fifty microseconds.
const MESSAGES_PER_UNIT: u32 = 32;

/// Counts the messages of one handle, to have its task yield when it has had its share.
#[derive(Default)]
pub(crate) struct Pace(AtomicU32);

impl Pace {
    /// Counts a message; true if a unit of the budget has to be paid for it, before anything is sent or taken.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        // ORDERING: Relaxed, and between threads not even exact: it only spreads yields.
        let messages = self.0.load(Ordering::Relaxed).wrapping_add(1);
        self.0.store(messages, Ordering::Relaxed);
        messages % MESSAGES_PER_UNIT == 0
    }

    /// The same for several messages, no more than those of one unit.
    pub(crate) fn is_due_for(&self, messages: usize) -> bool {
        // ORDERING: Relaxed, as above.
        let before = self.0.load(Ordering::Relaxed);
        let after = before.wrapping_add(messages as u32);
        self.0.store(after, Ordering::Relaxed);
        before / MESSAGES_PER_UNIT != after / MESSAGES_PER_UNIT
    }
}
