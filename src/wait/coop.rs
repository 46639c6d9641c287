//! Cooperative scheduling: how often a handle yields.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use tokio::task::coop;

use crate::sync::{AtomicU32, Ordering};

/// The number of messages that take one unit of Tokio's cooperative budget.
///
/// The 128 units of a budget are meant for larger steps than a copy. A task that never waits yields every 4096 messages,
/// after about fifty microseconds.
const MESSAGES_PER_UNIT: u32 = 32;

/// Counts the messages of one handle, so that its task yields when its budget is used up.
///
/// The first message takes a unit: a task may have many handles, each with a few messages.
#[derive(Default)]
pub(crate) struct CoopBudget(AtomicU32);

impl CoopBudget {
    /// Whether the next message takes a unit of the budget.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        // ORDERING: Relaxed: only spreads yields; between threads it need not be exact.
        self.0.load(Ordering::Relaxed) % MESSAGES_PER_UNIT == 0
    }

    /// Counts a message.
    #[inline]
    pub(crate) fn tick(&self) {
        // ORDERING: Relaxed: see `is_due`.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Counts a message, and takes a unit of the budget if one is due.
    ///
    /// Callers await this before they send or take anything, so that a drop here loses nothing.
    pub(crate) async fn consume(&self) {
        poll_fn(|cx| self.poll_consume(cx)).await;
    }

    /// Polls [`consume`](Self::consume); counts the message when it is ready.
    pub(crate) fn poll_consume(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_due() {
            ready!(coop::poll_proceed(cx)).made_progress();
        }
        self.tick();
        Poll::Ready(())
    }

    /// [`consume`](Self::consume) for several messages, at most those of one unit.
    pub(crate) async fn consume_n(&self, messages: usize) {
        // ORDERING: Relaxed: see `is_due`.
        let before = self.0.load(Ordering::Relaxed);
        let after = before.wrapping_add(messages as u32);
        self.0.store(after, Ordering::Relaxed);
        if before.div_ceil(MESSAGES_PER_UNIT) != after.div_ceil(MESSAGES_PER_UNIT) {
            coop::consume_budget().await;
        }
    }
}
