//! What the destination and the thread of the delivery reports share.

use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Waker};

use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use turbostream::forward::{Connection, PublishError, StopReason};

use crate::config::Limits;
use crate::failure::{self, DeliveryError, Refusal};
use crate::record::{Record, lock};

/// What the two threads share. It outlives a producer that is replaced.
#[derive(Debug)]
pub(crate) struct Shared {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Records with librdkafka, and the bytes of their payloads.
    messages: usize,
    bytes: usize,
    /// The waker of the forwarder's last call, and whether that call waits for a delivery report.
    waker: Option<Waker>,
    is_waiting: bool,
    is_down: bool,
    losses: u64,
    /// Records that failed and were not produced again.
    failed: usize,
    /// The number of the producer in use. What an earlier one reports late says nothing of this one.
    generation: u64,
    /// The producer in use has to be replaced.
    fault: Option<Fault>,
    stop: Option<(StopReason, String)>,
}

/// Why a producer has to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The idempotent producer failed fatally.
    Fatal,
    /// A batch was refused.
    Refused(Refusal),
}

/// What the destination reads of the shared state in one step.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) has_room: bool,
    pub(crate) failed: usize,
    pub(crate) fault: Option<Fault>,
    pub(crate) stop: Option<(StopReason, String)>,
}

impl Shared {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default() })
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Reads the state and registers the task in one critical section, so that no change goes unnoticed between.
    pub(crate) fn observe(&self, cx: &TaskContext<'_>) -> Snapshot {
        let mut state = lock(&self.state);
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => state.waker = Some(cx.waker().clone()),
        }
        let has_room = state.messages < self.limits.messages && state.bytes < self.limits.bytes;
        state.is_waiting = !has_room || state.fault.is_some();
        Snapshot { has_room, failed: state.failed, fault: state.fault, stop: state.stop.clone() }
    }

    /// Has the next delivery report wake the task, and returns whether one is still to come.
    pub(crate) fn wait_for_report(&self) -> bool {
        let mut state = lock(&self.state);
        state.is_waiting = true;
        state.messages > 0
    }

    pub(crate) fn connection(&self) -> Connection {
        let state = lock(&self.state);
        Connection { is_up: !state.is_down, losses: state.losses }
    }

    /// Counts a record that is about to be handed to librdkafka.
    pub(crate) fn add(&self, record: &Record) {
        let mut state = lock(&self.state);
        state.messages += 1;
        state.bytes += record.bytes();
    }

    /// Notes the outcome of a record that is no longer with librdkafka, then wakes who waits for it.
    pub(crate) fn settle(&self, record: &Record, outcome: Result<(), PublishError>, fault: Option<Fault>) {
        let waker = {
            let mut state = lock(&self.state);
            state.messages -= 1;
            state.bytes -= record.bytes();
            if outcome.is_ok() || state.messages == 0 {
                state.is_down = false;
            }
            if outcome.as_ref().is_err_and(|error| !matches!(error, PublishError::Reject(_))) {
                state.failed += 1;
            }
            state.note_fault(fault);
            if state.is_waiting { state.take_waker() } else { None }
        };
        record.settle(outcome);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Uncounts a failed record: it is produced again, or its sequence is no longer needed.
    pub(crate) fn forget_failed(&self) {
        lock(&self.state).failed -= 1;
    }

    /// Starts the life of the next producer, without faults, and returns its number.
    pub(crate) fn next_generation(&self) -> u64 {
        let mut state = lock(&self.state);
        state.fault = None;
        state.generation += 1;
        state.generation
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let waker = {
            let mut state = lock(&self.state);
            change(&mut state);
            state.take_waker()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl State {
    fn take_waker(&mut self) -> Option<Waker> {
        self.is_waiting = false;
        self.waker.take()
    }

    /// Notes a fault. A refused batch also makes a producer without gaps fail; the refusal says more.
    fn note_fault(&mut self, fault: Option<Fault>) {
        if fault.is_some() && !(fault == Some(Fault::Fatal) && self.fault.is_some()) {
            self.fault = fault;
        }
    }
}

/// The callbacks of one producer.
pub(crate) struct Callbacks {
    pub(crate) shared: Arc<Shared>,
    /// The largest batch of this producer. A record of at least this size, and each record with a limit of 1, is
    /// sent alone.
    pub(crate) batch: usize,
    pub(crate) has_one_topic: bool,
    pub(crate) generation: u64,
}

impl Callbacks {
    /// Returns the outcome of a record that failed, and what that says of the producer.
    pub(crate) fn judge(&self, error: DeliveryError, bytes: usize) -> (PublishError, Option<Fault>) {
        let code = error.kafka_error().rdkafka_error_code();
        if let Some(refusal) = code.and_then(failure::refusal) {
            let is_alone = self.batch <= 1 || (refusal == Refusal::Size && bytes >= self.batch);
            if !is_alone {
                return (PublishError::Retry(error.into()), Some(Fault::Refused(refusal)));
            }
        }
        let fault = code.filter(|code| failure::is_end_of_producer(*code)).map(|_| Fault::Fatal);
        (failure::publish_error(error, self.has_one_topic), fault)
    }
}

impl ClientContext for Callbacks {
    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        match code {
            // While nothing is with librdkafka, it says this of connections that the brokers closed for being idle.
            Code::AllBrokersDown => self.shared.change(|state| {
                if state.generation == self.generation && state.messages > 0 && !state.is_down {
                    state.is_down = true;
                    state.losses += 1;
                }
            }),
            Code::Fatal => self.shared.change(|state| {
                if state.generation == self.generation {
                    state.note_fault(Some(Fault::Fatal));
                }
            }),
            // The server of the tokens may be back soon.
            Code::Authentication if reason.contains("OAUTHBEARER token") => {}
            Code::Authentication | Code::SaslAuthenticationFailed => self.shared.change(|state| {
                state.stop = Some((StopReason::BadCredentials, reason.into()));
            }),
            _ => {}
        }
    }
}

impl ProducerContext for Callbacks {
    type DeliveryOpaque = Arc<Record>;

    fn delivery(&self, result: &DeliveryResult<'_>, record: Arc<Record>) {
        let (outcome, fault) = match result {
            Ok(_) => (Ok(()), None),
            Err((error, message)) => {
                let error = DeliveryError::new(message.topic(), error.clone());
                let (error, fault) = self.judge(error, record.bytes());
                (Err(error), fault)
            }
        };
        self.shared.settle(&record, outcome, fault);
    }
}
