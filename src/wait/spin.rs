//! Spinning: repeated checks for some microseconds before a thread does something slower.
//!
//! These functions do not spin on one core, where the other side could not run meanwhile.

use crate::sync::{AtomicU32, Ordering, spin_limit, spin_loop};

/// Repeats `done` at each iteration of a spin; returns whether it became true.
pub(crate) fn spin_until(mut done: impl FnMut() -> bool) -> bool {
    done()
        || (0..spin_limit()).any(|_| {
            spin_loop();
            done()
        })
}

/// Calls `done` after `pause` iterations, and then each time after twice as many; returns whether it became true.
///
/// The pauses grow because each check may take a cache line away from the core that writes it.
pub(crate) fn spin_backoff_until(mut pause: usize, mut done: impl FnMut() -> bool) -> bool {
    while pause <= 2 * spin_limit() {
        (0..pause).for_each(|_| spin_loop());
        if done() {
            return true;
        }
        pause *= 2;
    }
    false
}

/// Spins after a failed exchange on a word that many threads change.
///
/// A thread that repeats its exchange at once takes the cache line away from the threads that succeed. It spins for some
/// microseconds, in which another one makes a hundred exchanges in its own cache.
#[cold]
#[inline(never)]
pub(crate) fn back_off() {
    (0..2 * spin_limit()).for_each(|_| spin_loop());
}

/// The number of waits without a spin after the first spin that was not worth it. It doubles each time.
const SKIPPED_AT_FIRST: u32 = 4;
const SKIPPED_AT_MOST: u32 = 16 * 1024;
/// A spin is worth it if at least this many messages arrived. Where they arrive one by one, as answers or at a pace of
/// their own, two cores that watch each other are slower than one that runs both sides in turn.
const WORTHWHILE_MESSAGES: usize = 2;
/// Iterations before the first check.
const FIRST_PAUSE: usize = 4;

/// Decides whether a receiver spins before it sleeps, by whether several messages arrived soon after the last times.
#[derive(Default)]
pub(crate) struct AdaptiveSpin {
    /// How many of the next waits do not spin.
    skip: AtomicU32,
    /// What `skip` was set to last.
    skipped: AtomicU32,
}

impl AdaptiveSpin {
    /// Spins until `done`, if the last spins were worth it; returns whether it became true.
    pub(crate) fn spin_until(&self, done: impl Fn() -> bool) -> bool {
        if spin_limit() == 0 {
            return false;
        }
        // ORDERING: Relaxed: hints, here and below; receivers need not agree on them.
        let skip = self.skip.load(Ordering::Relaxed);
        if skip > 0 {
            self.skip.store(skip - 1, Ordering::Relaxed);
            return false;
        }
        let skipped = (2 * self.skipped.load(Ordering::Relaxed)).clamp(SKIPPED_AT_FIRST, SKIPPED_AT_MOST);
        self.skipped.store(skipped, Ordering::Relaxed);
        self.skip.store(skipped, Ordering::Relaxed);
        spin_backoff_until(FIRST_PAUSE, done)
    }

    /// Records how many messages had arrived when a receiver took them.
    #[inline]
    pub(crate) fn record(&self, messages: usize) {
        if messages >= WORTHWHILE_MESSAGES {
            // ORDERING: Relaxed: hints.
            self.skipped.store(0, Ordering::Relaxed);
            self.skip.store(0, Ordering::Relaxed);
        }
    }
}
