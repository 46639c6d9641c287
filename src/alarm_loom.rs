//! Stands in for the alarm in models, which have no task that it could wake.

#[derive(Default)]
pub(crate) struct Alarm;

impl Alarm {
    pub(crate) fn waiters(&self) {}
    pub(crate) fn memory(&self) {}
    pub(crate) fn is_memory_due(&self) -> bool {
        false
    }
    pub(crate) fn notify(&self) {}
}
