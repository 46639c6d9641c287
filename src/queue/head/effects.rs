//! What a turn at the head leaves to be done after it.

use bytes::Bytes;

use crate::telemetry::events::{Switched, are_switches_enabled};

/// What a turn leaves to be done when it is over.
#[derive(Default)]
pub(crate) struct Effects {
    /// A segment was read to its end.
    pub(crate) retired: bool,
    /// All that is known of was taken, and the timer does not know yet: it looks whether memory can go.
    pub(crate) at_rest: bool,
    /// Segments that went back to the pool.
    pub(crate) recycled: usize,
    /// Bytes of payloads that travelled by reference and are out of the channel.
    pub(crate) released: usize,
    /// Messages that other receivers could take.
    pub(crate) left: usize,
    /// The mark that somebody waits for was passed.
    pub(crate) drained: bool,
    /// Payloads to be dropped.
    pub(crate) discarded: Vec<Bytes>,
    /// Switches to tell of, if anybody wants to hear of them.
    pub(crate) switches: Vec<Switched>,
}

impl Effects {
    /// A switch was made that may be told of.
    pub(super) fn note(&mut self, switched: Option<Switched>) {
        if are_switches_enabled() {
            self.switches.extend(switched);
        }
    }
}
