//! What a case consists of: a channel, and operations on it.

use std::time::Duration;

use turbostream::{
    ActiveSegment, Builder, ByteCount, Linger, MessageCount, ReadMode, SwitchStrategy, TimeWindow, Weighted,
    WhenFull, builder,
};

use crate::common::ms;

/// What a segment costs beyond its bytes, and for each of its messages.
const HEADER_BYTES: usize = 128;
const ENTRY_BYTES: usize = 8;

/// A channel with very little room, so that a few messages reach every limit.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) segment_bytes: usize,
    pub(crate) segment_messages: usize,
    pub(crate) segments: usize,
    pub(crate) extra_bytes: usize,
    pub(crate) max_message_bytes: usize,
    pub(crate) on_demand: bool,
    pub(crate) zero_copy: bool,
    pub(crate) when_full: WhenFull,
    pub(crate) strategy: usize,
    pub(crate) lend_ttl: Duration,
    pub(crate) prefetch: usize,
    /// How many there are at first.
    pub(crate) receivers: usize,
}

impl Setup {
    /// Limits messages to this percentage of the longest message that a channel can allow.
    pub(crate) fn with_max_message_percent(mut self, percent: usize) -> Self {
        let most = (self.segments - 1) * self.footprint() + self.extra_bytes;
        self.max_message_bytes = (most * percent / 100).max(1);
        self
    }

    /// Returns what one segment counts against `max_bytes`.
    pub(crate) fn footprint(&self) -> usize {
        self.segment_bytes + ENTRY_BYTES * self.segment_messages + HEADER_BYTES
    }

    pub(crate) fn builder(&self) -> Builder {
        builder()
            .segment_bytes(self.segment_bytes)
            .segment_messages(self.segment_messages)
            .max_bytes(self.segments * self.footprint() + self.extra_bytes)
            .max_message_bytes(self.max_message_bytes)
            .on_demand(self.on_demand)
            .read_mode(if self.zero_copy { ReadMode::ZeroCopy } else { ReadMode::Safe })
            .when_full(self.when_full)
            .strategy(AnyStrategy::new(self.strategy))
            .lend_ttl(self.lend_ttl)
            .prefetch(self.prefetch)
    }
}

pub(crate) const STRATEGIES: usize = 8;

/// A built-in strategy, one that never switches, or one that always does.
pub(crate) struct AnyStrategy(Box<dyn SwitchStrategy>);

impl AnyStrategy {
    pub(crate) fn new(which: usize) -> Self {
        struct Never;
        impl SwitchStrategy for Never {
            fn should_switch(&self, _: &ActiveSegment) -> bool {
                false
            }
        }
        struct Always;
        impl SwitchStrategy for Always {
            fn should_switch(&self, _: &ActiveSegment) -> bool {
                true
            }
        }
        Self(match which {
            0 => Box::new(Weighted::new(ms(5))),
            1 => Box::new(TimeWindow(ms(3))),
            2 => Box::new(MessageCount(3)),
            3 => Box::new(ByteCount(100)),
            4 => Box::new(Linger(ms(3))),
            5 => Box::new(MessageCount(0)),
            6 => Box::new(Never),
            _ => Box::new(Always),
        })
    }
}

impl SwitchStrategy for AnyStrategy {
    fn should_switch(&self, active: &ActiveSegment) -> bool {
        assert!(active.messages > 0, "called for an empty segment: {active:?}");
        assert!(active.messages <= active.capacity_messages, "{active:?}");
        assert!(active.age <= active.elapsed, "a message before the last switch: {active:?}");
        self.0.should_switch(active)
    }
    fn limits(&self, active: &ActiveSegment) -> turbostream::SwitchLimits {
        self.0.limits(active)
    }
    fn next_check(&self, active: &ActiveSegment) -> Option<Duration> {
        self.0.next_check(active)
    }
}

/// How a `send_with` closure ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Returns,
    Panics,
    ReportsTooMuch,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum SendBy {
    Try,
    Wait,
    Timeout(Duration),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum RecvBy {
    Try,
    /// At most this many bytes.
    TryBatch(usize),
    Wait,
    Timeout(Duration),
    Poll,
    Stream,
    Batch(usize),
    Batches(usize),
    Many(usize),
}

/// How a handle itself receives what is there now. The others receive by clones.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TakeBy {
    Recv,
    Try,
    Ref,
    TryRef,
    Poll,
    Stream,
    Batch(usize),
    TryBatch(usize),
    Many(usize),
    PollMany(usize),
}

/// One operation. `handle` and `which` are indices modulo the number of candidates. Without candidates it does nothing.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Send { handle: usize, by: SendBy, len: usize, owned: bool },
    SendMany { handle: usize, lens: Vec<usize> },
    SendWith { handle: usize, max_len: usize, len: usize, ending: Ending },
    SinkSend { handle: usize, len: usize },
    SinkFlush { handle: usize },
    SinkClose { handle: usize },
    Recv { handle: usize, by: RecvBy, keep: bool },
    Take { handle: usize, by: TakeBy, keep: bool },
    Switch { handle: usize },
    Drained { handle: usize },
    Closed { handle: usize },
    SetStrategy { handle: usize, strategy: usize },
    SetReadMode { handle: usize, zero_copy: bool },
    CloseReceiver { handle: usize },
    CloneSender { handle: usize },
    DropSender { handle: usize },
    CloneReceiver { handle: usize },
    DropReceiver { handle: usize },
    Downgrade { handle: usize },
    Upgrade { which: usize },
    AddSink { handle: usize },
    DropSink { handle: usize },
    Callback { handle: usize, batch: bool },
    Unregister { which: usize },
    Poll { which: usize },
    Cancel { which: usize },
    Forget { which: usize },
    DropKept { which: usize },
    Advance { by: Duration },
    Settle,
}
