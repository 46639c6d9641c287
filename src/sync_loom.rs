//! The same names as in `sync.rs`, on loom's model of them.

pub(crate) use loom::cell::UnsafeCell;
pub(crate) use loom::hint::spin_loop;
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use loom::sync::{Arc, Mutex, MutexGuard, RwLock};
pub(crate) use std::sync::OnceLock;

/// Spinning only adds interleavings that sleeping has too.
pub(crate) fn spin_limit() -> usize {
    0
}

pub(crate) fn zeroed_words(count: usize) -> Box<[AtomicU64]> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

/// One cell for each message, accessed whenever its bytes are.
pub(crate) struct AccessLog(Box<[UnsafeCell<()>]>);

impl AccessLog {
    pub(crate) fn for_messages(count: usize) -> Self {
        Self((0..count).map(|_| UnsafeCell::new(())).collect())
    }
    pub(crate) fn writing<R>(&self, message: usize, access: impl FnOnce() -> R) -> R {
        self.0[message].with_mut(|_| access())
    }
    pub(crate) fn reading<R>(&self, message: usize, access: impl FnOnce() -> R) -> R {
        self.0[message].with(|_| access())
    }
}
