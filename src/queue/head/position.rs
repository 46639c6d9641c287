//! The position of the head, and the position that drainers wait for.
//!
//! 1. A drainer takes the position after the last reserved message as its target.
//! 2. It registers, locks the head, and checks the target by [`Head::drain_outcome`]. If the head has not reached it,
//!    the drainer sets it by [`Head::set_drain_target`] and sleeps. The head keeps one target, the first in order.
//! 3. The thread that moves the head to the target clears it by [`Head::take_drained`], and wakes all drainers. Those
//!    whose own target is later register again.
//!
//! The head's lock orders the two sides: the drainer has registered before it sets the target under the lock, so the
//! thread that finds the target reached under the lock finds the drainer in the wait list.

use super::{Effects, Head};
use crate::queue::Queue;

/// A position in the order of messages: after `messages` of the segment at `sequence`, and all earlier segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) sequence: u64,
    pub(crate) messages: usize,
}

impl Position {
    /// Whether all messages before `other` are also before this position.
    pub(super) fn reaches(self, other: Self) -> bool {
        match self.sequence.wrapping_sub(other.sequence) as i64 {
            0 => self.messages >= other.messages,
            ahead => ahead > 0,
        }
    }
}

/// What became of the messages before a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DrainOutcome {
    /// They were received, or dropped to make room.
    Taken,
    /// Some were dropped because the last receiver had left.
    Discarded,
}

impl Head {
    pub(crate) fn position(&self) -> Position {
        let messages = self.current.as_ref().map_or(0, |current| current.position());
        Position { sequence: self.sequence, messages }
    }

    /// Returns what became of the messages before `target`; nothing if some are left.
    pub(crate) fn drain_outcome(
        &mut self,
        queue: &Queue,
        target: Position,
        effects: &mut Effects,
    ) -> Option<DrainOutcome> {
        if !self.position().reaches(target) {
            // It is possible that only padding is left before it, for which no receiver locks the head.
            self.poll_without_cut(queue, effects);
        }
        let discarded = |from: Position| !from.reaches(target);
        match self.discarded_from {
            _ if !self.has_handed_out(target) => None,
            Some(from) if discarded(from) => Some(DrainOutcome::Discarded),
            _ => Some(DrainOutcome::Taken),
        }
    }

    /// Whether the head has reached `target`, and nothing that was claimed before it is left.
    fn has_handed_out(&self, target: Position) -> bool {
        self.position().reaches(target) && self.has_handed_out_claims(target)
    }

    /// Sets the target of [`take_drained`](Self::take_drained). If there is one already, the earlier one is kept.
    pub(crate) fn set_drain_target(&mut self, target: Position) {
        if self.drain_target.is_none_or(|first| first.reaches(target)) {
            self.drain_target = Some(target);
        }
        self.apply_drain_target();
    }

    /// Whether the head has reached the drain target. Then it clears the target.
    #[inline]
    pub(crate) fn take_drained(&mut self, queue: &Queue, effects: &mut Effects) -> bool {
        match self.drain_target {
            Some(target) => self.take_if_drained(queue, target, effects),
            None => false,
        }
    }

    #[cold]
    fn take_if_drained(&mut self, queue: &Queue, target: Position, effects: &mut Effects) -> bool {
        if !self.position().reaches(target) {
            // It is possible that only padding is left before it, and that no receiver locks the head again.
            self.poll_without_cut(queue, effects);
        }
        let reached = self.has_handed_out(target);
        if reached {
            self.drain_target = None;
            self.apply_drain_target();
        }
        reached
    }

    /// Disables the fast path in the segment of the drain target: it does not check whether the target is reached.
    pub(super) fn apply_drain_target(&mut self) {
        let has_target = self.drain_target.is_some_and(|target| target.sequence == self.sequence);
        if let Some(current) = &mut self.current {
            current.disable_fast_if(has_target);
        }
    }
}

#[cfg(all(test, not(turbostream_loom)))]
mod tests {
    use super::*;

    #[test]
    fn positions_are_ordered_across_the_wrap() {
        let at = |sequence, messages| Position { sequence, messages };
        let ordered = [at(u64::MAX, 0), at(u64::MAX, 7), at(0, 0), at(0, 3), at(1, 0)];
        for (i, earlier) in ordered.iter().enumerate() {
            for (j, later) in ordered.iter().enumerate() {
                assert_eq!(later.reaches(*earlier), j >= i, "{later:?} {earlier:?}");
            }
        }
    }
}
