//! Every payload type: what arrives, and whether it was copied.
#![allow(clippy::needless_borrows_for_generic_args, reason = "references are tested as payloads")]

use std::borrow::Cow;

use crate::common::paused;
use bytes::{Bytes, BytesMut};
use turbostream::{Payload, ReadMode, Receiver, Sender};

const SEGMENT_BYTES: usize = 64 << 10;
/// Always copied; external if owned; external always, because it exceeds a segment.
const SMALL: usize = 100;
const MEDIUM: usize = 40_000;
const LARGE: usize = 100_000;

fn channel() -> (Sender, Receiver) {
    turbostream::builder().segment_bytes(SEGMENT_BYTES).read_mode(ReadMode::ZeroCopy).build().expect("valid")
}

/// Returns `len` printable bytes, so that string payloads can be tested too.
fn text(len: usize) -> String {
    (0..len).map(|at| char::from(b'a' + (at * at % 26) as u8)).collect()
}

/// Sends `payload`, checks the statistics and returns the received message.
fn round_trip<P: Payload>(kind: &str, owned: bool, payload: P, len: usize) -> Bytes {
    let (tx, mut rx) = channel();
    assert!(tx.try_send(payload).is_ok(), "{kind} of {len} bytes: room");
    let external = len > SEGMENT_BYTES || owned && len == MEDIUM;
    let stats = tx.monitor().stats();
    assert_eq!(stats.external_bytes, if external { len } else { 0 }, "{kind} of {len} bytes");
    assert_eq!(stats.queued_bytes, len as u64, "{kind} of {len} bytes");
    let received = rx.try_recv().expect("a queued message");
    assert_eq!(received, text(len), "{kind} of {len} bytes");
    received
}

fn round_trip_array<const N: usize>() {
    let array: [u8; N] = text(N).into_bytes().try_into().expect("an array of N bytes");
    round_trip("a reference to an array", false, &array, N);
    round_trip("an array", false, array, N);
}

#[test]
fn every_payload_type_arrives_and_large_owned_ones_are_not_copied() {
    paused(async {
        for len in [0, SMALL, MEDIUM, LARGE] {
            let string = text(len);
            let bytes = Bytes::from(string.clone());
            round_trip("a slice", false, string.as_bytes(), len);
            round_trip("a string slice", false, string.as_str(), len);
            round_trip("a reference to a vector", false, &string.clone().into_bytes(), len);
            round_trip("a reference to a string", false, &string, len);
            round_trip("a borrowed slice in a Cow", false, Cow::Borrowed(string.as_bytes()), len);
            round_trip("a borrowed string in a Cow", false, Cow::Borrowed(string.as_str()), len);
            round_trip("a vector", true, string.clone().into_bytes(), len);
            round_trip("a string", true, string.clone(), len);
            round_trip("a boxed slice", true, string.clone().into_bytes().into_boxed_slice(), len);
            round_trip("a boxed string slice", true, string.clone().into_boxed_str(), len);
            round_trip("an owned slice in a Cow", true, Cow::<[u8]>::Owned(string.clone().into_bytes()), len);
            round_trip("an owned string in a Cow", true, Cow::<str>::Owned(string.clone()), len);
            round_trip("a buffer", true, BytesMut::from(bytes.as_ref()), len);
            for received in [
                round_trip("a reference to bytes", true, &bytes, len),
                round_trip("bytes", true, bytes.clone(), len),
            ] {
                assert!(len < MEDIUM || received.as_ptr() == bytes.as_ptr(), "not copied");
            }
        }
        round_trip_array::<0>();
        round_trip_array::<SMALL>();
        round_trip_array::<MEDIUM>();
        round_trip_array::<LARGE>();
    });
}

/// An external payload counts its length against `max_bytes`, so its capacity must not exceed it much.
#[test]
fn vec_with_excess_capacity_is_trimmed() {
    paused(async {
        for (capacity, most) in [(5 * MEDIUM, 2 * MEDIUM), (MEDIUM + SMALL, MEDIUM + SMALL)] {
            let mut vec = Vec::with_capacity(capacity);
            vec.extend_from_slice(text(MEDIUM).as_bytes());
            let before = vec.capacity();
            let received = round_trip("a vector", true, vec, MEDIUM);
            let kept = received.try_into_mut().expect("the only reference").capacity();
            assert!(kept <= most.max(MEDIUM), "{kept} bytes of {before}");
            assert!(before > 2 * MEDIUM || kept == before, "{kept} bytes of {before}: must not be trimmed");
        }
    });
}
