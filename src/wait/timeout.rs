//! Time limits of futures, also outside of a runtime.

use std::time::Duration;

use tokio::runtime::Handle;

/// Awaits `future` for at most `limit`; returns `None` once that has passed.
///
/// The current runtime keeps the time, or `fallback` outside of a runtime.
pub(crate) async fn timeout<T>(
    fallback: Option<&Handle>,
    limit: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    let timeout = {
        let is_outside = Handle::try_current().is_err();
        let _context = fallback.filter(|_| is_outside).map(Handle::enter);
        tokio::time::timeout(limit, future)
    };
    timeout.await.ok()
}
