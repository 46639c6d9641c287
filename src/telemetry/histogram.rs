//! Histograms of durations: [`SharedHistogram`] records them, [`Histogram`] is its copy for the user.

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering};

const BOUNDS: usize = 5;
/// One more than bounds: the last bucket counts what took longer than the last bound.
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

/// Bounds for the duration of a switch: 1, 5, 10, 50, 100 ms.
pub(crate) const SWITCH_BOUNDS: [Duration; BOUNDS] =
    bounds_in_micros([1_000, 5_000, 10_000, 50_000, 100_000]);
/// Bounds for the time that a message is queued: 1, 10, 100 ms, 1, 10 s.
pub(crate) const QUEUE_BOUNDS: [Duration; BOUNDS] =
    bounds_in_micros([1_000, 10_000, 100_000, 1_000_000, 10_000_000]);

/// A histogram of durations.
///
/// In [`Stats`](crate::Stats) it covers the time since the channel was built, in [`StatsDelta`](crate::StatsDelta) the
/// time since the last report, or between two [`Stats`](crate::Stats).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Histogram {
    bounds: [Duration; BOUNDS],
    buckets: [Bucket; BUCKETS],
}

/// One bucket of a [`Histogram`]: durations above the bound of the bucket before, up to and including its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bucket {
    /// The longest duration of this bucket; `None` for the last bucket, which has no bound.
    pub bound: Option<Duration>,
    /// The number of durations in this bucket.
    pub count: u64,
    /// The sum of those durations.
    pub sum: Duration,
}

impl Histogram {
    pub(crate) fn new(bounds: [Duration; BOUNDS]) -> Self {
        let bucket = |at: usize| Bucket { bound: bounds.get(at).copied(), ..Bucket::default() };
        Self { bounds, buckets: std::array::from_fn(bucket) }
    }

    /// Returns the bounds between buckets, in rising order.
    pub fn bounds(&self) -> &[Duration] {
        &self.bounds
    }

    /// Returns the buckets, one more than bounds. They are not cumulative, unlike those of Prometheus.
    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// Returns the number of recorded durations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.count).sum()
    }

    /// Returns the sum of all recorded durations.
    pub fn sum(&self) -> Duration {
        self.buckets.iter().map(|bucket| bucket.sum).sum()
    }

    /// Returns the mean of all recorded durations; 0 for an empty histogram.
    pub fn mean(&self) -> Duration {
        mean(self.sum(), self.count())
    }

    pub(crate) fn record(&mut self, took: Duration) {
        let bucket = &mut self.buckets[bucket_of(&self.bounds, took)];
        bucket.count += 1;
        bucket.sum += took;
    }

    /// Records a duration that `count` messages took.
    #[cfg(feature = "forward")]
    pub(crate) fn record_many(&mut self, took: Duration, count: u64) {
        let bucket = &mut self.buckets[bucket_of(&self.bounds, took)];
        bucket.count += count;
        bucket.sum += took * count as u32;
    }

    /// Returns durations recorded since `reported`, at most `limit`; adds them to `reported` and takes them off `limit`.
    ///
    /// A bucket without a new count is left for later: its sum may already include a duration that is not counted yet. If a
    /// bucket exceeds the limit, a part of its durations is returned, each as long as the mean of all.
    pub(crate) fn take_delta(&self, reported: &mut Self, limit: &mut u64) -> Self {
        let mut delta = Self::new(self.bounds);
        let buckets = self.buckets.iter().zip(&mut reported.buckets).zip(&mut delta.buckets);
        for ((now, before), added) in buckets {
            let new = now.count.saturating_sub(before.count);
            added.count = new.min(*limit);
            if added.count > 0 {
                added.sum = share(now.sum.saturating_sub(before.sum), added.count, new);
                before.count += added.count;
                before.sum += added.sum;
                *limit -= added.count;
            }
        }
        delta
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
    /// Returns the mean duration of this bucket, at most its bound; 0 for an empty bucket.
    pub fn mean(&self) -> Duration {
        let mean = mean(self.sum, self.count);
        self.bound.map_or(mean, |bound| mean.min(bound))
    }
}

