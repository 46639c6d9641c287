use super::Contender;
use crate::alloc::Allocator;
use crate::workloads::Workload;
use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Capacity: messages.
pub struct One;

impl Contender for One {
    const NAME: &'static str = "tokio-recv";
    const CRATE: &'static str = "tokio";
    const API: &'static str = "mpsc send, recv; Bytes";

    type Tx = Sender<Bytes>;
    type Rx = Receiver<Bytes>;

    fn capacity(workload: Workload, allocator: Allocator) -> usize {
        match (workload, allocator) {
            (Workload::Copy128, _) => 64,
            (Workload::PingPong128, _) => 16,
        }
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        channel(capacity)
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

/// Capacity: messages.
pub struct Many;

impl Many {
    const LIMIT: usize = 256;
}

impl Contender for Many {
    const NAME: &'static str = "tokio-recv-many";
    const CRATE: &'static str = "tokio";
    const API: &'static str = "mpsc send, recv_many(256); Bytes";
    const BATCH: bool = true;

    type Tx = Sender<Bytes>;
    type Rx = (Receiver<Bytes>, Vec<Bytes>);

    fn capacity(workload: Workload, allocator: Allocator) -> usize {
        match (workload, allocator) {
            (Workload::Copy128, Allocator::System) => 256,
            (Workload::Copy128, Allocator::Mimalloc) => 512,
            (Workload::PingPong128, _) => 16,
        }
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        let (tx, rx) = channel(capacity);
        (tx, (rx, Vec::with_capacity(Self::LIMIT)))
    }

    async fn send(tx: &mut Self::Tx, payload: &[u8]) {
        tx.send(Bytes::copy_from_slice(payload)).await.expect("the receiver is there");
    }

    async fn recv((rx, messages): &mut Self::Rx, look: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        let received = rx.recv_many(messages, Self::LIMIT).await;
        for message in messages.drain(..) {
            look(&message);
        }
        received > 0
    }
}
