//! Subscribers that write into a channel what the channel emits, or ask it for its statistics.
//!
//! The subscriber is that of the process: `tracing` itself cuts nested events of one that is set for a thread.
#![cfg(all(feature = "tracing", not(any(turbostream_loom, turbostream_shuttle))))]

mod common;

use std::cell::Cell;
use std::fmt::Debug;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use common::{advance, plain};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use turbostream::{
    ActiveSegment, MessageCount, Receiver, Sender, SwitchLimits, SwitchStrategy, TimeWindow, WhenFull,
};

/// What the subscriber does with each event, as text, and what it does when it is asked.
#[derive(Clone)]
struct Hooks {
    on_event: Arc<dyn Fn(&str) + Send + Sync>,
    on_ask: Arc<dyn Fn() + Send + Sync>,
}

static HOOKS: RwLock<Option<Hooks>> = RwLock::new(None);
static DEEPEST: AtomicUsize = AtomicUsize::new(0);
static SPANS: AtomicUsize = AtomicUsize::new(0);

/// A subscriber at TRACE that is asked for each event anew.
struct Hooked;

impl Hooked {
    fn hooks() -> Option<Hooks> {
        HOOKS.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 += &format!("{}={value:?} ", field.name());
    }
}

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

impl Subscriber for Hooked {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.target() == "turbostream" || metadata.target().starts_with("own_events");
        let hooks = Self::hooks().filter(|_| ours);
        hooks.is_some_and(|hooks| {
            (hooks.on_ask)();
            true
        })
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1 + SPANS.fetch_add(1, Relaxed) as u64)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let Some(hooks) = Self::hooks() else { return };
        let mut text = Text::default();
        event.record(&mut text);
        let depth = DEPTH.get() + 1;
        DEPTH.set(depth);
        DEEPEST.fetch_max(depth, Relaxed);
        (hooks.on_event)(&text.0);
        DEPTH.set(depth - 1);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Runs one test at a time: the subscriber gets the events of all channels.
fn alone(test: impl FnOnce() + Send + 'static) {
    static SERIAL: Mutex<()> = Mutex::new(());
    let _serial = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
    plain(test);
}

/// Sets the hooks, and drops the former ones under no lock: they may own a channel, whose events call hooks.
fn set_hooks(hooks: Option<Hooks>) {
    let former = mem::replace(&mut *HOOKS.write().unwrap_or_else(PoisonError::into_inner), hooks);
    drop(former);
}

/// Calls `during` with hooks for the subscriber of the process.
fn with_hooks(hooks: Hooks, during: impl FnOnce()) {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED
        .get_or_init(|| tracing::subscriber::set_global_default(Hooked).expect("the first of the process"));
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            set_hooks(None);
        }
    }
    DEEPEST.store(0, Relaxed);
    SPANS.store(0, Relaxed);
    set_hooks(Some(hooks));
    let _reset = Reset;
    during();
}

/// Calls `during` with a subscriber that passes each event to `on_event`.
fn with_events(on_event: impl Fn(&str) + Send + Sync + 'static, during: impl FnOnce()) {
    with_hooks(Hooks { on_event: Arc::new(on_event), on_ask: Arc::new(|| {}) }, during);
}

/// Calls `during` with a subscriber that writes into a channel, and returns how many events it was passed.
fn with_writer(sends_to: Vec<Sender>, during: impl FnOnce()) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let on_event = move |event: &str| {
        counted.fetch_add(1, Relaxed);
        for tx in &sends_to {
            let _ = tx.try_send(event.to_owned());
        }
    };
    with_events(on_event, during);
    count.load(Relaxed)
}

/// Opens a channel that belongs to a runtime that is returned.
fn open(builder: turbostream::Builder, runtime: &tokio::runtime::Runtime) -> (Sender, Receiver) {
    builder.runtime(runtime.handle().clone()).build().expect("valid")
}

/// Receives what there is, in turns with the background task, until the channel has been quiet for a minute.
async fn receive_all(rx: &mut Receiver) -> Vec<String> {
    let mut messages = Vec::new();
    let mut quiet = 0;
    while quiet < 60 {
        quiet += 1;
        while let Ok(message) = rx.try_recv() {
            assert!(messages.len() < 1000, "messages without end: {:?}", &messages[990..]);
            quiet = 0;
            messages.push(String::from_utf8(message.to_vec()).expect("text"));
        }
        advance(Duration::from_secs(1)).await;
    }
    messages
}

