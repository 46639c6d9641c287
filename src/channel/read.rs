//! Reading: turns at the head, and what they leave to be done.

use std::sync::PoisonError;

use bytes::Bytes;

use super::Core;
use crate::config::ReadMode;
use crate::head::{Aftermath, Head, Outlook};
use crate::pool::Lease;
use crate::segment::state::Kind;
use crate::sync::{MutexGuard, Ordering, fence};

impl Core {
    #[inline(always)]
    pub(super) fn lock_head(&self) -> MutexGuard<'_, Head> {
        self.reading.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next message if that is a small matter; otherwise it takes a whole [`turn`](Self::turn).
    #[inline(always)]
    pub(crate) fn take_quickly(&self, mode: ReadMode) -> Option<Bytes> {
        // ORDERING: Relaxed: a hint: if it is wrong, the turn finds out.
        if self.reading.caught_up.load(Ordering::Relaxed) {
            return None;
        }
        let mut head = self.lock_head();
        let message = head.take_quickly(mode)?;
        let released = head.take_released(self);
        drop(head);
        if released > 0 {
            self.pool.release_referenced(released);
        }
        if self.readers().waiting() > 0 {
            self.readers().wake(1);
        }
        Some(message)
    }

    /// One turn at the head.
    ///
    /// Returns what `take` makes of a readable message, `Some(None)` if the channel is closed and drained, and
    /// nothing if there is nothing to read. Then, if `sleeping`, the next message's writer is sure to wake a
    /// reader.
    pub(crate) fn turn<T>(
        &self,
        sleeping: bool,
        take: impl FnOnce(&Core, &mut Head, &mut Aftermath) -> T,
    ) -> Option<Option<T>> {
        let mut after = Aftermath::default();
        let mut stalled = false;
        let mut head = self.lock_head();
        let result = loop {
            match head.look(self, &mut after) {
                Outlook::Readable => break Some(Some(take(self, &mut head, &mut after))),
                Outlook::Closed => break Some(None),
                Outlook::Stalled if !sleeping || head.await_commit() => {
                    stalled = sleeping;
                    break None;
                }
                Outlook::Empty if !sleeping || !self.on_demand || head.await_message(self) => break None,
                Outlook::Stalled | Outlook::Empty => {}
            }
        };
        after.drained = head.take_passed(self, &mut after);
        if result.is_some() || after.retired {
            self.pass_on(&head, &mut after);
        }
        after.released += head.take_released(self);
        // ORDERING: Relaxed: a hint.
        self.reading.caught_up.store(head.is_caught_up(), Ordering::Relaxed);
        if head.holds_rest(self) {
            // Under the lock, as the timer looks under it too after it has lowered the reason.
            after.at_rest = self.pool.alarm.is_memory_due();
        }
        drop(head);
        self.settle(after);
        if stalled {
            self.look_for_trouble();
        }
        result
    }

    /// Runs a callback with what a receiver took.
    pub(crate) fn call_back(&self, callback: impl FnOnce()) {
        self.callbacks.call(callback);
    }

    /// Looks whether there is something to read soon, where that can be expected.
    pub(crate) fn is_lull_over(&self) -> bool {
        self.reading.lull.ends(|| !self.seems_empty())
    }

    /// Whether there is nothing to read, as far as can be told from outside.
    pub(crate) fn seems_empty(&self) -> bool {
        let sequence = self.pending.head();
        let state = self.pending.place(sequence).load();
        let nothing_new = match state.kind() {
            Kind::Open => !self.on_demand || state.is_cut(),
            Kind::Ready => true,
            Kind::Sealed | Kind::Closed => false,
        };
        // ORDERING: Relaxed: a hint.
        nothing_new && self.reading.caught_up.load(Ordering::Relaxed)
    }

    /// Leaves a segment behind that was sealed after all of it was cut off and read, or is padding; true if that gave
    /// memory back.
    ///
    /// For a sender who finds no room: no receiver may be about to take a turn.
    #[cold]
    pub(crate) fn leave_what_was_read(&self) -> bool {
        self.visit(|head, after| head.leave_read(self, after))
    }

    /// A turn at the head by somebody who takes nothing.
    pub(super) fn visit<T>(&self, visit: impl FnOnce(&mut Head, &mut Aftermath) -> T) -> T {
        let mut after = Aftermath::default();
        let mut head = self.lock_head();
        let result = visit(&mut head, &mut after);
        after.drained = head.take_passed(self, &mut after);
        self.pass_on(&head, &mut after);
        // ORDERING: Relaxed: a hint.
        self.reading.caught_up.store(head.is_caught_up(), Ordering::Relaxed);
        drop(head);
        self.settle(after);
        result
    }

    /// Before the head is left: whoever sleeps is to be woken for what is there, or for the next message.
    fn pass_on(&self, head: &Head, after: &mut Aftermath) {
        if self.readers().waiting() > 0 {
            after.left = head.left(self);
            // Who sleeps has asked for a wake at the place that was read: that moves on with the head.
            if after.left == 0 && self.on_demand && !head.await_message(self) {
                after.left = 1;
            }
        }
    }

    /// Does what a turn left to be done.
    #[inline]
    fn settle(&self, after: Aftermath) {
        if after.recycled > 0 {
            self.pool.wake_senders(after.recycled.saturating_mul(self.capacity.messages));
        }
        if after.retired {
            // ORDERING: SeqCst fence, see `consider_switch`; Relaxed behind it.
            fence(Ordering::SeqCst);
            if self.switching.deferred.load(Ordering::Relaxed)
                && self.switching.deferred.swap(false, Ordering::Relaxed)
            {
                self.resume_switching();
            }
        }
        if after.at_rest {
            self.pool.alarm.notify();
        }
        if after.released > 0 {
            self.pool.release_referenced(after.released);
        }
        if after.left > 0 {
            self.readers().wake(after.left);
        }
        if after.drained {
            self.drainers.wake_all();
        }
        for switched in after.switches {
            self.events.switched(switched);
        }
        if !after.discarded.is_empty() {
            self.payloads.call(|| drop(after.discarded));
        }
    }

    /// Whether Safe mode may lend from this segment; see `ReadMode::Safe`.
    pub(crate) fn may_lend(&self, lease: &Lease) -> bool {
        let lent = self.pool.lent_segments() * self.pool.footprint();
        lent < self.pool.max_bytes() / 2
            && u128::from(self.clock.nanos().saturating_sub(lease.sealed_at())) < self.lend_ttl.as_nanos()
    }

    /// A receiver stopped waiting, maybe after it was woken: unread messages are the timer's again.
    pub(crate) fn stopped_waiting(&self) {
        if self.is_timed() && self.active_segment(self.pending.active()).is_some() {
            self.timer.watch_unread();
        }
    }
}
