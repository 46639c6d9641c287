//! Tracing events and their rate limits. These tests run one at a time, because subscribers share the global state of
//! `tracing`.
#![cfg(feature = "tracing")]

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::Duration;

use crate::common::{advance, current_runtime, ms, plain, poll_once, settle};
use crate::panics::{contain_nested, drop_while_unwinding, panic_nested};
use futures::executor::block_on;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use turbostream::{MessageCount, ReadMode, WhenFull};

static SERIAL: Mutex<()> = Mutex::new(());

fn run_alone() -> MutexGuard<'static, ()> {
    SERIAL.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A subscriber that records the events of the crate as text, each with its span.
#[derive(Clone)]
struct EventLog {
    level: Level,
    spans: Arc<Mutex<Vec<String>>>,
    events: Arc<Mutex<Vec<(Level, String)>>>,
    panics: bool,
}

impl EventLog {
    fn new(level: Level) -> Self {
        Self { level, spans: Arc::default(), events: Arc::default(), panics: false }
    }

    fn events(&self) -> Vec<(Level, String)> {
        self.events.lock().expect("no panic").clone()
    }

    fn count(&self, level: Level, text: &str) -> usize {
        self.events().iter().filter(|(of, event)| *of == level && event.contains(text)).count()
    }

    /// Runs `body` with a paused clock and this subscriber.
    fn record_during(&self, body: impl Future<Output = ()>) {
        let runtime = current_runtime(true);
        tracing::subscriber::with_default(self.clone(), || runtime.block_on(body));
    }
}

/// Formats fields as text.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 += &format!("{}={value:?} ", field.name());
    }
}

impl Subscriber for EventLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "turbostream" && *metadata.level() <= self.level
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut text = Text::default();
        span.record(&mut text);
        let mut spans = self.spans.lock().expect("no panic");
        spans.push(format!("{} {}", span.metadata().name(), text.0));
        Id::from_u64(spans.len() as u64)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        assert!(!self.panics, "on purpose");
        let mut text = Text::default();
        if let Some(span) = event.parent() {
            text.0 += &self.spans.lock().expect("no panic")[span.into_u64() as usize - 1];
        }
        event.record(&mut text);
        self.events.lock().expect("no panic").push((*event.metadata().level(), text.0));
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn callback_panic_is_logged_as_an_error() {
    let _serial = run_alone();
    plain(|| {
        let log = EventLog::new(Level::ERROR);
        log.record_during(async {
            let (tx, rx) = turbostream::channel();
            rx.on_message(|message| assert_eq!(message, "good", "a bad message"));
            for message in ["bad", "good", "bad"] {
                tx.send(message).await.expect("open");
            }
            settle().await;
        });
        assert_eq!(log.count(Level::ERROR, "panicked"), 2);
    });
}

#[test]
fn switch_events_carry_the_span_of_their_channel() {
    let _serial = run_alone();
    plain(|| {
        let log = EventLog::new(Level::TRACE);
        log.record_during(async {
            let builder = turbostream::builder().name("ingest").strategy(MessageCount(2));
            let (tx, mut rx) = builder.build().expect("valid");
            tx.send("1").await.expect("open");
            assert_eq!(rx.recv().await.as_deref(), Some(&b"1"[..]));
            tx.send("2").await.expect("open");
            tx.send("3").await.expect("open");
        });
        let span = "channel name=\"ingest\" message=switched";
        let expected = [
            format!("{span} cause=OnDemand segment=0 messages=1 "),
            format!("{span} cause=Strategy segment=0 messages=2 "),
        ];
        let events: Vec<_> = log.events().into_iter().map(|(_, event)| event).collect();
        assert_eq!(events[..2], expected);
    });
}

