//! The proof: what producers know to be confirmed, against what is in the stream and what consumers got.

use std::collections::HashMap;
use std::fmt;

use crate::message::Mark;

/// Messages of one process of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// The number of its first message.
    pub(crate) from: u64,
    /// The number after the last one that the producer knows to be confirmed.
    pub(crate) confirmed: u64,
}

/// Counts where messages were seen.
#[derive(Default)]
pub(crate) struct Seen {
    /// By producer, life and number: how often.
    counts: HashMap<(usize, usize, u64), u32>,
    /// By producer and life: the number after the highest one.
    next: HashMap<(usize, usize), u64>,
    /// Seen for the first time after a later message of the same producer and life.
    out_of_order: u64,
}

impl Seen {
    pub(crate) fn add(&mut self, mark: Mark) {
        let count = self.counts.entry((mark.producer, mark.life, mark.number)).or_default();
        *count += 1;
        if *count > 1 {
            return;
        }
        let next = self.next.entry((mark.producer, mark.life)).or_default();
        self.out_of_order += u64::from(mark.number < *next);
        *next = (*next).max(mark.number + 1);
    }

    /// Returns how many different messages were seen.
    pub(crate) fn messages(&self) -> u64 {
        self.counts.len() as u64
    }

    /// Returns how often a message was seen.
    fn count(&self, producer: usize, life: usize, number: u64) -> u32 {
        self.counts.get(&(producer, life, number)).copied().unwrap_or(0)
    }
}

/// What was found. All but `unconfirmed` must be 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Messages confirmed.
    pub(crate) confirmed: u64,
    /// Confirmed, and not in the stream.
    pub(crate) missing: u64,
    /// Confirmed, and in the stream more than once.
    pub(crate) twice: u64,
    /// In the stream after a later message of the same process.
    pub(crate) out_of_order: u64,
    /// Confirmed, and given to no consumer.
    pub(crate) not_consumed: u64,
    /// Numbers that no process of their producer has confirmed.
    pub(crate) never_confirmed: u64,
    /// In the stream, although the process was killed before it knew. The next process has sent them again.
    pub(crate) unconfirmed: u64,
}

impl Findings {
    /// Returns whether everything is proved.
    pub(crate) fn is_proof(&self) -> bool {
        let Self { missing, twice, out_of_order, not_consumed, never_confirmed, .. } = *self;
        [missing, twice, out_of_order, not_consumed, never_confirmed] == [0; 5]
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { confirmed, missing, twice, out_of_order, not_consumed, never_confirmed, .. } = self;
        write!(
            f,
            "of {confirmed} confirmed messages: {missing} missing, {twice} twice, {not_consumed} not consumed; "
        )?;
        write!(f, "{out_of_order} out of order, {never_confirmed} never confirmed")
    }
}

/// Compares. `producers` has the lives of each producer; each of them sends the numbers below `messages`.
pub(crate) fn check(producers: &[Vec<Life>], messages: u64, stream: &Seen, consumed: &Seen) -> Findings {
    let mut findings = Findings { out_of_order: stream.out_of_order, ..Findings::default() };
    for (producer, lives) in producers.iter().enumerate() {
        let mut done = 0;
        for (number_of_life, life) in lives.iter().enumerate() {
            findings.never_confirmed += life.from.saturating_sub(done);
            done = life.confirmed;
            for number in life.from..life.confirmed {
                let count = stream.count(producer, number_of_life, number);
                findings.confirmed += 1;
                findings.missing += u64::from(count == 0);
                findings.twice += u64::from(count > 1);
                findings.not_consumed += u64::from(consumed.count(producer, number_of_life, number) == 0);
            }
        }
        findings.never_confirmed += messages.saturating_sub(done);
    }
    let is_unconfirmed = |&&(producer, life, number): &&(usize, usize, u64)| {
        producers.get(producer).and_then(|lives| lives.get(life)).is_none_or(|life| number >= life.confirmed)
    };
    findings.unconfirmed = stream.counts.keys().filter(is_unconfirmed).count() as u64;
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(marks: &[(usize, u64)]) -> Seen {
        let mut seen = Seen::default();
        for &(life, number) in marks {
            seen.add(Mark { producer: 0, life, number });
        }
        seen
    }

    /// The first process was killed when it knew of two messages; the second one has sent two more.
    const LIVES: [Life; 2] = [Life { from: 0, confirmed: 2 }, Life { from: 2, confirmed: 4 }];

    #[test]
    fn a_complete_stream_is_a_proof() {
        let marks = [(0, 0), (0, 1), (0, 2), (1, 2), (1, 3)];
        let findings = check(&[LIVES.to_vec()], 4, &seen(&marks), &seen(&marks));
        assert_eq!(findings, Findings { confirmed: 4, unconfirmed: 1, ..Findings::default() });
        assert!(findings.is_proof());
    }

    #[test]
    fn each_fault_is_found() {
        let complete = [(0, 0), (0, 1), (1, 2), (1, 3)];
        let find = |stream: &[(usize, u64)], consumed: &[(usize, u64)], messages| {
            let findings = check(&[LIVES.to_vec()], messages, &seen(stream), &seen(consumed));
            assert!(!findings.is_proof());
            findings
        };
        assert_eq!(find(&complete[1..], &complete, 4).missing, 1);
        assert_eq!(find(&[(0, 0), (0, 1), (1, 2), (1, 3), (1, 2)], &complete, 4).twice, 1);
        assert_eq!(find(&[(0, 1), (0, 0), (1, 2), (1, 3)], &complete, 4).out_of_order, 1);
        assert_eq!(find(&complete, &complete[..3], 4).not_consumed, 1);
        assert_eq!(find(&complete, &complete, 5).never_confirmed, 1);
    }
}
