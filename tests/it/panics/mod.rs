//! Panics in user code: wakers, strategies, payload drops, callbacks, closures and iterators.

mod panic_payloads;
mod payload_drops;
mod send_closures;
mod sink_wakers;
mod tracing_output;
mod user_code;
mod value_drops;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use futures::FutureExt;
use turbostream::Sender;

/// Sends with a closure that panics. Returns whether the panic reached the caller.
pub(crate) async fn send_with_panicking(tx: &Sender, max_len: usize) -> bool {
    let write = |buf: &mut [u8]| -> usize {
        buf.fill(0xee);
        resume_unwind(Box::new("boom"))
    };
    AssertUnwindSafe(tx.send_with(max_len, write)).catch_unwind().await.is_err()
}

/// The payload of a panic; its drop panics with another one, as often as the number says.
struct NestedPanic(usize);

impl Drop for NestedPanic {
    fn drop(&mut self) {
        if self.0 > 0 {
            resume_unwind(Box::new(NestedPanic(self.0 - 1)));
        }
    }
}

/// Panics with a payload whose drop panics.
pub(crate) fn panic_nested() -> ! {
    resume_unwind(Box::new(NestedPanic(3)))
}

/// Runs a test in which nested panics occur. One that escapes fails the test, and is not dropped by its harness.
pub(crate) async fn contain_nested(test: impl Future<Output = ()>) {
    if let Err(panic) = AssertUnwindSafe(test).catch_unwind().await {
        if panic.is::<NestedPanic>() {
            std::mem::forget(panic);
            panic!("a nested panic escaped");
        }
        resume_unwind(panic);
    }
}

/// A value whose drop is counted, and panics.
pub(crate) struct PanicsOnDrop(pub(crate) Arc<AtomicUsize>);

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
        resume_unwind(Box::new("in a drop"));
    }
}

/// Drops `value` while this thread unwinds; returns whether the process survives with the panic that was under way.
pub(crate) fn drop_while_unwinding<T>(value: T) -> bool {
    let unwind = || {
        let _value = value;
        resume_unwind(Box::new("the task panics"));
    };
    let panic = catch_unwind(AssertUnwindSafe(unwind)).expect_err("it panics");
    panic.is::<&str>()
}
