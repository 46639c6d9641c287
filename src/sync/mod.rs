//! Atomics, locks, cells, `Notify`, and the catch of panics, for the whole crate.
//!
//! All code that the checkers run imports these names from here. Exceptions are the `Arc` of types that user code
//! provides, such as strategies, and the lock on which a flush waits for the recorder: those are of std. Under
//! `--cfg turbostream_loom` the same code runs on loom's model of them, and under `--cfg turbostream_shuttle` on
//! shuttle's.

#[cfg(not(turbostream_loom))]
mod cell;
#[cfg(turbostream_loom)]
#[path = "loom.rs"]
mod imp;
#[cfg(turbostream_shuttle)]
#[path = "shuttle.rs"]
mod imp;
#[cfg(not(any(turbostream_loom, turbostream_shuttle)))]
#[path = "std.rs"]
mod imp;
pub(crate) mod short_lock;
pub(crate) mod unwind;

#[cfg(not(turbostream_loom))]
pub(crate) use cell::*;
pub(crate) use imp::*;
/// Wakes the background task, which the checkers do not run.
pub(crate) use tokio::sync::Notify;

/// Whether a thread may load a word to save an exchange of it that would change nothing.
///
/// Loom knows only the latest access to a word when it decides which threads to interleave there. A load just before an
/// exchange of the same thread would hide the loads of other threads, and loom would not try them after the exchange.
pub(crate) const SAVES_EXCHANGES: bool = !cfg!(turbostream_loom);

/// Keeps a value alone on its cache lines, so that writes to it do not evict its neighbours from other cores.
///
/// Two lines of 64 bytes: some processors fetch them in pairs, and others have lines of 128.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct CachePadded<T>(pub(crate) T);

impl<T> std::ops::Deref for CachePadded<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}
