//! Other shapes of the two ends; none has a way of its own to send or to receive.

pub(crate) mod callback;
pub(crate) mod reader;
mod sink;
pub(crate) mod stream;
#[cfg(feature = "tracing-writer")]
pub(crate) mod tracing_writer;
pub(crate) mod writer;