#[test]
fn filter_that_reads_statistics_is_asked_under_no_lock() {
    alone(|| {
        let runtime = common::current_runtime(true);
        let small = turbostream::builder().segment_bytes(64).segment_messages(2).max_bytes(3 * 208);
        let (tx, mut rx) = open(small.when_full(WhenFull::DropOldest), &runtime);
        let asked = Arc::new(AtomicUsize::new(0));
        let (monitor, counted) = (tx.monitor(), Arc::clone(&asked));
        let on_ask = move || {
            counted.fetch_add(1, Relaxed);
            assert!(monitor.stats().max_bytes > 0);
        };
        let hooks = Hooks { on_event: Arc::new(|_| {}), on_ask: Arc::new(on_ask) };
        with_hooks(hooks, || {
            runtime.block_on(async {
                for _ in 0..3 {
                    tx.send("cut").await.expect("open");
                    assert!(rx.recv().await.is_some());
                    tx.send("a batch").await.expect("open");
                    assert!(rx.recv_batch(10).await.is_some());
                }
                for _ in 0..20 {
                    tx.send("too many").await.expect("open");
                }
                advance(Duration::from_secs(2)).await;
                drop(rx);
                advance(Duration::from_secs(2)).await;
            });
        });
        assert!(asked.load(Relaxed) > 6);
    });
}

#[test]
fn receiver_that_takes_its_own_events_gets_one() {
    alone(|| {
        let runtime = common::current_runtime(true);
        let (tx, mut rx) = open(turbostream::builder(), &runtime);
        let events = with_writer(vec![tx], || {
            runtime.block_on(async {
                tracing::info!("the only line");
                let messages = receive_all(&mut rx).await;
                assert_eq!(messages.len(), 2, "{messages:?}");
                assert!(messages[1].contains("switched"), "{messages:?}");
            });
        });
        assert_eq!(events, 2);
    });
}

#[test]
fn background_task_that_switches_its_own_events_ends() {
    alone(|| {
        let runtime = common::current_runtime(true);
        let builder = turbostream::builder().strategy(TimeWindow(Duration::from_millis(5))).on_demand(false);
        let (tx, mut rx) = open(builder, &runtime);
        let events = with_writer(vec![tx], || {
            runtime.block_on(async {
                tracing::info!("the only line");
                let messages = receive_all(&mut rx).await;
                assert_eq!(messages.len(), 2, "{messages:?}");
            });
        });
        assert_eq!(events, 2);
    });
}

#[test]
fn channels_that_carry_events_of_each_other_fall_silent() {
    alone(|| {
        let runtime = common::current_runtime(true);
        let (a, mut from_a) = open(turbostream::builder(), &runtime);
        let (b, mut from_b) = open(turbostream::builder(), &runtime);
        let events = with_writer(vec![a, b], || {
            runtime.block_on(async {
                tracing::info!("the only line");
                let mut lines = 0;
                for _ in 0..20 {
                    lines += receive_all(&mut from_a).await.len() + receive_all(&mut from_b).await.len();
                }
                assert!((4..=6).contains(&lines), "{lines} lines");
            });
        });
        assert!((2..=3).contains(&events), "{events} events");
    });
}

#[test]
fn switches_of_full_segments_do_not_nest() {
    alone(|| {
        let runtime = common::current_runtime(true);
        for when_full in [WhenFull::DropOldest, WhenFull::DropNewest, WhenFull::Reject] {
            let small = turbostream::builder().segment_bytes(256).segment_messages(1).max_bytes(4096);
            let (tx, mut rx) = open(small.when_full(when_full), &runtime);
            let events = with_writer(vec![tx], || {
                runtime.block_on(async {
                    for number in 0..50 {
                        tracing::info!(number, "a line");
                    }
                    receive_all(&mut rx).await;
                });
            });
            // The lines, and for each of them at most the event of its own segment.
            assert!((50..=100).contains(&events), "{events} events");
            // A line, and the event that its message causes.
            assert!(DEEPEST.load(Relaxed) <= 2);
        }
    });
}

