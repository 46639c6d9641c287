//! The forwarder's task: one state machine, which never waits in two places at once.
//!
//! Each poll of the task is a *turn*. It reads the handle's requests and the state of the connection, and then repeats
//! these steps until none of them has anything to do:
//!
//! 1. [`resume`](Running::resume): ends a pause, and asks the destination what the engine already has.
//! 2. [`settle`](Running::settle): polls the oldest receipt, and removes what is confirmed or rejected.
//! 3. [`take`](Running::take): takes messages out of the channel while the window has room.
//! 4. [`publish`](Running::publish): publishes what waits, while the destination is ready.
//!
//! No step awaits. A step that finds nothing to do has left the task's waker where the next event occurs: with the
//! destination, the oldest receipt or the channel. One timer covers what depends on time, and the state of the
//! connection. A turn that has done much wakes its own task and ends, so that other tasks run.
//!
//! The states, and what each step does in them, are listed in `docs/architecture.md`.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::Arc as StdArc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep};

use super::destination::{Confirmation, Destination, Outgoing};
use super::error::{
    BoxError, ForwardError, ForwardErrorKind, PublishError, Rejection, StopReason, Unconfirmed,
};
use super::ids::Backoff;
use super::packing::{Packed, Packer, Packing};
use super::shared::{Flush, Outcome, Shared};
use super::stats::{ForwardReport, ForwardStats};
use super::window::{State, Window, messages_in};
use crate::queue::ReadMode;
use crate::receiver::Receiver;
use crate::sync::Arc;
use crate::sync::unwind::catch;

/// The most payloads that one turn takes, and that it publishes.
const MAX_PAYLOADS: usize = 128;
/// The most payloads that one turn settles: more than it publishes, so that the window does not fill up.
const MAX_SETTLED: usize = 2 * MAX_PAYLOADS;
/// How often the forwarder reads the state of the connection while messages are unconfirmed or the connection is down.
const TICK: Duration = Duration::from_millis(25);
const IDLE_TICK: Duration = Duration::from_secs(1);

pub(super) type OnRejected = Box<dyn FnMut(&[u8], &Rejection) + Send>;

/// The settings of a [`Forwarder`](super::Forwarder).
pub(super) struct Settings {
    pub(super) max_messages: usize,
    pub(super) max_bytes: usize,
    pub(super) retry: (Duration, Duration),
    pub(super) give_up_after: Option<Duration>,
    pub(super) confirm_timeout: Duration,
    pub(super) strict_order: bool,
    pub(super) packing: Option<(Packing, usize)>,
    pub(super) on_rejected: Option<OnRejected>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("in_flight", &(self.max_messages, self.max_bytes))
            .field("retry", &self.retry)
            .field("give_up_after", &self.give_up_after)
            .field("confirm_timeout", &self.confirm_timeout)
            .field("strict_order", &self.strict_order)
            .field("packing", &self.packing)
            .finish_non_exhaustive()
    }
}

/// What the forwarder does about payloads that are to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// They are published.
    Publishing,
    /// A failure is followed by a pause.
    BackingOff { until: Instant },
    /// The connection is down.
    Disconnected,
    /// The destination says what the engine already has.
    Resuming,
}

/// Why the forwarder ends.
pub(super) enum End {
    /// The channel is closed, and everything is confirmed or rejected.
    Completed,
    Failed(ForwardErrorKind, Option<BoxError>),
}

impl From<(StopReason, BoxError)> for End {
    fn from((reason, source): (StopReason, BoxError)) -> Self {
        Self::Failed(ForwardErrorKind::Stopped(reason), Some(source))
    }
}

/// How many payloads a turn has moved.
#[derive(Default)]
struct Work {
    settled: usize,
    taken: usize,
    published: usize,
}

impl Work {
    fn is_done(&self) -> bool {
        self.settled >= MAX_SETTLED || self.taken >= MAX_PAYLOADS || self.published >= MAX_PAYLOADS
    }
}

/// Whether the destination takes a payload, as far as this turn knows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Readiness {
    Unknown,
    Ready,
    Pending,
}

/// The oldest published message was not confirmed in time.
#[derive(Debug)]
struct NotConfirmed(Duration);

impl fmt::Display for NotConfirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no confirmation within {:?}", self.0)
    }
}

