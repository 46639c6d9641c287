use super::{Contender, RECEIVED, SendResult, Unit, visit_one};
use crate::workloads::{EventLog, Output, Reads, TRACING, Workload};
use bytes::Bytes;
use std::marker::PhantomData;
use turbostream::{Builder, ReadMode, Receiver, Sender, WhenFull, WorkerGuard};

/// The default of `max_bytes`, which bounds unread messages.
pub(super) const DEFAULT: usize = 16 << 20;

fn capacities(workload: &Workload) -> Vec<usize> {
    if workload.is_stream() { vec![DEFAULT, 1 << 20, 4 << 20, 64 << 20] } else { vec![DEFAULT] }
}

/// A configuration of the channel, for [`OneByOne`].
pub trait Configuration: 'static {
    const NAME: &'static str;
    const API: &'static str;

    fn supports(_: &Workload) -> bool {
        true
    }

    fn capacities(workload: &Workload) -> Vec<usize> {
        capacities(workload)
    }

    fn configure(builder: Builder) -> Builder;
}

/// Sends and receives one by one.
pub struct OneByOne<C>(PhantomData<C>);

impl<C: Configuration> Contender for OneByOne<C> {
    const NAME: &'static str = C::NAME;
    const CRATE: &'static str = "turbostream";
    const API: &'static str = C::API;
    const UNIT: Unit = Unit::Bytes;

    type Tx = Sender;
    type Rx = Receiver;

    fn supports(workload: &Workload) -> bool {
        workload.is_read(Reads::OneByOne) && C::supports(workload)
    }

    fn capacities(workload: &Workload) -> Vec<usize> {
        C::capacities(workload)
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        let builder = turbostream::builder().max_bytes(capacity);
        C::configure(builder).build().expect("the capacity is valid")
    }

    fn clone_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn clone_rx(rx: &Self::Rx) -> Self::Rx {
        rx.clone()
    }

    fn send_bytes(tx: &mut Self::Tx, message: Bytes) -> impl Future<Output: SendResult> + Send {
        tx.send(message)
    }

    fn send(tx: &mut Self::Tx, payload: &[u8]) -> impl Future<Output: SendResult> + Send {
        tx.send(payload)
    }

    async fn recv(rx: &mut Self::Rx, visit: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        visit_one(rx.recv().await, visit)
    }
}

/// Every message is lent.
pub struct ZeroCopy;

impl Configuration for ZeroCopy {
    const NAME: &'static str = "turbostream-zerocopy";
    const API: &'static str = "send(&[u8]) or send(Bytes), recv, ReadMode::ZeroCopy; Bytes";

    fn configure(builder: Builder) -> Builder {
        builder.read_mode(ReadMode::ZeroCopy)
    }
}

/// The default: small messages are copied out.
pub struct Safe;

impl Configuration for Safe {
    const NAME: &'static str = "turbostream-safe";
    const API: &'static str = "send(&[u8]) or send(Bytes), recv, ReadMode::Safe; Bytes";

    fn configure(builder: Builder) -> Builder {
        builder.read_mode(ReadMode::Safe)
    }
}

/// Each of several receivers takes up to 16 messages at once.
pub struct Prefetch;

impl Configuration for Prefetch {
    const NAME: &'static str = "turbostream-prefetch";
    const API: &'static str = "send(&[u8]), recv, ReadMode::ZeroCopy, prefetch(16); Bytes";

    fn supports(workload: &Workload) -> bool {
        workload.receivers() > 1
    }

    fn configure(builder: Builder) -> Builder {
        ZeroCopy::configure(builder).prefetch(16)
    }
}

/// Lends each message until the next one.
pub struct Lent;

impl Contender for Lent {
    const NAME: &'static str = "turbostream-lent";
    const CRATE: &'static str = "turbostream";
    const API: &'static str = "send(&[u8]) or send(Bytes), recv_ref; MessageRef";
    const UNIT: Unit = Unit::Bytes;
    const LENDS: bool = true;

