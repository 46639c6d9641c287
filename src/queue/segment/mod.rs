//! One segment: memory for many messages, and all of the crate's unsafe code about it.
//!
//! The index holds one entry per message beside the payload bytes. A writer that reserved a [`EntrySlot`] copies
//! its bytes and then commits the entry; a reader that claimed the message waits for the entry. Between the
//! two, nobody else touches that message.
//!
//! ```text
//!  63..59   58..56   55..28   27..0
//! ┌────────┬────────┬────────┬────────┐
//! │   0    │  kind  │  len   │ offset │    0: reserved or unused, WAITER: the same, and a reader sleeps
//! └────────┴────────┴────────┴────────┘
//! ```

mod read_range;
pub(crate) mod slot_state;

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::mem::{align_of, size_of};
use std::panic::RefUnwindSafe;
use std::ptr::NonNull;

use bytes::Bytes;

pub(crate) use self::read_range::{Content, ReadRange};

use self::slot_state::{Capacity, EntryRange, EntrySlot};
use crate::sync::{
    AccessLog, AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, UnsafeCell, zeroed_words,
};

/// What a payload that travels by reference takes of a segment: the `Bytes`, wherever it comes to be aligned.
pub(crate) const EXTERNAL_BYTES: usize = size_of::<Bytes>() + align_of::<Bytes>() - 1;

const OFFSET_BITS: u32 = 28;
const FIELD_MASK: u64 = (1 << OFFSET_BITS) - 1;
const KIND_SHIFT: u32 = 2 * OFFSET_BITS;
const EMPTY: u64 = 0;
const INLINE: u64 = 1 << KIND_SHIFT;
const EXTERNAL: u64 = 2 << KIND_SHIFT;
const ABANDONED: u64 = 3 << KIND_SHIFT;
const WAITER: u64 = 4 << KIND_SHIFT;

/// `references` of a segment that one thread has to itself while it is neither active, sealed nor lent.
const EXCLUSIVE: usize = usize::MAX;

/// What an entry said at one instant.
#[derive(Clone, Copy)]
struct Entry(u64);

impl Entry {
    #[inline]
    fn new(kind: u64, offset: usize, len: usize) -> Self {
        Self(kind | (len as u64) << OFFSET_BITS | offset as u64)
    }
    #[inline]
    fn kind(self) -> u64 {
        self.0 & (0b111 << KIND_SHIFT)
    }
    #[inline]
    fn is_committed(self) -> bool {
        self.0 != EMPTY && self.0 != WAITER
    }
    #[inline]
    fn offset(self) -> usize {
        (self.0 & FIELD_MASK) as usize
    }
    #[inline]
    fn len(self) -> usize {
        ((self.0 >> OFFSET_BITS) & FIELD_MASK) as usize
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
        // SAFETY: a capacity of zero bytes is refused when the channel is built, so the layout is not empty.
        let payload = NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout));
        Self {
            index: zeroed_words(capacity.messages),
            payload,
            payload_bytes: capacity.bytes,
            log: AccessLog::for_messages(capacity.messages),
        }
    }

    fn layout(payload_bytes: usize) -> Layout {
        Layout::from_size_align(payload_bytes, 64).expect("a segment fits the address space")
    }

    /// The address of `len` payload bytes at `offset`.
    #[inline]
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset + len <= self.payload_bytes, "payload outside of its segment");
        // SAFETY: just checked to lie inside the allocation.
        unsafe { self.payload.as_ptr().add(offset) }
    }

    /// Copies `payload` into the reserved slot; returns the entry that commits it.
    #[inline(always)]
    fn copy_in(&self, slot: &EntrySlot, payload: &[u8]) -> Entry {
        assert_eq!(payload.len(), slot.len());
        let to = self.at(slot.offset(), slot.len());
        self.log.writing(slot.index(), || {
            // SAFETY: `to` is valid for `slot.len()` bytes (checked by `at`), which are reserved for the one holder
            // of this slot until it is committed; `payload` is borrowed from elsewhere, as no reference into reserved
            // bytes exists.
            unsafe { to.copy_from_nonoverlapping(payload.as_ptr(), payload.len()) }
        });
        Entry::new(INLINE, slot.offset(), slot.len())
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout, and owned by this block alone.
        unsafe { dealloc(self.payload.as_ptr(), Self::layout(self.payload_bytes)) }
    }
}