impl std::error::Error for NotConfirmed {}

/// The future of the forwarder's task.
pub(super) struct ForwardTask<D: Destination> {
    /// `None` once the outcome is stored.
    running: Option<Box<Running<D>>>,
    shared: Arc<Shared>,
}

impl<D: Destination> ForwardTask<D> {
    pub(super) fn new(running: Running<D>, shared: Arc<Shared>) -> Self {
        Self { running: Some(Box::new(running)), shared }
    }

    fn end(&mut self, end: End) {
        if let Some(running) = self.running.take() {
            let outcome = running.into_outcome(end, &self.shared);
            self.shared.end(outcome);
        }
    }
}

impl<D: Destination> Future for ForwardTask<D> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(running) = &mut this.running else { return Poll::Ready(()) };
        let end = match catch(|| running.turn(&this.shared, cx)) {
            Ok(Ok(())) => return Poll::Pending,
            Ok(Err(end)) => end,
            Err(_panic) => End::Failed(ForwardErrorKind::Panicked, None),
        };
        this.end(end);
        Poll::Ready(())
    }
}

impl<D: Destination> Drop for ForwardTask<D> {
    /// The runtime has shut down, if the outcome is not stored.
    fn drop(&mut self) {
        self.end(End::Failed(ForwardErrorKind::Cancelled, None));
    }
}

/// The state of a forwarder that has not ended.
pub(super) struct Running<D: Destination> {
    receiver: Receiver,
    /// The receiver's read mode before.
    read_mode: ReadMode,
    /// Whether the channel is closed and drained.
    is_drained: bool,
    /// A message that was taken and found no room in the window, or in the pack.
    carried: Option<Bytes>,
    packer: Option<Packer>,
    packing: Option<Packing>,
    window: Window<D::Receipt>,
    next_sequence: u64,
    id_prefix: Option<StdArc<str>>,
    destination: D,
    readiness: Readiness,
    phase: Phase,
    /// `Connection::losses` when the connection was seen up last.
    losses: u64,
    strict_order: bool,
    /// How many payloads may be published and not confirmed; `None` before the first turn.
    max_published: Option<usize>,
    backoff: Backoff,
    min_retry: Duration,
    confirm_timeout: Duration,
    give_up_after: Option<Duration>,
    /// When the time of a shutdown ends.
    limit: Option<Instant>,
    /// When a message was last confirmed or rejected.
    progress_at: Instant,
    /// Whether a message was confirmed or rejected since the forwarder went back.
    has_progressed: bool,
    /// When the forwarder last went back without a pause, after a reconnect.
    reconnected_at: Option<Instant>,
    last_error: Option<BoxError>,
    on_rejected: Option<OnRejected>,
    /// Flushes that are not complete, with the sequence after the last message that each waits for, in order.
    flushes: VecDeque<(u64, Arc<Flush>)>,
    stats: ForwardStats,
    started_at: Instant,
    /// The time at the beginning of the turn.
    now: Instant,
    /// What the turn has done.
    work: Work,
    timer: Pin<Box<Sleep>>,
    /// The waker that `Shared` has.
    registered: Option<Waker>,
}

impl<D: Destination> Running<D> {
    pub(super) fn new(
        receiver: Receiver,
        destination: D,
        settings: Settings,
        id_prefix: Option<StdArc<str>>,
        timer: Pin<Box<Sleep>>,
    ) -> Self {
        // The time of the runtime, which may be paused.
        let now = timer.deadline();
        let read_mode = receiver.read_mode();
        receiver.set_read_mode(ReadMode::ZeroCopy);
        Self {
            receiver,
            read_mode,
            is_drained: false,
            carried: None,
            packer: settings.packing.map(|(packing, max_bytes)| Packer::new(packing, max_bytes)),
            packing: settings.packing.map(|(packing, _)| packing),
            window: Window::new(settings.max_messages, settings.max_bytes),
            next_sequence: 1,
            id_prefix,
            destination,
            readiness: Readiness::Unknown,
            phase: Phase::Publishing,
            losses: 0,
            strict_order: settings.strict_order,
            max_published: None,
            backoff: Backoff::new(settings.retry),
            min_retry: settings.retry.0,
            confirm_timeout: settings.confirm_timeout,
            give_up_after: settings.give_up_after,
            limit: None,
            progress_at: now,
            has_progressed: false,
            reconnected_at: None,
            last_error: None,
            on_rejected: settings.on_rejected,
            flushes: VecDeque::new(),
            stats: ForwardStats::default(),
            started_at: now,
            now,
            work: Work::default(),
            timer,
            registered: None,
        }
    }

