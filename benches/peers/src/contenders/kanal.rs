use super::Contender;
use crate::alloc::Allocator;
use crate::workloads::Workload;
use bytes::Bytes;
use kanal::{AsyncReceiver, AsyncSender, bounded_async};

/// Capacity: messages.
pub struct Kanal;

impl Contender for Kanal {
    const NAME: &'static str = "kanal";
    const CRATE: &'static str = "kanal";
    const API: &'static str = "bounded_async send, recv; Bytes";

    type Tx = AsyncSender<Bytes>;
    type Rx = AsyncReceiver<Bytes>;

    fn capacity(workload: Workload, allocator: Allocator) -> usize {
        match (workload, allocator) {
            (Workload::Copy128, _) => 512,
            (Workload::PingPong128, _) => 16,
        }
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        bounded_async(capacity)
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