/// A segment: its header stays where it is for as long as the channel lives, its memory comes and goes.
pub(crate) struct Segment {
    /// Written only through [`Exclusive`]; read by whoever holds a slot, a claim or a reference.
    block: UnsafeCell<Option<Block>>,
    /// One for the channel while the segment is active or sealed, one for each run and batch lent from it.
    references: AtomicUsize,
    /// What the reserved bytes differ from the payload bytes by: written by writers of external, shortened and
    /// abandoned messages, read for figures.
    payload_delta: AtomicU64,
    /// Whether there are external messages, or shortened ones; set by writers before they commit, read by claims.
    has_gaps: AtomicBool,
    /// Abandoned messages; written by writers before they commit, read by claims and for figures.
    abandoned: AtomicU32,
    /// How many entries were used; written by the reader that retires the segment, read by the next owner.
    used: AtomicU32,
    /// When it was opened, in nanoseconds of the channel's clock; written by whoever opens it, before that.
    opened_at: AtomicU64,
    /// When it was sealed, or cut last, in nanoseconds of the channel's clock; 0 before that is known.
    sealed_at: AtomicU64,
}

// SAFETY: the block's payload is memory behind a pointer that the segment owns, with bytes in it and `Bytes`, which is
// both. It is accessed from several threads under the protocol of this module: a message is written by the one holder
// of its slot, and read only after the entry was seen committed (Release/Acquire).
unsafe impl Send for Segment {}
const _: fn() = || {
    fn is_both<T: Send + Sync>() {}
    is_both::<Bytes>();
};
// SAFETY: as above.
unsafe impl Sync for Segment {}
// A panic leaves no message half written: whoever reserved its slot has padding committed.
impl RefUnwindSafe for Segment {}

impl Segment {
    pub(crate) fn new() -> Self {
        Self {
            block: UnsafeCell::new(None),
            references: AtomicUsize::new(0),
            payload_delta: AtomicU64::new(0),
            has_gaps: AtomicBool::new(false),
            used: AtomicU32::new(0),
            abandoned: AtomicU32::new(0),
            opened_at: AtomicU64::new(0),
            sealed_at: AtomicU64::new(0),
        }
    }

