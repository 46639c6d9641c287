use super::Contender;
use crate::alloc::Allocator;
use crate::workloads::Workload;
use bytes::Bytes;
use crossfire::{AsyncRx, AsyncTx, MAsyncTx, detect_backoff_cfg, mpsc, spsc};

/// Capacity: messages.
pub struct Mpsc;

impl Contender for Mpsc {
    const NAME: &'static str = "crossfire-mpsc";
    const CRATE: &'static str = "crossfire";
    const API: &'static str = "mpsc::bounded_async send, recv; Bytes";

    type Tx = MAsyncTx<mpsc::Array<Bytes>>;
    type Rx = AsyncRx<mpsc::Array<Bytes>>;

    fn capacity(workload: Workload, allocator: Allocator) -> usize {
        match (workload, allocator) {
            (Workload::Copy128, Allocator::System) => 512,
            (Workload::Copy128, Allocator::Mimalloc) => 32_768,
            (Workload::PingPong128, _) => 16,
        }
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        detect_backoff_cfg();
        mpsc::bounded_async(capacity)
    }

    async fn send(tx: &mut Self::Tx, payload: &[u8]) {
        tx.send(Bytes::copy_from_slice(payload)).await.expect("the receiver is there");
    }

    async fn recv(rx: &mut Self::Rx, look: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        match rx.recv().await {
            Ok(message) => look(&message),
            Err(_closed) => return false,
        }
        true
    }
}

/// For one sender alone, whose handle cannot be cloned. Capacity: messages.
pub struct Spsc;

impl Contender for Spsc {
    const NAME: &'static str = "crossfire-spsc";
    const CRATE: &'static str = "crossfire";
    const API: &'static str = "spsc::bounded_async send, recv; Bytes";

    type Tx = AsyncTx<spsc::Array<Bytes>>;
    type Rx = AsyncRx<spsc::Array<Bytes>>;

    fn capacity(workload: Workload, allocator: Allocator) -> usize {
        match (workload, allocator) {
            (Workload::Copy128, Allocator::System) => 512,
            (Workload::Copy128, Allocator::Mimalloc) => 8192,
            (Workload::PingPong128, _) => 16,
        }
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        detect_backoff_cfg();
        spsc::bounded_async(capacity)
    }

    async fn send(tx: &mut Self::Tx, payload: &[u8]) {
        tx.send(Bytes::copy_from_slice(payload)).await.expect("the receiver is there");
    }

    async fn recv(rx: &mut Self::Rx, look: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        match rx.recv().await {
            Ok(message) => look(&message),
            Err(_closed) => return false,
        }
        true
    }
}
