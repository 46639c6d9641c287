//! One segment: memory for many messages, and the unsafe code that accesses it.
//!
//! A segment has an index of packed entries, one per message, and payload bytes. A message passes through four steps:
//!
//! 1. A sender reserves an [`EntrySlot`] in the ring slot's word. From then on it alone accesses the entry's bytes.
//! 2. It writes the payload bytes there, or a `Bytes`: an external payload.
//! 3. It commits: one store to the entry publishes the message.
//! 4. A receiver that has the message in its [`ReadRange`] reads it once it has seen the entry committed.
//!
//! ```text
//!     63     62..61   60..28   27..0
//! ┌────────┬────────┬────────┬────────┐
//! │IN_PLACE│  kind  │  len   │ offset │   len: the bytes of the message, also if they lie elsewhere
//! └────────┴────────┴────────┴────────┘
//!
//!          commit (the sender)
//!   EMPTY ──────────────────────────▶ INLINE, EXTERNAL or ABANDONED
//!    │ ▲
//!    └─┘ a closure begins (the sender): IN_PLACE
//! ```
//!
//! Only the sender writes its entry, by plain stores.
//!
//! | kind | entry | sender | receiver |
//! |---|---|---|---|
//! | EMPTY | unused, or reserved and not committed | writes and commits | checks it repeatedly for a moment, then stores its index in `awaited`, requests the stall watcher, and sleeps. If it must not sleep, it waits for a copy |
//! | EMPTY, IN_PLACE | a closure writes the message | loads `awaited`, commits, and wakes receivers if that named its entry | as before. If it must not sleep, it does not wait |
//! | INLINE | the message's bytes lie in the segment | done | reads or lends them |
//! | EXTERNAL | a `Bytes` lies in the segment | done | moves it out |
//! | ABANDONED | padding | done | skips it |
//!
//! The sender of a closure misses a receiver that stores `awaited` between the sender's load and its commit. The stall watcher
//! ends the wait of that receiver, as of each that waits for a copy.
//!
//! A thread that exchanges the reference count 0 for `EXCLUSIVE` owns the memory of the segment. It allocates, clears or
//! frees the memory through [`Exclusive`].

mod read_range;
pub(crate) mod reference;
pub(crate) mod slot_state;

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::mem::{align_of, size_of};
use std::panic::RefUnwindSafe;
use std::ptr::NonNull;

use bytes::Bytes;

pub(crate) use self::read_range::{Content, ReadRange};

use self::reference::CHANNEL_REFERENCES;
use self::slot_state::{Capacity, EntryRange, EntrySlot, MAX_BYTES, MAX_MESSAGES, MIN_BYTES};
use crate::sync::{
    AccessLog, AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, UnsafeCell, zeroed_words,
};

/// The bytes that an external payload takes in a segment: a `Bytes`, at any alignment of its start.
pub(crate) const EXTERNAL_BYTES: usize = size_of::<Bytes>() + align_of::<Bytes>() - 1;

const OFFSET_BITS: u32 = 28;
const LEN_BITS: u32 = 33;
const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;
const LEN_MASK: u64 = (1 << LEN_BITS) - 1;
const KIND_SHIFT: u32 = OFFSET_BITS + LEN_BITS;
/// The most bytes that a message can have.
pub(crate) const MAX_MESSAGE_BYTES: u64 = LEN_MASK;
const EMPTY: u64 = 0;
const INLINE: u64 = 1 << KIND_SHIFT;
const EXTERNAL: u64 = 2 << KIND_SHIFT;
const ABANDONED: u64 = 3 << KIND_SHIFT;
const KIND_MASK: u64 = 3 << KIND_SHIFT;
/// A closure of the user writes the message: it may take any time.
const IN_PLACE: u64 = 4 << KIND_SHIFT;

/// The alignment of a segment's payload bytes: a cache line.
const PAYLOAD_ALIGN: usize = 64;

