//! What can be sent: borrowed bytes are copied, large owned ones travel by reference count.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

/// Bytes that can be sent as one message.
///
/// Borrowed payloads (`&[u8]`, `&[u8; N]`, `&str`, …) are always copied. Owned ones (`Vec<u8>`, `String`,
/// `Bytes`, `BytesMut`, …) are copied while small; from 32 KiB on, or when longer than a segment, they travel
/// by reference count and are never copied.
///
/// The trait is sealed: it cannot be implemented outside of this crate.
pub trait Payload: sealed::Sealed {}

pub(crate) mod sealed {
    use bytes::Bytes;

    pub trait Sealed: Sized {
        /// Whether the bytes can move into a [`Bytes`] without being copied.
        const OWNED: bool;
        fn as_slice(&self) -> &[u8];
        /// The same bytes behind a reference count; copies them once where they are only borrowed.
        fn into_bytes(self) -> Bytes;
    }
}

macro_rules! payload {
    ($($ty:ty, owned: $owned:literal, |$this:ident| $slice:expr, $bytes:expr;)*) => {$(
        impl Payload for $ty {}
        impl sealed::Sealed for $ty {
            const OWNED: bool = $owned;
            #[inline]
            fn as_slice(&self) -> &[u8] {
                let $this = self;
                $slice
            }
            fn into_bytes(self) -> Bytes {
                let $this = self;
                $bytes
            }
        }
    )*};
}

/// A vector that holds far more memory than bytes would evade the channel's accounting: it is trimmed.
fn trimmed(mut vec: Vec<u8>) -> Bytes {
    if vec.capacity() / 2 > vec.len() {
        vec.shrink_to_fit();
    }
    Bytes::from(vec)
}

payload! {
    &[u8], owned: false, |this| this, Bytes::copy_from_slice(this);
    &str, owned: false, |this| this.as_bytes(), Bytes::copy_from_slice(this.as_bytes());
    &Vec<u8>, owned: false, |this| this, Bytes::copy_from_slice(this);
    &String, owned: false, |this| this.as_bytes(), Bytes::copy_from_slice(this.as_bytes());
    &Bytes, owned: true, |this| this, this.clone();
    Vec<u8>, owned: true, |this| this, trimmed(this);
    Box<[u8]>, owned: true, |this| this, Bytes::from(this);
    String, owned: true, |this| this.as_bytes(), trimmed(this.into_bytes());
    Box<str>, owned: true, |this| this.as_bytes(), trimmed(this.into_string().into_bytes());
    Bytes, owned: true, |this| this, this;
    BytesMut, owned: true, |this| this, this.freeze();
}

impl<const N: usize> Payload for &[u8; N] {}
impl<const N: usize> sealed::Sealed for &[u8; N] {
    const OWNED: bool = false;
    #[inline]
    fn as_slice(&self) -> &[u8] {
        *self
    }
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl<const N: usize> Payload for [u8; N] {}
impl<const N: usize> sealed::Sealed for [u8; N] {
    const OWNED: bool = false;
    #[inline]
    fn as_slice(&self) -> &[u8] {
        self
    }
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(&self)
    }
}

impl Payload for Cow<'_, [u8]> {}
impl sealed::Sealed for Cow<'_, [u8]> {
    const OWNED: bool = false;
    #[inline]
    fn as_slice(&self) -> &[u8] {
        self
    }
    fn into_bytes(self) -> Bytes {
        trimmed(self.into_owned())
    }
}

impl Payload for Cow<'_, str> {}
impl sealed::Sealed for Cow<'_, str> {
    const OWNED: bool = false;
    #[inline]
    fn as_slice(&self) -> &[u8] {
        self.as_bytes()
    }
    fn into_bytes(self) -> Bytes {
        trimmed(self.into_owned().into_bytes())
    }
}
