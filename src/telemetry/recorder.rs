//! The interface to monitoring systems: a [`Recorder`] gets a [`StatsDelta`] at intervals. [`Stats::since`] computes one too.
//!
//! [`Reported`] holds what was reported before. From it and the current [`Stats`] it computes the next delta.

use std::fmt;
use std::sync::Arc;

use crate::telemetry::histogram::Histogram;
use crate::telemetry::stats::Stats;

/// Receives the changes of a channel's statistics, for a monitoring system.
///
/// A task calls it at an [interval](crate::Builder::report_interval) with the changes since the last call. So does
/// [`Monitor::flush`](crate::Monitor::flush). The first call is made when that task starts. The last calls are made when
/// the channel is closed, and when the last handle to it, including a [`Monitor`](crate::Monitor), is dropped; the thread
/// that closes or drops makes them. No call is made if nothing has changed. A recorder costs nothing per message: it gets
/// what the channel counts anyway.
///
/// A call gets at most 4096 samples of histograms; if there are more, further calls follow. The task yields between them.
///
/// One recorder may serve many channels. It may be called for several channels at once; calls for one channel never
/// overlap. It should not block for long. A panic is caught and counted in [`Stats::recorder_panics`]; that call's
/// increments are lost.
///
/// Once no send is in progress, the sum of all increments equals
/// [`Monitor::stats`](crate::Monitor::stats). Increments of counters are never negative, and sums of gauges never go
/// below zero. The last call takes all gauges back to zero, also for memory that is still lent: it no longer belongs to a
/// channel.
///
/// # Examples
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use turbostream::{StatsDelta, Recorder};
///
/// struct Lines;
/// impl Recorder for Lines {
///     fn record(&self, delta: &StatsDelta<'_>) {
///         let channel = delta.channel().unwrap_or("?");
///         for (counter, increment) in delta.counters().filter(|(_, increment)| *increment > 0) {
///             println!("{channel}: {counter:?} +{increment}");
///         }
///     }
/// }
/// let (tx, rx) = turbostream::builder().name("ingest").recorder(Lines).build()?;
/// tx.send("abc").await?; // at the end: "ingest: SentMessages +1", "ingest: SentBytes +3", ...
/// # drop(rx);
/// # Ok(()) }
/// ```
pub trait Recorder: Send + Sync + 'static {
    /// Records the changes of one channel. The channel holds no lock during the call.
    fn record(&self, delta: &StatsDelta<'_>);
}

impl<R: Recorder + ?Sized> Recorder for Arc<R> {
    fn record(&self, delta: &StatsDelta<'_>) {
        (**self).record(delta);
    }
}

