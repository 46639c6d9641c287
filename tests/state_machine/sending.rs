//! Operations of senders, and what the model makes of their outcomes.

use std::cell::Cell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Sink;
use tokio::time::Instant;
use turbostream::{Payload, SendError, SendTimeoutError, Sender, Stats, TrySendError, WhenFull};

use crate::model::{Message, Volume};
use crate::ops::{Ending, SendBy};
use crate::pending::{Flag, Outcome, Refused, What};
use crate::world::{Sinking, World};

const BY_REFERENCE_FROM: usize = 32 << 10;

/// An error says why, and gives back what was passed in.
trait Refusal {
    fn why(&self) -> Refused;
}

impl<P> Refusal for SendError<P> {
    fn why(&self) -> Refused {
        match self {
            Self::Full(_) => Refused::Full,
            Self::Closed(_) => Refused::Closed,
            Self::TooLarge { .. } => Refused::TooLarge,
            _ => unreachable!("no other reason"),
        }
    }
}

impl<P> Refusal for TrySendError<P> {
    fn why(&self) -> Refused {
        match self {
            Self::Full(_) => Refused::Full,
            Self::Closed(_) => Refused::Closed,
            Self::TooLarge { .. } => Refused::TooLarge,
            _ => unreachable!("no other reason"),
        }
    }
}

impl<P> Refusal for SendTimeoutError<P> {
    fn why(&self) -> Refused {
        match self {
            Self::Full(_) => Refused::Full,
            Self::Timeout(_) => Refused::Timeout,
            Self::Closed(_) => Refused::Closed,
            Self::TooLarge { .. } => Refused::TooLarge,
            _ => unreachable!("no other reason"),
        }
    }
}

/// The outcome of a send, once it is clear that what was refused came back whole.
fn refused<E: Refusal, P: AsRef<[u8]>>(
    result: Result<(), E>,
    payload: &[u8],
    into_inner: impl FnOnce(E) -> P,
) -> Result<(), Refused> {
    result.map_err(|error| {
        let why = error.why();
        assert_eq!(into_inner(error).as_ref(), payload, "given back changed");
        why
    })
}

async fn send<P: Payload + AsRef<[u8]>>(tx: Rc<Sender>, payload: P, copy: &[u8], by: SendBy) -> Outcome {
    Outcome::Sent(match by {
        SendBy::Timeout(limit) => {
            refused(tx.send_timeout(payload, limit).await, copy, SendTimeoutError::into_inner)
        }
        SendBy::Wait => refused(tx.send(payload).await, copy, SendError::into_inner),
        SendBy::Try => refused(tx.try_send(payload), copy, TrySendError::into_inner),
    })
}

impl World {
    pub(crate) fn drops(&self) -> bool {
        matches!(self.setup.when_full, WhenFull::DropNewest | WhenFull::DropOldest)
    }

    pub(crate) fn drops_oldest(&self) -> bool {
        self.setup.when_full == WhenFull::DropOldest
    }

    /// The next message; `usize::MAX` stands for the longest that is allowed.
    fn message(&mut self, len: usize) -> Message {
        self.next_id += 1;
        let len = if len == usize::MAX { self.setup.max_message_bytes } else { len };
        Message { id: self.next_id, len: len.min(self.setup.max_message_bytes + 20) }
    }

    fn goes_by_reference(&self, len: usize, owned: bool) -> bool {
        owned && len >= BY_REFERENCE_FROM || len > self.setup.footprint()
    }

    /// Whether there may be no room for such a message. A segment that is open may have some all the same.
    pub(crate) fn is_full_for(&self, stats: &Stats, len: usize, by_reference: bool) -> bool {
        let wanted = self.setup.footprint() + if by_reference { len } else { 0 };
        stats.memory_bytes() - stats.pooled_bytes + wanted > stats.max_bytes
    }

    /// Whether there is nothing that a sender could wait for.
    pub(crate) fn is_empty_for_senders(&self) -> bool {
        let nobody = self.forgotten_senders == 0 && !self.pending.iter().any(|pending| pending.what.sends());
        nobody
            && self.kept.is_empty()
            && self.model.len() == 0
            && self.sinks.iter().all(|s| s.parked.is_none())
    }

