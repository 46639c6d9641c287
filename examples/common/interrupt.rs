//! The wish of the user to end this process.

/// Waits for Ctrl-C. On Unix, SIGTERM counts as one.
#[cfg(unix)]
pub(crate) async fn interrupt() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

/// Waits for Ctrl-C.
#[cfg(not(unix))]
pub(crate) async fn interrupt() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}