// What the unsafe code takes for granted.
const _: () = {
    // A `Bytes` fits the smallest segment, at any start.
    assert!(EXTERNAL_BYTES <= MIN_BYTES);
    assert!(align_of::<Bytes>() <= PAYLOAD_ALIGN);
    // A `Bytes` has no padding bytes, so that a lent slice around it is initialized: it is four words.
    assert!(size_of::<Bytes>() == 4 * size_of::<usize>());
    // Every offset and length fits its field of an entry, and their sum is no overflow.
    assert!(MAX_BYTES as u64 <= OFFSET_MASK && MAX_BYTES <= usize::MAX / 2);
    // Both counts of entries fit 32 bits.
    assert!(MAX_MESSAGES <= u32::MAX as usize);
};

/// The value of `references` while one thread has the segment to itself: it is neither active, sealed nor lent.
const EXCLUSIVE: usize = usize::MAX;

/// A value of an entry's word, as it was at one instant.
#[derive(Clone, Copy)]
struct Entry(u64);

impl Entry {
    #[inline]
    fn new(kind: u64, offset: usize, len: usize) -> Self {
        Self(kind | (len as u64) << OFFSET_BITS | offset as u64)
    }
    #[inline]
    fn kind(self) -> u64 {
        self.0 & KIND_MASK
    }
    #[inline]
    fn is_committed(self) -> bool {
        self.kind() != EMPTY
    }
    fn is_in_place(self) -> bool {
        self.0 & IN_PLACE != 0
    }
    #[inline]
    fn offset(self) -> usize {
        (self.0 & OFFSET_MASK) as usize
    }
    #[inline]
    fn len(self) -> usize {
        ((self.0 >> OFFSET_BITS) & LEN_MASK) as usize
    }
    /// Returns how many bytes lie in the segment.
    #[inline]
    fn stored_len(self) -> usize {
        if self.kind() == EXTERNAL { size_of::<Bytes>() } else { self.len() }
    }
    /// Returns by how much an external payload is longer than its reservation, modulo 2⁶⁴; 0 for other messages.
    #[inline]
    fn excess(self) -> u64 {
        if self.kind() == EXTERNAL { (self.len() as u64).wrapping_sub(EXTERNAL_BYTES as u64) } else { 0 }
    }
}

/// The memory of a segment.
struct Block {
    index: Box<[AtomicU64]>,
    payload: NonNull<u8>,
    payload_bytes: usize,
    log: AccessLog,
}

impl Block {
    fn new(capacity: Capacity) -> Self {
        let layout = Self::layout(capacity.bytes);
        // SAFETY: the builder refuses a capacity of zero bytes, so the layout is not empty.
        let payload = NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout));
        Self {
            index: zeroed_words(capacity.messages),
            payload,
            payload_bytes: capacity.bytes,
            log: AccessLog::for_messages(capacity.messages),
        }
    }

    fn layout(payload_bytes: usize) -> Layout {
        Layout::from_size_align(payload_bytes, PAYLOAD_ALIGN).expect("a segment fits the address space")
    }

    /// Returns the address of `len` payload bytes at `offset`.
    #[inline]
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset + len <= self.payload_bytes, "payload outside of its segment");
        // SAFETY: the assertion has checked that the offset lies inside the allocation.
        unsafe { self.payload.as_ptr().add(offset) }
    }

    /// Copies `payload` into the reserved bytes; returns the word that commits the entry.
    #[inline(always)]
    fn copy_in(&self, entry: &EntrySlot, payload: &[u8]) -> Entry {
        assert_eq!(payload.len(), entry.len());
        let to = self.at(entry.offset(), entry.len());
        self.log.writing(entry.index(), || {
            // SAFETY: `to` is valid for `entry.len()` bytes (checked by `at`). They are reserved for the one owner of
            // `entry` until the commit. `payload` does not overlap them: no reference to this entry's bytes exists yet.
            unsafe { to.copy_from_nonoverlapping(payload.as_ptr(), payload.len()) }
        });
        Entry::new(INLINE, entry.offset(), entry.len())
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this same layout, and owned by this block alone.
        unsafe { dealloc(self.payload.as_ptr(), Self::layout(self.payload_bytes)) }
    }
}

