//! Publishing, confirmations, failures, and what follows them.

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::{End, MAX_PAYLOADS, MAX_SETTLED, Phase, Readiness, Running};
use crate::forward::destination::{Confirmation, Destination, Outgoing};
use crate::forward::error::{PublishError, Rejection, StopReason};
use crate::forward::shared::Shared;
use crate::forward::window::State;

/// The oldest published message was not confirmed in time.
#[derive(Debug)]
struct NotConfirmed(Duration);

impl fmt::Display for NotConfirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no confirmation within {:?}", self.0)
    }
}

impl std::error::Error for NotConfirmed {}

impl<D: Destination> Running<D> {
    /// Reads the state of the connection. Once it is up again after a loss, the forwarder goes back without a pause, unless
    /// it did so just before and nothing was confirmed since.
    pub(super) fn observe_connection(&mut self) -> Result<(), End> {
        let connection = self.destination.connection();
        self.stats.connected = connection.is_up;
        if !connection.is_up {
            self.phase = Phase::Disconnected;
        } else if self.phase == Phase::Disconnected || connection.losses != self.losses {
            self.losses = connection.losses;
            let is_rare = self.reconnected_at.is_none_or(|at| self.now - at >= self.min_retry);
            let at_once = is_rare || self.has_progressed;
            if at_once {
                self.reconnected_at = Some(self.now);
            }
            self.phase = Phase::Publishing;
            self.go_back(at_once)?;
        }
        Ok(())
    }

    /// Drops the receipts that are not ready; the forwarder publishes again from the oldest unconfirmed message on, after a
    /// pause unless `at_once`.
    fn go_back(&mut self, at_once: bool) -> Result<(), End> {
        self.window.go_back(self.strict_order)?;
        self.stats.go_backs += u64::from(self.window.first_to_resume().is_some());
        self.has_progressed = false;
        if self.phase != Phase::Disconnected {
            self.phase = match at_once {
                true => Phase::Resuming,
                false => Phase::BackingOff { until: self.now + self.backoff.next() },
            };
        }
        Ok(())
    }

    /// Acts on an error of the destination or of the oldest receipt.
    fn fail(&mut self, error: PublishError) -> Result<(), End> {
        match error {
            PublishError::Retry(source) => {
                self.last_error = Some(source);
                self.go_back(false)
            }
            PublishError::OutOfOrder(source) => {
                self.last_error = Some(source);
                self.go_back(self.has_progressed)
            }
            // It names no message.
            PublishError::Reject(rejection) => Err((StopReason::Other, rejection.into()).into()),
            PublishError::Stop(reason, source) => Err((reason, source).into()),
        }
    }

