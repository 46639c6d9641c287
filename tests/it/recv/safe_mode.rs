//! What a kept message pins in Safe mode: nothing below 1 KiB, a segment while it is valid up to 32 KiB.

use std::time::Duration;

use bytes::Bytes;
use crate::common::{advance, check, message, ms, paused};
use futures::SinkExt;
use turbostream::{Builder, ReadMode, Receiver, Sender};

const KIB: usize = 1 << 10;
const SEGMENT: usize = (256 * KIB) + 8 * 512 + 128;

fn safe() -> Builder {
    turbostream::builder()
        .segment_bytes(256 * KIB)
        .segment_messages(512)
        .max_bytes(8 * SEGMENT)
        .read_mode(ReadMode::Safe)
}

/// Sends one message by copy, as a slice; reads it back.
async fn pass(tx: &Sender, rx: &Receiver, len: usize) -> Bytes {
    tx.send(&message(0, 0, len)[..]).await.expect("open");
    let got = rx.recv().await.expect("open");
    assert_eq!(check(&got), Some((0, 0)));
    got
}

fn lent(tx: &Sender) -> usize {
    tx.monitor().stats().lent_bytes
}

#[test]
fn below_1_kib_a_kept_message_pins_nothing() {
    paused(async {
        let (tx, rx) = safe().build().expect("valid");
        for len in [16, 100, KIB - 1] {
            let kept = pass(&tx, &rx, len).await;
            assert_eq!(lent(&tx), 0, "{len} bytes");
            drop(pass(&tx, &rx, len).await);
            assert_eq!(check(&kept), Some((0, 0)));
        }
        // Kept ones never keep a sender waiting, however many went through since.
        let mut kept = Vec::new();
        for round in 0..200 {
            for number in 0..100 {
                tx.try_send(&message(round, number, 900)[..]).expect("room");
            }
            kept.push(rx.recv().await.expect("open"));
            while rx.try_recv().is_ok() {}
        }
        for (round, m) in kept.iter().enumerate() {
            assert_eq!(check(m), Some((round as u32, 0)));
        }
        assert_eq!(lent(&tx), 0);
    });
}

#[test]
fn from_1_kib_a_kept_message_lends_its_segment() {
    paused(async {
        let (tx, rx) = safe().build().expect("valid");
        for len in [KIB, 5 * KIB, 32 * KIB] {
            let kept = pass(&tx, &rx, len).await;
            assert_eq!(lent(&tx), SEGMENT, "{len} bytes");
            let clone = kept.slice(5..);
            drop(kept);
            assert_eq!(lent(&tx), SEGMENT, "a slice of it is still there");
            drop(clone);
            assert_eq!(lent(&tx), 0, "{len} bytes");
        }
    });
}

#[test]
fn zero_copy_lends_every_length() {
    paused(async {
        let (tx, rx) = safe().read_mode(ReadMode::ZeroCopy).build().expect("valid");
        for len in [16, 1000, 5 * KIB, 100 * KIB] {
            let kept = pass(&tx, &rx, len).await;
            assert_eq!(lent(&tx), SEGMENT, "{len} bytes");
            drop(kept);
            assert_eq!(lent(&tx), 0);
        }
        rx.set_read_mode(ReadMode::Safe);
        let kept = pass(&tx, &rx, 16).await;
        assert_eq!((lent(&tx), kept.len()), (0, 16), "the mode can change");
        rx.set_read_mode(ReadMode::ZeroCopy);
        let kept = pass(&tx, &rx, 16).await;
        assert_eq!((lent(&tx), kept.len()), (SEGMENT, 16), "and change back");
    });
}

