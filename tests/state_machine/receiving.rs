//! Operations of receivers, and how the model records their results.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt};
use tokio::time::Instant;
use turbostream::{Batch, Limit, MessageRef, Receiver, RecvTimeoutError, TryRecvError};

use crate::model::Kept;
use crate::ops::{RecvBy, TakeBy};
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

/// Returns what was received, `None` at the end, if there was something to receive.
fn now<T>(received: Result<T, TryRecvError>) -> Option<Option<T>> {
    match received {
        Ok(taken) => Some(Some(taken)),
        Err(TryRecvError::Closed) => Some(None),
        Err(_) => None,
    }
}

impl World {
    pub(crate) fn recv(&mut self, handle: usize, by: RecvBy, keep: bool) {
        let Some(which) = self.receiver(handle) else { return };
        let owner = self.receivers[which].id;
        let mut taker = Taker::new(&self.receivers[which].rx);
        self.model.give_back(owner);
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
        let id = receiver.id;
        let (flag, waker) = Flag::new();
        let mut cx = Context::from_waker(&waker);
        let mut rx = receiver.rx.borrow_mut();
        let polled = if as_stream { Pin::new(&mut *rx).poll_next(&mut cx) } else { rx.poll_recv(&mut cx) };
        drop(rx);
        receiver.polled = polled.is_pending().then_some(flag);
        match polled {
            Poll::Ready(message) => self.received_by(id, message, keep, true),
            Poll::Pending => self.found_nothing(id),
        }
    }

    /// Receives what is there now by the handle itself, which may take messages ahead.
    pub(crate) fn take(&mut self, handle: usize, by: TakeBy, keep: bool) {
        let Some(which) = self.receiver(handle) else { return };
        let (id, rx) = (self.receivers[which].id, Rc::clone(&self.receivers[which].rx));
        let readable = self.model.readable();
        let one = match by {
            TakeBy::Recv => rx.borrow_mut().recv().now_or_never(),
            TakeBy::Ref => {
                rx.borrow_mut().recv_ref().now_or_never().map(|message| message.map(MessageRef::into_bytes))
            }
            TakeBy::Try => now(rx.borrow_mut().try_recv()),
            TakeBy::TryRef => now(rx.borrow_mut().try_recv_ref().map(MessageRef::into_bytes)),
            TakeBy::Poll | TakeBy::Stream => {
                return self.poll_receiver(which, matches!(by, TakeBy::Stream), keep);
            }
            TakeBy::Batch(limit) => {
                let batch = rx.borrow_mut().recv_batch(limit).now_or_never();
                return self.took_batch(id, batch, limit, keep);
            }
            TakeBy::TryBatch(bytes) => {
                let batch = now(rx.borrow_mut().try_recv_batch(Limit::messages(100).bytes(bytes)));
                return self.took_batch(id, batch, 100, keep);
            }
            TakeBy::Many(limit) => {
                let mut many = Vec::new();
                let count = rx.borrow_mut().recv_many(&mut many, limit).now_or_never();
                return self.took_many(id, count, many, limit, readable, keep);
            }
            TakeBy::PollMany(limit) => {
                let (limit, mut many) = (limit.max(1), Vec::new());
                let (flag, waker) = Flag::new();
                let polled =
                    rx.borrow_mut().poll_recv_many(&mut Context::from_waker(&waker), &mut many, limit);
                self.receivers[which].polled = polled.is_pending().then_some(flag);
                let count = if let Poll::Ready(count) = polled { Some(count) } else { None };
                return self.took_many(id, count, many, limit, readable, keep);
            }
        };
        match one {
            Some(message) => self.received_by(id, message, keep, false),
            None => self.found_nothing(id),
        }
    }

    fn found_nothing(&mut self, id: usize) {
        assert!(!self.model.must_be_readable_by(id) && !self.model.must_be_ended(), "not ready");
    }

    fn took_batch(&mut self, id: usize, batch: Option<Option<Batch>>, limit: usize, keep: bool) {
        self.model.give_back(id);
        match batch {
            Some(None) => self.received_by(id, None, keep, false),
            Some(batch) => self.received_batch(batch, limit, keep),
            None => self.found_nothing(id),
        }
    }

    fn took_many(
        &mut self,
        id: usize,
        count: Option<usize>,
        many: Vec<Bytes>,
        limit: usize,
        readable: usize,
        keep: bool,
    ) {
        if limit > 0 {
            self.model.give_back(id);
        }
        assert_eq!(many.len(), count.unwrap_or(0));
        assert!(
            count.is_none_or(|count| count >= limit.min(readable)),
            "{count:?} of {limit}, {readable} readable"
        );
        match count {
            Some(0) if limit > 0 => self.received_by(id, None, keep, false),
            None => self.found_nothing(id),
            Some(_) => many.into_iter().for_each(|message| self.received(Some(message), keep)),
        }
    }

    /// Records that this handle got a message, and may have taken others ahead; or that it found the end.
    pub(crate) fn received_by(&mut self, id: usize, message: Option<Bytes>, keep: bool, may_give_back: bool) {
        self.note_switches();
        let Some(message) = message else { return self.model.ended_for(id) };
        let is_lone =
            self.receivers.first().is_none_or(|receiver| receiver.rx.borrow().receiver_count() == 1);
        let ahead = if is_lone || self.drops_oldest() { 0 } else { self.setup.prefetch - 1 };
        self.model.take_by(id, &message, ahead, may_give_back);
        self.keep(Kept::message(message), keep);
    }

    pub(crate) fn received(&mut self, message: Option<Bytes>, keep: bool) {
        self.note_switches();
        match message {
            Some(message) => {
                self.model.take(&message);
                self.keep(Kept::message(message), keep);
            }
            // Clones have taken nothing ahead.
            None => self.model.ended_for(usize::MAX),
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
            None => self.model.ended_for(usize::MAX),
        }
    }

    pub(crate) fn register(&mut self, handle: usize, batch: bool) {
        // Several callbacks would have to be told apart.
        if self.setup.prefetch > 1 {
            return;
        }
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
