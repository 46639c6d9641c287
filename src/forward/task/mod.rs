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

mod delivery;
mod intake;
mod outcome;

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc as StdArc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep};

use super::destination::Destination;
use super::error::{BoxError, ForwardErrorKind, Rejection, StopReason};
use super::ids::Backoff;
use super::packing::{Packer, Packing};
use super::reports::Reports;
use super::shared::{Flush, Shared};
use super::stats::ForwardStats;
use super::window::Window;
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
    /// Whether the window was full, and too little of it is free since.
    is_full: bool,
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
    reports: Reports,
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
            is_full: false,
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
            reports: Reports::new(),
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
        self.emit_events();
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
        shared.counters.store(stats);
        self.reports.add_to(self.receiver.core(), stats);
    }

    fn emit_events(&mut self) {
        // An error is forgotten with the next confirmation.
        let oldest = self.window.front().filter(|_| self.last_error.is_some());
        let retrying_since = oldest.map(|entry| entry.taken_at.max(self.progress_at));
        let events = &self.receiver.core().events;
        self.reports.emit_events(self.now, &self.stats, retrying_since, self.last_error.as_ref(), events);
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
}
