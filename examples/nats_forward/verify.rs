//! The proof that the stream has each line once, byte for byte, and those of each reader in their order.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::stream::Stream;
use futures::StreamExt;
use tokio::time::timeout;
use turbostream::forward::{Packing, unpack};

use crate::lines::{Mark, digest};

/// How long the stream may take for the next message.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the stream must have.
pub(crate) struct Expected {
    pub(crate) run: u32,
    /// The digests of the messages that each reader sent, in order.
    pub(crate) readers: Vec<Vec<u64>>,
    /// Reader and number of the messages that the server rejected.
    pub(crate) rejected: HashSet<(usize, usize)>,
}

/// What is wrong with the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    pub(crate) missing: u64,
    pub(crate) twice: u64,
    /// Other bytes than were sent.
    pub(crate) altered: u64,
    /// Found after a later line of the same reader.
    pub(crate) out_of_order: u64,
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { missing, twice, altered, out_of_order } = self;
        write!(f, "{missing} missing, {twice} twice, {altered} altered, {out_of_order} out of order")
    }
}

/// Compares the messages of a stream, one by one, with what it must have.
pub(crate) struct Checker<'a> {
    expected: &'a Expected,
    found: Vec<Vec<bool>>,
    /// The number after the highest that was found, for each reader.
    next: Vec<usize>,
    findings: Findings,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(expected: &'a Expected) -> Self {
        let found = expected.readers.iter().map(|digests| vec![false; digests.len()]).collect();
        Self { expected, found, next: vec![0; expected.readers.len()], findings: Findings::default() }
    }

    /// Checks the next message of the stream. Messages of other runs are passed over.
    pub(crate) fn check(&mut self, message: &[u8]) {
        let Some(mark) = Mark::read(message).filter(|mark| mark.run == self.expected.run) else { return };
        let digests = self.expected.readers.get(mark.reader);
        let Some(&expected) = digests.and_then(|digests| digests.get(mark.number)) else {
            self.findings.altered += 1; // a line that was not sent
            return;
        };
        self.findings.altered += u64::from(expected != digest(message));
        let found = &mut self.found[mark.reader][mark.number];
        if std::mem::replace(found, true) {
            self.findings.twice += 1;
            return;
        }
        let next = &mut self.next[mark.reader];
        self.findings.out_of_order += u64::from(mark.number < *next);
        *next = (*next).max(mark.number + 1);
    }

    /// Counts what is missing, and returns all findings.
    pub(crate) fn finish(mut self) -> Findings {
        for (reader, found) in self.found.iter().enumerate() {
            let is_missing = |&(number, found): &(usize, &bool)| {
                !found && !self.expected.rejected.contains(&(reader, number))
            };
            self.findings.missing += found.iter().enumerate().filter(is_missing).count() as u64;
        }
        self.findings
    }
}

/// Reads the messages of `subject` after the sequence `after`, and checks them. `show` gets the number of lines read.
pub(crate) async fn verify(
    stream: &Stream,
    subject: &str,
    after: u64,
    expected: &Expected,
    mut show: impl FnMut(u64),
) -> anyhow::Result<Findings> {
    let mut checker = Checker::new(expected);
    let config = pull::OrderedConfig {
        filter_subject: subject.to_owned(),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: after + 1 },
        ..pull::OrderedConfig::default()
    };
    let consumer = stream.create_consumer(config).await.context("cannot read the stream back")?;
    let mut pending = consumer.cached_info().num_pending;
    let mut messages = consumer.messages().await.context("cannot read the stream back")?;
    let mut lines = 0;
    while pending > 0 {
        let next = timeout(PATIENCE, messages.next()).await;
        let next = next.map_err(|_| anyhow!("the stream gave no message for {} s", PATIENCE.as_secs()))?;
        let Some(message) = next else { bail!("the stream ended early") };
        let message = message.context("cannot read the stream back")?;
        pending = message.info().map_err(|error| anyhow!(error))?.pending;
        for line in unpack(Packing::Lines, &message.payload) {
            checker.check(&line?);
            lines += 1;
        }
        show(lines);
    }
    Ok(checker.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: u32 = 7;

    fn message(reader: usize, number: usize) -> Vec<u8> {
        let mut message = Vec::new();
        Mark { run: RUN, reader, number }.write(&mut message);
        message.extend_from_slice(b"text of a line");
        message
    }

    /// Checks a stream of these readers and numbers, of two readers with three lines each.
    fn check(stream: &[(usize, usize)], rejected: &[(usize, usize)]) -> Findings {
        let digests = |reader| (0..3).map(|number| digest(&message(reader, number))).collect();
        let rejected = rejected.iter().copied().collect();
        let expected = Expected { run: RUN, readers: vec![digests(0), digests(1)], rejected };
        let mut checker = Checker::new(&expected);
        for &(reader, number) in stream {
            checker.check(&message(reader, number));
        }
        checker.finish()
    }

    #[test]
    fn complete_stream_has_no_findings() {
        assert_eq!(check(&[(0, 0), (1, 0), (1, 1), (0, 1), (0, 2), (1, 2)], &[]), Findings::default());
        assert_eq!(check(&[(0, 0), (1, 0), (0, 1), (0, 2), (1, 2)], &[(1, 1)]), Findings::default());
    }

    #[test]
    fn missing_twice_and_out_of_order_are_found() {
        let findings = check(&[(0, 0), (0, 2), (0, 1), (1, 0), (1, 0), (1, 1)], &[]);
        let expected = Findings { missing: 1, twice: 1, altered: 0, out_of_order: 1 };
        assert_eq!(findings, expected);
    }

    #[test]
    fn altered_and_foreign_messages_are_told_apart() {
        let expected =
            Expected { run: RUN, readers: vec![vec![digest(&message(0, 0))]], rejected: HashSet::new() };
        let mut checker = Checker::new(&expected);
        checker.check(b"00000008 0:0 of another run");
        checker.check(b"another publisher");
        checker.check(b"00000007 0:0 altered");
        checker.check(&message(0, 1));
        assert_eq!(checker.finish(), Findings { altered: 2, ..Findings::default() });
    }
}
