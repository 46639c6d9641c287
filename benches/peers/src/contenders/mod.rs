//! The compared channels, one file per crate, and lower bounds. To add one, implement [`Contender`] and list it in [`ALL`].

mod async_channel;
mod batch_channel;
mod crossfire;
mod flume;
mod kanal;
mod limits;
mod metrics;
mod thingbuf;
mod tokio;
mod tracing_appender;
mod turbostream;

use crate::workloads::{self, EventLog, Job, Outcome, Shape, Workload};
use bytes::Bytes;
use std::future::Future;

/// A channel of byte messages, used through one variant of its API.
pub trait Contender: 'static {
    /// The name for filters: the crate's name, plus the variant if there are several.
    const NAME: &'static str;
    /// The crate's name in Cargo.lock.
    const CRATE: &'static str;
    /// The methods for sending and receiving, and the message type.
    const API: &'static str;
    /// The unit of its capacity.
    const UNIT: Unit = Unit::Messages;
    /// Whether its receiver only borrows a message, until the next one, instead of owning it.
    const LENDS: bool = false;
    /// The number of messages that it sends at once.
    const RUN: usize = 1;
    type Tx: Send + 'static;
    type Rx: Send + 'static;

    /// Whether this API supports the workload.
    fn supports(workload: &Workload) -> bool;

    /// The capacities that `--tune` tries; the first is the default.
    fn capacities(workload: &Workload) -> Vec<usize> {
        workload.queued().map_or_else(|| vec![1024, 64, 256, 8192, 65_536], |queued| vec![queued])
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx);

    /// Another sender handle; required only for workloads with several senders.
    fn clone_tx(_tx: &Self::Tx) -> Self::Tx {
        unreachable!("{} has one sender", Self::NAME)
    }

    /// Another receiver handle; required only for workloads with several receivers.
    fn clone_rx(_rx: &Self::Rx) -> Self::Rx {
        unreachable!("{} has one receiver", Self::NAME)
    }

    /// Sends an external message; waits while the channel is full.
    fn send_bytes(tx: &mut Self::Tx, message: Bytes) -> impl Future<Output: SendResult> + Send;

    /// Copies `payload` into a message and sends it; waits while the channel is full.
    fn send(tx: &mut Self::Tx, payload: &[u8]) -> impl Future<Output: SendResult> + Send {
        Self::send_bytes(tx, Bytes::copy_from_slice(payload))
    }

    /// Sends up to [`RUN`](Self::RUN) messages at once; waits while the channel is full. Required only for runs of several.
    ///
    /// The iterator composes each message when it is asked for it, in a buffer of its own.
    fn send_run<'a>(
        _tx: &mut Self::Tx,
        _run: impl ExactSizeIterator<Item = &'a [u8]> + Send,
    ) -> impl Future<Output = ()> + Send {
        async { unreachable!("{} sends one by one", Self::NAME) }
    }

    /// Waits for a message, or a batch of at least one, calls `visit` for each and drops it.
    /// Returns `false` if the channel is closed and drained.
    fn recv(rx: &mut Self::Rx, visit: &mut (impl FnMut(&[u8]) + Send)) -> impl Future<Output = bool> + Send;
}

/// What a send returns.
///
/// A contender returns the future of its crate as it is: an `async fn` around it would move its arguments in memory once
/// more, which takes as long as sending a small message.
pub trait SendResult {
    /// Panics if the message was not sent.
    fn check(self);
}

impl SendResult for () {
    #[inline]
    fn check(self) {}
}

impl<E: std::fmt::Debug> SendResult for Result<(), E> {
    #[inline]
    fn check(self) {
        self.expect(RECEIVED);
    }
}

/// The unit of a capacity.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Messages,
    Bytes,
    /// No capacity.
    Unbounded,
}

/// A failed send is a bug of this program, as its receivers receive all messages.
const RECEIVED: &str = "the receiver exists";

