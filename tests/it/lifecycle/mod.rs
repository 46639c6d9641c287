//! Lifecycle: handles, closing, dropping, and auto traits of handles and futures.

mod auto_traits;
mod close;
mod handles;
