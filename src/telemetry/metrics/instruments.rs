//! The instruments of OpenTelemetry's API that figures are recorded in.

use std::collections::HashMap;
use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, UpDownCounter};

use super::names::{Instrument, Names, Row};
use crate::telemetry::recorder::{self, Recorder, StatsDelta};
use crate::telemetry::stats::Stats;

/// One of each [`Row`].
pub(super) struct Instruments {
    channel: &'static str,
    counters: Vec<Recorded<recorder::Counter, Counter<u64>>>,
    gauges: Vec<Recorded<recorder::Gauge, UpDownCounter<i64>>>,
    histograms: Vec<Recorded<recorder::HistogramKind, Histogram<f64>>>,
}

/// Where a statistic is recorded.
struct Recorded<F, I> {
    statistic: F,
    instrument: I,
    attribute: Option<KeyValue>,
}

impl Instruments {
    pub(super) fn new(meter: &Meter, names: &Names) -> Self {
        let bounds = |kind: recorder::HistogramKind| {
            let histogram = kind.of(&Stats::new());
            histogram.bounds().iter().map(std::time::Duration::as_secs_f64).collect()
        };
        Self {
            channel: names.channel,
            counters: record(names.counters, names.instruments, |_, about| {
                meter
                    .u64_counter(about.name)
                    .with_unit(about.unit)
                    .with_description(about.description)
                    .build()
            }),
            gauges: record(names.gauges, names.instruments, |_, about| {
                meter
                    .i64_up_down_counter(about.name)
                    .with_unit(about.unit)
                    .with_description(about.description)
                    .build()
            }),
            histograms: record(names.histograms, names.instruments, |kind, about| {
                meter
                    .f64_histogram(about.name)
                    .with_unit(about.unit)
                    .with_description(about.description)
                    .with_boundaries(bounds(kind))
                    .build()
            }),
        }
    }

    /// Also what has not changed, so that every series is there from the start.
    fn record_counts(&self, changes: &StatsDelta<'_>, channel: Option<&KeyValue>) {
        for Recorded { statistic, instrument, attribute } in &self.counters {
            instrument.add(changes.counter(*statistic), &attributes(attribute.as_ref(), channel));
        }
        for Recorded { statistic, instrument, attribute } in &self.gauges {
            instrument.add(changes.gauge(*statistic), &attributes(attribute.as_ref(), channel));
        }
    }
}

impl Recorder for Instruments {
    fn record(&self, changes: &StatsDelta<'_>) {
        let name = |name: &str| KeyValue::new(self.channel, Arc::<str>::from(name));
        let channel = changes.channel().map(name);
        self.record_counts(changes, channel.as_ref());
        for Recorded { statistic, instrument, attribute } in &self.histograms {
            let attributes = attributes(attribute.as_ref(), channel.as_ref());
            for bucket in changes.histogram(*statistic).buckets() {
                let mean = bucket.mean().as_secs_f64();
                // The API takes them one by one only: each counts in its bucket, and together they have the right sum.
                for _ in 0..bucket.count {
                    instrument.record(mean, &attributes);
                }
            }
        }
    }
}

fn attributes(own: Option<&KeyValue>, channel: Option<&KeyValue>) -> Vec<KeyValue> {
    own.into_iter().chain(channel).cloned().collect()
}

/// Makes each instrument once, and what is recorded in it for each row.
fn record<F: Copy, I: Clone>(
    rows: &[Row<F>],
    instruments: &[Instrument],
    make: impl Fn(F, &Instrument) -> I,
) -> Vec<Recorded<F, I>> {
    let mut made = HashMap::new();
    let recorded = |row: &Row<F>| {
        let about = |about: &&Instrument| about.name == row.instrument;
        let about = instruments.iter().find(about).expect("every instrument is described");
        let instrument = made.entry(about.name).or_insert_with(|| make(row.statistic, about)).clone();
        let attribute = row.attribute.map(|(key, value)| KeyValue::new(key, value));
        Recorded { statistic: row.statistic, instrument, attribute }
    };
    rows.iter().map(recorded).collect()
}

#[cfg(all(test, not(turbostream_loom)))]
mod tests {
    use std::collections::HashSet;

    use super::super::names;
    use super::*;

    fn assert_complete(names: &Names) {
        let used: HashSet<_> = names.counters.iter().map(|row| row.instrument).collect();
        let used: HashSet<_> =
            used.into_iter().chain(names.gauges.iter().map(|row| row.instrument)).collect();
        let used: HashSet<_> =
            used.into_iter().chain(names.histograms.iter().map(|row| row.instrument)).collect();
        let described: HashSet<_> = names.instruments.iter().map(|about| about.name).collect();
        assert_eq!((used.len(), &used), (names.instruments.len(), &described));
        for counter in recorder::Counter::ALL {
            assert!(names.counters.iter().any(|row| row.statistic == *counter), "{counter:?}");
        }
        for gauge in recorder::Gauge::ALL {
            assert!(names.gauges.iter().any(|row| row.statistic == *gauge), "{gauge:?}");
        }
        for kind in recorder::HistogramKind::ALL {
            assert!(names.histograms.iter().any(|row| row.statistic == *kind), "{kind:?}");
        }
    }

    #[test]
    fn every_figure_has_a_name_and_every_instrument_is_described_once() {
        assert_complete(&names::OTEL);
        #[cfg(feature = "prometheus")]
        assert_complete(&names::PROMETHEUS);
    }
}
