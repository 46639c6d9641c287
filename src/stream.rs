//! The reading end as a stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::{FusedStream, Stream};

use crate::receiver::Receiver;

impl Stream for Receiver {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let message = ready!(self.poll_recv(cx));
        self.terminated = message.is_none();
        Poll::Ready(message)
    }
}

impl FusedStream for Receiver {
    fn is_terminated(&self) -> bool {
        self.terminated
    }
}
