//! `Sender` as a `Sink`, `Receiver` and `batches` as streams, and both inside adapters of other crates.

use std::io::{Read, Seek, Write};
use std::pin::Pin;
use std::time::Duration;

use crate::common::{advance, check, current, message, multi, paused, poll_once, settle};
use bytes::Bytes;
use futures::stream::FusedStream;
use futures::{FutureExt, Sink, SinkExt, StreamExt, stream};
use tokio::io::AsyncReadExt;
use tokio_util::io::StreamReader;
use turbostream::{MessageCount, Receiver, SendError, Sender, TimeWindow, TryRecvError, TrySendError};

/// A channel that switches only on flush or close.
fn switched_on_request() -> (Sender, Receiver) {
    turbostream::builder()
        .strategy(TimeWindow(Duration::from_secs(3600)))
        .on_demand(false)
        .max_bytes(64 << 10)
        .build()
        .expect("valid")
}

fn bytes(number: u32) -> Bytes {
    Bytes::from(message(0, number, 50))
}

fn fill(tx: &Sender, sender: u32) -> u32 {
    let count = (0..).find(|&n| tx.try_send(message(sender, n, 50)).is_err()).expect("full eventually");
    while tx.try_send("").is_ok() {}
    count
}

#[test]
fn feed_sends_and_flush_switches_without_waiting_for_receivers() {
    paused(async {
        let (mut tx, mut rx) = switched_on_request();
        for number in 0..3 {
            tx.feed(bytes(number)).await.expect("open");
        }
        advance(Duration::from_secs(1)).await;
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        assert!(SinkExt::flush(&mut tx).now_or_never().expect("at once").is_ok());
        assert_eq!(rx.len(), 3, "no receiver has read yet");
        for number in 0..3 {
            assert_eq!(check(&rx.try_recv().expect("switched")), Some((0, number)));
        }
        SinkExt::send(&mut tx, bytes(3)).await.expect("open");
        assert_eq!(check(&rx.try_recv().expect("send of a sink flushes")), Some((0, 3)));
        assert!(SinkExt::flush(&mut tx).now_or_never().expect("at once").is_ok());
        assert_eq!(tx.monitor().stats().switches.total(), 2, "an empty segment is never switched");
        fill(&tx, 1);
        assert!(SinkExt::flush(&mut tx).now_or_never().expect("at once, though full").is_ok());
    });
}

#[test]
fn close_flushes_and_closes_only_this_handle() {
    paused(async {
        let (mut tx, mut rx) = switched_on_request();
        let other = tx.clone();
        tx.feed(bytes(0)).await.expect("open");
        SinkExt::close(&mut tx).await.expect("open");
        assert_eq!(check(&rx.try_recv().expect("flushed")), Some((0, 0)));
        let error = SinkExt::send(&mut tx, bytes(1)).await.expect_err("this handle is closed");
        assert_eq!(error, SendError::Closed(Bytes::new()), "not ready, so the item was not taken");
        assert_eq!(tx.start_send_unpin(bytes(1)), Err(SendError::Closed(bytes(1))));
        other.try_send(bytes(2)).expect("open");
        // Each way to send fails, though a segment has room.
        assert!(matches!(tx.send(bytes(1)).await, Err(SendError::Closed(_))));
        assert!(matches!(tx.send_with(8, |_| 8).await, Err(SendError::Closed(_))));
        assert!(matches!(tx.send_many([bytes(1)]).await, Err(SendError::Closed(_))));
        assert!(matches!(tx.try_send(bytes(1)), Err(TrySendError::Closed(_))));
        SinkExt::close(&mut tx).await.expect("a second close does nothing");
        drop(tx);
        assert!(!rx.is_closed(), "the other handle keeps it open");
        drop(other);
        assert_eq!(rx.recv().await, Some(bytes(2)));
        assert_eq!(rx.recv().await, None);

        let (mut tx, mut rx) = switched_on_request();
        tx.feed(bytes(0)).await.expect("open");
        SinkExt::close(&mut tx).await.expect("open");
        assert_eq!((rx.recv().await, rx.recv().await), (Some(bytes(0)), None), "closed by its only sender");
    });
}

