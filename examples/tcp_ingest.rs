//! Writes lines from many TCP clients to one file.
//!
//! Each connection is copied into the channel line by line, and one task writes batches. When the file is too slow, the
//! channel fills up, connections are no longer read, and TCP makes the clients wait: the bytes in flight stay bounded.
//!
//! ```text
//! cargo run --release --example tcp_ingest                                # own clients, a slow file, and a check
//! cargo run --release --example tcp_ingest -- 127.0.0.1:5140 lines.log    # serves until Ctrl-C
//! ```
//!
//! `receive` and `write_out` are what a service needs.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, IoSlice, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinSet, block_in_place};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use turbostream::{Monitor, Receiver, Sender};

/// The memory between all connections and the file.
const MAX_BYTES: usize = 256 << 10;
const MAX_LINE: usize = 16 << 10;
const CLIENTS: usize = 16;
const LINES: usize = 20_000;
/// The pace of the slow file, in bytes per second.
const SLOW_BYTES: f64 = 40e6;
/// Small, so that TCP does not buffer everything.
const SOCKET_BUFFER: u32 = 16 << 10;
/// A loopback packet is up to 64 KiB, and each side may hold one more than its buffer size.
const SOCKET_SLACK: u64 = 2 * (64 << 10);

/// Writes lines that TCP clients send into one file
#[derive(Parser)]
struct Options {
    /// Where to listen [default: any free port, with clients in this process]
    #[arg(requires = "output")]
    address: Option<SocketAddr>,
    /// The file to append to
    output: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    match (options.address, options.output) {
        (Some(address), Some(output)) => serve(address, output).await,
        _ => demonstrate().await,
    }
}

/// Serves until Ctrl-C, and then writes all remaining received lines.
async fn serve(address: SocketAddr, output: PathBuf) -> anyhow::Result<()> {
    let file = File::options().create(true).append(true).open(&output).context("cannot open the output")?;
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}, Ctrl-C ends", listener.local_addr()?);
    let (tx, rx) = open()?;
    let written = Arc::new(AtomicU64::new(0));
    let writer = tokio::spawn(write_out(rx, file, Arc::clone(&written), None));
    let stop = CancellationToken::new();
    let mut connections = JoinSet::new();
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            interrupted = &mut interrupt => { interrupted?; break }
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => {
                    let (tx, stop) = (tx.clone(), stop.clone());
                    connections.spawn(async move { (peer, receive(socket, tx, stop).await) });
                }
                Err(error) => {
                    println!("cannot accept: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await; // too many open files, usually
                }
            },
            Some(ended) = connections.join_next() => match ended? {
                (peer, Ok(bytes)) => println!("{peer}: {bytes} bytes"),
                (peer, Err(error)) => println!("{peer}: {error}"),
            },
            () = tx.closed() => break, // the file cannot be written: the receiver is dropped
        }
    }
    stop.cancel();
    connections.join_all().await;
    drop(tx);
    let lines = writer.await??;
    println!("{lines} lines, {} bytes written", written.load(Ordering::Relaxed));
    Ok(())
}

fn open() -> anyhow::Result<(Sender, Receiver)> {
    Ok(turbostream::builder().name("lines").max_bytes(MAX_BYTES).max_message_bytes(MAX_LINE).build()?)
}

/// Copies a client's bytes into the channel, a line at a time, until its end or the stop. Ends an unfinished last line.
async fn receive(socket: TcpStream, tx: Sender, stop: CancellationToken) -> io::Result<u64> {
    let mut lines = tx.into_delimited_writer(b'\n');
    let mut socket = tokio::io::BufReader::new(socket);
    let copied = tokio::select! {
        copied = tokio::io::copy_buf(&mut socket, &mut lines) => copied,
        // The buffer still holds what was read and not sent yet.
        () = stop.cancelled() => lines.write_all(socket.buffer()).await.map(|()| 0),
    };
    // Also if the connection broke: an incomplete line is kept, as a line of its own. One that is too long is refused again.
    if !lines.buffer().is_empty() && !lines.get_ref().is_closed() {
        lines.write_all(b"\n").await?;
    }
    lines.shutdown().await?;
    copied
}