impl<F: Fn(&StatsDelta<'_>) + Send + Sync + 'static> Recorder for F {
    fn record(&self, delta: &StatsDelta<'_>) {
        self(delta);
    }
}

/// Declares an enum with one variant per statistic of [`Stats`].
macro_rules! statistics {
    ($(#[$attribute:meta])* $name:ident: $type:ty { $($(#[$doc:meta])* $statistic:ident = $stats:ident => $value:expr,)* }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name { $($(#[$doc])* $statistic,)* }

        impl $name {
            /// All variants, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$statistic,)*];

            /// Returns the value of this statistic in `stats`.
            pub fn of(self, stats: &Stats) -> $type {
                match self { $(Self::$statistic => { let $stats = stats; $value })* }
            }
        }
    };
}

statistics! {
    /// A statistic of [`Stats`] that only goes up.
    Counter: u64 {
        /// Messages accepted.
        SentMessages = stats => stats.sent_messages,
        /// Payload bytes of the accepted messages.
        SentBytes = stats => stats.sent_bytes,
        /// Messages refused because there was no room.
        RefusedFull = stats => stats.send_errors.full,
        /// Messages refused because the channel was closed.
        RefusedClosed = stats => stats.send_errors.closed,
        /// Messages refused because they were longer than `max_message_bytes`.
        RefusedTooLarge = stats => stats.send_errors.too_large,
        /// Messages refused because there was no room before the timeout.
        RefusedTimedOut = stats => stats.send_errors.timed_out,
        /// Messages that receivers took.
        ReceivedMessages = stats => stats.received_messages,
        /// Payload bytes of the received messages.
        ReceivedBytes = stats => stats.received_bytes,
        /// Receives that timed out.
        RecvTimeouts = stats => stats.recv_timeouts,
        /// Calls of a callback that panicked.
        CallbackPanics = stats => stats.callback_panics,
        /// Messages dropped because there was no room for them.
        DroppedNewest = stats => stats.drops.newest,
        /// Messages dropped to make room for newer ones.
        DroppedOldest = stats => stats.drops.oldest,
        /// Messages unread when the last receiver was dropped.
        DroppedUnread = stats => stats.drops.unread,
        /// Payload bytes of the dropped messages.
        DroppedBytes = stats => stats.dropped_bytes,
        /// Switches because the segment was full, or all memory was in use.
        SwitchesFull = stats => stats.switches.full,
        /// Switches by the strategy.
        SwitchesStrategy = stats => stats.switches.strategy,
        /// Switches by a receiver that had read everything sealed.
        SwitchesOnDemand = stats => stats.switches.on_demand,
        /// Switches requested by `switch`, `drained` or the flush of a sink.
        SwitchesRequested = stats => stats.switches.requested,
        /// Switches because the channel was closed.
        SwitchesClose = stats => stats.switches.close,
        /// Checks of the background task that found unread messages and made no switch.
        SkippedSwitches = stats => stats.skipped_switches,
        /// Segments that were allocated.
        AllocatedSegments = stats => stats.allocated_segments,
        /// Calls of the recorder that panicked.
        RecorderPanics = stats => stats.recorder_panics,
        /// Messages that a forwarder's destination confirmed and had not stored before.
        ForwardConfirmed = stats => stats.forwarding_or_none().confirmed_messages,
        /// Messages that a forwarder's destination confirmed and had stored before.
        ForwardDuplicates = stats => stats.forwarding_or_none().duplicate_messages,
        /// Messages that a forwarder's destination can never take.
        ForwardRejected = stats => stats.forwarding_or_none().rejected_messages,
        /// Payload bytes of the messages that a forwarder's destination confirmed.
        ForwardBytes = stats => stats.forwarding_or_none().confirmed_bytes,
        /// Messages that a forwarder published again.
        ForwardRetries = stats => stats.forwarding_or_none().retried_messages,
    }
}

statistics! {
    /// A statistic of [`Stats`] that goes up and down.
    Gauge: u64 {
        /// Queued messages in the active segment.
        ActiveMessages = stats => stats.active_messages,
        /// Payload bytes of the queued messages in the active segment.
        ActiveMessageBytes = stats => stats.active_message_bytes,
        /// Accepted messages that were neither received nor dropped.
        QueuedMessages = stats => stats.queued_messages,
        /// Payload bytes of the queued messages.
        QueuedBytes = stats => stats.queued_bytes,
        /// Sealed segments, including the one being read.
        SealedSegments = stats => stats.sealed_segments as u64,
        /// Memory of the active segment.
        ActiveBytes = stats => stats.active_bytes as u64,
        /// Memory of sealed segments.
        SealedBytes = stats => stats.sealed_bytes as u64,
        /// Memory of segments whose messages were all received, and that a `Bytes` or `Batch` of the user still refers to.
        LentBytes = stats => stats.lent_bytes as u64,
        /// Memory of free segments.
        PooledBytes = stats => stats.pooled_bytes as u64,
        /// Bytes of the queued external payloads.
        ExternalBytes = stats => stats.external_bytes as u64,
        /// The limit on the sum of active, sealed, lent, pooled and external bytes.
        MaxBytes = stats => stats.max_bytes as u64,
        /// Senders waiting for room.
        WaitingSenders = stats => stats.waiting_senders as u64,
        /// Receivers waiting for a message.
        WaitingReceivers = stats => stats.waiting_receivers as u64,
        /// Tasks of the channel that are alive.
        BackgroundTasks = stats => stats.background_tasks as u64,
        /// Messages that forwarders took and that are neither confirmed nor rejected.
        ForwardInFlightMessages = stats => stats.forwarding_or_none().in_flight_messages,
        /// Payload bytes of the messages in flight.
        ForwardInFlightBytes = stats => stats.forwarding_or_none().in_flight_bytes,
        /// Forwarders whose connection is up.
        ForwardConnected = stats => stats.forwarding_or_none().connected,
    }
}

statistics! {
    /// A [`Histogram`] of [`Stats`].
    HistogramKind: Histogram {
        /// The time from the decision to switch until the switch was done; a switch on demand has none.
        SwitchLatency = stats => stats.switch_latency,
        /// The time that the first message of a segment was queued.
        QueueTime = stats => stats.queue_time,
        /// The time from when a forwarder took a message until its destination confirmed it.
        ForwardLatency = stats => stats.forwarding_or_none().latency,
    }
}

impl Counter {
    /// Whether only forwarders change it.
    pub fn is_of_forwarding(self) -> bool {
        use Counter::{ForwardBytes, ForwardConfirmed, ForwardDuplicates, ForwardRejected, ForwardRetries};
        matches!(self, ForwardConfirmed | ForwardDuplicates | ForwardRejected | ForwardBytes | ForwardRetries)
    }
}

impl Gauge {
    /// Whether only forwarders change it.
    pub fn is_of_forwarding(self) -> bool {
        matches!(self, Self::ForwardInFlightMessages | Self::ForwardInFlightBytes | Self::ForwardConnected)
    }
}

const COUNTERS: usize = Counter::ALL.len();
const GAUGES: usize = Gauge::ALL.len();
const HISTOGRAMS: usize = HistogramKind::ALL.len();

/// The changes of a channel's statistics since the last report, or [between](Stats::since) two [`Stats`].
pub struct StatsDelta<'a> {
    channel: Option<&'a str>,
    counters: [u64; COUNTERS],
    gauges: [i64; GAUGES],
    histograms: [Histogram; HISTOGRAMS],
    /// Whether the channel has had a forwarder.
    has_forwarded: bool,
}

impl<'a> StatsDelta<'a> {
    /// Returns the name of the channel, if it has one. Changes between two [`Stats`] have none.
    pub fn channel(&self) -> Option<&'a str> {
        self.channel
    }

    /// Returns the increase of `counter`.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }

    /// Returns the change of `gauge`; negative if it went down.
    pub fn gauge(&self, gauge: Gauge) -> i64 {
        self.gauges[gauge as usize]
    }

    /// Returns the samples added to the histogram of `kind`.
    pub fn histogram(&self, kind: HistogramKind) -> &Histogram {
        &self.histograms[kind as usize]
    }

    /// Returns every counter and its increase, including increases of 0.
    pub fn counters(&self) -> impl Iterator<Item = (Counter, u64)> {
        Counter::ALL.iter().map(|&counter| (counter, self.counter(counter)))
    }

    /// Returns every gauge and its change, including changes of 0.
    pub fn gauges(&self) -> impl Iterator<Item = (Gauge, i64)> {
        Gauge::ALL.iter().map(|&gauge| (gauge, self.gauge(gauge)))
    }

    /// Returns every histogram and the samples added to it, including empty ones.
    pub fn histograms(&self) -> impl Iterator<Item = (HistogramKind, &Histogram)> {
        HistogramKind::ALL.iter().map(|&kind| (kind, self.histogram(kind)))
    }

    /// Whether the channel has had a forwarder. Without one, a recorder needs no series for the statistics of forwarding.
    pub fn has_forwarded(&self) -> bool {
        self.has_forwarded
    }

    fn is_empty(&self) -> bool {
        self.counters.iter().all(|&increment| increment == 0)
            && self.gauges.iter().all(|&change| change == 0)
            && self.histograms.iter().all(|histogram| histogram.count() == 0)
    }
}

