//! A record that was handed to librdkafka, and the receipt that waits for its outcome.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use turbostream::forward::{Confirmation, Outgoing, PublishError};

/// Locks, also after a panic: every critical section leaves a complete state.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is known of a record. The thread of the delivery reports and the destination share it.
///
/// librdkafka holds one reference, as the opaque of its message, until the delivery report. The destination holds
/// another while the forwarder may publish the sequence again, so that it recognises what is still with librdkafka.
#[derive(Debug)]
pub(crate) struct Record {
    bytes: usize,
    messages: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// With librdkafka. The waker is that of the receipt, if one was polled.
    Waiting(Option<Waker>),
    Stored {
        /// Whether a receipt has said so.
        is_known: bool,
    },
    Failed(PublishError),
    /// A receipt has handed out the failure.
    Taken {
        was_rejection: bool,
    },
}

impl Record {
    pub(crate) fn new(message: &Outgoing) -> Arc<Self> {
        let (bytes, messages) = (message.payload().len(), message.messages() as u64);
        Arc::new(Self { bytes, messages, state: Mutex::new(State::Waiting(None)) })
    }

    /// Returns the length of the payload.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the number of messages, and so of sequences.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Sets the outcome and wakes the receipt.
    pub(crate) fn settle(&self, outcome: Result<(), PublishError>) {
        let state = match outcome {
            Ok(()) => State::Stored { is_known: false },
            Err(error) => State::Failed(error),
        };
        let before = std::mem::replace(&mut *lock(&self.state), state);
        if let State::Waiting(Some(waker)) = before {
            waker.wake();
        }
    }

    /// Returns whether the broker has the record.
    pub(crate) fn is_stored(&self) -> bool {
        matches!(*lock(&self.state), State::Stored { .. })
    }

    /// Returns whether a receipt has handed out an outcome after which the forwarder goes on with the next message.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(*lock(&self.state), State::Stored { is_known: true } | State::Taken { was_rejection: true })
    }

    /// Returns whether the forwarder has to publish the sequence again, or stops because of it.
    pub(crate) fn is_failed(&self) -> bool {
        match &*lock(&self.state) {
            State::Failed(error) => !matches!(error, PublishError::Reject(_)),
            State::Taken { was_rejection } => !was_rejection,
            State::Waiting(_) | State::Stored { .. } => false,
        }
    }

    /// Returns whether publishing the sequence again needs a new record: the broker has not taken this one and never
    /// will.
    pub(crate) fn is_to_be_produced_again(&self) -> bool {
        matches!(
            *lock(&self.state),
            State::Taken { .. } | State::Failed(PublishError::Retry(_) | PublishError::OutOfOrder(_))
        )
    }

    fn poll_outcome(&self, cx: &mut Context<'_>) -> Poll<Result<Confirmation, PublishError>> {
        let mut state = lock(&self.state);
        match &mut *state {
            State::Waiting(waker) => {
                match waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            State::Stored { is_known } => {
                *is_known = true;
                Poll::Ready(Ok(Confirmation::Stored))
            }
            State::Failed(error) => {
                let taken = State::Taken { was_rejection: matches!(error, PublishError::Reject(_)) };
                match std::mem::replace(&mut *state, taken) {
                    State::Failed(error) => Poll::Ready(Err(error)),
                    _ => unreachable!("the state is locked"),
                }
            }
            State::Taken { .. } => panic!("a receipt was polled after it was ready"),
        }
    }
}

/// The receipt of a record: resolves with librdkafka's delivery report.
///
/// Dropping it changes nothing: the record stays with librdkafka.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Receipt {
    pub(crate) record: Arc<Record>,
}

impl Future for Receipt {
    type Output = Result<Confirmation, PublishError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.record.poll_outcome(cx)
    }
}
