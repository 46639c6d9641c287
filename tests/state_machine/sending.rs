//! Operations of senders, and how the model records their results.

use std::cell::Cell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Sink;
use tokio::time::Instant;
use turbostream::{Payload, SendError, SendTimeoutError, Sender, Stats, TrySendError, WhenFull};

use crate::model::{Message, Totals};
use crate::ops::{Ending, SendBy};
use crate::pending::{Flag, FutureKind, Outcome, SendFailure};
use crate::world::{SinkState, World};

const EXTERNAL_FROM: usize = 32 << 10;

/// An error of a send that says why, and returns the payload.
trait FailedSend {
    fn failure(&self) -> SendFailure;
}

impl<P> FailedSend for SendError<P> {
    fn failure(&self) -> SendFailure {
        match self {
            Self::Full(_) => SendFailure::Full,
            Self::Closed(_) => SendFailure::Closed,
            Self::TooLarge { .. } => SendFailure::TooLarge,
            _ => unreachable!("no other reason"),
        }
    }
}

impl<P> FailedSend for TrySendError<P> {
    fn failure(&self) -> SendFailure {
        match self {
            Self::Full(_) => SendFailure::Full,
            Self::Closed(_) => SendFailure::Closed,
            Self::TooLarge { .. } => SendFailure::TooLarge,
            _ => unreachable!("no other reason"),
        }
    }
}

impl<P> FailedSend for SendTimeoutError<P> {
    fn failure(&self) -> SendFailure {
        match self {
            Self::Full(_) => SendFailure::Full,
            Self::Timeout(_) => SendFailure::Timeout,
            Self::Closed(_) => SendFailure::Closed,
            Self::TooLarge { .. } => SendFailure::TooLarge,
            _ => unreachable!("no other reason"),
        }
    }
}

/// Returns why a send failed, once `check` was called with what it returned.
fn refused<E: FailedSend, R>(
    result: Result<(), E>,
    check: impl FnOnce(R),
    into_inner: impl FnOnce(E) -> R,
) -> Result<(), SendFailure> {
    result.map_err(|error| {
        let failure = error.failure();
        check(into_inner(error));
        failure
    })
}

/// Returns a check that a returned payload is this one.
fn equals<R: AsRef<[u8]>>(payload: Vec<u8>) -> impl FnOnce(R) {
    move |returned| assert_eq!(returned.as_ref(), payload, "the returned payload changed")
}

/// Sends in the given way; calls `check` with what a refused send returns.
async fn send<P: Payload>(
    tx: Rc<Sender>,
    payload: P,
    by: SendBy,
    check: impl FnOnce(P::Returned),
) -> Outcome {
    Outcome::Sent(match by {
        SendBy::Timeout(limit) => {
            refused(tx.send_timeout(payload, limit).await, check, SendTimeoutError::into_inner)
        }
        SendBy::Wait => refused(tx.send(payload).await, check, SendError::into_inner),
        SendBy::Try => refused(tx.try_send(payload), check, TrySendError::into_inner),
    })
}

impl World {
    pub(crate) fn drops(&self) -> bool {
        matches!(self.setup.when_full, WhenFull::DropNewest | WhenFull::DropOldest)
    }

    pub(crate) fn drops_oldest(&self) -> bool {
        self.setup.when_full == WhenFull::DropOldest
    }

    /// Returns the next message; `usize::MAX` stands for the longest allowed one.
    fn message(&mut self, len: usize) -> Message {
        self.next_id += 1;
        let len = if len == usize::MAX { self.setup.max_message_bytes } else { len };
        Message { id: self.next_id, len: len.min(self.setup.max_message_bytes + 20) }
    }

    fn is_external(&self, len: usize, owned: bool) -> bool {
        owned && len >= EXTERNAL_FROM || len > self.setup.footprint()
    }

    /// Returns whether there may be no room for such a message. An open segment may have room all the same.
    /// Returns what a message needs at most: a segment, and memory of its own.
    pub(crate) fn needed(&self, len: usize, external: bool) -> usize {
        self.setup.footprint() + if external { len } else { 0 }
    }

    /// Returns whether there is too little memory for a message beside what is kept for senders that wait.
    fn is_full_for(&self, stats: &Stats, len: usize, external: bool) -> bool {
        let kept: usize = self.waiting_senders().iter().map(|waiting| waiting.needed).sum();
        let used = stats.memory_bytes() - stats.pooled_bytes;
        used + kept + self.needed(len, external) > stats.max_bytes
    }

    /// Returns whether there is nothing that a sender could wait for.
    pub(crate) fn is_empty_for_senders(&self) -> bool {
        let no_other_sender =
            self.forgotten_senders.is_empty() && !self.pending.iter().any(|pending| pending.kind.sends());
        no_other_sender
            && self.kept.is_empty()
            && self.model.len() == 0
            && self.sinks.iter().all(|sink| !sink.is_waiting)
    }

