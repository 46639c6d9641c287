//! Panics in user code: wakers, strategies, payload drops, callbacks, closures and iterators.

mod send_closures;
mod sink_wakers;
mod user_code;

use std::panic::{AssertUnwindSafe, resume_unwind};

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
