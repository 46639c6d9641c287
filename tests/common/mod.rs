//! Helpers shared by the test binaries: watchdogs, runtimes and messages that check themselves.
#![allow(dead_code, reason = "every test binary uses a part of this module")]

use std::future::Future;
use std::panic::resume_unwind;
use std::path::Path;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder as RuntimeBuilder, Runtime};

/// How long a test body may run before it counts as stuck. Real time, also under a paused clock.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// How many times as much as in the gate is to be done, where a test can do more: `TURBOSTREAM_EFFORT`.
pub(crate) fn effort() -> usize {
    std::env::var("TURBOSTREAM_EFFORT").map_or(1, |times| times.parse().expect("a number"))
}

/// What a fuzz target has gathered, one input after the other.
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

/// How many times as long a test may take before it counts as stuck, where the machine or a checker makes it slow:
/// `TURBOSTREAM_PATIENCE`.
fn patience() -> u32 {
    std::env::var("TURBOSTREAM_PATIENCE").map_or(1, |times| times.parse().expect("a number"))
}

/// Runs `body` on a thread of its own; fails, rather than hangs, when it does not end.
pub(crate) fn plain(body: impl FnOnce() + Send + 'static) {
    plain_within(LIMIT, body);
}

/// The same for a body that may take longer.
pub(crate) fn plain_within(limit: Duration, body: impl FnOnce() + Send + 'static) {
    let limit = limit * patience();
    let (alive, ended) = mpsc::channel::<()>();
    let worker = thread::spawn(move || {
        let _alive = alive; // dropped at the end of the body, also by a panic
        body();
    });
    if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
        panic!("stuck: the test body still runs after {limit:?}");
    }
    if let Err(panic) = worker.join() {
        resume_unwind(panic);
    }
}

/// A multi-thread runtime of two workers.
pub(crate) fn multi_runtime() -> Runtime {
    RuntimeBuilder::new_multi_thread().worker_threads(2).enable_all().build().expect("a multi-thread runtime")
}

/// A current-thread runtime, its clock paused or not.
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

/// Forgets `value` without dropping it. It stays in reach, so that a leak checker tells what is lost besides.
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

/// Moves a paused clock and lets the tasks that this wakes run.
pub(crate) async fn advance(by: Duration) {
    settle().await;
    tokio::time::advance(by).await;
    settle().await;
}

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Bytes at the head of a message that name its sender, its number and its length.
pub(crate) const HEADER: usize = 16;

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A deterministic pseudo-random number for message `number` of `sender`.
pub(crate) fn hash(sender: u32, number: u32) -> u64 {
    mix((u64::from(sender) << 32 | u64::from(number)).wrapping_add(0x9e37_79b9_7f4a_7c15))
}

/// A message of `len` bytes whose every byte follows from its sender, number and length.
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

/// Checks every byte of a message. `Some((sender, number))`, or `None` for one too short to say.
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

/// Polls a future and gives it up, dropped, after `patience` polls that found it not ready.
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
