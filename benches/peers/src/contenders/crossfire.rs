//! Has no batch methods; batch workloads use the single-message methods.

use super::{Contender, SendResult, visit_one};
use crate::workloads::Workload;
use bytes::Bytes;
use crossfire::{AsyncRx, AsyncTx, MAsyncRx, MAsyncTx, detect_backoff_cfg, mpmc, mpsc, spsc};

/// For a single sender, whose handle cannot be cloned.
pub struct Spsc;

impl Contender for Spsc {
    const NAME: &'static str = "crossfire-spsc";
    const CRATE: &'static str = "crossfire";
    const API: &'static str = "spsc::bounded_async send, recv; Bytes";

    type Tx = AsyncTx<spsc::Array<Bytes>>;
    type Rx = AsyncRx<spsc::Array<Bytes>>;

    fn supports(workload: &Workload) -> bool {
        workload.senders() == 1 && workload.receivers() == 1
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        detect_backoff_cfg();
        spsc::bounded_async(capacity)
    }

    fn send_bytes(tx: &mut Self::Tx, message: Bytes) -> impl Future<Output: SendResult> + Send {
        tx.send(message)
    }

    async fn recv(rx: &mut Self::Rx, visit: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        visit_one(rx.recv().await.ok(), visit)
    }
}

pub struct Mpsc;

impl Contender for Mpsc {
    const NAME: &'static str = "crossfire-mpsc";
    const CRATE: &'static str = "crossfire";
    const API: &'static str = "mpsc::bounded_async send, recv; Bytes";

    type Tx = MAsyncTx<mpsc::Array<Bytes>>;
    type Rx = AsyncRx<mpsc::Array<Bytes>>;

    fn supports(workload: &Workload) -> bool {
        workload.receivers() == 1
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        detect_backoff_cfg();
        mpsc::bounded_async(capacity)
    }

    fn clone_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn send_bytes(tx: &mut Self::Tx, message: Bytes) -> impl Future<Output: SendResult> + Send {
        tx.send(message)
    }

    async fn recv(rx: &mut Self::Rx, visit: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        visit_one(rx.recv().await.ok(), visit)
    }
}

pub struct Mpmc;

impl Contender for Mpmc {
    const NAME: &'static str = "crossfire-mpmc";
    const CRATE: &'static str = "crossfire";
    const API: &'static str = "mpmc::bounded_async send, recv; Bytes";

    type Tx = MAsyncTx<mpmc::Array<Bytes>>;
    type Rx = MAsyncRx<mpmc::Array<Bytes>>;

    fn supports(workload: &Workload) -> bool {
        workload.receivers() > 1
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        detect_backoff_cfg();
        mpmc::bounded_async(capacity)
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
