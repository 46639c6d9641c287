//! Random cases.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use turbostream::WhenFull;

use crate::common::ms;
use crate::ops::{Ending, Op, RecvBy, STRATEGIES, SendBy, Setup, TakeBy};

/// Segments of a few bytes, where every message is large, or of a few KiB, where a message can have any size.
pub(crate) fn setups() -> impl Strategy<Value = Setup> {
    // Often no bytes beyond whole segments: then the last segment ends at the last byte of the budget.
    let extra_bytes = |most| prop_oneof![Just(0), 0_usize..most];
    let tiny = (64_usize..200, 1_usize..12, 2_usize..12, extra_bytes(400));
    let small = (2048_usize..6000, 1_usize..20, 2_usize..5, extra_bytes(90_000));
    let sizes = prop_oneof![3 => tiny, 1 => small];
    let when_full = prop_oneof![
        3 => Just(WhenFull::Wait),
        1 => Just(WhenFull::Reject),
        1 => Just(WhenFull::DropNewest),
        2 => Just(WhenFull::DropOldest),
    ];
    let flags = (any::<bool>(), proptest::bool::weighted(0.75), any::<bool>());
    let prefetch = prop_oneof![2 => Just(1_usize), 2 => Just(2), 1 => Just(16)];
    // Several receivers take ahead only if the longest message leaves room beside them.
    let percent = prop_oneof![1_usize..=100, 1_usize..=30];
    let handles = (prefetch, 1_usize..=3);
    (sizes, percent, when_full, flags, 0..STRATEGIES, handles).prop_map(
        |(
            (bytes, messages, segments, extra_bytes),
            percent,
            when_full,
            (zero_copy, on_demand, lends),
            strategy,
            (prefetch, receivers),
        )| {
            let setup = Setup {
                segment_bytes: bytes,
                segment_messages: messages,
                segments,
                extra_bytes,
                max_message_bytes: 0,
                on_demand,
                zero_copy,
                when_full,
                strategy,
                lend_ttl: if lends { ms(5000) } else { Duration::ZERO },
                prefetch,
                receivers,
            };
            setup.with_max_message_percent(percent)
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
        1 => Just(usize::MAX), // stands for the longest allowed message
    ]
}

fn sending() -> impl Strategy<Value = Op> {
    let by = prop_oneof![
        2 => Just(SendBy::Try),
        4 => Just(SendBy::Wait),
        1 => (0_u64..20).prop_map(|limit| SendBy::Timeout(ms(limit))),
    ];
    let ending =
        prop_oneof![6 => Just(Ending::Returns), 1 => Just(Ending::Panics), 1 => Just(Ending::ReportsTooMuch)];
    let handle = any::<u8>().prop_map(usize::from);
    prop_oneof![
        12 => (handle.clone(), by, lens(), any::<bool>())
            .prop_map(|(handle, by, len, owned)| Op::Send { handle, by, len, owned }),
        3 => (handle.clone(), vec(lens(), 0..5)).prop_map(|(handle, lens)| Op::SendMany { handle, lens }),
        1 => (handle.clone(), vec(0_usize..20, 30..70)).prop_map(|(handle, lens)| Op::SendMany { handle, lens }),
        3 => (handle.clone(), lens(), 0_usize..80, ending)
            .prop_map(|(handle, max_len, len, ending)| Op::SendWith { handle, max_len, len, ending }),
        2 => (handle.clone(), lens()).prop_map(|(handle, len)| Op::SinkSend { handle, len }),
        1 => handle.clone().prop_map(|handle| Op::SinkFlush { handle }),
        1 => handle.prop_map(|handle| Op::SinkClose { handle }),
    ]
}

fn receiving() -> impl Strategy<Value = Op> {
    let limit = 0_usize..12;
    let by = prop_oneof![
        4 => Just(RecvBy::Try),
        1 => (0_usize..100).prop_map(RecvBy::TryBatch),
        6 => Just(RecvBy::Wait),
        1 => (0_u64..20).prop_map(|limit| RecvBy::Timeout(ms(limit))),
        1 => Just(RecvBy::Poll),
        1 => Just(RecvBy::Stream),
        2 => limit.clone().prop_map(RecvBy::Batch),
        1 => limit.clone().prop_map(RecvBy::Batches),
        2 => limit.prop_map(RecvBy::Many),
    ];
    (any::<u8>(), by, proptest::bool::weighted(0.2)).prop_map(|(handle, by, keep)| Op::Recv {
        handle: usize::from(handle),
        by,
        keep,
    })
}

fn taking() -> impl Strategy<Value = Op> {
    let limit = 0_usize..12;
    let by = prop_oneof![
        6 => Just(TakeBy::Recv),
        6 => Just(TakeBy::Try),
        3 => Just(TakeBy::Ref),
        2 => Just(TakeBy::TryRef),
        3 => Just(TakeBy::Poll),
        2 => Just(TakeBy::Stream),
        1 => limit.clone().prop_map(TakeBy::Batch),
        1 => (0_usize..100).prop_map(TakeBy::TryBatch),
        1 => limit.clone().prop_map(TakeBy::Many),
        1 => limit.prop_map(TakeBy::PollMany),
    ];
    (any::<u8>(), by, proptest::bool::weighted(0.2)).prop_map(|(handle, by, keep)| Op::Take {
        handle: usize::from(handle),
        by,
        keep,
    })
}

fn managing() -> impl Strategy<Value = Op> {
    let handle = any::<u8>().prop_map(usize::from);
    prop_oneof![
        3 => handle.clone().prop_map(|handle| Op::Switch { handle }),
        4 => handle.clone().prop_map(|handle| Op::Drained { handle }),
        1 => handle.clone().prop_map(|handle| Op::Closed { handle }),
        3 => (handle.clone(), 0..STRATEGIES).prop_map(|(handle, strategy)| Op::SetStrategy { handle, strategy }),
        3 => (handle.clone(), any::<bool>()).prop_map(|(handle, zero_copy)| Op::SetReadMode { handle, zero_copy }),
        3 => handle.clone().prop_map(|handle| Op::CloneSender { handle }),
        2 => handle.clone().prop_map(|handle| Op::DropSender { handle }),
        3 => handle.clone().prop_map(|handle| Op::CloneReceiver { handle }),
        2 => handle.clone().prop_map(|handle| Op::DropReceiver { handle }),
        1 => handle.clone().prop_map(|handle| Op::Downgrade { handle }),
        1 => handle.clone().prop_map(|which| Op::Upgrade { which }),
        2 => handle.clone().prop_map(|handle| Op::AddSink { handle }),
        1 => handle.clone().prop_map(|handle| Op::DropSink { handle }),
        1 => (handle.clone(), any::<bool>()).prop_map(|(handle, batch)| Op::Callback { handle, batch }),
        1 => handle.prop_map(|which| Op::Unregister { which }),
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
    let close = any::<u8>().prop_map(|handle| Op::CloseReceiver { handle: usize::from(handle) });
    let op = prop_oneof![
        400 => sending(),
        60 => receiving(),
        340 => taking(),
        100 => managing(),
        150 => waiting(),
        2 => close,
    ];
    vec(op, 1..200)
}