    pub(crate) fn send(&mut self, who: usize, by: SendBy, len: usize, owned: bool) {
        let Some((owner, tx)) = self.sender(who) else { return };
        let message = self.message(len);
        let by_reference = self.goes_by_reference(message.len, owned) || message.len >= 64;
        let deadline = match by {
            SendBy::Timeout(limit) => Some(Instant::now() + limit),
            _ => None,
        };
        let what = What::Send { message, by_reference, deadline };
        let payload = message.payload();
        if owned {
            self.start(owner, what, false, async move { send(tx, payload.clone(), &payload, by).await });
        } else {
            self.start(owner, what, false, async move { send(tx, &payload[..], &payload, by).await });
        }
    }

    pub(crate) fn sent(
        &mut self,
        message: Message,
        by_reference: bool,
        result: Result<(), Refused>,
        accepted: Volume,
        dropped: Volume,
    ) {
        match result {
            Ok(()) => {
                assert!(!self.model.closed && message.len <= self.setup.max_message_bytes);
                assert_eq!(accepted, Volume { messages: 1, bytes: message.len as u64 });
                let (oldest, drops) = (self.drops_oldest(), self.drops());
                self.model.accept(&[message], dropped, oldest, drops);
            }
            Err(why) => {
                assert_eq!(accepted, Volume::default(), "refused, and accepted");
                assert_eq!(dropped, Volume::default(), "refused, and dropped for it");
                self.check_refusal(message.len, by_reference, why);
            }
        }
    }

    fn check_refusal(&self, len: usize, by_reference: bool, why: Refused) {
        let too_large = len > self.setup.max_message_bytes;
        match why {
            Refused::Closed => assert!(self.model.closed),
            Refused::TooLarge => assert!(too_large),
            Refused::Full | Refused::Timeout => {
                assert!(!too_large && !self.model.closed && !self.drops(), "{why:?}");
                assert!(!self.is_empty_for_senders(), "an empty channel is full");
                let stats = self.monitor.stats();
                let waited_for = stats.waiting_senders > 0;
                assert!(
                    waited_for || self.is_full_for(&stats, len, by_reference),
                    "room for {len}: {stats:?}"
                );
            }
        }
    }

    pub(crate) fn send_many(&mut self, who: usize, lens: &[usize]) {
        let Some((owner, tx)) = self.sender(who) else { return };
        // Each message that may have been dropped doubles what the model has to go on with.
        let most = if self.drops() { 3 } else { usize::MAX };
        let messages: VecDeque<_> = lens.iter().take(most).map(|&len| self.message(len)).collect();
        let payloads: Vec<_> = messages.iter().map(|message| Bytes::from(message.payload())).collect();
        let what = What::SendMany { left: messages, accepted: 0 };
        self.start(owner, what, false, async move {
            Outcome::SentMany(tx.send_many(payloads).await.map_err(|error| {
                let why = error.why();
                let unsent = error.into_inner();
                (why, unsent.accepted, unsent.into_iter().map(Vec::from).collect())
            }))
        });
    }

    pub(crate) fn sent_many(
        &mut self,
        left: VecDeque<Message>,
        accepted: usize,
        result: Result<usize, (Refused, usize, Vec<Vec<u8>>)>,
    ) {
        match result {
            Ok(count) => assert!(left.is_empty() && count == accepted, "{count}, {accepted}, {left:?}"),
            Err((why, count, unsent)) => {
                assert_eq!(count, accepted);
                assert!(
                    unsent.iter().eq(left.iter().map(|message| message.payload()).collect::<Vec<_>>().iter())
                );
                self.check_refusal(left[0].len, true, why);
            }
        }
    }

