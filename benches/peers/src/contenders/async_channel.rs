use super::{Contender, RECEIVED, show};
use crate::workloads::Workload;
use async_channel::{Receiver, Sender, bounded};
use bytes::Bytes;

/// Has no call for batches, and takes part in those with the one it has.
pub struct AsyncChannel;

impl Contender for AsyncChannel {
    const NAME: &'static str = "async-channel";
    const CRATE: &'static str = "async-channel";
    const API: &'static str = "bounded send, recv; Bytes";

    type Tx = Sender<Bytes>;
    type Rx = Receiver<Bytes>;

    fn takes(_workload: &Workload) -> bool {
        true
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        bounded(capacity)
    }

    fn another_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn another_rx(rx: &Self::Rx) -> Self::Rx {
        rx.clone()
    }

    async fn pass(tx: &mut Self::Tx, message: Bytes) {
        tx.send(message).await.expect(RECEIVED);
    }

    async fn recv(rx: &mut Self::Rx, look: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        show(rx.recv().await.ok(), look)
    }
}