/// Writes batches of lines until the channel is closed and drained, no faster than `pace` bytes a second.
async fn write_out(
    mut rx: Receiver,
    mut file: File,
    written: Arc<AtomicU64>,
    pace: Option<f64>,
) -> io::Result<u64> {
    let (mut lines, start) = (0, Instant::now());
    while let Some(batch) = rx.recv_batch(1024).await {
        block_in_place(|| write_all(&mut file, &mut batch.io_slices()))?;
        lines += batch.len() as u64;
        let before = written.fetch_add(batch.payload_bytes() as u64, Ordering::Relaxed);
        if let Some(pace) = pace {
            let due = (before + batch.payload_bytes() as u64) as f64 / pace;
            tokio::time::sleep_until(start + Duration::from_secs_f64(due)).await;
        }
    }
    Ok(lines)
}

fn write_all(file: &mut File, mut lines: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !lines.is_empty() {
        match file.write_vectored(lines) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(bytes) => IoSlice::advance_slices(&mut lines, bytes),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sends more than the slow file can write, measures the bytes in flight, and verifies the file.
async fn demonstrate() -> anyhow::Result<()> {
    let path = tempfile::NamedTempFile::new()?.into_temp_path();
    let (tx, rx) = open()?;
    let listening = TcpSocket::new_v4()?;
    listening.set_recv_buffer_size(SOCKET_BUFFER)?; // accepted sockets inherit it
    listening.bind("127.0.0.1:0".parse()?)?;
    let buffers = u64::from(listening.recv_buffer_size()?);
    let listener = listening.listen(CLIENTS as u32)?;
    let address = listener.local_addr()?;

    let traffic = Traffic { monitor: tx.monitor(), sent: AtomicU64::new(0), written: Arc::default() };
    let traffic = Arc::new(traffic);
    let start = Instant::now();
    let writer =
        tokio::spawn(write_out(rx, File::create(&path)?, Arc::clone(&traffic.written), Some(SLOW_BYTES)));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(run_client(client, address, Arc::clone(&traffic)));
    }
    let accepting = tokio::spawn(accept_all(listener, tx));
    let peak = peak_until(&traffic, async move {
        let mut buffers = 0;
        while let Some(client) = clients.join_next().await {
            buffers += client??;
        }
        anyhow::Ok(buffers)
    });
    let (peak, client_buffers) = peak.await?;
    accepting.await??;
    let lines = writer.await??;
    let took = start.elapsed();

    let bytes = traffic.written.load(Ordering::Relaxed);
    println!("{CLIENTS} clients sent {lines} lines, {} KiB, in {took:.1?}", bytes >> 10);
    // The channel, the socket buffers of both sides, and for each connection the client's chunk and the copy buffer.
    let bound = MAX_BYTES as u64
        + client_buffers
        + CLIENTS as u64 * (buffers + SOCKET_SLACK + (8 << 10) + CHUNK as u64);
    peak.verify(bound, bytes)?;
    verify(&path)
}

/// Receives from every client to its end. The connections hold the only senders: the last one closes the channel.
async fn accept_all(listener: TcpListener, tx: Sender) -> io::Result<()> {
    let mut connections = JoinSet::new();
    for _ in 0..CLIENTS {
        let (socket, _) = listener.accept().await?;
        connections.spawn(receive(socket, tx.clone(), CancellationToken::new()));
    }
    drop(tx);
    while let Some(received) = connections.join_next().await {
        received??;
    }
    Ok(())
}

/// The most that a client sends at once, in whole lines.
const CHUNK: usize = 4 << 10;

/// What the clients have sent and the file holds so far.
struct Traffic {
    monitor: Monitor,
    sent: AtomicU64,
    written: Arc<AtomicU64>,
}

/// The highest values of the samples.
#[derive(Default)]
struct Peak {
    in_flight: u64,
    channel: usize,
    waiting: usize,
}

/// Samples the traffic every millisecond until `end` completes.
async fn peak_until<T>(
    traffic: &Traffic,
    end: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(Peak, T)> {
    let mut peak = Peak::default();
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let mut end = std::pin::pin!(end);
    loop {
        tokio::select! {
            end = &mut end => return Ok((peak, end?)),
            _ = ticks.tick() => {
                // In this order: bytes that are written in between must not count as in flight.
                let sent = traffic.sent.load(Ordering::Relaxed);
                let in_flight = sent.saturating_sub(traffic.written.load(Ordering::Relaxed));
                let stats = traffic.monitor.stats();
                peak.in_flight = peak.in_flight.max(in_flight);
                peak.channel = peak.channel.max(stats.memory_bytes());
                peak.waiting = peak.waiting.max(stats.waiting_senders);
            }
        }
    }
}

impl Peak {
    fn verify(&self, bound: u64, total: u64) -> anyhow::Result<()> {
        let Self { in_flight, channel, waiting } = *self;
        let kib = |bytes: u64| bytes >> 10;
        println!("at most {} KiB of {} KiB were in flight at once,", kib(in_flight), kib(total));
        println!("in the channel's {} KiB and in the buffers of sockets", kib(MAX_BYTES as u64));
        println!("up to {waiting} of {CLIENTS} connections waited at once, and TCP made their clients wait");
        ensure!(channel <= MAX_BYTES, "the channel used more than its bound");
        ensure!(bound < total / 4, "not enough was sent to show anything");
        ensure!(in_flight <= bound, "more than {bound} bytes were in flight");
        ensure!(waiting > 0, "no connection ever waited: the file is not slow enough");
        Ok(())
    }
}

/// Sends numbered lines as fast as possible. Returns the size of the socket's send buffer.
async fn run_client(client: usize, address: SocketAddr, traffic: Arc<Traffic>) -> anyhow::Result<u64> {
    let socket = TcpSocket::new_v4()?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    let buffer = u64::from(socket.send_buffer_size()?);
    let mut stream = socket.connect(address).await?;
    let mut chunk = Vec::with_capacity(CHUNK);
    for number in 0..LINES {
        writeln!(chunk, "client {client} line {number} {}", filler(client, number))?;
        if chunk.len() + 128 > CHUNK || number + 1 == LINES {
            traffic.sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            stream.write_all(&chunk).await?;
            chunk.clear();
        }
    }
    stream.shutdown().await?;
    Ok(buffer)
}

/// Returns the text of a line, a function of its client and number.
fn filler(client: usize, number: usize) -> &'static str {
    const TEXT: &str =
        "the quick brown fox jumps over the lazy dog, again and again, until all lines were sent";
    &TEXT[..20 + (client * 7 + number * 13) % (TEXT.len() - 20)]
}

/// Checks that every line of every client is in the file, whole, and the lines of each client in order.
fn verify(path: &std::path::Path) -> anyhow::Result<()> {
    let mut next = [0; CLIENTS];
    for line in BufReader::new(File::open(path)?).lines() {
        let line = line?;
        let mut words = line.splitn(5, ' ');
        let client: usize = words.nth(1).context("no client")?.parse()?;
        let number: usize = words.nth(1).context("no number")?.parse()?;
        ensure!(next.get(client) == Some(&number), "lost, repeated or out of order: {line}");
        ensure!(words.next() == Some(filler(client, number)), "torn: {line}");
        next[client] += 1;
    }
    ensure!(next == [LINES; CLIENTS], "lost: {next:?}");
    println!("verified: every line of every client is in the file, whole, and each client's are in order");
    Ok(())
}
