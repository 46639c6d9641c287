//! Waiting until everything that was accepted is out of the channel.

use tokio::task::coop;

use super::Core;
use crate::queue::head::{DrainOutcome, Position};
use crate::telemetry::stats::SwitchCause;

impl Core {
    /// Switches, and waits for what was accepted before.
    pub(crate) async fn drained(&self) -> DrainOutcome {
        let target = self.written_position();
        self.switch_slot(target.sequence, SwitchCause::Requested);
        coop::consume_budget().await;
        self.drainers.wait_until(|state| self.drain_outcome(target, state.registered)).await
    }

    /// Behind everything that is accepted by now.
    pub(super) fn written_position(&self) -> Position {
        let sequence = self.queue.ring.active();
        // A slot that was left meanwhile may say anything: the head is beyond it, whatever number comes with it.
        Position { sequence, messages: self.queue.ring.slot(sequence).load().messages_written() }
    }

    /// What became of the messages before `mark`. Nothing if some are left; then, if `registered`, whoever takes the last
    /// of them is sure to wake all drainers.
    fn drain_outcome(&self, target: Position, registered: bool) -> Option<DrainOutcome> {
        self.with_head(|head, effects| {
            let outcome = head.drain_outcome(&self.queue, target, effects);
            if outcome.is_none() && registered {
                head.set_drain_target(target);
            }
            outcome
        })
    }

    /// A message that was reserved turned out to be none: drainers may have waited for it, or senders for the memory
    /// before it, and receivers do not come for it.
    pub(super) fn abandoned(&self) {
        // Tells drainers too, should their mark be passed by that: it is at the head, under its lock.
        self.retire_drained_segments();
    }
}
