//! Packing, and taking apart.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::timeout;
use turbostream::forward::{ForwardErrorKind, Packing, unpack};

use crate::common::{ms, paused, settle};
use crate::engine::{Fate, World};
use crate::{HOUR, Rejected, forwarder, send_numbered};

const BOTH: [Packing; 2] = [Packing::Lines, Packing::LengthDelimited];

#[test]
fn a_pack_holds_what_is_ready() {
    for packing in BOTH {
        paused(async move {
            let world = World::default();
            let (tx, forwarder) = forwarder(&world);
            let messages = send_numbered(&tx, 100).await;
            let handle = forwarder.pack(packing, 1 << 16).spawn();
            handle.flush().await.unwrap();
            assert_eq!(world.lock().publishes, 1);
            assert_eq!(world.lock().messages(Some(packing)), messages);
            tx.send("alone").await.unwrap();
            assert_eq!(timeout(ms(1), handle.flush()).await, Ok(Ok(())), "it waits for no more");
            assert_eq!(world.lock().stored[1].sequence, 101);
            assert_eq!((handle.stats().confirmed, handle.stats().in_flight_bytes), (101, 0));
            assert_eq!(handle.stats().peak_in_flight_messages, 100);
        });
    }
}

#[test]
fn a_pack_ends_at_its_size_and_at_that_of_the_engine_and_where_the_subject_changes() {
    for packing in BOTH {
        paused(async move {
            let world = World::default();
            let (tx, forwarder) = forwarder(&world);
            let messages = send_numbered(&tx, 20).await;
            tx.send([b'x'; 500]).await.unwrap();
            let handle = forwarder.pack(packing, 70).spawn();
            handle.flush().await.unwrap();
            let longest = world.lock().stored.iter().map(|record| record.payload.len()).max().unwrap();
            assert_eq!(longest, if packing == Packing::Lines { 500 } else { 504 });
            let packs = 20_usize.div_ceil(if packing == Packing::Lines { 10 } else { 7 });
            assert_eq!(world.lock().stored.len(), packs + 1);
            assert_eq!(world.lock().messages(Some(packing))[..20], messages);

            // The engine takes less, and has a subject for each last digit.
            world.lock().max_payload = Some(25);
            for message in ["000007", "100007", "200007", "300007", "000008", "000009", "000009"] {
                tx.send(message).await.unwrap();
            }
            world.lock().stored.clear();
            handle.flush().await.unwrap();
            let messages: Vec<_> = world.lock().stored.iter().map(|record| record.messages).collect();
            let expected: &[usize] = if packing == Packing::Lines { &[3, 1, 1, 2] } else { &[2, 2, 1, 2] };
            assert_eq!(messages, expected);
        });
    }
}

#[test]
fn a_pack_that_is_published_again_has_the_same_content() {
    paused(async {
        let world = World::with_fates([Fate::NoConfirmation, Fate::Lost]);
        let (tx, forwarder) = forwarder(&world);
        send_numbered(&tx, 3).await;
        let handle = forwarder.pack(Packing::Lines, 1000).confirm_timeout(ms(100)).spawn();
        settle().await;
        let messages = send_numbered(&tx, 4).await;
        timeout(HOUR, handle.flush()).await.unwrap().unwrap();
        assert_eq!(world.lock().published, [1, 4, 1, 4]);
        let stats = handle.stats();
        assert_eq!((stats.confirmed, stats.duplicates, stats.retried), (7, 3, 7));
        assert_eq!(world.lock().messages(Some(Packing::Lines))[3..], messages);
    });
}

#[test]
fn of_a_rejected_pack_only_the_bad_message_is_rejected() {
    for (packing, is_ordered) in [(BOTH[0], false), (BOTH[1], false), (BOTH[0], true), (BOTH[1], true)] {
        paused(async move {
            let world = World::default();
            world.lock().is_ordered = is_ordered;
            let (tx, forwarder) = forwarder(&world);
            let rejected = Rejected::default();
            for message in ["one", "two", "bad!!!", "four", "five"] {
                tx.send(message).await.unwrap();
            }
            let forwarder = if is_ordered { forwarder.strict_order() } else { forwarder };
            let handle = forwarder.on_rejected(rejected.callback()).pack(packing, 1000).spawn();
            let report = timeout(HOUR, handle.shutdown()).await.unwrap().unwrap();
            assert_eq!(world.lock().messages(Some(packing)), ["one", "two", "four", "five"]);
            assert_eq!(rejected.messages(), [b"bad!!!"]);
            assert_eq!((report.stats.confirmed, report.stats.rejected), (4, 1));
            assert_eq!((report.stats.in_flight_messages, report.stats.in_flight_bytes), (0, 0));
            assert_eq!(world.lock().published, [1, 1, 2, 3, 4, 5]);
        });
    }
}

