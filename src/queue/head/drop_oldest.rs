//! Dropping the oldest messages to make room for the newest.

use super::{Effects, Head};
use crate::queue::Queue;
use crate::queue::segment::slot_state::Phase;
use crate::telemetry::stats::SwitchCause;

impl Head {
    /// Drops what is unread of the oldest sealed segment, what was read being left; false, and nothing is dropped, if
    /// that would make no room.
    ///
    /// The active segment comes last, and only `for_external`: it has memory to give where payloads that travel by
    /// reference are in it.
    pub(crate) fn drop_oldest(&mut self, queue: &Queue, for_external: bool, effects: &mut Effects) -> bool {
        if !self.is_sealed(queue) {
            if !for_external || queue.pool.external_bytes() == 0 {
                return false;
            }
            effects.note(queue.seal_under_lock(self.sequence, SwitchCause::Full));
            if !self.is_sealed(queue) {
                return false;
            }
        }
        let following = queue.ring.slot(self.sequence.wrapping_add(1)).load().phase();
        let Some(current) = &mut self.current else { return false };
        current.drop_chunks();
        // What a writer is still at cannot be dropped, and what is lent is not given back: nor is what lies behind it
        // in the same segment, so it goes only where it is in the way of what can be.
        if !current.is_committed() || (current.is_lent_alone() && following != Phase::Sealed) {
            return false;
        }
        let dropped = current.discard_rest(effects);
        self.dropped += dropped;
        self.dropped_oldest += dropped.messages;
        self.after_take(queue, effects);
        true
    }

    /// Whether the segment at the head is sealed; then all of its messages are known.
    fn is_sealed(&mut self, queue: &Queue) -> bool {
        let state = queue.ring.slot(self.sequence).load();
        let sealed = state.phase() == Phase::Sealed;
        if sealed {
            self.extend_to(queue, state);
        }
        sealed
    }
}
