//! The lines as messages of turbostream: a tag and the line's bytes, copied into a segment once.

use std::io;

use anyhow::Context;
use bytes::BytesMut;
use turbostream::{Monitor, Receiver, Sender};

use crate::channel::{Channel, LineReceiver, LineSender};
use crate::lines::{CHUNK, MAX_LINE, line_len};
use crate::tag::{Tag, Tagger};
use crate::writer::LineWriter;

/// Memory of the channel. It holds about as many lines of usual length as the other channel's capacity, so
/// that the times in the two channels can be compared.
const MAX_BYTES: usize = 4 << 20;
/// A batch holds messages of one segment: as many as there are.
const BATCH: usize = usize::MAX;

pub(crate) struct Turbostream;

impl Channel for Turbostream {
    type Sender = TaggingSender;
    type Receiver = Receiver;

    const NAME: &'static str = "turbostream";

    fn open() -> anyhow::Result<(TaggingSender, Receiver, Option<Monitor>)> {
        let (tx, rx) = turbostream::builder()
            .name("log_pipeline")
            .max_bytes(MAX_BYTES)
            .max_message_bytes(Tag::BYTES + MAX_LINE + CHUNK)
            .build()
            .context("cannot make the channel")?;
        let monitor = tx.monitor();
        Ok((TaggingSender(tx), rx, Some(monitor)))
    }
}

/// A sender that puts a tag before each line.
#[derive(Clone)]
pub(crate) struct TaggingSender(Sender);

impl LineSender for TaggingSender {
    async fn send_lines(&self, lines: BytesMut, tagger: &mut Tagger) -> anyhow::Result<bool> {
        let mut message = Vec::with_capacity(512);
        let mut rest = &lines[..];
        while !rest.is_empty() {
            let (line, after) = rest.split_at(line_len(rest));
            rest = after;
            if tagger.sample_due() && self.try_send_timed(&mut message, line, tagger) {
                continue;
            }
            compose(&mut message, tagger.plain(), line);
            if self.0.send(&message[..]).await.is_err() {
                return Ok(false);
            }
            tagger.accepted_plain();
        }
        Ok(true)
    }
}

impl TaggingSender {
    /// Sends a line with the time on it, unless it would have to wait: waiting for room is not time in the
    /// channel.
    fn try_send_timed(&self, message: &mut Vec<u8>, line: &[u8], tagger: &mut Tagger) -> bool {
        compose(message, tagger.timed(), line);
        let accepted = self.0.try_send(&message[..]).is_ok();
        if accepted {
            tagger.accepted_timed();
        }
        accepted
    }
}

fn compose(message: &mut Vec<u8>, tag: Tag, line: &[u8]) {
    message.clear();
    message.extend_from_slice(&tag.to_bytes());
    message.extend_from_slice(line);
}

impl LineReceiver for Receiver {
    async fn write_batch(&mut self, out: &mut LineWriter) -> io::Result<bool> {
        let Some(batch) = self.recv_batch(BATCH).await else { return Ok(false) };
        out.begin_batch();
        let mut lines = batch.io_slices();
        for line in &mut lines {
            out.note(Tag::of(line));
            line.advance(Tag::BYTES);
        }
        out.write_lines(&mut lines)?;
        Ok(true)
    }
}
