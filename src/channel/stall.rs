//! Stalls: the message at the head is reserved, and its sender has not committed it yet.
//!
//! A sender commits by a plain store. A receiver that has to wait for it, or the thread that discards messages after the
//! last receiver has left, requests the [stall watcher](crate::wait::stall_watcher), which polls the channel. A
//! message that a closure writes may take any time. So the receiver also stores which entry it waits for, and the sender
//! checks that just before its commit, and wakes the receiver. It misses one that stores this between the check and the
//! commit: the watcher ends that wait too.

use super::Core;
use crate::sync::yield_now;
use crate::wait::stall_watcher::{Stalled, watch};

/// Under the checkers there is no watcher: a sleep with a bound is modelled as one that ends early.
const IS_MODEL: bool = cfg!(any(turbostream_loom, turbostream_shuttle));

impl Core {
    /// Ends the wait of receivers that have registered, and have found the channel stalled.
    #[cold]
    pub(super) fn watch_for_receivers(&self) {
        if !self.watch_stall() {
            // This thread checks once, and the receivers poll. The sender may need this core.
            yield_now();
            if self.check_stall() {
                self.receivers_waiting().wake();
            }
        }
        self.arm_watchdog();
    }

    /// Ends the wait of a drainer that has registered, after the last receiver has left.
    #[cold]
    pub(super) fn watch_for_drainers(&self) {
        if !self.watch_stall() {
            // As for receivers.
            yield_now();
            if self.check_stall() {
                self.drainers.wake();
            }
        }
    }

    /// Drops every message that was accepted, when no receiver is left to take it.
    ///
    /// The stall watcher continues at a message that is not committed, or the drop of the last handle.
    #[cold]
    pub(super) fn discard(&self) {
        while self.discard_committed() && !self.watch_stall() && IS_MODEL {
            yield_now();
        }
    }

    /// Drops every message up to one that is not committed; returns whether there is one.
    fn discard_committed(&self) -> bool {
        self.with_head(|head, effects| {
            head.drop_arena();
            head.discard(&self.queue, effects)
        })
    }

    fn watch_stall(&self) -> bool {
        watch(self.background.core())
    }

    /// Wakes the receivers that sleep for a message that a closure has written, or discards it if none is left.
    #[cold]
    pub(super) fn wake_after_closure(&self) {
        if self.receivers() == 0 {
            self.discard();
        }
        self.receivers_waiting().wake();
    }
}

impl Stalled for Core {
    fn check_stall(&self) -> bool {
        if self.receivers() == 0 {
            return self.discard_committed();
        }
        let is_stalled = self.with_head(|head, effects| head.is_stalled(&self.queue, effects));
        if !is_stalled {
            self.receivers_waiting().wake();
        }
        is_stalled
    }
}
