//! Operations of receivers, and how the model records their results.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt};
use tokio::time::Instant;
use turbostream::{Batch, Limit, Receiver, RecvTimeoutError, TryRecvError};

use crate::model::Kept;
use crate::ops::RecvBy;
use crate::pending::{Flag, FutureKind, Outcome};
use crate::world::{SharedReceiver, World};

/// A clone of a receiver for one operation, as several futures of a handle may wait at once.
///
/// It holds the handle too, so it is never the last receiver.
struct Taker {
    rx: Receiver,
    _handle: SharedReceiver,
}

impl Taker {
    fn new(handle: &SharedReceiver) -> Self {
        Self { rx: handle.borrow().clone(), _handle: Rc::clone(handle) }
    }

    /// Returns the clone. A future that calls this captures the handle too.
    fn receiver(&mut self) -> &mut Receiver {
        &mut self.rx
    }
}

impl World {
    pub(crate) fn recv(&mut self, handle: usize, by: RecvBy, keep: bool) {
        let Some(which) = self.receiver(handle) else { return };
        let owner = self.receivers[which].id;
        let mut taker = Taker::new(&self.receivers[which].rx);
        match by {
            RecvBy::Try => match taker.receiver().try_recv() {
                Ok(message) => self.received(Some(message), keep),
                Err(TryRecvError::Closed) => self.received(None, keep),
                Err(_) => assert!(!self.model.must_be_readable() && !self.model.must_be_ended(), "not empty"),
            },
            RecvBy::TryBatch(bytes) => match taker.rx.try_recv_batch(Limit::messages(100).bytes(bytes)) {
                Ok(batch) => {
                    assert!(batch.len() == 1 || batch.payload_bytes() <= bytes, "{batch:?} of {bytes} bytes");
                    self.received_batch(Some(batch), 100, keep);
                }
                Err(TryRecvError::Closed) => self.received_batch(None, 100, keep),
                Err(_) => assert!(!self.model.must_be_readable() && !self.model.must_be_ended(), "not empty"),
            },
            RecvBy::Wait => self.start(owner, FutureKind::Recv { deadline: None }, keep, async move {
                Outcome::Received(taker.receiver().recv().await)
            }),
            RecvBy::Timeout(limit) => {
                let deadline = Some(Instant::now() + limit);
                self.start(owner, FutureKind::Recv { deadline }, keep, async move {
                    match taker.receiver().recv_timeout(limit).await {
                        Ok(message) => Outcome::Received(Some(message)),
                        Err(RecvTimeoutError::Closed) => Outcome::Received(None),
                        Err(_) => Outcome::TimedOut,
                    }
                });
            }
            RecvBy::Poll | RecvBy::Stream => self.poll_receiver(which, matches!(by, RecvBy::Stream), keep),
            RecvBy::Batch(limit) => self.start(owner, FutureKind::RecvBatch { limit }, keep, async move {
                Outcome::ReceivedBatch(taker.receiver().recv_batch(limit).await)
            }),
            RecvBy::Batches(limit) => self.start(owner, FutureKind::RecvBatch { limit }, keep, async move {
                Outcome::ReceivedBatch(taker.receiver().batches(limit).next().await)
            }),
            RecvBy::Many(limit) => {
                let into = Rc::default();
                let kind = FutureKind::RecvMany { limit, into: Rc::clone(&into) };
                self.start(owner, kind, keep, async move {
                    let mut messages = Vec::new();
                    let count = taker.receiver().recv_many(&mut messages, limit).await;
                    into.replace(messages);
                    Outcome::ReceivedMany(count)
                });
            }
        }
    }

    pub(crate) fn poll_receiver(&mut self, which: usize, as_stream: bool, keep: bool) {
        let receiver = &mut self.receivers[which];
        let (flag, waker) = Flag::new();
        let mut cx = Context::from_waker(&waker);
        let mut rx = receiver.rx.borrow_mut();
        let polled = if as_stream { Pin::new(&mut *rx).poll_next(&mut cx) } else { rx.poll_recv(&mut cx) };
        drop(rx);
        receiver.polled = polled.is_pending().then_some(flag);
        match polled {
            Poll::Ready(message) => self.received(message, keep),
            Poll::Pending => {
                assert!(!self.model.must_be_readable() && !self.model.must_be_ended(), "not ready")
            }
        }
    }

    pub(crate) fn received(&mut self, message: Option<Bytes>, keep: bool) {
        self.note_switches();
        match message {
            Some(message) => {
                self.model.take(&message);
                self.keep(Kept::message(message), keep);
            }
            None => assert!(self.model.must_be_ended(), "ended early"),
        }
    }

    pub(crate) fn received_batch(&mut self, batch: Option<Batch>, limit: usize, keep: bool) {
        self.note_switches();
        match batch {
            Some(batch) => {
                assert!((1..=limit.max(1)).contains(&batch.len()));
                self.model.take_batch(&batch);
                self.keep(Kept::batch(batch), keep);
            }
            None => assert!(self.model.must_be_ended(), "ended early"),
        }
    }

    pub(crate) fn register(&mut self, handle: usize, batch: bool) {
        let Some(Ok(rx)) = self.take_receiver(handle) else { return };
        let called = Arc::clone(&self.called);
        self.callbacks.push(if batch {
            rx.on_batch(3, move |batch| called.lock().unwrap().extend(batch))
        } else {
            rx.on_message(move |message| called.lock().unwrap().push(message))
        });
    }

    pub(crate) fn unregister(&mut self, which: usize) {
        let callback = self.callbacks.swap_remove(which % self.callbacks.len());
        let rx = callback.unregister().now_or_never().expect("no call is in progress");
        self.drain_called();
        self.add_receiver(rx);
    }
}