#[test]
fn full_sink_waits_in_poll_ready() {
    paused(async {
        let (mut tx, mut rx) = switched_on_request();
        let count = fill(&tx, 0);
        let feeding = tokio::spawn(async move {
            tx.feed(Bytes::from(message(1, 0, 50))).await.expect("open");
            SinkExt::close(&mut tx).await
        });
        settle().await;
        assert!(!feeding.is_finished());
        let mut received = Vec::new();
        while let Some(m) = rx.recv().await {
            received.extend(check(&m));
        }
        feeding.await.expect("no panic in the feeder task").expect("open");
        let expected: Vec<_> = (0..count).map(|n| (0, n)).chain([(1, 0)]).collect();
        assert_eq!(received, expected);
    });
}

/// Between `poll_ready` and `start_send`, another handle may use the last room.
#[test]
fn ready_sink_takes_its_message_though_others_fill_the_channel() {
    paused(async {
        let (mut tx, mut rx) = switched_on_request();
        let other = tx.clone();
        futures::future::poll_fn(|cx| Pin::new(&mut tx).poll_ready(cx)).await.expect("open");
        let count = fill(&other, 0);
        Pin::new(&mut tx).start_send(Bytes::from(message(1, 0, 50))).expect("the sink was ready");
        drop(other);
        let closing = tokio::spawn(async move { SinkExt::close(&mut tx).await });
        let mut received = Vec::new();
        while let Some(m) = rx.recv().await {
            received.extend(check(&m));
        }
        closing.await.expect("no panic in the closer task").expect("open");
        received.sort_unstable();
        let expected: Vec<_> = (0..count).map(|n| (0, n)).chain([(1, 0)]).collect();
        assert_eq!(received, expected);
    });
}

#[test]
fn sink_that_is_not_ready_rejects_a_second_message() {
    current(async {
        let (mut tx, mut rx) = turbostream::builder()
            .segment_bytes(100)
            .segment_messages(1)
            .max_bytes(2 * (100 + 8 + 128))
            .build()
            .expect("a valid configuration");
        for number in 0..3 {
            tx.start_send_unpin(bytes(number)).expect("room, or parked");
        }
        let error = tx.start_send_unpin(bytes(3)).expect_err("not ready");
        assert_eq!(check(&error.into_inner()), Some((0, 3)));
        assert_eq!(check(&rx.recv().await.expect("open")), Some((0, 0)));
        SinkExt::close(&mut tx).await.expect("open");
        for number in 1..3 {
            assert_eq!(check(&rx.recv().await.expect("open")), Some((0, number)));
        }
        assert_eq!(rx.recv().await, None);
    });
}

#[test]
fn sink_fed_in_a_loop_yields_to_other_tasks() {
    // The clock stands still: messages are quick, however slow the machine is.
    paused(async {
        let (mut tx, mut rx) = turbostream::channel();
        let feeding = tokio::spawn(async move {
            for number in 0..20_000 {
                SinkExt::feed(&mut tx, bytes(number)).await.expect("open");
            }
        });
        tokio::task::yield_now().await;
        assert!(rx.len() > 1000 && !feeding.is_finished(), "{} messages at once", rx.len());
        while rx.recv().await.is_some() {}
        feeding.await.expect("no panic in the sender");
    });
}

#[test]
fn sink_rejects_too_large_message_and_stays_usable() {
    paused(async {
        let (mut tx, mut rx) = turbostream::builder().max_message_bytes(60).build().expect("valid");
        let error = SinkExt::send(&mut tx, Bytes::from(vec![0; 61])).await.expect_err("too large");
        assert!(
            matches!(error, SendError::TooLarge { payload, len: 61, max: 60, .. } if payload.len() == 61)
        );
        SinkExt::send(&mut tx, bytes(0)).await.expect("open");
        assert_eq!(rx.recv().await, Some(bytes(0)));
        drop(rx);
        let error = SinkExt::send(&mut tx, bytes(1)).await.expect_err("closed");
        assert_eq!(error, SendError::Closed(Bytes::new()));
    });
}

