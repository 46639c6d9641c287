//! Pending futures, polled by hand one step at a time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use tokio::time::Instant;
use turbostream::Batch;

use crate::common::ms;
use crate::model::{Kept, Message, Totals};
use crate::ops::Ending;
use crate::world::World;

/// Records whether it was woken.
#[derive(Default)]
pub(crate) struct Flag(AtomicBool);

impl Flag {
    /// Returns a flag, and the waker that sets it.
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let flag = Arc::new(Self::default());
        (Arc::clone(&flag), Waker::from(flag))
    }
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Relaxed)
    }
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendFailure {
    Full,
    Closed,
    TooLarge,
    Timeout,
}

/// The output of a completed future.
pub(crate) enum Outcome {
    Sent(Result<(), SendFailure>),
    SentMany(Result<usize, (SendFailure, usize, Vec<Vec<u8>>)>),
    Panicked,
    Received(Option<Bytes>),
    ReceivedBatch(Option<Batch>),
    ReceivedMany(usize),
    TimedOut,
    Drained(bool),
    Closed,
}

/// A sender that waits for room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitingSender {
    /// When it began to wait, if that is known.
    order: Option<usize>,
    /// What it needs at most.
    pub(crate) needed: usize,
}

/// What a future does.
pub(crate) enum FutureKind {
    Send { message: Message, external: bool, deadline: Option<Instant> },
    SendMany { left: VecDeque<Message>, accepted: usize },
    SendWith { message: Message, max_len: usize, ending: Ending, called: Rc<Cell<bool>> },
    Drained { ordinal: u64 },
    Closed,
    Recv { deadline: Option<Instant> },
    RecvBatch { limit: usize },
    RecvMany { limit: usize, into: Rc<RefCell<Vec<Bytes>>> },
}

impl FutureKind {
    pub(crate) fn sends(&self) -> bool {
        matches!(self, Self::Send { .. } | Self::SendMany { .. } | Self::SendWith { .. })
    }
    pub(crate) fn receives(&self) -> bool {
        matches!(self, Self::Recv { .. } | Self::RecvBatch { .. } | Self::RecvMany { .. })
    }
}

/// A future that is pending, or is no longer polled.
pub(crate) type BoxedFuture = Pin<Box<dyn Future<Output = Outcome>>>;

pub(crate) struct Pending {
    /// The id of the handle that the future uses.
    pub(crate) owner: usize,
    /// Which of all futures it is: senders wait in this order.
    order: usize,
    pub(crate) kind: FutureKind,
    keep: bool,
    pub(crate) flag: Arc<Flag>,
    waker: Waker,
    future: BoxedFuture,
}

impl Pending {
    fn poll(&mut self) -> Poll<Outcome> {
        self.flag.take();
        let mut cx = Context::from_waker(&self.waker);
        let polled = catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(&mut cx)));
        polled.unwrap_or_else(|panic| match self.kind {
            FutureKind::SendWith { ending: Ending::Panics | Ending::ReportsTooMuch, ref called, .. }
                if called.get() =>
            {
                Poll::Ready(Outcome::Panicked)
            }
            _ => resume_unwind(panic),
        })
    }
}

impl World {
    /// Creates a future, and polls it once.
    pub(crate) fn start(
        &mut self,
        owner: usize,
        kind: FutureKind,
        keep: bool,
        future: impl Future<Output = Outcome> + 'static,
    ) {
        let (flag, waker) = Flag::new();
        self.started += 1;
        let order = self.started;
        self.poll(Pending { owner, order, kind, keep, flag, waker, future: Box::pin(future) }, true);
    }

    /// Polls a future that is not in the list, and adds it there if it is pending. At its first poll, and after a wake, the
    /// future must complete if it can. Otherwise another future may have been woken for it.
    pub(crate) fn poll(&mut self, mut pending: Pending, attempts: bool) {
        let before = self.monitor.stats();
        let readable = self.model.readable();
        let must_be_sent = pending.kind.sends() && self.is_empty_for_senders();
        let polled = pending.poll();
        let stats = self.monitor.stats();
        let accepted = Totals::accepted(&stats).since(Totals::accepted(&before));
        let dropped = Totals::dropped(&stats).since(Totals::dropped(&before));
        if must_be_sent {
            let many = matches!(pending.kind, FutureKind::SendMany { .. });
            assert!(
                polled.is_ready() || (many && accepted.messages > 0),
                "no room in an empty channel: {stats:?}"
            );
            assert!(many || dropped.messages == 0, "dropped by an empty channel");
        }
        self.account(&mut pending.kind, accepted, dropped);
        match polled {
            Poll::Ready(outcome) => {
                self.finish(pending.kind, outcome, (accepted, dropped), readable, pending.keep)
            }
            Poll::Pending => {
                assert!(!attempts || !self.must_be_ready(&pending.kind), "not ready");
                self.pending.push(pending);
            }
        }
    }

