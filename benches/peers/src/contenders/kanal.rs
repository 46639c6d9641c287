use super::{Contender, SendResult, visit_all, visit_one};
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

    fn supports(workload: &Workload) -> bool {
        workload.is_read(Reads::OneByOne)
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        bounded_async(capacity)
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

/// Waits for one message, then drains all available messages.
pub struct Drained;

impl Contender for Drained {
    const NAME: &'static str = "kanal-drain";
    const CRATE: &'static str = "kanal";
    const API: &'static str = "bounded_async send, recv then drain_into; Bytes";

    type Tx = AsyncSender<Bytes>;
    type Rx = (AsyncReceiver<Bytes>, Vec<Bytes>);

    fn supports(workload: &Workload) -> bool {
        workload.is_read(Reads::Batches)
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        let (tx, rx) = bounded_async(capacity);
        (tx, (rx, Vec::with_capacity(capacity)))
    }

    fn clone_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn send_bytes(tx: &mut Self::Tx, message: Bytes) -> impl Future<Output: SendResult> + Send {
        tx.send(message)
    }

    async fn recv((rx, messages): &mut Self::Rx, visit: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        let open = visit_one(rx.recv().await.ok(), visit);
        // An error means that the channel is closed; the next `recv` returns it as well.
        let _ = rx.drain_into(messages);
        visit_all(messages, visit);
        open
    }
}