impl Stats {
    /// Returns the changes from `earlier`, an earlier snapshot of the same channel, to this one.
    ///
    /// Divided by the time between both, they are rates. A counter never decreases: where it reads lower, because messages
    /// were in transit, the increase is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::{Duration, Instant};
    /// use turbostream::{Counter, Gauge, HistogramKind};
    ///
    /// let (tx, mut rx) = turbostream::channel();
    /// let (monitor, start) = (tx.monitor(), Instant::now());
    /// let earlier = monitor.stats();
    /// tx.send("abc").await?;
    /// tx.send("de").await?;
    /// rx.recv().await;
    /// let delta = monitor.stats().since(&earlier);
    /// let per_second = delta.counter(Counter::SentBytes) as f64 / start.elapsed().as_secs_f64();
    /// assert!(per_second > 0.0);
    /// assert_eq!(delta.gauge(Gauge::QueuedBytes), 2);
    /// assert!(delta.histogram(HistogramKind::QueueTime).mean() < Duration::from_secs(1));
    /// # Ok(()) }
    /// ```
    pub fn since(&self, earlier: &Self) -> StatsDelta<'static> {
        let counter = |at: usize| {
            let of = Counter::ALL[at];
            of.of(self).saturating_sub(of.of(earlier))
        };
        let gauge = |at: usize| {
            let of = Gauge::ALL[at];
            of.of(self).wrapping_sub(of.of(earlier)) as i64
        };
        let histogram = |at: usize| {
            let (of, mut limit) = (HistogramKind::ALL[at], u64::MAX);
            of.of(self).take_delta(&mut of.of(earlier), &mut limit)
        };
        StatsDelta {
            channel: None,
            counters: std::array::from_fn(counter),
            gauges: std::array::from_fn(gauge),
            histograms: std::array::from_fn(histogram),
            has_forwarded: self.forwarding.is_some(),
        }
    }
}

impl fmt::Debug for StatsDelta<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        map.entries(self.counters().filter(|(_, increment)| *increment != 0));
        map.entries(self.gauges().filter(|(_, change)| *change != 0));
        map.entries(self.histograms().filter(|(_, histogram)| histogram.count() != 0)).finish()
    }
}

/// The most samples of histograms that one call of a recorder gets: a recorder may take a call of its own for each.
const SAMPLES_PER_CALL: u64 = 4096;

