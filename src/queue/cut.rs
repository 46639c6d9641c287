//! How much of the active segment receivers have cut.
//!
//! ```text
//!  63..48     47..28     27..0
//! ┌──────────┬──────────┬─────────┐
//! │ sequence │ messages │  bytes  │   sequence of the segment (low 16 bits), and what precedes the cut
//! └──────────┴──────────┴─────────┘
//! ```
//!
//! A receiver cuts by setting WAITER in the ring slot, and does not write this word. The sender of the first message
//! after the cut writes it: its reservation cleared WAITER, so it knows that everything before its own message was
//! cut. The sender of a segment's first message writes it too, with nothing before the cut. If the word holds another
//! sequence, the segment has no cut.

use super::segment::slot_state::{MAX_BYTES, MAX_MESSAGES};
use crate::sync::{AtomicU64, Ordering};

const SEQUENCE_SHIFT: u32 = 48;
const MESSAGES_SHIFT: u32 = 28;
const MESSAGES_MASK: u64 = (1 << (SEQUENCE_SHIFT - MESSAGES_SHIFT)) - 1;
const BYTES_MASK: u64 = (1 << MESSAGES_SHIFT) - 1;

// Index and offset of a message fit their fields.
const _: () = assert!(MAX_MESSAGES as u64 <= MESSAGES_MASK && MAX_BYTES as u64 <= BYTES_MASK);

/// What precedes a cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) messages: usize,
    /// Reserved bytes.
    pub(crate) bytes: usize,
    /// Payload bytes minus reserved bytes, modulo 2⁶⁴; a statistic.
    pub(crate) payload_delta: u64,
}

/// The last cut.
#[derive(Default)]
pub(crate) struct LastCut {
    packed: AtomicU64,
    payload_delta: AtomicU64,
}

impl LastCut {
    /// Records the payload delta immediately before the cut.
    ///
    /// External payloads after the cut are then not counted as before it.
    pub(crate) fn prepare(&self, payload_delta: u64) {
        // ORDERING: Relaxed: the Release in `AtomicSlotState::cut`, which follows, pairs with the Acquire in `reserve`;
        // makes this value visible to the sender of the next message.
        self.payload_delta.store(payload_delta, Ordering::Relaxed);
    }

    /// Records that everything before the message with this index and offset was cut.
    pub(crate) fn put(&self, sequence: u64, (index, offset): (usize, usize)) {
        let packed = sequence << SEQUENCE_SHIFT | (index as u64) << MESSAGES_SHIFT | offset as u64;
        // ORDERING: Relaxed: only decides when a strategy switches. A later sender that does not see this word yet
        // counts messages before the cut too, and may switch early.
        self.packed.store(packed, Ordering::Relaxed);
    }

    /// Returns the cut in the segment at `sequence`.
    pub(crate) fn get(&self, sequence: u64) -> Cut {
        // ORDERING: Relaxed, both loads: only decides when a strategy switches; see `put`.
        let packed = self.packed.load(Ordering::Relaxed);
        let messages = (packed >> MESSAGES_SHIFT & MESSAGES_MASK) as usize;
        if messages == 0 || packed >> SEQUENCE_SHIFT != sequence << SEQUENCE_SHIFT >> SEQUENCE_SHIFT {
            return Cut::default();
        }
        let payload_delta = self.payload_delta.load(Ordering::Relaxed);
        Cut { messages, bytes: (packed & BYTES_MASK) as usize, payload_delta }
    }
}

#[cfg(all(test, not(turbostream_loom)))]
mod tests {
    use super::*;

    #[test]
    fn cut_belongs_to_its_segment_alone() {
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