#[test]
fn packs_that_come_back_are_taken_apart() {
    for packing in BOTH {
        paused(async move {
            let world = World::always(Fate::Lost);
            let (tx, forwarder) = forwarder(&world);
            let messages = send_numbered(&tx, 9).await;
            let handle = forwarder.pack(packing, 35).spawn();
            let error = timeout(HOUR, handle.shutdown_timeout(ms(10))).await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ForwardErrorKind::TimedOut);
            assert_eq!(error.unconfirmed().messages, messages);
        });
    }
}

#[test]
fn messages_gather_while_no_pack_can_be_published() {
    for cause in 0..4 {
        paused(async move {
            let world = World::default();
            let (tx, forwarder) = forwarder(&world);
            let forwarder = forwarder.pack(Packing::LengthDelimited, 1 << 16);
            let handle = if cause == 0 { forwarder.strict_order() } else { forwarder }.spawn();
            match cause {
                0 => world.lock().fates.push_back(Fate::LateConfirmation(100)),
                1 => world.lock().disconnect(),
                2 => world.lock().set_hangs(true),
                _ => world.lock().fates.push_back(Fate::Retry),
            }
            for _ in 0..50 {
                tx.send("trickles").await.unwrap();
                settle().await;
            }
            assert_eq!(handle.stats().in_flight_messages, 1);
            world.lock().heal();
            timeout(HOUR, handle.flush()).await.unwrap().unwrap();
            let packs: Vec<_> = world.lock().stored.iter().map(|record| record.messages).collect();
            assert_eq!(packs, [1, 49], "cause {cause}");
        });
    }
}

#[test]
fn a_full_window_is_not_filled_with_small_packs() {
    paused(async {
        let world = World::always(Fate::LateConfirmation(10));
        world.lock().fates.extend((0..100).map(|later| Fate::LateConfirmation(10 + later)));
        let (tx, forwarder) = forwarder(&world);
        let handle = forwarder.in_flight(100, 1 << 20).pack(Packing::LengthDelimited, 1 << 16).spawn();
        // Many packs of one message each.
        for _ in 0..100 {
            tx.send("small").await.unwrap();
            settle().await;
        }
        let before = world.lock().publishes;
        tx.send_many(vec!["x"; 1000]).await.unwrap();
        handle.flush().await.unwrap();
        let packs = world.lock().publishes - before;
        assert!(packs <= 1000 / 25 + 2, "{packs} packs");
    });
}

#[test]
fn the_window_limits_the_messages_of_packs() {
    for packing in BOTH {
        paused(async move {
            let world = World::always(Fate::LateConfirmation(10));
            let (tx, forwarder) = forwarder(&world);
            tx.send_many(vec!["x"; 100]).await.unwrap();
            let report =
                forwarder.in_flight(10, 1 << 20).pack(packing, 1 << 16).spawn().shutdown().await.unwrap();
            assert_eq!((report.stats.confirmed, report.stats.peak_in_flight_messages), (100, 10));
        });
    }
}

#[test]
fn the_window_limits_the_bytes_of_packs() {
    let cases = [
        // The second pack takes what is left: a quarter.
        (8, 60, 80, 72),
        // Less than a quarter is left, so no second pack begins, though a message would fit.
        (8, 60, 76, 60),
        // A third message of 24 bytes does not fit, though more than a quarter is left.
        (20, 24, 70, 48),
    ];
    for (len, max_pack, max_bytes, expected) in cases {
        paused(async move {
            let world = World::always(Fate::LateConfirmation(10));
            let (tx, forwarder) = forwarder(&world);
            tx.send_many(vec![vec![b'x'; len]; 20]).await.unwrap();
            let forwarder = forwarder.in_flight(1000, max_bytes).pack(Packing::LengthDelimited, max_pack);
            let report = forwarder.spawn().shutdown().await.unwrap();
            assert_eq!((report.stats.confirmed, report.stats.peak_in_flight_bytes), (20, expected));
        });
    }
}

