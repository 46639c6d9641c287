//! Waiting until everything that was accepted is out of the channel.

use tokio::task::coop;

use super::{Core, SwitchCause};
use crate::head::{Mark, Passed};

impl Core {
    /// Switches, and waits for what was accepted before.
    pub(crate) async fn drained(&self) -> Passed {
        let mark = self.mark();
        self.switch_place(mark.sequence, SwitchCause::Requested);
        coop::consume_budget().await;
        self.drainers.until(|attempt| self.has_passed(mark, attempt.enlisted)).await
    }

    /// Behind everything that is accepted by now.
    pub(super) fn mark(&self) -> Mark {
        let sequence = self.pending.active();
        // A place that was left meanwhile may say anything: the head is beyond it, whatever number comes with it.
        Mark { sequence, messages: self.pending.place(sequence).load().messages_written() }
    }

    /// What became of the messages before `mark`. Nothing if some are left; then, if `enlisted`, whoever takes the last
    /// of them is sure to wake all drainers.
    fn has_passed(&self, mark: Mark, enlisted: bool) -> Option<Passed> {
        self.visit(|head, after| {
            let passed = head.passed(self, mark, after);
            if passed.is_none() && enlisted {
                head.watch(mark);
            }
            passed
        })
    }

    /// A message that was reserved turned out to be none: drainers may have waited for it, or senders for the memory
    /// before it, and receivers do not come for it.
    pub(super) fn abandoned(&self) {
        // Tells drainers too, should their mark be passed by that: it is at the head, under its lock.
        self.leave_what_was_read();
    }
}
