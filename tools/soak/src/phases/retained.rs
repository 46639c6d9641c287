//! The receiver retains one message of 1,000: its bytes stay unchanged, and memory stays bounded.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::runtime::Runtime;
use turbostream::{ReadMode, Receiver};

use super::senders::send_until;
use crate::heap;
use crate::message;
use crate::phase::{Findings, Progress, bytes, change, count, settled_heap};
use crate::tally::{Received, Tally};

const MAX_BYTES: usize = 16 << 20;
const ONE_OF: u64 = 1000;
/// Copies are small. A lent message keeps a whole segment, of which `max_bytes` allows 50.
const COPIES_RETAINED: usize = 1000;
const LENT_RETAINED: usize = 16;
/// The maximum that a copy keeps: its arena page and the reference count.
const PINNED_BY_COPY: usize = (4 << 10) + 256;
/// Messages that are being created and checked.
const OVERHEAD: usize = 1 << 20;
const HEAP_TOLERANCE: usize = 64 << 10;

struct Retained {
    messages: VecDeque<Bytes>,
    limit: usize,
    changed: u64,
}

impl Retained {
    fn retain(&mut self, message: Bytes) {
        self.messages.push_back(message);
        if self.messages.len() > self.limit {
            self.messages.pop_front().into_iter().for_each(|message| self.check(&message));
        }
    }

    fn check(&mut self, message: &Bytes) {
        self.changed += u64::from(message::read(message).is_err());
    }
}

pub fn run(mode: ReadMode, messages: u64, progress: &Progress) -> Result<Findings> {
    let mut findings = Findings::default();
    let limit = if mode == ReadMode::Safe { COPIES_RETAINED } else { LENT_RETAINED };
    let before = heap::in_use();
    heap::take_peak();
    let (sent, received, changed) = Runtime::new()?.block_on(pass(mode, limit, messages, progress))?;
    findings.note(format!("{} messages, {limit} retained at a time", count(sent.messages())));
    findings.check(
        received.tally == sent && (received.torn, received.reordered, changed) == (0, 0, 0),
        format!("torn {}, reordered {}, changed {changed}", received.torn, received.reordered),
    );
    let peak = heap::take_peak().saturating_sub(before);
    let copies = if mode == ReadMode::Safe { limit * PINNED_BY_COPY } else { 0 };
    let bound = MAX_BYTES + copies + OVERHEAD;
    findings.check(peak <= bound, format!("heap at most {} more, bound {}", bytes(peak), bytes(bound)));
    let after = settled_heap();
    findings.check(after <= before + HEAP_TOLERANCE, format!("heap {} afterwards", change(before, after)));
    Ok(findings)
}

async fn pass(
    mode: ReadMode,
    limit: usize,
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
    let receiving = tokio::spawn(receive(rx, limit, messages, stop, progress));
    let (received, changed) = receiving.await.context("the receiver panicked")?;
    Ok((sending.await.context("the sender panicked")??, received, changed))
}

async fn receive(
    mut rx: Receiver,
    limit: usize,
    messages: u64,
    stop: Arc<AtomicBool>,
    progress: Progress,
) -> (Received, u64) {
    let (mut received, mut number) = (Received::default(), 0);
    let mut retained = Retained { messages: VecDeque::with_capacity(limit + 1), limit, changed: 0 };
    while let Some(message) = rx.recv().await {
        received.check(&message);
        number += 1;
        if number % ONE_OF == 0 {
            retained.retain(message);
        }
        if number % (1 << 20) == 0 {
            progress.show(format!("{} of {}", count(number), count(messages)));
        }
        if number == messages {
            stop.store(true, Relaxed);
        }
    }
    for message in std::mem::take(&mut retained.messages) {
        retained.check(&message);
    }
    (received, retained.changed)
}
