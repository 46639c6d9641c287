use super::{Contender, SendResult, visit_one};
use crate::workloads::Workload;
use async_channel::{Receiver, Sender, bounded};
use bytes::Bytes;

/// Has no batch methods; batch workloads use the single-message methods.
pub struct AsyncChannel;

impl Contender for AsyncChannel {
    const NAME: &'static str = "async-channel";
    const CRATE: &'static str = "async-channel";
    const API: &'static str = "bounded send, recv; Bytes";

    type Tx = Sender<Bytes>;
    type Rx = Receiver<Bytes>;

    fn supports(_workload: &Workload) -> bool {
        true
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        bounded(capacity)
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
        visit_one(rx.recv().await.ok(), visit)
    }
}
