//! Code of the user, run such that its panics go no further.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sync::{AtomicU64, Ordering};
use crate::telemetry::events::user_code_panicked;

/// Runs code of the user, and counts how often it panicked.
#[derive(Default)]
pub(crate) struct CatchPanic {
    panics: AtomicU64,
}

impl CatchPanic {
    /// What `code` returns; nothing if it panics.
    #[inline]
    pub(crate) fn call<R>(&self, code: impl FnOnce() -> R) -> Option<R> {
        let result = catch_unwind(AssertUnwindSafe(code)).ok();
        if result.is_none() {
            // ORDERING: Relaxed: a statistic.
            self.panics.fetch_add(1, Ordering::Relaxed);
            user_code_panicked();
        }
        result
    }

    pub(crate) fn panics(&self) -> u64 {
        // ORDERING: Relaxed: a statistic.
        self.panics.load(Ordering::Relaxed)
    }
}
