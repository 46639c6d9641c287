//! What a case consists of: a channel, and operations on it.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use turbostream::{
    ActiveSegment, Builder, ByteCount, MessageCount, ReadMode, SwitchStrategy, TimeWindow, Weighted,
    WhenFull, builder,
};

use crate::common::ms;

/// What a segment takes beside its bytes, and for each of its messages.
const HEADER_BYTES: usize = 128;
const ENTRY_BYTES: usize = 8;

/// A channel with next to no room, so that a few messages reach every edge.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    segment_bytes: usize,
    segment_messages: usize,
    segments: usize,
    beside: usize,
    pub(crate) max_message_bytes: usize,
    pub(crate) on_demand: bool,
    zero_copy: bool,
    pub(crate) when_full: WhenFull,
    strategy: usize,
    lend_ttl: Duration,
}

impl Setup {
    /// What one segment counts against `max_bytes`.
    pub(crate) fn footprint(&self) -> usize {
        self.segment_bytes + ENTRY_BYTES * self.segment_messages + HEADER_BYTES
    }

    pub(crate) fn builder(&self) -> Builder {
        builder()
            .segment_bytes(self.segment_bytes)
            .segment_messages(self.segment_messages)
            .max_bytes(self.segments * self.footprint() + self.beside)
            .max_message_bytes(self.max_message_bytes)
            .on_demand(self.on_demand)
            .read_mode(if self.zero_copy { ReadMode::ZeroCopy } else { ReadMode::Safe })
            .when_full(self.when_full)
            .strategy(AnyStrategy::new(self.strategy))
            .lend_ttl(self.lend_ttl)
    }
}

/// Segments of a few bytes, where everything is large; or of a few KiB, where a message can be anything.
pub(crate) fn setups() -> impl Strategy<Value = Setup> {
    // Often nothing beside whole segments: then the last of them is the last byte, too.
    let beside = |most| prop_oneof![Just(0), 0_usize..most];
    let tiny = (64_usize..200, 1_usize..8, 2_usize..6, beside(400));
    let small = (2048_usize..6000, 1_usize..20, 2_usize..5, beside(90_000));
    let sizes = prop_oneof![3 => tiny, 1 => small];
    let when_full = prop_oneof![
        3 => Just(WhenFull::Wait),
        1 => Just(WhenFull::Reject),
        1 => Just(WhenFull::DropNewest),
        2 => Just(WhenFull::DropOldest),
    ];
    let flags = (any::<bool>(), proptest::bool::weighted(0.75), any::<bool>());
    (sizes, 1_usize..=100, when_full, flags, 0..STRATEGIES).prop_map(
        |(
            (bytes, messages, segments, beside),
            percent,
            when_full,
            (zero_copy, on_demand, lends),
            strategy,
        )| {
            let mut setup = Setup {
                segment_bytes: bytes,
                segment_messages: messages,
                segments,
                beside,
                max_message_bytes: 0,
                on_demand,
                zero_copy,
                when_full,
                strategy,
                lend_ttl: if lends { ms(5000) } else { Duration::ZERO },
            };
            let most = (segments - 1) * setup.footprint() + beside;
            setup.max_message_bytes = (most * percent / 100).max(1);
            setup
        },
    )
}

pub(crate) const STRATEGIES: usize = 8;

/// Each strategy there is, one that never says yes, one that always does, and one that panics.
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
            4 => Box::new(TimeWindow(Duration::ZERO)),
            5 => Box::new(MessageCount(0)),
            6 => Box::new(Never),
            _ => Box::new(Always),
        })
    }
}

impl SwitchStrategy for AnyStrategy {
    fn should_switch(&self, active: &ActiveSegment) -> bool {
        assert!(active.messages > 0, "asked about an empty segment: {active:?}");
        assert!(active.messages <= active.capacity_messages, "{active:?}");
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
    SaysTooMuch,
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
    Wait,
    Timeout(Duration),
    Poll,
    Stream,
    Batch(usize),
    Batches(usize),
    Many(usize),
}

/// One operation. `who` and `which` count round what there is; where there is nothing, nothing is done.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Send { who: usize, by: SendBy, len: usize, owned: bool },
    SendMany { who: usize, lens: Vec<usize> },
    SendWith { who: usize, max_len: usize, len: usize, ending: Ending },
    SinkSend { who: usize, len: usize },
    SinkFlush { who: usize },
    SinkClose { who: usize },
    Recv { who: usize, by: RecvBy, keep: bool },
    Switch { who: usize },
    Drained { who: usize },
    Closed { who: usize },
    SetStrategy { who: usize, strategy: usize },
    SetReadMode { who: usize, zero_copy: bool },
    CloseReceiver { who: usize },
    CloneSender { who: usize },
    DropSender { who: usize },
    CloneReceiver { who: usize },
    DropReceiver { who: usize },
    Downgrade { who: usize },
    Upgrade { which: usize },
    AddSink { who: usize },
    DropSink { who: usize },
    Callback { who: usize, batch: bool },
    Unregister { which: usize },
    Poll { which: usize },
    Cancel { which: usize },
    Forget { which: usize },
    DropKept { which: usize },
    Advance { by: Duration },
    Settle,
}

