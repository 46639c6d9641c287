//! A lock for critical sections of some instructions to some microseconds, in which no user code runs.
//!
//! It is locked by one exchange, and unlocked by a store: half of what a mutex pays, whose unlock has to learn whether a thread
//! sleeps. So no thread is woken by an unlock. A thread that waits spins, then yields its core, as the owner may need it, and
//! then sleeps for 20 µs, and then up to 640 µs at a time. The owner is preempted in the middle of its instructions if the wait comes
//! to that.
//!
//! In models of a channel it is the mutex of the checker: to that, a waiter that polls is one that is woken early. A model of
//! its own checks the lock itself.

#[cfg(any(turbostream_loom, turbostream_shuttle))]
pub(crate) use self::model::{ShortGuard, ShortLock};
#[cfg(not(any(turbostream_loom, turbostream_shuttle)))]
pub(crate) use self::real::{ShortGuard, ShortLock};

#[cfg_attr(
    any(turbostream_loom, turbostream_shuttle),
    allow(dead_code, reason = "only its own model uses it")
)]
pub(crate) mod real {
    use std::marker::PhantomData;
    use std::ops::{Deref, DerefMut};
    use std::panic::{RefUnwindSafe, UnwindSafe};
    use std::thread;
    use std::time::Duration;

    use crate::sync::{AtomicBool, Ordering, UnsafeCell, spin_limit, spin_loop, yield_now};

    /// After this many pauses, which are spins at first and then yields, a thread sleeps.
    const YIELDS_UNTIL: u32 = 20;
    const FIRST_SLEEP: Duration = Duration::from_micros(20);
    /// How often the sleep doubles.
    const SLEEP_DOUBLINGS: u32 = 5;

    /// See the module.
    #[derive(Debug)]
    pub(crate) struct ShortLock<T> {
        is_locked: AtomicBool,
        value: UnsafeCell<T>,
    }

    // SAFETY: as for a mutex: one thread at a time gets at the value, and may take it out.
    unsafe impl<T: Send> Send for ShortLock<T> {}
    // SAFETY: as for Send.
    unsafe impl<T: Send> Sync for ShortLock<T> {}

    // No user code runs while it is locked, so no panic of a user's leaves the value half changed.
    impl<T> UnwindSafe for ShortLock<T> {}
    impl<T> RefUnwindSafe for ShortLock<T> {}

    impl<T> ShortLock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self { is_locked: AtomicBool::new(false), value: UnsafeCell::new(value) }
        }

        #[inline(always)]
        pub(crate) fn lock(&self) -> ShortGuard<'_, T> {
            self.try_lock().unwrap_or_else(|| self.lock_contended())
        }

        #[inline(always)]
        fn try_lock(&self) -> Option<ShortGuard<'_, T>> {
            // ORDERING: Acquire: pairs with the Release in `ShortGuard::drop`; makes visible what other owners did.
            let taken =
                self.is_locked.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
            taken.then(|| ShortGuard { lock: self, _not_send: PhantomData })
        }

        #[cold]
        #[inline(never)]
        fn lock_contended(&self) -> ShortGuard<'_, T> {
            let mut pauses = 0_u32;
            loop {
                // Growing pauses: each check may take the cache line away from the owner.
                match pauses {
                    _ if 1 << pauses <= 2 * spin_limit() => (0..1 << pauses).for_each(|_| spin_loop()),
                    ..YIELDS_UNTIL => yield_now(),
                    _ if cfg!(any(turbostream_loom, turbostream_shuttle)) => yield_now(),
                    #[allow(clippy::disallowed_methods, reason = "an unlock wakes no thread")]
                    _ => thread::sleep(FIRST_SLEEP * (1 << (pauses - YIELDS_UNTIL))),
                }
                pauses = (pauses + 1).min(YIELDS_UNTIL + SLEEP_DOUBLINGS);
                // ORDERING: Relaxed: a guess, which leaves the cache line with the owner; the exchange decides.
                if !self.is_locked.load(Ordering::Relaxed) {
                    if let Some(guard) = self.try_lock() {
                        return guard;
                    }
                }
            }
        }
    }

    /// The right to access the value, until it is dropped.
    pub(crate) struct ShortGuard<'a, T> {
        lock: &'a ShortLock<T>,
        _not_send: PhantomData<*const ()>,
    }

    impl<T> Deref for ShortGuard<'_, T> {
        type Target = T;
        #[inline(always)]
        fn deref(&self) -> &T {
            // SAFETY: this guard has set `is_locked`, so no other one exists until it is dropped.
            self.lock.value.with(|value| unsafe { &*value })
        }
    }

    impl<T> DerefMut for ShortGuard<'_, T> {
        #[inline(always)]
        fn deref_mut(&mut self) -> &mut T {
            // SAFETY: as in `deref`; and this guard is borrowed exclusively.
            self.lock.value.with_mut(|value| unsafe { &mut *value })
        }
    }

    impl<T> Drop for ShortGuard<'_, T> {
        #[inline(always)]
        fn drop(&mut self) {
            // ORDERING: Release: pairs with the Acquire in `try_lock`; what this owner did is visible to the next one.
            self.lock.is_locked.store(false, Ordering::Release);
        }
    }

    #[cfg(all(test, not(any(turbostream_loom, turbostream_shuttle))))]
    mod tests {
        use super::*;

        #[test]
        fn owners_exclude_each_other_and_a_panic_unlocks() {
            let lock = ShortLock::new((0_u64, 0_u64));
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for _ in 0..20_000 {
                            let mut value = lock.lock();
                            value.0 += 1;
                            let seen = value.0;
                            value.1 += 1;
                            assert_eq!((value.0, value.1), (seen, seen));
                        }
                    });
                }
                let owner = scope.spawn(|| {
                    let _guard = lock.lock();
                    panic!("while it is locked");
                });
                assert!(owner.join().is_err());
            });
            assert_eq!(*lock.lock(), (80_000, 80_000));
        }
    }
}

#[cfg(any(turbostream_loom, turbostream_shuttle))]
mod model {
    use std::sync::PoisonError;

    use crate::sync::{Mutex, MutexGuard};

    pub(crate) type ShortGuard<'a, T> = MutexGuard<'a, T>;

    /// See the module.
    #[derive(Debug)]
    pub(crate) struct ShortLock<T>(Mutex<T>);

    impl<T> ShortLock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> ShortGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}