/// A segment: a header that lives as long as its pool, and memory that is allocated and freed.
pub(crate) struct Segment {
    /// Written only through [`Exclusive`]; read by holders of an entry slot, a read range or a reference.
    block: UnsafeCell<Option<Block>>,
    /// Those of the channel while the segment is active or sealed, and one per lent chunk and per batch.
    references: AtomicUsize,
    /// Reserved bytes that shortened and abandoned messages do not have. Counted by senders before their commit, read for
    /// statistics.
    unused_bytes: AtomicU64,
    /// Whether the segment has external or shortened messages. Set by senders before their commit, read by receivers.
    has_gaps: AtomicBool,
    /// The number of abandoned messages. Counted by senders before their commit, read by receivers and for statistics.
    abandoned: AtomicU32,
    /// The index after the entry that a thread waited for last. Stored under the lock of the head, read by senders whose
    /// closure has written a message.
    awaited: AtomicU32,
    /// How many of the first entries are known to be committed. Accessed under the lock of the head.
    known_committed: AtomicU32,
    /// By how much the external payloads among these are longer than their reservations, modulo 2⁶⁴.
    known_excess: AtomicU64,
    /// How many entries were used. Written by the receiver that retires the segment, read by the next owner.
    used: AtomicU32,
    /// When it was opened, in nanoseconds of the channel's clock. Written before the sender opens it.
    opened_at: AtomicU64,
    /// When it was sealed, in nanoseconds of the channel's clock, or when a receiver first asked after a cut; 0 until then.
    sealed_at: AtomicU64,
}

// SAFETY: the block's payload is memory behind a pointer that the segment owns. It holds bytes and `Bytes`, which is
// Send and Sync. Several threads access it under the protocol of this module: the one owner of an entry slot writes a
// message, and receivers read it only after they have seen the entry committed (Release/Acquire).
unsafe impl Send for Segment {}
const _: fn() = || {
    fn is_both<T: Send + Sync>() {}
    is_both::<Bytes>();
};
// SAFETY: as for Send.
unsafe impl Sync for Segment {}
// A panic leaves no message half written: the sender's reservation commits padding when it unwinds.
impl RefUnwindSafe for Segment {}

impl Segment {
    pub(crate) fn new() -> Self {
        Self {
            block: UnsafeCell::new(None),
            references: AtomicUsize::new(0),
            unused_bytes: AtomicU64::new(0),
            has_gaps: AtomicBool::new(false),
            awaited: AtomicU32::new(0),
            known_committed: AtomicU32::new(0),
            known_excess: AtomicU64::new(0),
            used: AtomicU32::new(0),
            abandoned: AtomicU32::new(0),
            opened_at: AtomicU64::new(0),
            sealed_at: AtomicU64::new(0),
        }
    }

