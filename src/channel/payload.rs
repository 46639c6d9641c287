//! What can be sent as one message, and how its bytes are accessed.

use std::borrow::Cow;
use std::mem;

use bytes::{Bytes, BytesMut};

/// Bytes that can be sent as one message.
///
/// Borrowed payloads (`&[u8]`, `&str`, …) and arrays are always copied: into the segment, or into an allocation of
/// their own if they are longer than a segment.
///
/// Owned payloads (`Vec<u8>`, `String`, `Bytes`, `BytesMut`, an owned `Cow`, …) and `&Bytes` are copied into the
/// segment while they are small. From 32 KiB on, or if they are longer than a segment, they are *external*: they
/// travel by reference count and are not copied. A vector, string or `BytesMut` of which less than half is used is
/// shrunk or copied first, so that no memory is held that the channel does not count.
///
/// A `Bytes` that is external counts with its length. If it is a slice of a larger allocation, that whole allocation
/// lives until the slice is dropped.
///
/// A send that is refused returns an owned payload in its error. A borrowed one is still in the hands of the caller, so its
/// error has no lifetime and works with `?`, also in functions that return `anyhow::Result` or `Box<dyn Error>`.
///
/// This trait is sealed and cannot be implemented outside of this crate.
///
/// # Examples
///
/// ```
/// # use turbostream::{Sender, TrySendError};
/// async fn send_lines(tx: &Sender, text: String) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
///     for line in text.lines() {
///         tx.send(line).await?;
///     }
///     Ok(())
/// }
/// # #[tokio::main] async fn main() {
/// let (tx, rx) = turbostream::channel();
/// send_lines(&tx, String::from("one\ntwo")).await.unwrap();
/// drop(rx);
/// assert_eq!(tx.try_send("borrowed"), Err(TrySendError::Closed(())));
/// assert_eq!(tx.try_send(String::from("owned")), Err(TrySendError::Closed(String::from("owned"))));
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent as a message",
    label = "not bytes",
    note = "messages are bytes: serialize the value first, or write it in place with `Sender::send_with`"
)]
pub trait Payload: sealed::Sealed {
    /// What a refused send returns: an owned payload or an array itself, the owned form of a `Cow`, and `()` for a
    /// reference.
    type Returned: Send + Sync + 'static;

    /// Converts the payload to what a refused send returns.
    fn into_returned(self) -> Self::Returned;
}

pub(crate) mod sealed {
    use bytes::Bytes;

    pub trait Sealed: Sized {
        /// Whether [`take_bytes`](Self::take_bytes) copies nothing, but for a vector or buffer that it shrinks.
        fn is_owned(&self) -> bool;
        fn as_slice(&self) -> &[u8];
        /// Returns the bytes with a reference count.
        ///
        /// Copies borrowed bytes, and clones a `&Bytes`. Any other owned payload is empty afterwards.
        fn take_bytes(&mut self) -> Bytes;
    }
}

macro_rules! payload {
    ($($ty:ty, owned: $owned:literal, returns $returned:ident, |$this:ident| $slice:expr, $bytes:expr;)*) => {$(
        impl Payload for $ty {
            type Returned = payload!(@type $returned $ty);
            fn into_returned(self) -> Self::Returned {
                payload!(@value $returned self)
            }
        }
        impl sealed::Sealed for $ty {
            #[inline(always)]
            fn is_owned(&self) -> bool {
                $owned
            }
            #[inline]
            fn as_slice(&self) -> &[u8] {
                let $this = self;
                $slice
            }
            #[inline]
            fn take_bytes(&mut self) -> Bytes {
                let $this = self;
                $bytes
            }
        }
    )*};
    (@type itself $ty:ty) => { $ty };
    (@type nothing $ty:ty) => { () };
    (@value itself $this:expr) => { $this };
    (@value nothing $this:expr) => {{
        _ = $this;
    }};
}

