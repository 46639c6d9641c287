//! Packs: many small messages in one payload, and how a reader takes them apart.

use std::error::Error;
use std::fmt;
use std::iter::FusedIterator;

use bytes::Bytes;
use memchr::memchr;

/// How messages are packed into one payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Packing {
    /// The messages as lines of text.
    ///
    /// Messages that end in a newline follow each other as they are; messages without one are joined by a newline. The two
    /// kinds do not share a pack, so [`unpack`](super::unpack) returns exactly the messages. A message that is empty
    /// travels alone, and so does one with a newline before its end. A reader cannot tell the latter from a
    /// pack, and gets its lines: for such messages use [`LengthDelimited`](Self::LengthDelimited).
    Lines,
    /// Each message after its length in bytes, a `u32` in big endian. Any message comes back exactly.
    ///
    /// A message that travels alone has its length in front of it, too. A message of 4 GiB or more cannot be
    /// packed, and is rejected.
    LengthDelimited,
}

/// The length in front of each message of [`Packing::LengthDelimited`].
pub(super) const LENGTH_BYTES: usize = size_of::<u32>();

/// What a message in lines is like.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LineKind {
    /// One line, with the newline at its end.
    Terminated,
    /// One line without a newline.
    Bare,
    /// Empty, or with a newline before its end.
    Alone,
}

impl LineKind {
    fn of(message: &[u8]) -> Self {
        match memchr(b'\n', message) {
            _ if message.is_empty() => Self::Alone,
            None => Self::Bare,
            Some(at) if at == message.len() - 1 => Self::Terminated,
            Some(_) => Self::Alone,
        }
    }
}

/// A payload that was built, and where its first message lies.
pub(super) struct Packed {
    pub(super) payload: Bytes,
    pub(super) first_offset: usize,
    pub(super) first_len: usize,
    pub(super) messages: usize,
}

impl Packed {
    /// One message that travels as it is.
    pub(super) fn unpacked(message: Bytes) -> Self {
        Self { first_len: message.len(), payload: message, first_offset: 0, messages: 1 }
    }
}

/// Builds packs, one at a time.
pub(super) struct Packer {
    packing: Packing,
    max_bytes: usize,
    /// The first message of the pack that is being built.
    first: Option<Bytes>,
    first_kind: LineKind,
    /// The payload so far, once it is not the first message alone.
    payload: Vec<u8>,
    messages: usize,
    /// The size of the last pack: the next one is probably as large.
    expected: usize,
}

impl Packer {
    pub(super) fn new(packing: Packing, max_bytes: usize) -> Self {
        Self {
            packing,
            max_bytes,
            first: None,
            first_kind: LineKind::Alone,
            payload: Vec::new(),
            messages: 0,
            expected: 0,
        }
    }

    pub(super) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    pub(super) fn first(&self) -> Option<&Bytes> {
        self.first.as_ref()
    }

    pub(super) fn messages(&self) -> usize {
        self.messages
    }

    /// Whether a message of `len` bytes can be packed at all.
    pub(super) fn is_packable(&self, len: usize) -> bool {
        self.packing == Packing::Lines || u32::try_from(len).is_ok()
    }

    /// Returns the size of a pack with one message of `len` bytes.
    pub(super) fn len_alone(&self, len: usize) -> usize {
        match self.packing {
            Packing::Lines => len,
            Packing::LengthDelimited => LENGTH_BYTES + len,
        }
    }

    /// Begins a pack.
    pub(super) fn start(&mut self, first: Bytes) {
        self.messages = 1;
        match self.packing {
            Packing::Lines => self.first_kind = LineKind::of(&first),
            Packing::LengthDelimited => {
                self.payload = Vec::with_capacity(self.expected.max(LENGTH_BYTES + first.len()));
                self.append_with_length(&first);
            }
        }
        self.first = Some(first);
    }

    /// Returns the size of the pack with `next`; nothing if that cannot travel in it.
    pub(super) fn len_with(&self, next: &[u8]) -> Option<usize> {
        let len = match self.packing {
            Packing::LengthDelimited => {
                u32::try_from(next.len()).ok()?;
                self.payload.len() + LENGTH_BYTES + next.len()
            }
            Packing::Lines => {
                let kind = LineKind::of(next);
                if kind == LineKind::Alone || kind != self.first_kind {
                    return None;
                }
                let first_len = self.first.as_ref().map_or(0, Bytes::len);
                let so_far = if self.messages == 1 { first_len } else { self.payload.len() };
                so_far + usize::from(kind == LineKind::Bare) + next.len()
            }
        };
        (len <= self.max_bytes).then_some(len)
    }

