//! The channels that are compared, one file per crate, and limits that no channel can pass. To add one: implement
//! [`Contender`] and list it in [`ALL`].

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

/// A channel of byte messages, used through one choice of its API.
pub trait Contender: 'static {
    /// What a user filters by: the crate's name, and the variant where there are several.
    const NAME: &'static str;
    /// The crate, as Cargo.lock spells it.
    const CRATE: &'static str;
    /// What is called to write and to read, and what travels.
    const API: &'static str;
    /// What its capacity counts.
    const UNIT: Unit = Unit::Messages;
    type Tx: Send + 'static;
    type Rx: Send + 'static;

    /// Whether this API is meant for the workload.
    fn takes(workload: &Workload) -> bool;

    /// Capacities worth trying, the first being the usual one.
    fn capacities(workload: &Workload) -> Vec<usize> {
        workload.queued().map_or_else(|| vec![1024, 64, 256, 8192, 65_536], |queued| vec![queued])
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx);

    /// One more sender's handle; asked only of those that take workloads with several.
    fn another_tx(_tx: &Self::Tx) -> Self::Tx {
        unreachable!("{} has one sender", Self::NAME)
    }

    /// One more receiver's handle; asked only of those that take workloads with several.
    fn another_rx(_rx: &Self::Rx) -> Self::Rx {
        unreachable!("{} has one receiver", Self::NAME)
    }

    /// Sends a message by reference count, waiting while the channel is full.
    fn pass(tx: &mut Self::Tx, message: Bytes) -> impl Future<Output = ()> + Send;

    /// Copies `payload` into a message and sends it, waiting while the channel is full.
    fn send(tx: &mut Self::Tx, payload: &[u8]) -> impl Future<Output = ()> + Send {
        Self::pass(tx, Bytes::copy_from_slice(payload))
    }

    /// Sends what the sender's side still gathers for a batch.
    fn flush(_tx: &mut Self::Tx) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Waits for a message (a batch: for at least one), shows each to `look` and drops it.
    /// `false`: the channel is closed and drained.
    fn recv(rx: &mut Self::Rx, look: &mut (impl FnMut(&[u8]) + Send)) -> impl Future<Output = bool> + Send;
}

/// What a capacity counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Messages,
    Bytes,
    /// There is no capacity.
    Unbounded,
}

/// Why a send that fails is a fault of this program: its receivers read to the end.
const RECEIVED: &str = "the receiver is there";

/// Shows a message that came, if one did.
#[inline]
fn show(message: Option<Bytes>, look: &mut impl FnMut(&[u8])) -> bool {
    message.is_some_and(|message| {
        look(&message);
        true
    })
}

/// Shows messages that came and drops them.
#[inline]
fn show_all(messages: &mut Vec<Bytes>, look: &mut impl FnMut(&[u8])) -> bool {
    let some = !messages.is_empty();
    messages.drain(..).for_each(|message| look(&message));
    some
}

/// A contender as the driver sees it.
pub struct Entry {
    pub name: &'static str,
    pub krate: &'static str,
    pub api: &'static str,
    pub unit: Unit,
    pub takes: fn(&Workload) -> bool,
    pub capacities: fn(&Workload) -> Vec<usize>,
    pub run: fn(&Workload, Job) -> Result<Outcome, String>,
    /// No async channel, but what bounds one.
    pub limit: bool,
}

impl Entry {
    const fn of<C: Contender>() -> Self {
        Self {
            name: C::NAME,
            krate: C::CRATE,
            api: C::API,
            unit: C::UNIT,
            takes: C::takes,
            capacities: C::capacities,
            run: workloads::run::<C>,
            limit: false,
        }
    }

    const fn of_log<L: EventLog>() -> Self {
        Self {
            name: L::NAME,
            krate: L::CRATE,
            api: L::API,
            unit: L::UNIT,
            takes: |workload| workload.shape == Shape::LogEvents,
            capacities: |_| vec![L::CAPACITY],
            run: |_, job| workloads::log_events::<L>(job),
            limit: false,
        }
    }

    /// Whether turbostream is measured against it.
    pub fn is_peer(&self) -> bool {
        !self.limit && self.krate != "turbostream"
    }

    pub fn competes_in(&self, workload: &Workload) -> bool {
        (self.takes)(workload) && (workload.only.is_empty() || workload.only.contains(&self.name))
    }
}

pub static ALL: &[Entry] = &[
    Entry::of::<turbostream::ZeroCopy>(),
    Entry::of::<turbostream::Safe>(),
    Entry::of::<turbostream::Batched>(),
    Entry::of::<turbostream::Many>(),
    Entry::of_log::<turbostream::TracingWriter>(),
    Entry::of_log::<tracing_appender::NonBlocking>(),
    Entry::of::<metrics::Recorded>(),
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
