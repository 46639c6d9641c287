//! Measures the time per message, from the first send to the last message read.
//!
//! ```text
//! cargo bench --manifest-path benches/criterion/Cargo.toml
//! ```
//!
//! Each benchmark is one channel with a sending task and a receiving task, on a runtime of two workers;
//! one iteration is one message. benches/peers compares with other channels.

use std::future::Future;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::{Builder, Runtime};
use turbostream::{ReadMode, Receiver, Sender};

criterion_group!(benches, one_by_one, batches, external, ping_pong, creation);
criterion_main!(benches);

/// Receives all messages of a channel and counts them.
trait Reading: Fn(Receiver) -> Self::Done {
    type Done: Future<Output = u64> + Send;
}

impl<F: Future<Output = u64> + Send, R: Fn(Receiver) -> F> Reading for R {
    type Done = F;
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn channel(mode: ReadMode) -> (Sender, Receiver) {
    turbostream::builder().read_mode(mode).build().expect("a valid configuration")
}

async fn recv_each(mut rx: Receiver) -> u64 {
    let mut messages = 0;
    while let Some(message) = rx.recv().await {
        black_box(&message[..]);
        messages += 1;
    }
    messages
}

async fn recv_batches(mut rx: Receiver) -> u64 {
    let mut messages = 0;
    while let Some(batch) = rx.recv_batch(4096).await {
        messages += batch.iter().map(black_box).count() as u64;
    }
    messages
}

/// Runs `run` on a worker thread, as its spawned tasks do, instead of the thread of the benchmark.
async fn on_a_worker(run: impl Future<Output = Duration> + Send + 'static) -> Duration {
    tokio::spawn(run).await.expect("the run ended")
}

/// Sends `count` messages of `len` bytes, copied from one buffer, through a new channel.
async fn copied(mode: ReadMode, len: usize, count: u64, read: impl Reading) -> Duration {
    let (tx, rx) = channel(mode);
    let payload = vec![0x5a_u8; len];
    let start = Instant::now();
    let sender = tokio::spawn(async move {
        for _ in 0..count {
            tx.send(&payload[..]).await.expect("the receiver is open");
        }
    });
    let read = read(rx).await;
    let elapsed = start.elapsed();
    sender.await.expect("the sender ended");
    assert_eq!(read, count);
    elapsed
}

fn bench_copied(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mode: ReadMode,
    len: usize,
    read: impl Reading + Copy + Send + 'static,
) {
    let runtime = runtime();
    group.throughput(Throughput::Bytes(len as u64));
    group.bench_function(name, |bencher| {
        bencher.to_async(&runtime).iter_custom(|count| on_a_worker(copied(mode, len, count, read)));
    });
}

fn one_by_one(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one_by_one");
    bench_copied(&mut group, "zero_copy_128", ReadMode::ZeroCopy, 128, recv_each);
    bench_copied(&mut group, "safe_128", ReadMode::Safe, 128, recv_each);
    bench_copied(&mut group, "zero_copy_1024", ReadMode::ZeroCopy, 1024, recv_each);
    bench_copied(&mut group, "safe_1024", ReadMode::Safe, 1024, recv_each);
    group.finish();
}

fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batches");
    bench_copied(&mut group, "128", ReadMode::ZeroCopy, 128, recv_batches);
    bench_copied(&mut group, "1024", ReadMode::ZeroCopy, 1024, recv_batches);
    group.finish();
}

/// Sends one shared payload of 64 KiB, of which only the reference count changes.
fn external(criterion: &mut Criterion) {
    let runtime = runtime();
    let payload = Bytes::from(vec![0x5a_u8; 64 << 10]);
    let run = |count| {
        let payload = payload.clone();
        on_a_worker(async move {
            let (tx, rx) = channel(ReadMode::default());
            let start = Instant::now();
            let sender = tokio::spawn(async move {
                for _ in 0..count {
                    tx.send(payload.clone()).await.expect("the receiver is open");
                }
            });
            assert_eq!(recv_each(rx).await, count);
            let elapsed = start.elapsed();
            sender.await.expect("the sender ended");
            elapsed
        })
    };
    let mut group = criterion.benchmark_group("external");
    group.throughput(Throughput::Elements(1));
    group.bench_function("65536", |bencher| bencher.to_async(&runtime).iter_custom(run));
    group.finish();
}

/// Sends a message of 128 bytes to another task and back, over two channels; one iteration is a round trip.
fn ping_pong(criterion: &mut Criterion) {
    let runtime = runtime();
    let run = |count| async move {
        let (ping, mut pings) = channel(ReadMode::ZeroCopy);
        let (pong, mut pongs) = channel(ReadMode::ZeroCopy);
        let echo = tokio::spawn(async move {
            while let Some(message) = pings.recv().await {
                pong.send(&message[..]).await.expect("the caller receives");
            }
        });
        let start = Instant::now();
        for _ in 0..count {
            ping.send(&[0x5a_u8; 128]).await.expect("the echo receives");
            black_box(pongs.recv().await.expect("the echo answers"));
        }
        let elapsed = start.elapsed();
        drop(ping);
        echo.await.expect("the echo ended");
        elapsed
    };
    criterion.bench_function("ping_pong_128", |bencher| {
        bencher.to_async(&runtime).iter_custom(|count| on_a_worker(run(count)))
    });
}

fn creation(criterion: &mut Criterion) {
    let runtime = runtime();
    let _context = runtime.enter();
    let mut group = criterion.benchmark_group("creation");
    group.bench_function("made_and_dropped", |bencher| bencher.iter(turbostream::channel));
    group.bench_function("with_one_message", |bencher| {
        bencher.iter(|| {
            let (tx, mut rx) = turbostream::channel();
            tx.try_send("one").expect("room for one");
            rx.try_recv().expect("one message")
        });
    });
    group.finish();
}
