//! The task of a source: see the states in the parent module.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_nats::client::Request;
use async_nats::jetstream::AckKind;
use async_nats::jetstream::consumer::Info;
use async_nats::{Client, Message, Subject};
use bytes::Bytes;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout_at};

use super::handle::{Shared, SourceEnd, SourceError, SourceErrorKind, TaskEnd};
use super::pull::{Amount, Pull, Pulled};
use super::waiting::{Next, Unacknowledged, Waiting};
use super::{AckWhen, BoxFuture, FilterMap, JetStreamSource, OnRejected};
use crate::error::{SendError, TrySendError};
use crate::forward::Packing;
use crate::sender::Sender;

const DEFAULT_MESSAGES: usize = 8192;
/// The messages that one turn takes before it polls anything else.
const MESSAGES_PER_TURN: usize = 256;
/// How often the task checks what no event announces.
const TICK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
/// How long the last acknowledgements may take.
const CONFIRM_LIMIT: Duration = Duration::from_secs(5);

/// Runs a source until it ends.
pub(super) async fn run(source: JetStreamSource, tx: Sender, mut end: TaskEnd) {
    let outcome = if tx.core().waits_when_full() {
        let mut task = Task::new(source, &tx, Arc::clone(&end.shared), &mut end.stops);
        match poll_fn(|cx| task.poll(cx)).await {
            Ok(why) => Ok((why, task.confirm().await)),
            Err(error) => Err(error),
        }
    } else {
        Err(SourceError::new(SourceErrorKind::UnsuitableChannel, None))
    };
    end.end(outcome, tx);
}

struct Stopping {
    why: SourceEnd,
    deadline: Option<Instant>,
}

struct Task<'a> {
    tx: &'a Sender,
    shared: Arc<Shared>,
    ack_when: AckWhen,
    packing: Option<Packing>,
    filter_map: Option<FilterMap>,
    on_rejected: Option<OnRejected>,
    window: Amount,
    stops: &'a mut UnboundedReceiver<Option<Duration>>,
    stopping: Option<Stopping>,
    pull: Pull,
    /// Messages that have arrived and were not accepted.
    waiting: VecDeque<Waiting>,
    /// Sends a part of the first of `waiting`.
    sending: Option<BoxFuture<'a, Result<(), SendError<Bytes>>>>,
    /// Messages that the channel has accepted, in order.
    accepted: VecDeque<Unacknowledged>,
    /// What is in `waiting` and `accepted`.
    held: Amount,
    /// Resolves when the first `group` of `accepted` were received.
    draining: Option<BoxFuture<'a, Result<(), SendError<()>>>>,
    group: usize,
    /// What to give back to the server, once the pull has ended: before, the server would deliver it to this source.
    returning: Vec<Subject>,
    /// Acknowledgements that were not handed to the client.
    outgoing: Vec<(Subject, AckKind)>,
    /// Hands acknowledgements to the client.
    writing: Option<BoxFuture<'static, Written>>,
    /// The reply subject of the message that was acknowledged last.
    last_ack: Option<Subject>,
    closed: Option<BoxFuture<'a, ()>>,
    tick: Interval,
    renew_after: Duration,
}

struct Written {
    acknowledged: usize,
    last_ack: Option<Subject>,
}

impl<'a> Task<'a> {
    fn new(
        source: JetStreamSource,
        tx: &'a Sender,
        shared: Arc<Shared>,
        stops: &'a mut UnboundedReceiver<Option<Duration>>,
    ) -> Self {
        let (messages, bytes) = source.in_flight.unwrap_or((DEFAULT_MESSAGES, tx.max_bytes() / 2));
        // Otherwise the channel could never have room for a part of it that is worth a request.
        let bytes = bytes.min(tx.max_bytes()).max(1);
        Self {
            tx,
            shared,
            ack_when: source.ack_when,
            packing: source.packing,
            filter_map: source.filter_map,
            on_rejected: source.on_rejected,
            window: Amount { messages, bytes },
            stops,
            stopping: None,
            pull: Pull::new(source.client, Arc::new(source.consumer)),
            waiting: VecDeque::new(),
            sending: None,
            accepted: VecDeque::new(),
            held: Amount::default(),
            draining: None,
            group: 0,
            returning: Vec::new(),
            outgoing: Vec::new(),
            writing: None,
            last_ack: None,
            closed: Some(Box::pin(tx.closed())),
            tick: ticks(TICK.1),
            renew_after: Duration::MAX,
        }
    }

