//! Statistics of a channel: the public [`Stats`] and its parts.

use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use crate::telemetry::forwarding::Forwarding;
use crate::telemetry::histogram::{Histogram, QUEUE_BOUNDS};

/// Statistics of a channel, as returned by [`Monitor::stats`](crate::Monitor::stats).
///
/// Message bytes are payload bytes. Memory bytes are whole segments with their index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages accepted: their sends returned `Ok`, even if [`WhenFull`](crate::WhenFull) dropped them at once.
    pub sent_messages: u64,
    /// Payload bytes of the accepted messages.
    pub sent_bytes: u64,
    /// Messages that receivers took.
    pub received_messages: u64,
    /// Payload bytes of the received messages.
    pub received_bytes: u64,
    /// Accepted messages that were dropped: by [`WhenFull`](crate::WhenFull), or because the last receiver was dropped.
    pub dropped_messages: u64,
    /// Payload bytes of the dropped messages.
    pub dropped_bytes: u64,
    /// The dropped messages by reason.
    pub drops: Drops,
    /// Accepted messages that were neither received nor dropped.
    pub queued_messages: u64,
    /// Payload bytes of the queued messages.
    pub queued_bytes: u64,
    /// Queued messages in the active segment.
    pub active_messages: u64,
    /// Payload bytes of the queued messages in the active segment.
    pub active_message_bytes: u64,
    /// How long segments were queued: from the first message of a segment until a receiver reached it, or until it was dropped
    /// to make room.
    ///
    /// One sample per segment, so this is no mean of messages. It does not see a message that still waits, nor the later messages
    /// of a segment that a receiver has reached, as one does at once where it cuts on demand. How long a message that is sent now
    /// will wait is `queued_messages` divided by the messages that receivers take in a second, see [`since`](Self::since).
    pub queue_time: Histogram,
    /// Messages that were not accepted: their senders got an error, or a [`Writer`](crate::Writer) skipped them.
    pub send_errors: SendErrors,
    /// Receives that timed out.
    pub recv_timeouts: u64,
    /// Switches by cause.
    pub switches: Switches,
    /// How long a switch took: from the decision until the messages are readable.
    ///
    /// For a sender that switches because its message does not fit, the time ends when it can write to the next segment,
    /// or when it has found no memory for one. A switch on demand takes no time, and is not counted here.
    pub switch_latency: Histogram,
    /// Checks of the background task that found unread messages and made no switch.
    pub skipped_switches: u64,
    /// Segments that were allocated, because none was pooled or because the channel used little memory.
    pub allocated_segments: u64,
    /// Sealed segments, including the one being read.
    pub sealed_segments: usize,
    /// Memory of the active segment. If all its messages were read and some are still lent, it counts as lent instead.
    pub active_bytes: usize,
    /// Memory of sealed segments, including the one being read.
    pub sealed_bytes: usize,
    /// Memory of lent segments: all their messages were received, and a `Bytes` or `Batch` of the user still refers to them.
    ///
    /// A segment that is not read to its end counts as active or sealed, also if received messages refer to it.
    pub lent_bytes: usize,
    /// Memory of free segments.
    pub pooled_bytes: usize,
    /// Bytes of the queued external payloads, which travel by reference count, of those that a forwarder holds, and of the
    /// items that sinks have parked.
    pub external_bytes: usize,
    /// The limit on the sum of active, sealed, lent, pooled and external bytes. The sum may exceed it by the
    /// items that sinks have parked: at most one for each [`Sender`](crate::Sender).
    pub max_bytes: usize,
    /// Senders waiting for room.
    pub waiting_senders: usize,
    /// How long the first of the waiting senders has waited for room so far; zero if none waits.
    ///
    /// It falls once that sender has got room. A value that keeps rising means that no room becomes free: see the queued
    /// and the lent bytes. It is no statistic of a [`Recorder`](crate::Recorder): for an alert, read it at an interval.
    pub longest_wait: Duration,
    /// Receivers waiting for a message.
    pub waiting_receivers: usize,
    /// Tasks of the channel that are alive: the background task, callbacks, and the task that reports to a
    /// [`Recorder`](crate::Recorder).
    pub background_tasks: usize,
    /// Calls of a [`Callback`](crate::Callback) that panicked; their messages count as received.
    pub callback_panics: u64,
    /// Panics that the channel caught: of strategies, wakers, drops of payloads, and those counted in `callback_panics`
    /// and `recorder_panics`.
    pub panics: u64,
    /// Calls of a [`Recorder`](crate::Recorder) that panicked; their increments are lost.
    pub recorder_panics: u64,
    /// What the forwarders of the channel have done, with the feature `forward`; `None` before the first is spawned.
    pub forwarding: Option<Forwarding>,
}

