//! Dropping the oldest messages to make room for the newest.

use super::{Aftermath, Head};
use crate::channel::{Core, SwitchCause};
use crate::segment::state::Kind;

impl Head {
    /// Drops what is unread of the oldest sealed segment, what was read being left; false, and nothing is dropped, if
    /// that would make no room.
    ///
    /// The active segment comes last, and only `for_reference`: it has memory to give where payloads that travel by
    /// reference are in it.
    pub(crate) fn drop_oldest(&mut self, core: &Core, for_reference: bool, after: &mut Aftermath) -> bool {
        if !self.is_sealed(core) {
            if !for_reference || core.pool().referenced_bytes() == 0 {
                return false;
            }
            after.note(core.switch_in_turn(self.sequence, SwitchCause::Full));
            if !self.is_sealed(core) {
                return false;
            }
        }
        let following = core.pending().place(self.sequence.wrapping_add(1)).load().kind();
        let Some(current) = &mut self.current else { return false };
        current.let_pieces_go();
        // What a writer is still at cannot be dropped, and what is lent is not given back: nor is what lies behind it
        // in the same segment, so it goes only where it is in the way of what can be.
        if !current.is_committed() || (current.is_lent_alone() && following != Kind::Sealed) {
            return false;
        }
        let dropped = current.discard_rest(after);
        self.dropped += dropped;
        self.dropped_oldest += dropped.messages;
        self.took(core, after);
        true
    }

    /// Whether the segment at the head is sealed; then all of its messages are known.
    fn is_sealed(&mut self, core: &Core) -> bool {
        let state = core.pending().place(self.sequence).load();
        let sealed = state.kind() == Kind::Sealed;
        if sealed {
            self.take_in(core, state);
        }
        sealed
    }
}
