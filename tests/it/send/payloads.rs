//! Every kind of payload: what arrives, and whether it was copied.
#![allow(clippy::needless_borrows_for_generic_args, reason = "references are what is passed here")]

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use crate::common::paused;
use turbostream::{Payload, ReadMode, Receiver, Sender};

const SEGMENT_BYTES: usize = 64 << 10;
/// Less than what travels by reference if it is owned; more than that; more than a segment holds.
const SMALL: usize = 100;
const MEDIUM: usize = 40_000;
const LARGE: usize = 100_000;

fn channel() -> (Sender, Receiver) {
    turbostream::builder().segment_bytes(SEGMENT_BYTES).read_mode(ReadMode::ZeroCopy).build().expect("valid")
}

/// Printable, so that there is a string of it too.
fn text(len: usize) -> String {
    (0..len).map(|at| char::from(b'a' + (at * at % 26) as u8)).collect()
}

/// Sends `payload`, and returns what arrives.
fn pass<P: Payload>(what: &str, owned: bool, payload: P, len: usize) -> Bytes {
    let (tx, rx) = channel();
    assert!(tx.try_send(payload).is_ok(), "{what} of {len} bytes: there is room");
    let by_reference = len > SEGMENT_BYTES || owned && len == MEDIUM;
    let stats = tx.monitor().stats();
    assert_eq!(stats.referenced_bytes, if by_reference { len } else { 0 }, "{what} of {len} bytes");
    assert_eq!(stats.queued_bytes, len as u64, "{what} of {len} bytes");
    let received = rx.try_recv().expect("it is there");
    assert_eq!(received, text(len), "{what} of {len} bytes");
    received
}

fn pass_array<const N: usize>() {
    let array: [u8; N] = text(N).into_bytes().try_into().expect("as long");
    pass("a reference to an array", false, &array, N);
    pass("an array", false, array, N);
}

#[test]
fn every_kind_arrives_and_what_is_owned_and_long_is_not_copied() {
    paused(async {
        for len in [0, SMALL, MEDIUM, LARGE] {
            let string = text(len);
            let bytes = Bytes::from(string.clone());
            pass("a slice", false, string.as_bytes(), len);
            pass("a string slice", false, string.as_str(), len);
            pass("a reference to a vector", false, &string.clone().into_bytes(), len);
            pass("a reference to a string", false, &string, len);
            pass("a borrowed slice", false, Cow::Borrowed(string.as_bytes()), len);
            pass("a borrowed string slice", false, Cow::Borrowed(string.as_str()), len);
            pass("a vector", true, string.clone().into_bytes(), len);
            pass("a string", true, string.clone(), len);
            pass("a boxed slice", true, string.clone().into_bytes().into_boxed_slice(), len);
            pass("a boxed string slice", true, string.clone().into_boxed_str(), len);
            pass("a slice that may be owned", true, Cow::<[u8]>::Owned(string.clone().into_bytes()), len);
            pass("a string slice that may be owned", true, Cow::<str>::Owned(string.clone()), len);
            pass("a buffer", true, BytesMut::from(bytes.as_ref()), len);
            for received in
                [pass("a reference to bytes", true, &bytes, len), pass("bytes", true, bytes.clone(), len)]
            {
                assert!(len < MEDIUM || received.as_ptr() == bytes.as_ptr(), "not copied");
            }
        }
        pass_array::<0>();
        pass_array::<SMALL>();
        pass_array::<MEDIUM>();
        pass_array::<LARGE>();
    });
}

/// A message that travels by reference counts as many bytes as it has.
#[test]
fn a_vector_with_far_more_memory_than_bytes_is_trimmed() {
    paused(async {
        for (capacity, most) in [(5 * MEDIUM, 2 * MEDIUM), (MEDIUM + SMALL, MEDIUM + SMALL)] {
            let mut vec = Vec::with_capacity(capacity);
            vec.extend_from_slice(text(MEDIUM).as_bytes());
            let before = vec.capacity();
            let received = pass("a vector", true, vec, MEDIUM);
            let kept = received.try_into_mut().expect("nobody else has it").capacity();
            assert!(kept <= most.max(MEDIUM), "{kept} bytes of {before}");
            assert!(before > 2 * MEDIUM || kept == before, "{kept} bytes of {before}: left alone");
        }
    });
}
