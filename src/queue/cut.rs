//! How much of the active segment a receiver has cut off.
//!
//! ```text
//!  63..48     47..28     27..0
//! ┌──────────┬──────────┬─────────┐
//! │ sequence │ messages │  bytes  │   of the segment that was cut (low 16 bits), and what lies before the cut
//! └──────────┴──────────┴─────────┘
//! ```
//!
//! The writer of the first message behind a cut writes the word: it took *awaits* off, so that it knows that all
//! before its own message was cut off. So does the writer of a segment's first message, behind nothing. A word that
//! bears another segment's sequence says that there is no cut.

use crate::sync::{AtomicU64, Ordering};

const SEQUENCE_SHIFT: u32 = 48;
const MESSAGES_SHIFT: u32 = 28;
const MESSAGES_MASK: u64 = (1 << (SEQUENCE_SHIFT - MESSAGES_SHIFT)) - 1;
const BYTES_MASK: u64 = (1 << MESSAGES_SHIFT) - 1;

/// What lies before a cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) messages: usize,
    /// Reserved bytes.
    pub(crate) bytes: usize,
    /// What payload bytes differ from the reserved ones by; a figure.
    pub(crate) payload_delta: u64,
}

/// The last cut.
#[derive(Default)]
pub(crate) struct LastCut {
    word: AtomicU64,
    payload_delta: AtomicU64,
}

impl LastCut {
    /// Right before the cut: what is external behind it must not be counted as before it.
    pub(crate) fn prepare(&self, payload_delta: u64) {
        // ORDERING: Relaxed: the cut itself releases it to the writer of the next message.
        self.payload_delta.store(payload_delta, Ordering::Relaxed);
    }

    /// All before the message with this index and offset was cut off.
    pub(crate) fn put(&self, sequence: u64, (index, offset): (usize, usize)) {
        let word = sequence << SEQUENCE_SHIFT | (index as u64) << MESSAGES_SHIFT | offset as u64;
        // ORDERING: Relaxed: it decides when a strategy switches. A writer behind this one that does not see it yet
        // counts more than there is, and may switch early.
        self.word.store(word, Ordering::Relaxed);
    }

    /// The cut in the segment at `sequence`.
    pub(crate) fn get(&self, sequence: u64) -> Cut {
        // ORDERING: Relaxed, as above.
        let word = self.word.load(Ordering::Relaxed);
        let messages = (word >> MESSAGES_SHIFT & MESSAGES_MASK) as usize;
        if messages == 0 || word >> SEQUENCE_SHIFT != sequence << SEQUENCE_SHIFT >> SEQUENCE_SHIFT {
            return Cut::default();
        }
        let payload_delta = self.payload_delta.load(Ordering::Relaxed);
        Cut { messages, bytes: (word & BYTES_MASK) as usize, payload_delta }
    }
}

#[cfg(all(test, not(turbostream_loom)))]
mod tests {
    use super::*;
    use crate::queue::segment::slot_state::{MAX_BYTES, MAX_MESSAGES};

    #[test]
    fn a_cut_is_one_of_its_segment_alone() {
        let last = LastCut::default();
        last.prepare(u64::MAX);
        let cut = Cut { messages: MAX_MESSAGES, bytes: MAX_BYTES, payload_delta: u64::MAX };
        for sequence in [0, 7, u64::MAX] {
            last.put(sequence, (cut.messages, cut.bytes));
            assert_eq!(last.get(sequence), cut);
            assert_eq!(last.get(sequence.wrapping_add(1)), Cut::default());
            last.put(sequence, (0, 0));
            assert_eq!(last.get(sequence), Cut::default());
        }
    }
}