/// Converts a vector, and frees its unused capacity if that is more than half.
///
/// Otherwise a vector of much more capacity than length would hold memory that the channel does not count.
fn trimmed(mut vec: Vec<u8>) -> Bytes {
    if vec.capacity() / 2 > vec.len() {
        vec.shrink_to_fit();
    }
    Bytes::from(vec)
}

/// Freezes a buffer, or copies it if its unused capacity is more than half; see [`trimmed`].
fn frozen(buffer: BytesMut) -> Bytes {
    if buffer.capacity() / 2 > buffer.len() { Bytes::copy_from_slice(&buffer) } else { buffer.freeze() }
}

payload! {
    &[u8], owned: false, returns nothing, |this| this, Bytes::copy_from_slice(this);
    &str, owned: false, returns nothing, |this| this.as_bytes(), Bytes::copy_from_slice(this.as_bytes());
    &Vec<u8>, owned: false, returns nothing, |this| this, Bytes::copy_from_slice(this);
    &String, owned: false, returns nothing, |this| this.as_bytes(), Bytes::copy_from_slice(this.as_bytes());
    &Bytes, owned: true, returns nothing, |this| this, this.clone();
    Vec<u8>, owned: true, returns itself, |this| this, trimmed(mem::take(this));
    Box<[u8]>, owned: true, returns itself, |this| this, Bytes::from(mem::take(this));
    String, owned: true, returns itself, |this| this.as_bytes(), trimmed(mem::take(this).into_bytes());
    Box<str>, owned: true, returns itself, |this| this.as_bytes(), trimmed(mem::take(this).into_string().into_bytes());
    Bytes, owned: true, returns itself, |this| this, mem::take(this);
    BytesMut, owned: true, returns itself, |this| this, frozen(mem::take(this));
}

impl<const N: usize> Payload for &[u8; N] {
    type Returned = ();
    fn into_returned(self) {}
}
impl<const N: usize> sealed::Sealed for &[u8; N] {
    #[inline(always)]
    fn is_owned(&self) -> bool {
        false
    }
    #[inline]
    fn as_slice(&self) -> &[u8] {
        *self
    }
    fn take_bytes(&mut self) -> Bytes {
        Bytes::copy_from_slice(*self)
    }
}

impl<const N: usize> Payload for [u8; N] {
    type Returned = Self;
    fn into_returned(self) -> Self {
        self
    }
}
impl<const N: usize> sealed::Sealed for [u8; N] {
    #[inline(always)]
    fn is_owned(&self) -> bool {
        false
    }
    #[inline]
    fn as_slice(&self) -> &[u8] {
        self
    }
    fn take_bytes(&mut self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl Payload for Cow<'_, [u8]> {
    type Returned = Vec<u8>;
    fn into_returned(self) -> Vec<u8> {
        self.into_owned()
    }
}
impl sealed::Sealed for Cow<'_, [u8]> {
    #[inline(always)]
    fn is_owned(&self) -> bool {
        matches!(self, Cow::Owned(_))
    }
    #[inline]
    fn as_slice(&self) -> &[u8] {
        self
    }
    fn take_bytes(&mut self) -> Bytes {
        match self {
            Cow::Owned(owned) => owned.take_bytes(),
            Cow::Borrowed(borrowed) => borrowed.take_bytes(),
        }
    }
}

impl Payload for Cow<'_, str> {
    type Returned = String;
    fn into_returned(self) -> String {
        self.into_owned()
    }
}
impl sealed::Sealed for Cow<'_, str> {
    #[inline(always)]
    fn is_owned(&self) -> bool {
        matches!(self, Cow::Owned(_))
    }
    #[inline]
    fn as_slice(&self) -> &[u8] {
        self.as_bytes()
    }
    fn take_bytes(&mut self) -> Bytes {
        match self {
            Cow::Owned(owned) => owned.take_bytes(),
            Cow::Borrowed(borrowed) => borrowed.take_bytes(),
        }
    }
}
