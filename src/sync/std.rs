//! The names of [`sync`](super), from the standard library and Tokio.

pub(crate) use std::hint::spin_loop;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use std::sync::{Arc, Weak};
pub(crate) use std::sync::{Mutex, MutexGuard, OnceLock, RwLock};
pub(crate) use std::thread::yield_now;

pub(crate) fn new_cyclic<T>(make: impl FnOnce(&Weak<T>) -> T) -> Arc<T> {
    Arc::new_cyclic(make)
}

pub(crate) fn downgrade<T>(arc: &Arc<T>) -> Weak<T> {
    Arc::downgrade(arc)
}

/// Returns the length of a spin before a thread sleeps, in iterations: 0 on one core, where the other side cannot run.
/// A spin with back-off takes up to four times as many.
pub(crate) fn spin_limit() -> usize {
    static LIMIT: OnceLock<usize> = OnceLock::new();
    *LIMIT.get_or_init(|| match std::thread::available_parallelism() {
        Ok(cores) if cores.get() > 1 => 64,
        _ => 0,
    })
}

// `zeroed_words` makes `AtomicU64` of `u64`.
const _: () = {
    assert!(size_of::<AtomicU64>() == size_of::<u64>());
    assert!(align_of::<AtomicU64>() == align_of::<u64>());
};

/// Allocates `count` zero words from pages that the system provides zeroed and untouched.
pub(crate) fn zeroed_words(count: usize) -> Box<[AtomicU64]> {
    let words = Box::into_raw(vec![0_u64; count].into_boxed_slice());
    // SAFETY: `AtomicU64` has the size and the alignment (both asserted above) and the bit validity of `u64`, and this
    // function alone owns the box.
    unsafe { Box::from_raw(words as *mut [AtomicU64]) }
}