    /// Returns exclusive access, if no reference to the segment exists.
    pub(crate) fn exclusive(&self) -> Option<Exclusive<'_>> {
        // ORDERING: Acquire: pairs with the Release in `release`; everything that other holders read from the segment
        // happens before. What was done to its memory is published with its number, see `IdBitset::put`.
        let taken =
            self.references.compare_exchange(0, EXCLUSIVE, Ordering::Acquire, Ordering::Relaxed).is_ok();
        taken.then_some(Exclusive { segment: self, references: 0 })
    }

    /// Adds a reference; the caller holds one.
    pub(crate) fn retain(&self) {
        // ORDERING: Relaxed: the caller already has a reference, as in `Arc::clone`.
        let before = self.references.fetch_add(1, Ordering::Relaxed);
        debug_assert!(before > 0 && before < EXCLUSIVE / 2);
    }

    /// Whether there are more references than the `held` ones of the caller, which has locked the head.
    fn has_more_references_than(&self, held: usize) -> bool {
        // ORDERING: Relaxed: meanwhile other references can only be released; new ones are made under the head's lock,
        // or by a holder of one. If a released one is still counted, the newest message is dropped and not the oldest.
        self.references.load(Ordering::Relaxed) > held
    }

    /// Releases `held` references; returns whether they were the last.
    pub(crate) fn release(&self, held: usize) -> bool {
        // ORDERING: Release: pairs with the Acquire in `exclusive`; what this holder read happens before the next
        // owner's writes. Until the count is 0, all later changes are read-modify-writes, which continue the release
        // sequence: the owner acquires from every holder.
        self.references.fetch_sub(held, Ordering::Release) == held
    }

    #[inline]
    fn block(&self) -> &Block {
        self.block.with(|block| {
            // SAFETY: only an `Exclusive` writes the block, and it calls this only between its writes. All other
            // callers exclude an `Exclusive`: they hold an uncommitted entry slot, a read range or a reference, or
            // the lock of the head, which has a reference. They learned of the segment by an Acquire of the slot
            // state that pairs with the Release in `AtomicSlotState::open`, which follows the write of the block; or
            // they were handed a reference by a thread that did.
            unsafe { &*block }.as_ref().expect("a segment in use has memory")
        })
    }

    /// Copies `payload` into the reserved entry and commits it.
    #[inline(always)]
    pub(crate) fn write(&self, entry: &EntrySlot, payload: &[u8]) {
        let block = self.block();
        let word = block.copy_in(entry, payload);
        Self::commit(&block.index[entry.index()], word);
    }

    /// Copies the first of `payloads` into the reserved entries and commits them all.
    ///
    /// The first entry is committed last. A receiver that sees it committed sees the others too.
    #[inline]
    pub(crate) fn write_range<'a>(
        &self,
        range: EntryRange<'_>,
        payloads: impl ExactSizeIterator<Item = &'a [u8]>,
    ) {
        assert!(range.messages() <= payloads.len());
        let block = self.block();
        let mut filled = range.into_entries().zip(payloads).map(|(entry, payload)| {
            let word = block.copy_in(&entry, payload);
            (&block.index[entry.index()], word)
        });
        let (first, first_word) = filled.next().expect("a range has messages");
        for (at, word) in filled {
            // ORDERING: Relaxed: the commit of the first entry follows and its Release publishes this entry too.
            // Receivers read entries in order, so they acquire that commit first.
            at.store(word.0, Ordering::Relaxed);
        }
        Self::commit(first, first_word);
    }

    /// Calls `write` with the reserved bytes, and commits as many of them as it returns.
    ///
    /// Returns whether a receiver sleeps for this message, as far as this thread has seen. Panics without a commit if `write`
    /// panics, or returns more than there are.
    #[inline(always)]
    pub(crate) fn write_in_place(&self, entry: &EntrySlot, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        let block = self.block();
        let to = block.at(entry.offset(), entry.len());
        let at = &block.index[entry.index()];
        Self::mark(at);
        let len = block.log.writing(entry.index(), || {
            // SAFETY: `to` is valid for `entry.len()` bytes (checked by `at`). They are reserved for the one owner of
            // `entry` until the commit below, so no other reference to them exists while `write` runs. They are zeroed
            // first: `write` sees no uninitialized memory, and the bytes that it leaves unwritten are initialized.
            let bytes = unsafe {
                to.write_bytes(0, entry.len());
                std::slice::from_raw_parts_mut(to, entry.len())
            };
            write_checked(bytes, write)
        });
        if len < entry.len() {
            // ORDERING: Relaxed: the Release in `commit` publishes it with the message.
            self.unused_bytes.fetch_add((entry.len() - len) as u64, Ordering::Relaxed);
            self.set_has_gaps();
        }
        let is_awaited = self.is_awaited(entry);
        Self::commit(at, Entry::new(INLINE, entry.offset(), len));
        is_awaited
    }

    /// Marks a reserved entry whose message a closure of the user writes.
    pub(crate) fn mark_in_place(&self, entry: &EntrySlot) {
        Self::mark(&self.block().index[entry.index()]);
    }

    #[inline(always)]
    fn mark(at: &AtomicU64) {
        // ORDERING: Relaxed: a receiver only decides by it how to wait.
        at.store(IN_PLACE, Ordering::Relaxed);
    }

    /// Moves the external `payload` into the reserved entry and commits it.
    ///
    /// Returns whether a receiver sleeps for the closure that made the payload, as far as this thread has seen.
    #[inline(always)]
    pub(crate) fn write_external(&self, entry: &EntrySlot, payload: Bytes) -> bool {
        assert_eq!(entry.len(), EXTERNAL_BYTES);
        let block = self.block();
        let start = block.at(entry.offset(), entry.len());
        let offset = entry.offset() + start.align_offset(align_of::<Bytes>());
        let len = payload.len();
        self.set_has_gaps();
        block.log.writing(entry.index(), || {
            // SAFETY: the reserved bytes belong to the one owner of `entry` until the commit, and have room for a
            // `Bytes` at any alignment. They are zeroed first, so the gaps around the `Bytes` are initialized.
            unsafe {
                start.write_bytes(0, EXTERNAL_BYTES);
                block.at(offset, size_of::<Bytes>()).cast::<Bytes>().write(payload);
            }
        });
        let is_awaited = self.is_awaited(entry);
        Self::commit(&block.index[entry.index()], Entry::new(EXTERNAL, offset, len));
        is_awaited
    }

    /// Commits a reserved entry as padding, which receivers skip. Returns whether a receiver sleeps for its closure, as far
    /// as this thread has seen.
    pub(crate) fn abandon(&self, entry: &EntrySlot) -> bool {
        let block = self.block();
        let start = block.at(entry.offset(), entry.len());
        // ORDERING: Relaxed, both: the Release in `commit` publishes them with the message.
        self.unused_bytes.fetch_add(entry.len() as u64, Ordering::Relaxed);
        self.abandoned.fetch_add(1, Ordering::Relaxed);
        block.log.writing(entry.index(), || {
            // SAFETY: the reserved bytes belong to the one owner of `entry` until the commit.
            unsafe { start.write_bytes(0, entry.len()) }
        });
        let is_awaited = self.is_awaited(entry);
        Self::commit(&block.index[entry.index()], Entry::new(ABANDONED, entry.offset(), entry.len()));
        is_awaited
    }

    /// Sets `has_gaps`. Checks it first: one write is enough, and receivers read the same cache line.
    fn set_has_gaps(&self) {
        // ORDERING: Relaxed: the Release in `commit` publishes it with the message. A sender that finds the flag set by
        // another one has it visible before its own commit too. So a receiver that sees either commit sees the flag.
        if !self.has_gaps.load(Ordering::Relaxed) {
            self.has_gaps.store(true, Ordering::Relaxed);
        }
    }

    /// Borrows the entry alone: once that is committed, the block around it may be freed before this returns.
    #[inline(always)]
    fn commit(at: &AtomicU64, word: Entry) {
        // ORDERING: Release: pairs with the Acquire in `ReadRange::entry` and `count_committed`; makes the payload bytes
        // or the `Bytes`, `unused_bytes`, `has_gaps` and `abandoned` visible.
        at.store(word.0, Ordering::Release);
    }

    /// Whether a thread waits for an entry, for a sender that is about to commit it: after that, the segment may be reused.
    #[inline(always)]
    fn is_awaited(&self, entry: &EntrySlot) -> bool {
        // ORDERING: Acquire: pairs with the Release in `ReadRange::set_awaited`; a sender that finds its entry awaited sees
        // the receiver's registration, or that the last receiver has left.
        self.awaited.load(Ordering::Acquire) as usize == entry.index() + 1
    }

    /// Whether the segment has external or shortened messages; a sender sees its own.
    pub(crate) fn has_gaps(&self) -> bool {
        // ORDERING: Relaxed: the caller has seen the message committed, or has committed it; otherwise a statistic.
        self.has_gaps.load(Ordering::Relaxed)
    }

    /// Returns payload bytes minus reserved bytes of the first `messages`, modulo 2⁶⁴; exact once all of them are committed.
    ///
    /// The caller has locked the head, so the segment is not retired meanwhile. Checks at most `limit` entries, and takes them
    /// off `limit`; entries that were checked are not checked again, unless one before them is not committed.
    #[inline]
    pub(crate) fn payload_delta(&self, messages: usize, limit: &mut usize) -> u64 {
        let mut excess = 0;
        if self.has_gaps() {
            let known = self.count_committed(messages, limit);
            // ORDERING: Acquire: as in `count_committed`.
            let entry = |at: &AtomicU64| Entry(at.load(Ordering::Acquire));
            let after = &self.block().index[known..messages];
            let after = &after[..after.len().min(*limit)];
            *limit -= after.len();
            // ORDERING: Relaxed: the lock of the head orders all callers.
            excess = self.known_excess.load(Ordering::Relaxed);
            excess = after.iter().map(entry).fold(excess, |sum, entry| sum.wrapping_add(entry.excess()));
        }
        excess.wrapping_sub(self.unused_bytes())
    }

    /// Returns how many reserved bytes shortened and abandoned messages do not have.
    pub(crate) fn unused_bytes(&self) -> u64 {
        // ORDERING: Relaxed: a statistic; exact for messages that the caller has seen committed.
        self.unused_bytes.load(Ordering::Relaxed)
    }

    /// Returns how many messages were abandoned.
    pub(crate) fn abandoned(&self) -> usize {
        // ORDERING: Relaxed: exact for messages that the caller has seen committed: each is counted before its commit.
        self.abandoned.load(Ordering::Relaxed) as usize
    }

    /// Returns how many of the first `messages` are committed without one before that is not.
    ///
    /// The caller has locked the head, so the segment is not retired meanwhile. Each entry is counted once: the next call
    /// continues after it. Counts at most `limit` entries, and takes them off `limit`.
    pub(crate) fn count_committed(&self, messages: usize, limit: &mut usize) -> usize {
        // ORDERING: Relaxed, here and for the stores: the lock of the head orders all callers. It also makes visible what
        // the caller that counted an entry has acquired from its commit.
        let known = self.known_committed.load(Ordering::Relaxed) as usize;
        // ORDERING: Acquire: pairs with the Release in `commit`; makes `unused_bytes` and `abandoned` visible.
        let entry = |at: &AtomicU64| Entry(at.load(Ordering::Acquire));
        let committed = self.block().index[known..messages].iter().take(*limit).map(entry);
        let (mut further, mut excess) = (0, self.known_excess.load(Ordering::Relaxed));
        for entry in committed.take_while(|entry| entry.is_committed()) {
            further += 1;
            excess = excess.wrapping_add(entry.excess());
        }
        self.known_committed.store((known + further) as u32, Ordering::Relaxed);
        self.known_excess.store(excess, Ordering::Relaxed);
        *limit -= further;
        known + further
    }

    /// Whether the messages that the caller has seen committed lie in the segment without gaps.
    ///
    /// Then none of them is external, shortened or abandoned.
    #[inline]
    pub(crate) fn is_contiguous(&self) -> bool {
        // ORDERING: Relaxed: exact for messages that the caller has seen committed: each sets it before its commit.
        !self.has_gaps.load(Ordering::Relaxed) && self.abandoned() == 0
    }

    /// Records how many entries the next owner has to clear.
    pub(crate) fn set_used(&self, messages: usize) {
        // ORDERING: Relaxed: the caller's `release` follows; it pairs with the Acquire in `exclusive`, which makes this
        // visible to the next owner.
        self.used.store(messages as u32, Ordering::Relaxed);
    }

    pub(crate) fn set_opened_at(&self, nanos: u64) {
        // ORDERING: Relaxed: the Release in `AtomicSlotState::open`, which follows, publishes it.
        self.opened_at.store(nanos, Ordering::Relaxed);
    }

    pub(crate) fn opened_at(&self) -> u64 {
        // ORDERING: Relaxed: the caller has acquired the slot state, which followed the store in `set_opened_at`.
        self.opened_at.load(Ordering::Relaxed)
    }

    pub(crate) fn set_sealed_at(&self, nanos: u64) {
        // ORDERING: Relaxed: only bounds how long messages are lent. A late value copies a message or lends it once
        // more.
        self.sealed_at.store(nanos, Ordering::Relaxed);
    }

    /// Returns when it was sealed; if that is not known, that is `now`.
    pub(crate) fn sealed_at_or(&self, now: u64) -> u64 {
        // ORDERING: Relaxed: only bounds how long messages are lent; see `set_sealed_at`.
        match self.sealed_at.load(Ordering::Relaxed) {
            0 => {
                self.set_sealed_at(now);
                now
            }
            known => known,
        }
    }
}

