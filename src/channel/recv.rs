//! Reading: turns at the head, and what they leave to be done.

use std::sync::PoisonError;
use std::task::Poll;

use bytes::Bytes;

use super::Core;
use crate::queue::head::{Effects, Head, Readiness};
use crate::queue::segment::slot_state::Phase;
use crate::queue::{Queue, ReadMode};
use crate::sync::{MutexGuard, Ordering, fence};

impl Core {
    #[inline(always)]
    pub(super) fn lock_head(&self) -> MutexGuard<'_, Head> {
        self.reading.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next message if that is a small matter; otherwise it takes a whole [`turn`](Self::turn).
    #[inline(always)]
    pub(crate) fn take_fast(&self, mode: ReadMode) -> Option<Bytes> {
        // ORDERING: Relaxed: a hint: if it is wrong, the turn finds out.
        if self.reading.caught_up.load(Ordering::Relaxed) {
            return None;
        }
        let mut head = self.lock_head();
        let message = head.take_fast(mode)?;
        let released = head.take_released(&self.queue);
        drop(head);
        if released > 0 {
            self.queue.pool.release_external(released);
        }
        if self.receivers_waiting().waiting() > 0 {
            self.receivers_waiting().wake(1);
        }
        Some(message)
    }

    /// Calls `take` with the head if a message is readable.
    ///
    /// `Ready(None)` means that the channel is closed and drained. If this returns `Pending` and the caller is
    /// `registered`, the sender of the next message will wake a receiver.
    pub(crate) fn poll_with_head<T>(
        &self,
        registered: bool,
        take: impl FnOnce(&Queue, &mut Head, &mut Effects) -> T,
    ) -> Poll<Option<T>> {
        let mut stalled = false;
        let mut effects = Effects::default();
        let mut head = self.lock_head();
        let polled = loop {
            match head.poll_readable(&self.queue, &mut effects) {
                Readiness::Readable => break Poll::Ready(Some(take(&self.queue, &mut head, &mut effects))),
                Readiness::Closed => break Poll::Ready(None),
                Readiness::Stalled if !registered || head.set_commit_waiter() => {
                    stalled = registered;
                    break Poll::Pending;
                }
                Readiness::Empty
                    if !registered || !self.queue.on_demand() || head.set_waiter(&self.queue) =>
                {
                    break Poll::Pending;
                }
                Readiness::Stalled | Readiness::Empty => {}
            }
        };
        self.before_unlock(&mut head, &mut effects, polled.is_ready());
        effects.released += head.take_released(&self.queue);
        if head.has_drained_active(&self.queue) {
            // Under the lock: the background task locks the head too for its last check, after it has cleared the flag.
            effects.at_rest = self.queue.pool.signal.set_memory();
        }
        drop(head);
        self.apply_effects(effects);
        if stalled {
            self.arm_watchdog();
        }
        polled
    }

    /// Calls `visit` with the head, for a thread that receives nothing.
    pub(super) fn with_head<T>(&self, visit: impl FnOnce(&mut Head, &mut Effects) -> T) -> T {
        let mut effects = Effects::default();
        let mut head = self.lock_head();
        let result = visit(&mut head, &mut effects);
        self.before_unlock(&mut head, &mut effects, true);
        drop(head);
        self.apply_effects(effects);
        result
    }

    /// Runs a callback with what a receiver took.
    pub(crate) fn call_back(&self, callback: impl FnOnce()) {
        self.callbacks.call(callback);
    }

    /// Looks whether there is something to read soon, where that can be expected.
    pub(crate) fn spin_for_message(&self) -> bool {
        self.queue.spin().spin_until(|| !self.seems_empty())
    }

    /// Whether there is nothing to read, as far as can be told from outside.
    pub(crate) fn seems_empty(&self) -> bool {
        let sequence = self.queue.ring.head();
        let state = self.queue.ring.slot(sequence).load();
        let nothing_new = match state.phase() {
            Phase::Open => !self.queue.on_demand() || state.is_fully_consumed(),
            Phase::Ready => true,
            Phase::Sealed | Phase::Closed => false,
        };
        // ORDERING: Relaxed: a hint.
        nothing_new && self.reading.caught_up.load(Ordering::Relaxed)
    }

    /// Leaves a segment behind that was sealed after all of it was cut off and read, or is padding; true if that gave
    /// memory back.
    ///
    /// For a sender who finds no room: no receiver may be about to take a turn.
    #[cold]
    pub(crate) fn retire_drained_segments(&self) -> bool {
        self.with_head(|head, effects| head.retire_drained_segments(&self.queue, effects))
    }

    /// Completes the effects before the head is unlocked. Computes which receivers to wake if `changed`, or if a segment
    /// was retired.
    #[inline(always)]
    fn before_unlock(&self, head: &mut Head, effects: &mut Effects, changed: bool) {
        effects.drained = head.take_drained(&self.queue, effects);
        if changed || effects.retired {
            self.compute_wakeups(head, effects);
        }
        // ORDERING: Relaxed: a hint.
        self.reading.caught_up.store(head.is_caught_up(), Ordering::Relaxed);
    }

    /// Before the head is left: whoever sleeps is to be woken for what is there, or for the next message.
    fn compute_wakeups(&self, head: &Head, effects: &mut Effects) {
        if self.receivers_waiting().waiting() > 0 {
            effects.left = head.left(&self.queue);
            // Who sleeps has asked for a wake at the slot that was read: that moves on with the head.
            if effects.left == 0 && self.queue.on_demand() && !head.set_waiter(&self.queue) {
                effects.left = 1;
            }
        }
    }

    /// Does what a turn left to be done.
    #[inline]
    fn apply_effects(&self, effects: Effects) {
        if effects.recycled > 0 {
            self.queue.pool.wake_senders(effects.recycled.saturating_mul(self.queue.capacity().messages));
        }
        if effects.retired {
            // ORDERING: SeqCst fence, see `consider_switch`; Relaxed behind it.
            fence(Ordering::SeqCst);
            if self.deferral.deferred.load(Ordering::Relaxed)
                && self.deferral.deferred.swap(false, Ordering::Relaxed)
            {
                self.resume_switching();
            }
        }
        if effects.at_rest {
            self.queue.pool.signal.notify();
        }
        if effects.released > 0 {
            self.queue.pool.release_external(effects.released);
        }
        if effects.left > 0 {
            self.receivers_waiting().wake(effects.left);
        }
        if effects.drained {
            self.drainers.wake_all();
        }
        for switched in effects.switches {
            self.events.switched(switched);
        }
        if !effects.discarded.is_empty() {
            self.payloads.call(|| drop(effects.discarded));
        }
    }

    /// A receiver stopped waiting, maybe after it was woken: unread messages are the timer's again.
    pub(crate) fn stopped_waiting(&self) {
        if self.is_timed() && self.active_segment(self.queue.ring.active()).is_some() {
            self.background.watch_unread();
        }
    }
}