    /// Records what a future has sent although it may still be pending.
    fn account(&mut self, kind: &mut FutureKind, accepted: Totals, dropped: Totals) {
        let FutureKind::SendMany { left, accepted: sum } = kind else { return };
        let messages: Vec<_> = left.drain(..accepted.messages as usize).collect();
        *sum += messages.len();
        assert_eq!(messages.iter().map(|message| message.len as u64).sum::<u64>(), accepted.bytes);
        let (oldest, drops) = (self.drops_oldest(), self.drops());
        self.model.accept(&messages, dropped, oldest, drops);
    }

    fn finish(
        &mut self,
        kind: FutureKind,
        outcome: Outcome,
        (accepted, dropped): (Totals, Totals),
        readable: usize,
        keep: bool,
    ) {
        match (kind, outcome) {
            (FutureKind::Send { message, external, deadline }, Outcome::Sent(result)) => {
                if result == Err(SendFailure::Timeout) {
                    assert!(deadline.is_some_and(|deadline| Instant::now() >= deadline), "too early");
                }
                self.sent(message, external, result, accepted, dropped);
            }
            (FutureKind::SendMany { left, accepted, .. }, Outcome::SentMany(result)) => {
                self.sent_many(left, accepted, result);
            }
            (FutureKind::SendWith { message, max_len, called, .. }, outcome) => {
                self.sent_with(message, max_len, called.get(), outcome, accepted, dropped);
            }
            (FutureKind::Drained { ordinal }, Outcome::Drained(taken)) => {
                assert_ne!(self.model.is_past(ordinal), Some(false), "earlier messages are still queued");
                assert!(taken || self.discarded_before(ordinal), "no earlier message was dropped unread");
            }
            (FutureKind::Closed, Outcome::Closed) => assert!(self.model.closed),
            (FutureKind::Recv { .. }, Outcome::Received(message)) => self.received(message, keep),
            (FutureKind::Recv { deadline }, Outcome::TimedOut) => {
                assert!(deadline.is_some_and(|deadline| Instant::now() >= deadline), "too early");
                // Another receiver may have been woken for the message.
                let alone = self.monitor.stats().waiting_receivers == 0;
                assert!(
                    !alone || !(self.model.must_be_readable() || self.model.must_be_ended()),
                    "timed out although a message is readable"
                );
            }
            (FutureKind::RecvBatch { limit }, Outcome::ReceivedBatch(batch)) => {
                self.received_batch(batch, limit, keep);
            }
            (FutureKind::RecvMany { limit, into }, Outcome::ReceivedMany(count)) => {
                let messages = into.take();
                assert_eq!(messages.len(), count);
                assert!(
                    count <= limit && count >= limit.min(readable),
                    "{count} of {limit}, {readable} readable"
                );
                if count == 0 && limit > 0 {
                    self.received(None, keep);
                }
                for message in messages {
                    self.received(Some(message), keep);
                }
            }
            _ => panic!("the output of another future"),
        }
    }

    /// Returns whether a future that was just polled has no reason to wait. Senders that wait for room are checked in `settle`.
    fn must_be_ready(&self, kind: &FutureKind) -> bool {
        match kind {
            FutureKind::Send { .. } | FutureKind::SendMany { .. } | FutureKind::SendWith { .. } => {
                self.model.closed || self.setup.when_full != turbostream::WhenFull::Wait
            }
            FutureKind::Drained { ordinal } => self.model.is_past(*ordinal) == Some(true),
            FutureKind::Closed => self.model.closed,
            FutureKind::Recv { .. } | FutureKind::RecvBatch { .. } => {
                self.model.must_be_readable() || self.model.must_be_ended()
            }
            FutureKind::RecvMany { into, .. } => {
                assert!(into.borrow().is_empty(), "received messages while pending");
                self.model.must_be_readable() || self.model.must_be_ended()
            }
        }
    }

    pub(crate) fn cancel(&mut self, which: usize) {
        if !self.pending.is_empty() {
            drop(self.pending.swap_remove(which % self.pending.len()));
        }
    }

    pub(crate) fn cancel_all_of(&mut self, owner: usize) {
        self.pending.retain(|pending| pending.owner != owner);
    }

