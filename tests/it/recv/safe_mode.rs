//! Memory that a kept message pins in Safe mode: none below 1 KiB, a segment from there.

use std::time::Duration;

use crate::common::{advance, check, message, ms, paused};
use bytes::Bytes;
use futures::SinkExt;
use turbostream::{Builder, ReadMode, Receiver, Sender};

const KIB: usize = 1 << 10;
const SEGMENT: usize = (256 * KIB) + 8 * 512 + 128;

/// So little memory that the first segment has the full size.
fn safe_builder() -> Builder {
    turbostream::builder()
        .segment_bytes(256 * KIB)
        .segment_messages(512)
        .max_bytes(4 * SEGMENT)
        .read_mode(ReadMode::Safe)
}

/// Sends one message as a slice, which is copied, and receives it.
async fn round_trip(tx: &Sender, rx: &mut Receiver, len: usize) -> Bytes {
    tx.send(&message(0, 0, len)[..]).await.expect("open");
    let got = rx.recv().await.expect("open");
    assert_eq!(check(&got), Some((0, 0)));
    got
}

fn lent(tx: &Sender) -> usize {
    tx.monitor().stats().lent_bytes
}

#[test]
fn kept_message_below_1_kib_pins_no_segment() {
    paused(async {
        let (tx, mut rx) = safe_builder().build().expect("valid");
        for len in [16, 100, KIB - 1] {
            let kept = round_trip(&tx, &mut rx, len).await;
            assert_eq!(lent(&tx), 0, "{len} bytes");
            drop(round_trip(&tx, &mut rx, len).await);
            assert_eq!(check(&kept), Some((0, 0)));
        }
        // Kept messages never block a sender.
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
fn kept_message_of_at_least_1_kib_lends_its_segment() {
    paused(async {
        let (tx, mut rx) = safe_builder().build().expect("valid");
        for len in [KIB, 5 * KIB, 32 * KIB] {
            let kept = round_trip(&tx, &mut rx, len).await;
            assert_eq!(lent(&tx), SEGMENT, "{len} bytes");
            let clone = kept.slice(5..);
            drop(kept);
            assert_eq!(lent(&tx), SEGMENT, "a slice of it still exists");
            drop(clone);
            assert_eq!(lent(&tx), 0, "{len} bytes");
        }
    });
}

#[test]
fn zero_copy_mode_lends_messages_of_every_length() {
    paused(async {
        let (tx, mut rx) = safe_builder().read_mode(ReadMode::ZeroCopy).build().expect("valid");
        for len in [16, 1000, 5 * KIB, 100 * KIB] {
            let kept = round_trip(&tx, &mut rx, len).await;
            assert_eq!(lent(&tx), SEGMENT, "{len} bytes");
            drop(kept);
            assert_eq!(lent(&tx), 0);
        }
        rx.set_read_mode(ReadMode::Safe);
        let kept = round_trip(&tx, &mut rx, 16).await;
        assert_eq!((lent(&tx), kept.len()), (0, 16), "the mode can change");
        rx.set_read_mode(ReadMode::ZeroCopy);
        let kept = round_trip(&tx, &mut rx, 16).await;
        assert_eq!((lent(&tx), kept.len()), (SEGMENT, 16), "and change back");
    });
}

#[test]
fn lend_ttl_applies_only_from_1_to_32_kib() {
    paused(async {
        let (mut tx, mut rx) = safe_builder().lend_ttl(ms(100)).build().expect("valid");
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
        assert_eq!(lent(&tx), SEGMENT, "a message of 2 KiB is lent within lend_ttl");
        assert_eq!(check(&young), Some((0, 2048)));
        drop(young);
        assert_eq!(lent(&tx), 0, "a message past lend_ttl is a copy");
        assert!(old.iter().all(|m| check(m) == Some((0, 2048))));

        for (len, lent_bytes) in [(32 * KIB, 0), (32 * KIB + 1, SEGMENT), (40 * KIB, SEGMENT)] {
            tx.send(&message(0, 1, len)[..]).await.expect("open");
            SinkExt::flush(&mut tx).await.expect("open");
            advance(Duration::from_secs(10)).await;
            let large = rx.recv().await.expect("open");
            assert_eq!(lent(&tx), lent_bytes, "above 32 KiB a message is lent at any age, {len}");
            drop(large);
            assert_eq!(lent(&tx), 0);
        }
    });
}

#[test]
fn default_lend_ttl_is_five_seconds() {
    paused(async {
        let (mut tx, mut rx) = safe_builder().build().expect("valid");
        for (age, expected) in [(Duration::from_nanos(4_999_999_999), SEGMENT), (Duration::from_secs(5), 0)] {
            tx.send(&message(0, 0, 2 * KIB)[..]).await.expect("open");
            SinkExt::flush(&mut tx).await.expect("open");
            advance(age).await;
            let kept = rx.recv().await.expect("open");
            assert_eq!((lent(&tx), kept.len()), (expected, 2 * KIB), "{age:?} after its sealing");
        }
    });
}

/// The age of the channel does not count.
#[test]
fn lend_ttl_starts_at_the_switch() {
    paused(async {
        let (tx, mut rx) = safe_builder().build().expect("valid");
        for _ in 0..3 {
            advance(Duration::from_secs(3600)).await;
            let kept = round_trip(&tx, &mut rx, 2 * KIB).await;
            assert_eq!((lent(&tx), kept.len()), (SEGMENT, 2 * KIB));
        }
    });
}

#[test]
fn keeping_all_messages_lends_half_of_max_bytes_and_blocks_no_sender() {
    paused(async {
        let (tx, mut rx) = safe_builder().max_bytes(8 * SEGMENT).build().expect("valid");
        let mut kept = Vec::new();
        for number in 0..4 * 8 * 128 {
            tx.try_send(&message(0, number, 2 * KIB)[..]).expect("room, because receivers get copies");
            kept.push(rx.recv().await.expect("open"));
            assert!(lent(&tx) <= 5 * SEGMENT, "half of max_bytes and the segment that reached it");
        }
        assert!(lent(&tx) >= 3 * SEGMENT);
        for (number, m) in kept.iter().enumerate() {
            assert_eq!(check(m), Some((0, number as u32)));
        }
        kept.clear();
        assert_eq!(lent(&tx), 0);
        let again = round_trip(&tx, &mut rx, 2 * KIB).await;
        assert!(lent(&tx) > 0 && again.len() == 2 * KIB, "there is room to lend again");
    });
}

#[test]
fn slice_reused_after_send_does_not_tear_the_message() {
    paused(async {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let (tx, mut rx) = turbostream::builder().read_mode(mode).build().expect("valid");
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

#[test]
fn kept_messages_above_32_kib_stop_senders_if_they_were_borrowed() {
    paused(async {
        let (tx, mut rx) = safe_builder().max_bytes(8 * SEGMENT).build().expect("valid");
        let mut kept = Vec::new();
        while tx.try_send(&message(0, 0, 40_000)[..]).is_ok() {
            kept.push(rx.try_recv().expect("a message"));
        }
        assert!(lent(&tx) > 6 * SEGMENT && tx.is_empty(), "{:?}", tx.monitor().stats());
        drop(kept);
        // Owned ones are external, and count only while they are queued.
        let mut kept = Vec::new();
        for _ in 0..1000 {
            tx.try_send(message(0, 0, 40_000)).expect("room");
            kept.push(rx.try_recv().expect("a message"));
        }
        assert_eq!(lent(&tx), 0);
    });
}
