//! Workloads for counting the instructions per operation. Other load on the machine does not change that count.
//!
//! `benches/instructions.py` runs them under valgrind. Without valgrind they only do the work.

use std::future::poll_fn;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;
use turbostream::{ReadMode, Receiver, Sender, StatsDelta};

// `benches/instructions.py` divides by these numbers.
const ROUNDS: usize = 40;
const MESSAGES: usize = 500;
const LIVES: usize = 1000;

/// Polls a future that completes at the first poll.
#[inline(always)]
fn poll_ready(future: impl Future<Output = ()>) {
    let polled = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_ready(), "the future is pending");
}

/// Valgrind counts the instructions of these functions and of their callees.
///
/// It starts at a function with this prefix and stops at the next one, so these functions must not call each other, nor
/// closures of this module that are not inlined.
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
    pub(super) fn send_external(tx: &Sender, messages: Vec<Bytes>) {
        poll_ready(async {
            for message in messages {
                tx.send(black_box(message)).await.expect("open");
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
    pub(super) fn recv_ref(rx: &mut Receiver) {
        poll_ready(async {
            for _ in 0..MESSAGES {
                black_box(&*rx.recv_ref().await.expect("open"));
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

    /// Runs a task, and others that were spawned before, on one thread.
    #[inline(never)]
    pub(super) fn tasks(runtime: &Runtime, task: JoinHandle<()>) {
        runtime.block_on(task).expect("no panic");
    }
}

fn main() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    // Paused: what the timers do would depend on how slow valgrind is.
    let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime");
    let workload = std::env::args().nth(1).filter(|workload| !workload.starts_with("--"));
    match workload.as_deref() {
        Some(workload) => run(&runtime, workload),
        None => WORKLOADS.into_iter().for_each(|workload| run(&runtime, workload)),
    }
}

/// The suffix of workloads with a recorder.
const RECORDED: &str = "_recorded";

const WORKLOADS: [&str; 15] = [
    "send",
    "send_recorded",
    "send_many",
    "send_with",
    "send_external",
    "recv",
    "recv_recorded",
    "recv_safe",
    "recv_external",
    "recv_shared",
    "recv_ref",
    "recv_batch",
    "lockstep",
    "hop",
    "life",
];

fn run(runtime: &Runtime, workload: &str) {
    match workload {
        "hop" => hop(runtime),
        "life" => life(runtime),
        // Unconstrained: no coop budget, so nothing yields.
        _ => runtime.block_on(tokio::task::unconstrained(async { transfer(workload) })),
    }
}

/// One side sends and the other receives, without the scheduler.
fn transfer(workload: &str) {
    let mode = if workload == "recv_safe" { ReadMode::Safe } else { ReadMode::ZeroCopy };
    let builder = turbostream::builder().read_mode(mode).max_bytes(64 << 20);
    let builder = match workload.ends_with(RECORDED) {
        true => builder.recorder(|delta: &StatsDelta<'_>| _ = black_box(delta)),
        false => builder,
    };
    let workload = workload.trim_end_matches(RECORDED);
    let (tx, mut rx) = builder.build().expect("a valid configuration");
    let _other = (workload == "recv_shared").then(|| rx.clone());
    let (message, large) = ([7; 128], Bytes::from(vec![7; 64 << 10]));
    // The first segments are small, and what is made once is not a cost of each message.
    for _ in 0..5 {
        fill(&tx, &message);
        drain(&mut rx);
    }
    for _ in 0..ROUNDS {
        match workload {
            "send" => counted::send(&tx, &message),
            "send_many" => counted::send_many(&tx, &message),
            "send_with" => counted::send_with(&tx, &message),
            "send_external" => counted::send_external(&tx, vec![large.clone(); MESSAGES]),
            "recv_external" => (0..MESSAGES).for_each(|_| tx.try_send(large.clone()).expect("room")),
            "lockstep" => counted::lockstep(&tx, &mut rx, &message),
            _ => fill(&tx, &message),
        }
        match workload {
            "recv" | "recv_safe" | "recv_external" | "recv_shared" => counted::recv(&mut rx),
            "recv_ref" => counted::recv_ref(&mut rx),
            "recv_batch" => counted::recv_batch(&mut rx),
            "life" => {}
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

/// Two tasks send a message back and forth over two channels. For each message, its receiver sleeps and is woken.
fn hop(runtime: &Runtime) {
    let open = || {
        let builder = turbostream::builder().read_mode(ReadMode::ZeroCopy).runtime(runtime.handle().clone());
        builder.build().expect("a valid configuration")
    };
    let ((near_tx, mut far_rx), (far_tx, mut near_rx)) = (open(), open());
    let message = [7; 128];
    runtime.spawn(async move {
        while let Some(received) = far_rx.recv().await {
            black_box(received);
            far_tx.send(black_box(&message)).await.expect("open");
        }
    });
    let near = runtime.spawn(async move {
        for _ in 0..ROUNDS * MESSAGES / 2 {
            near_tx.send(black_box(&message)).await.expect("open");
            black_box(near_rx.recv().await.expect("open"));
        }
    });
    counted::tasks(runtime, near);
}

/// A channel with its defaults transfers one message and is dropped. Its own tasks also end.
fn life(runtime: &Runtime) {
    let lives = runtime.spawn(async {
        let others = Handle::current().metrics();
        for _ in 0..LIVES {
            let (tx, mut rx) = turbostream::channel();
            tx.send(black_box(&[7; 128])).await.expect("open");
            black_box(rx.recv().await.expect("open"));
            drop((tx, rx));
            while others.num_alive_tasks() > 1 {
                let_others_run().await;
            }
        }
    });
    counted::tasks(runtime, lives);
}

/// Puts the task at the end of the scheduler's queue. Unlike `yield_now`, it never polls the driver.
async fn let_others_run() {
    let mut polled = false;
    poll_fn(|cx| match std::mem::replace(&mut polled, true) {
        true => Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}
