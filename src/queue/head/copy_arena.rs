//! Where small messages are copied to in Safe mode: pages that messages share, each a buffer of its own.

use std::collections::VecDeque;
use std::mem;

use bytes::{Bytes, BytesMut};

/// What a kept copy of a small message pins at most.
const PAGE_BYTES: usize = 4 << 10;
/// From this length on a message gets no room on a page.
pub(crate) const SMALL_BELOW: usize = 1 << 10;
/// So many full pages are kept, to be used again once their messages are dropped.
const SPENT_PAGES: usize = 16;

#[derive(Default)]
pub(crate) struct CopyArena {
    page: BytesMut,
    /// Full pages, the oldest first.
    spent: VecDeque<BytesMut>,
}

impl CopyArena {
    /// Sees to it that the current page has room for `len` bytes, less than [`SMALL_BELOW`]; returns how much it has.
    pub(crate) fn make_room(&mut self, len: usize) -> usize {
        if len > self.page.capacity() {
            self.next_page();
        }
        self.page.capacity()
    }

    /// Copies bytes that there is room for.
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Bytes {
        self.page.extend_from_slice(bytes);
        self.page.split().freeze()
    }

    /// Takes a page whose messages are all dropped, or a new one.
    #[cold]
    fn next_page(&mut self) {
        if self.page.try_reclaim(PAGE_BYTES) {
            return;
        }
        let free = self.spent.front_mut().is_some_and(|oldest| oldest.try_reclaim(PAGE_BYTES));
        let next = if free { self.spent.pop_front() } else { None };
        let full = mem::replace(&mut self.page, next.unwrap_or_else(|| BytesMut::with_capacity(PAGE_BYTES)));
        self.spent.push_back(full);
        if self.spent.len() > SPENT_PAGES {
            self.spent.pop_front();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.page.capacity() == 0 && self.spent.is_empty()
    }
}

#[cfg(all(test, not(turbostream_loom)))]
mod tests {
    use super::*;

    #[test]
    fn pages_are_used_again_and_never_while_a_message_is_kept() {
        let mut arena = CopyArena::default();
        let mut kept = Vec::new();
        for round in 0..10_000_u32 {
            let bytes = round.to_le_bytes().repeat(25);
            assert!(arena.make_room(bytes.len()) <= PAGE_BYTES);
            let message = arena.copy(&bytes);
            if round % 1000 == 0 {
                kept.push((round, message));
            }
        }
        for (round, message) in kept {
            assert_eq!(message, round.to_le_bytes().repeat(25));
        }
        assert!(arena.spent.len() <= SPENT_PAGES);
    }

    #[test]
    fn lengths_at_the_edges_are_copied_whole() {
        let mut arena = CopyArena::default();
        for len in [0, 1, SMALL_BELOW - 1, 0, PAGE_BYTES] {
            let room = arena.make_room(len.min(SMALL_BELOW));
            let bytes = vec![len as u8; len.min(room)];
            assert_eq!(arena.copy(&bytes), bytes);
        }
    }
}
