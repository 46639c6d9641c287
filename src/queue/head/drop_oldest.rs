//! Dropping the oldest messages to make room for the newest.

use super::{Effects, Head};
use crate::queue::Queue;
use crate::queue::segment::slot_state::Phase;
use crate::telemetry::stats::SwitchCause;

impl Head {
    /// Drops the unread messages of the oldest sealed segment. Returns false and drops none if that makes no room.
    /// The remaining messages of a lent segment free nothing; they are dropped only to reach a sealed segment after it.
    ///
    /// The caller has retired drained segments before. The active segment is sealed and dropped only if no sealed one
    /// is left, and only `for_external`: it releases memory only if external payloads lie in it.
    pub(crate) fn drop_oldest(&mut self, queue: &Queue, for_external: bool, effects: &mut Effects) -> bool {
        if !self.is_sealed(queue) {
            if !for_external || queue.pool.external_bytes() == 0 {
                return false;
            }
            effects.switches.add(queue.seal_under_lock(self.sequence, SwitchCause::Full));
            effects.sealed = true;
            if !self.is_sealed(queue) {
                return false;
            }
        }
        let following = queue.ring.slot(self.sequence.wrapping_add(1)).load().phase();
        let Some(current) = &mut self.current else { return false };
        current.drop_chunks();
        // A message that is not committed cannot be dropped. A segment to which received messages refer is not
        // recycled, so dropping its remaining messages makes no room. They are dropped only if a sealed segment
        // follows, which can be dropped next.
        if !current.is_committed() || (current.frees_nothing_if_dropped() && following != Phase::Sealed) {
            return false;
        }
        let dropped = current.discard_remaining(effects);
        self.dropped += dropped;
        self.dropped_oldest += dropped.messages;
        self.after_take(queue, effects);
        true
    }

    /// Whether the segment at the head is sealed. Then all of its messages become known.
    fn is_sealed(&mut self, queue: &Queue) -> bool {
        let state = queue.ring.slot(self.sequence).load();
        let sealed = state.phase() == Phase::Sealed;
        if sealed {
            self.extend_to(queue, state);
        }
        sealed
    }
}
