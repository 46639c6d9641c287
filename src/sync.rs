//! The only file that names std atomics, cells and `Notify`; everything else imports them from here, so
//! that under `--cfg turbostream_loom` the very same code runs on loom's model of them.

#![allow(unsafe_code)]

pub(crate) use imp::*;

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

#[cfg(not(turbostream_loom))]
mod imp {
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
    pub(crate) use std::sync::{Arc, Mutex, MutexGuard, RwLock};
    pub(crate) use tokio::sync::Notify;
    pub(crate) use tokio::sync::futures::OwnedNotified;

    pub(crate) fn notified_owned(notify: &Arc<Notify>) -> OwnedNotified {
        Arc::clone(notify).notified_owned()
    }

    /// How often a wait looks again before it sleeps; spinning behind a peer is useless on one core.
    pub(crate) fn spin_limit() -> usize {
        static LIMIT: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
        *LIMIT.get_or_init(|| match std::thread::available_parallelism() {
            Ok(cores) if cores.get() > 1 => 64,
            _ => 0,
        })
    }

    /// A cell whose accesses loom checks for data races; here it costs nothing.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub(crate) fn with<R>(&self, access: impl FnOnce(*const T) -> R) -> R {
            access(self.0.get())
        }

        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, access: impl FnOnce(*mut T) -> R) -> R {
            access(self.0.get())
        }
    }

    /// `count` zero words, from pages the system hands out zeroed and untouched.
    pub(crate) fn zeroed_words(count: usize) -> Box<[AtomicU64]> {
        const { assert!(align_of::<AtomicU64>() == align_of::<u64>()) };
        let words = Box::into_raw(vec![0_u64; count].into_boxed_slice());
        // SAFETY: `AtomicU64` has the size, the alignment (asserted above) and the bit validity of `u64`, and the
        // box is owned here alone.
        unsafe { Box::from_raw(words as *mut [AtomicU64]) }
    }

    /// Marks the memory of one message, so that loom can see races on it; nothing outside of models.
    #[derive(Debug, Default)]
    pub(crate) struct AccessLog;

    impl AccessLog {
        pub(crate) fn for_messages(_count: usize) -> Self {
            Self
        }
        #[inline(always)]
        pub(crate) fn writing<R>(&self, _message: usize, access: impl FnOnce() -> R) -> R {
            access()
        }
        #[inline(always)]
        pub(crate) fn reading<R>(&self, _message: usize, access: impl FnOnce() -> R) -> R {
            access()
        }
    }
}

#[cfg(turbostream_loom)]
#[path = "sync_loom.rs"]
mod imp;
