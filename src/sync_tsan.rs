//! Locks that are compiled with the crate. ThreadSanitizer sees what it has instrumented, and those of the standard
//! library come compiled: it takes what they guard for a race.

use std::sync::LockResult;

pub(crate) use once_cell::sync::OnceCell as OnceLock;
pub(crate) use parking_lot::MutexGuard;
use parking_lot::{RwLockReadGuard, RwLockWriteGuard};

/// With the signatures of std, but never poisoned.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(parking_lot::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(parking_lot::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        Ok(self.0.lock())
    }
}

/// A lock for reading or writing that ThreadSanitizer sees into.
#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(parking_lot::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(parking_lot::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        Ok(self.0.read())
    }

    pub(crate) fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        Ok(self.0.write())
    }
}
