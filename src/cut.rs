//! How much of the active segment a receiver has cut off.
//!
//! ```text
//!  63..48     47..28     27..0
//! ┌──────────┬──────────┬─────────┐
//! │ sequence │ messages │  bytes  │   of the segment that was cut (low 16 bits), and what lies before the cut
//! └──────────┴──────────┴─────────┘
//! ```
//!
//! Only the receiver whose turn it is writes the word, and it takes the cut back when it leaves the segment behind: a
//! word that bears another segment's sequence says that there is no cut.

use crate::segment::state::State;
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
    pub(crate) extra_bytes: u64,
}

impl Cut {
    /// Everything that `state` says is there.
    pub(crate) fn behind(state: State, extra_bytes: u64) -> Self {
        Self { messages: state.messages(), bytes: state.bytes(), extra_bytes }
    }
}

/// The last cut.
#[derive(Default)]
pub(crate) struct LastCut {
    word: AtomicU64,
    extra_bytes: AtomicU64,
}

impl LastCut {
    pub(crate) fn put(&self, sequence: u64, cut: Cut) {
        // ORDERING: Relaxed: it decides whether and when a strategy switches; a look that misses the newest cut
        // switches a segment that is empty, or asks the strategy once more.
        self.extra_bytes.store(cut.extra_bytes, Ordering::Relaxed);
        let word = sequence << SEQUENCE_SHIFT | (cut.messages as u64) << MESSAGES_SHIFT | cut.bytes as u64;
        self.word.store(word, Ordering::Relaxed);
    }

    /// The cut in the segment at `sequence`.
    pub(crate) fn get(&self, sequence: u64) -> Cut {
        // ORDERING: Relaxed, as above.
        let word = self.word.load(Ordering::Relaxed);
        if word >> SEQUENCE_SHIFT != sequence << SEQUENCE_SHIFT >> SEQUENCE_SHIFT {
            return Cut::default();
        }
        Cut {
            messages: (word >> MESSAGES_SHIFT & MESSAGES_MASK) as usize,
            bytes: (word & BYTES_MASK) as usize,
            extra_bytes: self.extra_bytes.load(Ordering::Relaxed),
        }
    }
}

#[cfg(all(test, not(turbostream_loom)))]
mod tests {
    use super::*;
    use crate::segment::state::{MAX_BYTES, MAX_MESSAGES};

    #[test]
    fn a_cut_is_one_of_its_segment_alone() {
        let last = LastCut::default();
        let cut = Cut { messages: MAX_MESSAGES, bytes: MAX_BYTES, extra_bytes: u64::MAX };
        for sequence in [0, 7, u64::MAX] {
            last.put(sequence, cut);
            assert_eq!(last.get(sequence), cut);
            assert_eq!(last.get(sequence.wrapping_add(1)), Cut::default());
            last.put(sequence, Cut::default());
            assert_eq!(last.get(sequence), Cut::default());
        }
    }
}
