//! Atomics, locks, `UnsafeCell` and `Notify`: what models look at imports them from here and from nowhere else, so that
//! under `--cfg turbostream_loom` the very same code runs on loom's model of them, and under
//! `--cfg turbostream_shuttle` on shuttle's.

#[cfg(not(turbostream_loom))]
pub(crate) use cell::*;
pub(crate) use imp::*;
#[cfg(any(turbostream_loom, turbostream_shuttle))]
pub(crate) use notify::*;

/// Alone on its cache lines, so that whoever writes it takes none of its neighbours away from other cores. Two lines
/// of 64 bytes, as some processors fetch them in pairs, and others have lines of 128.
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

#[cfg(not(any(turbostream_loom, turbostream_shuttle)))]
mod imp {
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
    pub(crate) use std::sync::{Mutex, MutexGuard, OnceLock, RwLock};
    pub(crate) use tokio::sync::Notify;
    pub(crate) use tokio::sync::futures::OwnedNotified;

    pub(crate) fn notified_owned(notify: &Arc<Notify>) -> OwnedNotified {
        Arc::clone(notify).notified_owned()
    }

    /// How often a wait looks again before it sleeps; spinning behind a peer is useless on one core.
    pub(crate) fn spin_limit() -> usize {
        static LIMIT: OnceLock<usize> = OnceLock::new();
        *LIMIT.get_or_init(|| match std::thread::available_parallelism() {
            Ok(cores) if cores.get() > 1 => 64,
            _ => 0,
        })
    }

    /// `count` zero words, from pages the system hands out zeroed and untouched.
    pub(crate) fn zeroed_words(count: usize) -> Box<[AtomicU64]> {
        const { assert!(align_of::<AtomicU64>() == align_of::<u64>()) };
        let words = Box::into_raw(vec![0_u64; count].into_boxed_slice());
        // SAFETY: `AtomicU64` has the size, the alignment (asserted above) and the bit validity of `u64`, and the
        // box is owned here alone.
        unsafe { Box::from_raw(words as *mut [AtomicU64]) }
    }
}

#[cfg(turbostream_loom)]
#[path = "sync_loom.rs"]
mod imp;

#[cfg(turbostream_shuttle)]
#[path = "sync_shuttle.rs"]
mod imp;

#[cfg(not(turbostream_loom))]
#[path = "sync_cell.rs"]
mod cell;

/// Neither checker sees into tokio's `Notify`.
#[cfg(any(turbostream_loom, turbostream_shuttle))]
#[path = "sync_notify.rs"]
mod notify;
