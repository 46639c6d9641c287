//! [`MessageRef`]: a message that a receiver lends.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use bytes::Bytes;

/// A message that a [`Receiver`](crate::Receiver) lends until its next call; returned by
/// [`Receiver::recv_ref`](crate::Receiver::recv_ref).
///
/// It derefs to the bytes of the message. Use [`into_bytes`](Self::into_bytes), or receive by
/// [`recv`](crate::Receiver::recv), to keep the message.
///
/// It borrows the receiver, so it cannot outlive the next call:
///
/// ```compile_fail,E0499
/// # #[tokio::main] async fn main() {
/// let (tx, mut rx) = turbostream::channel();
/// tx.send_many(["one", "two"]).await.unwrap();
/// let one = rx.recv_ref().await.unwrap();
/// let two = rx.recv_ref().await.unwrap();
/// println!("{}", one.len() + two.len());
/// # }
/// ```
pub struct MessageRef<'a>(Message<'a>);

enum Message<'a> {
    /// In its segment, to which the receiver holds a reference.
    InPlace(&'a [u8]),
    /// The last message that was readable, or one that travels by reference count.
    Owned(Bytes, PhantomData<&'a [u8]>),
}

impl<'a> MessageRef<'a> {
    #[inline(always)]
    pub(super) fn in_place(bytes: &'a [u8]) -> Self {
        Self(Message::InPlace(bytes))
    }

    pub(super) fn owned(bytes: Bytes) -> Self {
        Self(Message::Owned(bytes, PhantomData))
    }

    /// Returns the message as [`Bytes`] that may be kept: a copy, unless it travels by reference count.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, mut rx) = turbostream::channel();
    /// tx.send("kept").await?;
    /// let kept = rx.recv_ref().await.unwrap().into_bytes();
    /// drop((tx, rx));
    /// assert_eq!(kept, "kept");
    /// # Ok(()) }
    /// ```
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Message::InPlace(bytes) => Bytes::copy_from_slice(bytes),
            Message::Owned(bytes, _) => bytes,
        }
    }
}

impl Deref for MessageRef<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Message::InPlace(bytes) => bytes,
            Message::Owned(bytes, _) => bytes,
        }
    }
}

impl AsRef<[u8]> for MessageRef<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Shows the length, not the message.
impl fmt::Debug for MessageRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageRef").field("len", &self.len()).finish_non_exhaustive()
    }
}
