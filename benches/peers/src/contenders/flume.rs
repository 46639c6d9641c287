use super::{Contender, RECEIVED, show};
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

    fn takes(workload: &Workload) -> bool {
        workload.is_read(Reads::OneByOne)
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
        tx.send_async(message).await.expect(RECEIVED);
    }

    async fn recv(rx: &mut Self::Rx, look: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        show(rx.recv_async().await.ok(), look)
    }
}

/// Waits for one message and takes all that are there then.
pub struct Drained;

impl Contender for Drained {
    const NAME: &'static str = "flume-drain";
    const CRATE: &'static str = "flume";
    const API: &'static str = "bounded send_async, recv_async then drain; Bytes";

    type Tx = Sender<Bytes>;
    type Rx = Receiver<Bytes>;

    fn takes(workload: &Workload) -> bool {
        workload.is_read(Reads::Batches)
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        bounded(capacity)
    }

    fn another_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    async fn pass(tx: &mut Self::Tx, message: Bytes) {
        tx.send_async(message).await.expect(RECEIVED);
    }

    async fn recv(rx: &mut Self::Rx, look: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        let open = show(rx.recv_async().await.ok(), look);
        rx.drain().for_each(|message| look(&message));
        open
    }
}
