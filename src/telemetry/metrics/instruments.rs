//! Records statistics in instruments of the OpenTelemetry API.

use std::collections::HashMap;
use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, UpDownCounter};

use super::names::{Instrument, Names, Row};
use crate::telemetry::recorder::{self, Recorder, StatsDelta};
use crate::telemetry::stats::Stats;

/// The series of a recorder, one for each [`Row`] of its [`Names`].
pub(super) struct Instruments {
    /// The attribute that holds a channel's name.
    channel: &'static str,
    counters: Vec<Series<recorder::Counter, Counter<u64>>>,
    gauges: Vec<Series<recorder::Gauge, UpDownCounter<i64>>>,
    histograms: Vec<Series<recorder::HistogramKind, Histogram<f64>>>,
}

/// A statistic, with the instrument and the attribute under which it is recorded.
struct Series<S, I> {
    statistic: S,
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
            counters: make_series(names.counters, names.instruments, |_, about| {
                meter
                    .u64_counter(about.name)
                    .with_unit(about.unit)
                    .with_description(about.description)
                    .build()
            }),
            gauges: make_series(names.gauges, names.instruments, |_, about| {
                meter
                    .i64_up_down_counter(about.name)
                    .with_unit(about.unit)
                    .with_description(about.description)
                    .build()
            }),
            histograms: make_series(names.histograms, names.instruments, |kind, about| {
                meter
                    .f64_histogram(about.name)
                    .with_unit(about.unit)
                    .with_description(about.description)
                    .with_boundaries(bounds(kind))
                    .build()
            }),
        }
    }

    /// Records counters and gauges, also those without a change, so that every series exists from the start. Those of
    /// forwarding exist once the channel has a forwarder.
    fn record_counts(&self, delta: &StatsDelta<'_>, channel: Option<&KeyValue>) {
        let has_forwarded = delta.has_forwarded();
        let counters =
            self.counters.iter().filter(|series| has_forwarded || !series.statistic.is_of_forwarding());
        for Series { statistic, instrument, attribute } in counters {
            instrument.add(delta.counter(*statistic), &attributes(attribute.as_ref(), channel));
        }
        let gauges =
            self.gauges.iter().filter(|series| has_forwarded || !series.statistic.is_of_forwarding());
        for Series { statistic, instrument, attribute } in gauges {
            instrument.add(delta.gauge(*statistic), &attributes(attribute.as_ref(), channel));
        }
    }
}

impl Recorder for Instruments {
    fn record(&self, delta: &StatsDelta<'_>) {
        let name = |name: &str| KeyValue::new(self.channel, Arc::<str>::from(name));
        let channel = delta.channel().map(name);
        self.record_counts(delta, channel.as_ref());
        for Series { statistic, instrument, attribute } in &self.histograms {
            let attributes = attributes(attribute.as_ref(), channel.as_ref());
            for bucket in delta.histogram(*statistic).buckets() {
                let mean = bucket.mean().as_secs_f64();
                // The API takes one value per call. Recording the mean `count` times gives the bucket its count and sum.
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

/// Makes each instrument once, and a series for each row.
fn make_series<S: Copy, I: Clone>(
    rows: &[Row<S>],
    instruments: &[Instrument],
    make: impl Fn(S, &Instrument) -> I,
) -> Vec<Series<S, I>> {
    let mut made = HashMap::new();
    let series = |row: &Row<S>| {
        let about = |about: &&Instrument| about.name == row.instrument;
        let about = instruments.iter().find(about).expect("every instrument is described");
        let instrument = made.entry(about.name).or_insert_with(|| make(row.statistic, about)).clone();
        let attribute = row.attribute.map(|(key, value)| KeyValue::new(key, value));
        Series { statistic: row.statistic, instrument, attribute }
    };
    rows.iter().map(series).collect()
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
    fn every_statistic_has_a_name_and_every_instrument_one_description() {
        assert_complete(&names::OTEL);
        #[cfg(feature = "prometheus")]
        assert_complete(&names::PROMETHEUS);
    }
}
