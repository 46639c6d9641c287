//! The model: a list of records, and the position of the reader in it.

use std::collections::VecDeque;

/// The bytes that are written and not read yet.
#[derive(Debug, Default)]
pub(crate) struct Records {
    /// Messages in the channel.
    queue: VecDeque<Vec<u8>>,
    /// The unread bytes of the message that the reader holds.
    held: VecDeque<u8>,
    /// The partial record in the writer's buffer.
    pub(crate) unfinished: Vec<u8>,
    /// The bytes up to the next delimiter belong to a record that was given up.
    pub(crate) discarding: bool,
    pub(crate) accepted: u64,
    pub(crate) sent_bytes: u64,
    /// The number of queued messages that are certainly readable.
    certain: usize,
}

impl Records {
    pub(crate) fn push(&mut self, message: Vec<u8>) {
        self.accepted += 1;
        self.sent_bytes += message.len() as u64;
        self.queue.push_back(message);
    }

    /// Records that a writer took `bytes`.
    pub(crate) fn write(&mut self, bytes: &[u8], delimiter: Option<u8>) {
        match delimiter {
            _ if bytes.is_empty() => {}
            None => self.push(bytes.to_vec()),
            Some(delimiter) => {
                for part in bytes.split_inclusive(|&byte| byte == delimiter) {
                    if self.discarding {
                        self.discarding = !part.ends_with(&[delimiter]);
                        continue;
                    }
                    self.unfinished.extend_from_slice(part);
                    if part.ends_with(&[delimiter]) {
                        let record = std::mem::take(&mut self.unfinished);
                        self.push(record);
                    }
                }
            }
        }
    }

    pub(crate) fn switched(&mut self) {
        self.certain = self.queue.len();
    }

    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.held.is_empty()
    }

    /// Returns whether a reader must find bytes. An empty message has none.
    pub(crate) fn must_have_bytes(&self, on_demand: bool) -> bool {
        let readable = if on_demand { self.queue.len() } else { self.certain };
        !self.held.is_empty() || self.queue.iter().take(readable).any(|message| !message.is_empty())
    }

    pub(crate) fn must_have_message(&self, on_demand: bool) -> bool {
        if on_demand { !self.queue.is_empty() } else { self.certain > 0 }
    }

    /// Moves all but the last `queued` messages, which are still in the channel, to the reader.
    pub(crate) fn take_all_but(&mut self, queued: usize) {
        while self.queue.len() > queued {
            let message = self.take().expect("not empty");
            self.held.extend(message);
        }
    }

    /// Checks that the reader holds exactly the unread bytes of its message.
    pub(crate) fn check_held(&self, held: &[u8]) {
        assert!(self.held.iter().eq(held), "the reader holds other bytes: {} bytes", held.len());
    }

    /// Records that the next bytes were read.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        assert!(self.held.iter().take(bytes.len()).eq(bytes), "not the next bytes");
        self.held.drain(..bytes.len());
    }

    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        self.certain = self.certain.saturating_sub(1);
        self.queue.pop_front()
    }

    pub(crate) fn drop_held(&mut self) {
        self.held.clear();
    }
}
