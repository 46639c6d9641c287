//! What was not done: messages that were refused, and reads that failed.

use super::{Core, Refusal};
use crate::monitor::SendErrors;
use crate::sync::{AtomicU64, Ordering};

/// Written by whoever gets an error, read for figures.
#[derive(Default)]
pub(super) struct Failures {
    full: AtomicU64,
    closed: AtomicU64,
    too_large: AtomicU64,
    timed_out: AtomicU64,
    read_timeouts: AtomicU64,
}

impl Failures {
    pub(super) fn send_errors(&self) -> SendErrors {
        // ORDERING: Relaxed: figures, here and below.
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SendErrors {
            full: count(&self.full),
            closed: count(&self.closed),
            too_large: count(&self.too_large),
            timed_out: count(&self.timed_out),
        }
    }

    pub(super) fn read_timeouts(&self) -> u64 {
        self.read_timeouts.load(Ordering::Relaxed)
    }
}

impl Core {
    /// A sender is told why its message was not accepted.
    #[cold]
    pub(crate) fn count_refusal(&self, refusal: Refusal) {
        let counter = match refusal {
            Refusal::Full => &self.failures.full,
            Refusal::Closed => &self.failures.closed,
            Refusal::TooLarge { .. } => &self.failures.too_large,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.look_for_trouble();
    }

    /// A sender is told that there was no room in time.
    #[cold]
    pub(crate) fn count_send_timeout(&self) {
        self.failures.timed_out.fetch_add(1, Ordering::Relaxed);
        self.look_for_trouble();
    }

    /// A receiver is told that nothing came in time.
    #[cold]
    pub(crate) fn count_recv_timeout(&self) {
        self.failures.read_timeouts.fetch_add(1, Ordering::Relaxed);
    }
}
