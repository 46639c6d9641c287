//! The data structure of a channel: the ring of segments, their memory, and the head that reads them.
//!
//! ```text
//!                              ┌───────── cut ────────┐
//! reserve, write, commit ─▶ active ─seal─▶ sealed, by sequence ─▶ Head ─▶ Bytes / Batch
//!                              ▲                                             │
//!                              └─ open ◀── Pool ◀── last Bytes dropped ◀─────┘
//! ```
//!
//! 1. A sender opens a ring slot with a segment from the [`Pool`], which bounds the memory.
//! 2. Senders reserve entries in the packed word of that slot in the [`SegmentRing`], write their
//!    messages into the [`Segment`], and commit them.
//! 3. A thread seals the slot, so the next one can be opened. Or a receiver cuts it: it reads what is reserved by
//!    now, and the segment stays open for more.
//! 4. A receiver reads the messages through the [`Head`](head::Head), and retires the slot after the last one.
//! 5. The segment returns to the pool once no received message refers to it.
//!
//! [`Queue`] holds the ring and the pool, and seals and cuts. No function here sleeps, or runs user code other than
//! the wakers of senders when a segment returns.

pub(crate) mod cut;
pub(crate) mod head;
pub(crate) mod limit;
pub(crate) mod pool;
pub(crate) mod ring;
#[allow(unsafe_code)]
pub(crate) mod segment;

use std::time::Duration;

use self::cut::{Cut, LastCut};
use self::pool::Pool;
use self::pool::room_waiters::OpenRoom;
use self::ring::SegmentRing;
use self::segment::Segment;
use self::segment::slot_state::{AtomicSlotState, Capacities, Capacity, SlotState};
use crate::sync::{Arc, AtomicU64, CachePadded, Ordering};
use crate::telemetry::events::Switched;
use crate::telemetry::histogram::{Histogram, SWITCH_BOUNDS, SharedHistogram};
use crate::telemetry::stats::SwitchCause;
use crate::wait::clock::Clock;
use crate::wait::spin::AdaptiveSpin;

/// How receivers get the bytes of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadMode {
    /// Copies small messages, so that a message that is kept does not pin its segment: the default.
    ///
    /// A message below 1 KiB is copied to a page of 4 KiB that it shares with others. A message from 1 KiB to 32 KiB
    /// is lent if the last switch of its segment was less than `lend_ttl` ago and lent memory is below half of
    /// `max_bytes`; otherwise it is copied. A message above 32 KiB is always lent: a receiver that keeps such messages keeps
    /// their segments, and can stop the senders. That concerns messages that were sent as borrowed slices and fit a
    /// segment; others of that length are external, and count no more once they were received.
    #[default]
    Safe,
    /// Lends every message: a slice of its segment. The segment is reused after the last slice is dropped, so a receiver
    /// that keeps messages can stop the senders.
    ZeroCopy,
}

/// The segments of a channel: which one is active, which are sealed, and which are free.
pub(crate) struct Queue {
    pub(crate) ring: SegmentRing,
    pub(crate) pool: Arc<Pool>,
    capacities: Capacities,
    on_demand: bool,
    lend_ttl: Duration,
    clock: Clock,
    switching: CachePadded<Switching>,
}

/// Statistics, written by the thread that switches, and the last cut, which the next sender completes.
struct Switching {
    /// When the last switch was made that was not on demand, in nanoseconds of the clock.
    switched_at: AtomicU64,
    /// When the first message after the last cut, or of a segment, was written; 0 from a cut until that is recorded. If
    /// that message wakes a receiver, which cuts again, its time is not recorded: the age of messages begins when a
    /// strategy is asked.
    first_written_at: AtomicU64,
    last_cut: LastCut,
    /// The number of switches for each [`SwitchCause`].
    counts: [AtomicU64; SwitchCause::COUNT],
    /// The duration of switches, without cuts.
    latency: SharedHistogram,
    /// How many messages cuts found: receivers spin before they sleep if those were several.
    spin: AdaptiveSpin,
}

/// What sealing a segment did.
pub(crate) struct SealOutcome {
    /// The switch, unless receivers had cut all messages of the segment.
    pub(crate) switched: Option<Switched>,
}

/// Measures a switch from its decision until it is dropped.
pub(crate) struct SwitchTimer<'a> {
    queue: &'a Queue,
    /// When the switch was decided, in nanoseconds of the clock.
    decided_at: u64,
}

impl Drop for SwitchTimer<'_> {
    fn drop(&mut self) {
        self.queue.switching.latency.record(self.queue.clock.nanos_since(self.decided_at));
    }
}

