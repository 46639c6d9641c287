//! The channels that are compared, one file per crate. To add one: implement [`Contender`] and list it in [`ALL`].

mod async_channel;
mod batch_channel;
mod crossfire;
mod flume;
mod kanal;
mod thingbuf;
mod tokio;
mod turbostream;

use crate::alloc::Allocator;
use crate::workloads::{self, Job, Outcome, Workload};
use std::future::Future;

/// A channel of byte messages, used by one sender task and one receiver task, through one choice of its API.
pub trait Contender: 'static {
    /// What a user filters by: the crate's name, and the variant where there are several.
    const NAME: &'static str;
    /// The crate, as Cargo.lock spells it.
    const CRATE: &'static str;
    /// What is called to write and to read, and what travels.
    const API: &'static str;
    /// Whether one call of the API reads or writes several messages.
    const BATCH: bool = false;
    type Tx: Send + 'static;
    type Rx: Send + 'static;

    /// The capacity this contender is at its best with, in its own unit.
    fn capacity(workload: Workload, allocator: Allocator) -> usize;

    fn open(capacity: usize) -> (Self::Tx, Self::Rx);

    /// Makes an owned message of `payload` and sends it, waiting while the channel is full.
    fn send(tx: &mut Self::Tx, payload: &[u8]) -> impl Future<Output = ()> + Send;

    /// Sends what the sender's side still gathers for a batch.
    fn flush(_tx: &mut Self::Tx) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Waits for a message (a batch: for at least one), shows each to `look` and drops it.
    /// `false`: the channel is closed and drained.
    fn recv(rx: &mut Self::Rx, look: &mut (impl FnMut(&[u8]) + Send)) -> impl Future<Output = bool> + Send;
}

/// A contender as the driver sees it.
pub struct Entry {
    pub name: &'static str,
    pub krate: &'static str,
    pub api: &'static str,
    pub batch: bool,
    pub capacity: fn(Workload, Allocator) -> usize,
    pub run: fn(Workload, Job) -> Result<Outcome, String>,
}

const fn entry<C: Contender>() -> Entry {
    Entry {
        name: C::NAME,
        krate: C::CRATE,
        api: C::API,
        batch: C::BATCH,
        capacity: C::capacity,
        run: workloads::run::<C>,
    }
}

/// The contender all others are set in proportion to.
pub const REFERENCE: &str = "turbostream-zerocopy";

pub static ALL: &[Entry] = &[
    entry::<turbostream::ZeroCopy>(),
    entry::<turbostream::Safe>(),
    entry::<turbostream::Batched>(),
    entry::<tokio::One>(),
    entry::<tokio::Many>(),
    entry::<crossfire::Mpsc>(),
    entry::<crossfire::Spsc>(),
    entry::<kanal::Kanal>(),
    entry::<flume::Flume>(),
    entry::<async_channel::AsyncChannel>(),
    entry::<batch_channel::One>(),
    entry::<batch_channel::Batched>(),
    entry::<thingbuf::ThingBuf>(),
];

pub fn find(name: &str) -> Option<&'static Entry> {
    ALL.iter().find(|entry| entry.name == name)
}
