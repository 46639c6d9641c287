//! A sender that uses every method of sending.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use futures::SinkExt;
use turbostream::{SendTimeoutError, Sender, TrySendError};

use crate::message::{self, EXTERNAL_FROM, mix};
use crate::tally::Tally;

/// The number of messages in a group.
const GROUP: u64 = 64;

/// Consecutive messages to send.
pub struct Group {
    sender: u32,
    /// The number of the first message.
    first: u64,
    /// The number of the next group's first message.
    next: u64,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// An external message, sent after the group.
    large: Option<Vec<u8>>,
}

impl Group {
    pub fn new(sender: u32) -> Self {
        let bytes = Vec::with_capacity(GROUP as usize * 2048);
        Self { sender, first: 0, next: 0, bytes, ends: Vec::with_capacity(GROUP as usize), large: None }
    }

    /// Creates the next messages.
    pub fn advance(&mut self) {
        self.first = self.next;
        self.bytes.clear();
        self.ends.clear();
        for number in self.first..self.first + GROUP {
            self.next = number + 1;
            let len = message::len(self.sender, number);
            if len >= EXTERNAL_FROM {
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

/// Sends until `stop` is set; returns the tally of sent messages.
pub async fn send_until(stop: &AtomicBool, mut tx: Sender, sender: u32) -> Result<Tally> {
    let (mut group, mut sent) = (Group::new(sender), Tally::default());
    while !stop.load(Relaxed) {
        group.advance();
        let method = mix(group.first ^ u64::from(sender));
        send_group(&mut tx, &group, method).await.context("a group was rejected")?;
        group.messages().for_each(|message| sent.add(message));
        if let Some(large) = group.take_large() {
            sent.add(&large);
            tx.send(large).await.context("a large message was rejected")?;
        }
        if method % 50_000 == 0 {
            tx.drained().await.context("not drained")?;
        }
    }
    Ok(sent)
}

async fn send_group(tx: &mut Sender, group: &Group, method: u64) -> Result<()> {
    match method % 8 {
        0..4 => {
            let sent = tx.send_many(group.messages()).await.map_err(|error| anyhow!("{error}"))?;
            ensure!(sent == group.ends.len(), "{sent} of {}", group.ends.len());
        }
        4 => {
            for message in group.messages() {
                let write = |buf: &mut [u8]| {
                    buf.copy_from_slice(message);
                    message.len()
                };
                tx.send_with(message.len(), write).await.map_err(|error| anyhow!("{error}"))?;
            }
        }
        5 => {
            for message in group.messages() {
                send_with_retries(tx, message).await?;
            }
        }
        6 if method % 256 < 8 => {
            let messages: Vec<_> = group.messages().map(Bytes::copy_from_slice).collect();
            for message in messages {
                SinkExt::feed(tx, message).await?;
            }
            SinkExt::<Bytes>::flush(tx).await?;
        }
        _ => {
            for message in group.messages() {
                Sender::send(tx, message).await.map_err(|error| anyhow!("{error}"))?;
            }
        }
    }
    Ok(())
}

/// Tries to send, then waits with short timeouts until a wait succeeds.
async fn send_with_retries(tx: &Sender, message: &[u8]) -> Result<()> {
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
