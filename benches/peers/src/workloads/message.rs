//! The messages of the workloads.
//!
//! Each starts with a stamp, the sender's number and the message's index, and ends with a seal that proves it whole.

use super::log::Log;
use crate::contenders::{Contender, SendResult};
use bytes::Bytes;
use std::future::Future;
use std::time::Duration;

/// The sender's number in the upper 16 bits, the message's index among that sender's in the lower 48.
#[derive(Clone, Copy)]
pub struct Stamp(u64);

impl Stamp {
    pub fn new(sender: usize, index: u64) -> Self {
        Self((sender as u64) << 48 | index)
    }

    pub fn sender(self) -> usize {
        (self.0 >> 48) as usize
    }

    pub fn index(self) -> u64 {
        self.0 & ((1 << 48) - 1)
    }

    pub fn to_bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }

    fn from_bytes(bytes: &[u8; 8]) -> Self {
        Self(u64::from_le_bytes(*bytes))
    }

    /// The last bytes of a message.
    fn seal(self) -> [u8; 8] {
        (!self.0).to_le_bytes()
    }
}

/// The messages of one sender.
pub trait Source: Send + 'static {
    /// The number of distinct messages; then they repeat.
    const DISTINCT: u64 = u64::MAX;
    /// The time that a receiver works on each message.
    const WORK: Duration = Duration::ZERO;

    fn new(sender: usize) -> Self;

    fn send<C: Contender>(&mut self, tx: &mut C::Tx, index: u64) -> impl Future<Output: SendResult> + Send;

    /// Sends `len` messages at once. Required only for workloads with batches.
    fn send_run<C: Contender>(
        &mut self,
        _tx: &mut C::Tx,
        _first: u64,
        _len: usize,
    ) -> impl Future<Output = ()> + Send {
        async { unreachable!("these messages are sent one by one") }
    }

    /// The stamp of a message; `None` if the message is not whole.
    fn stamp(message: &[u8]) -> Option<Stamp>;
}

/// `LEN` bytes, copied from two buffers in turn; in a run, each from a buffer of its own.
///
/// Each buffer is stamped while the other is sent. A processor that copies bytes which it has just written in narrower
/// pieces waits until these have left its store buffer.
pub struct Copied<const LEN: usize> {
    sender: usize,
    buffers: [[u8; LEN]; 2],
    run: Vec<[u8; LEN]>,
}

impl<const LEN: usize> Copied<LEN> {
    /// The message with this index. It was stamped at the call before, if that was for the index before.
    #[inline]
    pub fn stamped(&mut self, index: u64) -> &[u8] {
        let [even, odd] = &mut self.buffers;
        let (current, next) = if index % 2 == 0 { (even, odd) } else { (odd, even) };
        stamp_into(next, Stamp::new(self.sender, index + 1));
        let stamp = Stamp::new(self.sender, index);
        if current.first_chunk() != Some(&stamp.to_bytes()) {
            stamp_into(current, stamp);
        }
        current
    }

    /// The message with a time after the stamp.
    pub fn stamped_at(&mut self, index: u64, nanos: u64) -> &[u8] {
        let buffer = &mut self.buffers[0];
        buffer[8..16].copy_from_slice(&nanos.to_le_bytes());
        stamp_into(buffer, Stamp::new(self.sender, index))
    }

