//! What travels with each line: which reader sent it and, for one line in some hundreds, when.

use std::time::{Duration, Instant};

/// Lines between two timed ones of the same reader.
const SAMPLE_EVERY: u32 = 256;

/// Eight bytes: the reader in the upper 16 bits, nanoseconds since the start in the lower 48 (0: not timed).
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

    /// The tag at the front of a message.
    pub(crate) fn of(message: &[u8]) -> Self {
        let bytes = message[..Self::BYTES].try_into().expect("every message begins with a tag");
        Self(u64::from_le_bytes(bytes))
    }

    pub(crate) fn reader(self) -> u16 {
        (self.0 >> Self::TIME_BITS) as u16
    }

    /// When the line was sent, since the start of the round, if it is a timed one.
    pub(crate) fn sent_at(self) -> Option<Duration> {
        let nanos = self.0 & ((1 << Self::TIME_BITS) - 1);
        (nanos != 0).then(|| Duration::from_nanos(nanos))
    }
}

/// Makes the tags of one reader and counts the lines the channel has accepted from it.
pub(crate) struct Tagger {
    reader: u16,
    start: Instant,
    until_sample: u32,
    pub(crate) accepted: u64,
}

impl Tagger {
    pub(crate) fn new(reader: u16, start: Instant) -> Self {
        Self { reader, start, until_sample: 0, accepted: 0 }
    }

    /// Whether the next line should be a timed one.
    pub(crate) fn sample_due(&self) -> bool {
        self.until_sample == 0
    }

    /// A tag without a time.
    pub(crate) fn plain(&self) -> Tag {
        Tag::new(self.reader, Duration::ZERO)
    }

    /// A tag that says "now".
    pub(crate) fn timed(&self) -> Tag {
        Tag::new(self.reader, self.start.elapsed())
    }

    /// A line with a plain tag was accepted. A sample that is due stays due.
    pub(crate) fn accepted_plain(&mut self) {
        self.accepted += 1;
        self.until_sample = self.until_sample.saturating_sub(1);
    }

    /// A line with a timed tag was accepted.
    pub(crate) fn accepted_timed(&mut self) {
        self.accepted += 1;
        self.until_sample = SAMPLE_EVERY;
    }
}
