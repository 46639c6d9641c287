//! `Writer` and `BlockingWriter`: the sending end as an `AsyncWrite` and as a `Write`.

use std::io::{self, ErrorKind, Write};
use std::pin::Pin;
use std::time::Duration;

use crate::common::{hash, message, multi, paused, plain, poll_once, settle};
use bytes::Bytes;
use futures::{Sink, SinkExt};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_util::io::{CopyToBytes, SinkWriter};
use turbostream::{Receiver, SendError, Sender, TimeWindow, TryRecvError, WhenFull, Writer};

/// A small channel that switches only on flush or close.
fn switched_on_request(when_full: WhenFull) -> (Sender, Receiver) {
    turbostream::builder()
        .strategy(TimeWindow(Duration::from_secs(3600)))
        .on_demand(false)
        .max_bytes(64 << 10)
        .when_full(when_full)
        .build()
        .expect("valid")
}

fn receive_all(rx: &mut Receiver) -> Vec<Bytes> {
    std::iter::from_fn(|| rx.try_recv().ok()).collect()
}

fn fill(tx: &Sender) {
    while tx.try_send([0; 50]).is_ok() {}
    while tx.try_send("").is_ok() {}
}

/// Returns the `SendError` inside an error of a writer.
fn inner(error: &io::Error) -> &SendError<()> {
    error.get_ref().and_then(|inner| inner.downcast_ref()).expect("a SendError is inside")
}