/// Calls `write` with `bytes`; returns how many of them it wrote.
///
/// # Panics
///
/// If `write` returns more than there are.
#[inline]
pub(crate) fn write_checked(bytes: &mut [u8], write: impl FnOnce(&mut [u8]) -> usize) -> usize {
    let max = bytes.len();
    let len = write(bytes);
    assert!(len <= max, "`write` says to have written {len} bytes of the {max} that there is room for");
    len
}

/// Exclusive access to a segment, to allocate, clear or free its memory.
pub(crate) struct Exclusive<'a> {
    segment: &'a Segment,
    /// How many references the segment has after the drop.
    references: usize,
}

impl Exclusive<'_> {
    pub(crate) fn allocate(&mut self, capacity: Capacity) {
        let block = Block::new(capacity);
        // SAFETY: `references` is EXCLUSIVE, so no other thread accesses the block; see `Segment::block`.
        self.segment.block.with_mut(|cell| unsafe { *cell = Some(block) });
    }

    pub(crate) fn free(&mut self) {
        self.reset();
        // SAFETY: `references` is EXCLUSIVE, so no other thread accesses the block; see `Segment::block`.
        self.segment.block.with_mut(|cell| unsafe { *cell = None });
    }

    /// Clears the entries that were used.
    pub(crate) fn clear(&mut self) {
        let used = self.reset();
        for entry in &self.segment.block().index[..used] {
            // ORDERING: Relaxed: no other thread accesses the segment; the Release in `AtomicSlotState::open` publishes
            // the cleared index.
            entry.store(EMPTY, Ordering::Relaxed);
        }
    }

    /// Resets the counts; returns how many entries were used.
    fn reset(&mut self) -> usize {
        // ORDERING: Relaxed, all: no other thread accesses the segment. The step that makes it available again
        // publishes them: the Release in `AtomicSlotState::open` or in `IdBitset::put`.
        self.segment.unused_bytes.store(0, Ordering::Relaxed);
        self.segment.has_gaps.store(false, Ordering::Relaxed);
        self.segment.awaited.store(0, Ordering::Relaxed);
        self.segment.abandoned.store(0, Ordering::Relaxed);
        self.segment.known_committed.store(0, Ordering::Relaxed);
        self.segment.known_excess.store(0, Ordering::Relaxed);
        self.segment.sealed_at.store(0, Ordering::Relaxed);
        let used = self.segment.used.load(Ordering::Relaxed) as usize;
        self.segment.used.store(0, Ordering::Relaxed);
        used
    }

    /// Ends the exclusive access with the channel's references: the segment can be opened.
    pub(crate) fn activate(mut self) {
        self.references = CHANNEL_REFERENCES;
    }
}

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        // ORDERING: Relaxed: the step that makes the segment available again publishes it: the Release in
        // `AtomicSlotState::open`, or in `IdBitset::put` for a segment without memory.
        self.segment.references.store(self.references, Ordering::Relaxed);
    }
}