    pub(crate) fn send(&mut self, handle: usize, by: SendBy, len: usize, owned: bool) {
        let Some((owner, tx)) = self.sender(handle) else { return };
        let message = self.message(len);
        let external = self.is_external(message.len, owned) || message.len >= 64;
        let deadline = match by {
            SendBy::Timeout(limit) => Some(Instant::now() + limit),
            _ => None,
        };
        let kind = FutureKind::Send { message, external, deadline };
        let payload = message.payload();
        if owned {
            self.start(
                owner,
                kind,
                false,
                async move { send(tx, payload.clone(), by, equals(payload)).await },
            );
        } else {
            self.start(owner, kind, false, async move { send(tx, &payload[..], by, |()| {}).await });
        }
    }

    pub(crate) fn sent(
        &mut self,
        message: Message,
        external: bool,
        result: Result<(), SendFailure>,
        accepted: Totals,
        dropped: Totals,
    ) {
        match result {
            Ok(()) => {
                assert!(!self.model.closed && message.len <= self.setup.max_message_bytes);
                assert_eq!(accepted, Totals { messages: 1, bytes: message.len as u64 });
                let (oldest, drops) = (self.drops_oldest(), self.drops());
                self.model.accept(&[message], dropped, oldest, drops);
            }
            Err(failure) => {
                assert_eq!(accepted, Totals::default(), "failed, and was sent");
                assert_eq!(dropped, Totals::default(), "failed, and others were dropped for it");
                self.check_failure(message.len, external, failure);
            }
        }
    }

    fn check_failure(&self, len: usize, external: bool, failure: SendFailure) {
        let too_large = len > self.setup.max_message_bytes;
        match failure {
            SendFailure::Closed => assert!(self.model.closed),
            SendFailure::TooLarge => assert!(too_large),
            SendFailure::Full | SendFailure::Timeout => {
                assert!(!too_large && !self.model.closed && !self.drops(), "{failure:?}");
                assert!(!self.is_empty_for_senders(), "an empty channel reports `Full`");
                let stats = self.monitor.stats();
                assert!(self.is_full_for(&stats, len, external), "room for {len}: {stats:?}");
            }
        }
    }

    pub(crate) fn send_many(&mut self, handle: usize, lens: &[usize]) {
        let Some((owner, tx)) = self.sender(handle) else { return };
        // Each message that may have been dropped doubles the number of orders that the model keeps.
        let most = if self.drops() { 3 } else { usize::MAX };
        let messages: VecDeque<_> = lens.iter().take(most).map(|&len| self.message(len)).collect();
        let payloads: Vec<_> = messages.iter().map(|message| Bytes::from(message.payload())).collect();
        let kind = FutureKind::SendMany { left: messages, accepted: 0 };
        self.start(owner, kind, false, async move {
            Outcome::SentMany(tx.send_many(payloads).await.map_err(|error| {
                let failure = error.failure();
                let unsent = error.into_inner();
                (failure, unsent.accepted, unsent.into_iter().map(Vec::from).collect())
            }))
        });
    }

    pub(crate) fn sent_many(
        &mut self,
        left: VecDeque<Message>,
        accepted: usize,
        result: Result<usize, (SendFailure, usize, Vec<Vec<u8>>)>,
    ) {
        match result {
            Ok(count) => assert!(left.is_empty() && count == accepted, "{count}, {accepted}, {left:?}"),
            Err((failure, count, unsent)) => {
                assert_eq!(count, accepted);
                assert!(
                    unsent.iter().eq(left.iter().map(|message| message.payload()).collect::<Vec<_>>().iter())
                );
                self.check_failure(left[0].len, true, failure);
            }
        }
    }

    pub(crate) fn send_with(&mut self, handle: usize, max_len: usize, len: usize, ending: Ending) {
        let Some((owner, tx)) = self.sender(handle) else { return };
        let max_len = self.message(max_len).len;
        let message = self.message(len.min(max_len));
        let called = Rc::new(Cell::new(false));
        let calls = Rc::clone(&called);
        let write = move |buf: &mut [u8]| {
            assert!(!calls.replace(true), "called twice");
            assert!(buf == vec![0; max_len]);
            buf[..message.len].copy_from_slice(&message.payload());
            match ending {
                Ending::Returns => message.len,
                Ending::ReportsTooMuch => max_len + 1,
                Ending::Panics => std::panic::panic_any("hostile"),
            }
        };
        let kind = FutureKind::SendWith { message, max_len, ending, called };
        self.start(owner, kind, false, async move {
            Outcome::Sent(tx.send_with(max_len, write).await.map_err(|error| error.failure()))
        });
    }

