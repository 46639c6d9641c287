//! Stand-ins for types that only loom checks.

/// A cell whose accesses loom checks for data races; without loom it costs nothing.
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

/// Marks accesses to the bytes of one message, so that loom detects races on them; nothing without loom.
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

/// Marks the bytes of lent messages as read until the owner of the lent slice is dropped; nothing without loom.
#[derive(Debug)]
pub(crate) struct LentAccess;

impl LentAccess {
    #[inline(always)]
    pub(crate) fn to(_messages: std::ops::Range<usize>) -> Self {
        Self
    }
    #[inline(always)]
    pub(crate) fn end(&self, _log: &AccessLog) {}
}
