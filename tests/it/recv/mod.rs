//! Receiving: receive methods, batches, blocking receives, read modes and wakeups.

mod ahead;
mod batches;
mod blocking_recv;
mod many;
mod recv_methods;
mod recv_ref;
mod safe_mode;
mod try_recv;
mod wakeups;
