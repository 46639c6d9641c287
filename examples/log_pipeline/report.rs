//! What is measured, and how it is shown: tags, peak memory, progress, and the table at the end.

use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};

use crate::files::{InputSize, Origins, Output};
use crate::units::{count, grouped, nanos};
use crate::{Job, ReaderEnd};

/// How many lines of a reader lie between two timed ones.
const SAMPLE_EVERY: u32 = 256;

/// What travels with each line: which reader sent it and, for one line in some hundreds, when.
///
/// The upper 16 bits hold the reader, the lower 48 the nanoseconds since the start of the round (0: not timed).
#[derive(Clone, Copy)]
pub(crate) struct Tag(u64);

impl Tag {
    pub(crate) const BYTES: usize = 8;
    const TIME_BITS: u32 = 48;

    fn new(reader: u16, since_start: Duration) -> Self {
        let nanos = since_start.as_nanos() as u64 & ((1 << Self::TIME_BITS) - 1);
        Self(u64::from(reader) << Self::TIME_BITS | nanos)
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0.to_le_bytes()
    }

    /// Reads the tag at the front of a message.
    pub(crate) fn of(message: &[u8]) -> Self {
        let bytes = message[..Self::BYTES].try_into().expect("every message begins with a tag");
        Self(u64::from_le_bytes(bytes))
    }

    pub(crate) fn reader(self) -> u16 {
        (self.0 >> Self::TIME_BITS) as u16
    }

    /// Returns when the line was sent, since the start of the round, if it is a timed one.
    pub(crate) fn sent_at(self) -> Option<Duration> {
        let nanos = self.0 & ((1 << Self::TIME_BITS) - 1);
        (nanos != 0).then(|| Duration::from_nanos(nanos))
    }
}

/// Makes the tags of one reader and counts the lines that it sent.
pub(crate) struct Tagger {
    reader: u16,
    start: Instant,
    until_sample: u32,
    pub(crate) sent: u64,
}

impl Tagger {
    pub(crate) fn new(reader: u16, start: Instant) -> Self {
        Self { reader, start, until_sample: 0, sent: 0 }
    }

    /// Returns whether the next line should be a timed one.
    pub(crate) fn sample_due(&self) -> bool {
        self.until_sample == 0
    }

    /// Makes a tag without a time.
    pub(crate) fn plain(&self) -> Tag {
        Tag::new(self.reader, Duration::ZERO)
    }

    /// Makes a tag with the current time.
    pub(crate) fn timed(&self) -> Tag {
        Tag::new(self.reader, self.start.elapsed())
    }

    /// Counts a sent line with a plain tag. A sample that is due stays due.
    pub(crate) fn sent_plain(&mut self) {
        self.sent += 1;
        self.until_sample = self.until_sample.saturating_sub(1);
    }

    /// Counts a sent line with a timed tag.
    pub(crate) fn sent_timed(&mut self) {
        self.sent += 1;
        self.until_sample = SAMPLE_EVERY;
    }
}

/// The measurements of one round.
pub(crate) struct Round {
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
    pub(crate) batches: u64,
    pub(crate) elapsed: Duration,
    pub(crate) in_channel: Latency,
    pub(crate) channel_peak: Option<usize>,
    pub(crate) process_peak: Option<u64>,
    pub(crate) origins: Option<Origins>,
    /// One for each input, in their order.
    pub(crate) readers: Vec<ReaderEnd>,
}

/// Nanoseconds that lines spent in the channel.
pub(crate) struct Latency {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
}

impl Latency {
    pub(crate) fn of(times: &Histogram<u64>) -> Self {
        let at = |quantile| times.value_at_quantile(quantile);
        Self { p50: at(0.5), p99: at(0.99), max: times.max() }
    }
}

impl Round {
    /// Returns whether every input was read to its end.
    pub(crate) fn is_complete(&self) -> bool {
        self.readers.iter().all(|reader| reader.complete)
    }
}

/// Makes a progress bar, or a spinner if the size is unknown. Neither is drawn unless standard error is a terminal.
pub(crate) fn progress_bar(size: InputSize, title: String) -> ProgressBar {
    let (bar, template) = match size {
        InputSize::Lines(lines) => {
            (ProgressBar::new(lines), "{msg} {wide_bar} {human_pos} of {human_len} lines")
        }
        InputSize::Bytes(bytes) => (ProgressBar::new(bytes), "{msg} {wide_bar} {bytes} of {total_bytes}"),
        InputSize::Unknown => (ProgressBar::new_spinner(), "{spinner} {msg} {bytes} {bytes_per_sec}"),
    };
    let style = ProgressStyle::with_template(template).expect("valid templates");
    bar.with_style(style).with_message(title)
}

