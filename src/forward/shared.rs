//! What the forwarder's task and its handle share: requests, statistics, and the outcome.
//!
//! The handle adds a request and wakes the task. The task stores its outcome once, and wakes all that wait; the first
//! call that wants the outcome takes it.

use std::mem;
use std::sync::PoisonError;
use std::task::Waker;
use std::time::Duration;

use super::error::{FlushError, ForwardError, ForwardErrorKind};
use super::stats::{Counters, ForwardReport};
use crate::sync::{Arc, AtomicBool, AtomicU32, Mutex, MutexGuard, OnceLock, Ordering};
use crate::wait::wait_list::WaitList;

pub(super) type Outcome = Result<ForwardReport, ForwardError>;

/// Whether the forwarder has ended, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Running,
    /// The channel is closed, and everything is confirmed or rejected.
    Completed,
    /// The forwarder ended with an error.
    Failed,
}

pub(super) struct Shared {
    pub(super) counters: Counters,
    /// Whether `requests` holds something new for the task.
    requested: AtomicBool,
    requests: Mutex<Requests>,
    progress: AtomicU32,
    outcome: Mutex<Option<Outcome>>,
    /// Why the forwarder has failed, once it has.
    failure: OnceLock<(ForwardErrorKind, String)>,
    /// Calls of the handle that wait for the end of a flush or of the forwarder.
    pub(super) waiting: WaitList,
}

/// What the handle wants of the task.
#[derive(Default)]
pub(super) struct Requests {
    /// The task's waker, once it was polled.
    waker: Option<Waker>,
    /// Flushes that the task has not taken note of.
    pub(super) flushes: Vec<Arc<Flush>>,
    /// The time that is left for a shutdown, from when the task reads it.
    pub(super) limit: Option<Duration>,
}

/// One call of `flush`, after the channel has handed out what was accepted before.
#[derive(Default)]
pub(super) struct Flush {
    /// The total of rejected messages when everything was confirmed or rejected.
    rejected: OnceLock<u64>,
}

impl Flush {
    /// Returns the total of rejected messages when the flush was complete; nothing before.
    pub(super) fn rejected(&self) -> Option<u64> {
        self.rejected.get().copied()
    }

    pub(super) fn complete(&self, rejected: u64) {
        // The task completes each flush once.
        let _ = self.rejected.set(rejected);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            counters: Counters::default(),
            requested: AtomicBool::new(false),
            requests: Mutex::default(),
            progress: AtomicU32::new(Progress::Running as u32),
            outcome: Mutex::default(),
            failure: OnceLock::new(),
            waiting: WaitList::new(),
        }
    }

    /// Adds a request, and wakes the task.
    pub(super) fn request(&self, add: impl FnOnce(&mut Requests)) {
        let mut requests = lock(&self.requests);
        add(&mut requests);
        // ORDERING: Release: pairs with the Acquire in `take_requests`.
        self.requested.store(true, Ordering::Release);
        let waker = requests.waker.clone();
        drop(requests);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Registers the waker of the task's poll, which is called for each request from now on.
    pub(super) fn register(&self, waker: &Waker) {
        let waker = waker.clone();
        let replaced = lock(&self.requests).waker.replace(waker);
        drop(replaced);
    }

    /// Returns the requests that are new; nothing if there are none.
    pub(super) fn take_requests(&self) -> Option<(Vec<Arc<Flush>>, Option<Duration>)> {
        // ORDERING: Acquire: pairs with the Release in `request`. A request that is missed here wakes the task afterwards.
        if !self.requested.load(Ordering::Acquire) {
            return None;
        }
        let mut requests = lock(&self.requests);
        // ORDERING: Relaxed: under the lock of `requests`.
        self.requested.store(false, Ordering::Relaxed);
        Some((mem::take(&mut requests.flushes), requests.limit.take()))
    }

    pub(super) fn progress(&self) -> Progress {
        // ORDERING: Acquire: pairs with the Release in `end`; the outcome and the final statistics are visible.
        match self.progress.load(Ordering::Acquire) {
            end if end == Progress::Completed as u32 => Progress::Completed,
            end if end == Progress::Failed as u32 => Progress::Failed,
            _ => Progress::Running,
        }
    }

    /// Stores the outcome, and wakes all that wait for it.
    pub(super) fn end(&self, outcome: Outcome) {
        let progress = if outcome.is_ok() { Progress::Completed } else { Progress::Failed };
        if let Err(error) = &outcome {
            // The task ends once.
            let _ = self.failure.set((error.kind, error.reason()));
        }
        *lock(&self.outcome) = Some(outcome);
        // ORDERING: Release: pairs with the Acquire in `progress`.
        self.progress.store(progress as u32, Ordering::Release);
        let mut requests = lock(&self.requests);
        let (waker, flushes) = (requests.waker.take(), mem::take(&mut requests.flushes));
        drop(requests);
        drop((waker, flushes));
        self.waiting.wake();
    }

    /// Returns what a flush of a forwarder that has failed returns.
    pub(super) fn failure(&self) -> FlushError {
        let (kind, reason) = self.failure.get().cloned().expect("set before the progress");
        FlushError::Ended { kind, reason }
    }

    /// Takes the outcome once the forwarder has ended.
    pub(super) fn take_outcome(&self) -> Option<Outcome> {
        if self.progress() == Progress::Running {
            return None;
        }
        let taken = || ForwardError {
            kind: ForwardErrorKind::AlreadyTaken,
            source: None,
            unconfirmed: Box::default(),
        };
        Some(lock(&self.outcome).take().unwrap_or_else(|| Err(taken())))
    }
}
