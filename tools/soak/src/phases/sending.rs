//! A sender that sends in every way there is.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use futures::SinkExt;
use turbostream::{SendTimeoutError, Sender, TrySendError};

use crate::message::{self, BY_REFERENCE_FROM, mix};
use crate::tally::Tally;

/// Messages that are made together, one behind the other.
const RUN: u64 = 64;

/// Messages that are about to be sent.
pub struct Run {
    sender: u32,
    /// Its first message, and where the next run begins.
    first: u64,
    next: u64,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// One that is too long for the run, and comes behind it.
    large: Option<Vec<u8>>,
}

impl Run {
    pub fn new(sender: u32) -> Self {
        let bytes = Vec::with_capacity(RUN as usize * 2048);
        Self { sender, first: 0, next: 0, bytes, ends: Vec::with_capacity(RUN as usize), large: None }
    }

    /// Makes the next messages.
    pub fn advance(&mut self) {
        self.first = self.next;
        self.bytes.clear();
        self.ends.clear();
        for number in self.first..self.first + RUN {
            self.next = number + 1;
            let len = message::len(self.sender, number);
            if len >= BY_REFERENCE_FROM {
                let mut large = vec![0; len];
                message::write(self.sender, number, &mut large);
                self.large = Some(large);
                return;
            }
            let start = self.bytes.len();
            self.bytes.resize(start + len, 0);
            message::write(self.sender, number, &mut self.bytes[start..]);
            self.ends.push(self.bytes.len());
        }
    }

    pub fn take_large(&mut self) -> Option<Vec<u8>> {
        self.large.take()
    }

    pub fn messages(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }
}

/// Sends until it is time to stop; what was accepted.
pub async fn send_until(stop: &AtomicBool, mut tx: Sender, sender: u32) -> Result<Tally> {
    let (mut run, mut sent) = (Run::new(sender), Tally::default());
    while !stop.load(Relaxed) {
        run.advance();
        let way = mix(run.first ^ u64::from(sender));
        send_run(&mut tx, &run, way).await.context("a run was refused")?;
        run.messages().for_each(|message| sent.add(message));
        if let Some(large) = run.take_large() {
            sent.add(&large);
            tx.send(large).await.context("a large message was refused")?;
        }
        if way % 50_000 == 0 {
            tx.drained().await.context("not drained")?;
        }
    }
    Ok(sent)
}

async fn send_run(tx: &mut Sender, run: &Run, way: u64) -> Result<()> {
    match way % 8 {
        0..4 => {
            let accepted = tx.send_many(run.messages()).await.map_err(|error| anyhow!("{error}"))?;
            ensure!(accepted == run.ends.len(), "{accepted} of {}", run.ends.len());
        }
        4 => {
            for message in run.messages() {
                let write = |buf: &mut [u8]| {
                    buf.copy_from_slice(message);
                    message.len()
                };
                tx.send_with(message.len(), write).await.map_err(|error| anyhow!("{error}"))?;
            }
        }
        5 => {
            for message in run.messages() {
                send_now_or_wait(tx, message).await?;
            }
        }
        6 if way % 256 < 8 => {
            let messages: Vec<_> = run.messages().map(Bytes::copy_from_slice).collect();
            for message in messages {
                SinkExt::feed(tx, message).await?;
            }
            SinkExt::<Bytes>::flush(tx).await?;
        }
        _ => {
            for message in run.messages() {
                Sender::send(tx, message).await.map_err(|error| anyhow!("{error}"))?;
            }
        }
    }
    Ok(())
}

/// Tries, waits for a moment, and gives that up, as long as it takes.
async fn send_now_or_wait(tx: &Sender, message: &[u8]) -> Result<()> {
    match tx.try_send(message) {
        Ok(()) => return Ok(()),
        Err(TrySendError::Full(_)) => {}
        Err(error) => bail!("{error}"),
    }
    loop {
        match tx.send_timeout(message, Duration::from_micros(50)).await {
            Ok(()) => return Ok(()),
            Err(SendTimeoutError::Timeout(_)) => {}
            Err(error) => bail!("{error}"),
        }
    }
}
