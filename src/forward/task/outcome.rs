//! The end of a forwarder: what it gives back.

use std::mem;

use bytes::Bytes;

use super::{End, Running};
use crate::forward::destination::Destination;
use crate::forward::error::{ForwardError, ForwardErrorKind, Unconfirmed};
use crate::forward::packing::Packer;
use crate::forward::shared::{Outcome, Shared};
use crate::forward::stats::ForwardReport;
use crate::forward::window::{State, Window, messages_in};
use crate::sync::unwind::catch;

impl<D: Destination> Running<D> {
    /// Ends the forwarder: gives back what is not confirmed.
    pub(super) fn into_outcome(mut self, end: End, shared: &Shared) -> Outcome {
        let messages = match &end {
            End::Completed => Vec::new(),
            End::Failed(..) => self.take_unconfirmed(),
        };
        self.stats.connected = false;
        self.store_stats(shared);
        self.reports.report_rejected(self.now, &self.stats, &self.receiver.core().events);
        let Self { mut receiver, destination, on_rejected, last_error, stats, .. } = self;
        // Values of user code: each of them may panic when it is dropped.
        let _ = catch(|| drop(destination));
        let _ = catch(|| drop(on_rejected));
        match end {
            End::Completed => Ok(ForwardReport { stats, elapsed: self.now - self.started_at }),
            End::Failed(kind, source) => {
                receiver.deregister_own_waiter();
                receiver.set_read_mode(self.read_mode);
                let monitor = receiver.monitor();
                let unconfirmed = Box::new(Unconfirmed { messages, receiver: Some(receiver) });
                let error = ForwardError { kind, source: source.or(last_error), unconfirmed };
                if kind != ForwardErrorKind::TimedOut {
                    monitor.core().events.forwarder_failed(&error, error.unconfirmed.messages.len());
                }
                Err(error)
            }
        }
    }

    /// Takes all messages that are neither confirmed nor rejected, in order.
    fn take_unconfirmed(&mut self) -> Vec<Bytes> {
        self.window.settle_at_end();
        let mut messages = Vec::with_capacity(self.window.messages() + 1);
        let empty = Window::new(1, 0);
        for entry in mem::replace(&mut self.window, empty).into_entries() {
            match &entry.state {
                State::Confirmed(confirmation) => self.count_confirmed(&entry.outgoing, *confirmation),
                State::Rejected(rejection) if entry.outgoing.messages == 1 => {
                    self.report_rejected(&entry.outgoing, rejection);
                }
                _ => messages.extend(messages_in(&entry.outgoing, self.packing)),
            }
            self.receiver.core().drop_payload(entry);
        }
        // A pack that was begun when the destination panicked.
        if let Some(packed) = self.packer.as_mut().and_then(Packer::finish) {
            let outgoing = self.outgoing(packed);
            messages.extend(messages_in(&outgoing, self.packing));
        }
        messages.extend(self.carried.take());
        messages
    }
}
