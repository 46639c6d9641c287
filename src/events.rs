//! What an operator should know of, as `tracing` events; nothing without the feature.

/// Code of the user panicked, and the panic was contained.
#[cfg(feature = "tracing")]
pub(crate) fn user_code_panicked() {
    tracing::error!(target: "turbostream", "code passed to a channel panicked; the channel goes on");
}

#[cfg(not(feature = "tracing"))]
pub(crate) fn user_code_panicked() {}
