//! Messages that a receiver has taken ahead: claimed from the head, and not handed out yet.
//!
//! A receiver locks the head, *claims* the next messages, and hands them out one by one without the lock.
//!
//! ```text
//!                claim (lock)                  take
//!   head.next ─────────────────▶ Ahead.range ────────▶ Bytes, or a borrowed slice
//!       ▲                            │
//!       └──── give back (lock) ──────┘
//! ```
//!
//! - Only inline messages are claimed, and never the last readable one. So the segment at the head is not retired, `caught_up`
//!   stays false, and no drainer's target is reached before they are handed out, as long as one handle holds them all.
//! - A lone receiver claims many messages, as no other one competes for them. While it holds some, they directly precede
//!   the position of the head: to give them back is to move that position.
//! - Of several receivers, each claims one message for each turn, or up to [`prefetch`](crate::Builder::prefetch) messages.
//!   Other receivers may pass them, so what is given back then lies in front of the head; see [`Returned`].
//! - A claim that is larger than one message counts as queued until it is handed out: [`Ahead::left`] is published at each
//!   hand-out by a store.
//!
//! An `Ahead` keeps its reference to the segment when all its messages are handed out, so that the next claim needs none. It
//! [releases](Ahead::release) that before the receiver sleeps or takes messages in another way.

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;

use super::chunk::{ChunkCache, TakenRange, is_lent_when_safe};
use super::copy_arena::CopyArena;
use super::position::Position;
use crate::queue::limit::Limit;
use crate::queue::pool::{ChannelRef, SegmentRef};
use crate::queue::segment::ReadRange;
use crate::queue::{Queue, ReadMode};
use crate::sync::{Arc, AtomicU64, CachePadded, Ordering};
use crate::telemetry::stats::Totals;

/// What lies ahead of one handle, as it is counted: messages in the upper 16 bits, bytes below.
#[derive(Default)]
pub(super) struct Left(CachePadded<AtomicU64>);

/// What the head knows of the last claim of one handle that was larger than one message.
pub(super) struct Claim {
    left: Arc<Left>,
    /// The position after its last message.
    end: Position,
}

impl Claim {
    /// Returns the sequence of its segment, and what was not handed out.
    pub(super) fn left(&self) -> (u64, Totals) {
        (self.end.sequence, self.left.load())
    }

    /// Whether all of its messages before `target` were handed out.
    pub(super) fn reaches(&self, target: Position) -> bool {
        let left = self.left.load().messages as usize;
        left == 0 || Position { messages: self.end.messages - left, ..self.end }.reaches(target)
    }
}

const LEFT_MESSAGE: u64 = 1 << 48;
/// The most messages of one claim.
pub(crate) const MAX_CLAIM: usize = if cfg!(any(turbostream_loom, turbostream_shuttle)) { 2 } else { 256 };

impl Left {
    /// Returns what is left, for a thread that has locked the head.
    pub(super) fn load(&self) -> Totals {
        // ORDERING: Acquire: pairs with the Release in `publish`; a message that counts as received was taken before.
        let left = self.0.load(Ordering::Acquire);
        Totals { messages: left / LEFT_MESSAGE, bytes: left % LEFT_MESSAGE }
    }
}

/// The messages that one handle has taken ahead.
#[derive(Default)]
pub(crate) struct Ahead {
    /// Its messages are committed and inline.
    range: Option<ReadRange<SegmentRef>>,
    chunks: ChunkCache,
    /// The segment before, from a claim until its end.
    replaced: Option<(ReadRange<SegmentRef>, ChunkCache)>,
    /// The pages of Safe mode, while the handle takes ahead.
    arena: CopyArena,
    /// The position of the first message of the segment, and the sequence of that message.
    first: (Position, u64),
    /// What the handle has not handed out, in the form of [`Left`]. 0 for a claim of one message, which is handed out at once.
    left: u64,
    /// `left`, where the head sees it. Made with the first claim of more than one message.
    published: Option<Arc<Left>>,
    /// Where the head keeps its [`Claim`].
    registered: Option<usize>,
    /// Whether the last message could be taken from the head at once, but not claimed: then the next one probably cannot be
    /// claimed either, as with a stream of external payloads.
    barred: bool,
    /// Whether other receivers may pass what this one has claimed, so that a drainer may wait for it alone.
    may_be_passed: bool,
}