#[test]
fn lend_ttl_ends_the_lending_of_middle_lengths_only() {
    paused(async {
        let (mut tx, rx) = safe().lend_ttl(ms(100)).build().expect("valid");
        for len in [2 * KIB, 2 * KIB, 2 * KIB, 40 * KIB] {
            tx.send(&message(0, len as u32, len)[..]).await.expect("open");
        }
        SinkExt::flush(&mut tx).await.expect("open"); // sealed now
        advance(ms(90)).await;
        let young = rx.recv().await.expect("open");
        advance(ms(20)).await;
        let old = [rx.recv().await.expect("open"), rx.recv().await.expect("open")];
        let large = rx.recv().await.expect("open");
        assert_eq!(lent(&tx), SEGMENT);
        drop(large);
        assert_eq!(lent(&tx), SEGMENT, "within its time a message of 2 KiB is lent");
        assert_eq!(check(&young), Some((0, 2048)));
        drop(young);
        assert_eq!(lent(&tx), 0, "past its time it is a copy");
        assert!(old.iter().all(|m| check(m) == Some((0, 2048))));

        for (len, lent_bytes) in [(32 * KIB, 0), (32 * KIB + 1, SEGMENT), (40 * KIB, SEGMENT)] {
            tx.send(&message(0, 1, len)[..]).await.expect("open");
            SinkExt::flush(&mut tx).await.expect("open");
            advance(Duration::from_secs(10)).await;
            let large = rx.recv().await.expect("open");
            assert_eq!(lent(&tx), lent_bytes, "above 32 KiB it is lent whatever its age, {len}");
            drop(large);
            assert_eq!(lent(&tx), 0);
        }
    });
}

#[test]
fn the_default_lend_ttl_is_five_seconds() {
    paused(async {
        let (mut tx, rx) = safe().build().expect("valid");
        for (age, expected) in [(Duration::from_nanos(4_999_999_999), SEGMENT), (Duration::from_secs(5), 0)] {
            tx.send(&message(0, 0, 2 * KIB)[..]).await.expect("open");
            SinkExt::flush(&mut tx).await.expect("open");
            advance(age).await;
            let kept = rx.recv().await.expect("open");
            assert_eq!((lent(&tx), kept.len()), (expected, 2 * KIB), "{age:?} after its sealing");
        }
    });
}

/// However old the channel is.
#[test]
fn lend_ttl_begins_when_a_message_is_switched() {
    paused(async {
        let (tx, rx) = safe().build().expect("valid");
        for _ in 0..3 {
            advance(Duration::from_secs(3600)).await;
            let kept = pass(&tx, &rx, 2 * KIB).await;
            assert_eq!((lent(&tx), kept.len()), (SEGMENT, 2 * KIB));
        }
    });
}

#[test]
fn keeping_everything_lends_half_of_max_bytes_and_never_blocks_a_sender() {
    paused(async {
        let (tx, rx) = safe().build().expect("valid");
        let mut kept = Vec::new();
        for number in 0..4 * 8 * 128 {
            tx.try_send(&message(0, number, 2 * KIB)[..]).expect("room, for the readers get copies");
            kept.push(rx.recv().await.expect("open"));
            assert!(lent(&tx) <= 5 * SEGMENT, "half of max_bytes and the segment that reached it");
        }
        assert!(lent(&tx) >= 3 * SEGMENT);
        for (number, m) in kept.iter().enumerate() {
            assert_eq!(check(m), Some((0, number as u32)));
        }
        kept.clear();
        assert_eq!(lent(&tx), 0);
        let again = pass(&tx, &rx, 2 * KIB).await;
        assert_eq!((lent(&tx), again.len()), (SEGMENT, 2 * KIB), "there is room to lend again");
    });
}

#[test]
fn a_slice_reused_after_its_send_is_not_torn() {
    paused(async {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let (tx, rx) = turbostream::builder().read_mode(mode).build().expect("valid");
            for len in [16, 100, 2 * KIB, 40 * KIB, 300 * KIB] {
                let mut slice = message(7, 7, len);
                tx.send(&slice[..]).await.expect("open");
                slice.fill(0xff);
                slice.clear();
                slice.shrink_to_fit();
                assert_eq!(check(&rx.recv().await.expect("open")), Some((7, 7)), "{mode:?} {len}");
            }
        }
    });
}