/// Returns the mean of `count` durations whose sum is `sum`; 0 if there are none.
fn mean(sum: Duration, count: u64) -> Duration {
    let nanos = sum.as_nanos().checked_div(u128::from(count)).unwrap_or(0);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Returns the share of `part` durations in the sum of `all`.
fn share(sum: Duration, part: u64, all: u64) -> Duration {
    let nanos = sum.as_nanos() * u128::from(part) / u128::from(all);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn bucket_of(bounds: &[Duration; BOUNDS], took: Duration) -> usize {
    bounds.iter().position(|&bound| took <= bound).unwrap_or(BOUNDS)
}

/// A histogram that several threads record to.
///
/// A bucket is two atomics, its count and its sum. The sum is added first, so that it covers every counted duration.
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

    /// Records a duration of `nanos` ns.
    pub(crate) fn record(&self, nanos: u64) {
        let bucket = bucket_of(&self.bounds, Duration::from_nanos(nanos));
        // ORDERING: Relaxed for the sum; the Release of the count publishes it.
        // Release: pairs with the Acquire in `load`; makes the addition to the sum visible, so that a loaded sum covers
        // the loaded count.
        self.nanos[bucket].fetch_add(nanos, Ordering::Relaxed);
        self.counts[bucket].fetch_add(1, Ordering::Release);
    }

    /// Adds what a histogram with the same bounds has recorded since it was `before`.
    #[cfg(feature = "forward")]
    pub(crate) fn add_change(&self, before: &Histogram, now: &Histogram) {
        for (at, (before, now)) in before.buckets.iter().zip(&now.buckets).enumerate() {
            if before.count != now.count {
                let nanos = (now.sum - before.sum).as_nanos() as u64;
                // ORDERING: as in `record`.
                self.nanos[at].fetch_add(nanos, Ordering::Relaxed);
                self.counts[at].fetch_add(now.count - before.count, Ordering::Release);
            }
        }
    }

    /// Returns a copy. Its buckets may be from slightly different moments.
    pub(crate) fn load(&self) -> Histogram {
        let mut histogram = Histogram::new(self.bounds);
        for (at, bucket) in histogram.buckets.iter_mut().enumerate() {
            // ORDERING: Acquire: pairs with the Release in `record`; makes the sums of the counted durations visible to the
            // Relaxed load that follows.
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
    fn bucket_bound_is_inclusive() {
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
    fn deltas_sum_to_total() {
        let shared = SharedHistogram::new(QUEUE_BOUNDS);
        let mut reported = Histogram::new(QUEUE_BOUNDS);
        let (mut count, mut sum) = (0, Duration::ZERO);
        for nanos in [1, 5_000_000, 5_000_000, 3, 1 << 40] {
            shared.record(nanos);
            let mut limit = 2;
            let delta = shared.load().take_delta(&mut reported, &mut limit);
            assert_eq!((delta.count(), delta.sum(), limit), (1, Duration::from_nanos(nanos), 1));
            count += delta.count();
            sum += delta.sum();
        }
        assert_eq!((count, sum), (shared.load().count(), shared.load().sum()));
        assert_eq!(reported, shared.load());
    }

    #[test]
    fn deltas_of_limited_size_sum_to_total() {
        let shared = SharedHistogram::new(QUEUE_BOUNDS);
        for nanos in [1, 2, 4, 5_000_000, 6_000_001] {
            shared.record(nanos);
        }
        let mut reported = Histogram::new(QUEUE_BOUNDS);
        for (count, nanos) in [(2, 4), (2, 3 + 5_500_000), (1, 5_500_001), (0, 0)] {
            let delta = shared.load().take_delta(&mut reported, &mut 2);
            assert_eq!((delta.count(), delta.sum()), (count, Duration::from_nanos(nanos)));
        }
        assert_eq!(reported, shared.load());
    }

    #[test]
    fn mean_is_at_most_bucket_bound() {
        let mut bucket =
            Bucket { bound: Some(Duration::from_millis(1)), count: 2, sum: Duration::from_millis(3) };
        assert_eq!(bucket.mean(), Duration::from_millis(1));
        bucket.bound = None;
        assert_eq!(bucket.mean(), Duration::from_micros(1500));
        assert_eq!(Bucket::default().mean(), Duration::ZERO);
    }
}