impl Ahead {
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.range.as_ref().is_none_or(|range| range.readable() == 0)
    }

    /// Takes the next message; nothing if all were taken.
    #[inline(always)]
    pub(crate) fn take(&mut self, queue: &Queue, mode: ReadMode) -> Option<Bytes> {
        loop {
            let range = self.range.as_mut().filter(|range| range.readable() > 0)?;
            let (offset, len) = range.inline_next().expect("only inline messages are claimed");
            // The one place where a message of the fast path is made: two would meet in memory.
            if let Some(message) = self.chunks.message(mode, offset, len) {
                range.advance();
                note_taken(&mut self.left, self.published.as_deref(), len);
                return Some(message);
            }
            self.prepare(queue, mode, offset, len);
        }
    }

    /// Takes the next message, of which there is one, as a slice of the segment.
    ///
    /// Calls `end_drain` if a drainer may wait for it.
    #[inline(always)]
    pub(crate) fn take_ref(&mut self, end_drain: impl FnOnce()) -> &[u8] {
        let Self { range, left, published, .. } = self;
        let bytes = range.as_mut().expect("the caller has checked for a message").take_inline_ref();
        note_taken(left, published.as_deref(), bytes.len());
        if self.may_be_passed && *left == 0 {
            end_drain();
        }
        bytes
    }

    /// Makes a chunk that holds the next message.
    #[cold]
    #[inline(never)]
    fn prepare(&mut self, queue: &Queue, mode: ReadMode, offset: usize, len: usize) {
        let range = self.range.as_ref().expect("there is a next message");
        if mode == ReadMode::ZeroCopy || is_lent_when_safe(queue, range.segment(), len) {
            self.chunks.prepare_lent(range, offset, len);
        } else {
            self.chunks.prepare_copied(range, offset, len, &mut self.arena);
        }
    }

    /// Whether the handle takes messages from the head one by one.
    pub(crate) fn is_barred(&self) -> bool {
        self.barred
    }

    pub(crate) fn set_barred(&mut self, barred: bool) {
        self.barred = barred;
    }

    /// Whether a drainer may wait for the message that the handle has just taken.
    #[inline(always)]
    pub(crate) fn may_end_drain(&self) -> bool {
        self.may_be_passed && self.left == 0
    }

    /// Prepares for a claim of up to `limit` messages by [`Head::claim`](super::Head::claim), before the head is locked.
    pub(crate) fn begin_claim(&mut self, limit: usize, is_lone: bool) {
        debug_assert!(self.is_empty() && self.left == 0);
        if limit > 1 && self.published.is_none() {
            self.published = Some(Arc::default());
        }
        self.may_be_passed = limit > 1 && !is_lone;
    }

    /// Moves `messages` of `from`, the range of the head, to this one. They are inline, and `bytes` long.
    #[inline(always)]
    pub(super) fn fill(
        &mut self,
        from: &mut ReadRange<ChannelRef>,
        messages: usize,
        bytes: usize,
        first: (Position, u64),
    ) {
        if messages > 1 {
            self.left = messages as u64 * LEFT_MESSAGE + bytes as u64;
            publish(self.left, self.published.as_deref());
        }
        match &mut self.range {
            Some(range) if from.is_of_segment_of(range) => from.move_to(messages, range),
            _ => self.move_on(from, messages, first),
        }
    }

    /// [`fill`](Self::fill) from another segment than before.
    #[cold]
    #[inline(never)]
    fn move_on(&mut self, from: &mut ReadRange<ChannelRef>, messages: usize, first: (Position, u64)) {
        self.first = first;
        let range = self.range.replace(from.split_lent(messages));
        self.replaced = range.map(|range| (range, mem::take(&mut self.chunks)));
    }

    /// Releases the segment before, after the head was unlocked: that may pool it, and wake senders.
    #[inline(always)]
    pub(crate) fn end_claim(&mut self) {
        if self.replaced.is_some() {
            self.replaced = None;
        }
    }

    /// Whether the handle has claimed more than one message at once.
    pub(crate) fn has_claimed(&self) -> bool {
        self.published.is_some()
    }

    /// Notes the claim that was just made in `claims`, if it is larger than one message.
    pub(super) fn register(&mut self, claims: &mut Vec<Option<Claim>>) {
        let (Some(published), Some(range)) = (&self.published, &self.range) else { return };
        if self.left == 0 {
            return;
        }
        let end = Position { messages: range.end(), ..self.first.0 };
        match self.registered {
            Some(at) => claims[at].as_mut().expect("registered until the handle is dropped").end = end,
            None => {
                let at = claims.iter().position(Option::is_none).unwrap_or(claims.len());
                if at == claims.len() {
                    claims.push(None);
                }
                claims[at] = Some(Claim { left: Arc::clone(published), end });
                self.registered = Some(at);
            }
        }
    }

    /// Removes the claim of a handle that is dropped from `claims`.
    pub(super) fn deregister(&mut self, claims: &mut [Option<Claim>]) {
        if let Some(at) = self.registered.take() {
            claims[at] = None;
        }
    }

    /// Returns how many bytes the messages have that were not handed out.
    pub(super) fn left_bytes(&self) -> u64 {
        self.left % LEFT_MESSAGE
    }

    /// Moves what is left back to `head`, the range of the head, or out of the handle.
    pub(super) fn give_back(&mut self, head: Option<&mut ReadRange<ChannelRef>>) -> Option<Returned> {
        let range = self.range.as_mut()?;
        if range.remaining() == 0 {
            return None;
        }
        self.left = 0;
        publish(self.left, self.published.as_deref());
        if head.is_some_and(|head| head.move_back(range)) {
            return None;
        }
        let range = self.range.take()?;
        Some(Returned { range, chunks: mem::take(&mut self.chunks), first: self.first })
    }

    /// Releases the reference to the segment. All messages must have been taken or given back.
    ///
    /// That may pool the segment and wake senders, so the head must not be locked.
    pub(crate) fn release(&mut self) {
        if self.range.is_some() {
            drop(self.take_reference());
        }
    }

    /// Takes the reference to the segment, for a thread that [releases](Self::release) it after it has unlocked this.
    pub(crate) fn take_reference(&mut self) -> Option<Reference> {
        debug_assert!(self.is_empty());
        let range = self.range.take()?;
        Some(Reference { _range: range, _chunks: mem::take(&mut self.chunks) })
    }

    /// Takes the pages of Safe mode from the head, if this handle has none.
    pub(super) fn take_arena(&mut self, head: &mut CopyArena) {
        if !head.is_empty() && self.arena.is_empty() {
            mem::swap(&mut self.arena, head);
        }
    }

    /// Returns the pages of Safe mode to the head, if it has none.
    pub(super) fn return_arena(&mut self, head: &mut CopyArena) {
        if !self.arena.is_empty() && head.is_empty() {
            mem::swap(&mut self.arena, head);
        }
    }

    /// Frees the pages of Safe mode that were not returned, before the receiver sleeps.
    pub(crate) fn drop_arena(&mut self) {
        if !self.arena.is_empty() {
            self.arena = CopyArena::default();
        }
    }
}