    type Tx = Sender;
    type Rx = Receiver;

    fn supports(workload: &Workload) -> bool {
        workload.is_read(Reads::OneByOne) && workload.receivers() == 1
    }

    fn capacities(workload: &Workload) -> Vec<usize> {
        capacities(workload)
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        OneByOne::<ZeroCopy>::open(capacity)
    }

    fn clone_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn send_bytes(tx: &mut Self::Tx, message: Bytes) -> impl Future<Output: SendResult> + Send {
        tx.send(message)
    }

    fn send(tx: &mut Self::Tx, payload: &[u8]) -> impl Future<Output: SendResult> + Send {
        tx.send(payload)
    }

    async fn recv(rx: &mut Self::Rx, visit: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        rx.recv_ref().await.is_some_and(|message| {
            visit(&message);
            true
        })
    }
}

/// Receives batches and borrows their messages.
pub struct Batched;

impl Contender for Batched {
    const NAME: &'static str = "turbostream-batch";
    const CRATE: &'static str = "turbostream";
    const API: &'static str = "send(&[u8]), recv_batch(8192); &[u8] of an owned Batch";
    const UNIT: Unit = Unit::Bytes;

    type Tx = Sender;
    type Rx = Receiver;

    fn supports(workload: &Workload) -> bool {
        workload.is_read(Reads::Batches)
    }

    fn capacities(workload: &Workload) -> Vec<usize> {
        capacities(workload)
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        OneByOne::<ZeroCopy>::open(capacity)
    }

    fn clone_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn send_bytes(tx: &mut Self::Tx, message: Bytes) -> impl Future<Output: SendResult> + Send {
        tx.send(message)
    }

    fn send(tx: &mut Self::Tx, payload: &[u8]) -> impl Future<Output: SendResult> + Send {
        tx.send(payload)
    }

    async fn recv(rx: &mut Self::Rx, visit: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        rx.recv_batch(8192).await.is_some_and(|batch| {
            batch.iter().for_each(visit);
            true
        })
    }
}

/// Also sends in batches.
pub struct Many;

impl Contender for Many {
    const NAME: &'static str = "turbostream-many";
    const CRATE: &'static str = "turbostream";
    const API: &'static str = "send_many of 64 &[u8], recv_batch(8192); &[u8] of an owned Batch";
    const UNIT: Unit = Unit::Bytes;
    const RUN: usize = 64;

    type Tx = Sender;
    type Rx = Receiver;

    fn supports(workload: &Workload) -> bool {
        Batched::supports(workload)
    }

    fn capacities(workload: &Workload) -> Vec<usize> {
        capacities(workload)
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        Batched::open(capacity)
    }

    fn clone_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn send_bytes(tx: &mut Self::Tx, message: Bytes) -> impl Future<Output: SendResult> + Send {
        Batched::send_bytes(tx, message)
    }

    async fn send_run<'a>(tx: &mut Self::Tx, run: impl ExactSizeIterator<Item = &'a [u8]> + Send) {
        tx.send_many(run).await.expect(RECEIVED);
    }

    async fn recv(rx: &mut Self::Rx, visit: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        Batched::recv(rx, visit).await
    }
}

/// The lines of `tracing`, through a channel to a writer thread.
pub struct TracingWriter;

impl EventLog for TracingWriter {
    const NAME: &'static str = TRACING;
    const CRATE: &'static str = "turbostream";
    const API: &'static str = "tracing_writer, WhenFull::Wait";
    const UNIT: Unit = Unit::Bytes;
    const CAPACITY: usize = DEFAULT;

    type Writer = turbostream::TracingWriter;
    type Guard = WorkerGuard;

    fn open(capacity: usize, out: Output) -> (Self::Writer, Self::Guard) {
        let builder = turbostream::builder().max_bytes(capacity).when_full(WhenFull::Wait);
        builder.tracing_writer(out).expect("the capacity is valid")
    }
}
