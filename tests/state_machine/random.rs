//! Cases at random.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use turbostream::WhenFull;

use crate::common::ms;
use crate::ops::{Ending, Op, RecvBy, STRATEGIES, SendBy, Setup};

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
            let setup = Setup {
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
            setup.allowing(percent)
        },
    )
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
