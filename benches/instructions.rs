//! What one message costs in instructions, which no other program on the machine changes: to be run by
//! `benches/instructions.sh`, under valgrind. Run by itself it only does the work.

use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Waker};

use bytes::Bytes;
use turbostream::{ReadMode, Receiver, Sender, StatsDelta};

const ROUNDS: usize = 40;
const MESSAGES: usize = 500;

/// Polls a future that never has to wait.
#[inline(always)]
fn at_once(future: impl Future<Output = ()>) {
    let polled = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_ready(), "it had to wait");
}

/// What is counted is what runs inside of these functions.
mod counted {
    use super::*;

    #[inline(never)]
    pub(super) fn send(tx: &Sender, message: &[u8]) {
        at_once(async {
            for _ in 0..MESSAGES {
                tx.send(black_box(message)).await.expect("open");
            }
        });
    }

    #[inline(never)]
    pub(super) fn send_many(tx: &Sender, message: &[u8]) {
        at_once(async {
            let messages = std::iter::repeat_n(black_box(message), MESSAGES);
            assert_eq!(tx.send_many(messages).await.expect("open"), MESSAGES);
        });
    }

    #[inline(never)]
    pub(super) fn send_with(tx: &Sender, message: &[u8]) {
        at_once(async {
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
    pub(super) fn send_by_reference(tx: &Sender, message: &Bytes) {
        at_once(async {
            for _ in 0..MESSAGES {
                tx.send(black_box(message).clone()).await.expect("open");
            }
        });
    }

    #[inline(never)]
    pub(super) fn recv(rx: &Receiver) {
        at_once(async {
            for _ in 0..MESSAGES {
                black_box(rx.recv().await.expect("open"));
            }
        });
    }

    #[inline(never)]
    pub(super) fn recv_batch(rx: &Receiver) {
        at_once(async {
            let mut messages = 0;
            while messages < MESSAGES {
                let batch = rx.recv_batch(MESSAGES).await.expect("open");
                messages += batch.len();
                batch.iter().for_each(|message| _ = black_box(message));
            }
        });
    }

    /// Each message finds the receiver asleep.
    #[inline(never)]
    pub(super) fn lockstep(tx: &Sender, rx: &Receiver, message: &[u8]) {
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..MESSAGES {
            let mut receiving = pin!(rx.recv());
            assert!(receiving.as_mut().poll(&mut cx).is_pending());
            at_once(async { tx.send(black_box(message)).await.expect("open") });
            assert!(black_box(receiving.poll(&mut cx)).is_ready());
        }
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let what = std::env::args().nth(1).filter(|what| !what.starts_with("--"));
    // Without a budget: nothing here ever yields.
    runtime.block_on(tokio::task::unconstrained(async {
        match what.as_deref() {
            Some(what) => run(what),
            None => WORKLOADS.into_iter().for_each(run),
        }
    }));
}

/// On a channel whose figures are reported.
const RECORDED: &str = "_recorded";

const WORKLOADS: [&str; 10] = [
    "send",
    "send_recorded",
    "send_many",
    "send_with",
    "send_by_reference",
    "recv",
    "recv_recorded",
    "recv_safe",
    "recv_batch",
    "lockstep",
];

fn run(what: &str) {
    let mode = if what == "recv_safe" { ReadMode::Safe } else { ReadMode::ZeroCopy };
    let builder = turbostream::builder().read_mode(mode).max_bytes(64 << 20);
    let builder = match what.ends_with(RECORDED) {
        true => builder.recorder(|changes: &StatsDelta<'_>| _ = black_box(changes)),
        false => builder,
    };
    let what = what.trim_end_matches(RECORDED);
    let (tx, rx) = builder.build().expect("a valid configuration");
    let (message, large) = ([7; 128], Bytes::from(vec![7; 64 << 10]));
    for _ in 0..ROUNDS {
        match what {
            "send" => counted::send(&tx, &message),
            "send_many" => counted::send_many(&tx, &message),
            "send_with" => counted::send_with(&tx, &message),
            "send_by_reference" => counted::send_by_reference(&tx, &large),
            "lockstep" => counted::lockstep(&tx, &rx, &message),
            _ => fill(&tx, &message),
        }
        match what {
            "recv" | "recv_safe" => counted::recv(&rx),
            "recv_batch" => counted::recv_batch(&rx),
            _ => drain(&rx),
        }
    }
}

fn fill(tx: &Sender, message: &[u8]) {
    (0..MESSAGES).for_each(|_| tx.try_send(message).expect("room"));
}

fn drain(rx: &Receiver) {
    while rx.try_recv().is_ok() {}
}
