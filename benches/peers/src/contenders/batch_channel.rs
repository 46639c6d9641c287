use super::{Contender, RECEIVED, SendResult, visit_all, visit_one};
use crate::workloads::{Reads, Workload};
use batch_channel::{Builder, Receiver, Sender};
use bytes::Bytes;

fn open(capacity: usize) -> (Sender<Bytes>, Receiver<Bytes>) {
    Builder::new().bounded(capacity).preallocate().build_async()
}

pub struct One;

impl Contender for One {
    const NAME: &'static str = "batch-channel-recv";
    const CRATE: &'static str = "batch-channel";
    const API: &'static str = "send, recv; Bytes";

    type Tx = Sender<Bytes>;
    type Rx = Receiver<Bytes>;

    fn supports(workload: &Workload) -> bool {
        workload.is_read(Reads::OneByOne)
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        open(capacity)
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

    async fn recv(rx: &mut Self::Rx, visit: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        visit_one(rx.recv().await, visit)
    }
}

/// Sends and receives in batches.
pub struct Batched;

impl Batched {
    const LIMIT: usize = 64;
}

impl Contender for Batched {
    const NAME: &'static str = "batch-channel-batch";
    const CRATE: &'static str = "batch-channel";
    const API: &'static str = "send_iter of 64, recv_vec(64); Bytes";
    // Instead of `Sender::autobatch`, whose closure would have to contain the whole send loop.
    const RUN: usize = Self::LIMIT;

    type Tx = Sender<Bytes>;
    type Rx = (Receiver<Bytes>, Vec<Bytes>);

    fn supports(workload: &Workload) -> bool {
        workload.is_read(Reads::Batches)
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        let (tx, rx) = open(capacity);
        (tx, (rx, Vec::with_capacity(Self::LIMIT)))
    }

    fn clone_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn send_bytes(tx: &mut Self::Tx, message: Bytes) -> impl Future<Output: SendResult> + Send {
        tx.send(message)
    }

    async fn send_run<'a>(tx: &mut Self::Tx, run: impl ExactSizeIterator<Item = &'a [u8]> + Send) {
        tx.send_iter(run.map(Bytes::copy_from_slice)).await.expect(RECEIVED);
    }

    async fn recv((rx, messages): &mut Self::Rx, visit: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        rx.recv_vec(Self::LIMIT, messages).await;
        visit_all(messages, visit)
    }
}
