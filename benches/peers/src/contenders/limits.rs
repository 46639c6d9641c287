//! Lower bounds for any channel between tasks: a byte ring between two spinning threads, and the copy alone.
//! Neither wakes, sleeps, or returns an owned message.

use super::{Entry, Unit};
use crate::workloads::{Check, Copied, Job, Outcome, Payload, Source, Statistic};
use rtrb::{Consumer, CopyToUninit, Producer, RingBuffer};
use std::hint::black_box;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

/// The maximum number of messages per chunk of the ring.
const CHUNK: usize = 64;
/// A multiple of every message length, so that no message is split.
const RING_BYTES: usize = 256 << 10;

pub const RTRB: Entry = Entry {
    name: "rtrb",
    krate: "rtrb",
    api: "bytes in chunks of up to 64 messages between two threads that spin; borrowed in place",
    unit: Unit::Bytes,
    supports: |workload| {
        let copied = [Payload::Copy128, Payload::Copy1K].contains(&workload.payload());
        workload.has_workers()
            && workload.is_stream()
            && copied
            && workload.senders() == 1
            && workload.receivers() == 1
    },
    capacities: |_| vec![RING_BYTES, 64 << 10, 1 << 20],
    run: |workload, job| match workload.payload() {
        Payload::Copy1K => through_rtrb::<1024>(job),
        _ => through_rtrb::<128>(job),
    },
    limit: true,
    lends: true,
};

pub const MEMCPY: Entry = Entry {
    name: "memcpy",
    krate: "",
    api: "copy_from_slice into 256 KiB over and over, by one thread",
    unit: Unit::Bytes,
    supports: |workload| (RTRB.supports)(workload),
    capacities: |_| vec![RING_BYTES],
    run: |workload, job| match workload.payload() {
        Payload::Copy1K => through_memory::<1024>(job),
        _ => through_memory::<128>(job),
    },
    limit: true,
    lends: true,
};

fn through_rtrb<const LEN: usize>(job: Job) -> Result<Outcome, String> {
    let total = job.warmup() + job.messages;
    let (mut producer, mut consumer) = RingBuffer::new(job.capacity);
    let mut source = Copied::<LEN>::new(0);
    let mut check = Check::<Copied<LEN>>::exclusive(1);
    let warm = AtomicBool::new(false);

    let (start, end) = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            write_until(&mut producer, &mut source, 0..job.warmup());
            spin_until(|| warm.load(Relaxed).then_some(()));
            let start = Instant::now();
            write_until(&mut producer, &mut source, job.warmup()..total);
            start
        });
        read(&mut consumer, &mut check, job.warmup());
        warm.store(true, Relaxed);
        read(&mut consumer, &mut check, job.messages);
        let end = Instant::now();
        sender.join().map(|start| (start, end)).map_err(|_| "the sender's thread failed".to_string())
    })?;
    Check::finish(vec![check], total)?;
    let ns_per_message = end.duration_since(start).as_nanos() as f64 / job.messages as f64;
    Ok(Outcome::from([(Statistic::NsPerMessage, ns_per_message)]))
}

fn write_until<const LEN: usize>(
    producer: &mut Producer<u8>,
    source: &mut Copied<LEN>,
    mut indices: Range<u64>,
) {
    while !indices.is_empty() {
        let free = spin_until(|| Some(producer.slots() / LEN).filter(|&free| free > 0));
        let count = free.min(CHUNK).min((indices.end - indices.start) as usize);
        let mut chunk = producer.write_chunk_uninit(count * LEN).expect("there is room");
        let (first, second) = chunk.as_mut_slices();
        for (slot, index) in first.chunks_mut(LEN).chain(second.chunks_mut(LEN)).zip(&mut indices) {
            source.stamped(index).copy_to_uninit(slot);
        }
        // SAFETY: every slot of the chunk is filled: there is one index per slot, and each message is `LEN` bytes long.
        unsafe { chunk.commit_all() };
    }
}

fn read<const LEN: usize>(consumer: &mut Consumer<u8>, check: &mut Check<Copied<LEN>>, count: u64) {
    let mut left = count as usize;
    while left > 0 {
        let available = spin_until(|| Some(consumer.slots() / LEN).filter(|&available| available > 0));
        let count = available.min(left);
        let chunk = consumer.read_chunk(count * LEN).expect("there are messages");
        let (first, second) = chunk.as_slices();
        for message in first.chunks(LEN).chain(second.chunks(LEN)) {
            check.verify(message);
        }
        chunk.commit_all();
        left -= count;
    }
}

/// Retries until it succeeds. Yields now and then, as there may be a single core.
fn spin_until<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    loop {
        for _ in 0..1000 {
            if let Some(result) = attempt() {
                return result;
            }
            std::hint::spin_loop();
        }
        thread::yield_now();
    }
}

fn through_memory<const LEN: usize>(job: Job) -> Result<Outcome, String> {
    let total = job.warmup() + job.messages;
    let mut memory = vec![0; job.capacity];
    let mut source = Copied::<LEN>::new(0);
    let mut copy = |mut indices: Range<u64>| {
        let start = Instant::now();
        while !indices.is_empty() {
            for (slot, index) in black_box(&mut memory).chunks_exact_mut(LEN).zip(&mut indices) {
                slot.copy_from_slice(source.stamped(index));
            }
        }
        start.elapsed()
    };
    copy(0..job.warmup());
    let elapsed = copy(job.warmup()..total);
    let last = memory.chunks_exact(LEN).filter_map(Copied::<LEN>::stamp).map(|stamp| stamp.index()).max();
    if last != Some(total - 1) {
        return Err(format!("{total} messages copied, but the last is {last:?}"));
    }
    Ok(Outcome::from([(Statistic::NsPerMessage, elapsed.as_nanos() as f64 / job.messages as f64)]))
}
