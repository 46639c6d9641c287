use super::Contender;
use crate::alloc::Allocator;
use crate::workloads::Workload;
use batch_channel::{Builder, Receiver, Sender};
use bytes::Bytes;

/// Capacity: messages.
pub struct One;

impl Contender for One {
    const NAME: &'static str = "batch-channel-recv";
    const CRATE: &'static str = "batch-channel";
    const API: &'static str = "send, recv; Bytes";

    type Tx = Sender<Bytes>;
    type Rx = Receiver<Bytes>;

    fn capacity(workload: Workload, allocator: Allocator) -> usize {
        match (workload, allocator) {
            (Workload::Copy128, _) => 512,
            (Workload::PingPong128, _) => 16,
        }
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        Builder::new().bounded(capacity).preallocate().build_async()
    }

    async fn send(tx: &mut Self::Tx, payload: &[u8]) {
        tx.send(Bytes::copy_from_slice(payload)).await.expect("the receiver is there");
    }

    async fn recv(rx: &mut Self::Rx, look: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        match rx.recv().await {
            Some(message) => look(&message),
            None => return false,
        }
        true
    }
}

/// Writes and reads in batches, as this crate is made for. Capacity: messages.
pub struct Batched;

impl Batched {
    const LIMIT: usize = 64;
}

impl Contender for Batched {
    const NAME: &'static str = "batch-channel-batch";
    const CRATE: &'static str = "batch-channel";
    const API: &'static str = "send_iter of 64, recv_vec(64); Bytes";
    const BATCH: bool = true;

    /// `Sender::autobatch` written out: it would want the whole send loop inside its closure.
    type Tx = (Sender<Bytes>, Vec<Bytes>);
    type Rx = (Receiver<Bytes>, Vec<Bytes>);

    fn capacity(workload: Workload, allocator: Allocator) -> usize {
        match (workload, allocator) {
            (Workload::Copy128, Allocator::System) => 512,
            (Workload::Copy128, Allocator::Mimalloc) => 8192,
            (Workload::PingPong128, _) => 16,
        }
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        let (tx, rx) = Builder::new().bounded(capacity).preallocate().build_async();
        ((tx, Vec::with_capacity(Self::LIMIT)), (rx, Vec::with_capacity(Self::LIMIT)))
    }

    async fn send(tx: &mut Self::Tx, payload: &[u8]) {
        tx.1.push(Bytes::copy_from_slice(payload));
        if tx.1.len() == Self::LIMIT {
            Self::flush(tx).await;
        }
    }

    async fn flush((tx, messages): &mut Self::Tx) {
        tx.send_iter(messages.drain(..)).await.expect("the receiver is there");
    }

    async fn recv((rx, messages): &mut Self::Rx, look: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        rx.recv_vec(Self::LIMIT, messages).await;
        let received = messages.len();
        for message in messages.drain(..) {
            look(&message);
        }
        received > 0
    }
}