#[test]
fn event_that_comes_from_within_an_event_is_not_emitted() {
    alone(|| {
        let runtime = common::current_runtime(true);
        let (tx, mut rx) = open(turbostream::builder(), &runtime);
        let (other, _other_rx) = open(turbostream::builder(), &runtime);
        other.try_send("sent before").expect("open");
        let switches = other.clone();
        let on_event = move |_: &str| switches.switch();
        with_events(on_event, || {
            runtime.block_on(async {
                for _ in 0..10 {
                    tx.send("a message").await.expect("open");
                    assert!(rx.recv().await.is_some());
                }
            });
        });
        assert_eq!(DEEPEST.load(Relaxed), 1);
        assert_eq!(other.monitor().stats().switches.requested, 1, "the subscriber has made it");
    });
}

#[test]
fn close_of_a_channel_that_carries_its_events_ends() {
    alone(|| {
        let runtime = common::current_runtime(true);
        for when_full in [WhenFull::Wait, WhenFull::DropOldest, WhenFull::DropNewest] {
            let small = turbostream::builder().segment_bytes(256).segment_messages(4).max_bytes(2048);
            let (tx, mut rx) = open(small.when_full(when_full), &runtime);
            let (monitor, closes) = (tx.monitor(), tx.clone());
            let sends_to = tx.clone();
            let events = with_writer(vec![sends_to], || {
                runtime.block_on(async {
                    tracing::info!("the only line");
                    rx.close();
                    assert!(closes.is_closed());
                    let messages = receive_all(&mut rx).await;
                    assert_eq!(messages.len(), 1, "{messages:?}");
                });
            });
            assert_eq!(events, 2, "the line, and the event of the close, which was refused");
            assert_eq!(monitor.stats().sent_messages, 1);
        }
    });
}

#[test]
fn warning_that_is_dropped_itself_causes_no_further_one() {
    alone(|| {
        let runtime = common::current_runtime(true);
        for when_full in [WhenFull::DropOldest, WhenFull::DropNewest, WhenFull::Reject] {
            let small = turbostream::builder().segment_bytes(256).segment_messages(2).max_bytes(2048);
            let builder = small.when_full(when_full).strategy(MessageCount(1000)).on_demand(false);
            let (tx, _rx) = open(builder, &runtime);
            let warnings = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&warnings);
            let on_event = move |event: &str| {
                counted.fetch_add(usize::from(event.contains("messages ")), Relaxed);
                // Events of switches are not written: the first of them would silence the channel.
                if !event.contains("switched") {
                    let _ = tx.try_send(event.to_owned());
                }
            };
            with_events(on_event, || {
                runtime.block_on(async {
                    for number in 0..50 {
                        tracing::info!(number, "a line");
                    }
                    for _ in 0..60 {
                        advance(Duration::from_secs(1)).await;
                    }
                });
            });
            assert_eq!(warnings.load(Relaxed), 1);
        }
    });
}

/// Panics whenever it is asked.
struct Panics;

impl SwitchStrategy for Panics {
    fn should_switch(&self, _: &ActiveSegment) -> bool {
        panic!("on purpose")
    }
    fn next_check(&self, _: &ActiveSegment) -> Option<Duration> {
        Some(Duration::from_millis(10))
    }
    fn limits(&self, _: &ActiveSegment) -> SwitchLimits {
        SwitchLimits::NEVER
    }
}

#[test]
fn panics_caused_by_their_own_events_end() {
    alone(|| {
        let runtime = common::current_runtime(true);
        let (tx, rx) = open(turbostream::builder().strategy(Panics), &runtime);
        let panics = Arc::new(AtomicUsize::new(0));
        let (counted, monitor) = (Arc::clone(&panics), tx.monitor());
        let on_event = move |event: &str| {
            counted.fetch_add(usize::from(event.contains("panicked")), Relaxed);
            // Events of switches are not written: the first of them would silence the channel.
            if !event.contains("switched") {
                let _ = tx.try_send(event.to_owned());
            }
        };
        with_events(on_event, || {
            runtime.block_on(async {
                let _callback = rx.on_message(|_| panic!("on purpose"));
                tracing::info!("the only line");
                for _ in 0..60 {
                    advance(Duration::from_secs(1)).await;
                }
            });
        });
        assert!((1..=3).contains(&panics.load(Relaxed)), "{panics:?} panics");
        assert!(monitor.stats().panics > 0);
    });
}

#[cfg(feature = "tracing-writer")]
mod tracing_writer {
    use std::io::{self, Write};

    use super::*;

