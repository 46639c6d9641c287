//! What a channel tells of itself, in batches.

use std::fmt;
use std::sync::Arc;

use crate::telemetry::histogram::Histogram;
use crate::telemetry::stats::Stats;

/// Is told what a channel does, for a monitoring system.
///
/// A task in the background calls it at an [interval](crate::Builder::report_interval) with what has changed since
/// the last call; so does [`Monitor::flush`](crate::Monitor::flush). The first call comes when that task starts, the
/// last ones when the channel is closed and when the last handle to it, a [`Monitor`](crate::Monitor) included, is
/// dropped: they are made by whoever does that. A channel in which nothing has changed makes no call. Messages cost
/// nothing for it: what is told is what the channel counts anyway.
///
/// One recorder may serve many channels, and is called for several of them at once; for one channel, one call comes
/// after the other. It should not block for long. If it panics, that is contained and counted in
/// [`Stats::recorder_panics`], and what it was to be told then is not told again.
///
/// Once all that was sent is handed out or queued, the sum of all increments is what
/// [`Monitor::stats`](crate::Monitor::stats) says. Those of counters are never negative, and sums of gauges never go
/// below zero. The last call takes all gauges back to zero: also for memory that is still lent then, which is no
/// channel's any more.
///
/// # Examples
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use turbostream::{StatsDelta, Recorder};
///
/// struct Lines;
/// impl Recorder for Lines {
///     fn record(&self, changes: &StatsDelta<'_>) {
///         let channel = changes.channel().unwrap_or("?");
///         for (counter, increment) in changes.counters().filter(|(_, increment)| *increment > 0) {
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
    /// Takes in what has changed in one channel. Called under no lock.
    fn record(&self, changes: &StatsDelta<'_>);
}

impl<R: Recorder + ?Sized> Recorder for Arc<R> {
    fn record(&self, changes: &StatsDelta<'_>) {
        (**self).record(changes);
    }
}

