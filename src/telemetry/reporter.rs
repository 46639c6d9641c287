//! Reports a channel's statistics to its [`Recorder`].

use std::cell::Cell;
use std::sync::{Arc as StdArc, Condvar, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use super::catch_panic::CatchPanic;
use super::coalescer::Coalescer;
use super::recorder::{Recorder, Reported, StatsDelta};
use crate::sync::unwind::CatchDrop;
use crate::sync::{Arc, Mutex, Notify};

/// The connection of a channel to its recorder, if it has one.
///
/// A report computes a delta and calls the recorder with it. One thread at a time reports, and it holds no lock while it
/// calls the recorder. A request that arrives during a report makes that thread report once more (see [`Coalescer`]).
/// Invariant: the recorder sees changes in their order, and each of them once.
pub(crate) struct Reporter(Option<Box<ReporterInner>>);

struct ReporterInner {
    recorder: CatchDrop<StdArc<dyn Recorder>>,
    interval: Duration,
    reports: Coalescer,
    /// Locked by the reporting thread while it computes the delta.
    reported: Mutex<Reported>,
    calls: CatchPanic,
    /// Notified when the channel is dropped.
    ended: Arc<Notify>,
    /// Signalled after a report, when no thread reports any more.
    idle: (StdMutex<()>, Condvar),
}

thread_local! {
    /// Whether this thread is inside a recorder's call.
    static RECORDING: Cell<bool> = const { Cell::new(false) };
}

impl Reporter {
    pub(crate) fn new(recorder: Option<(StdArc<dyn Recorder>, Duration)>) -> Self {
        Self(recorder.map(|(recorder, interval)| {
            Box::new(ReporterInner {
                recorder: CatchDrop::new(recorder),
                interval,
                reports: Coalescer::new(),
                reported: Mutex::new(Reported::nothing()),
                calls: CatchPanic::default(),
                ended: Arc::new(Notify::new()),
                idle: Default::default(),
            })
        }))
    }

    /// Returns the interval of periodic reports and the signal that ends them; `None` without a recorder.
    pub(crate) fn schedule(&self) -> Option<(Duration, Arc<Notify>)> {
        self.0.as_ref().map(|inner| (inner.interval, Arc::clone(&inner.ended)))
    }

    /// Emits no event for a panic of the recorder from now on.
    pub(crate) fn silence(&self) {
        if let Some(inner) = &self.0 {
            inner.calls.silence();
        }
    }

    /// Returns how many calls of the recorder panicked.
    pub(crate) fn panics(&self) -> u64 {
        self.0.as_ref().map_or(0, |inner| inner.calls.panics())
    }

    /// Calls the recorder with the delta that `update` returns, if any.
    ///
    /// If another thread reports, that thread reports once more, and this one returns at once.
    pub(crate) fn report<'a>(&self, update: impl Fn(&mut Reported) -> Option<StatsDelta<'a>>) {
        let Some(inner) = &self.0 else { return };
        inner.reports.run(|| {
            let delta = update(&mut inner.reported.lock().unwrap_or_else(PoisonError::into_inner));
            let Some(delta) = delta else { return };
            let outer = RECORDING.replace(true);
            inner.calls.call(|| inner.recorder.record(&delta));
            RECORDING.set(outer);
        });
        if inner.reports.is_idle() {
            let _waiting = inner.idle.0.lock();
            inner.idle.1.notify_all();
        }
    }

    /// Whether the last report has left changes for the next one. Returns false inside a recorder's call: the thread that
    /// made it continues.
    pub(crate) fn is_behind(&self) -> bool {
        let is_behind =
            |inner: &ReporterInner| inner.reported.lock().unwrap_or_else(PoisonError::into_inner).is_behind();
        !RECORDING.get() && self.0.as_deref().is_some_and(is_behind)
    }

    /// Blocks until no thread reports. Returns at once inside a recorder's call, which would wait for itself.
    pub(crate) fn wait_until_idle(&self) {
        let Some(inner) = self.0.as_ref().filter(|_| !RECORDING.get()) else { return };
        let waiting = inner.idle.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _idle = inner.idle.1.wait_while(waiting, |()| !inner.reports.is_idle());
    }

    /// Ends the task that reports periodically.
    pub(crate) fn end(&self) {
        if let Some(inner) = &self.0 {
            inner.ended.notify_one();
        }
    }
}
