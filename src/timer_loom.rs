//! Stands in for time in models, which have none.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::runtime::Handle;

use crate::alarm::Alarm;
use crate::channel::Core;
use crate::sync::Arc;
use crate::tasks::Tasks;

pub(crate) struct Clock;

impl Clock {
    pub(crate) fn start() -> Self {
        Self
    }
    pub(crate) fn nanos(&self) -> u64 {
        1
    }
}

#[derive(Default)]
pub(crate) struct Timer {
    told_of_unread: AtomicBool,
}

impl Timer {
    pub(crate) fn new(_: Arc<Alarm>, _: Option<Handle>, _: Tasks) -> Self {
        Self::default()
    }
    pub(crate) fn attach(&self, _: &Arc<Core>) {}
    pub(crate) fn start(&self) {}
    pub(crate) fn watch_unread(&self) {
        self.told_of_unread.store(true, Relaxed);
    }
    pub(crate) fn was_told_of_unread(&self) -> bool {
        self.told_of_unread.load(Relaxed)
    }
    pub(crate) fn watch_waiters(&self) {}
    pub(crate) fn watch_trouble(&self) {}
    pub(crate) fn end(&self) {}
    pub(crate) fn runtime(&self) -> Option<&Handle> {
        None
    }
}
