//! Draining: a sender waits until every message accepted so far is out of the channel.
//!
//! If sinks have parked items, the drainer switches, and waits until these are written. It then notes the position after
//! the last reserved message as its target, switches, and waits until the head has passed the target. The head keeps the
//! earliest target of all drainers; the thread that passes it wakes them all, and those that are not done set theirs again.

use tokio::task::coop;

use super::Core;
use crate::queue::head::{DrainOutcome, Position};
use crate::telemetry::stats::SwitchCause;

impl Core {
    /// Switches, and waits until the messages accepted before are out of the channel.
    pub(crate) async fn drained(&self) -> DrainOutcome {
        if let Some(next_parked) = self.parked().next() {
            self.switch();
            self.drainers.wait_until(|_| (!self.parked().has_before(next_parked)).then_some(())).await;
        }
        let target = self.written_position();
        self.switch_slot(target.sequence, SwitchCause::Requested);
        coop::consume_budget().await;
        self.drainers.wait_until(|registered| self.drain_outcome(target, registered)).await
    }

    /// Returns the position after every message reserved so far.
    pub(super) fn written_position(&self) -> Position {
        let sequence = self.queue.ring.active();
        // If the slot was retired meanwhile, its word has nothing to do with `sequence`. That is harmless: the head has
        // passed `sequence`, so any count compares as reached.
        Position { sequence, messages: self.queue.ring.slot(sequence).load().reserved_messages() }
    }

    /// Returns what became of the messages before `target`, or `None` if some are left.
    ///
    /// In the second case, if the drainer is `registered`, the thread that takes the last of them wakes all drainers.
    fn drain_outcome(&self, target: Position, registered: bool) -> Option<DrainOutcome> {
        let outcome = self.with_head(|head, effects| {
            let outcome = head.drain_outcome(&self.queue, target, effects);
            if outcome.is_none() && registered {
                head.set_drain_target(target);
            }
            outcome
        });
        if outcome.is_none() && registered && self.receivers() == 0 {
            self.watch_for_drainers();
        }
        outcome
    }

    /// Passes padding at the head, after a reservation was abandoned.
    ///
    /// Drainers may wait for that entry, and senders for the memory of its segment. A receiver that sleeps at the entry, or
    /// at its ring slot, is woken as after any commit.
    pub(super) fn pass_padding(&self) {
        // This wakes drainers too, if the head passes their target.
        self.retire_drained_segments();
    }
}
