//! Futures that are under way: polled by hand, one step at a time.

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

use crate::common::{leak, ms};
use crate::model::{Kept, Message, Volume};
use crate::ops::Ending;
use crate::world::World;

/// Remembers that it was woken.
#[derive(Default)]
pub(crate) struct Flag(AtomicBool);

impl Flag {
    /// A flag, and the waker that raises it.
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let flag = Arc::new(Self::default());
        (Arc::clone(&flag), Waker::from(flag))
    }
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Closed,
    TooLarge,
    Timeout,
}

/// What a future that is done says.
pub(crate) enum Outcome {
    Sent(Result<(), Refused>),
    SentMany(Result<usize, (Refused, usize, Vec<Vec<u8>>)>),
    Panicked,
    Received(Option<Bytes>),
    ReceivedBatch(Option<Batch>),
    ReceivedMany(usize),
    TimedOut,
    Drained(bool),
    Closed,
}

/// What it is about.
pub(crate) enum What {
    Send { message: Message, by_reference: bool, deadline: Option<Instant> },
    SendMany { left: VecDeque<Message>, accepted: usize },
    SendWith { message: Message, max_len: usize, ending: Ending, called: Rc<Cell<bool>> },
    Drained { ordinal: u64 },
    Closed,
    Recv { deadline: Option<Instant> },
    RecvBatch { limit: usize },
    RecvMany { limit: usize, into: Rc<RefCell<Vec<Bytes>>> },
}

impl What {
    pub(crate) fn sends(&self) -> bool {
        matches!(self, Self::Send { .. } | Self::SendMany { .. } | Self::SendWith { .. })
    }
    pub(crate) fn receives(&self) -> bool {
        matches!(self, Self::Recv { .. } | Self::RecvBatch { .. } | Self::RecvMany { .. })
    }
}

pub(crate) struct Pending {
    /// The handle that it belongs to.
    pub(crate) owner: usize,
    pub(crate) what: What,
    keep: bool,
    pub(crate) flag: Arc<Flag>,
    waker: Waker,
    future: Pin<Box<dyn Future<Output = Outcome>>>,
}

impl Pending {
    fn poll(&mut self) -> Poll<Outcome> {
        self.flag.take();
        let mut cx = Context::from_waker(&self.waker);
        let polled = catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(&mut cx)));
        polled.unwrap_or_else(|panic| match self.what {
            What::SendWith { ending: Ending::Panics | Ending::SaysTooMuch, ref called, .. }
                if called.get() =>
            {
                Poll::Ready(Outcome::Panicked)
            }
            _ => resume_unwind(panic),
        })
    }
}

impl World {
    /// Starts a future, and polls it once.
    pub(crate) fn start(
        &mut self,
        owner: usize,
        what: What,
        keep: bool,
        future: impl Future<Output = Outcome> + 'static,
    ) {
        let (flag, waker) = Flag::new();
        self.poll(Pending { owner, what, keep, flag, waker, future: Box::pin(future) }, true);
    }

    /// Polls a future that is not in the list, and puts it there if it is not done. If it is the first poll, or the
    /// future was woken, it has to be done if it can; otherwise somebody else may have been woken for it.
    pub(crate) fn poll(&mut self, mut pending: Pending, attempts: bool) {
        let before = self.monitor.stats();
        let readable = self.model.readable();
        let must_be_sent = pending.what.sends() && self.is_empty_for_senders();
        let polled = pending.poll();
        let stats = self.monitor.stats();
        let accepted = Volume::accepted(&stats).since(Volume::accepted(&before));
        let dropped = Volume::dropped(&stats).since(Volume::dropped(&before));
        if must_be_sent {
            let many = matches!(pending.what, What::SendMany { .. });
            assert!(
                polled.is_ready() || (many && accepted.messages > 0),
                "no room in an empty channel: {stats:?}"
            );
            assert!(many || dropped.messages == 0, "dropped by an empty channel");
        }
        self.account(&mut pending.what, accepted, dropped);
        match polled {
            Poll::Ready(outcome) => {
                self.finish(pending.what, outcome, (accepted, dropped), readable, pending.keep)
            }
            Poll::Pending => {
                assert!(!attempts || !self.must_be_ready(&pending.what), "not ready");
                self.pending.push(pending);
            }
        }
    }

    /// What a future has accepted although it may not be done.
    fn account(&mut self, what: &mut What, accepted: Volume, dropped: Volume) {
        let What::SendMany { left, accepted: sum } = what else { return };
        let messages: Vec<_> = left.drain(..accepted.messages as usize).collect();
        *sum += messages.len();
        assert_eq!(messages.iter().map(|message| message.len as u64).sum::<u64>(), accepted.bytes);
        let (oldest, drops) = (self.drops_oldest(), self.drops());
        self.model.accept(&messages, dropped, oldest, drops);
    }