fn lens() -> impl Strategy<Value = usize> {
    prop_oneof![
        2 => Just(0_usize),
        8 => 1_usize..60,
        3 => 60_usize..300,
        2 => 300_usize..5000,
        1 => 30_000_usize..40_000,
        1 => Just(usize::MAX), // stands for the longest that is allowed
    ]
}

fn sending() -> impl Strategy<Value = Op> {
    let by = prop_oneof![
        2 => Just(SendBy::Try),
        4 => Just(SendBy::Wait),
        1 => (0_u64..20).prop_map(|limit| SendBy::Timeout(ms(limit))),
    ];
    let ending =
        prop_oneof![6 => Just(Ending::Returns), 1 => Just(Ending::Panics), 1 => Just(Ending::SaysTooMuch)];
    let who = any::<u8>().prop_map(usize::from);
    prop_oneof![
        12 => (who.clone(), by, lens(), any::<bool>())
            .prop_map(|(who, by, len, owned)| Op::Send { who, by, len, owned }),
        3 => (who.clone(), vec(lens(), 0..5)).prop_map(|(who, lens)| Op::SendMany { who, lens }),
        1 => (who.clone(), vec(0_usize..20, 30..70)).prop_map(|(who, lens)| Op::SendMany { who, lens }),
        3 => (who.clone(), lens(), 0_usize..80, ending)
            .prop_map(|(who, max_len, len, ending)| Op::SendWith { who, max_len, len, ending }),
        2 => (who.clone(), lens()).prop_map(|(who, len)| Op::SinkSend { who, len }),
        1 => who.clone().prop_map(|who| Op::SinkFlush { who }),
        1 => who.prop_map(|who| Op::SinkClose { who }),
    ]
}

fn receiving() -> impl Strategy<Value = Op> {
    let limit = 0_usize..12;
    let by = prop_oneof![
        4 => Just(RecvBy::Try),
        6 => Just(RecvBy::Wait),
        1 => (0_u64..20).prop_map(|limit| RecvBy::Timeout(ms(limit))),
        1 => Just(RecvBy::Poll),
        1 => Just(RecvBy::Stream),
        2 => limit.clone().prop_map(RecvBy::Batch),
        1 => limit.clone().prop_map(RecvBy::Batches),
        2 => limit.prop_map(RecvBy::Many),
    ];
    (any::<u8>(), by, proptest::bool::weighted(0.2)).prop_map(|(who, by, keep)| Op::Recv {
        who: usize::from(who),
        by,
        keep,
    })
}

fn managing() -> impl Strategy<Value = Op> {
    let who = any::<u8>().prop_map(usize::from);
    prop_oneof![
        3 => who.clone().prop_map(|who| Op::Switch { who }),
        4 => who.clone().prop_map(|who| Op::Drained { who }),
        1 => who.clone().prop_map(|who| Op::Closed { who }),
        3 => (who.clone(), 0..STRATEGIES).prop_map(|(who, strategy)| Op::SetStrategy { who, strategy }),
        3 => (who.clone(), any::<bool>()).prop_map(|(who, zero_copy)| Op::SetReadMode { who, zero_copy }),
        3 => who.clone().prop_map(|who| Op::CloneSender { who }),
        2 => who.clone().prop_map(|who| Op::DropSender { who }),
        3 => who.clone().prop_map(|who| Op::CloneReceiver { who }),
        2 => who.clone().prop_map(|who| Op::DropReceiver { who }),
        1 => who.clone().prop_map(|who| Op::Downgrade { who }),
        1 => who.clone().prop_map(|which| Op::Upgrade { which }),
        2 => who.clone().prop_map(|who| Op::AddSink { who }),
        1 => who.clone().prop_map(|who| Op::DropSink { who }),
        1 => (who.clone(), any::<bool>()).prop_map(|(who, batch)| Op::Callback { who, batch }),
        1 => who.prop_map(|which| Op::Unregister { which }),
    ]
}

fn waiting() -> impl Strategy<Value = Op> {
    let which = any::<u8>().prop_map(usize::from);
    prop_oneof![
        8 => which.clone().prop_map(|which| Op::Poll { which }),
        6 => which.clone().prop_map(|which| Op::Cancel { which }),
        1 => which.clone().prop_map(|which| Op::Forget { which }),
        6 => which.prop_map(|which| Op::DropKept { which }),
        4 => prop_oneof![Just(0_u64), 1..10_u64, Just(2000_u64)].prop_map(|by| Op::Advance { by: ms(by) }),
        4 => Just(Op::Settle),
    ]
}

pub(crate) fn ops() -> impl Strategy<Value = Vec<Op>> {
    let close = any::<u8>().prop_map(|who| Op::CloseReceiver { who: usize::from(who) });
    let op = prop_oneof![
        400 => sending(),
        300 => receiving(),
        100 => managing(),
        150 => waiting(),
        2 => close,
    ];
    vec(op, 1..200)
}
