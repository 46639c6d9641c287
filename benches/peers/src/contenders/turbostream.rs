use super::{Contender, RECEIVED, Unit, visit_one};
use crate::workloads::{EventLog, Output, Reads, TRACING, Workload};
use bytes::Bytes;
use turbostream::{ReadMode, Receiver, Sender, WhenFull, WorkerGuard};

/// The default of `max_bytes`, which bounds unread messages.
pub(super) const DEFAULT: usize = 16 << 20;

fn capacities(workload: &Workload) -> Vec<usize> {
    if workload.is_stream() { vec![DEFAULT, 1 << 20, 4 << 20, 64 << 20] } else { vec![DEFAULT] }
}

fn open(capacity: usize, mode: ReadMode) -> (Sender, Receiver) {
    turbostream::builder().max_bytes(capacity).read_mode(mode).build().expect("the capacity is valid")
}

/// Every message is lent.
pub struct ZeroCopy;

impl Contender for ZeroCopy {
    const NAME: &'static str = "turbostream-zerocopy";
    const CRATE: &'static str = "turbostream";
    const API: &'static str = "send(&[u8]) or send(Bytes), recv, ReadMode::ZeroCopy; Bytes";
    const UNIT: Unit = Unit::Bytes;

    type Tx = Sender;
    type Rx = Receiver;

    fn supports(workload: &Workload) -> bool {
        workload.is_read(Reads::OneByOne)
    }

    fn capacities(workload: &Workload) -> Vec<usize> {
        capacities(workload)
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        open(capacity, ReadMode::ZeroCopy)
    }

    fn clone_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn clone_rx(rx: &Self::Rx) -> Self::Rx {
        rx.clone()
    }

    async fn send_bytes(tx: &mut Self::Tx, message: Bytes) {
        tx.send(message).await.expect(RECEIVED);
    }

    async fn send(tx: &mut Self::Tx, payload: &[u8]) {
        tx.send(payload).await.expect(RECEIVED);
    }

    async fn recv(rx: &mut Self::Rx, visit: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        visit_one(rx.recv().await, visit)
    }
}

/// The default: small messages are copied out.
pub struct Safe;

impl Contender for Safe {
    const NAME: &'static str = "turbostream-safe";
    const CRATE: &'static str = "turbostream";
    const API: &'static str = "send(&[u8]) or send(Bytes), recv, ReadMode::Safe; Bytes";
    const UNIT: Unit = Unit::Bytes;

    type Tx = Sender;
    type Rx = Receiver;

    fn supports(workload: &Workload) -> bool {
        ZeroCopy::supports(workload)
    }

    fn capacities(workload: &Workload) -> Vec<usize> {
        capacities(workload)
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        open(capacity, ReadMode::Safe)
    }

    fn clone_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn clone_rx(rx: &Self::Rx) -> Self::Rx {
        rx.clone()
    }

    async fn send_bytes(tx: &mut Self::Tx, message: Bytes) {
        tx.send(message).await.expect(RECEIVED);
    }

    async fn send(tx: &mut Self::Tx, payload: &[u8]) {
        tx.send(payload).await.expect(RECEIVED);
    }

    async fn recv(rx: &mut Self::Rx, visit: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        visit_one(rx.recv().await, visit)
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
        open(capacity, ReadMode::ZeroCopy)
    }

    fn clone_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    async fn send_bytes(tx: &mut Self::Tx, message: Bytes) {
        tx.send(message).await.expect(RECEIVED);
    }

    async fn send(tx: &mut Self::Tx, payload: &[u8]) {
        tx.send(payload).await.expect(RECEIVED);
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

/// Consecutive messages of the next batch.
pub struct Coalesced {
    tx: Sender,
    bytes: Vec<u8>,
    lens: Vec<usize>,
}

impl Many {
    const LIMIT: usize = 64;
}

impl Contender for Many {
    const NAME: &'static str = "turbostream-many";
    const CRATE: &'static str = "turbostream";
    const API: &'static str = "send_many of 64 &[u8], recv_batch(8192); &[u8] of an owned Batch";
    const UNIT: Unit = Unit::Bytes;

    type Tx = Coalesced;
    type Rx = Receiver;

    fn supports(workload: &Workload) -> bool {
        Batched::supports(workload)
    }

    fn capacities(workload: &Workload) -> Vec<usize> {
        capacities(workload)
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        let (tx, rx) = Batched::open(capacity);
        (Coalesced::new(tx), rx)
    }

    fn clone_tx(tx: &Self::Tx) -> Self::Tx {
        Coalesced::new(tx.tx.clone())
    }

    async fn send_bytes(tx: &mut Self::Tx, message: Bytes) {
        Self::send(tx, &message).await;
    }

    async fn send(tx: &mut Self::Tx, payload: &[u8]) {
        tx.bytes.extend_from_slice(payload);
        tx.lens.push(payload.len());
        if tx.lens.len() == Self::LIMIT {
            Self::flush(tx).await;
        }
    }

    async fn flush(tx: &mut Self::Tx) {
        let (lens, mut rest) = (&tx.lens, tx.bytes.as_slice());
        let messages = (0..lens.len()).map(|at| {
            let (message, remaining) = rest.split_at(lens[at]);
            rest = remaining;
            message
        });
        tx.tx.send_many(messages).await.expect(RECEIVED);
        tx.bytes.clear();
        tx.lens.clear();
    }

    async fn recv(rx: &mut Self::Rx, visit: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        Batched::recv(rx, visit).await
    }
}

impl Coalesced {
    fn new(tx: Sender) -> Self {
        Self { tx, bytes: Vec::new(), lens: Vec::with_capacity(Many::LIMIT) }
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
