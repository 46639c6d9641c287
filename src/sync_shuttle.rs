//! The same names as in `sync.rs`, on shuttle's model of them: sequentially consistent, so that it finds what a schedule
//! can do, and not what a weak ordering can.

pub(crate) use shuttle::hint::spin_loop;
pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use shuttle::sync::{Arc, Mutex, MutexGuard, RwLock};
pub(crate) use std::sync::OnceLock;

/// Spinning only adds schedules that sleeping has too.
pub(crate) fn spin_limit() -> usize {
    0
}

pub(crate) fn zeroed_words(count: usize) -> Box<[AtomicU64]> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}
