//! Waiting for room: a sender registers, makes its attempt, and sleeps until what it needs is free.
//!
//! The order among senders, and what is kept for each, is told in [`room_waiters`](crate::queue::pool::room_waiters).

use std::task::{Context, Poll};

use super::{Core, Refusal};
use crate::queue::pool::room_waiters::{Demand, Registered, RoomWaiter, RoomWaiters, Ticket};
use crate::telemetry::stats::SwitchCause;

impl Core {
    #[inline]
    pub(crate) fn room_waiters(&self) -> &RoomWaiters {
        &self.queue.pool.room_waiters
    }

    /// Registers a sender that needs `demand`, and calls `write` with its ticket. Pending while the channel is full.
    ///
    /// The sender stays registered until this is ready, or until it [stops waiting](Self::stop_waiting).
    pub(crate) fn poll_for_room<T>(
        &self,
        waiter: &mut RoomWaiter,
        cx: &mut Context<'_>,
        demand: Demand,
        write: impl FnOnce(Option<Ticket>) -> Result<T, Refusal>,
    ) -> Poll<Result<T, Refusal>> {
        let polled = self.poll_in_turn(waiter, cx, demand, write);
        if polled.is_ready() {
            self.stop_waiting(waiter);
        }
        polled
    }

    /// [`poll_for_room`](Self::poll_for_room) for room of one byte. The sender stays registered, and keeps its place, until
    /// it stops waiting.
    pub(crate) fn poll_has_room(
        &self,
        waiter: &mut RoomWaiter,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Refusal>> {
        self.poll_in_turn(waiter, cx, Demand::copied(1), |ticket| match self.has_room(ticket) {
            _ if self.is_closed() => Err(Refusal::Closed),
            true => Ok(()),
            false => Err(Refusal::Full),
        })
    }

    fn poll_in_turn<T>(
        &self,
        waiter: &mut RoomWaiter,
        cx: &mut Context<'_>,
        demand: Demand,
        write: impl FnOnce(Option<Ticket>) -> Result<T, Refusal>,
    ) -> Poll<Result<T, Refusal>> {
        let now = || self.queue.clock().nanos();
        let one_lap = self.queue.pool.max_bytes();
        let Registered { ticket, was_woken } =
            self.room_waiters().register(waiter, demand, one_lap, cx.waker(), now);
        match write(Some(ticket)) {
            Err(Refusal::Full) => {
                if was_woken {
                    self.room_waiters().pass(ticket);
                }
                self.arm_watchdog();
                Poll::Pending
            }
            result => Poll::Ready(result),
        }
    }

    /// Whether there is room for a message of one byte, beside what is kept for senders before `ticket`.
    ///
    /// As a refused sender does, it seals a full segment, for which receivers may wait, and frees what was read before it
    /// denies.
    pub(crate) fn has_room(&self, ticket: Option<Ticket>) -> bool {
        let demand = Demand::copied(1);
        let sequence = self.queue.ring.active();
        let state = self.queue.ring.slot(sequence).load();
        let has_memory = || self.queue.pool.has_memory(ticket, demand);
        if (state.is_open() && state.has_room(demand.len, self.queue.capacities())) || has_memory() {
            return true;
        }
        if state.is_open() {
            self.switch_slot(sequence, SwitchCause::Full);
        }
        self.retire_drained_segments() && has_memory()
    }

    /// Removes a sender from those that wait, and wakes the ones that can use what was kept for it.
    pub(crate) fn stop_waiting(&self, waiter: &mut RoomWaiter) {
        if self.room_waiters().remove(waiter) {
            self.wake_senders();
        }
    }

    /// Wakes the senders that can use what is free. If others sleep, and receivers have nothing else to read, seals the
    /// active segment: only receivers can make room, and they may wait for this segment to be full.
    ///
    /// To be called when a sender stops waiting, after the first message of a segment, and after a segment was retired. In
    /// between, no waiting sender can come to depend on the active segment: its own attempt seals that.
    pub(crate) fn wake_senders(&self) {
        self.queue.wake_senders();
        if !self.queue.on_demand() && self.queue.ring.backlog() == 0 && self.room_waiters().has_sleeper() {
            self.switch_slot(self.queue.ring.active(), SwitchCause::Full);
        }
    }
}
