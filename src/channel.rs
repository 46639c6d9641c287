//! Where the parts meet: writing, switching, closing, accounting.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;

use crate::config::{Config, ReadMode, WhenFull};
use crate::head::{Aftermath, Head, Outlook};
use crate::monitor::{Stats, Switches};
use crate::payload::Payload;
use crate::pending::Pending;
use crate::pool::{Lease, Pool};
use crate::receiver::Receiver;
use crate::segment::ATTACHED_BYTES;
use crate::segment::state::{Capacity, Kind, NotReserved, Slot, State};
use crate::sender::Sender;
use crate::strategy::{ActiveSegment, SwitchLimits, SwitchStrategy};
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, fence};
use crate::timer::{Alarm, Clock, Timer};
use crate::wake::WaitList;

/// An owned payload of this length travels by reference count.
const BY_REFERENCE_FROM: usize = 32 << 10;

/// How often the timer asks a strategy at most.
const SHORTEST_CHECK: Duration = Duration::from_micros(100);
/// Makes a channel with all defaults.
///
/// # Panics
///
/// If called outside of a Tokio runtime; use `builder().runtime(..)` there.
///
/// # Examples
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (tx, rx) = turbostream::channel();
/// tx.send(b"one").await?;
/// drop(tx);
/// assert_eq!(rx.recv().await.as_deref(), Some(&b"one"[..]));
/// assert_eq!(rx.recv().await, None);
/// # Ok(()) }
/// ```
#[track_caller]
pub fn channel() -> (Sender, Receiver) {
    match crate::builder().build() {
        Ok(ends) => ends,
        Err(error) => panic!("turbostream::channel(): {error}; `builder().runtime(..)` takes a handle"),
    }
}

pub(crate) fn open(config: Config) -> (Sender, Receiver) {
    let mode = config.read_mode;
    let core = Arc::new(Core::new(config));
    core.timer.attach(&core);
    (Sender::new(Arc::clone(&core)), Receiver::new(core, mode))
}

/// Why a switch was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    Full,
    Strategy,
    OnDemand,
    Requested,
    Close,
}

/// Whether a sender has waited for memory, or would overtake those who have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Newcomer,
    First,
}

/// Why a message was not accepted. The payload stays with the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full,
    Closed,
    TooLarge { len: usize, max: usize },
}

/// What both ends of a channel share.
pub(crate) struct Core {
    name: Option<String>,
    capacity: Capacity,
    max_message_bytes: usize,
    when_full: WhenFull,
    on_demand: bool,
    /// Time alone can make the strategy switch.
    timed: bool,
    lend_ttl: Duration,
    pool_idle: Duration,
    strategy: Box<dyn SwitchStrategy>,
    clock: Clock,

    /// From how many messages and bytes on writers ask the strategy; packed by [`pack`]. Written by whoever
    /// switches and by the timer.
    limits: AtomicU64,
    /// The limits right after a switch.
    first_limits: u64,
    pending: Pending,
    pool: Arc<Pool>,
    head: Mutex<Head>,

    /// When the last switch was made, by the clock.
    switched_at: AtomicU64,
    /// One for each [`Switch`].
    switches: [AtomicU64; 5],
    /// A switch that the strategy wants is put off because the backlog is long.
    deferred: AtomicBool,

    senders: AtomicUsize,
    receivers: AtomicUsize,
    closed: AtomicBool,
    /// Receivers waiting for a message.
    pub(crate) readers: WaitList,
    /// Senders waiting for the channel to close.
    pub(crate) closing: WaitList,
    timer: Timer,
}