impl<F: Fn(&StatsDelta<'_>) + Send + Sync + 'static> Recorder for F {
    fn record(&self, changes: &StatsDelta<'_>) {
        self(changes);
    }
}

/// Declares an enum whose values are each a statistic of [`Stats`].
macro_rules! statistics {
    ($(#[$about:meta])* $name:ident: $type:ty { $($(#[$doc:meta])* $statistic:ident = $stats:ident => $value:expr,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name { $($(#[$doc])* $statistic,)* }

        impl $name {
            /// All there are, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$statistic,)*];

            /// The value of this statistic in `stats`.
            pub fn of(self, stats: &Stats) -> $type {
                match self { $(Self::$statistic => { let $stats = stats; $value })* }
            }
        }
    };
}

statistics! {
    /// A statistic of [`Stats`] that only goes up.
    Counter: u64 {
        /// Messages that became part of the channel.
        SentMessages = stats => stats.sent_messages,
        /// Payload bytes of the accepted messages.
        SentBytes = stats => stats.sent_bytes,
        /// Messages refused because there was no room.
        RefusedFull = stats => stats.send_errors.full,
        /// Messages refused because the channel was closed.
        RefusedClosed = stats => stats.send_errors.closed,
        /// Messages refused because they were too long.
        RefusedTooLarge = stats => stats.send_errors.too_large,
        /// Messages refused because there was no room in time.
        RefusedTimedOut = stats => stats.send_errors.timed_out,
        /// Messages that receivers got.
        ReceivedMessages = stats => stats.received_messages,
        /// Payload bytes of the messages handed out.
        ReceivedBytes = stats => stats.received_bytes,
        /// Receives for which nothing came in time.
        RecvTimeouts = stats => stats.recv_timeouts,
        /// Calls of a callback that panicked.
        CallbackPanics = stats => stats.callback_panics,
        /// Messages dropped as there was no room for them.
        DroppedNewest = stats => stats.drops.newest,
        /// Messages dropped to make room for newer ones.
        DroppedOldest = stats => stats.drops.oldest,
        /// Messages dropped as the last receiver was gone.
        DroppedUnread = stats => stats.drops.unread,
        /// Payload bytes of the dropped messages.
        DroppedBytes = stats => stats.dropped_bytes,
        /// Switches of a full segment.
        SwitchesFull = stats => stats.switches.full,
        /// Switches by the strategy.
        SwitchesStrategy = stats => stats.switches.strategy,
        /// Switches for a receiver that was waiting.
        SwitchesOnDemand = stats => stats.switches.on_demand,
        /// Switches by a flush, or for a sender that drains.
        SwitchesRequested = stats => stats.switches.requested,
        /// Switches because the channel was closed.
        SwitchesClose = stats => stats.switches.close,
        /// Looks of the timer after which it made no switch.
        SkippedSwitches = stats => stats.skipped_switches,
        /// Segments that memory was allocated for.
        AllocatedSegments = stats => stats.allocated_segments,
        /// Calls of the recorder that panicked.
        RecorderPanics = stats => stats.recorder_panics,
    }
}

statistics! {
    /// A statistic of [`Stats`] that goes up and down.
    Gauge: u64 {
        /// Messages in the active segment that were not handed out.
        ActiveMessages = stats => stats.active_messages,
        /// Payload bytes of the messages in the active segment that were not handed out.
        ActiveMessageBytes = stats => stats.active_message_bytes,
        /// Messages accepted and neither handed out nor dropped.
        QueuedMessages = stats => stats.queued_messages,
        /// Payload bytes of the queued messages.
        QueuedBytes = stats => stats.queued_bytes,
        /// Sealed segments.
        SealedSegments = stats => stats.sealed_segments as u64,
        /// Memory of the active segment.
        ActiveBytes = stats => stats.active_bytes as u64,
        /// Memory of sealed segments.
        SealedBytes = stats => stats.sealed_bytes as u64,
        /// Memory that readers refer to.
        LentBytes = stats => stats.lent_bytes as u64,
        /// Memory of free segments.
        PooledBytes = stats => stats.pooled_bytes as u64,
        /// Bytes of the queued payloads that travel by reference.
        ExternalBytes = stats => stats.external_bytes as u64,
        /// The ceiling on the sum of active, sealed, lent, pooled and external bytes.
        MaxBytes = stats => stats.max_bytes as u64,
        /// Senders waiting for room.
        WaitingSenders = stats => stats.waiting_senders as u64,
        /// Receivers waiting for a message.
        WaitingReceivers = stats => stats.waiting_receivers as u64,
        /// Background tasks that are alive.
        BackgroundTasks = stats => stats.background_tasks as u64,
    }
}

statistics! {
    /// A [`Histogram`] of [`Stats`]: how long something took.
    HistogramKind: Histogram {
        /// From the decision to switch until it was done; a switch on demand counts as 0 s.
        SwitchLatency = stats => stats.switch_latency,
        /// How long the first message of a segment was queued.
        QueueTime = stats => stats.queue_time,
    }
}

const COUNTERS: usize = Counter::ALL.len();
const GAUGES: usize = Gauge::ALL.len();
const HISTOGRAMS: usize = HistogramKind::ALL.len();

/// What has changed in a channel since it was last told of.
pub struct StatsDelta<'a> {
    channel: Option<&'a str>,
    counters: [u64; COUNTERS],
    gauges: [i64; GAUGES],
    histograms: [Histogram; HISTOGRAMS],
}

impl<'a> StatsDelta<'a> {
    /// The name of the channel, if it was given one.
    pub fn channel(&self) -> Option<&'a str> {
        self.channel
    }

    /// By how much `counter` went up since the last report.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }

    /// By how much `gauge` went up, or down if negative, since the last report.
    pub fn gauge(&self, gauge: Gauge) -> i64 {
        self.gauges[gauge as usize]
    }

    /// What was added to the histogram of `kind` since the last report.
    pub fn histogram(&self, kind: HistogramKind) -> &Histogram {
        &self.histograms[kind as usize]
    }

    /// Every counter and by how much it went up, also those that did not.
    pub fn counters(&self) -> impl Iterator<Item = (Counter, u64)> {
        Counter::ALL.iter().map(|&counter| (counter, self.counter(counter)))
    }

    /// Every gauge and its change, also those that are as they were.
    pub fn gauges(&self) -> impl Iterator<Item = (Gauge, i64)> {
        Gauge::ALL.iter().map(|&gauge| (gauge, self.gauge(gauge)))
    }

    /// Every histogram and what was added to it, also those to which nothing was.
    pub fn histograms(&self) -> impl Iterator<Item = (HistogramKind, &Histogram)> {
        HistogramKind::ALL.iter().map(|&kind| (kind, self.histogram(kind)))
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.counters.iter().all(|&increment| increment == 0)
            && self.gauges.iter().all(|&change| change == 0)
            && self.histograms.iter().all(|histogram| histogram.count() == 0)
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

/// What was told of a channel so far.
pub(crate) struct Reported {
    counters: [u64; COUNTERS],
    gauges: [u64; GAUGES],
    histograms: [Histogram; HISTOGRAMS],
    any: bool,
}

impl Reported {
    pub(crate) fn nothing() -> Self {
        let histograms = std::array::from_fn(|at| HistogramKind::ALL[at].of(&Stats::new()));
        Self { counters: [0; COUNTERS], gauges: [0; GAUGES], histograms, any: false }
    }

    /// What has changed by now; the first time also if that is nothing. If this is the `last`, gauges are zero.
    ///
    /// A counter that seems to have gone down has not: it is told of when it is higher again.
    pub(crate) fn update<'a>(
        &mut self,
        channel: Option<&'a str>,
        stats: &Stats,
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
        let histograms = std::array::from_fn(|at| {
            HistogramKind::ALL[at].of(stats).changes_since(&mut self.histograms[at])
        });
        let changes = StatsDelta { channel, counters, gauges, histograms };
        let is_first = !std::mem::replace(&mut self.any, true);
        (is_first || !changes.is_nothing()).then_some(changes)
    }
}

#[cfg(all(test, not(turbostream_loom)))]
mod tests {
    use super::*;

    fn stats(accepted: u64, queued: u64) -> Stats {
        Stats { sent_messages: accepted, queued_messages: queued, ..Stats::new() }
    }

    #[test]
    fn a_counter_that_is_seen_lower_is_told_of_when_it_is_higher() {
        let mut reported = Reported::nothing();
        let mut told = Vec::new();
        for accepted in [5, 3, 5, 9] {
            let changes = reported.update(None, &stats(accepted, 0), false);
            told.push(changes.map(|changes| changes.counter(Counter::SentMessages)));
        }
        assert_eq!(told, [Some(5), None, None, Some(4)]);
    }

    #[test]
    fn gauges_add_up_to_what_is_there_and_end_at_zero() {
        let mut reported = Reported::nothing();
        let mut sum = 0;
        for (queued, last) in [(7, false), (2, false), (u64::MAX / 2, false), (1, false), (1, true)] {
            let changes = reported.update(None, &stats(0, queued), last).expect("it changes");
            sum += changes.gauge(Gauge::QueuedMessages);
            assert_eq!(sum, if last { 0 } else { queued as i64 });
        }
    }

    #[test]
    fn the_first_report_is_made_whatever_it_says() {
        let mut reported = Reported::nothing();
        assert!(reported.update(None, &Stats::new(), false).is_some());
        assert!(reported.update(None, &Stats::new(), false).is_none());
    }
}