impl Stats {
    /// Returns the statistics of a channel that has done nothing.
    pub(crate) fn new() -> Self {
        Self { queue_time: Histogram::new(QUEUE_BOUNDS), ..Self::default() }
    }

    /// Returns what forwarders have done, all zero before the first is spawned.
    pub(crate) fn forwarding_or_none(&self) -> Forwarding {
        self.forwarding.unwrap_or_default()
    }

    /// Returns the memory that counts against `max_bytes`.
    pub fn memory_bytes(&self) -> usize {
        self.active_bytes + self.sealed_bytes + self.lent_bytes + self.pooled_bytes + self.external_bytes
    }
}

/// How often the active segment was switched, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Switches {
    /// The segment was full, or all memory was in use and the messages in the segment had to be read first.
    pub full: u64,
    /// The strategy decided to switch.
    pub strategy: u64,
    /// A receiver had read everything sealed, and cut the segment.
    pub on_demand: u64,
    /// [`switch`](crate::Sender::switch), [`drained`](crate::Sender::drained) or the flush of a sink requested it.
    pub requested: u64,
    /// The channel was closed.
    pub close: u64,
}

impl Switches {
    /// Returns the sum over all causes.
    pub fn total(&self) -> u64 {
        self.full + self.strategy + self.on_demand + self.requested + self.close
    }
}

/// Messages that were not accepted, by error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendErrors {
    /// There was no room, and the call or the channel ([`WhenFull::Reject`](crate::WhenFull::Reject)) does not wait.
    pub full: u64,
    /// The channel was closed.
    pub closed: u64,
    /// The message was longer than `max_message_bytes`.
    pub too_large: u64,
    /// There was no room before the timeout.
    pub timed_out: u64,
}

impl SendErrors {
    /// Returns the sum over all errors.
    pub fn total(&self) -> u64 {
        self.full + self.closed + self.too_large + self.timed_out
    }
}

/// Dropped messages, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drops {
    /// There was no room for them: under [`WhenFull::DropNewest`](crate::WhenFull::DropNewest), or because no older
    /// segment could be dropped. An item that a dropped sink had parked counts here if the channel closed before there was
    /// room.
    pub newest: u64,
    /// They made room for newer ones, under [`WhenFull::DropOldest`](crate::WhenFull::DropOldest).
    pub oldest: u64,
    /// They were unread when the last receiver was dropped.
    pub unread: u64,
}

impl Drops {
    /// Returns the sum over all reasons.
    pub fn total(&self) -> u64 {
        self.newest + self.oldest + self.unread
    }
}

/// The cause of a switch; [`Switches`] counts each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SwitchCause {
    Full,
    Strategy,
    OnDemand,
    Requested,
    Close,
}

impl SwitchCause {
    /// The number of causes.
    pub(crate) const COUNT: usize = 5;
}

/// A number of messages and the sum of their payload bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Totals {
    pub(crate) fn of(messages: usize, bytes: usize) -> Self {
        Self { messages: messages as u64, bytes: bytes as u64 }
    }
}

impl Add for Totals {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { messages: self.messages + other.messages, bytes: self.bytes + other.bytes }
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Totals {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { messages: self.messages - other.messages, bytes: self.bytes - other.bytes }
    }
}
