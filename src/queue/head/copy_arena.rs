//! The pages to which Safe mode copies small messages. Several messages share a page.
//!
//! A page is used again once all of its messages are dropped.

use std::collections::VecDeque;
use std::mem;

use bytes::{Bytes, BytesMut};

/// The size of a page: what a small message that is kept pins at most.
const PAGE_BYTES: usize = 4 << 10;
/// Messages shorter than this are copied to a page.
pub(crate) const SMALL_BELOW: usize = 1 << 10;
/// The most full pages that are kept for reuse.
const FULL_PAGES: usize = 16;

#[derive(Default)]
pub(crate) struct CopyArena {
    page: BytesMut,
    /// Full pages, the oldest first.
    full: VecDeque<BytesMut>,
}

impl CopyArena {
    /// Makes room for `len` bytes, fewer than [`SMALL_BELOW`], on the current page; returns its whole room.
    pub(crate) fn make_room(&mut self, len: usize) -> usize {
        if len > self.page.capacity() {
            self.next_page();
        }
        self.page.capacity()
    }

    /// Copies `bytes` to the current page, which has room for them.
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Bytes {
        self.page.extend_from_slice(bytes);
        self.page.split().freeze()
    }

    /// Moves on to a page whose messages are all dropped, or to a new one.
    #[cold]
    fn next_page(&mut self) {
        if self.page.try_reclaim(PAGE_BYTES) {
            return;
        }
        let free = self.full.front_mut().is_some_and(|oldest| oldest.try_reclaim(PAGE_BYTES));
        let next = if free { self.full.pop_front() } else { None };
        let full = mem::replace(&mut self.page, next.unwrap_or_else(|| BytesMut::with_capacity(PAGE_BYTES)));
        self.full.push_back(full);
        if self.full.len() > FULL_PAGES {
            self.full.pop_front();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.page.capacity() == 0 && self.full.is_empty()
    }
}

#[cfg(all(test, not(turbostream_loom)))]
mod tests {
    use super::*;

    #[test]
    fn pages_are_reused_but_not_while_a_message_is_kept() {
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
        assert!(arena.full.len() <= FULL_PAGES);
    }

    #[test]
    fn lengths_at_the_limits_are_copied_completely() {
        let mut arena = CopyArena::default();
        for len in [0, 1, SMALL_BELOW - 1, 0, PAGE_BYTES] {
            let room = arena.make_room(len.min(SMALL_BELOW));
            let bytes = vec![len as u8; len.min(room)];
            assert_eq!(arena.copy(&bytes), bytes);
        }
    }
}
