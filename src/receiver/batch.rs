//! [`Batch`]: many messages of one segment, received at once and not copied.

use std::fmt;
use std::io::IoSlice;
use std::iter::FusedIterator;
use std::ops::Range;

use bytes::Bytes;

use crate::queue::ReadMode;
use crate::queue::head::chunk::{ChunkCache, TakenRange};
use crate::queue::head::copy_arena::{CopyArena, SMALL_BELOW};
use crate::queue::pool::SegmentRef;
use crate::queue::segment::{Content, ReadRange};

/// Consecutive messages of one segment, in order and in place.
///
/// The segment is not reused before the batch is dropped: it is lent from when all its messages were received until then.
/// External payloads, of 32 KiB and more, do not count any more, so a batch of them is bounded by
/// [`Limit::bytes`](crate::Limit::bytes) alone. Iterating by reference neither copies a message nor touches a reference count.
/// Iterating by value returns each message as [`Bytes`]: in [`ReadMode::Safe`] a copy below 1 KiB, otherwise a slice of the
/// segment.
///
/// # Panics
///
/// Dropping a batch, or its iterator, drops the payloads in it that travel by reference count. If the drop of one panics,
/// the others are dropped too, and the first panic continues.
///
/// # Examples
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::io::Write;
/// let (tx, mut rx) = turbostream::channel();
/// tx.send("one\n").await?;
/// tx.send("two\n").await?;
/// let batch = rx.recv_batch(1024).await.unwrap();
/// assert_eq!((batch.len(), batch.payload_bytes(), batch.first_sequence()), (2, 8, 0));
/// let mut file = Vec::new();
/// file.write_vectored(&batch.io_slices())?;
/// assert_eq!(file, b"one\ntwo\n");
/// # Ok(()) }
/// ```
pub struct Batch {
    range: ReadRange<SegmentRef>,
    first_sequence: u64,
    payload_bytes: usize,
    mode: ReadMode,
}

impl Batch {
    pub(crate) fn new(taken: TakenRange, mode: ReadMode) -> Self {
        let TakenRange { range, first_sequence, payload_bytes } = taken;
        Self { range, first_sequence, payload_bytes, mode }
    }

    /// Returns the number of messages, which is at least one.
    pub fn len(&self) -> usize {
        self.range.remaining()
    }

    /// Returns `true` if the batch has no messages, which is never the case.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the sequence number of the first message. The others follow without a gap: a batch ends before one.
    pub fn first_sequence(&self) -> u64 {
        self.first_sequence
    }

    /// Returns the total length of all messages in bytes.
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// Returns the message at `index`, or `None` if `index` is not less than [`len`](Self::len).
    #[inline]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        (index < self.len()).then(|| self.message(index))
    }

    /// Returns the message at `index` as [`Bytes`] that may outlive the batch, or `None` if `index` is not less than
    /// [`len`](Self::len).
    ///
    /// The message is not copied, in either read mode: the segment is not reused for as long as the `Bytes` is kept. Each
    /// call makes one small allocation, but for an external payload, whose reference count goes up. For most messages of
    /// a batch, iterate by value instead.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, mut rx) = turbostream::channel();
    /// tx.send_many(["skipped", "kept"]).await?;
    /// let batch = rx.recv_batch(100).await.unwrap();
    /// let kept = batch.bytes(1).unwrap();
    /// drop(batch);
    /// assert_eq!(kept, "kept");
    /// # Ok(()) }
    /// ```
    pub fn bytes(&self, index: usize) -> Option<Bytes> {
        (index < self.len()).then(|| match self.range.get(index) {
            Content::Inline([]) | Content::Abandoned => Bytes::new(),
            Content::Inline(_) => Bytes::from_owner(self.range.lend(index, 1).0),
            Content::External(payload) => payload.clone(),
        })
    }

    /// Returns an iterator over all messages, in order. It copies nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, mut rx) = turbostream::channel();
    /// tx.send_many(["one", "two"]).await?;
    /// let batch = rx.recv_batch(100).await.unwrap();
    /// let mut bytes = 0;
    /// for message in &batch {
    ///     bytes += message.len(); // a `&[u8]`
    /// }
    /// assert_eq!(bytes, batch.payload_bytes());
    /// # Ok(()) }
    /// ```
    #[inline]
    pub fn iter(&self) -> BatchSlices<'_> {
        BatchSlices { batch: self, indices: 0..self.len() }
    }

    /// Returns the message at `index`, which is less than the length.
    #[inline]
    fn message(&self, index: usize) -> &[u8] {
        self.range.get(index).bytes().unwrap_or_default()
    }

    /// Returns all messages as slices for a vectored write.
    ///
    /// The writer may accept only a limited number of slices at once, such as 1024 on Linux.
    pub fn io_slices(&self) -> Vec<IoSlice<'_>> {
        self.iter().map(IoSlice::new).collect()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("len", &self.len())
            .field("first_sequence", &self.first_sequence)
            .field("payload_bytes", &self.payload_bytes)
            .finish_non_exhaustive()
    }
}

