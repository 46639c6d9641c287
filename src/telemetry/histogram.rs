//! How often something took how long: counted by threads, read by whoever watches.

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering};

const BOUNDS: usize = 5;
/// One more than bounds: the last is for all that took longer.
const BUCKETS: usize = BOUNDS + 1;

const fn bounds_in_micros(micros: [u64; BOUNDS]) -> [Duration; BOUNDS] {
    let mut bounds = [Duration::ZERO; BOUNDS];
    let mut at = 0;
    while at < BOUNDS {
        bounds[at] = Duration::from_micros(micros[at]);
        at += 1;
    }
    bounds
}

/// Of the time that a switch takes: 1, 5, 10, 50, 100 ms.
pub(crate) const SWITCH_BOUNDS: [Duration; BOUNDS] =
    bounds_in_micros([1_000, 5_000, 10_000, 50_000, 100_000]);
/// Of the time that messages are queued: 1, 10, 100 ms, 1, 10 s.
pub(crate) const QUEUE_BOUNDS: [Duration; BOUNDS] =
    bounds_in_micros([1_000, 10_000, 100_000, 1_000_000, 10_000_000]);

/// How often something took how long, in [`Stats`](crate::Stats) since the channel was made, in
/// [`StatsDelta`](crate::StatsDelta) since the last report.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Histogram {
    bounds: [Duration; BOUNDS],
    buckets: [Bucket; BUCKETS],
}

/// One bucket of a [`Histogram`]: what took longer than the bound of the bucket before, and no longer than its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bucket {
    /// The longest time that belongs to this bucket; `None` for the last one, which has no bound.
    pub bound: Option<Duration>,
    /// How many times belong to this bucket.
    pub count: u64,
    /// The sum of those times.
    pub sum: Duration,
}

impl Histogram {
    pub(crate) fn new(bounds: [Duration; BOUNDS]) -> Self {
        let bucket = |at: usize| Bucket { bound: bounds.get(at).copied(), ..Bucket::default() };
        Self { bounds, buckets: std::array::from_fn(bucket) }
    }

    /// The bounds between buckets, rising.
    pub fn bounds(&self) -> &[Duration] {
        &self.bounds
    }

    /// The buckets, one more than bounds, each without what is in those before it: not cumulative as those of Prometheus.
    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// How many times were recorded, in all buckets.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.count).sum()
    }

    /// The sum of all times that were recorded.
    pub fn sum(&self) -> Duration {
        self.buckets.iter().map(|bucket| bucket.sum).sum()
    }

    /// This histogram and so many more that took no time.
    pub(crate) fn with_instant(mut self, count: u64) -> Self {
        self.buckets[0].count += count;
        self
    }

    pub(crate) fn record(&mut self, took: Duration) {
        let bucket = &mut self.buckets[bucket_of(&self.bounds, took)];
        bucket.count += 1;
        bucket.sum += took;
    }

    /// What came since `reported`, which is brought up to date. A bucket whose sum is ahead of its count is left for
    /// later.
    pub(crate) fn changes_since(&self, reported: &mut Self) -> Self {
        let mut changes = Self::new(self.bounds);
        let buckets = self.buckets.iter().zip(&mut reported.buckets).zip(&mut changes.buckets);
        for ((now, before), change) in buckets {
            change.count = now.count.saturating_sub(before.count);
            if change.count > 0 {
                change.sum = now.sum.saturating_sub(before.sum);
                *before = *now;
            }
        }
        changes
    }
}

/// An empty histogram with the bounds of [`Stats::switch_latency`](crate::Stats::switch_latency).
impl Default for Histogram {
    fn default() -> Self {
        Self::new(SWITCH_BOUNDS)
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count())
            .field("sum", &self.sum())
            .finish_non_exhaustive()
    }
}

impl Bucket {
    /// The mean of the times in this bucket, no longer than its bound; 0 where there are none.
    pub fn mean(&self) -> Duration {
        let mean = self.sum.as_nanos().checked_div(u128::from(self.count)).unwrap_or(0);
        let mean = Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX));
        self.bound.map_or(mean, |bound| mean.min(bound))
    }
}

fn bucket_of(bounds: &[Duration; BOUNDS], took: Duration) -> usize {
    bounds.iter().position(|&bound| took <= bound).unwrap_or(BOUNDS)
}

/// A histogram that several threads record to.
pub(crate) struct SharedHistogram {
    bounds: [Duration; BOUNDS],
    counts: [AtomicU64; BUCKETS],
    nanos: [AtomicU64; BUCKETS],
}

impl SharedHistogram {
    pub(crate) fn new(bounds: [Duration; BOUNDS]) -> Self {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        Self { bounds, counts: zeros(), nanos: zeros() }
    }

    pub(crate) fn record(&self, nanos: u64) {
        let bucket = bucket_of(&self.bounds, Duration::from_nanos(nanos));
        // ORDERING: Relaxed and then Release, which pairs with the Acquire in `load`: a sum is never behind its count.
        self.nanos[bucket].fetch_add(nanos, Ordering::Relaxed);
        self.counts[bucket].fetch_add(1, Ordering::Release);
    }

    pub(crate) fn load(&self) -> Histogram {
        let mut histogram = Histogram::new(self.bounds);
        for (at, bucket) in histogram.buckets.iter_mut().enumerate() {
            // ORDERING: see `record`.
            bucket.count = self.counts[at].load(Ordering::Acquire);
            bucket.sum = Duration::from_nanos(self.nanos[at].load(Ordering::Relaxed));
        }
        histogram
    }
}

#[cfg(all(test, not(turbostream_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket_and_what_is_longer_to_the_next() {
        let shared = SharedHistogram::new(SWITCH_BOUNDS);
        for bound in SWITCH_BOUNDS {
            shared.record(bound.as_nanos() as u64);
            shared.record(bound.as_nanos() as u64 + 1);
        }
        let histogram = shared.load();
        assert_eq!(
            histogram.buckets().iter().map(|bucket| bucket.count).collect::<Vec<_>>(),
            [1, 2, 2, 2, 2, 1]
        );
        assert_eq!(histogram.sum(), SWITCH_BOUNDS.iter().sum::<Duration>() * 2 + Duration::from_nanos(5));
        assert_eq!(histogram.buckets()[0].bound, Some(SWITCH_BOUNDS[0]));
        assert_eq!(histogram.buckets()[5].bound, None);
    }

    #[test]
    fn changes_add_up_to_the_whole() {
        let shared = SharedHistogram::new(QUEUE_BOUNDS);
        let mut reported = Histogram::new(QUEUE_BOUNDS);
        let (mut count, mut sum) = (0, Duration::ZERO);
        for nanos in [1, 5_000_000, 5_000_000, 3, 1 << 40] {
            shared.record(nanos);
            let changes = shared.load().changes_since(&mut reported);
            assert_eq!((changes.count(), changes.sum()), (1, Duration::from_nanos(nanos)));
            count += changes.count();
            sum += changes.sum();
        }
        assert_eq!((count, sum), (shared.load().count(), shared.load().sum()));
        assert_eq!(reported, shared.load());
    }

    #[test]
    fn a_mean_is_inside_of_its_bucket() {
        let mut bucket =
            Bucket { bound: Some(Duration::from_millis(1)), count: 2, sum: Duration::from_millis(3) };
        assert_eq!(bucket.mean(), Duration::from_millis(1));
        bucket.bound = None;
        assert_eq!(bucket.mean(), Duration::from_micros(1500));
        assert_eq!(Bucket::default().mean(), Duration::ZERO);
    }
}
