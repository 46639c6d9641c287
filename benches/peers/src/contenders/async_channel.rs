use super::Contender;
use crate::alloc::Allocator;
use crate::workloads::Workload;
use async_channel::{Receiver, Sender, bounded};
use bytes::Bytes;

/// Capacity: messages.
pub struct AsyncChannel;

impl Contender for AsyncChannel {
    const NAME: &'static str = "async-channel";
    const CRATE: &'static str = "async-channel";
    const API: &'static str = "bounded send, recv; Bytes";

    type Tx = Sender<Bytes>;
    type Rx = Receiver<Bytes>;

    fn capacity(workload: Workload, allocator: Allocator) -> usize {
        match (workload, allocator) {
            (Workload::Copy128, Allocator::System) => 256,
            (Workload::Copy128, Allocator::Mimalloc) => 65_536,
            (Workload::PingPong128, _) => 16,
        }
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        bounded(capacity)
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