#[test]
fn rejected_and_unread_messages_are_logged_at_a_limited_rate() {
    let _serial = run_alone();
    plain(|| {
        let log = EventLog::new(Level::WARN);
        log.record_during(async {
            let (tx, rx) = turbostream::builder().name("full").max_message_bytes(10).build().expect("valid");
            for _ in 0..1000 {
                assert!(tx.try_send("much too long").is_err());
            }
            settle().await;
            assert!(tx.try_send("much too long").is_err());
            settle().await;
            assert_eq!(log.count(Level::WARN, "messages refused"), 1);
            advance(Duration::from_secs(1)).await;
            assert_eq!(log.count(Level::WARN, "messages refused full=0 timed_out=0 too_large=1000"), 1);
            assert_eq!(log.count(Level::WARN, "messages refused full=0 timed_out=0 too_large=1 closed=0"), 1);
            for _ in 0..7 {
                tx.send("short").await.expect("open");
            }
            drop(rx);
            advance(Duration::from_secs(2)).await;
            assert_eq!(log.count(Level::WARN, "messages dropped newest=0 oldest=0 unread=7"), 1);
            advance(Duration::from_secs(100)).await;
            assert_eq!(log.events().len(), 3, "{:?}", log.events());
        });
        assert!(log.events().iter().all(|(_, event)| event.starts_with("channel name=\"full\"")));
    });
}

#[test]
fn policy_drops_are_logged() {
    let _serial = run_alone();
    plain(|| {
        let log = EventLog::new(Level::WARN);
        log.record_during(async {
            for when_full in [WhenFull::DropNewest, WhenFull::DropOldest] {
                let builder = turbostream::builder().segment_bytes(64).segment_messages(2).max_bytes(3 * 208);
                let (tx, _rx) = builder.when_full(when_full).build().expect("valid");
                for _ in 0..20 {
                    tx.send([7; 32]).await.expect("open");
                }
                advance(Duration::from_secs(2)).await;
            }
        });
        assert_eq!(log.count(Level::WARN, "messages dropped newest=14 oldest=0 unread=0"), 1);
        assert_eq!(log.count(Level::WARN, "messages dropped newest=0 oldest=14 unread=0"), 1);
    });
}

#[test]
fn lent_memory_is_logged_while_senders_wait() {
    let _serial = run_alone();
    plain(|| {
        let log = EventLog::new(Level::WARN);
        log.record_during(async {
            let builder = turbostream::builder().segment_bytes(64).segment_messages(2).max_bytes(2 * 208);
            let (tx, mut rx) = builder.read_mode(ReadMode::ZeroCopy).build().expect("valid");
            let mut held = Vec::new();
            for _ in 0..4 {
                tx.send([7; 32]).await.expect("open");
                held.push(rx.recv().await);
            }
            assert!(tx.try_send([7; 32]).is_err());
            for _ in 0..4 {
                advance(ms(1100)).await;
            }
            assert_eq!(log.count(Level::WARN, "receivers hold"), 0, "no sender waits");
            let mut send = Box::pin(tx.send([7; 32]));
            assert!(poll_once(&mut send).is_pending());
            advance(ms(900)).await;
            assert_eq!(log.count(Level::WARN, "receivers hold"), 0, "not for a short wait");
            advance(ms(1200)).await;
            assert_eq!(
                log.count(Level::WARN, "lent_bytes=416 sealed_bytes=0 max_bytes=416 waiting_senders=1"),
                1
            );
            advance(Duration::from_secs(5)).await;
            assert_eq!(log.count(Level::WARN, "receivers hold"), 1, "logged once per wait");
            held.clear();
            send.await.expect("room after the drop");
            advance(Duration::from_secs(100)).await;
            assert_eq!(log.count(Level::WARN, "receivers hold"), 1);
        });
    });
}

