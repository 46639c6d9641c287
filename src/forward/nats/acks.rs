//! The answers of the server, and the receipts that wait for them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use async_nats::{Message, Subject, Subscriber};
use bytes::{BufMut, Bytes, BytesMut};
use futures_core::Stream;

use super::answer::{self, NoResponders};
use crate::forward::{Confirmation, PublishError, StopReason};

/// The size of the allocations that reply subjects are cut from.
const REPLIES_CHUNK: usize = 16 * 1024;

/// The answers to what was published, shared by the destination and its receipts.
///
/// Each message has a *token*, counted from 0, and the reply subject `<inbox>.<token>`. One subscription to `<inbox>.*`
/// receives all answers. Slots hold the outcomes from the oldest token on that a receipt has not taken.
#[derive(Clone)]
pub(super) struct Acks(Arc<Mutex<State>>);

struct State {
    inbox: Box<str>,
    replies: BytesMut,
    subscription: Option<Subscriber>,
    is_closed: bool,
    /// The token of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    /// The subjects of the slots, if a function chooses them.
    subjects: Option<VecDeque<Subject>>,
    /// The forwarder's task, when it waits for room.
    room_waker: Option<Waker>,
    round: Round,
}

enum Slot {
    Waiting,
    Done(Result<Confirmation, PublishError>),
    Taken,
}

/// What happened since the last reset.
#[derive(Default)]
pub(super) struct Round {
    /// The number of confirmations that were taken.
    pub(super) confirmed: u64,
    /// How many of them were not duplicates.
    pub(super) stored: u64,
    /// The first failure that a receipt gave out.
    pub(super) failure: Option<Failure>,
    /// The subject for which no stream answered. `None` within if it is the fixed one.
    pub(super) unanswered: Option<Option<Subject>>,
    /// The stream's name.
    pub(super) stream: Option<String>,
    /// The stream's sequence of the message that was stored last.
    pub(super) last_sequence: u64,
}

/// What ended a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    OutOfOrder,
    /// The engine rejected a message, or did not take it yet. Those after it are out of order for this reason alone.
    Other,
}

