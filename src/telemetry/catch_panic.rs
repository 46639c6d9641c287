//! The boundary to user code that may panic.

use crate::sync::unwind::catch;
use crate::sync::{AtomicU64, Ordering};
use crate::telemetry::events::user_code_panicked;

/// Runs user code, catches its panics and counts them.
///
/// Each call runs one piece of user code, such as the drop of one payload: a panic skips the rest of that piece.
#[derive(Default)]
pub(crate) struct CatchPanic {
    panics: AtomicU64,
}

impl CatchPanic {
    /// Runs `code`; returns `None` if it panics.
    #[inline]
    pub(crate) fn call<R>(&self, code: impl FnOnce() -> R) -> Option<R> {
        let result = catch(code).ok();
        if result.is_none() {
            // ORDERING: Relaxed: statistic only.
            self.panics.fetch_add(1, Ordering::Relaxed);
            user_code_panicked();
        }
        result
    }

    /// Returns how many calls panicked.
    pub(crate) fn panics(&self) -> u64 {
        // ORDERING: Relaxed: statistic only.
        self.panics.load(Ordering::Relaxed)
    }
}