    /// Forgets a future: it stays registered to the very end, and is never polled again.
    pub(crate) fn forget(&mut self, which: usize) {
        if self.pending.is_empty() {
            return;
        }
        let pending = self.pending.swap_remove(which % self.pending.len());
        self.forgotten_senders.extend(self.waiting_sender(&pending));
        self.forgotten_receivers += usize::from(pending.kind.receives());
        self.forgotten.push(pending.future);
    }

    /// Polls all woken futures, and lets tasks run, until nothing changes. Then no future may wait without a reason, although
    /// no time has passed.
    pub(crate) async fn settle(&mut self) {
        while self.poll_woken().await {}
        for pending in &self.pending {
            assert!(!self.must_be_ready(&pending.kind), "a future that could complete was not woken");
            let (FutureKind::Send { deadline, .. } | FutureKind::Recv { deadline }) = pending.kind else {
                continue;
            };
            assert!(deadline.is_none_or(|deadline| Instant::now() <= deadline + ms(2)), "overdue");
        }
        self.check_waiting_for_room();
        let is_called = self.callbacks.iter().any(|callback| !callback.is_finished());
        assert!(!is_called || !self.model.must_be_readable(), "no callback received a readable message");
        let polled = self.receivers.iter().any(|receiver| receiver.polled.is_some());
        assert!(
            !polled || !(self.model.must_be_readable() || self.model.must_be_ended()),
            "a `poll_recv` was not woken"
        );
    }

    /// Returns what a future that waits for room needs.
    fn waiting_sender(&self, pending: &Pending) -> Option<WaitingSender> {
        let (len, external) = match &pending.kind {
            FutureKind::Send { message, external, .. } => (message.len, *external),
            FutureKind::SendMany { left, .. } => (left[0].len, true),
            FutureKind::SendWith { max_len, .. } => (*max_len, true),
            _ => return None,
        };
        // A new group of messages waits as a new sender.
        let order =
            if matches!(pending.kind, FutureKind::SendMany { .. }) { None } else { Some(pending.order) };
        Some(WaitingSender { order, needed: self.needed(len, external) })
    }

    /// Returns what the senders that wait for room need, forgotten ones included.
    pub(crate) fn waiting_senders(&self) -> Vec<WaitingSender> {
        let pending = self.pending.iter().filter_map(|pending| self.waiting_sender(pending));
        let sinks = self.sinks.iter().filter(|sink| sink.is_waiting);
        let sinks = sinks.map(|_| WaitingSender { order: None, needed: self.needed(1, false) });
        pending.chain(sinks).chain(self.forgotten_senders.iter().copied()).collect()
    }

    /// Checks that each sender that waits for room finds too little, beside what is kept for those before it.
    fn check_waiting_for_room(&self) {
        let stats = self.monitor.stats();
        let all = self.waiting_senders();
        for pending in &self.pending {
            let Some(waiting) = self.waiting_sender(pending) else { continue };
            let before = |other: &&WaitingSender| match (other.order, waiting.order) {
                (Some(other), Some(order)) => other < order,
                _ => true,
            };
            let kept: usize = all.iter().filter(before).map(|other| other.needed).sum();
            // Without an order, its own need is among the others.
            let own = if waiting.order.is_some() { waiting.needed } else { 0 };
            let used = stats.memory_bytes() - stats.pooled_bytes;
            assert!(used + kept + own > stats.max_bytes, "it has room, and waits: {kept} {own} {stats:?}");
        }
    }

    async fn poll_woken(&mut self) -> bool {
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
        let mut any = self.drain_called();
        let mut index = 0;
        while index < self.pending.len() {
            if self.pending[index].flag.take() {
                any = true;
                let pending = self.pending.swap_remove(index);
                self.poll(pending, true);
            } else {
                index += 1;
            }
        }
        for which in 0..self.sinks.len() {
            if self.sinks[which].flag.as_ref().is_some_and(|flag| flag.take()) {
                any = true;
                self.poll_sink(which);
            }
        }
        for which in 0..self.receivers.len() {
            if self.receivers[which].polled.as_ref().is_some_and(|flag| flag.take()) {
                any = true;
                self.poll_receiver(which, false, false);
            }
        }
        any
    }

    /// Passes the messages that callbacks received to the model, in order.
    pub(crate) fn drain_called(&mut self) -> bool {
        let called = std::mem::take(&mut *self.called.lock().unwrap());
        let any = !called.is_empty();
        self.note_switches();
        for message in called {
            self.model.take(&message);
        }
        any
    }

    pub(crate) fn keep(&mut self, kept: Kept, keep: bool) {
        if keep { self.kept.push(kept) } else { kept.check() }
    }
}