impl Queue {
    pub(crate) fn new(
        capacity: Capacity,
        max_bytes: usize,
        first_sequence: u64,
        on_demand: bool,
        lend_ttl: Duration,
    ) -> Self {
        // Without cuts, a full segment is what a receiver waits for: then none is small.
        let capacities =
            if on_demand { pool::growing(capacity, max_bytes) } else { Capacities::equal(capacity) };
        let pool = Arc::new(Pool::new(capacities, max_bytes));
        Self {
            ring: SegmentRing::new(pool.segments_at_most(), first_sequence),
            pool,
            capacities,
            on_demand,
            lend_ttl,
            clock: Clock::start(),
            switching: CachePadded(Switching {
                switched_at: AtomicU64::new(1),
                first_written_at: AtomicU64::new(0),
                last_cut: LastCut::default(),
                counts: Default::default(),
                latency: SharedHistogram::new(SWITCH_BOUNDS),
                spin: AdaptiveSpin::default(),
            }),
        }
    }

    #[inline(always)]
    pub(crate) fn capacities(&self) -> &Capacities {
        &self.capacities
    }

    /// Returns the full capacity of a segment, as it was configured.
    #[inline(always)]
    pub(crate) fn capacity(&self) -> Capacity {
        self.capacities.full()
    }

    /// Whether a receiver may cut the active segment.
    #[inline]
    pub(crate) fn on_demand(&self) -> bool {
        self.on_demand
    }

    #[inline(always)]
    pub(crate) fn segment(&self, number: usize) -> &Segment {
        self.pool.segment(number)
    }

    #[inline]
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Has `open` open the ring slot at `sequence` with segment `number`, and returns what it has reserved there.
    ///
    /// The caller wakes waiting senders, as the open segment has room for more, but not between reserving and committing: a
    /// waker may try to receive. If another sender opened the slot first, this returns nothing, and the segment returns to
    /// the pool.
    pub(crate) fn open<T>(
        &self,
        sequence: u64,
        number: usize,
        open: impl FnOnce(&AtomicSlotState) -> Option<T>,
    ) -> Option<T> {
        self.segment(number).set_opened_at(self.clock.nanos());
        let reserved = open(self.ring.slot(sequence));
        self.pool.after_opening(number);
        if reserved.is_none() {
            self.pool.give_back(number);
        }
        reserved
    }

    /// Returns the room in the active segment.
    pub(crate) fn open_room(&self) -> OpenRoom {
        OpenRoom::Known(self.ring.slot(self.ring.active()).load().room(&self.capacities))
    }

    /// Wakes the waiting senders whose demand is free.
    pub(crate) fn wake_senders(&self) {
        self.pool.wake_senders_with(|| self.open_room());
    }

    /// Seals the ring slot at `sequence` if it is open and not empty. The caller wakes receivers: they may sleep at this
    /// slot, where no message will follow, or wait for the seal.
    ///
    /// A segment whose messages were all cut counts as empty. It is sealed only for the causes Full (it is full, or
    /// memory is exhausted) and Close, and that does not count as a switch. [`Head::release_drained_active`] seals such
    /// a segment too, without this function.
    ///
    /// [`Head::release_drained_active`]: head::Head::release_drained_active
    pub(crate) fn seal(&self, sequence: u64, cause: SwitchCause) -> Option<SealOutcome> {
        let even_if_consumed = matches!(cause, SwitchCause::Full | SwitchCause::Close);
        let state = self.ring.slot(sequence).seal(|seen| even_if_consumed || !seen.is_fully_consumed())?;
        self.ring.advance(sequence);
        if state.is_fully_consumed() {
            return Some(SealOutcome { switched: None });
        }
        self.note_switch(cause, state);
        let messages = state.messages().saturating_sub(self.last_cut(sequence).messages);
        Some(SealOutcome { switched: Some(Switched { cause, sequence, messages }) })
    }

    /// [`seal`](Self::seal) for a thread that wakes receivers later, such as one that has locked the head.
    pub(crate) fn seal_without_wake(&self, sequence: u64, cause: SwitchCause) -> Option<Switched> {
        let decided_at = self.clock.nanos();
        let switched = self.seal(sequence, cause)?.switched?;
        drop(self.switch_timer(decided_at));
        Some(switched)
    }

    /// Cuts the active segment, for the thread that holds the head's lock and has read everything before.
    ///
    /// The messages reserved by now become readable, as if the segment were sealed, and the segment stays open for
    /// more. `seen` is its state before. Returns Open, or Sealed if another thread sealed it meanwhile.
    #[inline]
    pub(crate) fn cut(&self, sequence: u64, seen: SlotState) -> SlotState {
        let slot = self.ring.slot(sequence);
        if let Some(number) = seen.segment() {
            let (segment, mut no_limit) = (self.segment(number), usize::MAX);
            self.switching.last_cut.prepare(segment.payload_delta(seen.messages(), &mut no_limit));
            segment.set_sealed_at(0);
            // ORDERING: Relaxed, as in `prepare`: a thread that sees a message after the cut sees no older time.
            self.switching.first_written_at.store(0, Ordering::Relaxed);
        }
        let state = slot.cut();
        if state.is_open() {
            self.note_on_demand();
        }
        state
    }

