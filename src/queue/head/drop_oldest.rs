//! Dropping the oldest messages to make room for the newest.

use super::segment_cursor::SegmentCursor;
use super::{Effects, Head};
use crate::queue::Queue;
use crate::queue::segment::slot_state::Phase;
use crate::telemetry::stats::SwitchCause;

impl Head {
    /// Drops the unread messages of the oldest sealed segment. Returns false and drops none if that makes no room.
    /// The remaining messages of a lent segment free nothing; they are dropped only to reach a sealed segment after it.
    ///
    /// `external` is the length of an external payload that needs the room. Nothing is dropped for one that would not fit
    /// if all unread messages were dropped, as too much memory is lent.
    ///
    /// The caller has retired drained segments before. The active segment is sealed and dropped only if no sealed one
    /// is left, and only for an external payload: it releases memory only if external payloads lie in it.
    pub(crate) fn drop_oldest(
        &mut self,
        queue: &Queue,
        external: Option<usize>,
        effects: &mut Effects,
    ) -> bool {
        if external.is_some_and(|len| !self.could_fit_external(queue, len)) {
            return false;
        }
        if !self.is_sealed(queue) {
            if external.is_none() || queue.pool.used_and_external_bytes().1 == 0 {
                return false;
            }
            effects.switches.add(queue.seal_without_wake(self.sequence, SwitchCause::Full));
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

    /// Whether an external payload of `len` bytes would fit if all unread messages were dropped.
    ///
    /// Then only lent segments would hold memory, and a new segment with the entry of the payload: the segment at the head
    /// is sealed before its messages are dropped.
    fn could_fit_external(&mut self, queue: &Queue, len: usize) -> bool {
        let pool = &queue.pool;
        let lent = self.current.as_mut().and_then(SegmentCursor::lent_segment);
        let head = lent.map_or(0, |number| pool.footprint_of(number));
        pool.lent_bytes() + head + pool.footprint() + len <= pool.max_bytes()
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