/// Visits a message, if there is one.
#[inline]
fn visit_one(message: Option<Bytes>, visit: &mut impl FnMut(&[u8])) -> bool {
    message.is_some_and(|message| {
        visit(&message);
        true
    })
}

/// Visits messages and drops them.
#[inline]
fn visit_all(messages: &mut Vec<Bytes>, visit: &mut impl FnMut(&[u8])) -> bool {
    let some = !messages.is_empty();
    messages.drain(..).for_each(|message| visit(&message));
    some
}

/// A contender, type-erased for the driver.
pub struct Entry {
    pub name: &'static str,
    pub krate: &'static str,
    pub api: &'static str,
    pub unit: Unit,
    pub supports: fn(&Workload) -> bool,
    pub capacities: fn(&Workload) -> Vec<usize>,
    pub run: fn(&Workload, Job) -> Result<Outcome, String>,
    /// A lower bound instead of an async channel.
    pub limit: bool,
    pub lends: bool,
}

impl Entry {
    const fn of<C: Contender>() -> Self {
        Self {
            name: C::NAME,
            krate: C::CRATE,
            api: C::API,
            unit: C::UNIT,
            supports: C::supports,
            capacities: C::capacities,
            run: workloads::run::<C>,
            limit: false,
            lends: C::LENDS,
        }
    }

    const fn of_log<L: EventLog>() -> Self {
        Self {
            name: L::NAME,
            krate: L::CRATE,
            api: L::API,
            unit: L::UNIT,
            supports: |workload| workload.shape == Shape::LogEvents,
            capacities: |_| vec![L::CAPACITY],
            run: |_, job| workloads::log_events::<L>(job),
            limit: false,
            lends: false,
        }
    }

    pub fn is_ours(&self) -> bool {
        self.krate == "turbostream"
    }

    /// Whether turbostream is measured against it.
    pub fn is_peer(&self) -> bool {
        !self.limit && !self.is_ours()
    }

    pub fn competes_in(&self, workload: &Workload) -> bool {
        (self.supports)(workload) && (workload.only.is_empty() || workload.only.contains(&self.name))
    }
}

pub static ALL: &[Entry] = &[
    Entry::of::<turbostream::OneByOne<turbostream::ZeroCopy>>(),
    Entry::of::<turbostream::OneByOne<turbostream::Safe>>(),
    Entry::of::<turbostream::OneByOne<turbostream::Prefetch>>(),
    Entry::of::<turbostream::Lent>(),
    Entry::of::<turbostream::Batched>(),
    Entry::of::<turbostream::Many>(),
    Entry::of_log::<turbostream::TracingWriter>(),
    Entry::of_log::<tracing_appender::NonBlocking>(),
    Entry::of::<turbostream::OneByOne<metrics::Recorded>>(),
    Entry::of::<tokio::One>(),
    Entry::of::<tokio::Unbounded>(),
    Entry::of::<tokio::Many>(),
    Entry::of::<tokio::ReservedMany>(),
    Entry::of::<tokio::UnboundedMany>(),
    Entry::of::<tokio::Chunks>(),
    Entry::of::<crossfire::Spsc>(),
    Entry::of::<crossfire::Mpsc>(),
    Entry::of::<crossfire::Mpmc>(),
    Entry::of::<kanal::One>(),
    Entry::of::<kanal::Drained>(),
    Entry::of::<flume::One>(),
    Entry::of::<flume::Drained>(),
    Entry::of::<async_channel::AsyncChannel>(),
    Entry::of::<batch_channel::One>(),
    Entry::of::<batch_channel::Batched>(),
    Entry::of::<thingbuf::Recycled>(),
    Entry::of::<thingbuf::Passed>(),
    limits::RTRB,
    limits::MEMCPY,
];

pub fn find(name: &str) -> Option<&'static Entry> {
    ALL.iter().find(|entry| entry.name == name)
}