    /// Takes a segment that nobody references. Nothing if somebody does.
    pub(crate) fn exclusive(&self) -> Option<Exclusive<'_>> {
        // ORDERING: Acquire pairs with the Release in `release`: all that others read from the segment lies before. What
        // was done to its memory is handed over with its number, see `Set`.
        let taken =
            self.references.compare_exchange(0, EXCLUSIVE, Ordering::Acquire, Ordering::Relaxed).is_ok();
        taken.then_some(Exclusive { segment: self, references: 0 })
    }

    /// One reference more; the caller holds one.
    pub(crate) fn retain(&self) {
        // ORDERING: Relaxed, as in `Arc::clone`: whoever adds a reference already has one.
        let before = self.references.fetch_add(1, Ordering::Relaxed);
        debug_assert!(before > 0 && before < EXCLUSIVE / 2);
    }

    /// Whether there are references beside the caller's, for the receiver at the head.
    pub(crate) fn is_shared(&self) -> bool {
        // ORDERING: Relaxed: others can only go meanwhile, as new ones are made at the head or by who holds one.
        // Where one that is gone is still seen, the newest message is dropped instead of the oldest.
        self.references.load(Ordering::Relaxed) > 1
    }

    /// One reference less; true if it was the last.
    pub(crate) fn release(&self) -> bool {
        // ORDERING: Release orders what this holder read before the next owner's writes; that owner acquires
        // in `exclusive`.
        self.references.fetch_sub(1, Ordering::Release) == 1
    }

    #[inline]
    fn block(&self) -> &Block {
        self.block.with(|block| {
            // SAFETY: only an `Exclusive` writes the block. It calls this itself, while it does not, or there is
            // none: callers hold a slot, a claim or a reference, or the lock of the head, which has one. All of them
            // learnt of the segment through an Acquire that pairs with the Release after the block was put there.
            unsafe { &*block }.as_ref().expect("a segment in use has memory")
        })
    }

    /// Copies `payload` into the reserved slot and commits it. True if a reader sleeps for it.
    #[inline(always)]
    pub(crate) fn write(&self, slot: &EntrySlot, payload: &[u8]) -> bool {
        let block = self.block();
        let entry = block.copy_in(slot, payload);
        Self::commit(&block.index[slot.index()], entry)
    }

    /// Copies the first of `payloads` into a run of reserved slots and commits all of it: the first message last, so that
    /// whoever reads it finds the others, and can sleep for no other. True if a reader does.
    #[inline]
    pub(crate) fn write_range<'a>(
        &self,
        run: EntryRange<'_>,
        payloads: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> bool {
        assert!(run.messages() <= payloads.len());
        let block = self.block();
        let mut filled = run.into_slots().zip(payloads).map(|(slot, payload)| {
            let entry = block.copy_in(&slot, payload);
            (&block.index[slot.index()], entry)
        });
        let (first, first_entry) = filled.next().expect("a run has messages");
        for (at, entry) in filled {
            // ORDERING: Relaxed: the commit of the first, which comes behind, releases this one as well, and nobody
            // looks at it before having seen that. So nobody sleeps for it either, and a store is enough.
            at.store(entry.0, Ordering::Relaxed);
        }
        Self::commit(first, first_entry)
    }

    /// Has `write` fill the reserved slot, and commits as many of its bytes as that says. True if a reader sleeps for it.
    ///
    /// Panics, without a commit, if `write` does, or says more than there are.
    #[inline(always)]
    pub(crate) fn write_in_place(&self, slot: &EntrySlot, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        let block = self.block();
        let to = block.at(slot.offset(), slot.len());
        let len = block.log.writing(slot.index(), || {
            // SAFETY: `to` is valid for `slot.len()` bytes (checked by `at`), which are reserved for the one holder of
            // this slot until the commit below: nobody else refers to them as long as `write` runs. They are zeroed
            // first, so that it sees no memory that was never written, and what it leaves behind is initialised too.
            let bytes = unsafe {
                to.write_bytes(0, slot.len());
                std::slice::from_raw_parts_mut(to, slot.len())
            };
            write_checked(bytes, write)
        });
        if len < slot.len() {
            // ORDERING: Relaxed: the commit publishes them along with the message.
            self.payload_delta.fetch_sub((slot.len() - len) as u64, Ordering::Relaxed);
            self.set_has_gaps();
        }
        Self::commit(&block.index[slot.index()], Entry::new(INLINE, slot.offset(), len))
    }

    /// Puts `payload` into the reserved slot by reference and commits it. True if a reader sleeps for it.
    #[inline(always)]
    pub(crate) fn write_external(&self, slot: &EntrySlot, payload: Bytes) -> bool {
        assert_eq!(slot.len(), EXTERNAL_BYTES);
        let block = self.block();
        let start = block.at(slot.offset(), slot.len());
        let offset = slot.offset() + start.align_offset(align_of::<Bytes>());
        let extra = (payload.len() as u64).wrapping_sub(slot.len() as u64);
        // ORDERING: Relaxed: the commit publishes them along with the message.
        self.payload_delta.fetch_add(extra, Ordering::Relaxed);
        self.set_has_gaps();
        block.log.writing(slot.index(), || {
            // SAFETY: the reserved bytes are this slot's alone until the commit, and large enough for a
            // `Bytes` at any alignment. They are zeroed first, so that the gap around it is initialised.
            unsafe {
                start.write_bytes(0, slot.len());
                block.at(offset, size_of::<Bytes>()).cast::<Bytes>().write(payload);
            }
        });
        Self::commit(&block.index[slot.index()], Entry::new(EXTERNAL, offset, size_of::<Bytes>()))
    }

    /// Turns a reserved slot into padding that no reader sees. True if a reader sleeps for it.
    pub(crate) fn abandon(&self, slot: &EntrySlot) -> bool {
        let block = self.block();
        let start = block.at(slot.offset(), slot.len());
        // ORDERING: Relaxed: figures; the commit publishes them along with the message.
        self.payload_delta.fetch_sub(slot.len() as u64, Ordering::Relaxed);
        self.abandoned.fetch_add(1, Ordering::Relaxed);
        block.log.writing(slot.index(), || {
            // SAFETY: the reserved bytes are this slot's alone until the commit.
            unsafe { start.write_bytes(0, slot.len()) }
        });
        Self::commit(&block.index[slot.index()], Entry::new(ABANDONED, slot.offset(), slot.len()))
    }

    /// Looks first, as once is enough, and readers look too.
    fn set_has_gaps(&self) {
        // ORDERING: Relaxed: the commit publishes it along with the message; who finds it set by another writer sees it
        // before its own commit too, so that for a claim it is set, whichever of the two messages it has seen.
        if !self.has_gaps.load(Ordering::Relaxed) {
            self.has_gaps.store(true, Ordering::Relaxed);
        }
    }

    #[inline]
    fn commit(at: &AtomicU64, entry: Entry) -> bool {
        // ORDERING: Release publishes the bytes to the Acquire in `ReadRange::entry`. Acquire pairs with the Release
        // in `ReadRange::set_commit_waiter`: a writer that finds its entry awaited also sees whether that reader left.
        // One exchange both commits and learns of the sleeper, so no wake can fall between the two. It takes the
        // entry alone: once it is committed, the block around it may be freed before this returns.
        at.swap(entry.0, Ordering::AcqRel) == WAITER
    }

    /// What payload bytes differ from reserved ones by (modulo 2⁶⁴); exact once all writers have committed.
    pub(crate) fn payload_delta(&self) -> u64 {
        // ORDERING: Relaxed: a figure.
        self.payload_delta.load(Ordering::Relaxed)
    }

    /// How many of its messages were abandoned.
    pub(crate) fn abandoned(&self) -> usize {
        // ORDERING: Relaxed: exact for what a claim has seen committed, as it is counted before that commit.
        self.abandoned.load(Ordering::Relaxed) as usize
    }

    /// Whether all of its first `messages` are committed, for somebody who keeps it from being retired.
    pub(crate) fn is_committed(&self, messages: usize) -> bool {
        // ORDERING: Acquire pairs with the Release of the commit: what was counted before it is seen.
        let is_committed = |at: &AtomicU64| Entry(at.load(Ordering::Acquire)).is_committed();
        self.block().index[..messages].iter().all(is_committed)
    }

    /// Whether none of the messages that a claim has seen committed is external, shortened or abandoned: they lie in
    /// the segment one behind the other.
    #[inline]
    pub(crate) fn is_contiguous(&self) -> bool {
        // ORDERING: Relaxed: exact for what a claim has seen committed, as it is set before that commit.
        !self.has_gaps.load(Ordering::Relaxed) && self.abandoned() == 0
    }

    /// How many entries have to be cleared before the segment is used again.
    pub(crate) fn set_used(&self, messages: usize) {
        // ORDERING: Relaxed: the reference that is given up afterwards releases it to the next owner.
        self.used.store(messages as u32, Ordering::Relaxed);
    }

    pub(crate) fn set_opened_at(&self, nanos: u64) {
        // ORDERING: Relaxed: the word by which it is opened releases it.
        self.opened_at.store(nanos, Ordering::Relaxed);
    }

    pub(crate) fn opened_at(&self) -> u64 {
        // ORDERING: Relaxed, as above.
        self.opened_at.load(Ordering::Relaxed)
    }

    pub(crate) fn set_sealed_at(&self, nanos: u64) {
        // ORDERING: Relaxed: it only bounds how long slices are lent.
        self.sealed_at.store(nanos, Ordering::Relaxed);
    }

    pub(crate) fn sealed_at(&self) -> u64 {
        // ORDERING: Relaxed, as above.
        self.sealed_at.load(Ordering::Relaxed)
    }
}