    /// Asks the destination whether it takes a payload, once until one was published.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        match self.destination.poll_ready(cx) {
            Poll::Ready(Ok(())) => self.readiness = Readiness::Ready,
            Poll::Pending => self.readiness = Readiness::Pending,
            Poll::Ready(Err(error)) => {
                self.readiness = Readiness::Pending;
                match error {
                    // It has failed already.
                    PublishError::Retry(source) | PublishError::OutOfOrder(source)
                        if self.phase != Phase::Publishing =>
                    {
                        self.last_error = Some(source);
                    }
                    error => self.fail(error)?,
                }
            }
        }
        Ok(())
    }

    /// Ends a pause, and asks the destination what the engine already has; returns whether payloads may be published from
    /// now on.
    pub(super) fn resume(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        match self.phase {
            Phase::BackingOff { until } if self.now >= until => self.phase = Phase::Resuming,
            Phase::Resuming => {}
            Phase::Publishing | Phase::BackingOff { .. } | Phase::Disconnected => return Ok(false),
        }
        if let Some(first) = self.window.first_to_resume() {
            match self.destination.poll_resume(cx, first) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(last)) => last.into_iter().for_each(|last| self.window.confirm_up_to(last)),
                Poll::Ready(Err(error)) => {
                    // Always after a pause: nothing was published since the last attempt.
                    self.has_progressed = false;
                    self.fail(error)?;
                    return Ok(false);
                }
            }
        }
        self.phase = Phase::Publishing;
        self.readiness = Readiness::Unknown;
        Ok(true)
    }

    /// Polls the oldest receipt, and removes what is confirmed or rejected; returns whether there was anything.
    pub(super) fn settle(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut progressed = false;
        while self.work.settled < MAX_SETTLED {
            let Some(entry) = self.window.front_mut() else { break };
            let result = match &mut entry.state {
                State::Waiting => break,
                State::Published { receipt, .. } => match Pin::new(receipt).poll(cx) {
                    Poll::Pending => break,
                    Poll::Ready(result) => result,
                },
                State::Confirmed(confirmation) => Ok(*confirmation),
                State::Rejected(_) => match mem::replace(&mut entry.state, State::Waiting) {
                    State::Rejected(rejection) => Err(PublishError::Reject(rejection)),
                    _ => break,
                },
            };
            progressed = true;
            self.work.settled += 1;
            match result {
                Ok(confirmation) => self.remove_confirmed(confirmation),
                Err(error) => {
                    // The receipt must not be polled again.
                    self.window.front_to_waiting();
                    match error {
                        PublishError::Reject(rejection) => self.reject(&rejection)?,
                        error => self.fail(error)?,
                    }
                }
            }
            if !self.flushes.is_empty() {
                self.complete_flushes(shared);
            }
        }
        Ok(progressed)
    }

    fn remove_confirmed(&mut self, confirmation: Confirmation) {
        let Some(entry) = self.window.pop() else { return };
        self.reports.record_latency(self.now - entry.taken_at, entry.outgoing.messages);
        self.count_confirmed(&entry.outgoing, confirmation);
        self.note_progress();
        self.receiver.core().drop_payload(entry);
    }

    pub(super) fn count_confirmed(&mut self, outgoing: &Outgoing, confirmation: Confirmation) {
        let messages = outgoing.messages as u64;
        self.stats.confirmed += messages;
        self.stats.confirmed_bytes += outgoing.payload.len() as u64;
        if confirmation == Confirmation::Duplicate {
            self.stats.duplicates += messages;
        }
    }

    fn note_progress(&mut self) {
        self.progress_at = self.now;
        if !mem::replace(&mut self.has_progressed, true) {
            self.backoff.reset();
            self.last_error = None;
        }
    }

    /// Removes the first entry, which the engine can never take. A pack is taken apart instead.
    fn reject(&mut self, rejection: &Rejection) -> Result<(), End> {
        self.note_progress();
        match (self.window.front(), self.packing) {
            (Some(pack), Some(packing)) if pack.outgoing.messages > 1 => {
                self.window.take_front_apart(packing);
                // What was published after it must not overtake its messages.
                if self.strict_order { self.go_back(true) } else { Ok(()) }
            }
            _ => {
                if let Some(entry) = self.window.pop() {
                    self.report_rejected(&entry.outgoing, rejection);
                    self.receiver.core().drop_payload(entry);
                }
                Ok(())
            }
        }
    }

    pub(super) fn report_rejected(&mut self, outgoing: &Outgoing, rejection: &Rejection) {
        self.stats.rejected += 1;
        if let Some(on_rejected) = &mut self.on_rejected {
            self.receiver.core().run_callback(|| on_rejected(outgoing.first_message(), rejection));
        }
    }

    /// Publishes what waits, while the destination is ready; returns whether it has done anything.
    pub(super) fn publish(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.phase != Phase::Publishing {
            return Ok(false);
        }
        let max_published = self.max_published.unwrap_or(1);
        let mut progressed = false;
        while self.phase == Phase::Publishing && self.work.published < MAX_PAYLOADS {
            if self.window.published() >= max_published {
                break;
            }
            let Some(entry) = self.window.next_waiting() else { break };
            match self.readiness {
                Readiness::Unknown => {
                    self.poll_ready(cx)?;
                    continue;
                }
                Readiness::Pending => break,
                Readiness::Ready => {}
            }
            self.readiness = Readiness::Unknown;
            let receipt = self.destination.publish(&entry.outgoing);
            self.stats.retried += self.window.note_published(receipt, self.now) as u64;
            self.work.published += 1;
            progressed = true;
        }
        if progressed && self.readiness == Readiness::Unknown {
            // The destination may send what it has collected.
            self.poll_ready(cx)?;
        }
        // After an error of the destination there is more to do, too.
        Ok(progressed || self.phase != Phase::Publishing)
    }

    /// Returns when the oldest published message has waited too long for its confirmation.
    pub(super) fn confirm_deadline(&self) -> Option<Instant> {
        if self.phase != Phase::Publishing {
            return None;
        }
        match self.window.front()?.state {
            State::Published { at, .. } => at.max(self.progress_at).checked_add(self.confirm_timeout),
            _ => None,
        }
    }

    /// Goes back if the oldest published message has waited too long; returns whether it does.
    pub(super) fn check_confirm_timeout(&mut self) -> Result<bool, End> {
        if self.confirm_deadline().is_none_or(|deadline| self.now < deadline) {
            return Ok(false);
        }
        self.last_error = Some(Box::new(NotConfirmed(self.confirm_timeout)));
        self.go_back(false)?;
        Ok(true)
    }
}
