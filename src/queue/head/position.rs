//! How far the head has come, for those who wait until it has passed a certain message.

use super::{Effects, Head};
use crate::queue::Queue;

/// A position in the order of messages: behind so many of a segment, and all before that segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) sequence: u64,
    pub(crate) messages: usize,
}

impl Position {
    /// Whether what lies before `other` lies before this.
    fn reaches(self, other: Self) -> bool {
        match self.sequence.wrapping_sub(other.sequence) as i64 {
            0 => self.messages >= other.messages,
            ahead => ahead > 0,
        }
    }
}

/// What became of the messages before a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DrainOutcome {
    /// They were handed out, or dropped to make room.
    Taken,
    /// Some were dropped because nobody was left to read them.
    Discarded,
}

impl Head {
    pub(crate) fn position(&self) -> Position {
        let messages = self.current.as_ref().map_or(0, |current| current.position());
        Position { sequence: self.sequence, messages }
    }

    /// What became of the messages before `mark`; nothing if some are left.
    pub(crate) fn drain_outcome(
        &mut self,
        queue: &Queue,
        target: Position,
        effects: &mut Effects,
    ) -> Option<DrainOutcome> {
        if !self.position().reaches(target) {
            // It may be nothing but padding, which no receiver comes to take.
            self.poll_without_cut(queue, effects);
        }
        let discarded = |from: Position| !from.reaches(target);
        match self.discarded_from {
            _ if !self.position().reaches(target) => None,
            Some(from) if discarded(from) => Some(DrainOutcome::Discarded),
            _ => Some(DrainOutcome::Taken),
        }
    }

    /// Has [`take_drained`](Self::take_drained) tell when `mark` is passed. One mark is kept, the first of all.
    pub(crate) fn set_drain_target(&mut self, target: Position) {
        if self.drain_target.is_none_or(|first| first.reaches(target)) {
            self.drain_target = Some(target);
        }
        self.apply_drain_target();
    }

    /// Whether the mark was passed, which is then forgotten.
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
            // Nothing but padding may be left before it, and whoever took the last message may never come again.
            self.poll_without_cut(queue, effects);
        }
        let passed = self.position().reaches(target);
        if passed {
            self.drain_target = None;
            self.apply_drain_target();
        }
        passed
    }

    /// A message that is followed by the mark must not be taken outside of a whole turn.
    pub(super) fn apply_drain_target(&mut self) {
        let here = self.drain_target.is_some_and(|target| target.sequence == self.sequence);
        if let Some(current) = &mut self.current {
            current.set_fast_unless(here);
        }
    }
}

#[cfg(all(test, not(turbostream_loom)))]
mod tests {
    use super::*;

    #[test]
    fn marks_have_an_order_across_the_wrap() {
        let mark = |sequence, messages| Position { sequence, messages };
        let ordered = [mark(u64::MAX, 0), mark(u64::MAX, 7), mark(0, 0), mark(0, 3), mark(1, 0)];
        for (at, earlier) in ordered.iter().enumerate() {
            for (other, later) in ordered.iter().enumerate() {
                assert_eq!(later.reaches(*earlier), other >= at, "{later:?} {earlier:?}");
            }
        }
    }
}
