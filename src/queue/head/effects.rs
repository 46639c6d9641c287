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
    /// How many segments returned to the pool.
    pub(crate) recycled: usize,
    /// Bytes of external payloads that have left the channel.
    pub(crate) released: usize,
    /// How many messages other receivers could take.
    pub(crate) available: usize,
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
