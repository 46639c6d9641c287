//! A handle's part in Tokio's cooperative scheduling.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use tokio::task::coop;

use crate::sync::{AtomicU32, Ordering};

/// So many messages take one unit of the cooperative budget, whose 128 units are meant for larger steps than a
/// copy: a task that is never kept waiting yields every 4096 messages, after some fifty microseconds.
const MESSAGES_PER_UNIT: u32 = 32;

/// Counts the messages of one handle, to have its task yield when it has had its share. The first one pays: a task may
/// have many handles, each for a few messages.
#[derive(Default)]
pub(crate) struct CoopBudget(AtomicU32);

impl CoopBudget {
    /// Whether the next message has to pay a unit of the budget.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        // ORDERING: Relaxed, and between threads not even exact: it only spreads yields.
        self.0.load(Ordering::Relaxed) % MESSAGES_PER_UNIT == 0
    }

    /// Counts a message.
    #[inline]
    pub(crate) fn tick(&self) {
        // ORDERING: as above.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Counts a message and pays for it if it is due. To be awaited before anything is sent or taken, so that being
    /// dropped here loses nothing.
    pub(crate) async fn consume(&self) {
        poll_fn(|cx| self.poll_consume(cx)).await;
    }

    /// [`keep`](Self::keep), polled; counts the message when it is ready.
    pub(crate) fn poll_consume(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_due() {
            ready!(coop::poll_proceed(cx)).made_progress();
        }
        self.tick();
        Poll::Ready(())
    }

    /// [`keep`](Self::keep) for several messages, no more than those of one unit.
    pub(crate) async fn consume_n(&self, messages: usize) {
        // ORDERING: as above.
        let before = self.0.load(Ordering::Relaxed);
        let after = before.wrapping_add(messages as u32);
        self.0.store(after, Ordering::Relaxed);
        if before.div_ceil(MESSAGES_PER_UNIT) != after.div_ceil(MESSAGES_PER_UNIT) {
            coop::consume_budget().await;
        }
    }
}
