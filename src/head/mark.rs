//! How far the head has come, for those who wait until it has passed a certain message.

use super::{Aftermath, Head};
use crate::channel::Core;

/// A position in the order of messages: behind so many of a segment, and all before that segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) sequence: u64,
    pub(crate) messages: usize,
}

impl Mark {
    /// Whether what lies before `other` lies before this.
    fn reaches(self, other: Self) -> bool {
        match self.sequence.wrapping_sub(other.sequence) as i64 {
            0 => self.messages >= other.messages,
            ahead => ahead > 0,
        }
    }
}

/// What became of the messages before a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// They were handed out, or dropped to make room.
    Taken,
    /// Some were dropped because nobody was left to read them.
    Discarded,
}

impl Head {
    pub(crate) fn position(&self) -> Mark {
        let messages = self.current.as_ref().map_or(0, |current| current.position());
        Mark { sequence: self.sequence, messages }
    }

    /// What became of the messages before `mark`; nothing if some are left.
    pub(crate) fn passed(&mut self, core: &Core, mark: Mark, after: &mut Aftermath) -> Option<Passed> {
        if !self.position().reaches(mark) {
            // It may be nothing but padding, which no receiver comes to take.
            self.look_without_cut(core, after);
        }
        let discarded = |from: Mark| !from.reaches(mark);
        match self.discarded_from {
            _ if !self.position().reaches(mark) => None,
            Some(from) if discarded(from) => Some(Passed::Discarded),
            _ => Some(Passed::Taken),
        }
    }

    /// Has [`take_passed`](Self::take_passed) tell when `mark` is passed. One mark is kept, the first of all.
    pub(crate) fn watch(&mut self, mark: Mark) {
        if self.mark.is_none_or(|first| first.reaches(mark)) {
            self.mark = Some(mark);
        }
        self.note_mark();
    }

    /// Whether the mark was passed, which is then forgotten.
    #[inline]
    pub(crate) fn take_passed(&mut self, core: &Core, after: &mut Aftermath) -> bool {
        match self.mark {
            Some(mark) => self.take_if_passed(core, mark, after),
            None => false,
        }
    }

    #[cold]
    fn take_if_passed(&mut self, core: &Core, mark: Mark, after: &mut Aftermath) -> bool {
        if !self.position().reaches(mark) {
            // Nothing but padding may be left before it, and whoever took the last message may never come again.
            self.look_without_cut(core, after);
        }
        let passed = self.position().reaches(mark);
        if passed {
            self.mark = None;
            self.note_mark();
        }
        passed
    }

    /// A message that is followed by the mark must not be taken outside of a whole turn.
    pub(super) fn note_mark(&mut self) {
        let here = self.mark.is_some_and(|mark| mark.sequence == self.sequence);
        if let Some(current) = &mut self.current {
            current.take_quickly_unless(here);
        }
    }
}

#[cfg(all(test, not(turbostream_loom)))]
mod tests {
    use super::*;

    #[test]
    fn marks_have_an_order_across_the_wrap() {
        let mark = |sequence, messages| Mark { sequence, messages };
        let ordered = [mark(u64::MAX, 0), mark(u64::MAX, 7), mark(0, 0), mark(0, 3), mark(1, 0)];
        for (at, earlier) in ordered.iter().enumerate() {
            for (other, later) in ordered.iter().enumerate() {
                assert_eq!(later.reaches(*earlier), other >= at, "{later:?} {earlier:?}");
            }
        }
    }
}
