//! `Reader`: the receiving end as an `AsyncRead` and an `AsyncBufRead`.

use crate::common::{message, multi, paused, poll_once, settle};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};
use turbostream::{ReadMode, Reader};

#[test]
fn reader_yields_bytes_of_all_messages_in_order() {
    multi(async {
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let messages: Vec<_> = (0..600).map(|n| message(0, n, n as usize * 131 % 5000)).collect();
            let (tx, rx) =
                turbostream::builder().max_bytes(128 << 10).read_mode(mode).build().expect("valid");
            let expected = messages.concat();
            let writing = tokio::spawn(async move {
                for message in messages {
                    tx.send(message).await.expect("open");
                }
            });
            let mut got = Vec::new();
            rx.into_reader().read_to_end(&mut got).await.expect("reads never fail");
            assert!(got == expected);
            writing.await.expect("written");
        }
    });
}

#[test]
fn read_returns_available_bytes_without_waiting_for_more() {
    paused(async {
        let (tx, rx) = turbostream::channel();
        let mut reader = rx.into_reader();
        for part in ["ab", "", "cd"] {
            tx.send(part).await.expect("open");
        }
        let mut buf = [0; 3];
        assert_eq!(
            reader.read(&mut []).await.expect("reads never fail"),
            0,
            "an empty buffer is not the end"
        );
        let mut got = Vec::new();
        while got.len() < 4 {
            let len = reader.read(&mut buf).await.expect("reads never fail");
            assert!(len > 0, "an empty message is not the end");
            got.extend_from_slice(&buf[..len]);
        }
        assert_eq!(got, b"abcd");
        assert_eq!(tx.monitor().stats().waiting_receivers, 0, "the read was dropped");

        let mut reading = Box::pin(async { reader.read(&mut buf).await });
        assert!(poll_once(&mut reading).is_pending());
        drop(reading);
        tx.send("after a dropped read").await.expect("open");
        let mut text = String::new();
        drop(tx);
        reader.read_to_string(&mut text).await.expect("text");
        assert_eq!(text, "after a dropped read");
        assert_eq!(reader.read(&mut buf).await.expect("reads never fail"), 0);
    });
}

#[test]
fn waiting_reader_is_woken_by_bytes_only() {
    paused(async {
        let (tx, rx) = turbostream::channel();
        let reading = tokio::spawn(async move {
            let mut reader = rx.into_reader();
            let mut buf = [0; 10];
            let len = reader.read(&mut buf).await.expect("reads never fail");
            buf[..len].to_vec()
        });
        settle().await;
        tx.send("").await.expect("open");
        settle().await;
        assert!(!reading.is_finished());
        tx.send("bytes").await.expect("open");
        assert_eq!(reading.await.expect("woken"), b"bytes");
    });
}

#[test]
fn lines_span_messages() {
    paused(async {
        let (tx, rx) = turbostream::channel();
        for part in ["one\ntw", "", "o\nthree", "\n", "no end"] {
            tx.send(part).await.expect("open");
        }
        drop(tx);
        let mut reader = rx.into_reader();
        assert_eq!(reader.fill_buf().await.expect("reads never fail"), b"one\ntw");
        reader.consume(1);
        reader.consume(0);
        assert_eq!(reader.buffer(), b"ne\ntw");
        let mut lines = Vec::new();
        let mut next = reader.lines();
        while let Some(line) = next.next_line().await.expect("text") {
            lines.push(line);
        }
        assert_eq!(lines, ["ne", "two", "three", "no end"]);
        let mut reader = next.into_inner();
        assert!(reader.fill_buf().await.expect("reads never fail").is_empty());
        reader.consume(5);
        assert!(reader.into_inner().is_closed());
    });
}

/// Otherwise the sender could wait for memory that the reader still lends, while the reader waits for the sender.
#[test]
fn fully_read_message_releases_its_memory() {
    paused(async {
        let (tx, rx) = turbostream::builder().read_mode(ReadMode::ZeroCopy).build().expect("valid");
        let mut reader = rx.into_reader();
        let lent = || tx.monitor().stats().lent_bytes;
        for rest in ["", "d"] {
            tx.send("abcd").await.expect("open");
            reader.read_exact(&mut [0; 3]).await.expect("there");
            assert!(lent() > 0, "the remaining bytes are in the buffer");
            if rest.is_empty() {
                reader.consume(1);
            } else {
                assert_eq!(reader.read_u8().await.expect("there"), b'd');
            }
            assert_eq!(lent(), 0);
        }
        tx.send("").await.expect("open");
        assert!(poll_once(&mut Box::pin(reader.fill_buf())).is_pending());
        assert!(tx.is_empty());
        assert_eq!(lent(), 0, "an empty message was received");
    });
}

#[test]
fn read_fills_buffer_from_several_queued_messages() {
    paused(async {
        let (tx, rx) = turbostream::channel();
        let mut reader = rx.into_reader();
        for number in 0..10_u8 {
            tx.send([number; 2]).await.expect("open");
        }
        let mut buf = [0; 7];
        assert_eq!(reader.read(&mut buf).await.expect("reads never fail"), 7);
        assert_eq!(buf, [0, 0, 1, 1, 2, 2, 3]);
        assert_eq!(reader.buffer(), [3]);
    });
}

/// Copies bytes between two channels, with framing at both ends.
#[test]
fn frames_survive_copy_from_channel_to_channel() {
    multi(async {
        let (first_tx, first_rx) = turbostream::builder().max_bytes(32 << 10).build().expect("valid");
        let (second_tx, second_rx) = turbostream::builder().max_bytes(32 << 10).build().expect("valid");
        let writing = tokio::spawn(async move {
            let mut frames = FramedWrite::new(first_tx.into_writer(), LengthDelimitedCodec::new());
            for number in 0..3000 {
                frames.feed(Bytes::from(message(0, number, number as usize % 300))).await.expect("open");
            }
            SinkExt::<Bytes>::close(&mut frames).await
        });
        let copying = tokio::spawn(async move {
            let (mut from, mut to) = (first_rx.into_reader(), second_tx.into_writer());
            let bytes = tokio::io::copy(&mut from, &mut to).await?;
            to.shutdown().await.map(|()| bytes)
        });
        let mut frames = FramedRead::new(second_rx.into_reader(), LengthDelimitedCodec::new());
        let mut number = 0;
        while let Some(frame) = frames.next().await {
            assert_eq!(frame.expect("whole"), message(0, number, number as usize % 300));
            number += 1;
        }
        assert_eq!(number, 3000);
        writing.await.expect("no panic").expect("open");
        let bytes = (0..3000).map(|n| 4 + n % 300).sum::<u64>();
        assert_eq!(copying.await.expect("no panic").expect("open"), bytes);
    });
}

#[test]
fn reader_debug_shows_name_but_no_payload() {
    fn assert_reader<R: AsyncRead + AsyncBufRead + Unpin + Send + Sync + std::fmt::Debug>(_: &R) {}
    paused(async {
        let (tx, rx) = turbostream::builder().name("named").build().expect("valid");
        tx.send("secret").await.expect("open");
        let mut reader: Reader = rx.into_reader();
        assert_reader(&reader);
        assert_eq!(reader.read_u8().await.expect("a byte"), b's');
        let shown = format!("{reader:?}");
        assert!(
            shown.contains("named") && shown.contains("buffered: 5") && !shown.contains("ecret"),
            "{shown}"
        );
        tx.send("kept").await.expect("open");
        assert_eq!(reader.get_ref().len(), 1);
        assert_eq!(reader.into_inner().recv().await.expect("open"), "kept");
    });
}
