//! A TCP proxy that delays, stalls and cuts what passes through it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// Stands between a client and a server. Its connections end when it is dropped.
pub(crate) struct Proxy {
    port: u16,
    control: watch::Sender<Control>,
    budget: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy)]
struct Control {
    delay: Duration,
    answers_are_stalled: bool,
    requests_stall: bool,
    cuts: u64,
}

impl Proxy {
    /// Starts a proxy for the server on `upstream`.
    pub(crate) async fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let initial =
            Control { delay: Duration::ZERO, answers_are_stalled: false, requests_stall: false, cuts: 0 };
        let (control, controlled) = watch::channel(initial);
        let budget = Arc::new(AtomicU64::new(u64::MAX));
        let task = tokio::spawn(accept(listener, upstream, controlled, Arc::clone(&budget)));
        Self { port, control, budget, task }
    }

    /// Returns the address for clients.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Delays what is read from now on by this time, in each direction.
    pub(crate) fn delay(&self, delay: Duration) {
        self.control.send_modify(|control| control.delay = delay);
    }

    /// Stops passing on what the server sends, until the next cut.
    pub(crate) fn stall_answers(&self) {
        self.control.send_modify(|control| control.answers_are_stalled = true);
    }

    /// Cuts all connections now. Answers that were stopped are lost; new connections pass them on.
    pub(crate) fn cut(&self) {
        self.control.send_modify(|control| {
            control.cuts += 1;
            control.answers_are_stalled = false;
            control.requests_stall = false;
        });
    }

    /// Stops passing on what the client sends from the byte at this distance on, until the next cut.
    pub(crate) fn stall_requests_after(&self, bytes: u64) {
        self.control.send_modify(|control| control.requests_stall = true);
        self.budget.store(bytes, Ordering::Relaxed);
    }

    /// Whether the byte of [`stall_requests_after`](Self::stall_requests_after) was reached.
    pub(crate) fn has_stalled_requests(&self) -> bool {
        self.budget.load(Ordering::Relaxed) == u64::MAX
    }

    /// Cuts the connection of the client that sends the byte at this distance, once.
    pub(crate) fn cut_after(&self, bytes: u64) {
        self.budget.store(bytes, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    upstream: u16,
    control: watch::Receiver<Control>,
    budget: Arc<AtomicU64>,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(connection(client, upstream, control.clone(), Arc::clone(&budget)));
    }
}

async fn connection(
    client: TcpStream,
    upstream: u16,
    control: watch::Receiver<Control>,
    budget: Arc<AtomicU64>,
) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let mut cut = control.clone();
    let cuts = cut.borrow().cuts;
    tokio::select! {
        () = pump(client_read, server_write, control.clone(), Some(budget)) => {}
        () = pump(server_read, client_write, control, None) => {}
        _ = cut.wait_for(|control| control.cuts != cuts) => {}
    }
}

/// Passes bytes on, in order, each after the delay that held when it was read. Ends when either side ends, or when the
/// budget is used up.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut control: watch::Receiver<Control>,
    budget: Option<Arc<AtomicU64>>,
) {
    let (queue, mut queued) = mpsc::channel::<(Instant, Vec<u8>)>(4096);
    let delays = control.clone();
    let read = async move {
        loop {
            let mut chunk = vec![0; 64 * 1024];
            match from.read(&mut chunk).await {
                Ok(1..) if queue.is_closed() => return,
                Ok(read @ 1..) => {
                    chunk.truncate(read);
                    let due = Instant::now() + delays.borrow().delay;
                    if queue.send((due, chunk)).await.is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    };
    let cuts = control.borrow().cuts;
    let is_answer = budget.is_none();
    let write = async move {
        while let Some((due, mut chunk)) = queued.recv().await {
            // The timer would round no delay up to a millisecond.
            if due > Instant::now() {
                tokio::time::sleep_until(due).await;
            }
            let may_pass = |now: &Control| now.cuts != cuts || !(is_answer && now.answers_are_stalled);
            if !control.wait_for(may_pass).await.is_ok_and(|now| now.cuts == cuts) {
                return;
            }
            let left = budget.as_ref().map_or(u64::MAX, |budget| take(budget, chunk.len() as u64));
            let is_last = left < chunk.len() as u64;
            chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            let written = to.write_all(&chunk).await;
            if is_last && control.borrow().requests_stall {
                // The cut ends this connection.
                std::future::pending::<()>().await;
            }
            if written.is_err() || is_last {
                return;
            }
        }
    };
    tokio::select! {
        () = write => {}
        // What was read before the end is still written: the writer ends with the queue.
        () = async { read.await; std::future::pending().await } => {}
    }
}

/// Takes up to `wanted` bytes from the budget. A budget that is used up is lifted.
fn take(budget: &AtomicU64, wanted: u64) -> u64 {
    match budget.load(Ordering::Relaxed) {
        u64::MAX => wanted,
        left if left >= wanted => {
            budget.store(left - wanted, Ordering::Relaxed);
            wanted
        }
        left => {
            budget.store(u64::MAX, Ordering::Relaxed);
            left
        }
    }
}
