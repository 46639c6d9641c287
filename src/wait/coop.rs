//! Cooperative scheduling: how often a handle yields.

use std::future::poll_fn;
use std::task::{Context, Poll};

use tokio::task::coop;

use super::clock::Clock;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The most messages that one unit of Tokio's cooperative budget pays for.
///
/// The 128 units of a budget are meant for larger steps than a copy. A task that never waits yields every 4096 messages,
/// after about fifty microseconds.
const MAX_PER_UNIT: u32 = 32;
/// If messages take longer than this on average, each of them takes a unit, as with Tokio's channels.
const QUICK_NANOS: u64 = 2_000;
/// The most messages of a batch that count: those of a whole budget.
const MAX_COUNTED: usize = 128 * MAX_PER_UNIT as usize;

/// Decides when the task that uses a handle has to yield.
///
/// One unit of the task's budget pays for a number of messages. The clock is read when the next unit is due. If the
/// messages since the last reading were slow, that unit pays for one message; if they were quick, for twice as many as
/// the unit before, up to [`MAX_PER_UNIT`]. The first message takes a unit: a task may have many handles, each with a few
/// messages.
///
/// A batch may hold more messages than are paid for. The handle then owes units, and pays them before it takes more
/// messages. A yield settles the rest.
///
/// Time for which the task waits counts too. That yields more often than necessary only where the task yields anyway.
//
// ORDERING: Relaxed, everywhere: only spreads yields; between threads it need not be exact.
#[derive(Default)]
pub(crate) struct CoopBudget {
    /// Messages that are paid for and were not counted yet; negative (as an `i32`) if units are owed.
    paid: AtomicU32,
    /// The value of `paid` after the last reading of the clock: the difference was counted since.
    paid_at_reading: AtomicU32,
    /// When the clock was read, in its nanoseconds.
    read_at: AtomicU64,
    /// How many messages the last unit paid for; 1 while messages are slow.
    per_unit: AtomicU32,
}

impl CoopBudget {
    /// Whether the next message takes a unit of the budget.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        // ORDERING: Relaxed: see `CoopBudget`.
        self.paid.load(Ordering::Relaxed) as i32 <= 0
    }

    /// Counts a message.
    #[inline]
    pub(crate) fn count_one(&self) {
        // ORDERING: Relaxed: see `CoopBudget`.
        self.paid.store(self.paid.load(Ordering::Relaxed).wrapping_sub(1), Ordering::Relaxed);
    }

    /// Counts the messages of a batch.
    pub(crate) fn count(&self, messages: usize) {
        let messages = messages.min(MAX_COUNTED) as i32;
        // ORDERING: Relaxed: see `CoopBudget`.
        let paid = self.paid.load(Ordering::Relaxed) as i32;
        self.paid.store(paid.saturating_sub(messages) as u32, Ordering::Relaxed);
    }

    /// Takes the units that are due: without them, no message may be sent or taken.
    ///
    /// Callers do this before they send or take anything, so that a drop here loses nothing.
    pub(crate) fn poll_pay(&self, clock: &Clock, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_due() {
            return Poll::Ready(());
        }
        let per_unit = self.read_clock(clock);
        while self.is_due() {
            match coop::poll_proceed(cx) {
                Poll::Ready(unit) => {
                    unit.made_progress();
                    // ORDERING: Relaxed: see `CoopBudget`.
                    self.set_paid(self.paid.load(Ordering::Relaxed).wrapping_add(per_unit));
                }
                Poll::Pending => {
                    self.set_paid(0);
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(())
    }

    /// Waits for [`poll_pay`](Self::poll_pay).
    pub(crate) async fn pay(&self, clock: &Clock) {
        poll_fn(|cx| self.poll_pay(clock, cx)).await;
    }

    /// Polls [`pay`](Self::pay); counts a message when it is ready.
    pub(crate) fn poll_consume(&self, clock: &Clock, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_pay(clock, cx).map(|()| self.count_one())
    }

    /// Returns how many messages the next unit pays for, by the time that those since the last reading took.
    fn read_clock(&self, clock: &Clock) -> u32 {
        // The number of instructions must not depend on the speed of the machine where they are counted.
        let now = if cfg!(turbostream_instructions) { clock.nanos().min(1) } else { clock.nanos() };
        // ORDERING: Relaxed, all: see `CoopBudget`.
        let (paid, per_unit) = (self.paid.load(Ordering::Relaxed), self.per_unit.load(Ordering::Relaxed));
        let counted = self.paid_at_reading.load(Ordering::Relaxed).wrapping_sub(paid);
        let took = now.saturating_sub(self.read_at.load(Ordering::Relaxed));
        let per_unit = match counted {
            // The first message, or the first one after a yield.
            0 => per_unit,
            counted if took > u64::from(counted) * QUICK_NANOS => 1,
            _ => per_unit * 2,
        }
        .clamp(1, MAX_PER_UNIT);
        self.read_at.store(now, Ordering::Relaxed);
        self.per_unit.store(per_unit, Ordering::Relaxed);
        self.set_paid(paid);
        per_unit
    }

    fn set_paid(&self, paid: u32) {
        // ORDERING: Relaxed, both: see `CoopBudget`.
        self.paid.store(paid, Ordering::Relaxed);
        self.paid_at_reading.store(paid, Ordering::Relaxed);
    }
}