/// Has `write` fill `bytes`; returns how many of them it says are the message.
#[inline]
pub(crate) fn write_checked(bytes: &mut [u8], write: impl FnOnce(&mut [u8]) -> usize) -> usize {
    let max = bytes.len();
    let len = write(bytes);
    assert!(len <= max, "`write` says to have written {len} bytes of the {max} that there is room for");
    len
}

/// A segment that one thread has to itself, to give it memory, clear it or take its memory away.
pub(crate) struct Exclusive<'a> {
    segment: &'a Segment,
    /// How many references it comes back with.
    references: usize,
}

impl Exclusive<'_> {
    pub(crate) fn allocate(&mut self, capacity: Capacity) {
        let block = Block::new(capacity);
        // SAFETY: exclusive, see `Segment::exclusive`.
        self.segment.block.with_mut(|cell| unsafe { *cell = Some(block) });
    }

    pub(crate) fn free(&mut self) {
        self.reset();
        // SAFETY: exclusive, see `Segment::exclusive`.
        self.segment.block.with_mut(|cell| unsafe { *cell = None });
    }

    /// Makes the entries that were used usable again.
    pub(crate) fn clear(&mut self) {
        let used = self.reset();
        for entry in &self.segment.block().index[..used] {
            // ORDERING: Relaxed: nobody else has the segment; the word by which it is opened releases.
            entry.store(EMPTY, Ordering::Relaxed);
        }
    }

    /// Sets the counts back; returns how many entries were used.
    fn reset(&mut self) -> usize {
        // ORDERING: Relaxed, as above.
        self.segment.payload_delta.store(0, Ordering::Relaxed);
        self.segment.has_gaps.store(false, Ordering::Relaxed);
        self.segment.abandoned.store(0, Ordering::Relaxed);
        self.segment.sealed_at.store(0, Ordering::Relaxed);
        self.segment.used.swap(0, Ordering::Relaxed) as usize
    }

    /// Gives it back with the channel's one reference, ready to be activated.
    pub(crate) fn activate(mut self) {
        self.references = 1;
    }
}

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        // ORDERING: Relaxed: what comes next hands it over: the word by which the segment is opened, or the set of those
        // without memory.
        self.segment.references.store(self.references, Ordering::Relaxed);
    }
}
