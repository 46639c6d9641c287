//! What is shown: the progress bar, and the table at the end.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use turbostream::forward::ForwardStats;

use crate::lines::{Input, Progress};
use crate::units::{count, grouped, nanos};

/// How much all inputs hold together.
#[derive(Clone, Copy)]
pub(crate) enum InputSize {
    Lines(u64),
    Bytes(u64),
    Unknown,
}

impl InputSize {
    pub(crate) fn of(inputs: &[Input]) -> Self {
        if let [Input::Generated { lines, .. }, ..] = inputs[..] {
            return Self::Lines(lines);
        }
        inputs.iter().map(Input::size).sum::<Option<_>>().map_or(Self::Unknown, Self::Bytes)
    }
}

/// The progress bar, or a spinner if the size is unknown. Neither is drawn unless standard error is a terminal.
pub(crate) struct Bar {
    bar: ProgressBar,
    size: InputSize,
}

impl Bar {
    pub(crate) fn new(size: InputSize) -> Self {
        let (bar, template) = match size {
            InputSize::Lines(lines) => {
                (ProgressBar::new(lines), "{wide_bar} {human_pos} of {human_len} lines, {msg}")
            }
            InputSize::Bytes(bytes) => {
                (ProgressBar::new(bytes), "{wide_bar} {bytes} of {total_bytes} read, {msg}")
            }
            InputSize::Unknown => (ProgressBar::new_spinner(), "{spinner} {bytes} read, {msg}"),
        };
        Self { bar: bar.with_style(ProgressStyle::with_template(template).expect("valid templates")), size }
    }

    /// Shows how far the forwarder is, or the readers if the number of lines is not known.
    pub(crate) fn show(&self, progress: &Progress, stats: &ForwardStats) {
        self.bar.set_position(match self.size {
            InputSize::Lines(_) => stats.confirmed,
            InputSize::Bytes(_) | InputSize::Unknown => progress.bytes(),
        });
        self.bar.set_message(match stats.connected {
            true => format!("{} in flight", grouped(stats.in_flight_messages)),
            false => format!("no connection: {} wait", grouped(stats.in_flight_messages)),
        });
    }

    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// The bar of the verification.
pub(crate) fn verification_bar(lines: u64) -> ProgressBar {
    let template = "{wide_bar} {human_pos} of {human_len} lines read back";
    let style = ProgressStyle::with_template(template).expect("valid templates");
    ProgressBar::new(lines).with_style(style)
}

/// What was measured.
pub(crate) struct Measured {
    pub(crate) stats: ForwardStats,
    pub(crate) elapsed: Duration,
    /// Nanoseconds from the first publish of a payload until the forwarder saw it confirmed.
    pub(crate) to_confirm: Histogram<u64>,
    pub(crate) process_peak: Option<u64>,
}

impl Measured {
    /// Makes the table.
    pub(crate) fn table(&self) -> Table {
        let Self { stats, elapsed, to_confirm, process_peak } = self;
        let per_second = |number: u64| (number as f64 / elapsed.as_secs_f64()) as u64;
        let quantile = |at| match to_confirm.is_empty() {
            true => "none measured".into(),
            false => nanos(to_confirm.value_at_quantile(at)),
        };
        let kib = |bytes: u64| format!("{} KiB", grouped(bytes / 1024));
        let mut table = Table::new();
        table.load_preset(presets::UTF8_FULL_CONDENSED);
        for (name, value) in [
            ("messages confirmed", grouped(stats.confirmed)),
            ("bytes confirmed", grouped(stats.confirmed_bytes)),
            ("time", nanos(elapsed.as_nanos() as u64)),
            ("messages a second", grouped(per_second(stats.confirmed))),
            ("MB a second", grouped(per_second(stats.confirmed_bytes) / 1_000_000)),
            ("messages published again", grouped(stats.retried)),
            ("duplicates, not stored again", grouped(stats.duplicates)),
            ("messages rejected", grouped(stats.rejected)),
            ("published to confirmed, p50", quantile(0.5)),
            ("published to confirmed, p99", quantile(0.99)),
            ("most in flight, messages", grouped(stats.peak_in_flight_messages)),
            ("most in flight", kib(stats.peak_in_flight_bytes)),
            ("peak memory, process", process_peak.map_or("unknown".into(), kib)),
        ] {
            table.add_row([name.to_owned(), value]);
        }
        let column = table.column_mut(1).expect("two columns");
        column.set_cell_alignment(CellAlignment::Right);
        table
    }

    /// Returns the number of confirmed messages with its noun.
    pub(crate) fn confirmed(&self) -> String {
        count(self.stats.confirmed, "line")
    }
}