#[test]
fn stream_is_terminated_only_after_its_end_was_returned() {
    paused(async {
        let (tx, mut rx) = switched_on_request();
        tx.try_send(bytes(0)).expect("room");
        assert!(!rx.is_terminated());
        let mut next = Box::pin(async { (rx.next().await, rx) });
        assert!(poll_once(&mut next).is_pending());
        drop(tx);
        let (got, mut rx) = next.await;
        assert_eq!(got, Some(bytes(0)));
        assert!(!rx.is_terminated(), "the end was not returned yet");
        assert_eq!(rx.next().await, None);
        assert!(rx.is_terminated());
        assert_eq!(rx.next().await, None);
    });
}

#[test]
fn batch_stream_is_terminated_only_after_its_end_was_returned() {
    paused(async {
        let (tx, mut rx) = switched_on_request();
        tx.try_send(bytes(0)).expect("room");
        drop(tx);
        let mut batches = Box::pin(rx.batches(10));
        assert!(!batches.is_terminated());
        assert_eq!(batches.next().await.expect("there is one").len(), 1);
        assert!(!batches.is_terminated(), "the end was not returned yet");
        assert!(batches.next().await.is_none() && batches.is_terminated());
        assert!(batches.next().await.is_none());
    });
}

#[test]
fn streams_forward_into_sinks() {
    multi(async {
        let (first_tx, first_rx) = turbostream::builder().max_bytes(32 << 10).build().expect("valid");
        let (second_tx, second_rx) = switched_on_request();
        let source = stream::iter((0..4000).map(|n| Ok(bytes(n))));
        let feeding = tokio::spawn(source.forward(first_tx));
        let relaying = tokio::spawn(first_rx.map(Ok).forward(second_tx));
        let got: Vec<Bytes> = second_rx.collect().await;
        feeding.await.expect("no panic in the feeder task").expect("open");
        relaying.await.expect("no panic in the relay task").expect("open");
        assert_eq!(got.len(), 4000);
        for (number, m) in got.iter().enumerate() {
            assert_eq!(check(m), Some((0, number as u32)));
        }
    });
}

#[test]
fn fused_streams_work_in_select() {
    multi(async {
        let (a_tx, mut a) = turbostream::channel();
        let (b_tx, mut b) = turbostream::channel();
        for (sender, tx) in [a_tx, b_tx].into_iter().enumerate() {
            tokio::spawn(async move {
                for number in 0..1000 {
                    tx.send(message(sender as u32, number, 20)).await.expect("open");
                }
            });
        }
        let mut next = [0, 0];
        loop {
            let m = futures::select! {
                m = a.select_next_some() => m,
                m = b.select_next_some() => m,
                complete => break,
            };
            let (sender, number) = check(&m).expect("received");
            assert_eq!(number, next[sender as usize]);
            next[sender as usize] += 1;
        }
        assert_eq!(next, [1000, 1000]);
    });
}

