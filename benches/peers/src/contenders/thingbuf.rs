use super::Contender;
use crate::alloc::Allocator;
use crate::workloads::Workload;
use thingbuf::mpsc::{Receiver, Sender, with_recycle};
use thingbuf::recycling::WithCapacity;

/// Writes into and reads from the channel's own vectors, which are used again and again: no message is owned by the
/// receiver, it only looks at one while it lies in the channel. Capacity: messages.
pub struct ThingBuf;

impl Contender for ThingBuf {
    const NAME: &'static str = "thingbuf";
    const CRATE: &'static str = "thingbuf";
    const API: &'static str = "mpsc send_ref, recv_ref; recycled Vec, borrowed in place";

    type Tx = Sender<Vec<u8>, WithCapacity>;
    type Rx = Receiver<Vec<u8>, WithCapacity>;

    fn capacity(workload: Workload, allocator: Allocator) -> usize {
        match (workload, allocator) {
            (Workload::Copy128, _) => 32_768,
            (Workload::PingPong128, _) => 16,
        }
    }

    fn open(capacity: usize) -> (Self::Tx, Self::Rx) {
        with_recycle(capacity, WithCapacity::new().with_min_capacity(128))
    }

    async fn send(tx: &mut Self::Tx, payload: &[u8]) {
        let mut slot = tx.send_ref().await.expect("the receiver is there");
        slot.extend_from_slice(payload);
    }

    async fn recv(rx: &mut Self::Rx, look: &mut (impl FnMut(&[u8]) + Send)) -> bool {
        match rx.recv_ref().await {
            Some(message) => look(&message),
            None => return false,
        }
        true
    }
}