    /// The time after the stamp.
    pub fn nanos(message: &[u8]) -> u64 {
        message[8..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

impl<const LEN: usize> Source for Copied<LEN> {
    fn new(sender: usize) -> Self {
        Self { sender, buffers: [[0x5a; LEN]; 2], run: Vec::new() }
    }

    #[inline]
    fn send<C: Contender>(&mut self, tx: &mut C::Tx, index: u64) -> impl Future<Output: SendResult> + Send {
        C::send(tx, self.stamped(index))
    }

    #[inline]
    async fn send_run<C: Contender>(&mut self, tx: &mut C::Tx, first: u64, len: usize) {
        let Self { sender, buffers, run } = self;
        run.resize(C::RUN, buffers[0]);
        let messages = run[..len].iter_mut().enumerate();
        let messages =
            messages.map(|(at, buffer)| stamp_into(buffer, Stamp::new(*sender, first + at as u64)));
        C::send_run(tx, messages).await;
    }

    #[inline]
    fn stamp(message: &[u8]) -> Option<Stamp> {
        let message: &[u8; LEN] = message.try_into().ok()?;
        let stamp = Stamp::from_bytes(message.first_chunk()?);
        (message.last_chunk() == Some(&stamp.seal())).then_some(stamp)
    }
}

#[inline]
fn stamp_into<const LEN: usize>(buffer: &mut [u8; LEN], stamp: Stamp) -> &[u8] {
    buffer[..8].copy_from_slice(&stamp.to_bytes());
    buffer[LEN - 8..].copy_from_slice(&stamp.seal());
    buffer
}

/// 128 bytes, copied. The receiver works on each for 5 µs.
pub struct Worked(Copied<128>);

impl Source for Worked {
    const WORK: Duration = Duration::from_micros(5);

    fn new(sender: usize) -> Self {
        Self(Copied::new(sender))
    }

    #[inline]
    fn send<C: Contender>(&mut self, tx: &mut C::Tx, index: u64) -> impl Future<Output: SendResult> + Send {
        self.0.send::<C>(tx, index)
    }

    #[inline]
    fn stamp(message: &[u8]) -> Option<Stamp> {
        Copied::<128>::stamp(message)
    }
}

/// Clones of `Bytes` of 64 KiB, created once and sent round-robin.
pub struct Passed(Vec<Bytes>);

impl Passed {
    pub const LEN: usize = 64 << 10;
}

impl Source for Passed {
    const DISTINCT: u64 = 64;

    fn new(sender: usize) -> Self {
        let message = |index| {
            let stamp = Stamp::new(sender, index);
            let mut bytes = vec![0x5a; Self::LEN];
            bytes[..8].copy_from_slice(&stamp.to_bytes());
            bytes[Self::LEN - 8..].copy_from_slice(&stamp.seal());
            Bytes::from(bytes)
        };
        Self((0..Self::DISTINCT).map(message).collect())
    }

    #[inline]
    fn send<C: Contender>(&mut self, tx: &mut C::Tx, index: u64) -> impl Future<Output: SendResult> + Send {
        C::send_bytes(tx, self.0[(index % Self::DISTINCT) as usize].clone())
    }

    #[inline]
    fn stamp(message: &[u8]) -> Option<Stamp> {
        let stamp = Stamp::from_bytes(message.first_chunk()?);
        (message.len() == Self::LEN && message.last_chunk() == Some(&stamp.seal())).then_some(stamp)
    }
}

/// Lines of a log, each after its stamp. They are composed in two buffers in turn, as in [`Copied`]; in a run, each in a
/// buffer of its own.
pub struct Lines {
    sender: usize,
    buffers: [Vec<u8>; 2],
    run: Vec<Vec<u8>>,
}

impl Source for Lines {
    fn new(sender: usize) -> Self {
        Self { sender, buffers: Default::default(), run: Vec::new() }
    }

    #[inline]
    fn send<C: Contender>(&mut self, tx: &mut C::Tx, index: u64) -> impl Future<Output: SendResult> + Send {
        let [even, odd] = &mut self.buffers;
        let (current, next) = if index % 2 == 0 { (even, odd) } else { (odd, even) };
        compose(next, Stamp::new(self.sender, index + 1));
        let stamp = Stamp::new(self.sender, index);
        if current.first_chunk() != Some(&stamp.to_bytes()) {
            compose(current, stamp);
        }
        C::send(tx, current)
    }

    #[inline]
    async fn send_run<C: Contender>(&mut self, tx: &mut C::Tx, first: u64, len: usize) {
        let Self { sender, run, .. } = self;
        run.resize(C::RUN, Vec::new());
        let messages = run[..len].iter_mut().enumerate();
        let messages = messages.map(|(at, buffer)| compose(buffer, Stamp::new(*sender, first + at as u64)));
        C::send_run(tx, messages).await;
    }

    #[inline]
    fn stamp(message: &[u8]) -> Option<Stamp> {
        let (bytes, line) = message.split_first_chunk()?;
        let stamp = Stamp::from_bytes(bytes);
        let sent = Log::get().line(stamp);
        (line.len() == sent.len() && line.last_chunk::<8>() == sent.last_chunk::<8>()).then_some(stamp)
    }
}

#[inline]
fn compose(buffer: &mut Vec<u8>, stamp: Stamp) -> &[u8] {
    buffer.clear();
    buffer.extend_from_slice(&stamp.to_bytes());
    buffer.extend_from_slice(Log::get().line(stamp));
    buffer
}
