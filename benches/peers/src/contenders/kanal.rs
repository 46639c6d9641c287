use super::{Contender, RECEIVED, show, show_all};
use crate::workloads::{Reads, Workload};
use bytes::Bytes;
use kanal::{AsyncReceiver, AsyncSender, bounded_async};

pub struct One;

impl Contender for One {
    const NAME: &'static str = "kanal";
    const CRATE: &'static str = "kanal";
    const API: &'static str = "bounded_async send, recv; Bytes";

    type Tx = AsyncSender<Bytes>;
    type Rx = AsyncReceiver<Bytes>;

    fn takes(workload: &Workload) -> bool {
        workload.is_read(Reads::OneByOne)
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        bounded_async(capacity)
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

/// Waits for one message and takes all that are there then.
pub struct Drained;

impl Contender for Drained {
    const NAME: &'static str = "kanal-drain";
    const CRATE: &'static str = "kanal";
    const API: &'static str = "bounded_async send, recv then drain_into; Bytes";

    type Tx = AsyncSender<Bytes>;
    type Rx = (AsyncReceiver<Bytes>, Vec<Bytes>);

    fn takes(workload: &Workload) -> bool {
        workload.is_read(Reads::Batches)
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        let (tx, rx) = bounded_async(capacity);
        (tx, (rx, Vec::with_capacity(capacity)))
    }

    fn another_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    async fn pass(tx: &mut Self::Tx, message: Bytes) {
        tx.send(message).await.expect(RECEIVED);
    }

    async fn recv((rx, messages): &mut Self::Rx, look: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        let open = show(rx.recv().await.ok(), look);
        // An error says that the channel is closed, which the next `recv` tells.
        let _ = rx.drain_into(messages);
        show_all(messages, look);
        open
    }
}
