//! Receiving: how receivers share the head, and what they do after they unlock it.
//!
//! A receiver locks the head, takes a message or a batch, and unlocks it. Under the lock it may spin for some microseconds,
//! but it neither sleeps nor runs user code. What wakes threads or runs user code is recorded in [`Effects`] and applied
//! after the unlock.
//!
//! - [`claim`](Core::claim) has a handle claim the next messages, which it then hands out without the lock; see
//!   [`ahead`](crate::queue::head::ahead).
//! - [`take_fast`](Core::take_fast) takes the next message if it is an external payload, or a slice of the chunk that the
//!   head has copied or lent before.
//! - [`poll_with_head`](Core::poll_with_head) does everything else: it cuts, moves on to the next segment, and sets
//!   the waiter bit if nothing is readable.
//! - [`with_head`](Core::with_head) serves threads that receive nothing, such as senders that need memory.

use std::mem;
use std::sync::PoisonError;
use std::task::Poll;

use bytes::Bytes;

use super::Core;
use crate::error::TryRecvError;
use crate::queue::head::ahead::{Ahead, MAX_CLAIM};
use crate::queue::head::{Effects, Head, Readiness};
use crate::queue::segment::slot_state::Phase;
use crate::queue::{Queue, ReadMode};
use crate::sync::short_lock::ShortGuard;
use crate::sync::{Mutex, Ordering, yield_now};
use crate::telemetry::events::NotedSwitches;

/// What a receiver that visited the head has found.
enum Visit<T> {
    Taken(T),
    Closed,
    Empty,
    /// The next message is reserved and not committed.
    Stalled {
        /// A closure writes it.
        in_place: bool,
    },
}

