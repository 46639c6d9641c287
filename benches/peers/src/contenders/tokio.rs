use super::{Contender, RECEIVED, SendResult, Unit, visit_all, visit_one};
use crate::workloads::{Reads, Workload};
use bytes::Bytes;
use std::future::ready;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, UnboundedSender, channel, unbounded_channel};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};

/// The maximum number of messages per receive.
const LIMIT: usize = 256;

fn is_one_by_one(workload: &Workload) -> bool {
    workload.is_read(Reads::OneByOne) && workload.receivers() == 1
}

pub struct One;

impl Contender for One {
    const NAME: &'static str = "tokio-recv";
    const CRATE: &'static str = "tokio";
    const API: &'static str = "mpsc send, recv; Bytes";

    type Tx = Sender<Bytes>;
    type Rx = Receiver<Bytes>;

    fn supports(workload: &Workload) -> bool {
        is_one_by_one(workload)
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        channel(capacity)
    }

    fn clone_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn send_bytes(tx: &mut Self::Tx, message: Bytes) -> impl Future<Output: SendResult> + Send {
        tx.send(message)
    }

    async fn recv(rx: &mut Self::Rx, visit: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        visit_one(rx.recv().await, visit)
    }
}

pub struct Unbounded;

impl Contender for Unbounded {
    const NAME: &'static str = "tokio-unbounded";
    const CRATE: &'static str = "tokio";
    const API: &'static str = "mpsc unbounded send, recv; Bytes";
    const UNIT: Unit = Unit::Unbounded;

    type Tx = UnboundedSender<Bytes>;
    type Rx = UnboundedReceiver<Bytes>;

    fn supports(workload: &Workload) -> bool {
        is_one_by_one(workload)
    }

    fn capacities(_workload: &Workload) -> Vec<usize> {
        vec![0]
    }

    fn open(_capacity: usize) -> (Self::Tx, Self::Rx) {
        unbounded_channel()
    }

    fn clone_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn send_bytes(tx: &mut Self::Tx, message: Bytes) -> impl Future<Output: SendResult> + Send {
        ready(tx.send(message))
    }

    async fn recv(rx: &mut Self::Rx, visit: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        visit_one(rx.recv().await, visit)
    }
}

pub struct Many;

impl Contender for Many {
    const NAME: &'static str = "tokio-recv-many";
    const CRATE: &'static str = "tokio";
    const API: &'static str = "mpsc send, recv_many(256); Bytes";

    type Tx = Sender<Bytes>;
    type Rx = (Receiver<Bytes>, Vec<Bytes>);

    fn supports(workload: &Workload) -> bool {
        workload.is_read(Reads::Batches)
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        let (tx, rx) = channel(capacity);
        (tx, (rx, Vec::with_capacity(LIMIT)))
    }

    fn clone_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn send_bytes(tx: &mut Self::Tx, message: Bytes) -> impl Future<Output: SendResult> + Send {
        tx.send(message)
    }

    async fn recv((rx, messages): &mut Self::Rx, visit: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        rx.recv_many(messages, LIMIT).await;
        visit_all(messages, visit)
    }
}

/// Reserves several permits at once.
pub struct ReservedMany;

impl Contender for ReservedMany {
    const NAME: &'static str = "tokio-reserve-many";
    const CRATE: &'static str = "tokio";
    const API: &'static str = "mpsc reserve_many(64), recv_many(256); Bytes";
    const RUN: usize = 64;

    type Tx = Sender<Bytes>;
    type Rx = (Receiver<Bytes>, Vec<Bytes>);

    fn supports(workload: &Workload) -> bool {
        Many::supports(workload)
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        Many::open(capacity)
    }

    fn clone_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn send_bytes(tx: &mut Self::Tx, message: Bytes) -> impl Future<Output: SendResult> + Send {
        Many::send_bytes(tx, message)
    }

    async fn send_run<'a>(tx: &mut Self::Tx, run: impl ExactSizeIterator<Item = &'a [u8]> + Send) {
        let permits = tx.reserve_many(run.len()).await.expect(RECEIVED);
        permits.zip(run).for_each(|(permit, message)| permit.send(Bytes::copy_from_slice(message)));
    }

    async fn recv(rx: &mut Self::Rx, visit: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        Many::recv(rx, visit).await
    }
}

pub struct UnboundedMany;

impl Contender for UnboundedMany {
    const NAME: &'static str = "tokio-unbounded-many";
    const CRATE: &'static str = "tokio";
    const API: &'static str = "mpsc unbounded send, recv_many(256); Bytes";
    const UNIT: Unit = Unit::Unbounded;

    type Tx = UnboundedSender<Bytes>;
    type Rx = (UnboundedReceiver<Bytes>, Vec<Bytes>);

    fn supports(workload: &Workload) -> bool {
        Many::supports(workload)
    }

    fn capacities(workload: &Workload) -> Vec<usize> {
        Unbounded::capacities(workload)
    }

    fn open(_capacity: usize) -> (Self::Tx, Self::Rx) {
        let (tx, rx) = unbounded_channel();
        (tx, (rx, Vec::with_capacity(LIMIT)))
    }

    fn clone_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn send_bytes(tx: &mut Self::Tx, message: Bytes) -> impl Future<Output: SendResult> + Send {
        ready(tx.send(message))
    }

    async fn recv((rx, messages): &mut Self::Rx, visit: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        rx.recv_many(messages, LIMIT).await;
        visit_all(messages, visit)
    }
}

/// The receiver collects 256 messages, or those of 1 ms.
pub struct Chunks;

impl Contender for Chunks {
    const NAME: &'static str = "tokio-chunks-timeout";
    const CRATE: &'static str = "tokio";
    const API: &'static str = "mpsc send, tokio_stream chunks_timeout(256, 1 ms); Bytes";

    type Tx = Sender<Bytes>;
    type Rx = Pin<Box<dyn Stream<Item = Vec<Bytes>> + Send>>;

    fn supports(workload: &Workload) -> bool {
        Many::supports(workload)
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        let (tx, rx) = channel(capacity);
        (tx, Box::pin(ReceiverStream::new(rx).chunks_timeout(LIMIT, Duration::from_millis(1))))
    }

    fn clone_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn send_bytes(tx: &mut Self::Tx, message: Bytes) -> impl Future<Output: SendResult> + Send {
        tx.send(message)
    }

    async fn recv(rx: &mut Self::Rx, visit: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        let mut messages = rx.next().await.unwrap_or_default();
        visit_all(&mut messages, visit)
    }
}
