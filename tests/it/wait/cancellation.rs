//! Futures dropped at any await point lose no message and no wakeup. A cancelled send has no effect.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::{check, current, impatient, message, ms, multi, paused};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::yield_now;
use turbostream::{ReadMode, Receiver, RecvTimeoutError, SendTimeoutError, Sender};

/// Two segments of 16 messages each: senders wait nearly all the time.
fn narrow(mode: ReadMode) -> (Sender, Receiver) {
    turbostream::builder()
        .segment_bytes(4096)
        .segment_messages(16)
        .max_bytes(9 << 10)
        .read_mode(mode)
        .build()
        .expect("a valid configuration")
}

fn len_of(number: u32) -> usize {
    16 + number as usize * 37 % 400
}

async fn write(tx: Sender, count: u32) {
    for number in 0..count {
        tx.send(message(0, number, len_of(number))).await.expect("open");
        if number % 29 == 0 {
            yield_now().await;
        }
    }
}

/// Receives once in one of three ways, cancelled after `polls` polls. Returns `false` when the channel has ended.
async fn read_once(rx: &mut Receiver, way: usize, polls: usize, into: &mut Vec<Bytes>) -> bool {
    match way {
        0 => match impatient(polls, rx.recv()).await {
            Some(Some(m)) => into.push(m),
            Some(None) => return false,
            None => yield_now().await,
        },
        1 => {
            let mut many = Vec::new();
            match impatient(polls, rx.recv_many(&mut many, 5)).await {
                Some(0) => return false,
                Some(n) => assert_eq!(n, many.len()),
                None => {
                    assert!(many.is_empty(), "a cancelled recv_many took messages");
                    yield_now().await;
                }
            }
            into.append(&mut many);
        }
        _ => match impatient(polls, rx.recv_batch(7)).await {
            Some(Some(batch)) => into.extend(batch),
            Some(None) => return false,
            None => yield_now().await,
        },
    }
    true
}

async fn receive_with_cancellation() {
    const COUNT: u32 = 1500;
    for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
        for way in 0..3 {
            for polls in 1..=3 {
                let (tx, mut rx) = narrow(mode);
                let writer = tokio::spawn(write(tx, COUNT));
                let (mut next, mut got) = (0, Vec::new());
                while read_once(&mut rx, way, polls, &mut got).await {
                    for m in got.drain(..) {
                        assert_eq!(check(&m), Some((0, next)), "{mode:?} way {way}, polls {polls}");
                        next += 1;
                    }
                }
                assert_eq!(next, COUNT, "{mode:?} way {way}, polls {polls}");
                writer.await.expect("no panic in the sender");
            }
        }
    }
}

#[test]
fn receives_dropped_at_every_kth_poll_lose_nothing_multi() {
    multi(receive_with_cancellation());
}

#[test]
fn receives_dropped_at_every_kth_poll_lose_nothing_current() {
    current(receive_with_cancellation());
}

/// Repeats a send, cancelling each attempt after some polls, until one completes. Counts the cancelled attempts.
async fn send_with_retries(tx: &Sender, bytes: &[u8], polls: impl Fn() -> usize) -> u64 {
    let mut cancelled = 0;
    loop {
        match impatient(polls(), tx.send(bytes)).await {
            Some(sent) => {
                sent.expect("open");
                return cancelled;
            }
            None => cancelled += 1,
        }
        yield_now().await;
    }
}

async fn cancelled_sends(large: bool) {
    const SENDERS: u32 = 3;
    const COUNT: u32 = 400;
    let (tx, mut rx) = narrow(ReadMode::Safe);
    let monitor = tx.monitor();
    let cancelled = Arc::new(AtomicU64::new(0));
    for sender in 0..SENDERS {
        let (tx, cancelled) = (tx.clone(), cancelled.clone());
        tokio::spawn(async move {
            let rng = Mutex::new(StdRng::seed_from_u64(u64::from(sender)));
            for number in 0..COUNT {
                let len = if large { 1000 + 3 * len_of(number) } else { len_of(number) };
                let bytes = message(sender, number, len);
                let polls = || rng.lock().expect("rng").random_range(1..4);
                cancelled.fetch_add(send_with_retries(&tx, &bytes, polls).await, Ordering::Relaxed);
            }
        });
    }
    drop(tx);
    let mut next = [0; SENDERS as usize];
    while let Some(m) = rx.recv().await {
        let (sender, number) = check(&m).expect("has a header");
        assert_eq!(number, next[sender as usize], "sender {sender}");
        next[sender as usize] += 1;
        if number % 3 == 0 {
            yield_now().await;
        }
    }
    assert_eq!(next, [COUNT; SENDERS as usize]);
    assert!(cancelled.load(Ordering::Relaxed) > 0, "no send was ever cancelled");
    let stats = monitor.stats();
    assert_eq!(stats.sent_messages, u64::from(SENDERS * COUNT));
    assert_eq!(stats.waiting_senders, 0);
}

