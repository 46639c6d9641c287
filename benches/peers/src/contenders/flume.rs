use super::{Contender, SendResult, visit_one};
use crate::workloads::{Reads, Workload};
use bytes::Bytes;
use flume::{Receiver, Sender, bounded};

pub struct One;

impl Contender for One {
    const NAME: &'static str = "flume";
    const CRATE: &'static str = "flume";
    const API: &'static str = "bounded send_async, recv_async; Bytes";

    type Tx = Sender<Bytes>;
    type Rx = Receiver<Bytes>;

    fn supports(workload: &Workload) -> bool {
        workload.is_read(Reads::OneByOne)
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
        tx.send_async(message)
    }

    async fn recv(rx: &mut Self::Rx, visit: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        visit_one(rx.recv_async().await.ok(), visit)
    }
}

/// Waits for one message, then drains all available messages.
pub struct Drained;

impl Contender for Drained {
    const NAME: &'static str = "flume-drain";
    const CRATE: &'static str = "flume";
    const API: &'static str = "bounded send_async, recv_async then drain; Bytes";

    type Tx = Sender<Bytes>;
    type Rx = Receiver<Bytes>;

    fn supports(workload: &Workload) -> bool {
        workload.is_read(Reads::Batches)
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        bounded(capacity)
    }

    fn clone_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn send_bytes(tx: &mut Self::Tx, message: Bytes) -> impl Future<Output: SendResult> + Send {
        tx.send_async(message)
    }

    async fn recv(rx: &mut Self::Rx, visit: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        let open = visit_one(rx.recv_async().await.ok(), visit);
        rx.drain().for_each(|message| visit(&message));
        open
    }
}
