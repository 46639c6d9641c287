mod waiters;
mod cancelled_waits;
mod cancellation;
mod fairness;
mod drained;
mod stalled_sender;