    pub(crate) fn sent_with(
        &mut self,
        message: Message,
        max_len: usize,
        called: bool,
        outcome: Outcome,
        accepted: Totals,
        dropped: Totals,
    ) {
        let oldest = self.drops_oldest();
        match outcome {
            Outcome::Panicked => {
                assert_eq!(accepted, Totals::default(), "padding was accepted");
                self.model.abandon(dropped, oldest);
            }
            Outcome::Sent(Ok(())) if called => {
                assert_eq!(accepted, Totals { messages: 1, bytes: message.len as u64 });
                self.model.accept(&[message], dropped, oldest, false);
            }
            Outcome::Sent(Ok(())) => {
                assert_eq!(accepted, Totals { messages: 1, bytes: max_len as u64 });
                self.model.record_refused(max_len, dropped, oldest);
            }
            Outcome::Sent(Err(failure)) => {
                assert!(!called, "failed, and the closure was called");
                assert_eq!((accepted, dropped), Default::default());
                self.check_failure(max_len, true, failure);
            }
            _ => panic!("the output of another future"),
        }
    }

    pub(crate) fn sink_send(&mut self, handle: usize, len: usize) {
        let Some(which) = self.sink(handle) else { return };
        if !self.poll_sink(which) {
            return;
        }
        let message = self.message(len);
        if self.setup.when_full == WhenFull::Wait
            && self.is_full_for(&self.monitor.stats(), message.len, true)
        {
            return; // it might be parked, and then sent at any time
        }
        let released = self.sinks[which].released;
        let before = self.monitor.stats();
        let result = Pin::new(&mut self.sinks[which].tx).start_send(Bytes::from(message.payload()));
        self.sinks[which].is_waiting = false;
        let (accepted, dropped) = self.changed_since(&before);
        let result = refused(result, equals(message.payload()), SendError::into_inner);
        match result {
            Err(SendFailure::Closed) if released => assert_eq!((accepted, dropped), Default::default()),
            result => self.sent(message, true, result, accepted, dropped),
        }
    }

    /// Polls a sink until it is ready, and returns whether it is.
    pub(crate) fn poll_sink(&mut self, which: usize) -> bool {
        self.poll_sink_by(which, |sink, cx| sink.poll_ready(cx))
    }

    pub(crate) fn flush_sink(&mut self, handle: usize, close: bool) {
        let Some(which) = self.sink(handle) else { return };
        let poll =
            if close { <Sender as Sink<Bytes>>::poll_close } else { <Sender as Sink<Bytes>>::poll_flush };
        if !self.poll_sink_by(which, poll) {
            return;
        }
        self.model.switched();
        if close {
            self.sinks[which].is_waiting = false;
        }
        if close && !std::mem::replace(&mut self.sinks[which].released, true) {
            self.sender_left();
        }
    }

    fn poll_sink_by(
        &mut self,
        which: usize,
        poll: impl FnOnce(Pin<&mut Sender>, &mut Context<'_>) -> Poll<Result<(), SendError<Bytes>>>,
    ) -> bool {
        let before = self.monitor.stats();
        let SinkState { tx, is_waiting, flag, .. } = &mut self.sinks[which];
        let (raised, waker) = Flag::new();
        *flag = None;
        let polled = poll(Pin::new(tx), &mut Context::from_waker(&waker));
        if polled.is_pending() {
            (*is_waiting, *flag) = (true, Some(raised));
        }
        *is_waiting &= !matches!(polled, Poll::Ready(Err(_)));
        let (accepted, dropped) = self.changed_since(&before);
        assert_eq!((accepted, dropped), Default::default());
        match polled {
            Poll::Pending => {
                assert!(!self.model.closed && !self.is_empty_for_sink(which), "no room for a sink");
                false
            }
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(error)) => {
                assert!(
                    error == SendError::Closed(Bytes::new())
                        && (self.model.closed || self.sinks[which].released)
                );
                false
            }
        }
    }

    /// Returns whether nothing is queued or kept, and no other sender waits.
    fn is_empty_for_sink(&self, which: usize) -> bool {
        let others = self.sinks.iter().enumerate().any(|(other, sink)| other != which && sink.is_waiting);
        !others
            && self.forgotten_senders.is_empty()
            && !self.pending.iter().any(|pending| pending.kind.sends())
            && self.kept.is_empty()
            && self.model.len() == 0
    }

    fn changed_since(&self, before: &Stats) -> (Totals, Totals) {
        let stats = self.monitor.stats();
        (
            Totals::accepted(&stats).since(Totals::accepted(before)),
            Totals::dropped(&stats).since(Totals::dropped(before)),
        )
    }
}
