//! What a case consists of: a channel, and what is written to it and read from it.

use arbitrary::{Result, Unstructured};
use turbostream::{Builder, ReadMode, WhenFull, builder};

/// A channel with very little room.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    segment_bytes: usize,
    segment_messages: usize,
    segments: usize,
    extra_bytes: usize,
    pub(crate) max_message_bytes: usize,
    pub(crate) on_demand: bool,
    zero_copy: bool,
    pub(crate) rejects: bool,
    pub(crate) delimiter: Option<u8>,
}

impl Setup {
    pub(crate) fn builder(&self) -> Builder {
        builder()
            .segment_bytes(self.segment_bytes)
            .segment_messages(self.segment_messages)
            .max_bytes(self.segments * self.footprint() + self.extra_bytes)
            .max_message_bytes(self.max_message_bytes)
            .on_demand(self.on_demand)
            .read_mode(if self.zero_copy { ReadMode::ZeroCopy } else { ReadMode::Safe })
            .when_full(if self.rejects { WhenFull::Reject } else { WhenFull::Wait })
    }

    /// Returns what one segment counts against `max_bytes`: its bytes, its header, and an index entry for each message.
    fn footprint(&self) -> usize {
        self.segment_bytes + 8 * self.segment_messages + 128
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// A write. A pending one is repeated with these bytes, as if the first had been dropped.
    Write(Vec<u8>),
    Flush,
    Shutdown,
    TakeBuffer,
    /// Turns the writer into a sender, and into a writer with another delimiter.
    Rewrap(Option<u8>),
    /// A message sent directly by the writer's sender.
    Send(usize),
    Read(usize),
    FillBuf {
        consumed: usize,
    },
    /// A whole message, received by the receiver itself.
    Recv,
    Close,
}

/// Returns the case that `bytes` encode.
pub(crate) fn case(bytes: &[u8]) -> (Setup, Vec<Op>) {
    let mut bytes = Unstructured::new(bytes);
    let setup = setup(&mut bytes).expect("no range is empty");
    let mut ops = Vec::new();
    while !bytes.is_empty() {
        ops.push(op(&mut bytes).expect("no range is empty"));
    }
    (setup, ops)
}

fn setup(bytes: &mut Unstructured<'_>) -> Result<Setup> {
    let flags: u8 = bytes.arbitrary()?;
    let tiny = flags & 1 == 0;
    let mut setup = Setup {
        segment_bytes: bytes.int_in_range(if tiny { 64..=199 } else { 2048..=6000 })?,
        segment_messages: bytes.int_in_range(1..=if tiny { 7 } else { 40 })?,
        segments: bytes.int_in_range(2..=5)?,
        extra_bytes: if flags & 2 == 0 {
            0
        } else {
            bytes.int_in_range(0..=if tiny { 400 } else { 90_000 })?
        },
        max_message_bytes: 0,
        on_demand: flags & 4 == 0,
        zero_copy: flags & 8 == 0,
        rejects: flags & 16 == 0,
        delimiter: delimiter(flags >> 5),
    };
    let most = (setup.segments - 1) * setup.footprint() + setup.extra_bytes;
    setup.max_message_bytes = (most * bytes.int_in_range(1..=100)? / 100).max(1);
    Ok(setup)
}

/// Mostly the newline, so that a fuzzer hits it soon.
fn delimiter(choice: u8) -> Option<u8> {
    (choice % 8 > 1).then_some(b'\n')
}

fn op(bytes: &mut Unstructured<'_>) -> Result<Op> {
    Ok(match bytes.arbitrary::<u8>()? % 32 {
        0..=5 => {
            let len = bytes.int_in_range(0..=40)?;
            Op::Write(bytes.bytes(len.min(bytes.len()))?.to_vec())
        }
        6..=12 => Op::Write(text(bytes)?),
        13..=14 => Op::Flush,
        15 if bytes.ratio(1, 8)? => Op::Shutdown,
        15 => Op::TakeBuffer,
        16 => Op::Rewrap(delimiter(bytes.arbitrary()?)),
        17..=18 => Op::Send(bytes.int_in_range(0..=200)?),
        19..=24 => Op::Read(usize::from(bytes.arbitrary::<u16>()?) % 5000),
        25..=28 => Op::FillBuf { consumed: usize::from(bytes.arbitrary::<u16>()?) % 5000 },
        31 if bytes.ratio(1, 8)? => Op::Close,
        _ => Op::Recv,
    })
}

/// Bytes of which only the length and the distance between delimiters are chosen.
fn text(bytes: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let len = match bytes.arbitrary::<u8>()? {
        len @ ..200 => usize::from(len),
        200..240 => bytes.int_in_range(200..=5000)?,
        _ => bytes.int_in_range(30_000..=70_000)?,
    };
    let (first, every) = (bytes.arbitrary::<u8>()?, usize::from(bytes.arbitrary::<u16>()?));
    let byte = |at: usize| if (at + 1) % (every + 1) == 0 { b'\n' } else { first.wrapping_add(at as u8) };
    Ok((0..len).map(byte).collect())
}