impl IntoIterator for Batch {
    type Item = Bytes;
    type IntoIter = BatchIter;

    fn into_iter(self) -> BatchIter {
        BatchIter {
            range: self.range,
            chunks: ChunkCache::default(),
            arena: CopyArena::default(),
            mode: self.mode,
        }
    }
}

/// Iterates by reference, as [`iter`](Batch::iter) does: each message as a slice of the segment, without a copy and without a
/// count. By value, the iterator returns [`Bytes`].
impl<'a> IntoIterator for &'a Batch {
    type Item = &'a [u8];
    type IntoIter = BatchSlices<'a>;

    #[inline]
    fn into_iter(self) -> BatchSlices<'a> {
        self.iter()
    }
}

/// Iterates over the messages of a [`Batch`] in place, as slices.
#[derive(Clone)]
pub struct BatchSlices<'a> {
    batch: &'a Batch,
    indices: Range<usize>,
}

impl<'a> Iterator for BatchSlices<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        self.indices.next().map(|index| self.batch.message(index))
    }

    #[inline]
    fn nth(&mut self, n: usize) -> Option<&'a [u8]> {
        self.indices.nth(n).map(|index| self.batch.message(index))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.indices.size_hint()
    }

    #[inline]
    fn fold<B, F: FnMut(B, &'a [u8]) -> B>(self, init: B, f: F) -> B {
        let batch = self.batch;
        self.indices.map(|index| batch.message(index)).fold(init, f)
    }
}

impl DoubleEndedIterator for BatchSlices<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        self.indices.next_back().map(|index| self.batch.message(index))
    }
}

impl ExactSizeIterator for BatchSlices<'_> {}
impl FusedIterator for BatchSlices<'_> {}

impl fmt::Debug for BatchSlices<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchSlices").field("remaining", &self.len()).finish_non_exhaustive()
    }
}

/// Iterates over the messages of a [`Batch`] by value.
pub struct BatchIter {
    range: ReadRange<SegmentRef>,
    chunks: ChunkCache,
    arena: CopyArena,
    mode: ReadMode,
}

impl Iterator for BatchIter {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.range.remaining() == 0 {
            return None;
        }
        if let Some(payload) = self.range.take_external() {
            return Some(payload);
        }
        let (offset, len) = self.range.inline_next().expect("batches hold no padding");
        let message = if self.mode == ReadMode::Safe && len < SMALL_BELOW {
            self.chunks.copy(&self.range, offset, len, &mut self.arena)
        } else {
            self.chunks.lend(&self.range, offset, len)
        };
        self.range.advance();
        Some(message)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.range.remaining(), Some(self.range.remaining()))
    }
}

impl ExactSizeIterator for BatchIter {}

impl fmt::Debug for BatchIter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchIter").field("remaining", &self.range.remaining()).finish_non_exhaustive()
    }
}
