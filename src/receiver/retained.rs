//! External payloads that count against `max_bytes` after they were received, for forwarders.

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::Receiver;
use crate::queue::pool::Pool;
use crate::sync::Arc;

/// An external payload that has left the channel. Its bytes are refunded when the last reference to it is dropped.
struct Retained {
    payload: Bytes,
    pool: Arc<Pool>,
}

impl AsRef<[u8]> for Retained {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl Drop for Retained {
    fn drop(&mut self) {
        self.pool.refund_external(self.payload.len());
    }
}

impl Receiver {
    /// [`poll_recv`](Self::poll_recv), but an external payload counts against `max_bytes` until its last clone is dropped, as
    /// the segments of other messages do.
    pub(crate) fn poll_recv_retained(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        ready!(self.budget.poll_pay(self.clock(), cx));
        let mode = self.read_mode();
        if !self.waiter.is_registered() {
            if let Some(message) = self.take_ahead(mode) {
                self.budget.count_one();
                return Poll::Ready(Some(message));
            }
        }
        let taken = self.poll_own(cx, |queue, head, effects| head.take_retained(queue, mode, effects), |_| 1);
        taken.map(|taken| {
            taken.map(|(payload, external)| match external {
                0 => payload,
                _ => Bytes::from_owner(Retained { payload, pool: Arc::clone(&self.core.queue.pool) }),
            })
        })
    }
}