#[test]
fn wait_of_a_second_is_logged() {
    let _serial = run_alone();
    plain(|| {
        let log = EventLog::new(Level::WARN);
        log.record_during(async {
            let builder = turbostream::builder().segment_bytes(64).segment_messages(2).max_bytes(2 * 208);
            let (tx, mut rx) = builder.build().expect("valid");
            (0..4).for_each(|_| tx.try_send([7; 32]).expect("room"));
            let mut send = Box::pin(tx.send([7; 32]));
            assert!(poll_once(&mut send).is_pending());
            advance(ms(900)).await;
            assert_eq!(log.count(Level::WARN, "senders wait for room"), 0, "not for a short wait");
            advance(ms(1200)).await;
            assert_eq!(
                log.count(Level::WARN, "waiting_senders=1 lent_bytes=0 sealed_bytes=416 max_bytes=416"),
                1
            );
            advance(Duration::from_secs(5)).await;
            assert_eq!(log.count(Level::WARN, "senders wait for room"), 1, "logged once per wait");
            while rx.try_recv().is_ok() {}
            send.await.expect("all was received");
            advance(Duration::from_secs(100)).await;
            assert_eq!(log.count(Level::WARN, "senders wait for room"), 1);
        });
    });
}

#[test]
fn stalled_sender_is_logged() {
    let _serial = run_alone();
    plain(|| {
        let log = EventLog::new(Level::WARN);
        log.record_during(async {
            let (tx, mut rx) = turbostream::channel();
            let ((stall_tx, stall_rx), (resume_tx, resume_rx)) = (mpsc::channel(), mpsc::channel::<()>());
            tx.send("before").await.expect("open");
            let writer = std::thread::spawn({
                let tx = tx.clone();
                move || {
                    let write = |_: &mut [u8]| {
                        stall_tx.send(()).expect("the test waits");
                        resume_rx.recv().expect("the test resumes it");
                        1
                    };
                    block_on(tx.send_with(10, write)).map_err(drop).expect("open");
                }
            });
            stall_rx.recv().expect("the sender stalls");
            tx.send("after").await.expect("open");
            assert_eq!(rx.recv().await.as_deref(), Some(&b"before"[..]));
            let mut recv = Box::pin(rx.recv());
            assert!(poll_once(&mut recv).is_pending());
            advance(Duration::from_secs(1)).await;
            advance(Duration::from_secs(1)).await;
            assert_eq!(log.count(Level::WARN, "stalled between reserving and committing"), 1);
            assert_eq!(log.count(Level::WARN, "sequence=1 "), 1);
            resume_tx.send(()).expect("the sender waits");
            writer.join().expect("the sender"); // joined first: the paused clock advances while a receiver waits
            assert_eq!(recv.await.map(|message| message.len()), Some(1));
            advance(Duration::from_secs(100)).await;
            assert_eq!(log.events().len(), 1, "{:?}", log.events());
        });
    });
}

#[test]
fn subscriber_panic_is_contained() {
    let _serial = run_alone();
    plain(|| {
        let log = EventLog { panics: true, ..EventLog::new(Level::TRACE) };
        log.record_during(async {
            let builder = turbostream::builder().strategy(MessageCount(2)).max_message_bytes(10);
            let (tx, mut rx) = builder.build().expect("valid");
            assert!(tx.try_send("much too long").is_err());
            for _ in 0..6 {
                tx.send("abc").await.expect("open");
            }
            advance(Duration::from_secs(2)).await;
            for _ in 0..6 {
                assert_eq!(rx.recv().await.as_deref(), Some(&b"abc"[..]));
            }
        });
        assert_eq!(log.events().len(), 0);
    });
}

/// A subscriber whose every method panics with a payload whose drop panics, but for the creation of spans.
struct PanickingSubscriber;

