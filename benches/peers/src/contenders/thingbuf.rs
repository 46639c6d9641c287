//! Has no call for batches, and takes part in those with the one it has.

use super::{Contender, RECEIVED, show};
use crate::workloads::{Payload, Workload};
use bytes::Bytes;
use thingbuf::mpsc::{Receiver, Sender, channel, with_recycle};
use thingbuf::recycling::WithCapacity;

/// Writes into and reads from the channel's own vectors, which are used again and again: no message is owned by the
/// receiver, it only looks at one while it lies in the channel.
pub struct Recycled;

impl Contender for Recycled {
    const NAME: &'static str = "thingbuf";
    const CRATE: &'static str = "thingbuf";
    const API: &'static str = "mpsc send_ref, recv_ref; recycled Vec, borrowed in place";

    type Tx = Sender<Vec<u8>, WithCapacity>;
    type Rx = Receiver<Vec<u8>, WithCapacity>;

    fn takes(workload: &Workload) -> bool {
        workload.receivers() == 1 && workload.payload() != Payload::Pass64K
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        with_recycle(capacity, WithCapacity::new().with_min_capacity(128))
    }

    fn another_tx(tx: &Self::Tx) -> Self::Tx {
        tx.clone()
    }

    async fn pass(tx: &mut Self::Tx, message: Bytes) {
        Self::send(tx, &message).await;
    }

    async fn send(tx: &mut Self::Tx, payload: &[u8]) {
        let mut slot = tx.send_ref().await.expect(RECEIVED);
        slot.extend_from_slice(payload);
    }

    async fn recv(rx: &mut Self::Rx, look: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        rx.recv_ref().await.is_some_and(|message| {
            look(&message);
            true
        })
    }
}

/// Carries values, as there is nothing to write in place where messages travel by reference.
pub struct Passed;

impl Contender for Passed {
    const NAME: &'static str = "thingbuf-values";
    const CRATE: &'static str = "thingbuf";
    const API: &'static str = "mpsc send, recv; Bytes";

    type Tx = Sender<Bytes>;
    type Rx = Receiver<Bytes>;

    fn takes(workload: &Workload) -> bool {
        workload.receivers() == 1 && workload.payload() == Payload::Pass64K
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        channel(capacity)
    }

    async fn pass(tx: &mut Self::Tx, message: Bytes) {
        tx.send(message).await.expect(RECEIVED);
    }

    async fn recv(rx: &mut Self::Rx, look: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        show(rx.recv().await, look)
    }
}
