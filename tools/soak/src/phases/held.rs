//! Somebody keeps a message of a thousand for longer: it stays as it was, and nothing grows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::runtime::Runtime;
use turbostream::{ReadMode, Receiver};

use super::sending::send_until;
use crate::heap;
use crate::message;
use crate::phase::{Findings, Progress, bytes, change, count, heap_at_rest};
use crate::tally::{Received, Tally};

const MAX_BYTES: usize = 16 << 20;
const ONE_OF: u64 = 1000;
/// Copies are small. A message that is lent keeps a whole segment, of which `max_bytes` allows 50.
const COPIES_HELD: usize = 1000;
const LENT_HELD: usize = 16;
/// The most that a copy keeps: its page, and what it takes to share it.
const PINNED_BY_COPY: usize = (4 << 10) + 256;
/// What is being made and looked at.
const BESIDE: usize = 1 << 20;
const LEFT_BEHIND: usize = 64 << 10;

struct Held {
    messages: VecDeque<Bytes>,
    most: usize,
    changed: u64,
}

impl Held {
    fn hold(&mut self, message: Bytes) {
        self.messages.push_back(message);
        if self.messages.len() > self.most {
            self.messages.pop_front().into_iter().for_each(|message| self.release(&message));
        }
    }

    fn release(&mut self, message: &Bytes) {
        self.changed += u64::from(message::read(message).is_err());
    }
}

pub fn run(mode: ReadMode, messages: u64, progress: &Progress) -> Result<Findings> {
    let mut findings = Findings::default();
    let held = if mode == ReadMode::Safe { COPIES_HELD } else { LENT_HELD };
    let before = heap::in_use();
    heap::take_peak();
    let (sent, received, changed) = Runtime::new()?.block_on(pass(mode, held, messages, progress))?;
    findings.see(format!("{} messages, {held} held at a time", count(sent.messages())));
    findings.demand(
        received.tally == sent && (received.torn, received.reordered, changed) == (0, 0, 0),
        format!("torn {}, reordered {}, held ones that changed {changed}", received.torn, received.reordered),
    );
    let peak = heap::take_peak().saturating_sub(before);
    let copies = if mode == ReadMode::Safe { held * PINNED_BY_COPY } else { 0 };
    let bound = MAX_BYTES + copies + BESIDE;
    findings.demand(peak <= bound, format!("heap at most {} more, bound {}", bytes(peak), bytes(bound)));
    let after = heap_at_rest();
    findings.demand(after <= before + LEFT_BEHIND, format!("heap {} afterwards", change(before, after)));
    Ok(findings)
}

async fn pass(
    mode: ReadMode,
    held: usize,
    messages: u64,
    progress: &Progress,
) -> Result<(Tally, Received, u64)> {
    let (tx, rx) = turbostream::builder().max_bytes(MAX_BYTES).read_mode(mode).build()?;
    let stop = Arc::new(AtomicBool::new(false));
    let sending = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move { send_until(&stop, tx, 0).await }
    });
    let progress = progress.clone();
    let receiving = tokio::spawn(receive(rx, held, messages, stop, progress));
    let (received, changed) = receiving.await.context("the receiver panicked")?;
    Ok((sending.await.context("the sender panicked")??, received, changed))
}

async fn receive(
    rx: Receiver,
    most: usize,
    messages: u64,
    stop: Arc<AtomicBool>,
    progress: Progress,
) -> (Received, u64) {
    let (mut received, mut number) = (Received::default(), 0);
    let mut held = Held { messages: VecDeque::with_capacity(most + 1), most, changed: 0 };
    while let Some(message) = rx.recv().await {
        received.check(&message);
        number += 1;
        if number % ONE_OF == 0 {
            held.hold(message);
        }
        if number % (1 << 20) == 0 {
            progress.tell(format!("{} of {}", count(number), count(messages)));
        }
        if number == messages {
            stop.store(true, Relaxed);
        }
    }
    for message in std::mem::take(&mut held.messages) {
        held.release(&message);
    }
    (received, held.changed)
}
