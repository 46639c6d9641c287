//! The channel's heap use, counted by a global allocator. One test runs all cases, so that no other test runs beside it.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::{advance, check, current_runtime, message, ms, multi_runtime, plain, settle};
use turbostream::{ReadMode, Receiver, Sender};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicUsize = AtomicUsize::new(0);

fn count(allocated: usize, freed: usize) {
    if allocated > 0 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
    LIVE.fetch_add(allocated.wrapping_sub(freed), Ordering::Relaxed);
}

// SAFETY: every call is passed on, unchanged, to the system allocator, which meets the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller meets the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller meets the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size, layout.size());
        // SAFETY: the caller meets the contract of `realloc`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller meets the contract of `dealloc`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

fn allocations() -> usize {
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// Returns the bytes allocated after `before` was read and still alive.
fn live_since(before: usize) -> isize {
    LIVE.load(Ordering::Relaxed).wrapping_sub(before) as isize
}

fn live_bytes() -> usize {
    LIVE.load(Ordering::Relaxed)
}

const MESSAGE: [u8; 128] = [42; 128];

fn zero_copy() -> (Sender, Receiver) {
    turbostream::builder()
        .read_mode(ReadMode::ZeroCopy)
        .pool_idle(Duration::from_secs(60))
        .build()
        .expect("valid")
}

fn assert_few(allocations: usize, messages: usize, what: &str) {
    assert!(allocations * 100 <= messages, "{what}: {allocations} allocations for {messages} messages");
}

/// One task sends, another receives. Allocations are counted after a warm-up.
async fn streaming(way: usize) {
    const WARM: usize = 50_000;
    const COUNT: usize = 200_000;
    let (tx, mut rx) = zero_copy();
    let monitor = rx.monitor();
    let switches = move || {
        let switches = monitor.stats().switches;
        (switches.on_demand + switches.full + switches.strategy) as usize
    };
    let writing = tokio::spawn(async move {
        for _ in 0..WARM + COUNT {
            tx.send(&MESSAGE).await.expect("open");
        }
    });
    let reading = tokio::spawn(async move {
        let (mut got, mut warm, mut many) = (0, None, Vec::with_capacity(1024));
        while got < WARM + COUNT {
            got += match way {
                0 => rx.recv().await.map_or(0, |m| usize::from(m == MESSAGE[..])),
                1 => rx
                    .recv_batch(1024)
                    .await
                    .map_or(0, |batch| batch.iter().filter(|m| **m == MESSAGE).count()),
                _ => rx.recv_many(&mut many, 1024).await,
            };
            many.clear();
            if got >= WARM && warm.is_none() {
                warm = Some((allocations(), got, switches()));
            }
        }
        let (before, at, switched) = warm.expect("warmed up");
        (allocations() - before, got - at, switches() - switched)
    });
    let (allocations, messages, switches) = reading.await.expect("no panic in the receiver");
    writing.await.expect("no panic in the sender");
    // A switch makes a chunk, or two. How many messages it finds depends on the scheduler.
    assert_few(allocations.saturating_sub(2 * switches), messages, ["recv", "recv_batch", "recv_many"][way]);
}

fn streaming_allocates_nothing_per_message_multi() {
    (0..3).for_each(|way| multi_runtime().block_on(streaming(way)));
}

fn streaming_allocates_nothing_per_message_current() {
    (0..3).for_each(|way| current_runtime(false).block_on(streaming(way)));
}

fn bulk_send_then_drain_allocates_nothing_per_message() {
    const BULK: usize = 40_000;
    let runtime = current_runtime(false);
    let _guard = runtime.enter();
    let (tx, mut rx) = zero_copy();
    let mut before = 0;
    for round in 0..8 {
        if round == 2 {
            before = allocations();
        }
        (0..BULK).for_each(|_| tx.try_send(&MESSAGE).expect("room"));
        (0..BULK).for_each(|_| assert_eq!(rx.try_recv().expect("all are there"), MESSAGE[..]));
    }
    assert_few(allocations() - before, 6 * BULK, "bulk");
}

fn channel_without_messages_costs_at_most_8_kib() {
    current_runtime(true).block_on(async {
        drop(turbostream::channel());
        settle().await;
        let before = live_bytes();
        let channels: Vec<_> = (0..10).map(|_| turbostream::channel()).collect();
        advance(ms(5000)).await;
        let each = live_since(before) / 10;
        assert!((1..=8 << 10).contains(&each), "{each} bytes");
        let waiting = tokio::spawn({
            let mut rx = channels[0].1.clone();
            async move { rx.recv().await }
        });
        settle().await;
        assert!(live_since(before) / 10 <= 8 << 10, "also while a receiver waits");
        drop(channels);
        assert_eq!(waiting.await.expect("no panic in the receiver"), None);
        settle().await;
        assert!(live_since(before) <= 2 << 10, "{} bytes not freed", live_since(before));
    });
}

fn channel_with_few_messages_costs_at_most_16_kib() {
    current_runtime(true).block_on(async {
        drop(turbostream::channel());
        for mode in [ReadMode::Safe, ReadMode::ZeroCopy] {
            let before = live_bytes();
            let build = || turbostream::builder().read_mode(mode).build().expect("valid");
            let mut channels: Vec<_> = (0..10).map(|_| build()).collect();
            for (tx, rx) in &mut channels {
                (0..10).for_each(|_| tx.try_send(&MESSAGE).expect("room"));
                let each = live_since(before) / 10;
                assert!(each <= 16 << 10, "{each} bytes, {mode:?}, queued");
                (0..10).for_each(|_| assert_eq!(rx.try_recv().expect("all are there"), MESSAGE[..]));
            }
            for idle in [0, 60_000] {
                advance(ms(idle)).await;
                let each = live_since(before) / 10;
                assert!((1..=16 << 10).contains(&each), "{each} bytes, {mode:?}, after {idle} ms");
            }
        }
    });
}

fn life_of_a_channel_allocates_little() {
    current_runtime(true).block_on(async {
        let life = || {
            let (before, live) = (allocations(), live_bytes());
            let (tx, mut rx) = zero_copy();
            tx.try_send(&MESSAGE).expect("room");
            drop(rx.try_recv().expect("a message"));
            let most = live_since(live);
            drop((tx, rx));
            (allocations() - before, most, live_since(live))
        };
        life();
        let (allocations, most, left) = life();
        assert!(allocations <= 12, "{allocations} allocations");
        assert!(most <= 14 << 10, "{most} bytes");
        assert_eq!(left, 0, "bytes not freed");
    });
}

fn heap_stays_within_max_bytes_and_is_freed() {
    const MAX: usize = 4 << 20;
    current_runtime(true).block_on(async {
        let before = live_bytes();
        let builder = turbostream::builder().segment_bytes(64 << 10).segment_messages(1024).max_bytes(MAX);
        let (tx, mut rx) = builder.pool_idle(ms(100)).build().expect("valid");
        for len in [0, 128, 5000, 30_000, 100_000] {
            while tx.try_send(&vec![1; len][..]).is_ok() {}
            assert!(
                live_since(before) <= (MAX + (64 << 10)) as isize,
                "{} bytes, full of {len}",
                live_since(before)
            );
            assert!(len == 0 || live_since(before) > MAX as isize / 2, "only {} bytes", live_since(before));
            while rx.try_recv().is_ok() {}
            tokio::time::sleep(ms(1000)).await;
            assert!(live_since(before) <= 32 << 10, "{} bytes, idle after {len}", live_since(before));
        }
        drop((tx, rx));
        settle().await;
        assert!(live_since(before) <= 4 << 10, "{} bytes not freed", live_since(before));
    });
}

/// Its segments are freed as they are read. Only pages are left to the background task.
fn drained_closed_channel_keeps_no_pages() {
    current_runtime(true).block_on(async {
        let before = live_bytes();
        let (tx, mut rx) = turbostream::channel();
        let monitor = tx.monitor();
        (0..500).for_each(|_| tx.try_send(&MESSAGE).expect("room"));
        drop(tx);
        while rx.try_recv().is_ok() {}
        assert_eq!(monitor.stats().memory_bytes(), 0);
        assert!(live_since(before) > 32 << 10, "{} bytes: the pages are still allocated", live_since(before));
        tokio::time::sleep(ms(60_000)).await;
        assert!(live_since(before) <= 32 << 10, "{} bytes when idle", live_since(before));
        drop(rx);
    });
}

fn kept_copy_pins_at_most_4_kib() {
    for len in [16, 100, 700, 1023] {
        let before = live_bytes();
        let kept: Vec<Bytes> = current_runtime(false).block_on(async {
            let (tx, mut rx) = turbostream::channel();
            let mut kept = Vec::new();
            for number in 0..5000 {
                tx.send(&message(0, number, len)[..]).await.expect("open");
                let m = rx.recv().await.expect("open");
                if number % 250 == 0 {
                    kept.push(m);
                }
            }
            kept
        });
        assert_eq!(kept.len(), 20);
        assert!(kept.iter().all(|m| check(m).is_some()));
        let each = live_since(before) / 20;
        assert!(each <= (4 << 10) + 512, "{each} bytes pinned by each kept copy of {len}");
    }
}

fn lent_memory_of_dropped_channel_is_freed_by_its_last_holder() {
    // The first round is not counted: the first thread allocates memory that all later ones share.
    for (round, mode) in [ReadMode::Safe, ReadMode::Safe, ReadMode::ZeroCopy].into_iter().enumerate() {
        let before = live_bytes();
        let kept = current_runtime(false).block_on(async {
            let (tx, mut rx) = turbostream::builder().read_mode(mode).build().expect("valid");
            (0..500).for_each(|n| tx.try_send(&message(0, n, 3000)[..]).expect("room"));
            let kept: Vec<_> = std::iter::from_fn(|| rx.try_recv().ok()).step_by(100).collect();
            tx.try_send(&MESSAGE).expect("room"); // never read
            kept
        });
        assert_eq!(kept.len(), 5);
        assert!(live_since(before) >= 5 * 3000, "the lent memory is still allocated");
        std::thread::spawn(move || drop(kept)).join().expect("another thread");
        let left = live_since(before);
        assert!(round == 0 || left <= 1 << 10, "{mode:?}: {left} bytes not freed");
    }
}

#[cfg(feature = "forward")]
mod forward {
    use std::future::{Ready, ready};

    use turbostream::forward::{Confirmation, Destination, Forwarder, Outgoing, PublishError};

    use super::*;

    struct Nowhere;

    impl Destination for Nowhere {
        type Receipt = Ready<Result<Confirmation, PublishError>>;

        fn publish(&mut self, _: &Outgoing) -> Self::Receipt {
            ready(Ok(Confirmation::Stored))
        }
    }

    pub(crate) fn forwarding_allocates_nothing_per_message() {
        const BULK: usize = 40_000;
        current_runtime(false).block_on(async {
            let (tx, rx) = zero_copy();
            let handle = Forwarder::new(rx, Nowhere).spawn();
            let mut before = 0;
            for round in 0..8 {
                if round == 2 {
                    before = allocations();
                }
                (0..BULK).for_each(|_| tx.try_send(&MESSAGE).expect("room"));
                handle.flush().await.expect("it is confirmed");
            }
            assert_few(allocations() - before, 6 * BULK, "forward");
        });
    }
}

#[test]
fn channel_allocates_within_its_limits() {
    let cases: [(&str, fn()); 10] = [
        ("streaming_allocates_nothing_per_message_multi", streaming_allocates_nothing_per_message_multi),
        ("streaming_allocates_nothing_per_message_current", streaming_allocates_nothing_per_message_current),
        (
            "bulk_send_then_drain_allocates_nothing_per_message",
            bulk_send_then_drain_allocates_nothing_per_message,
        ),
        ("channel_without_messages_costs_at_most_8_kib", channel_without_messages_costs_at_most_8_kib),
        ("channel_with_few_messages_costs_at_most_16_kib", channel_with_few_messages_costs_at_most_16_kib),
        ("life_of_a_channel_allocates_little", life_of_a_channel_allocates_little),
        ("heap_stays_within_max_bytes_and_is_freed", heap_stays_within_max_bytes_and_is_freed),
        ("drained_closed_channel_keeps_no_pages", drained_closed_channel_keeps_no_pages),
        ("kept_copy_pins_at_most_4_kib", kept_copy_pins_at_most_4_kib),
        (
            "lent_memory_of_dropped_channel_is_freed_by_its_last_holder",
            lent_memory_of_dropped_channel_is_freed_by_its_last_holder,
        ),
    ];
    drop(current_runtime(false)); // what the first runtime allocates for all later ones is not counted
    for (name, case) in cases {
        eprintln!("{name}");
        plain(case);
    }
    #[cfg(feature = "forward")]
    plain(forward::forwarding_allocates_nothing_per_message);
}