    /// Does what can be done, until the source has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<SourceEnd, SourceError>> {
        loop {
            let mut progress = self.poll_pull(cx)?;
            progress |= self.poll_sending(cx);
            progress |= self.poll_draining(cx);
            progress |= self.poll_writing(cx);
            progress |= self.poll_ends(cx);
            if self.tick.poll_tick(cx).is_ready() {
                self.renew();
                progress = true;
            }
            if self.has_ended() {
                return Poll::Ready(Ok(self
                    .stopping
                    .as_ref()
                    .map_or(SourceEnd::Stopped, |stopping| stopping.why)));
            }
            progress |= self.start();
            self.note_stats();
            if !progress {
                return Poll::Pending;
            }
            ready!(pin!(tokio::task::coop::consume_budget()).poll(cx));
        }
    }

    /// Starts what can be started; returns whether there was something, which is then to be polled.
    fn start(&mut self) -> bool {
        let mut started = false;
        if self.draining.is_none() && !self.accepted.is_empty() {
            // The number first: what is accepted later is not acknowledged with this group.
            self.group = self.accepted.len();
            self.draining = Some(Box::pin(self.tx.drained()));
            started = true;
        }
        if self.pull.has_ended() {
            self.outgoing.extend(self.returning.drain(..).map(|reply| (reply, AckKind::Nak(None))));
        }
        if self.writing.is_none() && !self.outgoing.is_empty() {
            // Each of them is of a message, with which the client became known.
            if let Some(client) = self.pull.client() {
                self.writing = Some(Box::pin(write(client.clone(), std::mem::take(&mut self.outgoing))));
                started = true;
            }
        }
        if self.stopping.is_none() && self.waiting.is_empty() && self.outgoing.len() < self.window.messages {
            let tx = self.tx;
            started |= self
                .pull
                .request(self.window, self.held, || tx.max_bytes().saturating_sub(tx.queued_bytes()));
        }
        started
    }

    fn note_stats(&self) {
        self.shared.counters.unacknowledged.set(self.held.messages);
        self.shared.counters.pull_failures.set(self.pull.failures);
        self.shared.note_connection(self.pull.client(), self.pull.answers());
    }

    fn has_ended(&self) -> bool {
        let is_past =
            |stopping: &Stopping| stopping.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let is_done = |stopping: &Stopping| self.accepted.is_empty() || is_past(stopping);
        self.stopping.as_ref().is_some_and(is_done) && self.pull.has_ended()
    }

    fn poll_pull(&mut self, cx: &mut Context<'_>) -> Result<bool, SourceError> {
        for turn in 0..MESSAGES_PER_TURN {
            match self.pull.poll(cx) {
                Poll::Pending => return Ok(turn > 0),
                Poll::Ready(Pulled::Message(message)) => self.arrived(&message),
                Poll::Ready(Pulled::Changed) => {}
                Poll::Ready(Pulled::Consumer(info)) => self.apply(&info),
                Poll::Ready(Pulled::Failed(error)) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Applies the consumer's configuration.
    fn apply(&mut self, info: &Info) {
        let config = &info.config;
        let ack_wait = config.backoff.iter().chain([&config.ack_wait]).filter(|wait| !wait.is_zero()).min();
        self.renew_after = ack_wait.map_or(Duration::MAX, |wait| *wait / 3);
        let period = (self.renew_after / 2).clamp(TICK.0, TICK.1);
        if self.tick.period() != period {
            self.tick = ticks(period);
        }
    }

    fn arrived(&mut self, message: &Message) {
        let Some(reply) = &message.reply else { return };
        // A copy: the reply shares the memory that the payload was read to.
        let reply = Subject::from(reply.as_str().to_owned());
        let counters = &self.shared.counters;
        counters.pulled.add(1);
        counters.pulled_bytes.add(message.payload.len());
        if deliveries(&reply).is_some_and(|deliveries| deliveries > 1) {
            counters.redelivered.add(1);
        }
        if self.stopping.is_some() {
            return self.give_back(reply);
        }
        let payload = match &mut self.filter_map {
            Some(filter_map) => filter_map(message),
            None => Some(message.payload.clone()),
        };
        let Some(payload) = payload else {
            self.shared.counters.skipped.add(1);
            self.outgoing.push((reply, AckKind::Ack));
            return;
        };
        self.held.add(message.length);
        let message = Unacknowledged { reply, bytes: message.length, renewed: Instant::now() };
        self.waiting.push_back(Waiting::new(payload, self.packing, message));
        if self.waiting.len() == 1 {
            while self.try_send_first() {}
        }
    }

    /// Returns the next part to be sent, after it has dealt with messages that have none left.
    fn next_part(&mut self) -> Option<Bytes> {
        loop {
            let (first, on_rejected) = (self.waiting.front_mut()?, &mut self.on_rejected);
            let rejected = &self.shared.counters.rejected;
            let next = first.next(self.tx.core().max_message_bytes(), |message, rejection| {
                rejected.add(1);
                if let Some(on_rejected) = on_rejected {
                    on_rejected(message, rejection);
                }
            });
            if let Next::Part(part) = next {
                return Some(part);
            }
            let message = self.waiting.pop_front()?.message;
            match (next, self.ack_when) {
                (Next::Accepted, AckWhen::HandedOut) => self.accepted.push_back(message),
                (Next::Rejected, _) => self.conclude(message, AckKind::Term),
                _ => self.conclude(message, AckKind::Ack),
            }
        }
    }

    /// Sends the next part if there is room; returns whether it has.
    fn try_send_first(&mut self) -> bool {
        let Some(part) = self.next_part() else { return false };
        match self.tx.try_send(part) {
            Ok(()) => self.note_accepted(),
            Err(TrySendError::Full(_)) => return false,
            // The length was checked.
            Err(TrySendError::Closed(_) | TrySendError::TooLarge { .. }) => {
                self.stop(SourceEnd::ChannelClosed, None);
                return false;
            }
        }
        true
    }

    /// The channel has accepted the part that `next_part` returned.
    fn note_accepted(&mut self) {
        if let Some(first) = self.waiting.front_mut() {
            first.note_accepted();
            self.shared.counters.accepted.add(1);
        }
    }

    /// Has the server deliver a message no more.
    fn conclude(&mut self, message: Unacknowledged, kind: AckKind) {
        self.held.remove(message.bytes);
        self.outgoing.push((message.reply, kind));
    }

    /// Has the server deliver a message again at once.
    fn give_back(&mut self, reply: Subject) {
        self.shared.counters.returned.add(1);
        self.returning.push(reply);
    }

    fn poll_sending(&mut self, cx: &mut Context<'_>) -> bool {
        for turn in 0..MESSAGES_PER_TURN {
            if self.sending.is_none() {
                if self.try_send_first() {
                    continue;
                }
                let Some(part) = self.next_part() else { return turn > 0 };
                self.sending = Some(Box::pin(self.tx.send(part)));
            }
            let Some(sending) = &mut self.sending else { return turn > 0 };
            let Poll::Ready(sent) = sending.as_mut().poll(cx) else { return turn > 0 };
            self.sending = None;
            match sent {
                Ok(()) => self.note_accepted(),
                Err(_) => self.stop(SourceEnd::ChannelClosed, None),
            }
        }
        true
    }

    fn poll_draining(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(draining) = &mut self.draining else { return false };
        let Poll::Ready(outcome) = draining.as_mut().poll(cx) else { return false };
        self.draining = None;
        match outcome {
            Ok(()) => {
                for _ in 0..std::mem::take(&mut self.group) {
                    let message =
                        self.accepted.pop_front().expect("a group is not larger than what was accepted");
                    self.conclude(message, AckKind::Ack);
                }
            }
            Err(_) => self.give_back_accepted(),
        }
        true
    }

    fn give_back_accepted(&mut self) {
        (self.draining, self.group) = (None, 0);
        while let Some(message) = self.accepted.pop_front() {
            self.held.remove(message.bytes);
            self.give_back(message.reply);
        }
    }

    fn poll_writing(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(writing) = &mut self.writing else { return false };
        let Poll::Ready(written) = writing.as_mut().poll(cx) else { return false };
        self.writing = None;
        self.note_written(written);
        true
    }

    fn note_written(&mut self, written: Written) {
        self.shared.counters.acknowledged.add(written.acknowledged);
        self.last_ack = written.last_ack.or(self.last_ack.take());
    }

    fn poll_ends(&mut self, cx: &mut Context<'_>) -> bool {
        if self.closed.as_mut().is_some_and(|closed| closed.as_mut().poll(cx).is_ready()) {
            self.closed = None;
            self.stop(SourceEnd::ChannelClosed, None);
            return true;
        }
        match self.stops.poll_recv(cx) {
            Poll::Ready(Some(limit)) => {
                self.stop(SourceEnd::Stopped, limit);
                true
            }
            // The handle was dropped.
            Poll::Ready(None) | Poll::Pending => false,
        }
    }

    /// Pulls no more, and returns what waits. The earliest deadline holds.
    fn stop(&mut self, why: SourceEnd, limit: Option<Duration>) {
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        if let Some(stopping) = &mut self.stopping {
            stopping.deadline = stopping.deadline.into_iter().chain(deadline).min();
            return;
        }
        self.stopping = Some(Stopping { why, deadline });
        self.pull.stop();
        self.sending = None;
        while let Some(Waiting { message, .. }) = self.waiting.pop_front() {
            self.held.remove(message.bytes);
            self.give_back(message.reply);
        }
    }

    /// Tells the server of the messages that it would soon deliver again.
    fn renew(&mut self) {
        if !self.pull.is_connected() || self.outgoing.len() >= self.window.messages {
            return;
        }
        let now = Instant::now();
        let held =
            self.accepted.iter_mut().chain(self.waiting.iter_mut().map(|waiting| &mut waiting.message));
        for message in held.filter(|message| now.duration_since(message.renewed) >= self.renew_after) {
            message.renewed = now;
            self.outgoing.push((message.reply.clone(), AckKind::Progress));
        }
    }

    /// Returns the rest to the server, and has it confirm the last acknowledgement. Returns whether it did.
    async fn confirm(&mut self) -> bool {
        // Without a client, no message has arrived.
        let Some(client) = self.pull.client().cloned() else { return true };
        self.give_back_accepted();
        let (writing, mut rest) = (self.writing.take(), std::mem::take(&mut self.outgoing));
        rest.extend(self.returning.drain(..).map(|reply| (reply, AckKind::Nak(None))));
        let deadline = Instant::now() + CONFIRM_LIMIT;
        if let Some(writing) = writing {
            let Ok(written) = timeout_at(deadline, writing).await else { return false };
            self.note_written(written);
        }
        let Ok(written) = timeout_at(deadline, write(client.clone(), rest)).await else { return false };
        self.note_written(written);
        self.note_stats();
        match self.last_ack.take() {
            // To acknowledge once more changes nothing. The server answers in order.
            Some(reply) => {
                let request = Request::new().payload(AckKind::Ack.into()).timeout(Some(CONFIRM_LIMIT));
                timeout_at(deadline, client.send_request(reply, request))
                    .await
                    .is_ok_and(|answer| answer.is_ok())
            }
            None => timeout_at(deadline, client.flush()).await.is_ok_and(|flushed| flushed.is_ok()),
        }
    }
}

/// Hands acknowledgements to the client, which keeps them until it is connected. It fails only if the client was closed.
async fn write(client: Client, acknowledgements: Vec<(Subject, AckKind)>) -> Written {
    let mut written = Written { acknowledged: 0, last_ack: None };
    for (reply, kind) in acknowledgements {
        let is_ack = matches!(kind, AckKind::Ack);
        if client.publish(reply.clone(), kind.into()).await.is_ok() && is_ack {
            written.acknowledged += 1;
            written.last_ack = Some(reply);
        }
    }
    written
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Returns how often the server has delivered a message, this delivery included.
///
/// The reply subject is `$JS.ACK.<stream>.<consumer>.<deliveries>…` with 9 tokens, or has domain and account after
/// `$JS.ACK` and at least 11 tokens.
fn deliveries(reply: &str) -> Option<u64> {
    let tokens = reply.split('.').count();
    let at = if tokens < 11 { 4 } else { 6 };
    reply.split('.').nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::deliveries;

    #[test]
    fn deliveries_are_read_from_both_forms_of_reply_subject() {
        assert_eq!(deliveries("$JS.ACK.events.durable.3.100.7.1790230470084404000.42"), Some(3));
        assert_eq!(deliveries("$JS.ACK._.szMpdrwD.events.durable.2.1.1.1790230470084404000.1"), Some(2));
        assert_eq!(deliveries("_INBOX.x"), None);
    }
}
