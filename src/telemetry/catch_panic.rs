//! The boundary to user code that may panic.

use crate::sync::unwind::catch;
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::telemetry::events::user_code_panicked;

/// Runs user code, catches its panics and counts them.
///
/// Each call runs one piece of user code, such as the drop of one payload: a panic skips the rest of that piece.
#[derive(Default)]
pub(crate) struct CatchPanic {
    panics: AtomicU64,
    is_silent: AtomicBool,
}

impl CatchPanic {
    /// Runs `code`; returns `None` if it panics.
    #[inline]
    pub(crate) fn call<R>(&self, code: impl FnOnce() -> R) -> Option<R> {
        let result = catch(code).ok();
        if result.is_none() {
            // ORDERING: Relaxed: statistic only.
            self.panics.fetch_add(1, Ordering::Relaxed);
            // ORDERING: Relaxed: a thread that does not see it yet emits one more event.
            if !self.is_silent.load(Ordering::Relaxed) {
                user_code_panicked();
            }
        }
        result
    }

    /// Emits no event for a panic from now on.
    pub(crate) fn silence(&self) {
        // ORDERING: Relaxed: see `call`.
        self.is_silent.store(true, Ordering::Relaxed);
    }

    /// Returns how many calls panicked.
    pub(crate) fn panics(&self) -> u64 {
        // ORDERING: Relaxed: statistic only.
        self.panics.load(Ordering::Relaxed)
    }
}
