//! The names of [`sync`](super) on loom's model of them.

use std::cell::Cell;
use std::marker::PhantomData;

pub(crate) use loom::cell::UnsafeCell;
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use loom::sync::{Arc, Mutex, MutexGuard, RwLock};
pub(crate) use loom::thread::yield_now;
pub(crate) use std::sync::OnceLock;

/// Stands in for a weak reference: loom's `Arc` has none, and only background tasks, which models do not run, need one.
pub(crate) struct Weak<T>(PhantomData<T>);

impl<T> Weak<T> {
    pub(crate) fn upgrade(&self) -> Option<Arc<T>> {
        None
    }
}

impl<T> Clone for Weak<T> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

pub(crate) fn new_cyclic<T>(make: impl FnOnce(&Weak<T>) -> T) -> Arc<T> {
    Arc::new(make(&Weak(PhantomData)))
}

pub(crate) fn downgrade<T>(_: &Arc<T>) -> Weak<T> {
    Weak(PhantomData)
}

thread_local! {
    /// Loom runs all threads of a model on one thread of the system.
    static SPINS: Cell<usize> = const { Cell::new(0) };
}

/// Counts its calls, so that a model can assert that no thread waits for another one to run.
pub(crate) fn spin_loop() {
    SPINS.set(SPINS.get() + 1);
    loom::hint::spin_loop();
}

#[cfg(test)]
pub(crate) fn spins() -> usize {
    SPINS.get()
}

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

/// The messages of a lent slice. They are read until its owner is dropped: loom then checks that no thread has written to
/// them meanwhile, and that each later write happens after the drop.
pub(crate) struct LentAccess(std::ops::Range<usize>);

impl LentAccess {
    pub(crate) fn to(messages: std::ops::Range<usize>) -> Self {
        Self(messages)
    }
    pub(crate) fn end(&self, log: &AccessLog) {
        self.0.clone().for_each(|message| log.reading(message, || ()));
    }
}
