//! The writing end as an `AsyncWrite` and as a `Write`.

use std::io::{self, ErrorKind, Write};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use crate::common::{hash, message, multi, paused, plain, poll_once, settle};
use futures::{Sink, SinkExt};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_util::io::{CopyToBytes, SinkWriter};
use turbostream::{Receiver, SendError, Sender, TimeWindow, TryRecvError, WhenFull, Writer};

/// A small channel that only a flush or a close switches.
fn on_request(when_full: WhenFull) -> (Sender, Receiver) {
    turbostream::builder()
        .strategy(TimeWindow(Duration::from_secs(3600)))
        .on_demand(false)
        .max_bytes(64 << 10)
        .when_full(when_full)
        .build()
        .expect("valid")
}

fn all(rx: &Receiver) -> Vec<Bytes> {
    std::iter::from_fn(|| rx.try_recv().ok()).collect()
}

fn fill(tx: &Sender) {
    while tx.try_send([0; 50]).is_ok() {}
    while tx.try_send("").is_ok() {}
}

/// What an error of a writer says inside.
fn inner(error: &io::Error) -> &SendError<()> {
    error.get_ref().and_then(|inner| inner.downcast_ref()).expect("a SendError is inside")
}

/// Cuts `bytes` up into pieces of made-up lengths.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut rest, mut number) = (bytes, 0);
    std::iter::from_fn(move || {
        number += 1;
        let (piece, after) = rest.split_at((hash(7, number) as usize % 200 + 1).min(rest.len()));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

#[test]
fn each_write_is_a_message_and_an_empty_one_is_none() {
    paused(async {
        let (tx, rx) = turbostream::channel();
        let mut writer = tx.into_writer();
        assert_eq!(writer.write(b"one").await.expect("open"), 3);
        assert_eq!(writer.write(b"").await.expect("open"), 0);
        assert_eq!(writer.write(&[7; 100_000]).await.expect("open"), 100_000);
        writer.shutdown().await.expect("open");
        assert_eq!(all(&rx), [Bytes::from("one"), Bytes::from(vec![7; 100_000])]);
        assert_eq!(rx.recv().await, None, "its only handle was given up");
    });
}

#[test]
fn records_come_whole_however_they_are_written() {
    paused(async {
        let records: Vec<Vec<u8>> = (0..2000)
            .map(|n| {
                // Some empty, some longer than a segment, some that travel by reference.
                let len = [0, 5, 63, 64, 65, 500, 40_000, 300_000]
                    [hash(0, n) as usize % if n % 200 == 0 { 8 } else { 6 }];
                let mut record: Vec<u8> = message(0, n, len).iter().map(|byte| byte | 0x80).collect();
                record.push(b'\n');
                record
            })
            .collect();
        let text = records.concat();
        let (tx, rx) = turbostream::channel();
        let writing = tokio::spawn(async move {
            let mut lines = tx.into_delimited_writer(b'\n');
            for piece in pieces(&text) {
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

/// `tokio::io::copy` flushes in the middle of a record whenever its reader has nothing.
#[test]
fn a_flush_shows_whole_records_and_cuts_none_short() {
    paused(async {
        let (tx, rx) = on_request(WhenFull::Wait);
        let mut lines = tx.into_delimited_writer(b'\n');
        lines.write_all(b"whole\nunfin").await.expect("open");
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        lines.flush().await.expect("open");
        assert_eq!(all(&rx), ["whole\n"]);
        assert_eq!(lines.buffer(), b"unfin");
        lines.write_all(b"ished\n").await.expect("open");
        lines.flush().await.expect("open");
        assert_eq!(all(&rx), ["unfinished\n"]);
        lines.write_all(b"last").await.expect("open");
        lines.shutdown().await.expect("open");
        assert_eq!(all(&rx), ["last"]);
        lines.shutdown().await.expect("once more does nothing");
        assert_eq!(lines.write(b"x").await.expect_err("shut down").kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_record_that_is_too_long_is_refused_and_nothing_is_lost() {
    paused(async {
        let (tx, rx) = turbostream::builder().max_message_bytes(10).build().expect("valid");
        let mut lines = tx.into_delimited_writer(b'\n');
        assert_eq!(lines.write(b"first\nmuch too long\n").await.expect("the first fits"), 6);
        let error = lines.write(b"much too long\n").await.expect_err("too long");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(matches!(inner(&error), SendError::TooLarge { len: 14, max: 10, .. }));

        lines.write_all(b"123456789").await.expect("may still end in time");
        for _ in 0..2 {
            let error = lines.write(b"0\n").await.expect_err("one byte too many");
            assert!(matches!(inner(&error), SendError::TooLarge { len: 11, max: 10, .. }));
            assert_eq!(lines.buffer(), b"123456789");
        }
        let error = lines.write(b"no end in sight").await.expect_err("too long, wherever it ends");
        assert!(matches!(inner(&error), SendError::TooLarge { max: 10, .. }));
        assert_eq!(lines.write(b"\n").await.expect("just fits"), 1);
        lines.write_all(b"begun").await.expect("open");
        assert_eq!(lines.take_buffer(), b"begun");
        lines.write_all(b"anew\n").await.expect("open");
        assert_eq!(all(&rx), ["first\n", "123456789\n", "anew\n"]);

        let mut writer = lines.into_inner().into_writer();
        let error = writer.write(b"12345678901").await.expect_err("too long");
        assert!(matches!(inner(&error), SendError::TooLarge { len: 11, max: 10, .. }));
        writer.write_all(b"goes on").await.expect("open");
        assert_eq!(all(&rx), ["goes on"]);
    });
}

#[test]
fn a_closed_channel_is_a_broken_pipe_at_once() {
    paused(async {
        let (tx, rx) = turbostream::channel();
        let mut lines = tx.clone().into_delimited_writer(b'\n');
        let mut writer = tx.into_writer();
        lines.write_all(b"unfinished").await.expect("open");
        drop(rx);
        for error in [
            writer.write(b"x").await.expect_err("closed"),
            lines.write(b"does not end").await.expect_err("closed, also for a part of a record"),
            lines.shutdown().await.expect_err("what is unfinished goes nowhere"),
        ] {
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            assert!(matches!(inner(&error), SendError::Closed(())));
        }
        assert_eq!(lines.take_buffer(), b"unfinished");
        lines.shutdown().await.expect("nothing is left to be sent");
    });
}

#[test]
fn the_policy_of_the_channel_decides_when_it_is_full() {
    paused(async {
        let (tx, _rx) = on_request(WhenFull::Reject);
        fill(&tx);
        let mut lines = tx.into_delimited_writer(b'\n');
        lines.write_all(b"part").await.expect("needs no room yet");
        let error = lines.write(b" of a line\n").await.expect_err("full");
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert!(matches!(inner(&error), SendError::Full(())));
        assert_eq!(lines.buffer(), b"part");

        let (tx, rx) = on_request(WhenFull::DropNewest);
        let mut writer = tx.into_writer();
        for _ in 0..10_000 {
            writer.write_all(&[1; 50]).await.expect("is accepted or dropped");
        }
        let stats = rx.monitor().stats();
        assert_eq!(stats.dropped_messages + stats.queued_messages, 10_000);
        assert!(stats.dropped_messages > 0);
    });
}

#[test]
fn a_write_waits_for_room_and_one_that_is_dropped_has_taken_nothing() {
    paused(async {
        let (tx, rx) = on_request(WhenFull::Wait);
        fill(&tx);
        for delimiter in [None, Some(b'\n')] {
            let tx = tx.clone();
            let mut writer = match delimiter {
                None => tx.into_writer(),
                Some(delimiter) => tx.into_delimited_writer(delimiter),
            };
            let mut writing = Box::pin(async { writer.write(b"given up\n").await });
            assert!(poll_once(&mut writing).is_pending());
            drop(writing);
            assert!(writer.buffer().is_empty());
        }
        let mut lines = tx.clone().into_delimited_writer(b'\n');
        lines.write_all(b"begun ").await.expect("needs no room");
        let mut writing = Box::pin(async { lines.write(b"and given up\n").await });
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
        let mut got = all(&rx);
        waiting.await.expect("woken").expect("open");
        drop(lines);
        while let Some(message) = rx.recv().await {
            got.push(message);
        }
        assert_eq!(got.iter().rfind(|message| !message.is_empty()).expect("some"), "waited");
        assert!(!got.iter().any(|message| message.ends_with(b"given up\n")));
    });
}

/// A message that the sink has parked is older than what is written.
#[test]
fn what_was_parked_as_a_sink_comes_before_what_is_written() {
    paused(async {
        let (mut tx, rx) = on_request(WhenFull::Wait);
        fill(&tx.clone());
        Pin::new(&mut tx).start_send(Bytes::from("parked")).expect("parked");
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
        assert_eq!(got[got.len() - 2..], ["parked", "written"]);
    });
}

#[test]
fn a_writer_that_never_waits_lets_others_run() {
    paused(async {
        for delimited in [false, true] {
            let (tx, rx) = turbostream::builder().max_bytes(64 << 20).build().expect("valid");
            let mut writer = if delimited { tx.into_delimited_writer(b'\n') } else { tx.into_writer() };
            let other = tokio::spawn(async {});
            for _ in 0..10_000 {
                writer.write_all(b"a line\nand one more\n").await.expect("open");
            }
            assert!(other.is_finished(), "delimited: {delimited}");
            drop(writer);
            assert_eq!(all(&rx).len(), if delimited { 20_000 } else { 10_000 });
        }
    });
}

#[test]
fn the_sink_works_in_the_adapters_of_others() {
    paused(async {
        let (tx, rx) = turbostream::channel();
        let mut writer = SinkWriter::new(CopyToBytes::new(tx));
        writer.write_all(b"through SinkWriter").await.expect("open");
        assert_eq!(rx.recv().await.expect("open"), "through SinkWriter");
        drop(rx);
        assert_eq!(writer.write(b"x").await.expect_err("closed").kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn threads_write_and_block_while_the_channel_is_full() {
    multi(async {
        let (tx, rx) = turbostream::builder().max_bytes(16 << 10).build().expect("valid");
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
fn io_copy_of_threads_meets_a_closed_channel() {
    plain(|| {
        let runtime = crate::common::current_runtime(false);
        let (tx, rx) = turbostream::builder().runtime(runtime.handle().clone()).build().expect("valid");
        let mut writer = tx.into_writer().into_blocking();
        let copied = io::copy(&mut &b"some bytes"[..], &mut writer).expect("open");
        assert_eq!((copied, rx.blocking_recv().expect("open")), (10, Bytes::from("some bytes")));
        drop(rx);
        let error = io::copy(&mut &b"more"[..], &mut writer).expect_err("closed");
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        writer.finish().expect("nothing is left to be sent");
    });
}

#[test]
fn a_blocking_flush_shows_what_was_written() {
    plain(|| {
        let runtime = crate::common::current_runtime(false);
        let entered = runtime.enter();
        let (tx, rx) = on_request(WhenFull::Wait);
        drop(entered);
        let mut writer = tx.into_writer().into_blocking();
        writer.write_all(b"shown").expect("open");
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        writer.flush().expect("open");
        assert_eq!(all(&rx), ["shown"]);
    });
}

#[test]
fn one_write_takes_as_many_records_as_there_are() {
    paused(async {
        let (tx, rx) = turbostream::channel();
        let mut lines = tx.into_delimited_writer(b'\n');
        assert_eq!(lines.write(b"one\ntwo\nthree\nunfinished").await.expect("open"), 24);
        assert_eq!(all(&rx), ["one\n", "two\n", "three\n"]);
        assert_eq!(lines.buffer(), b"unfinished");
    });
}

#[test]
fn a_long_record_in_the_buffer_is_not_copied() {
    paused(async {
        let (tx, rx) = turbostream::builder().segment_bytes(256 << 10).build().expect("valid");
        let mut lines = tx.into_delimited_writer(b'\n');
        for (len, referenced) in [(40_000, 40_001), (100, 0)] {
            lines.write_all(&vec![7; len]).await.expect("open");
            lines.write_all(b"\n").await.expect("open");
            assert_eq!(rx.monitor().stats().referenced_bytes, referenced);
            assert_eq!(rx.try_recv().expect("there").len(), len + 1);
        }
    });
}

#[test]
#[should_panic(expected = "`BlockingWriter::write` blocks its thread")]
fn a_blocking_write_refuses_to_block_tasks() {
    paused(async {
        let (tx, _rx) = turbostream::channel();
        let _ = tx.into_writer().into_blocking().write(b"x");
    });
}

#[test]
fn writers_tell_what_they_are() {
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
        assert!(lines.get_ref().is_empty(), "a part of a record is no message");
        SinkExt::close(&mut lines.into_inner()).await.expect("open");
    });
}

/// 4000 of them, each of `len` bytes.
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
    let (tx, rx) = on_request(when_full);
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
                // The budget of the task, or full.
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

/// Those behind its first are taken as far as there is room, and what is the matter then is told by the next write.
#[test]
fn further_records_of_a_write_meet_the_policy_at_the_next_write() {
    paused(async {
        for when_full in [WhenFull::Reject, WhenFull::Wait, WhenFull::DropNewest, WhenFull::DropOldest] {
            for record in [10, 700, 3000] {
                write_many_at_once(when_full, record).await;
            }
        }
    });
}
