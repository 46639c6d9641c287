//! Catches panics of user code.
//!
//! A panic has a payload, which the code that panics chooses. The drop of that payload is user code too: it may panic
//! again. Therefore no other module calls `catch_unwind`.

use std::any::Any;
use std::mem;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs `code`; returns its panic if it panics.
///
/// It also works while the thread unwinds: the panic of `code` ends here.
#[inline]
pub(crate) fn catch<R>(code: impl FnOnce() -> R) -> Result<R, CaughtPanic> {
    catch_unwind(AssertUnwindSafe(code)).map_err(CaughtPanic)
}

/// A panic that was caught. Its drop does not panic.
pub(crate) struct CaughtPanic(Box<dyn Any + Send>);

impl CaughtPanic {
    /// Continues the panic.
    pub(crate) fn resume(mut self) -> ! {
        resume_unwind(self.take_payload())
    }

    fn take_payload(&mut self) -> Box<dyn Any + Send> {
        mem::replace(&mut self.0, Box::new(()))
    }
}

impl Drop for CaughtPanic {
    #[cold]
    fn drop(&mut self) {
        let payload = self.take_payload();
        if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            // Leaked: each drop may panic with yet another payload, without end.
            mem::forget(second);
        }
    }
}

/// A value of user code. A panic of its drop is caught.
pub(crate) struct CatchDrop<T>(Option<T>);

impl<T> CatchDrop<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    pub(crate) fn into_inner(mut self) -> T {
        self.0.take().expect("only the drop takes it too")
    }
}

impl<T> Deref for CatchDrop<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_ref().expect("present until the drop")
    }
}

impl<T> Drop for CatchDrop<T> {
    fn drop(&mut self) {
        if let Some(value) = self.0.take() {
            let _ = catch(|| drop(value));
        }
    }
}