/// Counts a message of `len` bytes as handed out.
#[inline(always)]
fn note_taken(left: &mut u64, published: Option<&Left>, len: usize) {
    if *left > 0 {
        *left -= LEFT_MESSAGE + len as u64;
        publish(*left, published);
    }
}

#[inline(always)]
fn publish(left: u64, published: Option<&Left>) {
    if let Some(published) = published {
        // ORDERING: Release: pairs with the Acquire in `Left::load`; what the handle did before precedes the new count.
        published.0.store(left, Ordering::Release);
    }
}

/// References to a segment, without messages.
pub(crate) struct Reference {
    _range: ReadRange<SegmentRef>,
    _chunks: ChunkCache,
}

/// Messages that were given back after others have passed them, in front of the head.
pub(super) struct Returned {
    range: ReadRange<SegmentRef>,
    chunks: ChunkCache,
    first: (Position, u64),
}

impl Returned {
    /// Returns the position of its first message.
    fn position(&self) -> Position {
        Position { messages: self.range.position(), ..self.first.0 }
    }

    /// Returns the sequence of its first message.
    fn sequence(&self) -> u64 {
        self.first.1.wrapping_add(self.range.position() as u64)
    }
}

/// All messages that were given back so, in order.
#[derive(Default)]
pub(super) struct ReturnedQueue {
    ranges: VecDeque<Returned>,
}