    /// Makes one turn. After `Ok`, the task sleeps until it is woken.
    fn turn(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Result<(), End> {
        self.now = Instant::now();
        self.work = Work::default();
        self.readiness = Readiness::Unknown;
        self.read_requests(shared, cx.waker());
        if self.max_published.is_none() {
            self.begin();
        }
        self.observe_connection()?;
        // Even with nothing to publish: the destination may drive its own I/O.
        self.poll_ready(cx)?;
        loop {
            let mut progressed = self.resume(cx)?;
            progressed |= self.settle(shared, cx)?;
            progressed |= self.take(cx);
            progressed |= self.publish(cx)?;
            if self.is_complete() {
                return Err(End::Completed);
            }
            if self.work.is_done() {
                cx.waker().wake_by_ref();
                break;
            }
            if !progressed && !self.check_confirm_timeout()? {
                break;
            }
        }
        self.check_limits()?;
        self.store_stats(shared);
        self.poll_timer(cx);
        Ok(())
    }

    /// Begins with the first turn, on the task.
    fn begin(&mut self) {
        let is_ordered = !self.strict_order || self.destination.strict_order();
        self.max_published = Some(if is_ordered { usize::MAX } else { 1 });
        self.losses = self.destination.connection().losses;
    }

    fn read_requests(&mut self, shared: &Shared, waker: &Waker) {
        if !self.registered.as_ref().is_some_and(|registered| registered.will_wake(waker)) {
            shared.register(waker);
            self.registered = Some(waker.clone());
        }
        let Some((flushes, limit)) = shared.take_requests() else { return };
        if let Some(limit) = limit.and_then(|limit| self.now.checked_add(limit)) {
            self.limit = Some(self.limit.map_or(limit, |earlier| earlier.min(limit)));
        }
        if flushes.is_empty() {
            return;
        }
        // The task holds the last reference to a flush that was dropped.
        self.flushes.retain(|(_, flush)| Arc::strong_count(flush) > 1);
        let end = self.next_sequence + u64::from(self.carried.is_some());
        self.flushes.extend(flushes.into_iter().map(|flush| (end, flush)));
        self.complete_flushes(shared);
    }

    /// Completes the flushes whose messages are all confirmed or rejected.
    fn complete_flushes(&mut self, shared: &Shared) {
        let first = self.window.front().map_or(self.next_sequence, |entry| entry.outgoing.sequence);
        let mut completed = false;
        while self.flushes.front().is_some_and(|(end, _)| *end <= first) {
            if !completed {
                self.store_stats(shared);
            }
            if let Some((_, flush)) = self.flushes.pop_front() {
                flush.complete(self.stats.rejected);
            }
            completed = true;
        }
        if completed {
            shared.waiting.wake();
        }
    }

    fn store_stats(&mut self, shared: &Shared) {
        let carried = self.carried.as_ref();
        let messages = (self.window.messages() + usize::from(carried.is_some())) as u64;
        let bytes = (self.window.bytes() + carried.map_or(0, Bytes::len)) as u64;
        let stats = &mut self.stats;
        (stats.in_flight_messages, stats.in_flight_bytes) = (messages, bytes);
        stats.peak_in_flight_messages = stats.peak_in_flight_messages.max(messages);
        stats.peak_in_flight_bytes = stats.peak_in_flight_bytes.max(bytes);
        shared.counters.store(stats);
    }

    /// Reads the state of the connection. Once it is up again after a loss, the forwarder goes back without a pause, unless
    /// it did so just before and nothing was confirmed since.
    fn observe_connection(&mut self) -> Result<(), End> {
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
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
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
    fn resume(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
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
    fn settle(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Result<bool, End> {
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
        self.count_confirmed(&entry.outgoing, confirmation);
        self.note_progress();
        self.receiver.core().drop_payload(entry);
    }

    fn count_confirmed(&mut self, outgoing: &Outgoing, confirmation: Confirmation) {
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

    fn report_rejected(&mut self, outgoing: &Outgoing, rejection: &Rejection) {
        self.stats.rejected += 1;
        if let Some(on_rejected) = &mut self.on_rejected {
            self.receiver.core().run_callback(|| on_rejected(outgoing.first_message(), rejection));
        }
    }

    /// Takes messages out of the channel while the window has room; returns whether it has taken any.
    fn take(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progressed = false;
        while self.work.taken < MAX_PAYLOADS {
            let has_taken = if self.packer.is_some() { self.take_pack(cx) } else { self.take_one(cx) };
            if !has_taken {
                break;
            }
            progressed = true;
            self.work.taken += 1;
        }
        progressed
    }

    /// Has the next message in `carried`, if there is one.
    fn carry_next(&mut self, cx: &mut Context<'_>) -> bool {
        if self.carried.is_none() && !self.is_drained {
            match self.receiver.poll_recv(cx) {
                Poll::Ready(Some(message)) => self.carried = Some(message),
                Poll::Ready(None) => self.is_drained = true,
                Poll::Pending => {}
            }
        }
        self.carried.is_some()
    }

    fn take_one(&mut self, cx: &mut Context<'_>) -> bool {
        // Checked before a message is taken: at most one is carried.
        if !self.window.has_room(1, 0) || !self.carry_next(cx) {
            return false;
        }
        let window = &self.window;
        let Some(message) = self.carried.take_if(|message| window.has_room(1, message.len())) else {
            return false;
        };
        self.push(Packed::unpacked(message), State::Waiting);
        true
    }

    /// Takes one pack, of what the channel has ready.
    fn take_pack(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(packer) = &self.packer else { return false };
        let max_payload = self.destination.max_payload().unwrap_or(usize::MAX).min(packer.max_bytes());
        if !self.window.has_room_for_pack(max_payload) || !self.carry_next(cx) {
            return false;
        }
        let (window, Some(packer)) = (&self.window, &mut self.packer) else { return false };
        let Some(first) = self.carried.take_if(|first| window.has_room(1, packer.len_alone(first.len())))
        else {
            return false;
        };
        if !packer.is_packable(first.len()) {
            let rejection = Rejection::new("a message of 4 GiB or more has no length of 32 bits");
            self.push(Packed::unpacked(first), State::Rejected(rejection));
            return true;
        }
        packer.start(first);
        while self.carry_next(cx) && self.add_to_pack(max_payload) {}
        if let Some(packed) = self.packer.as_mut().and_then(Packer::finish) {
            self.push(packed, State::Waiting);
        }
        true
    }

    /// Moves the carried message into the pack, if it fits; returns whether it did.
    fn add_to_pack(&mut self, max_payload: usize) -> bool {
        let (Some(next), Some(packer)) = (&self.carried, &mut self.packer) else { return false };
        let Some(first) = packer.first() else { return false };
        let fits = packer.len_with(next).is_some_and(|len| {
            len <= max_payload && self.window.has_room_in_pack(packer.messages() + 1, len)
        });
        if !fits || !self.destination.may_pack(first, next) {
            return false;
        }
        packer.add(next);
        self.carried = None;
        true
    }

    fn push(&mut self, packed: Packed, state: State<D::Receipt>) {
        let outgoing = self.outgoing(packed);
        self.next_sequence += outgoing.messages as u64;
        self.window.push(outgoing, state, self.now);
    }

    fn outgoing(&self, packed: Packed) -> Outgoing {
        let Packed { payload, first_offset, first_len, messages } = packed;
        let (sequence, id_prefix) = (self.next_sequence, self.id_prefix.clone());
        Outgoing { payload, first_len, first_offset, messages, sequence, id_prefix }
    }

    /// Publishes what waits, while the destination is ready; returns whether it has done anything.
    fn publish(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
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

    fn is_complete(&self) -> bool {
        self.is_drained && self.carried.is_none() && self.window.is_empty()
    }

    /// Returns when the oldest published message has waited too long for its confirmation.
    fn confirm_deadline(&self) -> Option<Instant> {
        if self.phase != Phase::Publishing {
            return None;
        }
        match self.window.front()?.state {
            State::Published { at, .. } => at.max(self.progress_at).checked_add(self.confirm_timeout),
            _ => None,
        }
    }

    /// Goes back if the oldest published message has waited too long; returns whether it does.
    fn check_confirm_timeout(&mut self) -> Result<bool, End> {
        if self.confirm_deadline().is_none_or(|deadline| self.now < deadline) {
            return Ok(false);
        }
        self.last_error = Some(Box::new(NotConfirmed(self.confirm_timeout)));
        self.go_back(false)?;
        Ok(true)
    }

    /// Returns when the forwarder gives up.
    fn give_up_deadline(&self) -> Option<Instant> {
        let since = self.window.front()?.taken_at.max(self.progress_at);
        since.checked_add(self.give_up_after?)
    }

    fn check_limits(&mut self) -> Result<(), End> {
        let has_passed = |deadline: Option<Instant>| deadline.is_some_and(|deadline| self.now >= deadline);
        let kind = if has_passed(self.limit) {
            ForwardErrorKind::TimedOut
        } else if has_passed(self.give_up_deadline()) {
            ForwardErrorKind::GaveUp
        } else {
            return Ok(());
        };
        Err(End::Failed(kind, self.last_error.take()))
    }

    /// Wakes the task at the next deadline, at the latest with the next tick.
    ///
    /// The timer is left alone if it ends too early: an early turn costs less than to set the timer in each.
    fn poll_timer(&mut self, cx: &mut Context<'_>) {
        let is_busy = !self.window.is_empty() || self.carried.is_some() || !self.stats.connected;
        let tick = self.now + if is_busy { TICK } else { IDLE_TICK };
        let pause = match self.phase {
            Phase::BackingOff { until } => Some(until),
            _ => None,
        };
        let deadlines = [pause, self.confirm_deadline(), self.give_up_deadline(), self.limit];
        let next = deadlines.into_iter().flatten().fold(tick, Instant::min);
        if next < self.timer.deadline() || self.timer.deadline() <= self.now {
            self.timer.as_mut().reset(next);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            self.timer.as_mut().reset(next);
            if next <= Instant::now() {
                // It is time for the next turn.
                cx.waker().wake_by_ref();
                break;
            }
        }
    }

    /// Ends the forwarder: gives back what is not confirmed.
    fn into_outcome(mut self, end: End, shared: &Shared) -> Outcome {
        let messages = match &end {
            End::Completed => Vec::new(),
            End::Failed(..) => self.take_unconfirmed(),
        };
        self.stats.connected = false;
        self.store_stats(shared);
        let Self { mut receiver, destination, on_rejected, last_error, stats, .. } = self;
        // Values of user code: each of them may panic when it is dropped.
        let _ = catch(|| drop(destination));
        let _ = catch(|| drop(on_rejected));
        match end {
            End::Completed => Ok(ForwardReport { stats, elapsed: self.now - self.started_at }),
            End::Failed(kind, source) => {
                receiver.deregister_own_waiter();
                receiver.set_read_mode(self.read_mode);
                let unconfirmed = Box::new(Unconfirmed { messages, receiver: Some(receiver) });
                Err(ForwardError { kind, source: source.or(last_error), unconfirmed })
            }
        }
    }

    /// Takes all messages that are neither confirmed nor rejected, in order.
    fn take_unconfirmed(&mut self) -> Vec<Bytes> {
        self.window.settle_at_end();
        let mut messages = Vec::with_capacity(self.window.messages() + 1);
        let empty = Window::new(1, 0);
        for entry in mem::replace(&mut self.window, empty).into_entries() {
            match &entry.state {
                State::Confirmed(confirmation) => self.count_confirmed(&entry.outgoing, *confirmation),
                State::Rejected(rejection) if entry.outgoing.messages == 1 => {
                    self.report_rejected(&entry.outgoing, rejection);
                }
                _ => messages.extend(messages_in(&entry.outgoing, self.packing)),
            }
            self.receiver.core().drop_payload(entry);
        }
        // A pack that was begun when the destination panicked.
        if let Some(packed) = self.packer.as_mut().and_then(Packer::finish) {
            let outgoing = self.outgoing(packed);
            messages.extend(messages_in(&outgoing, self.packing));
        }
        messages.extend(self.carried.take());
        messages
    }
}
