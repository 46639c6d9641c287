//! Taking many messages in parts, so that others get at the head in between.

use bytes::Bytes;

use super::{Effects, Head, Readiness};
use crate::queue::limit::Limit;
use crate::queue::{Queue, ReadMode};

/// After this many messages, the head is unlocked for a moment.
///
/// A thread that waits for the lock spins for some microseconds before it sleeps. If the head stayed locked for much
/// longer than that, such a thread would miss most of the moments in which it is unlocked.
const PART_MESSAGES: usize = if cfg!(any(turbostream_loom, turbostream_shuttle)) { 2 } else { 256 };
/// After this many bytes, the head is unlocked for a moment.
const PART_BYTES: usize = 64 << 10;

/// Messages that one call takes, and how much it may take.
pub(crate) struct Many<'a> {
    messages: &'a mut Vec<Bytes>,
    limit: Limit,
    taken: usize,
    bytes: usize,
}

impl<'a> Many<'a> {
    /// Messages are added to `messages`.
    pub(crate) fn new(messages: &'a mut Vec<Bytes>, limit: Limit) -> Self {
        Self { messages, limit, taken: 0, bytes: 0 }
    }

    /// Returns how many messages were taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    fn add(&mut self, message: Bytes) {
        self.taken += 1;
        self.bytes += message.len();
        self.messages.push(message);
    }
}

impl Head {
    /// Takes one part of the messages that are there; returns how many it has taken.
    pub(crate) fn take_part(
        &mut self,
        queue: &Queue,
        mode: ReadMode,
        many: &mut Many<'_>,
        effects: &mut Effects,
    ) -> usize {
        let (taken, bytes) = (many.taken, many.bytes);
        let is_limited = many.limit.bytes < usize::MAX;
        while many.taken < many.limit.messages
            && many.taken - taken < PART_MESSAGES
            && many.bytes - bytes < PART_BYTES
        {
            let fast = if is_limited { None } else { self.take_fast(mode) };
            let message = match fast {
                Some(message) => message,
                None if self.poll_readable(queue, effects) == Readiness::Readable => {
                    if is_limited && many.taken > 0 && many.bytes + self.next_len() > many.limit.bytes {
                        break;
                    }
                    self.take(queue, mode, effects)
                }
                None => break,
            };
            many.add(message);
        }
        many.taken - taken
    }
}
