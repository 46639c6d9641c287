//! The names of [`sync`](super) on shuttle's model of them.
//!
//! Shuttle is sequentially consistent: it finds the effects of schedules, and not those of weak orderings.

pub(crate) use shuttle::hint::spin_loop;
pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use shuttle::sync::{Arc, Mutex, MutexGuard, RwLock, Weak};
pub(crate) use shuttle::thread::yield_now;
pub(crate) use std::sync::OnceLock;

pub(crate) fn new_cyclic<T>(make: impl FnOnce(&Weak<T>) -> T) -> Arc<T> {
    Arc::new_cyclic(make)
}

pub(crate) fn downgrade<T>(arc: &Arc<T>) -> Weak<T> {
    Arc::downgrade(arc)
}

/// Spinning only adds schedules that sleeping has too.
pub(crate) fn spin_limit() -> usize {
    0
}

pub(crate) fn zeroed_words(count: usize) -> Box<[AtomicU64]> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}