impl Core {
    #[inline(always)]
    pub(super) fn lock_head(&self) -> ShortGuard<'_, Head> {
        self.reading.head.lock()
    }

    /// Has `ahead`, which is empty, claim the next messages; returns whether it has claimed any.
    #[inline(never)]
    pub(crate) fn claim(&self, ahead: &mut Ahead) -> bool {
        if ahead.is_barred() {
            return false;
        }
        // ORDERING: Relaxed: a hint; `poll_with_head` corrects it.
        if self.reading.caught_up.load(Ordering::Relaxed) {
            return false;
        }
        let receivers = self.receivers();
        // `DropOldest` would drop newer messages than those that were claimed.
        if receivers > self.max_claimers || self.when_full.drops_oldest() {
            return false;
        }
        // Only `clone` of a lone handle makes another one, and gives back before.
        let is_lone = receivers == 1;
        let limit = if is_lone { MAX_CLAIM } else { self.prefetch };
        ahead.begin_claim(limit, is_lone);
        let claimed = self.lock_head().claim(limit, ahead);
        ahead.end_claim();
        claimed
    }

    /// Wakes drainers if they have waited for the message that a handle has taken out of its claim.
    #[cold]
    pub(crate) fn end_drain(&self) {
        self.with_head(|_, _| ());
        if self.is_closed() {
            // They may wait for the end of the channel until no handle has a message left.
            self.receivers_waiting().wake();
        }
    }

    /// Gives back what `ahead` has claimed and not handed out, for a handle that is cloned.
    ///
    /// What may run user code follows after both locks are released: that may clone the same handle.
    pub(crate) fn give_back(&self, ahead: &Mutex<Ahead>) {
        let mut ahead = ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let effects = (!ahead.is_empty()).then(|| {
            let visit =
                |head: &mut Head, effects: &mut Effects| effects.given_back = head.take_back(&mut ahead);
            self.visit_with_head(visit).1
        });
        let reference = ahead.take_reference();
        drop(ahead);
        drop(reference);
        if let Some(effects) = effects {
            self.apply_effects(effects);
        }
    }

    /// Gives back what `ahead` has claimed and not handed out, for a handle that is dropped.
    pub(crate) fn end_claims(&self, ahead: &mut Ahead) {
        if ahead.has_claimed() {
            self.with_head(|head, effects| {
                effects.given_back = head.take_back(ahead);
                head.remove_claims(ahead);
            });
        }
        ahead.release();
    }

    /// Takes the next message if nothing more is to be done; otherwise the caller uses
    /// [`poll_with_head`](Self::poll_with_head).
    #[inline(always)]
    pub(crate) fn take_fast(&self, mode: ReadMode, ahead: &mut Ahead) -> Option<Bytes> {
        // ORDERING: Relaxed: a hint; `poll_with_head` corrects it.
        if self.reading.caught_up.load(Ordering::Relaxed) {
            return None;
        }
        let mut head = self.lock_head();
        let message = head.take_fast(mode);
        ahead.set_barred(message.is_some());
        let message = message?;
        let released = head.take_released(&self.queue);
        drop(head);
        if released > 0 {
            self.queue.pool.refund_external(released);
        }
        Some(message)
    }

    /// Takes the next message as [`take_fast`](Self::take_fast) does, if it is external, and writes it to `received`.
    #[inline(always)]
    pub(crate) fn take_external_into(&self, ahead: &mut Ahead, received: &mut Poll<Option<Bytes>>) -> bool {
        // ORDERING: Relaxed: a hint; `poll_with_head` corrects it.
        if self.reading.caught_up.load(Ordering::Relaxed) {
            return false;
        }
        let mut head = self.lock_head();
        let taken = head.take_external_into(received);
        ahead.set_barred(taken);
        let released = head.take_released(&self.queue);
        drop(head);
        if released > 0 {
            self.queue.pool.refund_external(released);
        }
        taken
    }

    /// Calls `take` with the head if a message is readable.
    ///
    /// `Ready(None)` means that the channel is closed and drained. If this returns `Pending` and the caller is
    /// `registered`, the thread that makes the next message readable will wake receivers. That is the sender of the
    /// message, or without `on_demand` the thread that seals its segment; or the stall watcher, for a message that is
    /// reserved already.
    pub(crate) fn poll_with_head<T>(
        &self,
        registered: bool,
        ahead: &mut Ahead,
        take: impl FnOnce(&Queue, &mut Head, &mut Effects) -> T,
    ) -> Poll<Option<T>> {
        if registered && self.is_next_awaited() {
            return Poll::Pending;
        }
        match self.visit_head(registered, ahead, take) {
            Visit::Taken(taken) => Poll::Ready(Some(taken)),
            Visit::Closed => Poll::Ready(None),
            Visit::Empty | Visit::Stalled { .. } => Poll::Pending,
        }
    }

    /// Whether a visit of the head would find nothing, and the sender of the next message will wake receivers, for the only
    /// receiver after its registration.
    ///
    /// Only receivers set WAITER, and the next reservation clears it. So the slot is still the one at the head, and holds
    /// no message after the last cut. Other threads never leave more to read of that cut than this receiver has.
    fn is_next_awaited(&self) -> bool {
        let state = self.queue.ring.slot(self.queue.ring.head()).load();
        let nothing_new = state.is_open() && state.is_fully_consumed();
        // ORDERING: Relaxed: written by the last visit of this receiver, or a later one; or by that of a receiver that was
        // dropped since, see `is_lone`.
        nothing_new && self.is_lone() && self.reading.caught_up.load(Ordering::Relaxed)
    }

    /// Calls `take` with the head if a message is readable now. Waits for the moment that the copy of a message takes, but
    /// not for a closure that writes one in place.
    pub(crate) fn try_with_head<T>(
        &self,
        ahead: &mut Ahead,
        mut take: impl FnMut(&Queue, &mut Head, &mut Effects) -> T,
    ) -> Result<T, TryRecvError> {
        loop {
            match self.visit_head(false, ahead, &mut take) {
                Visit::Taken(taken) => return Ok(taken),
                Visit::Closed => return Err(TryRecvError::Closed),
                Visit::Empty => return Err(TryRecvError::Empty),
                Visit::Stalled { in_place: true } => return Err(TryRecvError::Busy),
                // The visit has spun. The sender may need this core.
                Visit::Stalled { in_place: false } => yield_now(),
            }
        }
    }

    fn visit_head<T>(
        &self,
        registered: bool,
        ahead: &mut Ahead,
        take: impl FnOnce(&Queue, &mut Head, &mut Effects) -> T,
    ) -> Visit<T> {
        let mut effects = Effects::new(NotedSwitches::new(&self.events));
        let gives_back = !ahead.is_empty();
        if !gives_back {
            ahead.release();
        }
        let mut head = self.lock_head();
        let was_passed = head.take_back(ahead);
        let visit = loop {
            match head.poll_readable(&self.queue, &mut effects) {
                Readiness::Readable => break Visit::Taken(take(&self.queue, &mut head, &mut effects)),
                // It gives them back if it is dropped. It is not this one, which has given back.
                Readiness::Closed if head.has_claims() => break Visit::Empty,
                Readiness::Closed => break Visit::Closed,
                Readiness::Stalled if !registered || head.set_awaited() => {
                    break Visit::Stalled { in_place: head.is_in_place() };
                }
                Readiness::Empty
                    if !registered || !self.queue.on_demand() || head.set_waiter(&self.queue) =>
                {
                    break Visit::Empty;
                }
                Readiness::Stalled | Readiness::Empty => {}
            }
        };
        effects.given_back = was_passed && (head.has_returned() || self.is_closed());
        let waiters = self.room_waiters();
        if waiters.has_sleeper() && head.has_drained_active(&self.queue) {
            // The sender may need this memory, and only an attempt of its own would seal the segment. None is missed: it has
            // locked the head after its registration, and loads the ring slot after that. So either this thread sees it,
            // or it sees this segment open and seals it.
            head.release_drained_active(&self.queue, &mut effects);
        }
        self.before_unlock(&mut head, &mut effects);
        effects.released += head.take_released(&self.queue);
        // Under the lock: the background task locks the head too for its last check, after it has cleared the flag.
        let signal = &self.queue.pool.signal;
        if !signal.memory.is_set()
            && head.has_drained_active(&self.queue)
            && !head.is_kept_when_idle(&self.queue)
        {
            effects.memory_idle = signal.set_memory();
        }
        drop(head);
        if gives_back {
            ahead.release();
        }
        if registered && !matches!(visit, Visit::Taken(_)) {
            ahead.drop_arena();
        }
        self.apply_effects(effects);
        if registered && matches!(visit, Visit::Stalled { .. }) {
            self.watch_for_receivers();
        }
        visit
    }

    /// Calls `visit` with the head, for a thread that receives nothing.
    pub(super) fn with_head<T>(&self, visit: impl FnOnce(&mut Head, &mut Effects) -> T) -> T {
        let (result, effects) = self.visit_with_head(visit);
        self.apply_effects(effects);
        result
    }

    /// [`with_head`](Self::with_head) for a caller that applies the effects.
    fn visit_with_head<T>(&self, visit: impl FnOnce(&mut Head, &mut Effects) -> T) -> (T, Effects) {
        let mut effects = Effects::new(NotedSwitches::new(&self.events));
        let mut head = self.lock_head();
        let result = visit(&mut head, &mut effects);
        self.before_unlock(&mut head, &mut effects);
        drop(head);
        (result, effects)
    }

    /// Runs a callback with what a receiver took.
    pub(crate) fn run_callback(&self, callback: impl FnOnce()) {
        self.callbacks.call(callback);
    }

    /// Spins for the next message if the last spins were worth it; returns whether one seems readable.
    pub(crate) fn spin_for_message(&self) -> bool {
        self.queue.spin().spin_until(|| !self.seems_empty())
    }

    /// Whether there seems to be nothing to read. A hint, as it does not lock the head.
    pub(crate) fn seems_empty(&self) -> bool {
        let sequence = self.queue.ring.head();
        let state = self.queue.ring.slot(sequence).load();
        let nothing_new = match state.phase() {
            Phase::Open => !self.queue.on_demand() || state.is_fully_consumed(),
            Phase::Ready => true,
            Phase::Sealed | Phase::Closed => false,
        };
        // ORDERING: Relaxed: a hint, see `take_fast`.
        nothing_new && self.reading.caught_up.load(Ordering::Relaxed)
    }

    /// Retires sealed segments all of which was read, or is padding; returns whether that freed memory.
    ///
    /// A sender that finds no room calls it, because it may take long until a receiver locks the head again.
    #[cold]
    pub(crate) fn retire_drained_segments(&self) -> bool {
        self.with_head(|head, effects| head.retire_drained_segments(&self.queue, effects))
    }

    /// Completes the effects before the head is unlocked.
    #[inline(always)]
    fn before_unlock(&self, head: &mut Head, effects: &mut Effects) {
        effects.drained = head.take_drained(&self.queue, effects);
        // ORDERING: Relaxed: a hint.
        self.reading.caught_up.store(head.is_caught_up(), Ordering::Relaxed);
    }

    /// Applies the effects of what was done under the lock of the head, after the unlock.
    #[inline(always)]
    fn apply_effects(&self, effects: Effects) {
        if effects.is_empty() {
            // Its vectors own no memory: to drop them costs more than this check.
            mem::forget(effects);
        } else {
            self.apply_some_effects(effects);
        }
    }

    #[cold]
    #[inline(never)]
    fn apply_some_effects(&self, effects: Effects) {
        // No sender waits in a closed channel, and no switch is deferred.
        if effects.retired && !self.is_closed() {
            // Also if none was recycled: that the last one is lent lets senders pass one that cannot be served.
            self.wake_senders();
            self.resume_deferred();
        }
        if effects.memory_idle {
            self.queue.pool.signal.notify();
        }
        if effects.released > 0 {
            self.queue.pool.refund_external(effects.released);
        }
        if effects.sealed || effects.given_back {
            self.receivers_waiting().wake();
        }
        if effects.drained {
            self.drainers.wake();
        }
        drop(effects.spent);
        if !effects.discarded.is_empty() {
            self.drop_payloads(effects.discarded);
        }
        effects.switches.emit(&self.events);
    }

    /// Drops payloads, each of them even if the drop of another one panics.
    #[cold]
    fn drop_payloads(&self, payloads: Vec<Bytes>) {
        payloads.into_iter().for_each(|payload| self.drop_payload(payload));
    }

    /// Drops one payload, and counts a panic of its drop.
    pub(crate) fn drop_payload<P>(&self, payload: P) {
        self.payloads.call(|| drop(payload));
    }

    /// Has the background task watch unread messages after a receiver stopped waiting, maybe after it was woken.
    pub(crate) fn stopped_waiting(&self) {
        if self.is_timed() && self.active_segment(self.queue.ring.active()).is_some() {
            self.watch_unread();
        }
    }
}