    pub(crate) fn send_with(&mut self, who: usize, max_len: usize, len: usize, ending: Ending) {
        let Some((owner, tx)) = self.sender(who) else { return };
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
                Ending::SaysTooMuch => max_len + 1,
                Ending::Panics => std::panic::panic_any("hostile"),
            }
        };
        let what = What::SendWith { message, max_len, ending, called };
        self.start(owner, what, false, async move {
            Outcome::Sent(tx.send_with(max_len, write).await.map_err(|error| error.why()))
        });
    }

    pub(crate) fn sent_with(
        &mut self,
        message: Message,
        max_len: usize,
        called: bool,
        outcome: Outcome,
        accepted: Volume,
        dropped: Volume,
    ) {
        let oldest = self.drops_oldest();
        match outcome {
            Outcome::Panicked => {
                assert_eq!(accepted, Volume::default(), "padding was accepted");
                self.model.abandon(dropped, oldest);
            }
            Outcome::Sent(Ok(())) if called => {
                assert_eq!(accepted, Volume { messages: 1, bytes: message.len as u64 });
                self.model.accept(&[message], dropped, oldest, false);
            }
            Outcome::Sent(Ok(())) => {
                assert_eq!(accepted, Volume { messages: 1, bytes: max_len as u64 });
                self.model.refuse(max_len, dropped, oldest);
            }
            Outcome::Sent(Err(why)) => {
                assert!(!called, "refused, and called");
                assert_eq!((accepted, dropped), Default::default());
                self.check_refusal(max_len, true, why);
            }
            _ => panic!("another future's outcome"),
        }
    }

    pub(crate) fn sink_send(&mut self, who: usize, len: usize) {
        let Some(which) = self.sink(who) else { return };
        if !self.poll_sink(which) {
            return;
        }
        let message = self.message(len);
        let released = self.sinks[which].released;
        let before = self.monitor.stats();
        let result = Pin::new(&mut self.sinks[which].tx).start_send(Bytes::from(message.payload()));
        let (accepted, dropped) = self.changed_since(&before);
        let result = refused(result, &message.payload(), SendError::into_inner);
        match result {
            Err(Refused::Closed) if released => assert_eq!((accepted, dropped), Default::default()),
            Ok(()) if accepted.messages == 0 => {
                assert!(self.setup.when_full == WhenFull::Wait && !self.is_empty_for_senders());
                self.sinks[which].parked = Some(message);
            }
            result => self.sent(message, true, result, accepted, dropped),
        }
    }

    /// Polls a sink until it is ready; whether it is.
    pub(crate) fn poll_sink(&mut self, which: usize) -> bool {
        self.poll_sink_by(which, |sink, cx| sink.poll_ready(cx))
    }

    pub(crate) fn flush_sink(&mut self, who: usize, close: bool) {
        let Some(which) = self.sink(who) else { return };
        let poll =
            if close { <Sender as Sink<Bytes>>::poll_close } else { <Sender as Sink<Bytes>>::poll_flush };
        if !self.poll_sink_by(which, poll) {
            return;
        }
        self.model.switched();
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
        let Sinking { tx, parked, flag, .. } = &mut self.sinks[which];
        let parked = parked.take();
        let (raised, waker) = Flag::new();
        *flag = None;
        let polled = poll(Pin::new(tx), &mut Context::from_waker(&waker));
        let (accepted, dropped) = self.changed_since(&before);
        match (polled, parked) {
            (Poll::Pending, Some(message)) => {
                assert!(!self.model.closed);
                self.sinks[which].parked = Some(message);
                self.sinks[which].flag = Some(raised);
                false
            }
            (Poll::Pending, None) => panic!("nothing is parked, and it waits"),
            (Poll::Ready(result), Some(message)) => {
                let result = refused(result, &message.payload(), SendError::into_inner);
                self.sent(message, true, result, accepted, dropped);
                result.is_ok()
            }
            (Poll::Ready(result), None) => {
                assert_eq!(accepted, Volume::default());
                result.is_ok()
            }
        }
    }

    fn changed_since(&self, before: &Stats) -> (Volume, Volume) {
        let stats = self.monitor.stats();
        (
            Volume::accepted(&stats).since(Volume::accepted(before)),
            Volume::dropped(&stats).since(Volume::dropped(before)),
        )
    }
}