/// What was reported of a channel so far.
pub(crate) struct Reported {
    counters: [u64; COUNTERS],
    gauges: [u64; GAUGES],
    histograms: [Histogram; HISTOGRAMS],
    is_first_made: bool,
    /// The last report left changes for the next one.
    is_behind: bool,
}

impl Reported {
    /// Returns the state before the first report.
    pub(crate) fn nothing() -> Self {
        let histograms = std::array::from_fn(|at| HistogramKind::ALL[at].of(&Stats::new()));
        Self {
            counters: [0; COUNTERS],
            gauges: [0; GAUGES],
            histograms,
            is_first_made: false,
            is_behind: false,
        }
    }

    /// Whether the last call of [`update`](Self::update) left changes for the next one.
    pub(crate) fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Returns the changes up to `stats` and counts them as reported; `None` if there are none.
    ///
    /// Samples above [`SAMPLES_PER_CALL`] are left for the next call. `is_complete` says whether `stats` counts all that
    /// was sent. The first call returns a delta even if nothing has changed. The `last` one takes all gauges to zero.
    ///
    /// Threads count while `stats` is read, so a counter may read lower than before. That is no decrease: it is reported
    /// once it exceeds what was reported.
    pub(crate) fn update<'a>(
        &mut self,
        channel: Option<&'a str>,
        stats: &Stats,
        is_complete: bool,
        last: bool,
    ) -> Option<StatsDelta<'a>> {
        let counters = std::array::from_fn(|at| {
            let (reported, now) = (&mut self.counters[at], Counter::ALL[at].of(stats));
            let increment = now.saturating_sub(*reported);
            *reported += increment;
            increment
        });
        let gauges = std::array::from_fn(|at| {
            let now = if last { 0 } else { Gauge::ALL[at].of(stats) };
            let before = std::mem::replace(&mut self.gauges[at], now);
            now.wrapping_sub(before) as i64
        });
        let mut limit = SAMPLES_PER_CALL;
        let histograms = std::array::from_fn(|at| {
            HistogramKind::ALL[at].of(stats).take_delta(&mut self.histograms[at], &mut limit)
        });
        self.is_behind = !is_complete || limit == 0;
        let has_forwarded = stats.forwarding.is_some();
        let delta = StatsDelta { channel, counters, gauges, histograms, has_forwarded };
        let is_first = !std::mem::replace(&mut self.is_first_made, true);
        (is_first || !delta.is_empty()).then_some(delta)
    }
}

#[cfg(all(test, not(turbostream_loom)))]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stats(accepted: u64, queued: u64) -> Stats {
        Stats { sent_messages: accepted, queued_messages: queued, ..Stats::new() }
    }

    #[test]
    fn lower_counter_reading_reports_no_decrease() {
        let mut reported = Reported::nothing();
        let mut increments = Vec::new();
        for accepted in [5, 3, 5, 9] {
            let delta = reported.update(None, &stats(accepted, 0), true, false);
            increments.push(delta.map(|delta| delta.counter(Counter::SentMessages)));
        }
        assert_eq!(increments, [Some(5), None, None, Some(4)]);
    }

    #[test]
    fn gauge_deltas_sum_to_value_and_end_at_zero() {
        let mut reported = Reported::nothing();
        let mut sum = 0;
        for (queued, last) in [(7, false), (2, false), (u64::MAX / 2, false), (1, false), (1, true)] {
            let delta = reported.update(None, &stats(0, queued), true, last).expect("the gauge has changed");
            sum += delta.gauge(Gauge::QueuedMessages);
            assert_eq!(sum, if last { 0 } else { queued as i64 });
        }
    }

    #[test]
    fn changes_since_earlier_stats_are_increases_and_differences() {
        let mut earlier = stats(5, 7);
        earlier.queue_time.record(Duration::from_millis(3));
        let mut later = stats(9, 2);
        later.queue_time = earlier.queue_time;
        later.queue_time.record(Duration::from_millis(2));
        later.queue_time.record(Duration::from_millis(40));
        let delta = later.since(&earlier);
        assert_eq!((delta.counter(Counter::SentMessages), delta.gauge(Gauge::QueuedMessages)), (4, -5));
        let histogram = delta.histogram(HistogramKind::QueueTime);
        assert_eq!((histogram.count(), histogram.mean()), (2, Duration::from_millis(21)));
        assert_eq!(delta.histogram(HistogramKind::SwitchLatency).mean(), Duration::ZERO);
        assert_eq!((delta.channel(), delta.has_forwarded()), (None, false));
        assert_eq!(earlier.since(&later).counter(Counter::SentMessages), 0);
    }

    #[test]
    fn first_report_is_made_without_changes() {
        let mut reported = Reported::nothing();
        assert!(reported.update(None, &Stats::new(), true, false).is_some());
        assert!(reported.update(None, &Stats::new(), true, false).is_none());
    }
}
