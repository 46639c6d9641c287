//! The stall watcher: a thread of the process that ends each wait for a message that is reserved and not committed.
//!
//! The sender of a copied message commits by a plain store, which cannot report that a receiver sleeps for it. So a thread
//! that waits for an uncommitted message has the watcher poll the channel, after 50 µs and then ever more seldom, up to
//! once in a millisecond. The watcher forgets the channel once it is not stalled any more; the channel has woken its waiters
//! then.
//!
//! It is a thread and not a task: it needs no runtime that is driven, and does not advance a paused clock. It starts with the
//! first stall, and ends after a second without a stalled channel. If it cannot be started, the waiter has to poll. It runs
//! wakers, and the drop of a channel of which it holds the last reference for a moment.
//!
//! **No wake is lost.** A waiter registers, finds the channel stalled, and then requests the watcher. The watcher forgets a
//! channel only if there was no request after the check that found it not stalled.
//!
//! The checkers run no watcher: there a waiter yields and polls, as if each sleep ended early.

#[cfg(not(any(turbostream_loom, turbostream_shuttle)))]
pub(crate) use self::thread::watch;

/// A channel that may be stalled.
pub(crate) trait Stalled: Send + Sync {
    /// Returns whether it is stalled; if not, it wakes its waiters before.
    fn check_stall(&self) -> bool;
}

#[cfg(any(turbostream_loom, turbostream_shuttle))]
pub(crate) fn watch<T: Stalled + 'static>(_: &crate::sync::Weak<T>) -> bool {
    false
}

#[cfg(not(any(turbostream_loom, turbostream_shuttle)))]
mod thread {
    use std::sync::{Condvar, PoisonError};
    use std::thread::Builder;
    use std::time::{Duration, Instant};

    use super::Stalled;
    use crate::sync::unwind::catch;
    use crate::sync::{Mutex, MutexGuard, Weak};

    const FIRST_DELAY: Duration = Duration::from_micros(50);
    const LONGEST_DELAY: Duration = Duration::from_millis(1);
    /// The thread ends after this long without a stalled channel.
    const IDLE: Duration = Duration::from_secs(1);

    struct Watched {
        channel: Weak<dyn Stalled>,
        /// How often a waiter has requested the watcher since the channel is watched.
        requests: u64,
        due: Instant,
        delay: Duration,
    }

    struct Watcher {
        channels: Vec<Watched>,
        is_running: bool,
    }

    static WATCHER: Mutex<Watcher> = Mutex::new(Watcher { channels: Vec::new(), is_running: false });
    /// Notified when a channel is added.
    static ADDED: Condvar = Condvar::new();

    fn lock() -> MutexGuard<'static, Watcher> {
        WATCHER.lock().unwrap_or_else(PoisonError::into_inner)
    }

    impl Watcher {
        fn find(&self, channel: &Weak<dyn Stalled>) -> Option<usize> {
            let address = channel.as_ptr().cast::<()>();
            self.channels.iter().position(|watched| watched.channel.as_ptr().cast::<()>() == address)
        }
    }

    /// Has the watcher poll `channel` until it is not stalled any more; returns false if there is no watcher.
    ///
    /// The caller has registered as a waiter, and then found the channel stalled.
    pub(crate) fn watch<T: Stalled + 'static>(channel: &Weak<T>) -> bool {
        let channel: Weak<dyn Stalled> = channel.clone();
        let mut watcher = lock();
        if !watcher.is_running {
            let spawned = Builder::new().name("turbostream-stalls".to_owned()).spawn(run);
            watcher.is_running = spawned.is_ok();
        }
        if watcher.is_running {
            match watcher.find(&channel) {
                Some(at) => watcher.channels[at].requests += 1,
                None => {
                    let due = Instant::now() + FIRST_DELAY;
                    watcher.channels.push(Watched { channel, requests: 0, due, delay: FIRST_DELAY });
                    ADDED.notify_one();
                }
            }
        }
        watcher.is_running
    }

    fn run() {
        let mut watcher = lock();
        loop {
            let now = Instant::now();
            let next = watcher.channels.iter().map(|watched| watched.due).min();
            let wait = next.map_or(IDLE, |due| due.saturating_duration_since(now));
            if wait.is_zero() {
                watcher = check_due(watcher, now);
                continue;
            }
            let (locked, waited) = ADDED.wait_timeout(watcher, wait).unwrap_or_else(PoisonError::into_inner);
            watcher = locked;
            if waited.timed_out() && watcher.channels.is_empty() {
                watcher.is_running = false;
                return;
            }
        }
    }

    /// Checks the channels that are due, without the lock, and forgets those that are not stalled any more.
    fn check_due(watcher: MutexGuard<'static, Watcher>, now: Instant) -> MutexGuard<'static, Watcher> {
        let due: Vec<_> = watcher
            .channels
            .iter()
            .filter(|watched| watched.due <= now)
            .map(|watched| (watched.channel.clone(), watched.requests))
            .collect();
        drop(watcher);
        let is_stalled = |channel: &Weak<dyn Stalled>| {
            catch(|| channel.upgrade().is_some_and(|channel| channel.check_stall())).unwrap_or(false)
        };
        let checked: Vec<_> = due
            .into_iter()
            .map(|(channel, requests)| {
                let is_stalled = is_stalled(&channel);
                (channel, requests, is_stalled)
            })
            .collect();
        let (mut watcher, now) = (lock(), Instant::now());
        for (channel, requests, is_stalled) in checked {
            let at = watcher.find(&channel).expect("only this thread removes channels");
            let watched = &mut watcher.channels[at];
            if !is_stalled && watched.requests == requests {
                watcher.channels.swap_remove(at);
                continue;
            }
            watched.delay = if is_stalled { (2 * watched.delay).min(LONGEST_DELAY) } else { FIRST_DELAY };
            watched.due = now + watched.delay;
        }
        watcher
    }
}
