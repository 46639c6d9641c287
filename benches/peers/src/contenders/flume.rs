use super::Contender;
use crate::alloc::Allocator;
use crate::workloads::Workload;
use bytes::Bytes;
use flume::{Receiver, Sender, bounded};

/// Capacity: messages.
pub struct Flume;

impl Contender for Flume {
    const NAME: &'static str = "flume";
    const CRATE: &'static str = "flume";
    const API: &'static str = "bounded send_async, recv_async; Bytes";

    type Tx = Sender<Bytes>;
    type Rx = Receiver<Bytes>;

    fn capacity(workload: Workload, allocator: Allocator) -> usize {
        match (workload, allocator) {
            (Workload::Copy128, Allocator::System) => 256,
            (Workload::Copy128, Allocator::Mimalloc) => 512,
            (Workload::PingPong128, _) => 16,
        }
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        bounded(capacity)
    }

    async fn send(tx: &mut Self::Tx, payload: &[u8]) {
        tx.send_async(Bytes::copy_from_slice(payload)).await.expect("the receiver is there");
    }

    async fn recv(rx: &mut Self::Rx, look: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        match rx.recv_async().await {
            Ok(message) => look(&message),
            Err(_closed) => return false,
        }
        true
    }
}