/// Splits `bytes` into chunks of pseudo-random lengths.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut rest, mut number) = (bytes, 0);
    std::iter::from_fn(move || {
        number += 1;
        let (piece, after) = rest.split_at((hash(7, number) as usize % 200 + 1).min(rest.len()));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

#[test]
fn each_write_is_one_message_and_empty_write_is_none() {
    paused(async {
        let (tx, mut rx) = turbostream::channel();
        let mut writer = tx.into_writer();
        assert_eq!(writer.write(b"one").await.expect("open"), 3);
        assert_eq!(writer.write(b"").await.expect("open"), 0);
        assert_eq!(writer.write(&[7; 100_000]).await.expect("open"), 100_000);
        writer.shutdown().await.expect("open");
        assert_eq!(receive_all(&mut rx), [Bytes::from("one"), Bytes::from(vec![7; 100_000])]);
        assert_eq!(rx.recv().await, None, "the only sender is closed");
    });
}

#[test]
fn records_arrive_whole_for_any_split_of_writes() {
    paused(async {
        let records: Vec<Vec<u8>> = (0..2000)
            .map(|n| {
                // Some records are empty, some longer than a segment, some external.
                let len = [0, 5, 63, 64, 65, 500, 40_000, 300_000]
                    [hash(0, n) as usize % if n % 200 == 0 { 8 } else { 6 }];
                let mut record: Vec<u8> = message(0, n, len).iter().map(|byte| byte | 0x80).collect();
                record.push(b'\n');
                record
            })
            .collect();
        let text = records.concat();
        let (tx, mut rx) = turbostream::channel();
        let writing = tokio::spawn(async move {
            let mut lines = tx.into_delimited_writer(b'\n');
            for piece in chunks(&text) {
                lines.write_all(piece).await.expect("open");
            }
            assert!(lines.buffer().is_empty());
            lines.shutdown().await.expect("open");
        });
        let mut got = Vec::new();
        while let Some(record) = rx.recv().await {
            got.push(record);
        }
        assert!(got == records);
        writing.await.expect("written");
    });
}

/// `tokio::io::copy` flushes in the middle of a record whenever its reader is pending.
#[test]
fn flush_switches_whole_records_and_keeps_the_partial_one() {
    paused(async {
        let (tx, mut rx) = switched_on_request(WhenFull::Wait);
        let mut lines = tx.into_delimited_writer(b'\n');
        lines.write_all(b"whole\nunfin").await.expect("open");
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        lines.flush().await.expect("open");
        assert_eq!(receive_all(&mut rx), ["whole\n"]);
        assert_eq!(lines.buffer(), b"unfin");
        lines.write_all(b"ished\n").await.expect("open");
        lines.flush().await.expect("open");
        assert_eq!(receive_all(&mut rx), ["unfinished\n"]);
        lines.write_all(b"last").await.expect("open");
        lines.shutdown().await.expect("open");
        assert_eq!(receive_all(&mut rx), ["last"]);
        lines.shutdown().await.expect("a second shutdown does nothing");
        assert_eq!(lines.write(b"x").await.expect_err("shut down").kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn too_long_record_is_rejected_and_nothing_is_lost() {
    paused(async {
        let (tx, mut rx) = turbostream::builder().max_message_bytes(10).build().expect("valid");
        let mut lines = tx.into_delimited_writer(b'\n');
        assert_eq!(lines.write(b"first\nmuch too long\n").await.expect("the first fits"), 6);
        let error = lines.write(b"much too long\n").await.expect_err("too long");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(matches!(inner(&error), SendError::TooLarge { len: 14, max: 10, .. }));
        assert!(lines.take_buffer().is_empty());

        lines.write_all(b"123456789").await.expect("the record still fits");
        for _ in 0..2 {
            let error = lines.write(b"0\n").await.expect_err("one byte too many");
            assert!(matches!(inner(&error), SendError::TooLarge { len: 11, max: 10, .. }));
            assert_eq!(lines.buffer(), b"123456789");
        }
        let error = lines.write(b"\n").await.expect_err("would send a record with a hole");
        assert!(matches!(inner(&error), SendError::TooLarge { len: 11, max: 10, .. }));
        assert_eq!(lines.take_buffer(), b"123456789");
        let error = lines.write(b"no end so far").await.expect_err("too long, wherever the record ends");
        assert!(matches!(inner(&error), SendError::TooLarge { max: 10, .. }));
        assert!(lines.take_buffer().is_empty());
        assert_eq!(lines.write(b"its end\n").await.expect("discarded"), 8);
        lines.write_all(b"123456789\n").await.expect("just fits");
        lines.write_all(b"begun").await.expect("open");
        assert_eq!(lines.take_buffer(), b"begun");
        lines.write_all(b"anew\n").await.expect("open");
        assert_eq!(receive_all(&mut rx), ["first\n", "123456789\n", "anew\n"]);

        let mut writer = lines.into_inner().into_writer();
        let error = writer.write(b"12345678901").await.expect_err("too long");
        assert!(matches!(inner(&error), SendError::TooLarge { len: 11, max: 10, .. }));
        writer.write_all(b"continues").await.expect("open");
        assert_eq!(receive_all(&mut rx), ["continues"]);
    });
}

/// Records that fit in 10 bytes, around overlong ones.
const MIXED: &[u8] =
    b"one\nfar too long for a message\ntwo\n\n0123456789\n123456789\nthe last one is long too";
const FITTING: [&str; 4] = ["one\n", "two\n", "\n", "123456789\n"];

/// Writes `pieces`, and continues after each that was refused as a caller of `write_all` does: with the next piece.
async fn write_and_give_up(lines: &mut Writer, pieces: &[&[u8]]) -> u32 {
    let mut refused = 0;
    for piece in pieces {
        if let Err(error) = lines.write_all(piece).await {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            lines.write_all(b"x\n").await.expect_err("refused until the record is given up");
            // That write counts as the last one: it is at the same place of its record as the piece.
            if !piece.ends_with(b"\n") {
                lines.write_all(b"x").await.expect_err("refused until the record is given up");
            }
            lines.take_buffer();
            refused += 1;
        }
    }
    refused
}

/// Each way to split the records into up to three writes.
fn splits() -> impl Iterator<Item = [&'static [u8]; 3]> {
    (0..=MIXED.len()).flat_map(|first| {
        (first..=MIXED.len()).map(move |second| [&MIXED[..first], &MIXED[first..second], &MIXED[second..]])
    })
}

#[test]
fn no_part_of_overlong_record_is_sent_for_any_split_of_writes() {
    paused(async {
        for pieces in splits() {
            let (tx, mut rx) = turbostream::builder().max_message_bytes(10).build().expect("valid");
            let mut lines = tx.into_delimited_writer(b'\n');
            let refused = write_and_give_up(&mut lines, &pieces).await;
            assert!((1..=3).contains(&refused), "{refused} of {pieces:?}");
            lines.shutdown().await.expect("nothing is left to send");
            let sent = receive_all(&mut rx);
            assert_eq!(lines.sent_messages(), sent.len() as u64);
            // In order, whole, and none twice. The rest of a refused write is lost with its record.
            let mut fitting = FITTING.iter();
            assert!(
                sent.iter().all(|record| fitting.any(|fitting| fitting == record)),
                "{sent:?} of {pieces:?}"
            );
        }
    });
}

#[test]
fn records_after_an_overlong_one_are_sent_if_writes_end_with_records() {
    paused(async {
        let (tx, mut rx) = turbostream::builder().max_message_bytes(10).build().expect("valid");
        let mut lines = tx.into_delimited_writer(b'\n');
        let pieces: Vec<_> = MIXED.split_inclusive(|&byte| byte == b'\n').collect();
        assert_eq!(write_and_give_up(&mut lines, &pieces).await, 3);
        lines.shutdown().await.expect("nothing is left to send");
        assert_eq!(receive_all(&mut rx), FITTING);
    });
}

#[test]
fn shutdown_drops_refused_record() {
    paused(async {
        let (tx, mut rx) = turbostream::builder().max_message_bytes(10).build().expect("valid");
        let mut lines = tx.into_delimited_writer(b'\n');
        lines.write_all(b"begun").await.expect("fits");
        lines.write_all(b" and too long").await.expect_err("too long");
        assert_eq!(lines.buffer(), b"begun");
        lines.shutdown().await.expect("nothing is left to send");
        assert!(receive_all(&mut rx).is_empty());
    });
}

#[test]
fn overlong_records_are_skipped_and_counted_for_any_split_of_writes() {
    paused(async {
        for pieces in splits() {
            let (tx, mut rx) = turbostream::builder().max_message_bytes(10).build().expect("valid");
            let mut lines = tx.into_delimited_writer(b'\n').skip_overlong();
            for piece in pieces {
                lines.write_all(piece).await.expect("never refused");
            }
            lines.shutdown().await.expect("nothing is left to send");
            assert_eq!(receive_all(&mut rx), FITTING, "{pieces:?}");
            assert_eq!((lines.sent_messages(), lines.skipped_records()), (4, 3), "{pieces:?}");
            assert_eq!(rx.monitor().stats().send_errors.too_large, 3, "{pieces:?}");
        }
    });
}

#[test]
fn closed_channel_is_broken_pipe_at_once() {
    paused(async {
        let (tx, rx) = turbostream::channel();
        let mut lines = tx.clone().into_delimited_writer(b'\n');
        let mut writer = tx.into_writer();
        lines.write_all(b"unfinished").await.expect("open");
        drop(rx);
        for error in [
            writer.write(b"x").await.expect_err("closed"),
            lines.write(b"does not end").await.expect_err("closed, also for a partial record"),
            lines.shutdown().await.expect_err("the partial record cannot be sent"),
        ] {
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            assert!(matches!(inner(&error), SendError::Closed(())));
        }
        assert_eq!(lines.take_buffer(), b"unfinished");
        lines.shutdown().await.expect("nothing is left to send");
    });
}

#[test]
fn full_channel_applies_its_policy_to_writes() {
    paused(async {
        let (tx, _rx) = switched_on_request(WhenFull::Reject);
        fill(&tx);
        let mut lines = tx.into_delimited_writer(b'\n');
        lines.write_all(b"part").await.expect("needs no room yet");
        let error = lines.write(b" of a line\n").await.expect_err("full");
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert!(matches!(inner(&error), SendError::Full(())));
        assert_eq!(lines.buffer(), b"part");

        let (tx, rx) = switched_on_request(WhenFull::DropNewest);
        let mut writer = tx.into_writer();
        for _ in 0..10_000 {
            writer.write_all(&[1; 50]).await.expect("sent or dropped");
        }
        let stats = rx.monitor().stats();
        assert_eq!(stats.dropped_messages + stats.queued_messages, 10_000);
        assert!(stats.dropped_messages > 0);
    });
}

#[test]
fn write_waits_for_room_and_takes_nothing_if_dropped() {
    paused(async {
        let (tx, mut rx) = switched_on_request(WhenFull::Wait);
        fill(&tx);
        for delimiter in [None, Some(b'\n')] {
            let tx = tx.clone();
            let mut writer = match delimiter {
                None => tx.into_writer(),
                Some(delimiter) => tx.into_delimited_writer(delimiter),
            };
            let mut writing = Box::pin(async { writer.write(b"dropped\n").await });
            assert!(poll_once(&mut writing).is_pending());
            drop(writing);
            assert!(writer.buffer().is_empty());
        }
        let mut lines = tx.clone().into_delimited_writer(b'\n');
        lines.write_all(b"begun ").await.expect("needs no room");
        let mut writing = Box::pin(async { lines.write(b"and dropped\n").await });
        assert!(poll_once(&mut writing).is_pending());
        drop(writing);
        assert_eq!(lines.buffer(), b"begun ");

        let waiting = tokio::spawn(async move {
            let mut writer = tx.into_writer();
            writer.write_all(b"waited").await?;
            writer.shutdown().await
        });
        settle().await;
        assert!(!waiting.is_finished());
        lines.flush().await.expect("flushes though full");
        let mut got = receive_all(&mut rx);
        waiting.await.expect("woken").expect("open");
        drop(lines);
        while let Some(message) = rx.recv().await {
            got.push(message);
        }
        assert_eq!(got.iter().rfind(|message| !message.is_empty()).expect("some"), "waited");
        assert!(!got.iter().any(|message| message.ends_with(b"dropped\n")));
    });
}

/// A message that the sink holds as pending is older than any write.
#[test]
fn pending_sink_item_is_sent_before_later_writes() {
    paused(async {
        let (mut tx, mut rx) = switched_on_request(WhenFull::Wait);
        fill(&tx.clone());
        Pin::new(&mut tx).start_send(Bytes::from("pending")).expect("pending");
        let mut writer = tx.into_writer();
        let writing = tokio::spawn(async move {
            writer.write_all(b"written").await?;
            writer.shutdown().await
        });
        let mut got = Vec::new();
        while let Some(message) = rx.recv().await {
            got.push(message);
        }
        writing.await.expect("woken").expect("open");
        assert_eq!(got[got.len() - 2..], ["pending", "written"]);
    });
}

#[test]
fn writer_that_never_waits_yields_to_other_tasks() {
    paused(async {
        for delimited in [false, true] {
            let (tx, mut rx) = turbostream::builder().max_bytes(64 << 20).build().expect("valid");
            let mut writer = if delimited { tx.into_delimited_writer(b'\n') } else { tx.into_writer() };
            let other = tokio::spawn(async {});
            for _ in 0..10_000 {
                writer.write_all(b"a line\nand one more\n").await.expect("open");
            }
            assert!(other.is_finished(), "delimited: {delimited}");
            drop(writer);
            assert_eq!(receive_all(&mut rx).len(), if delimited { 20_000 } else { 10_000 });
        }
    });
}

#[test]
fn sink_works_inside_tokio_util_sink_writer() {
    paused(async {
        let (tx, mut rx) = turbostream::channel();
        let mut writer = SinkWriter::new(CopyToBytes::new(tx));
        writer.write_all(b"through SinkWriter").await.expect("open");
        assert_eq!(rx.recv().await.expect("open"), "through SinkWriter");
        drop(rx);
        assert_eq!(writer.write(b"x").await.expect_err("closed").kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn blocking_writers_block_while_channel_is_full() {
    multi(async {
        let (tx, mut rx) = turbostream::builder().max_bytes(16 << 10).build().expect("valid");
        let threads: Vec<_> = (0..3)
            .map(|thread| {
                let mut lines = tx.clone().into_delimited_writer(b'\n').into_blocking();
                std::thread::spawn(move || {
                    for line in 0..2000 {
                        writeln!(lines, "{thread} {line}")?;
                        lines.flush()?;
                    }
                    lines.write_all(b"end")?;
                    lines.finish()
                })
            })
            .collect();
        drop(tx);
        let (mut due, mut ends) = ([0; 3], 0);
        while let Some(line) = rx.recv().await {
            let line = std::str::from_utf8(&line).expect("text");
            let Some((thread, number)) = line.trim_end().split_once(' ') else {
                assert_eq!(line, "end");
                ends += 1;
                continue;
            };
            let due = &mut due[thread.parse::<usize>().expect("a thread")];
            assert_eq!(number.parse(), Ok(*due));
            *due += 1;
        }
        assert_eq!((due, ends), ([2000; 3], 3));
        for thread in threads {
            thread.join().expect("no panic").expect("open");
        }
    });
}

#[test]
fn io_copy_fails_with_broken_pipe_on_closed_channel() {
    plain(|| {
        let runtime = crate::common::current_runtime(false);
        let (tx, mut rx) = turbostream::builder().runtime(runtime.handle().clone()).build().expect("valid");
        let mut writer = tx.into_writer().into_blocking();
        let copied = io::copy(&mut &b"some bytes"[..], &mut writer).expect("open");
        assert_eq!((copied, rx.blocking_recv().expect("open")), (10, Bytes::from("some bytes")));
        drop(rx);
        let error = io::copy(&mut &b"more"[..], &mut writer).expect_err("closed");
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        writer.finish().expect("nothing is left to send");
    });
}

#[test]
fn blocking_flush_switches_written_bytes() {
    plain(|| {
        let runtime = crate::common::current_runtime(false);
        let entered = runtime.enter();
        let (tx, mut rx) = switched_on_request(WhenFull::Wait);
        drop(entered);
        let mut writer = tx.into_writer().into_blocking();
        writer.write_all(b"shown").expect("open");
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        writer.flush().expect("open");
        assert_eq!(receive_all(&mut rx), ["shown"]);
    });
}

#[test]
fn one_write_takes_all_records_it_contains() {
    paused(async {
        let (tx, mut rx) = turbostream::channel();
        let mut lines = tx.into_delimited_writer(b'\n');
        assert_eq!(lines.write(b"one\ntwo\nthree\nunfinished").await.expect("open"), 24);
        assert_eq!(receive_all(&mut rx), ["one\n", "two\n", "three\n"]);
        assert_eq!(lines.buffer(), b"unfinished");
    });
}

#[test]
fn long_buffered_record_is_external() {
    paused(async {
        let (tx, mut rx) = turbostream::builder().segment_bytes(256 << 10).build().expect("valid");
        let mut lines = tx.into_delimited_writer(b'\n');
        for (len, external) in [(40_000, 40_001), (100, 0)] {
            lines.write_all(&vec![7; len]).await.expect("open");
            lines.write_all(b"\n").await.expect("open");
            assert_eq!(rx.monitor().stats().external_bytes, external);
            assert_eq!(rx.try_recv().expect("there").len(), len + 1);
        }
    });
}

#[test]
#[should_panic(expected = "`BlockingWriter::write` blocks its thread")]
fn blocking_write_panics_inside_a_task() {
    paused(async {
        let (tx, _rx) = turbostream::channel();
        let _ = tx.into_writer().into_blocking().write(b"x");
    });
}

#[test]
fn writer_debug_shows_name_but_no_payload() {
    fn assert_writer<W: AsyncWrite + Unpin + Send + Sync + std::fmt::Debug>(_: &W) {}
    paused(async {
        let (tx, _rx) = turbostream::builder().name("named").build().expect("valid");
        let mut lines: Writer = tx.into_delimited_writer(b'\n');
        assert_writer(&lines);
        lines.write_all(b"secret").await.expect("open");
        let shown = format!("{lines:?}");
        assert!(
            shown.contains("named") && shown.contains("buffered: 6") && !shown.contains("secret"),
            "{shown}"
        );
        assert!(lines.get_ref().is_empty(), "a partial record is no message");
        SinkExt::close(&mut lines.into_inner()).await.expect("open");
    });
}

/// Returns 4000 records of `len` bytes each.
fn records(len: usize) -> Vec<u8> {
    let mut input = Vec::new();
    for number in 0..4000 {
        let mut line = format!("{number} ").into_bytes();
        line.resize(len - 1, b'x');
        line.push(b'\n');
        input.extend(line);
    }
    input
}

async fn write_many_at_once(when_full: WhenFull, record: usize) {
    let (tx, mut rx) = switched_on_request(when_full);
    let mut lines = tx.into_delimited_writer(b'\n');
    let mut input = records(record);
    input.extend(b"rest");
    let (mut at, mut writes, mut pending) = (0, 0, 0);
    let mut got = Vec::new();
    while at < input.len() {
        writes += 1;
        assert!(writes < 100_000);
        let cut = (at + 13 * record + 5).min(input.len());
        let mut writing = Box::pin(async { lines.write(&input[at..cut]).await });
        match poll_once(&mut writing) {
            std::task::Poll::Ready(Ok(taken)) => {
                assert!(taken > 0);
                at += taken;
            }
            std::task::Poll::Ready(Err(error)) => {
                assert_eq!((when_full, error.kind()), (WhenFull::Reject, ErrorKind::StorageFull));
                drop(writing);
                got.push(rx.recv().await.expect("full of messages"));
                got.extend(std::iter::from_fn(|| rx.try_recv().ok()));
            }
            std::task::Poll::Pending => {
                // The task's budget is used up, or the channel is full.
                pending += 1;
                if when_full == WhenFull::Wait {
                    got.push(rx.recv().await.expect("full of messages"));
                    got.extend(std::iter::from_fn(|| rx.try_recv().ok()));
                }
                drop(writing);
                tokio::task::yield_now().await;
            }
        }
    }
    assert!(when_full == WhenFull::Wait || pending <= 2);
    assert_eq!(lines.buffer(), b"rest");
    lines.flush().await.expect("open");
    got.extend(std::iter::from_fn(|| rx.try_recv().ok()));
    let stats = rx.monitor().stats();
    if matches!(when_full, WhenFull::Reject | WhenFull::Wait) {
        assert_eq!(got.concat(), input[..input.len() - 4]);
        assert_eq!(stats.dropped_messages, 0);
    } else {
        assert_eq!(got.len() as u64 + stats.dropped_messages, 4000, "{when_full:?} {record}");
        assert!(stats.dropped_messages > 0);
    }
}

/// A write takes the records after its first as far as there is room. The next write reports why it stopped.
#[test]
fn full_channel_policy_applies_to_later_records_at_next_write() {
    paused(async {
        for when_full in [WhenFull::Reject, WhenFull::Wait, WhenFull::DropNewest, WhenFull::DropOldest] {
            for record in [10, 700, 3000] {
                write_many_at_once(when_full, record).await;
            }
        }
    });
}
