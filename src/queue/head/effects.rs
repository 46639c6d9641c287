//! What a thread does after it has unlocked the head.

use bytes::Bytes;

use crate::telemetry::events::{Switched, are_switches_enabled};

/// Work noted under the lock of the head, and applied after it is unlocked.
#[derive(Default)]
pub(crate) struct Effects {
    /// A segment was retired.
    pub(crate) retired: bool,
    /// All known messages were taken, and the background task must be notified to check whether memory can be freed.
    pub(crate) memory_idle: bool,
    /// Whether a segment has returned to the pool.
    pub(crate) recycled: bool,
    /// Bytes of external payloads that have left the channel.
    pub(crate) released: usize,
    /// The segment at the head was sealed: receivers may sleep at its ring slot, or wait for the seal.
    pub(crate) sealed: bool,
    /// The head has reached the drain target.
    pub(crate) drained: bool,
    /// Payloads to drop.
    pub(crate) discarded: Vec<Bytes>,
    /// Switches to report as events, if those are enabled.
    pub(crate) switches: Vec<Switched>,
}

impl Effects {
    /// Notes a switch, if events for switches are enabled.
    pub(super) fn note(&mut self, switched: Option<Switched>) {
        if are_switches_enabled() {
            self.switches.extend(switched);
        }
    }
}