impl Acks {
    /// Makes the answers of an inbox. `keeps_subjects` if a function chooses the subjects.
    pub(super) fn new(inbox: String, keeps_subjects: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            inbox: inbox.into_boxed_str(),
            replies: BytesMut::new(),
            subscription: None,
            is_closed: false,
            first: 0,
            slots: VecDeque::new(),
            subjects: keeps_subjects.then(VecDeque::new),
            room_waker: None,
            round: Round::default(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held leaves slots that wait, which the forwarder's time limit resolves.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Returns the subject that receives all answers.
    pub(super) fn inbox(&self) -> String {
        format!("{}.*", self.lock().inbox)
    }

    pub(super) fn subscribe(&self, subscription: Subscriber) {
        self.lock().subscription = Some(subscription);
    }

    /// Opens a slot for a message that is published now. Returns its receipt and its reply subject.
    pub(super) fn expect(&self, subject: &Subject) -> (Receipt, Subject) {
        let mut state = self.lock();
        let token = state.open(Slot::Waiting, subject);
        (Receipt { acks: self.clone(), token }, state.reply(token))
    }

    /// Returns the receipt of a message whose outcome is known at once.
    pub(super) fn settled(&self, subject: &Subject, outcome: Result<Confirmation, PublishError>) -> Receipt {
        let token = self.lock().open(Slot::Done(outcome), subject);
        Receipt { acks: self.clone(), token }
    }

    /// Settles a slot that waits.
    pub(super) fn settle(&self, receipt: &Receipt, outcome: Result<Confirmation, PublishError>) {
        self.lock().settle(receipt.token, outcome);
    }

    /// Settles all slots of a subject that wait.
    pub(super) fn settle_subject(&self, subject: &str, outcome: impl Fn() -> PublishError) {
        let mut state = self.lock();
        let Some(subjects) = &state.subjects else { return };
        let same: Vec<u64> = (state.first..)
            .zip(subjects)
            .filter(|(_, other)| other.as_str() == subject)
            .map(|(token, _)| token)
            .collect();
        for token in same {
            state.settle(token, Err(outcome()));
        }
    }

    /// Waits until the outcomes of fewer messages are outstanding than `limit` says, which is given what happened since
    /// the last reset.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>, limit: impl FnOnce(&Round) -> usize) -> Poll<()> {
        let mut state = self.lock();
        let limit = limit(&state.round);
        if state.slots.len() < limit {
            return Poll::Ready(());
        }
        state.room_waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Forgets all slots, and returns what happened since the last reset. Later answers to them are ignored.
    pub(super) fn reset(&self) -> Round {
        let mut state = self.lock();
        state.first += state.slots.len() as u64;
        state.slots.clear();
        if let Some(subjects) = &mut state.subjects {
            subjects.clear();
        }
        std::mem::take(&mut state.round)
    }
}

impl State {
    fn open(&mut self, slot: Slot, subject: &Subject) -> u64 {
        let token = self.first + self.slots.len() as u64;
        self.slots.push_back(slot);
        if let Some(subjects) = &mut self.subjects {
            subjects.push_back(subject.clone());
        }
        token
    }

    /// Writes `<inbox>.<token>` into the current chunk.
    fn reply(&mut self, token: u64) -> Subject {
        const DIGITS: usize = 20;
        if self.replies.capacity() < self.inbox.len() + 1 + DIGITS {
            self.replies.reserve(REPLIES_CHUNK);
        }
        self.replies.put_slice(self.inbox.as_bytes());
        self.replies.put_u8(b'.');
        put_decimal(&mut self.replies, token);
        let bytes: Bytes = self.replies.split().freeze();
        Subject::from_utf8(bytes).expect("an inbox and digits are UTF-8")
    }

    /// Reads all answers that have arrived.
    fn drain(&mut self, cx: &mut Context<'_>) {
        while let Some(subscription) = &mut self.subscription {
            match Pin::new(subscription).poll_next(cx) {
                Poll::Ready(Some(message)) => self.record(&message),
                Poll::Ready(None) => {
                    self.subscription = None;
                    self.is_closed = true;
                }
                Poll::Pending => return,
            }
        }
    }

    fn record(&mut self, message: &Message) {
        let Some(token) = self.token(&message.subject) else { return };
        let Some(index) = token.checked_sub(self.first).and_then(|index| usize::try_from(index).ok()) else {
            return;
        };
        // An answer to a message published before the last reset, or a second one, changes nothing.
        let Some(Slot::Waiting) = self.slots.get(index) else { return };
        let outcome = match answer::read(message) {
            Ok(ack) => {
                if ack.confirmation == Confirmation::Stored {
                    self.round.last_sequence = ack.sequence;
                }
                if self.round.stream.is_none() {
                    self.round.stream = ack.stream.map(str::to_owned);
                }
                Ok(ack.confirmation)
            }
            Err(error) => {
                if matches!(&error, PublishError::Retry(error) if error.is::<NoResponders>()) {
                    let subject = self.subjects.as_ref().map(|subjects| subjects[index].clone());
                    self.round.unanswered.get_or_insert(subject);
                }
                Err(error)
            }
        };
        self.settle(token, outcome);
    }

    fn token(&self, subject: &str) -> Option<u64> {
        subject.strip_prefix(&*self.inbox)?.strip_prefix('.')?.parse().ok()
    }

    fn settle(&mut self, token: u64, outcome: Result<Confirmation, PublishError>) {
        let Some(index) = token.checked_sub(self.first) else { return };
        let Some(slot) = usize::try_from(index).ok().and_then(|index| self.slots.get_mut(index)) else {
            return;
        };
        if !matches!(slot, Slot::Waiting) {
            return;
        }
        *slot = Slot::Done(outcome);
    }

    /// Takes the outcome of a slot. `None` if it waits.
    fn take(&mut self, token: u64) -> Option<Result<Confirmation, PublishError>> {
        let index = token.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let Some(slot) = index.and_then(|index| self.slots.get_mut(index)) else {
            return Some(Err(PublishError::Retry("the message is published again".into())));
        };
        if matches!(slot, Slot::Waiting) {
            return None;
        }
        let Slot::Done(outcome) = std::mem::replace(slot, Slot::Taken) else {
            panic!("a receipt is polled once more")
        };
        while let Some(Slot::Taken) = self.slots.front() {
            self.slots.pop_front();
            if let Some(subjects) = &mut self.subjects {
                subjects.pop_front();
            }
            self.first += 1;
        }
        if let Some(waker) = self.room_waker.take() {
            waker.wake();
        }
        match &outcome {
            Ok(confirmation) => {
                self.round.confirmed += 1;
                self.round.stored += u64::from(*confirmation == Confirmation::Stored);
            }
            Err(PublishError::OutOfOrder(_)) => {
                self.round.failure.get_or_insert(Failure::OutOfOrder);
            }
            Err(_) => {
                self.round.failure.get_or_insert(Failure::Other);
            }
        }
        Some(outcome)
    }
}

/// Appends a number in decimal.
pub(super) fn put_decimal(to: &mut impl BufMut, number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    to.put_slice(&digits[at..]);
}

/// The receipt of a message that was published to a stream.
#[must_use = "a receipt says what became of the message"]
pub struct Receipt {
    acks: Acks,
    token: u64,
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receipt").field("token", &self.token).finish_non_exhaustive()
    }
}

impl Future for Receipt {
    type Output = Result<Confirmation, PublishError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.acks.lock();
        if let Some(outcome) = state.take(self.token) {
            return Poll::Ready(outcome);
        }
        state.drain(cx);
        match state.take(self.token) {
            Some(outcome) => Poll::Ready(outcome),
            None if state.is_closed => Poll::Ready(Err(closed())),
            None => Poll::Pending,
        }
    }
}

/// The error of a client that has ended.
pub(super) fn closed() -> PublishError {
    PublishError::Stop(StopReason::Other, "the client has closed its connection for good".into())
}
