//! Waiting: for an event, for time, and by spinning.

pub(crate) mod blocking;
pub(crate) mod clock;
pub(crate) mod coop;
pub(crate) mod fast_path;
pub(crate) mod spin;
pub(crate) mod stall_watcher;
pub(crate) mod task_signal;
pub(crate) mod timeout;
pub(crate) mod wait_list;
