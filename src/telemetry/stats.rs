//! Statistics of a channel: the public [`Stats`] and what they are made of.

use std::ops::{Add, AddAssign, Sub};

use crate::telemetry::histogram::{Histogram, QUEUE_BOUNDS};

/// Figures of a channel; message bytes are payload bytes, memory bytes are whole segments with their index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages that became part of the channel.
    pub sent_messages: u64,
    /// Payload bytes of the accepted messages.
    pub sent_bytes: u64,
    /// Messages that receivers got.
    pub received_messages: u64,
    /// Payload bytes of the messages handed out.
    pub received_bytes: u64,
    /// Messages that were accepted and dropped: by policy, or because the last receiver was dropped.
    pub dropped_messages: u64,
    /// Payload bytes of the dropped messages.
    pub dropped_bytes: u64,
    /// The dropped messages by what they were dropped for.
    pub drops: Drops,
    /// Messages accepted and neither handed out nor dropped.
    pub queued_messages: u64,
    /// Payload bytes of the queued messages.
    pub queued_bytes: u64,
    /// Queued messages that are in the active segment.
    pub active_messages: u64,
    /// Payload bytes of the queued messages in the active segment.
    pub active_message_bytes: u64,
    /// How long a segment's first message was queued before a receiver came for it, or it was dropped to make room: a sample
    /// for each segment.
    pub queue_time: Histogram,
    /// Messages that were not accepted, each told to its sender by an error.
    pub send_errors: SendErrors,
    /// Receives for which nothing came in time.
    pub recv_timeouts: u64,
    /// Switches made, by cause.
    pub switches: Switches,
    /// What a switch took: from the decision to make it until what was sealed could be read and whoever made it could
    /// write on. Where there is no memory to write on, it ends when that is known. A switch on demand is not timed: each
    /// counts as 0 s.
    pub switch_latency: Histogram,
    /// Looks of the timer at unread messages after which it made no switch.
    pub skipped_switches: u64,
    /// Segments that memory was allocated for, as no pooled one could be had or was to be used yet.
    pub allocated_segments: u64,
    /// Sealed segments, the one being read included.
    pub sealed_segments: usize,
    /// Memory of the active segment, unless all in it was read and some is still lent.
    pub active_bytes: usize,
    /// Memory of sealed segments, the one being read included.
    pub sealed_bytes: usize,
    /// Memory of segments all of which was read, and that a `Bytes` or `Batch` in user hands still refers to.
    pub lent_bytes: usize,
    /// Memory of free segments.
    pub pooled_bytes: usize,
    /// Bytes of the payloads that travel by reference and are queued.
    pub external_bytes: usize,
    /// The ceiling for the sum of active, sealed, lent, pooled and external bytes.
    pub max_bytes: usize,
    /// Senders waiting for room.
    pub waiting_senders: usize,
    /// Receivers waiting for a message.
    pub waiting_receivers: usize,
    /// TaskCount in the background that are alive: the timer, callbacks, and the one that reports to a
    /// [`Recorder`](crate::Recorder).
    pub background_tasks: usize,
    /// Calls of a [`Callback`](crate::Callback) that panicked; their messages count as handed out.
    pub callback_panics: u64,
    /// Panics of code passed to the channel that were contained: of strategies, wakers, payloads that were dropped, and
    /// those counted in `callback_panics` and `recorder_panics`.
    pub panics: u64,
    /// Calls of a [`Recorder`](crate::Recorder) that panicked; what they were to take in counts as reported.
    pub recorder_panics: u64,
}

impl Stats {
    /// Of a channel that has done nothing.
    pub(crate) fn new() -> Self {
        Self { queue_time: Histogram::new(QUEUE_BOUNDS), ..Self::default() }
    }

    /// The memory that counts against `max_bytes`.
    pub fn memory_bytes(&self) -> usize {
        self.active_bytes + self.sealed_bytes + self.lent_bytes + self.pooled_bytes + self.external_bytes
    }
}

/// How often the active segment was switched, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Switches {
    /// The segment was full, or the memory: what was in it had to be read first.
    pub full: u64,
    /// The strategy said so.
    pub strategy: u64,
    /// A receiver was waiting, and nothing sealed was left.
    pub on_demand: u64,
    /// [`switch`](crate::Sender::switch), [`drained`](crate::Sender::drained) or the flush of a sink asked for it.
    pub requested: u64,
    /// The channel was closed.
    pub close: u64,
}

impl Switches {
    /// Switches of any cause.
    pub fn total(&self) -> u64 {
        self.full + self.strategy + self.on_demand + self.requested + self.close
    }
}

/// Messages that were not accepted, by the error that their sender got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendErrors {
    /// There was no room, and the call or the channel ([`WhenFull::Reject`](crate::WhenFull::Reject)) does not wait.
    pub full: u64,
    /// The channel was closed.
    pub closed: u64,
    /// Longer than `max_message_bytes`.
    pub too_large: u64,
    /// There was no room in time.
    pub timed_out: u64,
}

impl SendErrors {
    /// Messages refused for any reason.
    pub fn total(&self) -> u64 {
        self.full + self.closed + self.too_large + self.timed_out
    }
}

/// Messages that were dropped, by what for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drops {
    /// There was no room for them, by [`WhenFull::DropNewest`](crate::WhenFull::DropNewest), or because nothing older
    /// could be dropped.
    pub newest: u64,
    /// To make room for newer ones, by [`WhenFull::DropOldest`](crate::WhenFull::DropOldest).
    pub oldest: u64,
    /// The last receiver was gone.
    pub unread: u64,
}

impl Drops {
    /// Messages dropped for any reason.
    pub fn total(&self) -> u64 {
        self.newest + self.oldest + self.unread
    }
}

/// What a switch was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SwitchCause {
    Full,
    Strategy,
    OnDemand,
    Requested,
    Close,
}

impl SwitchCause {
    /// How many causes there are.
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