impl ReturnedQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Returns for each range the sequence of its segment, and what is left in it.
    pub(super) fn left(&self) -> impl Iterator<Item = (u64, Totals)> {
        self.ranges.iter().map(|Returned { range, first, .. }| {
            let messages = range.remaining();
            (first.0.sequence, Totals::of(messages, range.payload(messages).bytes))
        })
    }

    /// Whether all of its messages follow `target`.
    pub(super) fn reaches(&self, target: Position) -> bool {
        self.ranges.front().is_none_or(|first| first.position().reaches(target))
    }

    pub(super) fn add(&mut self, returned: Returned) {
        let sequence = returned.sequence();
        let at = self.ranges.partition_point(|other| (other.sequence().wrapping_sub(sequence) as i64) < 0);
        self.ranges.insert(at, returned);
    }

    /// Takes the first message; nothing if there is none. A range without further messages is added to `spent`.
    #[inline]
    pub(super) fn take(
        &mut self,
        queue: &Queue,
        mode: ReadMode,
        arena: &mut CopyArena,
        spent: &mut Vec<SpentRange>,
    ) -> Option<Bytes> {
        if self.is_empty() { None } else { self.take_first(queue, mode, arena, spent) }
    }

    #[cold]
    fn take_first(
        &mut self,
        queue: &Queue,
        mode: ReadMode,
        arena: &mut CopyArena,
        spent: &mut Vec<SpentRange>,
    ) -> Option<Bytes> {
        let Returned { range, chunks, .. } = self.ranges.front_mut()?;
        let (offset, len) = range.inline_next().expect("only inline messages are claimed");
        let message = if mode == ReadMode::ZeroCopy || is_lent_when_safe(queue, range.segment(), len) {
            chunks.lend(range, offset, len)
        } else {
            chunks.copy(range, offset, len, arena)
        };
        range.advance();
        self.remove_if_spent(spent);
        Some(message)
    }

    /// Takes messages within `limit` as they lie in the segment; nothing if there are none.
    pub(super) fn take_range(&mut self, limit: Limit, spent: &mut Vec<SpentRange>) -> Option<TakenRange> {
        let first = self.ranges.front_mut()?;
        let first_sequence = first.sequence();
        let range = first.range.split(first.range.whole_messages(limit));
        let messages = range.remaining();
        let payload_bytes = range.payload(messages).bytes;
        self.remove_if_spent(spent);
        Some(TakenRange { range, first_sequence, payload_bytes })
    }

    /// Takes the first message to drop it; returns its position and length, or nothing if there is none.
    pub(super) fn discard_one(&mut self, spent: &mut Vec<SpentRange>) -> Option<(Position, usize)> {
        let returned = self.ranges.front_mut()?;
        let position = returned.position();
        let range = &mut returned.range;
        let (_, len) = range.inline_next().expect("only inline messages are claimed");
        range.advance();
        self.remove_if_spent(spent);
        Some((position, len))
    }

    /// Returns the length of the first message.
    pub(super) fn next_len(&self) -> Option<usize> {
        self.ranges.front().and_then(|first| first.range.inline_next()).map(|(_, len)| len)
    }

    /// Moves the first range to `spent` if it has no message left.
    fn remove_if_spent(&mut self, spent: &mut Vec<SpentRange>) {
        if self.ranges.front().is_some_and(|first| first.range.remaining() == 0) {
            spent.extend(self.ranges.pop_front().map(|first| SpentRange { _returned: first }));
        }
    }
}

/// A range without messages. Dropping it may pool its segment and wake senders, so that waits until the head is unlocked.
pub(crate) struct SpentRange {
    _returned: Returned,
}