impl Core {
    pub(crate) fn new(config: Config) -> Self {
        let alarm = Arc::new(Alarm::new());
        let segments = config.max_bytes / crate::pool::footprint(config.capacity);
        let first_limits = ask_limits(&*config.strategy, &empty(config.capacity));
        Self {
            capacity: config.capacity,
            max_message_bytes: config.max_message_bytes,
            when_full: config.when_full,
            on_demand: config.on_demand,
            timed: contained(|| config.strategy.next_check(&empty(config.capacity))).flatten().is_some(),
            lend_ttl: config.lend_ttl,
            pool_idle: config.pool_idle,
            strategy: config.strategy,
            clock: Clock::start(),
            limits: AtomicU64::new(first_limits),
            first_limits,
            pending: Pending::new(segments, config.first_sequence),
            pool: Arc::new(Pool::new(config.capacity, config.max_bytes, Arc::clone(&alarm))),
            head: Mutex::new(Head::new(config.first_sequence)),
            switched_at: AtomicU64::new(1),
            switches: Default::default(),
            deferred: AtomicBool::new(false),
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
            closed: AtomicBool::new(false),
            readers: WaitList::new(),
            closing: WaitList::new(),
            timer: Timer::new(alarm, config.runtime),
            name: config.name,
        }
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
    pub(crate) fn pending(&self) -> &Pending {
        &self.pending
    }
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
    pub(crate) fn timer(&self) -> &Timer {
        &self.timer
    }
    pub(crate) fn on_demand(&self) -> bool {
        self.on_demand
    }
    pub(crate) fn rejects_when_full(&self) -> bool {
        self.when_full == WhenFull::Reject
    }
    pub(crate) fn pool_idle(&self) -> Duration {
        self.pool_idle
    }

    // ---- writing ----

    /// Accepts a message, or says why not and leaves the payload where it is.
    ///
    /// Only those whose `turn` it is get memory that others wait for; room in the open segment is anybody's.
    #[inline]
    pub(crate) fn try_write<P: Payload>(&self, payload: &mut Option<P>, turn: Turn) -> Result<(), Refusal> {
        let bytes = payload.as_ref().expect("a payload to send").as_slice();
        let len = bytes.len();
        if (P::OWNED && len >= BY_REFERENCE_FROM) || len > self.capacity.bytes {
            return self.write_attached(payload, len, turn);
        }
        if len > self.max_message_bytes {
            return Err(Refusal::TooLarge { len, max: self.max_message_bytes });
        }
        let (sequence, slot) = self.reserve(len, turn)?;
        let awaited = self.pool.segment(slot.segment).fill(&slot, bytes);
        *payload = None;
        let (messages, bytes) = slot.filled();
        if awaited | slot.awaited | (slot.index == 0) | reaches(self.load_limits(), messages, bytes) {
            self.wrote(sequence, &slot, awaited);
        }
        Ok(())
    }

    /// Accepts a message by reference.
    #[cold]
    fn write_attached<P: Payload>(
        &self,
        payload: &mut Option<P>,
        len: usize,
        turn: Turn,
    ) -> Result<(), Refusal> {
        if len > self.max_message_bytes {
            return Err(Refusal::TooLarge { len, max: self.max_message_bytes });
        }
        if self.is_closed() {
            return Err(Refusal::Closed);
        }
        // Room in a segment first: what is given back below could otherwise be what this sender waits for.
        self.make_room(ATTACHED_BYTES, turn)?;
        if self.is_after_others(turn) || !self.pool.reserve_referenced(len) {
            // Only a reader can make room, and it may be waiting for this very segment to be full.
            self.switch_place(self.pending.active(), Switch::Full);
            return Err(Refusal::Full);
        }
        let (sequence, slot) = match self.reserve(ATTACHED_BYTES, turn) {
            Ok(reserved) => reserved,
            Err(refusal) => {
                // Held on to while waiting, it could keep a segment from being had for ever.
                self.pool.release_referenced(len);
                return Err(refusal);
            }
        };
        let mut reservation = Reservation { core: self, sequence, slot: Some(slot), referenced: len };
        let bytes = payload.take().expect("a payload to send").into_bytes();
        let slot = reservation.slot.take().expect("just reserved");
        let awaited = self.pool.segment(slot.segment).attach(&slot, bytes);
        self.wrote(sequence, &slot, awaited);
        Ok(())
    }

    /// Reserves a place for `len` bytes, switching to the next segment if need be.
    #[inline]
    fn reserve(&self, len: usize, turn: Turn) -> Result<(u64, Slot), Refusal> {
        let sequence = self.pending.active();
        match self.pending.place(sequence).reserve(len, self.capacity) {
            Ok(slot) => Ok((sequence, slot)),
            Err(_) => self.reserve_next(len, turn),
        }
    }

    #[cold]
    fn reserve_next(&self, len: usize, turn: Turn) -> Result<(u64, Slot), Refusal> {
        loop {
            let sequence = self.pending.active();
            match self.pending.place(sequence).reserve(len, self.capacity) {
                Ok(slot) => return Ok((sequence, slot)),
                Err(NotReserved::NoRoom) => self.switch_place(sequence, Switch::Full),
                Err(NotReserved::NotOpen(state)) => self.open_next(sequence, state, turn)?,
            }
        }
    }

    /// Sees to it that the active segment has room for `len` bytes, without taking it.
    fn make_room(&self, len: usize, turn: Turn) -> Result<(), Refusal> {
        loop {
            let sequence = self.pending.active();
            let state = self.pending.place(sequence).load();
            if !state.is_open() {
                self.open_next(sequence, state, turn)?;
            } else if state.has_room(len, self.capacity) {
                return Ok(());
            } else {
                self.switch_place(sequence, Switch::Full);
            }
        }
    }

    /// Whether there is somebody waiting for memory whose turn comes before.
    fn is_after_others(&self, turn: Turn) -> bool {
        turn == Turn::Newcomer && self.pool.space.waiting() > 0
    }

    /// One step towards an open place, from the place at `sequence` that was seen not to be.
    fn open_next(&self, sequence: u64, state: State, turn: Turn) -> Result<(), Refusal> {
        match state.kind() {
            Kind::Closed => return Err(Refusal::Closed),
            Kind::Sealed => self.pending.advance(sequence),
            Kind::Ready if self.is_after_others(turn) => return Err(Refusal::Full),
            Kind::Ready if state.is_ready_for(sequence) => {
                let segment = self.pool.acquire().ok_or(Refusal::Full)?;
                if !self.pending.place(sequence).open(sequence, segment) {
                    self.pool.give_back(segment);
                }
            }
            // The place has moved on since `active` was read, or is open by now.
            Kind::Ready | Kind::Open => {}
        }
        Ok(())
    }

    /// After a commit that somebody waits for, or that is the first of its segment, or that reaches a limit.
    #[cold]
    fn wrote(&self, sequence: u64, slot: &Slot, awaited: bool) {
        if awaited && self.receivers() == 0 {
            self.discard();
        }
        if awaited || slot.awaited {
            self.wake_readers(1);
        } else if slot.index == 0 && self.timed {
            self.timer.arm();
        }
        let (messages, bytes) = slot.filled();
        if slot.len == ATTACHED_BYTES || reaches(self.load_limits(), messages, bytes) {
            self.consider_switch(sequence);
        }
    }

    // ---- switching ----

    /// Seals the place at `sequence` if it is open and not empty; returns how many messages became readable.
    pub(crate) fn seal(&self, sequence: u64, cause: Switch) -> Option<usize> {
        let state = self.pending.place(sequence).seal()?;
        self.pending.advance(sequence);
        let now = self.clock.nanos();
        if let Some(segment) = state.segment() {
            self.pool.segment(segment).set_sealed_at(now);
        }
        // ORDERING: Relaxed: a time that moves by whole switches, and figures.
        self.switched_at.store(now, Ordering::Relaxed);
        self.switches[cause as usize].fetch_add(1, Ordering::Relaxed);
        if self.load_limits() != self.first_limits {
            self.limits.store(self.first_limits, Ordering::Relaxed);
        }
        self.timer.start();
        Some(state.messages())
    }

    /// A whole switch, by anybody but a receiver in its turn.
    fn switch_place(&self, sequence: u64, cause: Switch) {
        if let Some(messages) = self.seal(sequence, cause) {
            self.wake_readers(messages);
        }
    }

    /// Wakes up to `at_most` waiting receivers, and has the timer look after those who were passed over.
    fn wake_readers(&self, at_most: usize) {
        self.readers.wake(at_most);
        if self.readers.waiting() > at_most {
            self.timer.arm();
        }
    }

    /// Seals what is in the active segment.
    pub(crate) fn switch(&self) {
        self.switch_place(self.pending.active(), Switch::Requested);
    }

    /// Switches the place at `sequence` if it is full or the strategy says so.
    fn consider_switch(&self, sequence: u64) {
        let Some(active) = self.active_segment(sequence) else { return };
        if active.messages >= self.capacity.messages || active.bytes >= self.capacity.bytes {
            return self.switch_place(sequence, Switch::Full);
        }
        if contained(|| self.strategy.should_switch(&active)) != Some(true) {
            return self.lower_limits(&active);
        }
        if self.is_backlogged() {
            // ORDERING: Relaxed with a SeqCst fence, against the one in `settle`: either the receiver that
            // shortens the backlog sees the flag, or it is seen here that the backlog is short.
            self.deferred.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if self.is_backlogged() {
                return;
            }
        }
        self.switch_place(sequence, Switch::Strategy);
    }

    /// Sealed segments take three quarters of the memory: sealing another before it is full would serve no
    /// receiver sooner, and let a few messages take the place of many.
    fn is_backlogged(&self) -> bool {
        let segments = (self.pool.max_bytes() / self.pool.footprint()) as u64;
        self.pending.backlog() * 4 >= segments * 3
    }

    /// What a strategy sees; nothing if there is nothing to switch.
    fn active_segment(&self, sequence: u64) -> Option<ActiveSegment> {
        let state = self.pending.place(sequence).load();
        if !state.is_open() || state.messages() == 0 {
            return None;
        }
        let segment = self.pool.segment(state.segment()?);
        // ORDERING: Relaxed: see `seal`.
        let passed = self.clock.nanos().saturating_sub(self.switched_at.load(Ordering::Relaxed));
        Some(ActiveSegment {
            messages: state.messages(),
            // A writer between its reservation and its commit can make the sum come out low for a moment.
            bytes: segment.payload_bytes(state.bytes()).min(isize::MAX as u64) as usize,
            elapsed: Duration::from_nanos(passed),
            ..empty(self.capacity)
        })
    }

    /// The timer's look at the active segment: switches if it is time to, or tells when to look again.
    pub(crate) fn look_at_active(&self) -> Option<Duration> {
        if !self.timed {
            return None;
        }
        self.consider_switch(self.pending.active());
        let active = self.active_segment(self.pending.active())?;
        contained(|| self.strategy.next_check(&active)).flatten().map(|delay| delay.max(SHORTEST_CHECK))
    }

    /// Whether somebody waits for what is there behind somebody who was woken. It may be that the one who was woken
    /// does not poll its future any more.
    pub(crate) fn is_anybody_passed_over(&self) -> bool {
        self.are_readers_passed_over() || self.are_senders_passed_over()
    }

    fn are_readers_passed_over(&self) -> bool {
        let in_active = || self.on_demand && self.active_segment(self.pending.active()).is_some();
        self.readers.waiting() > 1 && (self.pending.backlog() > 0 || in_active())
    }

    fn are_senders_passed_over(&self) -> bool {
        self.pool.space.waiting() > 1 && self.has_room()
    }

    pub(crate) fn wake_passed_over(&self) {
        if self.are_readers_passed_over() {
            self.readers.wake(usize::MAX);
        }
        if self.are_senders_passed_over() {
            self.pool.space.wake(usize::MAX);
        }
    }

    /// Asks the strategy anew from what fill on it wants to be asked.
    fn lower_limits(&self, active: &ActiveSegment) {
        // ORDERING: Relaxed: the limits only decide when the strategy is asked.
        self.limits.store(ask_limits(&*self.strategy, active), Ordering::Relaxed);
    }

    #[inline]
    fn load_limits(&self) -> u64 {
        // ORDERING: Relaxed: see `lower_limits`.
        self.limits.load(Ordering::Relaxed)
    }

    // ---- reading ----

    #[inline]
    fn lock_head(&self) -> MutexGuard<'_, Head> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next message if that is a small matter; otherwise it takes a whole [`turn`](Self::turn).
    #[inline]
    pub(crate) fn take_quickly(&self, mode: ReadMode) -> Option<Bytes> {
        let mut head = self.lock_head();
        let message = head.take_quickly(mode)?;
        drop(head);
        if self.readers.waiting() > 0 {
            self.readers.wake(1);
        }
        Some(message)
    }

    /// One turn at the head.
    ///
    /// Returns what `take` makes of a readable message, `Some(None)` if the channel is closed and drained, and
    /// nothing if there is nothing to read. Then, if `sleeping`, the next message's writer is sure to wake a
    /// reader.
    pub(crate) fn turn<T>(
        &self,
        sleeping: bool,
        take: impl FnOnce(&Core, &mut Head, &mut Aftermath) -> T,
    ) -> Option<Option<T>> {
        let mut after = Aftermath::default();
        let mut head = self.lock_head();
        let result = loop {
            match head.look(self, &mut after) {
                Outlook::Readable => break Some(Some(take(self, &mut head, &mut after))),
                Outlook::Closed => break Some(None),
                Outlook::Stalled if !sleeping || head.await_commit() => break None,
                Outlook::Empty if !sleeping || !self.on_demand || head.await_message(self) => break None,
                Outlook::Stalled | Outlook::Empty => {}
            }
        };
        if self.readers.waiting() > 0 && result.is_some() {
            after.left = head.left(self);
            // Whoever sleeps has asked for a wake at the place that was read: it moves on with the head.
            if after.left == 0 && self.on_demand && !head.await_message(self) {
                after.left = 1;
            }
        }
        drop(head);
        self.settle(after);
        result
    }

    /// Does what a turn left to be done.
    #[inline]
    fn settle(&self, after: Aftermath) {
        if after.recycled > 0 {
            self.pool.wake_senders(after.recycled.saturating_mul(self.capacity.messages));
        }
        if after.retired {
            // ORDERING: SeqCst fence, see `consider_switch`; Relaxed behind it.
            fence(Ordering::SeqCst);
            if self.deferred.load(Ordering::Relaxed) && self.deferred.swap(false, Ordering::Relaxed) {
                self.consider_switch(self.pending.active());
            }
        }
        if after.released > 0 {
            self.pool.release_referenced(after.released);
        }
        if after.left > 0 {
            self.readers.wake(after.left);
        }
        if !after.discarded.is_empty() {
            contained(|| drop(after.discarded));
        }
    }

    /// Whether Safe mode may lend from this segment; see `ReadMode::Safe`.
    pub(crate) fn may_lend(&self, lease: &Lease) -> bool {
        let lent = self.pool.lent_segments() * self.pool.footprint();
        lent < self.pool.max_bytes() / 2
            && u128::from(self.clock.nanos().saturating_sub(lease.sealed_at())) < self.lend_ttl.as_nanos()
    }

    /// A receiver stopped waiting, maybe after it was woken: unread messages are the timer's again.
    pub(crate) fn stopped_waiting(&self) {
        if self.timed && self.active_segment(self.pending.active()).is_some() {
            self.timer.arm();
        }
    }

    // ---- handles and closing ----

    pub(crate) fn add_sender(&self) {
        // ORDERING: Relaxed, as in `Arc::clone`.
        self.senders.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove_sender(&self) {
        // ORDERING: AcqRel, as in `Arc::drop`: the last one closes after all that the others sent.
        if self.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close();
        }
    }

    pub(crate) fn add_receiver(&self) {
        // ORDERING: Relaxed, as in `Arc::clone`.
        self.receivers.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove_receiver(&self) {
        // ORDERING: AcqRel, as in `Arc::drop`; a writer that finds its message awaited by the discarding below
        // sees the count through the entry.
        if self.receivers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close();
            self.discard();
        }
    }

    fn receivers(&self) -> usize {
        // ORDERING: Relaxed: ordered by the awaited entry, see `remove_receiver`.
        self.receivers.load(Ordering::Relaxed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `close`.
        self.closed.load(Ordering::Acquire)
    }

    /// Accepts nothing more. What was accepted before is sealed and can still be read.
    pub(crate) fn close(&self) {
        loop {
            let sequence = self.pending.active();
            let place = self.pending.place(sequence);
            self.switch_place(sequence, Switch::Close);
            if let Some(state) = place.close(sequence) {
                if let Some(segment) = state.segment() {
                    self.pool.give_back(segment);
                }
                break;
            }
            match place.load().kind() {
                Kind::Closed => break,
                Kind::Sealed => self.pending.advance(sequence),
                Kind::Ready | Kind::Open => {}
            }
        }
        // ORDERING: Release: whoever sees the flag finds the place closed.
        self.closed.store(true, Ordering::Release);
        self.pool.close();
        self.readers.wake_all();
        self.pool.space.wake_all();
        self.closing.wake_all();
        self.timer.end();
    }

    /// Drops everything that was accepted and that nobody will read.
    #[cold]
    fn discard(&self) {
        let mut after = Aftermath::default();
        let mut head = self.lock_head();
        head.discard(self, &mut after);
        head.drop_pages();
        drop(head);
        self.settle(after);
    }

    // ---- figures and idle memory ----

    pub(crate) fn switches(&self) -> u64 {
        // ORDERING: Relaxed: figures.
        self.switches.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Whether a rest would let memory go.
    pub(crate) fn holds_idle_memory(&self) -> bool {
        self.pool.pooled_segments() > 0 || self.lock_head().has_pages()
    }

    pub(crate) fn release_idle_memory(&self) {
        self.pool.trim(0);
        self.lock_head().drop_pages();
    }

    /// Messages and bytes that were accepted and neither handed out nor dropped.
    pub(crate) fn queued(&self) -> (u64, u64) {
        let stats = self.stats();
        (stats.queued_messages, stats.queued_bytes)
    }

    pub(crate) fn stats(&self) -> Stats {
        // ORDERING: Relaxed: figures, exact at rest.
        let count = |cause: Switch| self.switches[cause as usize].load(Ordering::Relaxed);
        let mut stats = Stats {
            switches: Switches {
                full: count(Switch::Full),
                strategy: count(Switch::Strategy),
                on_demand: count(Switch::OnDemand),
                requested: count(Switch::Requested),
                close: count(Switch::Close),
            },
            referenced_bytes: self.pool.referenced_bytes(),
            max_bytes: self.pool.max_bytes(),
            waiting_senders: self.pool.space.waiting(),
            waiting_receivers: self.readers.waiting(),
            ..Stats::default()
        };
        self.count_queue(&mut stats);
        // Segments change hands while they are counted: what is not active or sealed is divided so that the sum
        // is always one that the pool had.
        let elsewhere = self.pool.segment_bytes().saturating_sub(stats.active_bytes + stats.sealed_bytes);
        stats.lent_bytes = elsewhere.min(self.pool.lent_segments() * self.pool.footprint());
        stats.pooled_bytes = elsewhere - stats.lent_bytes;
        stats
    }

    /// Adds up what lies between the head and the active segment.
    fn count_queue(&self, stats: &mut Stats) {
        let head = self.lock_head();
        let (handed_out, dropped) = (head.handed_out(), head.dropped());
        let active = self.pending.active();
        let mut sequence = head.segment();
        let mut taken = head.taken();
        loop {
            let state = taken.map_or_else(|| self.pending.place(sequence).load(), |(state, _)| state);
            if let (Kind::Open | Kind::Sealed, Some(number)) = (state.kind(), state.segment()) {
                let segment = self.pool.segment(number);
                let read = taken.map_or_else(Default::default, |(_, read)| read);
                let abandoned = segment.abandoned() as u64;
                stats.queued_messages += (state.messages() as u64).saturating_sub(abandoned + read.messages);
                stats.queued_bytes += segment.payload_bytes(state.bytes()).saturating_sub(read.bytes);
                let held = if state.is_open() { &mut stats.active_bytes } else { &mut stats.sealed_bytes };
                *held += self.pool.footprint();
            }
            taken = None;
            if sequence == active {
                break;
            }
            sequence = sequence.wrapping_add(1);
        }
        (stats.handed_out_messages, stats.handed_out_bytes) = (handed_out.messages, handed_out.bytes);
        (stats.dropped_messages, stats.dropped_bytes) = (dropped.messages, dropped.bytes);
        stats.accepted_messages = stats.queued_messages + handed_out.messages + dropped.messages;
        stats.accepted_bytes = stats.queued_bytes + handed_out.bytes + dropped.bytes;
    }

    /// Whether a woken sender would find room, as far as can be told without trying.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.pending.place(self.pending.active()).load();
        (state.is_open() && state.has_room(1, self.capacity)) || self.pool.has_room()
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.timer.end();
        self.discard();
    }
}

/// A reserved place that becomes padding if nothing is put there.
struct Reservation<'a> {
    core: &'a Core,
    sequence: u64,
    slot: Option<Slot>,
    referenced: usize,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            let awaited = self.core.pool.segment(slot.segment).abandon(&slot);
            self.core.pool.release_referenced(self.referenced);
            self.core.wrote(self.sequence, &slot, awaited);
        }
    }
}

/// An active segment without messages.
fn empty(capacity: Capacity) -> ActiveSegment {
    ActiveSegment {
        messages: 0,
        bytes: 0,
        elapsed: Duration::ZERO,
        capacity_messages: capacity.messages,
        capacity_bytes: capacity.bytes,
    }
}

/// From what fill on a strategy wants to be asked, packed.
fn ask_limits(strategy: &dyn SwitchStrategy, active: &ActiveSegment) -> u64 {
    let limits = contained(|| strategy.limits(active)).unwrap_or(SwitchLimits::NEVER);
    pack(limits.messages.min(active.capacity_messages), limits.bytes.min(active.capacity_bytes))
}

/// Runs user code; nothing if it panics.
fn contained<R>(user: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(user)).ok()
}

fn pack(messages: usize, bytes: usize) -> u64 {
    (messages as u64) << 32 | bytes as u64
}

#[inline]
fn reaches(limits: u64, messages: usize, bytes: usize) -> bool {
    messages as u64 >= limits >> 32 || bytes as u64 >= limits & u64::from(u32::MAX)
}