#[test]
fn cancelled_sends_have_no_effect_multi() {
    multi(cancelled_sends(false));
}

#[test]
fn cancelled_sends_have_no_effect_current() {
    current(cancelled_sends(true));
}

#[test]
fn timeouts_return_payloads_and_lose_nothing() {
    paused(async {
        const COUNT: u32 = 300;
        let (tx, mut rx) = narrow(ReadMode::Safe);
        let writer = tokio::spawn(async move {
            let mut timeouts = 0;
            for number in 0..COUNT {
                let mut bytes = message(0, number, len_of(number));
                while let Err(error) = tx.send_timeout(bytes, ms(2)).await {
                    assert!(matches!(error, SendTimeoutError::Timeout(_)));
                    bytes = error.into_inner();
                    timeouts += 1;
                }
            }
            timeouts
        });
        let (mut next, mut empty) = (0, 0);
        loop {
            match rx.recv_timeout(ms(3)).await {
                Ok(m) => {
                    assert_eq!(check(&m), Some((0, next)));
                    next += 1;
                }
                Err(RecvTimeoutError::Timeout) => empty += 1,
                Err(_) => break,
            }
            if next % 7 == 0 {
                tokio::time::sleep(ms(11)).await;
            }
        }
        assert_eq!(next, COUNT);
        assert!(writer.await.expect("no panic in the sender") > 0, "no send ever timed out");
        assert_eq!(empty, 0, "messages were always queued");
    });
}

async fn select_storm() {
    const COUNT: u32 = 4000;
    let (tx, mut rx) = narrow(ReadMode::ZeroCopy);
    let (mut other, mut batches) = (rx.clone(), rx.clone());
    let writer = tokio::spawn(write(tx, COUNT));
    let mut next = 0;
    loop {
        let got = tokio::select! {
            m = rx.recv() => m,
            m = other.recv() => m,
            m = impatient(1, batches.recv_batch(1)) => match m {
                Some(batch) => batch.and_then(|b| b.into_iter().next()),
                None => continue,
            },
            () = yield_now() => continue,
        };
        let Some(m) = got else { break };
        assert_eq!(check(&m), Some((0, next)));
        next += 1;
    }
    assert_eq!(next, COUNT);
    writer.await.expect("no panic in the sender");
}

#[test]
fn select_storm_loses_nothing_multi() {
    multi(select_storm());
}

#[test]
fn select_storm_loses_nothing_current() {
    current(select_storm());
}

/// Tasks record each sent and each received number before their next await.
async fn abort_storm() {
    const ROUNDS: u32 = 100;
    let (tx, mut rx) = narrow(ReadMode::Safe);
    let monitor = tx.monitor();
    let sent = Arc::new(Mutex::new(Vec::new()));
    let got = Arc::new(Mutex::new(Vec::new()));
    let mut rng = StdRng::seed_from_u64(7);
    let mut tasks = VecDeque::new();
    for round in 0..ROUNDS {
        let (tx, sent) = (tx.clone(), sent.clone());
        tasks.push_back(tokio::spawn(async move {
            for number in 0.. {
                tx.send(message(round, number, len_of(number))).await.expect("open");
                sent.lock().expect("sent").push((round, number));
            }
        }));
        let (mut rx, got) = (rx.clone(), got.clone());
        tasks.push_back(tokio::spawn(async move {
            while let Some(m) = rx.recv().await {
                got.lock().expect("got").push(check(&m).expect("has a header"));
            }
        }));
        for _ in 0..rng.random_range(0..5) {
            yield_now().await;
        }
        while tasks.len() > 6 {
            let index = rng.random_range(0..tasks.len());
            tasks.swap_remove_back(index).expect("a task").abort();
        }
    }
    for task in tasks {
        task.abort();
        assert!(task.await.is_err());
    }
    // The other tasks receive the remaining messages, and none is stuck.
    tokio::spawn(async move { tx.send(message(ROUNDS, 0, 16)).await.expect("open") });
    while let Some(m) = rx.recv().await {
        got.lock().expect("got").push(check(&m).expect("has a header"));
    }
    sent.lock().expect("sent").push((ROUNDS, 0));
    assert_same(&sent, &got, monitor.stats().sent_messages);
}

fn assert_same(sent: &Mutex<Vec<(u32, u32)>>, got: &Mutex<Vec<(u32, u32)>>, accepted: u64) {
    let mut sent = sent.lock().expect("sent");
    let mut got = got.lock().expect("got");
    sent.sort_unstable();
    got.sort_unstable();
    assert_eq!(accepted, sent.len() as u64);
    assert!(*sent == *got, "{} sent, {} received", sent.len(), got.len());
}

#[test]
fn abort_storm_loses_nothing_multi() {
    multi(abort_storm());
}

#[test]
fn abort_storm_loses_nothing_current() {
    current(abort_storm());
}