impl Subscriber for PanickingSubscriber {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Spans are enabled, so that the channel has one that it can close.
        if metadata.is_span() { true } else { panic_nested() }
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {
        panic_nested();
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {
        panic_nested();
    }
    fn event(&self, _: &Event<'_>) {
        panic_nested();
    }
    fn enter(&self, _: &Id) {
        panic_nested();
    }
    fn exit(&self, _: &Id) {
        panic_nested();
    }
    fn try_close(&self, _: Id) -> bool {
        panic_nested();
    }
}

#[test]
fn subscriber_whose_panic_payloads_panic_is_contained() {
    let _serial = run_alone();
    plain(|| {
        let runtime = current_runtime(true);
        tracing::subscriber::with_default(PanickingSubscriber, || {
            runtime.block_on(contain_nested(async {
                let (tx, mut rx) = turbostream::builder().max_bytes(1 << 20).build().expect("valid");
                let mut waiting = Box::pin(tx.send(vec![7; 500_000]));
                for _ in 0..2 {
                    tx.send("abc").await.expect("open");
                    tx.switch();
                    assert_eq!(rx.recv().await.as_deref(), Some(&b"abc"[..]));
                    tx.send("cut").await.expect("open");
                    assert_eq!(rx.recv().await.as_deref(), Some(&b"cut"[..]));
                }
                while tx.try_send(vec![7; 300_000]).is_ok() {}
                assert!(poll_once(&mut waiting).is_pending(), "the subscriber is asked for warnings");
                drop(waiting);
                advance(Duration::from_secs(2)).await;
                assert!(drop_while_unwinding((tx, rx)), "the span is closed");
            }));
        });
    });
}

#[cfg(feature = "prometheus")]
#[test]
fn names_without_series_are_logged_once() {
    let _serial = run_alone();
    plain(|| {
        let log = EventLog::new(Level::WARN);
        log.record_during(async {
            let recorder = Arc::new(turbostream::PrometheusRecorder::new());
            let report = |name: String| {
                let (tx, _rx) =
                    turbostream::builder().name(name).recorder(recorder.clone()).build().expect("valid");
                tx.monitor().flush();
            };
            (0..400).for_each(|number| report(number.to_string()));
            (0..400).for_each(|number| report(number.to_string()));
            assert_eq!(log.events().len(), 0, "{:?}", log.events());
            (400..500).for_each(|number| report(number.to_string()));
            assert_eq!(log.count(Level::WARN, "limit=400"), 1, "{:?}", log.events());
        });
        assert_eq!(log.events().len(), 1, "{:?}", log.events());
    });
}

#[cfg(feature = "forward")]
#[test]
fn forwarder_logs_lost_connections_rejected_messages_and_lasting_retries() {
    use super::forwarding::Engine;
    use turbostream::forward::{Connection, FlushError, Forwarder};

    let _serial = run_alone();
    plain(|| {
        let log = EventLog::new(Level::INFO);
        log.record_during(async {
            let (tx, rx) = turbostream::builder().name("audit").build().expect("valid");
            let engine = Engine::new();
            let forwarder = Forwarder::new(rx, engine.clone()).spawn();
            for _ in 0..1000 {
                tx.send("bad").await.expect("open");
            }
            assert_eq!(forwarder.flush().await, Err(FlushError::Rejected { messages: 1000 }));
            advance(Duration::from_secs(2)).await;
            let rejected =
                log.events().into_iter().filter(|(_, event)| event.contains("rejects messages")).count();
            assert!((1..=2).contains(&rejected), "{:?}", log.events());
            engine.set(|conduct| conduct.retries = true);
            tx.send("kept").await.expect("open");
            advance(ms(500)).await;
            assert_eq!(log.count(Level::WARN, "again and again"), 0);
            for _ in 0..30 {
                advance(Duration::from_secs(1)).await;
            }
            assert_eq!(log.count(Level::WARN, "again and again"), 3);
            assert_eq!(log.count(Level::WARN, "error=the disk is full"), 3);
            engine.set(|conduct| conduct.connection = Connection { is_up: false, losses: 1 });
            for _ in 0..4 {
                advance(ms(50)).await;
            }
            assert_eq!(log.count(Level::WARN, "has no connection"), 1);
            engine.set(|conduct| (conduct.connection.is_up, conduct.retries) = (true, false));
            advance(ms(50)).await;
            assert_eq!(log.count(Level::INFO, "has its connection again"), 1);
            assert!(forwarder.flush().await.is_ok());
            advance(Duration::from_secs(60)).await;
            assert_eq!(log.count(Level::WARN, "again and again"), 3);
            engine.set(|conduct| conduct.stops = true);
            tx.send("given back").await.expect("open");
            assert!(forwarder.join().await.is_err());
            assert_eq!(log.count(Level::ERROR, "unconfirmed=1"), 1);
            assert_eq!(log.count(Level::ERROR, "the password is wrong"), 1);
        });
    });
}