    /// The lines written so far.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn count(&self) -> usize {
            self.0.lock().expect("no panic").iter().filter(|byte| **byte == b'\n').count()
        }
    }

    fn builders() -> Vec<turbostream::Builder> {
        let one = |when_full| {
            let builder = turbostream::builder().segment_bytes(256).segment_messages(1).max_bytes(64 << 10);
            builder.when_full(when_full)
        };
        let policies = [WhenFull::Wait, WhenFull::Reject, WhenFull::DropNewest, WhenFull::DropOldest];
        let timed = turbostream::builder().strategy(TimeWindow(Duration::from_micros(100)));
        policies.map(one).into_iter().chain([turbostream::builder(), timed]).collect()
    }

    #[test]
    fn logger_at_trace_writes_nothing_about_itself() {
        alone(|| {
            let runtime = common::multi_runtime();
            for builder in builders() {
                let lines = Lines::default();
                let (writer, guard) =
                    builder.runtime(runtime.handle().clone()).tracing_writer(lines.clone()).expect("valid");
                let on_event = move |event: &str| _ = (&writer).write_all(format!("{event}\n").as_bytes());
                with_events(on_event, || {
                    for number in 0..20 {
                        tracing::info!(number, "a line");
                    }
                    let report = runtime.block_on(guard.shutdown());
                    assert!(report.is_complete(), "{report:?}");
                    assert_eq!(report.written_messages, 20);
                });
                assert_eq!(lines.count(), 20);
            }
        });
    }

    #[test]
    fn panics_of_a_strategy_of_a_logger_are_not_logged() {
        alone(|| {
            let runtime = common::multi_runtime();
            let lines = Lines::default();
            let builder = turbostream::builder().strategy(Panics).on_demand(false);
            let builder = builder.runtime(runtime.handle().clone());
            let (writer, guard) = builder.tracing_writer(lines.clone()).expect("valid");
            let monitor = writer.monitor();
            let on_event = move |event: &str| _ = (&writer).write_all(format!("{event}\n").as_bytes());
            with_events(on_event, || {
                for number in 0..20 {
                    tracing::info!(number, "a line");
                }
                while monitor.stats().panics == 0 {
                    thread::yield_now();
                }
                assert!(runtime.block_on(guard.shutdown()).is_complete());
            });
            assert_eq!(lines.count(), 20);
        });
    }

    #[test]
    fn channel_of_a_logger_has_no_span() {
        alone(|| {
            let runtime = common::multi_runtime();
            with_events(
                |_| {},
                || {
                    let builder = turbostream::builder().runtime(runtime.handle().clone());
                    let (_writer, guard) = builder.tracing_writer(io::sink()).expect("valid");
                    assert!(runtime.block_on(guard.shutdown()).is_complete());
                    assert_eq!(SPANS.load(Relaxed), 0);
                    drop(open(turbostream::builder(), &runtime));
                    assert_eq!(SPANS.load(Relaxed), 1, "that of another channel");
                },
            );
        });
    }

    #[test]
    fn dropped_guard_of_a_logger_at_trace_writes_every_line() {
        alone(|| {
            let runtime = common::multi_runtime();
            for builder in builders() {
                let lines = Lines::default();
                let (writer, guard) =
                    builder.runtime(runtime.handle().clone()).tracing_writer(lines.clone()).expect("valid");
                let on_event = move |event: &str| _ = (&writer).write_all(format!("{event}\n").as_bytes());
                with_events(on_event, || {
                    tracing::info!("a line");
                    drop(guard);
                });
                assert_eq!(lines.count(), 1);
            }
        });
    }

    #[test]
    fn refused_lines_of_a_logger_warn_of_nothing() {
        alone(|| {
            let runtime = common::current_runtime(true);
            let builder = turbostream::builder().runtime(runtime.handle().clone());
            let (writer, guard) = builder.tracing_writer(io::sink()).expect("valid");
            assert!(runtime.block_on(guard.shutdown()).is_complete());
            let events = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&events);
            let on_event = move |event: &str| {
                counted.fetch_add(1, Relaxed);
                assert!((&writer).write_all(event.as_bytes()).is_err(), "it is closed");
            };
            with_events(on_event, || {
                tracing::info!("too late");
                runtime.block_on(advance(Duration::from_secs(10)));
            });
            assert_eq!(events.load(Relaxed), 1);
        });
    }
}
