//! The same through `tokio::sync::mpsc`, the way it is fastest: lines are reference-counted slices of what
//! was read (no copy, no allocation), permits are taken many at a time, and the receiver takes all there is
//! with `recv_many`.

use std::io::{self, IoSlice};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use turbostream::Monitor;

use crate::channel::{Channel, LineReceiver, LineSender};
use crate::lines::line_len;
use crate::tag::{Tag, Tagger};
use crate::writer::LineWriter;

/// Lines that the channel holds at most.
const CAPACITY: usize = 16 * 1024;
/// Permits taken at once.
const PERMITS: usize = 256;
/// Lines taken at once.
const BATCH: usize = 8 * 1024;

pub(crate) struct TokioMpsc;

pub(crate) struct Line {
    tag: Tag,
    bytes: Bytes,
}

pub(crate) struct Lines {
    rx: mpsc::Receiver<Line>,
    batch: Vec<Line>,
}

impl Channel for TokioMpsc {
    type Sender = mpsc::Sender<Line>;
    type Receiver = Lines;

    const NAME: &'static str = "tokio mpsc";

    fn open() -> anyhow::Result<(mpsc::Sender<Line>, Lines, Option<Monitor>)> {
        let (tx, rx) = mpsc::channel(CAPACITY);
        Ok((tx, Lines { rx, batch: Vec::with_capacity(BATCH) }, None))
    }
}

impl LineSender for mpsc::Sender<Line> {
    async fn send_lines(&self, lines: BytesMut, tagger: &mut Tagger) -> anyhow::Result<bool> {
        let mut rest = lines.freeze();
        while !rest.is_empty() {
            let Ok(permits) = self.reserve_many(PERMITS).await else { return Ok(false) };
            for permit in permits {
                if rest.is_empty() {
                    break; // the permits that are left go back
                }
                let bytes = rest.split_to(line_len(&rest));
                if tagger.sample_due() {
                    permit.send(Line { tag: tagger.timed(), bytes });
                    tagger.accepted_timed();
                } else {
                    permit.send(Line { tag: tagger.plain(), bytes });
                    tagger.accepted_plain();
                }
            }
        }
        Ok(true)
    }
}

impl LineReceiver for Lines {
    async fn write_batch(&mut self, out: &mut LineWriter) -> io::Result<bool> {
        self.batch.clear();
        if self.rx.recv_many(&mut self.batch, BATCH).await == 0 {
            return Ok(false);
        }
        out.begin_batch();
        let mut lines: Vec<_> = self.batch.iter().map(|line| IoSlice::new(&line.bytes)).collect();
        for line in &self.batch {
            out.note(line.tag);
        }
        out.write_lines(&mut lines)?;
        Ok(true)
    }
}
