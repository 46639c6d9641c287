//! Waiting: wakes, order, cancellation, fairness and `drained`.

mod abandoned;
mod cancellation;
mod cancelled_waits;
mod drained;
mod fairness;
mod sleepers;
mod stalled_sender;
mod waiters;
mod wakeups;
