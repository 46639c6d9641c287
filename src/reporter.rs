//! Tells a channel's recorder what has changed: in one Tokio task per channel that has one, on demand, and at the end.

use std::cell::Cell;
use std::sync::{Arc as StdArc, Condvar, Mutex as StdMutex, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::channel::Core;
use crate::combine::Combine;
use crate::recorder::{Recorder, Reported, StatsDelta};
use crate::sync::{Arc, Mutex, Notify};
use crate::tasks::{Task, Tasks};
use crate::user_code::UserCode;

/// A channel's way to its recorder, if it has one.
pub(crate) struct Reporter(Option<Box<Reporting>>);

struct Reporting {
    recorder: StdArc<dyn Recorder>,
    interval: Duration,
    runtime: Option<Handle>,
    tasks: Tasks,
    /// One at a time reports, so that the recorder is told of things in their order, and is called under no lock.
    reports: Combine,
    /// Locked by whoever reports.
    reported: Mutex<Reported>,
    calls: UserCode,
    /// Told when the channel is gone.
    ended: Arc<Notify>,
    /// Told when nobody reports any more.
    idle: (StdMutex<()>, Condvar),
}

thread_local! {
    /// This thread calls a recorder at the moment.
    static RECORDING: Cell<bool> = const { Cell::new(false) };
}

impl Reporter {
    pub(crate) fn new(
        recorder: Option<(StdArc<dyn Recorder>, Duration)>,
        runtime: Option<Handle>,
        tasks: Tasks,
    ) -> Self {
        Self(recorder.map(|(recorder, interval)| {
            Box::new(Reporting {
                recorder,
                interval,
                runtime,
                tasks,
                reports: Combine::new(),
                reported: Mutex::new(Reported::nothing()),
                calls: UserCode::default(),
                ended: Arc::new(Notify::new()),
                idle: Default::default(),
            })
        }))
    }

    /// Starts the task that reports on `core`, if there is somebody to tell.
    pub(crate) fn start(&self, core: &Arc<Core>) {
        let Some(reporting) = &self.0 else { return };
        if let Some(runtime) = &reporting.runtime {
            let (interval, ended) = (reporting.interval, Arc::clone(&reporting.ended));
            runtime.spawn(run(Arc::downgrade(core), interval, ended, reporting.tasks.enter()));
        }
    }

    /// Calls of the recorder that panicked.
    pub(crate) fn panics(&self) -> u64 {
        self.0.as_ref().map_or(0, |reporting| reporting.calls.panics())
    }

    /// Tells the recorder what `update` finds to have changed.
    fn tell<'a>(&self, update: impl Fn(&mut Reported) -> Option<StatsDelta<'a>>) {
        let Some(reporting) = &self.0 else { return };
        reporting.reports.run(|| {
            let changes = update(&mut reporting.reported.lock().unwrap_or_else(PoisonError::into_inner));
            let Some(changes) = changes else { return };
            let outer = RECORDING.replace(true);
            reporting.calls.call(|| reporting.recorder.record(&changes));
            RECORDING.set(outer);
        });
        if reporting.reports.is_idle() {
            let _waiting = reporting.idle.0.lock();
            reporting.idle.1.notify_all();
        }
    }

    /// Waits until whoever reports at the moment has done so; not within a recorder, which would wait for itself.
    fn wait(&self) {
        let Some(reporting) = self.0.as_ref().filter(|_| !RECORDING.get()) else { return };
        let waiting = reporting.idle.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _idle = reporting.idle.1.wait_while(waiting, |()| !reporting.reports.is_idle());
    }

    fn end(&self) {
        if let Some(reporting) = &self.0 {
            reporting.ended.notify_one();
        }
    }
}

impl Core {
    /// Tells the recorder what has changed.
    pub(crate) fn report(&self) {
        self.reporter().tell(|reported| reported.update(self.name(), &self.settled_stats(), false));
    }

    /// Reports, and waits where somebody else does so at the moment.
    pub(crate) fn report_now(&self) {
        self.report();
        self.reporter().wait();
    }

    /// Reports for the last time.
    pub(crate) fn report_last(&self) {
        self.reporter().end();
        self.reporter().tell(|reported| reported.update(self.name(), &self.settled_stats(), true));
    }
}

async fn run(core: Weak<Core>, interval: Duration, ended: Arc<Notify>, _alive: Task) {
    while let Some(core) = core.upgrade() {
        core.report();
        drop(core);
        let _ = tokio::time::timeout(interval, ended.notified()).await;
    }
}
