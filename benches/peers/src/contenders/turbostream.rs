use super::Contender;
use crate::alloc::Allocator;
use crate::workloads::Workload;
use turbostream::{ReadMode, Receiver, Sender};

/// The default.
const CAPACITY: usize = 16 << 20;

/// Capacity: `max_bytes`, and so how much may lie unread.
fn open(capacity: usize, mode: ReadMode) -> (Sender, Receiver) {
    turbostream::builder().max_bytes(capacity).read_mode(mode).build().expect("the capacity is valid")
}

async fn recv(rx: &Receiver, look: &mut (impl FnMut(&[u8]) + Send)) -> bool {
    match rx.recv().await {
        Some(message) => look(&message),
        None => return false,
    }
    true
}

/// Every message is lent.
pub struct ZeroCopy;

impl Contender for ZeroCopy {
    const NAME: &'static str = "turbostream-zerocopy";
    const CRATE: &'static str = "turbostream";
    const API: &'static str = "send(&[u8]), recv, ReadMode::ZeroCopy; Bytes";

    type Tx = Sender;
    type Rx = Receiver;

    fn capacity(_workload: Workload, _allocator: Allocator) -> usize {
        CAPACITY
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        open(capacity, ReadMode::ZeroCopy)
    }

    async fn send(tx: &mut Self::Tx, payload: &[u8]) {
        tx.send(payload).await.expect("the receiver is there");
    }

    async fn recv(rx: &mut Self::Rx, look: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        recv(rx, look).await
    }
}

/// The default: small messages are copied out.
pub struct Safe;

impl Contender for Safe {
    const NAME: &'static str = "turbostream-safe";
    const CRATE: &'static str = "turbostream";
    const API: &'static str = "send(&[u8]), recv, ReadMode::Safe; Bytes";

    type Tx = Sender;
    type Rx = Receiver;

    fn capacity(_workload: Workload, _allocator: Allocator) -> usize {
        CAPACITY
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        open(capacity, ReadMode::Safe)
    }

    async fn send(tx: &mut Self::Tx, payload: &[u8]) {
        tx.send(payload).await.expect("the receiver is there");
    }

    async fn recv(rx: &mut Self::Rx, look: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        recv(rx, look).await
    }
}

/// Reads a batch and looks at its messages where they lie.
pub struct Batched;

impl Contender for Batched {
    const NAME: &'static str = "turbostream-batch";
    const CRATE: &'static str = "turbostream";
    const API: &'static str = "send(&[u8]), recv_batch(8192); &[u8] of an owned Batch";
    const BATCH: bool = true;

    type Tx = Sender;
    type Rx = Receiver;

    fn capacity(_workload: Workload, _allocator: Allocator) -> usize {
        CAPACITY
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        open(capacity, ReadMode::ZeroCopy)
    }

    async fn send(tx: &mut Self::Tx, payload: &[u8]) {
        tx.send(payload).await.expect("the receiver is there");
    }

    async fn recv(rx: &mut Self::Rx, look: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        match rx.recv_batch(8192).await {
            Some(batch) => batch.iter().for_each(look),
            None => return false,
        }
        true
    }
}