#[test]
fn stream_reader_and_vectored_write_keep_byte_order() {
    multi(async {
        let messages: Vec<_> = (0..500).map(|n| message(0, n, n as usize * 7 % 900)).collect();
        let (tx, rx) = turbostream::channel();
        let source = messages.clone();
        tokio::spawn(async move {
            for m in &source {
                tx.send(&m[..]).await.expect("open");
            }
        });
        let mut reader = StreamReader::new(rx.map(Ok::<_, std::io::Error>));
        let mut got = Vec::new();
        reader.read_to_end(&mut got).await.expect("no item is an error");
        assert!(got == messages.concat());

        let (tx, mut rx) = turbostream::channel();
        let mut file = tempfile::tempfile().expect("a file");
        for m in &messages {
            tx.try_send(&m[..]).expect("room");
        }
        drop(tx);
        while let Some(batch) = rx.recv_batch(100).await {
            let mut slices = batch.io_slices();
            let mut left = &mut slices[..];
            while left.iter().any(|s| !s.is_empty()) {
                let written = file.write_vectored(left).expect("written");
                std::io::IoSlice::advance_slices(&mut left, written);
            }
        }
        let mut got = Vec::new();
        file.rewind().expect("rewound");
        file.read_to_end(&mut got).expect("read");
        assert!(got == messages.concat());
    });
}

/// Each flush seals a segment, but only while enough segments are free.
#[test]
fn flushes_of_small_messages_leave_segments_to_fill() {
    paused(async {
        let one = 4096 + 8 * 64 + 128;
        for on_demand in [true, false] {
            let builder = turbostream::builder().segment_bytes(4096).segment_messages(64).max_bytes(20 * one);
            let (mut tx, mut rx) = builder.on_demand(on_demand).build().expect("valid");
            let fits = (0..).take_while(|_| {
                let sent = SinkExt::send(&mut tx, Bytes::from_static(b"a")).now_or_never();
                sent.is_some_and(|sent| sent.is_ok())
            });
            assert_eq!(
                fits.count(),
                5 + 15 * 64,
                "a quarter of the segments hold one message each, the others are full"
            );
            assert_eq!(tx.monitor().stats().switches.requested, 5);
            assert_eq!(std::iter::from_fn(|| rx.try_recv().ok()).count(), 5 + 15 * 64, "{on_demand}");
        }
    });
}

/// A receiver that may not cut sees what was flushed beside a backlog, once it has shortened the backlog.
#[test]
fn deferred_flush_is_made_when_backlog_shrinks() {
    paused(async {
        let one = 4096 + 8 * 64 + 128;
        let builder = turbostream::builder().segment_bytes(4096).segment_messages(64).max_bytes(4 * one);
        let (mut tx, mut rx) = builder.strategy(MessageCount(1000)).on_demand(false).build().expect("valid");
        for number in 0..6 {
            SinkExt::send(&mut tx, bytes(number)).await.expect("room");
        }
        tx.feed(bytes(6)).await.expect("room");
        assert_eq!(tx.monitor().stats().switches.requested, 3, "the others are deferred");
        for number in 0..7 {
            assert_eq!(check(&rx.recv().await.expect("visible")), Some((0, number)));
        }
        assert_eq!(tx.monitor().stats().switches.requested, 4);
        tx.feed(bytes(7)).await.expect("room");
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty), "no flush is left over");
    });
}

/// Receivers do not see the active segment before it is sealed, and all memory is in it.
#[test]
fn sink_that_waits_seals_a_segment_without_room() {
    paused(async {
        let one = 1024 + 64 * 8 + 128;
        let builder = turbostream::builder().segment_bytes(1024).segment_messages(64).max_bytes(3 * one);
        let builder = builder.max_message_bytes(2 * one - 1).on_demand(false);
        let (mut tx, mut rx) = builder.strategy(MessageCount(1000)).build().expect("valid");
        tx.try_send(vec![1; 2 * one - 1]).expect("room for an external payload");
        // Exactly what the entry of that payload has left of the active segment.
        let rest = 1024 - (size_of::<Bytes>() + align_of::<Bytes>() - 1);
        tx.try_send(vec![2; rest]).expect("room");
        let feeding = tokio::spawn(async move { tx.feed(bytes(0)).await });
        settle().await;
        assert!(!feeding.is_finished());
        assert_eq!(rx.recv().await.expect("sealed").len(), 2 * one - 1);
        assert_eq!(rx.recv().await.expect("sealed").len(), rest);
        assert_eq!(feeding.await.expect("no panic"), Ok(()));
    });
}
