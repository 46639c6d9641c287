//! A handle's part in Tokio's cooperative scheduling.

use tokio::task::coop;

use crate::sync::{AtomicU32, Ordering};

/// So many messages take one unit of the cooperative budget, whose 128 units are meant for larger steps than a
/// copy: a task that is never kept waiting yields every 1024 messages, after some twenty microseconds.
const MESSAGES_PER_UNIT: u32 = 8;

/// Counts the messages of one handle, and yields when its task has had its share.
#[derive(Default)]
pub(crate) struct Pace(AtomicU32);

impl Pace {
    /// To be awaited before anything is sent or taken, so that being dropped here loses nothing.
    #[inline]
    pub(crate) async fn keep(&self) {
        if self.is_due() {
            coop::consume_budget().await;
        }
    }

    #[inline]
    fn is_due(&self) -> bool {
        // ORDERING: Relaxed, and between threads not even exact: it only spreads yields.
        let messages = self.0.load(Ordering::Relaxed).wrapping_add(1);
        self.0.store(messages, Ordering::Relaxed);
        messages % MESSAGES_PER_UNIT == 0
    }
}
