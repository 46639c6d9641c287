//! Tallies of sent and received messages.

use crate::message::{self, HEADER, Origin};

pub const SENDERS: usize = 4;

/// The messages of one sender. Two tallies are equal only if their messages are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct OfSender {
    messages: u64,
    /// The sum of their words: a lost or duplicated message changes it.
    words: u64,
}

/// Sent or received messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    of: [OfSender; SENDERS],
    /// The count of messages without a header, by length.
    short: [u64; HEADER],
    pub bytes: u64,
}

impl Tally {
    pub fn add(&mut self, bytes: &[u8]) {
        self.count(bytes.len(), (bytes.len() >= HEADER).then(|| message::origin(bytes)));
    }

    fn count(&mut self, len: usize, origin: Option<Origin>) {
        self.bytes += len as u64;
        match origin {
            Some(origin) => {
                let of = &mut self.of[origin.sender as usize % SENDERS];
                of.messages += 1;
                of.words = of.words.wrapping_add(origin.word);
            }
            None => self.short[len] += 1,
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.bytes += other.bytes;
        for (mine, theirs) in self.of.iter_mut().zip(&other.of) {
            mine.messages += theirs.messages;
            mine.words = mine.words.wrapping_add(theirs.words);
        }
        for (mine, theirs) in self.short.iter_mut().zip(&other.short) {
            *mine += theirs;
        }
    }

    pub fn messages(&self) -> u64 {
        self.of.iter().map(|of| of.messages).chain(self.short).sum()
    }
}

/// The messages of one receiver.
#[derive(Debug, Default)]
pub struct Received {
    pub tally: Tally,
    /// By sender, the lower bound of the next message's number.
    next: [u64; SENDERS],
    next_sequence: u64,
    pub torn: u64,
    pub reordered: u64,
}

impl Received {
    pub fn check(&mut self, bytes: &[u8]) {
        match message::read(bytes) {
            Ok(origin) => {
                self.tally.count(bytes.len(), origin);
                let Some(Origin { sender, number, .. }) = origin else { return };
                let next = &mut self.next[sender as usize % SENDERS];
                self.reordered += u64::from(number < *next);
                *next = number + 1;
            }
            Err(_) => self.torn += 1,
        }
    }

    pub fn check_batch(&mut self, batch: &turbostream::Batch) {
        self.reordered += u64::from(batch.first_sequence() < self.next_sequence);
        self.next_sequence = batch.first_sequence() + batch.len() as u64;
        batch.iter().for_each(|message| self.check(message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(numbers: impl IntoIterator<Item = u64>) -> (Tally, Received) {
        let (mut tally, mut received) = (Tally::default(), Received::default());
        for number in numbers {
            let mut bytes = vec![0; 100];
            message::write(1, number, &mut bytes);
            tally.add(&bytes);
            received.check(&bytes);
        }
        (tally, received)
    }

    #[test]
    fn tally_shows_lost_and_duplicated_and_reordered_messages() {
        let (all, received) = sent(0..100);
        assert_eq!((&received.tally, received.torn, received.reordered), (&all, 0, 0));
        let (lost, _) = sent((0..100).filter(|&number| number != 50));
        assert_ne!(lost, all);
        let (swapped, received) = sent((0..100).map(|number| if number == 50 { 49 } else { number }));
        assert_ne!(swapped, all, "equal counts, different messages");
        assert_eq!(received.reordered, 1);
    }
}