    fn finish(
        &mut self,
        what: What,
        outcome: Outcome,
        (accepted, dropped): (Volume, Volume),
        readable: usize,
        keep: bool,
    ) {
        match (what, outcome) {
            (What::Send { message, by_reference, deadline }, Outcome::Sent(result)) => {
                if result == Err(Refused::Timeout) {
                    assert!(deadline.is_some_and(|deadline| Instant::now() >= deadline), "too early");
                }
                self.sent(message, by_reference, result, accepted, dropped);
            }
            (What::SendMany { left, accepted, .. }, Outcome::SentMany(result)) => {
                self.sent_many(left, accepted, result);
            }
            (What::SendWith { message, max_len, called, .. }, outcome) => {
                self.sent_with(message, max_len, called.get(), outcome, accepted, dropped);
            }
            (What::Drained { ordinal }, Outcome::Drained(taken)) => {
                assert_ne!(self.model.is_past(ordinal), Some(false), "messages are left");
                assert!(taken || self.discarded_before(ordinal), "nothing before was dropped unread");
            }
            (What::Closed, Outcome::Closed) => assert!(self.model.closed),
            (What::Recv { .. }, Outcome::Received(message)) => self.received(message, keep),
            (What::Recv { deadline }, Outcome::TimedOut) => {
                assert!(deadline.is_some_and(|deadline| Instant::now() >= deadline), "too early");
                // Another may have been woken for what there is.
                let alone = self.monitor.stats().waiting_receivers == 0;
                assert!(
                    !alone || !(self.model.must_be_readable() || self.model.must_be_ended()),
                    "timed out"
                );
            }
            (What::RecvBatch { limit }, Outcome::ReceivedBatch(batch)) => {
                self.received_batch(batch, limit, keep);
            }
            (What::RecvMany { limit, into }, Outcome::ReceivedMany(count)) => {
                let messages = into.take();
                assert_eq!(messages.len(), count);
                assert!(
                    count <= limit && count >= limit.min(readable),
                    "{count} of {limit}, {readable} readable"
                );
                assert!(count > 0 || limit == 0 || self.model.must_be_ended());
                for message in messages {
                    self.received(Some(message), keep);
                }
            }
            _ => panic!("another future's outcome"),
        }
    }

    /// Whether a future that was just polled has no reason to wait. One that waits for room is looked at in `settle`.
    fn must_be_ready(&self, what: &What) -> bool {
        match what {
            What::Send { .. } | What::SendMany { .. } | What::SendWith { .. } => {
                self.model.closed || self.setup.when_full != turbostream::WhenFull::Wait
            }
            What::Drained { ordinal } => self.model.is_past(*ordinal) == Some(true),
            What::Closed => self.model.closed,
            What::Recv { .. } | What::RecvBatch { .. } => {
                self.model.must_be_readable() || self.model.must_be_ended()
            }
            What::RecvMany { into, .. } => {
                assert!(into.borrow().is_empty(), "took messages without being done");
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

    /// It stays in its list for ever, and is never polled again.
    pub(crate) fn forget(&mut self, which: usize) {
        if self.pending.is_empty() {
            return;
        }
        let pending = self.pending.swap_remove(which % self.pending.len());
        self.forgotten_senders += usize::from(pending.what.sends());
        self.forgotten_receivers += usize::from(pending.what.receives());
        leak(pending.future);
    }

    /// Polls whatever was woken, and lets tasks run, until nothing happens any more; and then again some times after
    /// the time that a wake may go unheeded. Then nobody may wait who has no reason to.
    pub(crate) async fn settle(&mut self) {
        // Behind somebody who is never polled again every step takes as long as a wake may go unheeded.
        let (mut quiet, mut seen) = (0, self.progress());
        while quiet < 3 {
            while self.poll_woken().await && self.progress() != seen {
                (quiet, seen) = (0, self.progress());
            }
            quiet += 1;
            tokio::time::advance(ms(11)).await;
        }
        while self.poll_woken().await && self.progress() != seen {
            seen = self.progress();
        }
        for pending in &self.pending {
            assert!(!self.must_be_ready(&pending.what), "nobody woke it");
            let (What::Send { deadline, .. } | What::Recv { deadline }) = pending.what else { continue };
            assert!(deadline.is_none_or(|deadline| Instant::now() <= deadline + ms(2)), "overdue");
        }
        self.check_waiting_for_room();
        let is_called = self.callbacks.iter().any(|callback| !callback.is_finished());
        assert!(!is_called || !self.model.must_be_readable(), "no callback took it");
        let polled = self.receivers.iter().any(|receiver| receiver.polled.is_some());
        assert!(
            !polled || !(self.model.must_be_readable() || self.model.must_be_ended()),
            "nobody woke a poll"
        );
    }

    fn progress(&self) -> (Volume, Volume, Volume, usize) {
        (self.model.accepted, self.model.handed_out, self.model.dropped, self.pending.len())
    }

    /// Of those who wait for room at least the first does so for a reason.
    fn check_waiting_for_room(&self) {
        let stats = self.monitor.stats();
        let mut waiting = self.pending.iter().filter(|pending| pending.what.sends()).peekable();
        let parked = self.sinks.iter().filter(|sink| sink.flag.is_some()).filter_map(|sink| sink.parked);
        let mut parked = parked.peekable();
        if waiting.peek().is_none() && parked.peek().is_none() {
            return;
        }
        let is_full = |len: usize, by_reference| self.is_full_for(&stats, len, by_reference);
        let waits_for_room = waiting.any(|pending| match &pending.what {
            What::Send { message, by_reference, .. } => is_full(message.len, *by_reference),
            What::SendMany { left, .. } => is_full(left[0].len, true),
            What::SendWith { max_len, .. } => is_full(*max_len, true),
            _ => unreachable!("it sends nothing"),
        });
        assert!(
            waits_for_room || parked.any(|message| is_full(message.len, true)),
            "room, and all wait: {stats:?}"
        );
    }

    async fn poll_woken(&mut self) -> bool {
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
        let mut any = self.take_called();
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

    /// What callbacks were called with, in order.
    pub(crate) fn take_called(&mut self) -> bool {
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