    /// Adds a message that [`len_with`](Self::len_with) admits.
    pub(super) fn add(&mut self, next: &[u8]) {
        match self.packing {
            Packing::LengthDelimited => self.append_with_length(next),
            Packing::Lines => {
                if let (1, Some(first)) = (self.messages, &self.first) {
                    let least = first.len() + 1 + next.len();
                    self.payload = Vec::with_capacity(self.expected.max(least));
                    self.payload.extend_from_slice(first);
                }
                if self.first_kind == LineKind::Bare {
                    self.payload.push(b'\n');
                }
                self.payload.extend_from_slice(next);
            }
        }
        self.messages += 1;
    }

    fn append_with_length(&mut self, message: &[u8]) {
        let len = u32::try_from(message.len()).expect("the caller has checked the length");
        self.payload.extend_from_slice(&len.to_be_bytes());
        self.payload.extend_from_slice(message);
    }

    /// Ends the pack; nothing if none was begun.
    pub(super) fn finish(&mut self) -> Option<Packed> {
        let first = self.first.take()?;
        let messages = std::mem::take(&mut self.messages);
        let mut payload = std::mem::take(&mut self.payload);
        if payload.is_empty() {
            return Some(Packed::unpacked(first));
        }
        if payload.len() < payload.capacity() / 2 {
            // The window counts what is used.
            payload.shrink_to_fit();
        }
        self.expected = payload.len().min(self.max_bytes);
        let first_offset = if self.packing == Packing::Lines { 0 } else { LENGTH_BYTES };
        Some(Packed { payload: payload.into(), first_offset, first_len: first.len(), messages })
    }
}

/// Takes a payload apart into its messages, in order, without a copy.
///
/// Call it with the packing that the forwarder was given, for each payload, also for one that holds a single message.
/// After an error the iterator returns nothing more.
///
/// # Errors
///
/// [`UnpackError`] if a payload of [`Packing::LengthDelimited`] ends before its last message does. A payload of
/// [`Packing::Lines`] has no errors.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use turbostream::forward::{Packing, UnpackError, unpack};
///
/// let lines = Bytes::from("one\ntwo\n");
/// let messages: Result<Vec<_>, _> = unpack(Packing::Lines, &lines).collect();
/// assert_eq!(messages?, ["one\n", "two\n"]);
///
/// let delimited = Bytes::from(b"\0\0\0\x03one\0\0\0\x03two".to_vec());
/// let messages: Result<Vec<_>, _> = unpack(Packing::LengthDelimited, &delimited).collect();
/// assert_eq!(messages?, ["one", "two"]);
/// # Ok::<(), UnpackError>(())
/// ```
pub fn unpack(packing: Packing, payload: &Bytes) -> Unpack {
    let is_terminated = payload.last() == Some(&b'\n');
    Unpack { packing, payload: payload.clone(), at: Some(0), is_terminated }
}

/// The messages of a payload, as returned by [`unpack`].
#[derive(Clone, Debug)]
#[must_use = "iterators are lazy"]
pub struct Unpack {
    packing: Packing,
    payload: Bytes,
    /// Where the next message begins; `None` at the end.
    at: Option<usize>,
    /// Whether each line has its newline.
    is_terminated: bool,
}

impl Unpack {
    fn next_line(&mut self, at: usize) -> Bytes {
        let newline = memchr(b'\n', &self.payload[at..]).map(|len| at + len);
        let len = self.payload.len();
        let (end, next) = match newline {
            None => (len, None),
            Some(newline) if self.is_terminated => {
                (newline + 1, Some(newline + 1).filter(|next| *next < len))
            }
            Some(newline) => (newline, Some(newline + 1)),
        };
        self.at = next;
        self.payload.slice(at..end)
    }

    fn next_delimited(&mut self, at: usize) -> Option<Result<Bytes, UnpackError>> {
        let rest = &self.payload[at..];
        let (length, rest) = match rest.split_first_chunk::<LENGTH_BYTES>() {
            Some(split) => split,
            None if rest.is_empty() => return None,
            None => return Some(Err(UnpackError { at, missing: LENGTH_BYTES - rest.len() })),
        };
        let len = u32::from_be_bytes(*length) as usize;
        if rest.len() < len {
            return Some(Err(UnpackError { at, missing: len - rest.len() }));
        }
        let start = at + LENGTH_BYTES;
        self.at = Some(start + len);
        Some(Ok(self.payload.slice(start..start + len)))
    }
}

impl Iterator for Unpack {
    type Item = Result<Bytes, UnpackError>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at.take()?;
        match self.packing {
            Packing::Lines => Some(Ok(self.next_line(at))),
            Packing::LengthDelimited => self.next_delimited(at),
        }
    }
}

impl FusedIterator for Unpack {}

/// A payload of [`Packing::LengthDelimited`] that ends before its last message does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnpackError {
    at: usize,
    missing: usize,
}

impl UnpackError {
    /// Returns where the message begins that is not complete, in bytes.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Returns how many bytes are missing at least.
    pub fn missing(&self) -> usize {
        self.missing
    }
}

impl fmt::Display for UnpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the payload ends {} bytes before the message at byte {} is complete",
            self.missing, self.at
        )
    }
}

impl Error for UnpackError {}
