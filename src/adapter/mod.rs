//! Adapters: a sender or a receiver as another interface.
//!
//! None has a path of its own to send or to receive: each calls methods of `sender/` and `receiver/`.

pub(crate) mod callback;
pub(crate) mod reader;
mod sink;
pub(crate) mod stream;
#[cfg(feature = "tracing-writer")]
pub(crate) mod tracing_writer;
pub(crate) mod writer;