/// Writes the report: the table, and notes on the rounds.
pub(crate) fn summary(job: &Job, interrupted: bool, columns: &[Column]) -> String {
    let rounds = columns.iter().map(|column| column.rounds.len()).max().unwrap_or(0) as u64;
    let readers = count(job.inputs.len() as u64, "reader");
    let compared = columns.iter().all(|column| !column.rounds.is_empty());
    let mut text = format!("{readers}, 1 writer, {}", count(rounds, "round"));
    text += if compared { " through each channel in turn" } else { "" };
    text += if rounds > 1 { ", medians\n" } else { "\n" };
    if rounds > 0 {
        text += &format!("{}\n", table(columns));
    }
    let mut note = |line: &str| text = format!("{text}{line}\n");
    if !job.rereadable {
        note("an input can be read only once: one round and nothing to compare with");
    } else if !job.is_repeatable() {
        note("the output can be written only once: one round and nothing to compare with");
    }
    if job.verify && rounds > 0 {
        note("verified: each line sent is in the output exactly once, byte for byte, each reader's in order");
    }
    match columns.iter().find_map(|column| column.interrupted.as_ref()) {
        Some(round) => note(round),
        None if interrupted => note("interrupted between two rounds"),
        None => {}
    }
    match &job.output {
        Output::Temporary(_) => note("output: a temporary file, removed; --output FILE keeps it"),
        output => note(&format!("output: {}", output.name())),
    }
    text
}

/// The rounds through one channel.
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) rounds: Vec<Round>,
    /// Describes a round that Ctrl-C cut short.
    pub(crate) interrupted: Option<String>,
}

impl Column {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, rounds: Vec::new(), interrupted: None }
    }
}

/// Makes the table, with one column for each channel: medians over its rounds.
fn table(columns: &[Column]) -> Table {
    let columns: Vec<_> = columns.iter().filter(|column| !column.rounds.is_empty()).collect();
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    table.set_header([""].into_iter().chain(columns.iter().map(|column| column.name)));
    let mut row = |name: &str, cell: &dyn Fn(&[Round]) -> String| {
        let cells = columns.iter().map(|column| cell(&column.rounds));
        table.add_row([name.to_owned()].into_iter().chain(cells));
    };
    row("lines", &|rounds| grouped(median(rounds, |round| round.lines)));
    row("bytes", &|rounds| grouped(median(rounds, |round| round.bytes)));
    row("batches", &|rounds| grouped(median(rounds, |round| round.batches)));
    row("mean batch, lines", &|rounds| grouped(median(rounds, |round| round.lines / round.batches.max(1))));
    row("time", &|rounds| nanos(median(rounds, |round| round.elapsed.as_nanos() as u64)));
    row("lines a second", &|rounds| grouped(median(rounds, |round| per_second(round, round.lines))));
    row("MB a second", &|rounds| grouped(median(rounds, |round| per_second(round, round.bytes) / 1_000_000)));
    row("in the channel, p50", &|rounds| nanos(median(rounds, |round| round.in_channel.p50)));
    row("in the channel, p99", &|rounds| nanos(median(rounds, |round| round.in_channel.p99)));
    row("in the channel, max", &|rounds| nanos(median(rounds, |round| round.in_channel.max)));
    row("peak memory, channel", &|rounds| {
        memory(rounds, |round| round.channel_peak.map(|bytes| bytes as u64))
    });
    row("peak memory, process", &|rounds| memory(rounds, |round| round.process_peak));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn median(rounds: &[Round], value: impl Fn(&Round) -> u64) -> u64 {
    let mut values: Vec<_> = rounds.iter().map(value).collect();
    values.sort_unstable();
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { values[middle - 1].midpoint(values[middle]) }
}

fn memory(rounds: &[Round], value: impl Fn(&Round) -> Option<u64>) -> String {
    if rounds.iter().any(|round| value(round).is_none()) {
        return "unknown".into();
    }
    format!("{} KiB", grouped(median(rounds, |round| value(round).unwrap_or(0)) / 1024))
}

fn per_second(round: &Round, count: u64) -> u64 {
    (count as f64 / round.elapsed.as_secs_f64()) as u64
}
