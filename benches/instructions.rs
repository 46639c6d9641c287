//! Workloads for counting the instructions per message. Other load on the machine does not change that count.
//!
//! `benches/instructions.sh` runs them under valgrind. Without valgrind they only do the work.

use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Waker};

use bytes::Bytes;
use turbostream::{ReadMode, Receiver, Sender, StatsDelta};

const ROUNDS: usize = 40;
const MESSAGES: usize = 500;

/// Polls a future that completes at the first poll.
#[inline(always)]
fn poll_ready(future: impl Future<Output = ()>) {
    let polled = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_ready(), "the future is pending");
}

/// Valgrind counts the instructions of these functions only.
mod counted {
    use super::*;

    #[inline(never)]
    pub(super) fn send(tx: &Sender, message: &[u8]) {
        poll_ready(async {
            for _ in 0..MESSAGES {
                tx.send(black_box(message)).await.expect("open");
            }
        });
    }

    #[inline(never)]
    pub(super) fn send_many(tx: &Sender, message: &[u8]) {
        poll_ready(async {
            let messages = std::iter::repeat_n(black_box(message), MESSAGES);
            assert_eq!(tx.send_many(messages).await.expect("open"), MESSAGES);
        });
    }

    #[inline(never)]
    pub(super) fn send_with(tx: &Sender, message: &[u8]) {
        poll_ready(async {
            for _ in 0..MESSAGES {
                let message = black_box(message);
                let write = |buffer: &mut [u8]| {
                    buffer.copy_from_slice(message);
                    message.len()
                };
                tx.send_with(message.len(), write).await.expect("open");
            }
        });
    }

    #[inline(never)]
    pub(super) fn send_external(tx: &Sender, message: &Bytes) {
        poll_ready(async {
            for _ in 0..MESSAGES {
                tx.send(black_box(message).clone()).await.expect("open");
            }
        });
    }

    #[inline(never)]
    pub(super) fn recv(rx: &mut Receiver) {
        poll_ready(async {
            for _ in 0..MESSAGES {
                black_box(rx.recv().await.expect("open"));
            }
        });
    }

    #[inline(never)]
    pub(super) fn recv_batch(rx: &mut Receiver) {
        poll_ready(async {
            let mut messages = 0;
            while messages < MESSAGES {
                let batch = rx.recv_batch(MESSAGES).await.expect("open");
                messages += batch.len();
                batch.iter().for_each(|message| _ = black_box(message));
            }
        });
    }

    /// Each message wakes a waiting receiver.
    #[inline(never)]
    pub(super) fn lockstep(tx: &Sender, rx: &mut Receiver, message: &[u8]) {
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..MESSAGES {
            let mut receiving = pin!(rx.recv());
            assert!(receiving.as_mut().poll(&mut cx).is_pending());
            poll_ready(async { tx.send(black_box(message)).await.expect("open") });
            assert!(black_box(receiving.poll(&mut cx)).is_ready());
        }
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let workload = std::env::args().nth(1).filter(|workload| !workload.starts_with("--"));
    // Unconstrained: no coop budget, so nothing yields.
    runtime.block_on(tokio::task::unconstrained(async {
        match workload.as_deref() {
            Some(workload) => run(workload),
            None => WORKLOADS.into_iter().for_each(run),
        }
    }));
}

/// The suffix of workloads with a recorder.
const RECORDED: &str = "_recorded";

const WORKLOADS: [&str; 10] = [
    "send",
    "send_recorded",
    "send_many",
    "send_with",
    "send_external",
    "recv",
    "recv_recorded",
    "recv_safe",
    "recv_batch",
    "lockstep",
];

fn run(workload: &str) {
    let mode = if workload == "recv_safe" { ReadMode::Safe } else { ReadMode::ZeroCopy };
    let builder = turbostream::builder().read_mode(mode).max_bytes(64 << 20);
    let builder = match workload.ends_with(RECORDED) {
        true => builder.recorder(|delta: &StatsDelta<'_>| _ = black_box(delta)),
        false => builder,
    };
    let workload = workload.trim_end_matches(RECORDED);
    let (tx, mut rx) = builder.build().expect("a valid configuration");
    let (message, large) = ([7; 128], Bytes::from(vec![7; 64 << 10]));
    for _ in 0..ROUNDS {
        match workload {
            "send" => counted::send(&tx, &message),
            "send_many" => counted::send_many(&tx, &message),
            "send_with" => counted::send_with(&tx, &message),
            "send_external" => counted::send_external(&tx, &large),
            "lockstep" => counted::lockstep(&tx, &mut rx, &message),
            _ => fill(&tx, &message),
        }
        match workload {
            "recv" | "recv_safe" => counted::recv(&mut rx),
            "recv_batch" => counted::recv_batch(&mut rx),
            _ => drain(&mut rx),
        }
    }
}

fn fill(tx: &Sender, message: &[u8]) {
    (0..MESSAGES).for_each(|_| tx.try_send(message).expect("room"));
}

fn drain(rx: &mut Receiver) {
    while rx.try_recv().is_ok() {}
}
