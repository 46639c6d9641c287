//! Has no batch methods; batch workloads use the single-message methods.

use super::{Contender, SendResult, visit_one};
use crate::workloads::{Payload, Workload};
use bytes::Bytes;
use thingbuf::mpsc::{Receiver, Sender, channel, with_recycle};
use thingbuf::recycling::WithCapacity;

/// Writes into and reads from the channel's recycled vectors.
///
/// The receiver never owns a message. It borrows the message inside the channel.
pub struct Recycled;

impl Contender for Recycled {
    const NAME: &'static str = "thingbuf";
    const CRATE: &'static str = "thingbuf";
    const API: &'static str = "mpsc send_ref, recv_ref; recycled Vec, borrowed in place";
    const LENDS: bool = true;

    type Tx = Sender<Vec<u8>, WithCapacity>;
    type Rx = Receiver<Vec<u8>, WithCapacity>;

    fn supports(workload: &Workload) -> bool {
        workload.receivers() == 1 && workload.payload() != Payload::Pass64K
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        with_recycle(capacity, WithCapacity::new().with_min_capacity(128))
    }

    fn clone_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    fn send_bytes(tx: &mut Self::Tx, message: Bytes) -> impl Future<Output: SendResult> + Send {
        async move { Self::send(tx, &message).await.check() }
    }

    fn send(tx: &mut Self::Tx, payload: &[u8]) -> impl Future<Output: SendResult> + Send {
        async {
            let mut slot = tx.send_ref().await?;
            slot.extend_from_slice(payload);
            Ok::<_, thingbuf::mpsc::errors::Closed>(())
        }
    }

    async fn recv(rx: &mut Self::Rx, visit: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        rx.recv_ref().await.is_some_and(|message| {
            visit(&message);
            true
        })
    }
}

/// Sends values, as external messages need no copy into the channel.
pub struct Passed;

impl Contender for Passed {
    const NAME: &'static str = "thingbuf-values";
    const CRATE: &'static str = "thingbuf";
    const API: &'static str = "mpsc send, recv; Bytes";

    type Tx = Sender<Bytes>;
    type Rx = Receiver<Bytes>;

    fn supports(workload: &Workload) -> bool {
        workload.receivers() == 1 && workload.payload() == Payload::Pass64K
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        channel(capacity)
    }

    fn send_bytes(tx: &mut Self::Tx, message: Bytes) -> impl Future<Output: SendResult> + Send {
        tx.send(message)
    }

    async fn recv(rx: &mut Self::Rx, visit: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        visit_one(rx.recv().await, visit)
    }
}
