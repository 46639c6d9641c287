//! Helpers shared by the test binaries: watchdogs, runtimes and messages with verifiable contents.
#![allow(dead_code, reason = "every test binary uses a part of this module")]

use std::future::Future;
use std::panic::resume_unwind;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder as RuntimeBuilder, Runtime};

/// Limit after which a running test body counts as stuck. Real time, also under a paused clock.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Multiplier for the amount of work of scalable tests, from `TURBOSTREAM_EFFORT`; 1 in the gate.
pub(crate) fn effort() -> usize {
    std::env::var("TURBOSTREAM_EFFORT").map_or(1, |times| times.parse().expect("a number"))
}

/// Yields the stored inputs of a fuzz target in file order.
pub(crate) fn corpus(target: &str) -> impl Iterator<Item = Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).expect("a corpus").map(|file| file.expect("a file").path()).collect();
    files.sort();
    files.into_iter().map(|path| {
        println!("{}", path.display());
        std::fs::read(path).expect("an input")
    })
}

/// Multiplier for the watchdog limit on slow machines or under a checker, from `TURBOSTREAM_PATIENCE`.
fn limit_factor() -> u32 {
    std::env::var("TURBOSTREAM_PATIENCE").map_or(1, |times| times.parse().expect("a number"))
}

/// Runs `body` on its own thread; panics instead of hanging if it does not end.
pub(crate) fn plain(body: impl FnOnce() + Send + 'static) {
    plain_within(LIMIT, body);
}

/// Runs `body` like `plain`, with its own limit.
pub(crate) fn plain_within(limit: Duration, body: impl FnOnce() + Send + 'static) {
    let limit = limit * limit_factor();
    let (alive, ended) = mpsc::channel::<()>();
    let worker = thread::spawn(move || {
        let _alive = alive; // dropped when the body returns or panics
        body();
    });
    if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
        panic!("stuck: the test body still runs after {limit:?}");
    }
    if let Err(panic) = worker.join() {
        resume_unwind(panic);
    }
}

/// Builds a multi-thread runtime with two workers.
pub(crate) fn multi_runtime() -> Runtime {
    RuntimeBuilder::new_multi_thread().worker_threads(2).enable_all().build().expect("a multi-thread runtime")
}

/// Builds a current-thread runtime, optionally with a paused clock.
pub(crate) fn current_runtime(paused: bool) -> Runtime {
    RuntimeBuilder::new_current_thread()
        .enable_all()
        .start_paused(paused)
        .build()
        .expect("a current-thread runtime")
}

/// Runs `body` on a multi-thread runtime, under the watchdog.
pub(crate) fn multi(body: impl Future<Output = ()> + Send + 'static) {
    plain(move || {
        let runtime = multi_runtime();
        runtime
            .block_on(async { tokio::spawn(body).await.unwrap_or_else(|e| resume_unwind(e.into_panic())) });
    });
}

/// Runs `body` on a current-thread runtime, under the watchdog.
pub(crate) fn current(body: impl Future<Output = ()> + Send + 'static) {
    plain(move || current_runtime(false).block_on(body));
}

/// Runs `body` on a current-thread runtime with a paused clock, under the (real-time) watchdog.
pub(crate) fn paused(body: impl Future<Output = ()> + Send + 'static) {
    plain(move || current_runtime(true).block_on(body));
}

/// Leaks `value` without dropping it. It stays reachable, so a leak checker reports only other leaks.
pub(crate) fn leak<T>(value: T) {
    static LEAKED: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    LEAKED.lock().expect("pushing does not panic").push(Box::into_raw(Box::new(value)).expose_provenance());
}

/// Lets every other ready task of a current-thread runtime run until it waits.
pub(crate) async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

/// Advances a paused clock and runs the tasks that this wakes.
pub(crate) async fn advance(by: Duration) {
    settle().await;
    tokio::time::advance(by).await;
    settle().await;
}

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Length of the message header: sender, number and length.
pub(crate) const HEADER: usize = 16;

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Returns a deterministic pseudo-random value for message `number` of `sender`.
pub(crate) fn hash(sender: u32, number: u32) -> u64 {
    mix((u64::from(sender) << 32 | u64::from(number)).wrapping_add(0x9e37_79b9_7f4a_7c15))
}

/// Builds a message of `len` bytes, each determined by its sender, number and length.
pub(crate) fn message(sender: u32, number: u32, len: usize) -> Vec<u8> {
    if len < HEADER {
        return vec![0xa5 ^ len as u8; len];
    }
    let mut out = Vec::with_capacity(len + 8);
    out.extend_from_slice(&sender.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&(len as u64).to_le_bytes());
    let mut word = hash(sender, number);
    while out.len() < len {
        out.extend_from_slice(&word.to_le_bytes());
        word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
    }
    out.truncate(len);
    out
}

/// Checks every byte of a message. Returns `(sender, number)`, or `None` if it is too short for a header.
pub(crate) fn check(bytes: &[u8]) -> Option<(u32, u32)> {
    if bytes.len() < HEADER {
        assert_eq!(bytes, message(0, 0, bytes.len()), "torn short message");
        return None;
    }
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let (sender, number) = (word(0), word(4));
    assert!(
        bytes == message(sender, number, bytes.len()),
        "torn message {number} of sender {sender}, {} bytes",
        bytes.len()
    );
    Some((sender, number))
}

/// Polls a future once, with a waker that does nothing.
pub(crate) fn poll_once<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Counts how often its waker is woken.
#[derive(Default)]
pub(crate) struct WakeCounter(AtomicUsize);

impl Wake for WakeCounter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl WakeCounter {
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let counter = Arc::new(Self::default());
        (Arc::clone(&counter), Waker::from(counter))
    }

    /// Returns the number of wakes since the last call.
    pub(crate) fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// Polls a future and completes with `None` after `patience` polls that returned `Pending`.
pub(crate) struct Impatient<F> {
    inner: Pin<Box<F>>,
    patience: usize,
}

pub(crate) fn impatient<F: Future>(patience: usize, inner: F) -> Impatient<F> {
    Impatient { inner: Box::pin(inner), patience }
}

impl<F: Future> Future for Impatient<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(out) = self.inner.as_mut().poll(cx) {
            return Poll::Ready(Some(out));
        }
        self.patience = self.patience.saturating_sub(1);
        if self.patience == 0 { Poll::Ready(None) } else { Poll::Pending }
    }
}

/// Returns a closure for `send_with` that writes `bytes`.
pub(crate) fn write_bytes(bytes: &[u8]) -> impl FnOnce(&mut [u8]) -> usize {
    move |buf| {
        buf[..bytes.len()].copy_from_slice(bytes);
        bytes.len()
    }
}
