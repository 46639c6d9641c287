//! What a thread does after it has unlocked the head.

use bytes::Bytes;

use super::ahead::SpentRange;
use crate::telemetry::events::NotedSwitches;

/// Work noted under the lock of the head, and applied after it is unlocked.
#[derive(Default)]
pub(crate) struct Effects {
    /// A segment was retired.
    pub(crate) retired: bool,
    /// All known messages were taken, and the background task must be notified to check whether memory can be freed.
    pub(crate) memory_idle: bool,
    /// Whether a segment has returned to the pool.
    pub(crate) recycled: bool,
    /// Bytes of external payloads that have left the channel.
    pub(crate) released: usize,
    /// The segment at the head was sealed: receivers may sleep at its ring slot, or wait for the seal.
    pub(crate) sealed: bool,
    /// Messages were given back that others have passed, and some are left: receivers may sleep.
    pub(crate) given_back: bool,
    /// The head has reached the drain target.
    pub(crate) drained: bool,
    /// Ranges to drop: that may pool segments.
    pub(crate) spent: Vec<SpentRange>,
    /// Payloads to drop.
    pub(crate) discarded: Vec<Bytes>,
    /// Switches to emit as events.
    pub(crate) switches: NotedSwitches,
}

impl Effects {
    /// Whether there is nothing to apply. Then no vector has memory: none is emptied while the head is locked.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        let flags = self.retired | self.memory_idle | self.sealed | self.given_back | self.drained;
        !flags
            && self.released == 0
            && self.spent.is_empty()
            && self.discarded.is_empty()
            && self.switches.is_empty()
    }

    /// Returns what a visit of the head starts with.
    #[inline]
    pub(crate) fn new(switches: NotedSwitches) -> Self {
        Self { switches, ..Self::default() }
    }
}
