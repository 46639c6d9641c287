//! Makes cases out of bytes for a fuzzer. Any bytes make a case, and a small change makes a similar one.

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use turbostream::WhenFull;

use crate::common::ms;
use crate::ops::{Ending, Op, RecvBy, STRATEGIES, SendBy, Setup, TakeBy};

const MAX_OPS: usize = 400;

/// Returns the case that `bytes` encode.
pub(crate) fn case(bytes: &[u8]) -> (Setup, Vec<Op>) {
    let mut bytes = Unstructured::new(bytes);
    let setup = setup(&mut bytes).expect("no range is empty");
    let mut ops = Vec::new();
    while !bytes.is_empty() && ops.len() < MAX_OPS {
        ops.push(op(&mut bytes).expect("no range is empty"));
    }
    (setup, ops)
}

fn setup(bytes: &mut Unstructured<'_>) -> Result<Setup> {
    let flags: u8 = bytes.arbitrary()?;
    let tiny = flags & 1 == 0;
    let setup = Setup {
        segment_bytes: bytes.int_in_range(if tiny { 64..=199 } else { 2048..=6000 })?,
        segment_messages: bytes.int_in_range(1..=if tiny { 7 } else { 19 })?,
        segments: bytes.int_in_range(2..=5)?,
        // Often no bytes beyond whole segments: then the last segment ends at the last byte of the budget.
        extra_bytes: if flags & 2 == 0 {
            0
        } else {
            bytes.int_in_range(0..=if tiny { 400 } else { 90_000 })?
        },
        max_message_bytes: 0,
        on_demand: flags & 4 == 0,
        zero_copy: flags & 8 == 0,
        when_full: match flags >> 5 {
            0 => WhenFull::Reject,
            1 => WhenFull::DropNewest,
            2 | 3 => WhenFull::DropOldest,
            _ => WhenFull::Wait,
        },
        strategy: bytes.int_in_range(0..=STRATEGIES - 1)?,
        lend_ttl: if flags & 16 == 0 { Duration::ZERO } else { ms(5000) },
        prefetch: 1,
        receivers: 1,
    };
    // Of what was read already, so that stored inputs keep their meaning.
    let prefetch = [1, 2, 16][(setup.segments + setup.segment_messages) % 3];
    let receivers = 1 + setup.segment_bytes % 3;
    let setup = Setup { prefetch, receivers, ..setup };
    Ok(setup.with_max_message_percent(bytes.int_in_range(1..=100)?))
}

fn op(bytes: &mut Unstructured<'_>) -> Result<Op> {
    let kind = bytes.arbitrary::<u8>()? % 40;
    let handle: u8 = bytes.arbitrary()?;
    let flag = handle & 0x80 != 0;
    let handle = usize::from(handle & 0x7f);
    Ok(match kind {
        0..=5 => Op::Send { handle, by: send_by(bytes)?, len: len(bytes)?, owned: flag },
        6..=7 => Op::SendMany { handle, lens: lens(bytes)? },
        8..=9 => Op::SendWith {
            handle,
            max_len: len(bytes)?,
            len: bytes.int_in_range(0..=79)?,
            ending: *bytes.choose(&[Ending::Returns, Ending::Panics, Ending::ReportsTooMuch])?,
        },
        10..=13 => Op::Recv { handle, by: recv_by(bytes)?, keep: flag },
        14..=16 => Op::Take { handle, by: take_by(bytes)?, keep: flag },
        17..=18 => Op::Poll { which: handle },
        19..=20 => Op::Cancel { which: handle },
        21..=22 => Op::DropKept { which: handle },
        23 => Op::Advance { by: ms(bytes.int_in_range(0..=20)?) },
        24 => Op::Settle,
        kind => manage(kind, handle, flag, bytes)?,
    })
}

fn manage(kind: u8, handle: usize, flag: bool, bytes: &mut Unstructured<'_>) -> Result<Op> {
    Ok(match kind {
        25 => Op::Switch { handle },
        26 => Op::Drained { handle },
        27 => Op::SetStrategy { handle, strategy: bytes.int_in_range(0..=STRATEGIES - 1)? },
        28 => Op::SetReadMode { handle, zero_copy: flag },
        29 => Op::CloneSender { handle },
        30 => Op::DropSender { handle },
        31 => Op::CloneReceiver { handle },
        32 => Op::DropReceiver { handle },
        33 if flag => Op::Downgrade { handle },
        33 => Op::Upgrade { which: handle },
        34 if flag => Op::AddSink { handle },
        34 => Op::DropSink { handle },
        35 => Op::SinkSend { handle, len: len(bytes)? },
        36 if flag => Op::SinkClose { handle },
        36 => Op::SinkFlush { handle },
        37 => Op::Callback { handle, batch: flag },
        38 if flag => Op::Forget { which: handle },
        38 => Op::Unregister { which: handle },
        _ if flag => Op::Advance { by: ms(2000) },
        _ if handle == 0 => Op::CloseReceiver { handle },
        _ => Op::Closed { handle },
    })
}

fn len(bytes: &mut Unstructured<'_>) -> Result<usize> {
    Ok(match bytes.arbitrary::<u8>()? {
        len @ ..200 => usize::from(len),
        200..220 => bytes.int_in_range(200..=5000)?,
        220..230 => bytes.int_in_range(30_000..=40_000)?,
        _ => usize::MAX, // stands for the longest allowed message
    })
}

fn lens(bytes: &mut Unstructured<'_>) -> Result<Vec<usize>> {
    match bytes.int_in_range(0..=70)? {
        count @ ..6 => (0..count).map(|_| len(bytes)).collect(),
        count => {
            let most: usize = bytes.int_in_range(0..=19)?;
            Ok((0..count).map(|number| number * 7 % (most + 1)).collect())
        }
    }
}

fn send_by(bytes: &mut Unstructured<'_>) -> Result<SendBy> {
    Ok(match bytes.arbitrary::<u8>()? {
        ..80 => SendBy::Try,
        80..200 => SendBy::Wait,
        limit => SendBy::Timeout(ms(u64::from(limit % 20))),
    })
}

fn take_by(bytes: &mut Unstructured<'_>) -> Result<TakeBy> {
    let by: u8 = bytes.arbitrary()?;
    let limit = usize::from(by >> 4) % 12;
    Ok(match by & 0xf {
        0..=2 => TakeBy::Recv,
        3..=5 => TakeBy::Try,
        6 => TakeBy::Ref,
        7 => TakeBy::TryRef,
        8 => TakeBy::Poll,
        9 => TakeBy::Stream,
        10 => TakeBy::Batch(limit),
        11 => TakeBy::TryBatch(limit * 8),
        12 | 13 => TakeBy::Many(limit),
        _ => TakeBy::PollMany(limit),
    })
}

fn recv_by(bytes: &mut Unstructured<'_>) -> Result<RecvBy> {
    let by: u8 = bytes.arbitrary()?;
    let limit = usize::from(by >> 4) % 12;
    Ok(match by & 0xf {
        0..=2 => RecvBy::Try,
        3 => RecvBy::TryBatch(limit * 8),
        4..=7 => RecvBy::Wait,
        8 => RecvBy::Timeout(ms(limit as u64)),
        9 => RecvBy::Poll,
        10 => RecvBy::Stream,
        11 | 12 => RecvBy::Batch(limit),
        13 => RecvBy::Batches(limit),
        _ => RecvBy::Many(limit),
    })
}