#[test]
fn unpack_names_what_is_missing() {
    let whole = Bytes::from_static(b"\0\0\0\x03one\0\0\0\0\0\0\0\x05three");
    let messages: Vec<_> = unpack(Packing::LengthDelimited, &whole).map(Result::unwrap).collect();
    assert_eq!(messages, ["one", "", "three"]);
    assert_eq!(messages[0].as_ptr(), whole[4..].as_ptr(), "no copy");
    for end in 1..whole.len() {
        let last = unpack(Packing::LengthDelimited, &whole.slice(..end)).last().unwrap();
        let error = match end {
            7 | 11 => {
                assert!(last.is_ok());
                continue;
            }
            _ => last.unwrap_err(),
        };
        let (start, len) = [(0, 3), (7, 0), (11, 5)].into_iter().rfind(|(start, _)| *start < end).unwrap();
        // As long as the length is not complete, nothing is known of the message.
        let known = if end < start + 4 { start + 4 } else { start + 4 + len };
        assert_eq!((error.position(), error.missing()), (start, known - end));
        assert!(error.to_string().contains(&format!("byte {start}")), "{error}");
    }
    assert_eq!(unpack(Packing::LengthDelimited, &Bytes::new()).count(), 0);
    let endless = Bytes::from_static(b"\xff\xff\xff\xff");
    let mut messages = unpack(Packing::LengthDelimited, &endless);
    assert_eq!(messages.next().unwrap().unwrap_err().missing(), u32::MAX as usize);
    assert!(messages.next().is_none());
}

/// Messages without a newline before their end.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let bytes = vec(prop_oneof![Just(b'a'), Just(0), Just(0xff)], 0..4);
    (bytes, any::<bool>()).prop_map(|(mut line, is_terminated)| {
        if is_terminated {
            line.push(b'\n');
        }
        line
    })
}

fn forward_and_unpack(messages: Vec<Vec<u8>>, packing: Packing, max_bytes: usize) {
    paused(async move {
        let world = World::default();
        let (tx, forwarder) = forwarder(&world);
        for message in &messages {
            tx.send(&message[..]).await.unwrap();
        }
        let handle = forwarder.pack(packing, max_bytes).spawn();
        handle.shutdown().await.unwrap();
        let world = world.lock();
        assert_eq!(world.messages(Some(packing)), messages);
        let packs: Vec<_> = world.stored.iter().map(|record| record.messages).collect();
        assert_eq!(packs, expected_packs(&messages, packing, max_bytes));
    });
}

/// Returns how many messages each pack has if all of them are there at the start, and each pack takes all that fit.
fn expected_packs(messages: &[Vec<u8>], packing: Packing, max_bytes: usize) -> Vec<usize> {
    let is_line = |message: &[u8]| message.ends_with(b"\n");
    let mut packs: Vec<Vec<&[u8]>> = Vec::new();
    for message in messages {
        if let Some(pack) = packs.last_mut() {
            let together: usize = pack.iter().chain([&&message[..]]).map(|message| message.len()).sum();
            let (is_alike, beside) = match packing {
                Packing::LengthDelimited => (true, 4 * (pack.len() + 1)),
                Packing::Lines => (
                    !pack[0].is_empty() && !message.is_empty() && is_line(pack[0]) == is_line(message),
                    if is_line(message) { 0 } else { pack.len() },
                ),
                _ => unreachable!("there are two kinds"),
            };
            if is_alike && together + beside <= max_bytes {
                pack.push(message);
                continue;
            }
        }
        packs.push(vec![message]);
    }
    packs.iter().map(Vec::len).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lines_come_back_exactly(messages in vec(line(), 0..20), max_bytes in 0..40_usize) {
        forward_and_unpack(messages, Packing::Lines, max_bytes);
    }

    #[test]
    fn any_messages_come_back_exactly_by_length(
        messages in vec(vec(any::<u8>(), 0..6), 0..20),
        max_bytes in 0..80_usize,
    ) {
        forward_and_unpack(messages, Packing::LengthDelimited, max_bytes);
    }
}

#[test]
fn a_message_with_a_newline_inside_travels_alone() {
    let bare = ["one", "two\nlines", "three", "four"];
    let terminated = ["one\n", "two\nlines\n", "three\n", "four\n"];
    let expected = [["one", "two\nlines", "three\nfour"], ["one\n", "two\nlines\n", "three\nfour\n"]];
    for (messages, expected) in [bare, terminated].into_iter().zip(expected) {
        paused(async move {
            let world = World::default();
            let (tx, forwarder) = forwarder(&world);
            for message in messages {
                tx.send(message).await.unwrap();
            }
            forwarder.pack(Packing::Lines, 1000).spawn().shutdown().await.unwrap();
            let payloads: Vec<_> = world.lock().stored.iter().map(|record| record.payload.clone()).collect();
            assert_eq!(payloads, expected);
        });
    }
}