    /// Returns what decides whether a receiver spins before it sleeps.
    #[inline]
    pub(crate) fn spin(&self) -> &AdaptiveSpin {
        &self.switching.spin
    }

    /// Counts a cut, for the thread that holds the head's lock.
    fn note_on_demand(&self) {
        let count = &self.switching.counts[SwitchCause::OnDemand as usize];
        // ORDERING: Relaxed, both: statistic only. The lock of the head orders all that write it.
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Records a seal.
    fn note_switch(&self, cause: SwitchCause, state: SlotState) {
        let now = self.clock.nanos();
        if let Some(number) = state.segment() {
            self.segment(number).set_sealed_at(now);
        }
        // ORDERING: Relaxed, both: a statistic, and a time that strategies read without synchronization.
        self.switching.switched_at.store(now, Ordering::Relaxed);
        self.switching.counts[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Records index and offset of the first message after a cut, or of a segment.
    pub(crate) fn note_cut(&self, sequence: u64, start: (usize, usize)) {
        self.switching.last_cut.put(sequence, start);
    }

    /// Records that the first message after a cut, or of a segment, was written now.
    pub(crate) fn note_first_written(&self) {
        // ORDERING: Relaxed: a time that strategies read without synchronization.
        self.switching.first_written_at.store(self.clock.nanos(), Ordering::Relaxed);
    }

    /// Returns what precedes the last cut in the segment at `sequence`.
    pub(crate) fn last_cut(&self, sequence: u64) -> Cut {
        self.switching.last_cut.get(sequence)
    }

    /// Starts to measure a switch that was decided at `decided_at`.
    pub(crate) fn switch_timer(&self, decided_at: u64) -> SwitchTimer<'_> {
        SwitchTimer { queue: self, decided_at }
    }

    /// Returns the time since the first message after the last cut of an open segment was written.
    ///
    /// If that time was not recorded, it begins now. It is too short for a moment if a sender records an earlier message
    /// late.
    pub(crate) fn since_first_written(&self, number: usize) -> Duration {
        // ORDERING: Relaxed: a time that strategies read without synchronization.
        let first = self.switching.first_written_at.load(Ordering::Relaxed);
        if first == 0 {
            self.note_first_written();
            return Duration::ZERO;
        }
        // The time may be that of the segment before.
        Duration::from_nanos(self.clock.nanos_since(first.max(self.segment(number).opened_at())))
    }

    /// Returns the time since the last switch that was not on demand.
    pub(crate) fn since_switch(&self) -> Duration {
        // ORDERING: Relaxed: a time that strategies read without synchronization.
        let switched_at = self.switching.switched_at.load(Ordering::Relaxed);
        Duration::from_nanos(self.clock.nanos_since(switched_at))
    }

    /// Returns how many switches were made for `cause`.
    pub(crate) fn switches_for(&self, cause: SwitchCause) -> u64 {
        // ORDERING: Relaxed: statistic only.
        self.switching.counts[cause as usize].load(Ordering::Relaxed)
    }

    /// Returns how many switches were made for all causes.
    pub(crate) fn switches(&self) -> u64 {
        // ORDERING: Relaxed: statistic only.
        self.switching.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn switch_latency(&self) -> Histogram {
        self.switching.latency.load()
    }

    /// Whether sealed segments take this many quarters of the memory, and are at least four if that is possible.
    ///
    /// Sealing another one before it is full would then serve no receiver sooner, and would let a few messages take the
    /// memory of many. Small segments count as full ones: there are few of them.
    pub(crate) fn is_backlogged(&self, quarters: u64) -> bool {
        let segments = (self.pool.max_bytes() / self.pool.footprint()) as u64;
        let (share, most) = ((segments * quarters).div_ceil(4), (segments * 3).div_ceil(4));
        self.ring.backlog() >= share.max(4).min(most)
    }

    /// Whether Safe mode may lend from this segment; see [`ReadMode::Safe`]. After a cut, which takes no time, its validity
    /// begins at the first call.
    pub(crate) fn may_lend(&self, segment: &Segment) -> bool {
        if self.pool.lent_bytes() >= self.pool.max_bytes() / 2 {
            return false;
        }
        let now = self.clock.nanos();
        u128::from(now.saturating_sub(segment.sealed_at_or(now))) < self.lend_ttl.as_nanos()
    }
}
