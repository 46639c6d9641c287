//! The lines of a log, read from a file or generated.

use super::message::Stamp;
use std::path::Path;
use std::sync::OnceLock;

static LOG: OnceLock<Log> = OnceLock::new();

/// Lines. Their number is a power of two, so that indexing needs no division.
pub struct Log {
    text: String,
    /// The start and end of each line in the text.
    lines: Vec<(usize, usize)>,
}

impl Log {
    /// Reads the lines from the file, or generates them. Must run before `get`.
    pub fn open(file: Option<&Path>) -> Result<(), String> {
        let text = match file {
            Some(file) => {
                let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
                String::from_utf8_lossy(&bytes).into_owned()
            }
            None => generated(2000),
        };
        let log = Self::new(text).ok_or("the log has no lines")?;
        LOG.set(log).map_err(|_| "the log is already open".to_string())
    }

    fn new(text: String) -> Option<Self> {
        let start = text.as_ptr().addr();
        let mut lines: Vec<_> = text
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| (line.as_ptr().addr() - start, line.as_ptr().addr() - start + line.len()))
            .collect();
        let count = lines.len();
        for again in 0..count.next_power_of_two() - count {
            lines.push(*lines.get(again)?);
        }
        (!lines.is_empty()).then_some(Self { text, lines })
    }

    #[inline]
    pub fn get() -> &'static Self {
        LOG.get().expect("opened first")
    }

    /// The line for this stamp. Each sender starts at a different line.
    #[inline]
    pub fn line(&self, stamp: Stamp) -> &[u8] {
        let at = stamp.index() as usize + stamp.sender() * self.lines.len() / 4;
        let (from, to) = self.lines[at & (self.lines.len() - 1)];
        &self.text.as_bytes()[from..to]
    }
}

/// Deterministic lines as a server writes them, 60 to 200 bytes long.
fn generated(count: usize) -> String {
    use std::fmt::Write;
    const LEVELS: [&str; 4] = ["INFO ", "INFO ", "WARN ", "DEBUG"];
    const PARTS: [&str; 4] = ["http.server", "storage.segment", "auth.session", "scheduler"];
    const EVENTS: [&str; 6] = [
        "request served",
        "connection reset by peer, will be tried again after the usual delay",
        "session opened for user=deploy by uid=0",
        "block replicated to three nodes, checksum verified, source released",
        "cache miss",
        "slow query: more than the configured limit, plan and parameters are in the trace of the same id",
    ];
    let mut state = 0x9e37_79b9_u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize
    };
    let mut text = String::new();
    for line in 0..count {
        let (level, part, event) = (LEVELS[next() % 4], PARTS[next() % 4], EVENTS[next() % 6]);
        let (id, micros) = (next(), next() % 1_000_000);
        let (minute, second) = (line / 60 % 60, line % 60);
        let _ = writeln!(
            text,
            "2024-05-17T09:{minute:02}:{second:02}.{micros:06}Z {level} [{part}] {event} id={id:08x} took={}us",
            next() % 100_000
        );
    }
    text
}
