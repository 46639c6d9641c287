//! Recorders receive every statistic exactly once, as increments.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use crate::common::{advance, ms, multi, paused, plain, poll_once, settle};
use futures::executor::block_on;
use turbostream::{
    BuildError, Counter, Gauge, HistogramKind, MessageCount, Monitor, Recorder, StatsDelta, WhenFull,
};

/// Adds up the reported increments by channel.
#[derive(Default)]
struct Sums(Mutex<HashMap<String, Sum>>);

#[derive(Clone, Default)]
struct Sum {
    calls: usize,
    counters: HashMap<Counter, u64>,
    gauges: HashMap<Gauge, i64>,
    histograms: HashMap<HistogramKind, (u64, Duration)>,
}

impl Recorder for Sums {
    fn record(&self, delta: &StatsDelta<'_>) {
        let mut sums = self.0.lock().expect("no panic");
        let sum = sums.entry(delta.channel().unwrap_or_default().to_owned()).or_default();
        sum.calls += 1;
        for (counter, increment) in delta.counters() {
            *sum.counters.entry(counter).or_default() += increment;
        }
        for (gauge, change) in delta.gauges() {
            let value = sum.gauges.entry(gauge).or_default();
            *value += change;
            assert!(*value >= 0, "{gauge:?} is {value}");
        }
        for (kind, histogram) in delta.histograms() {
            let (count, total) = sum.histograms.entry(kind).or_default();
            *count += histogram.count();
            *total += histogram.sum();
        }
    }
}

impl Sums {
    fn of(&self, channel: &str) -> Sum {
        self.0.lock().expect("no panic").get(channel).cloned().unwrap_or_default()
    }
}

impl Sum {
    fn counter(&self, counter: Counter) -> u64 {
        self.counters.get(&counter).copied().unwrap_or_default()
    }

    fn gauge(&self, gauge: Gauge) -> i64 {
        self.gauges.get(&gauge).copied().unwrap_or_default()
    }

    /// Asserts that the reported increments add up to the statistics of an idle channel.
    #[track_caller]
    fn assert_is(&self, monitor: &Monitor) {
        let stats = monitor.stats();
        for counter in Counter::ALL {
            assert_eq!(self.counter(*counter), counter.of(&stats), "{counter:?}");
        }
        for gauge in Gauge::ALL {
            assert_eq!(self.gauge(*gauge), gauge.of(&stats) as i64, "{gauge:?}");
        }
        for kind in HistogramKind::ALL {
            let histogram = kind.of(&stats);
            assert_eq!(self.histograms[kind], (histogram.count(), histogram.sum()), "{kind:?}");
        }
    }
}

fn recorded(name: &str) -> (turbostream::Builder, Arc<Sums>) {
    let sums = Arc::new(Sums::default());
    (turbostream::builder().name(name).recorder(Arc::clone(&sums)), sums)
}

#[test]
fn recorder_is_called_at_the_interval_and_only_on_changes() {
    paused(async {
        let (builder, sums) = recorded("paced");
        let builder = builder.strategy(MessageCount(100)).report_interval(ms(300));
        let (tx, mut rx) = builder.build().expect("valid");
        settle().await;
        assert_eq!(sums.of("paced").calls, 1, "the first report has the initial values");
        tx.send("abc").await.expect("open");
        advance(ms(299)).await;
        assert_eq!(sums.of("paced").counter(Counter::SentMessages), 0);
        advance(ms(1)).await;
        let sum = sums.of("paced");
        assert_eq!((sum.counter(Counter::SentMessages), sum.counter(Counter::SentBytes)), (1, 3));
        assert_eq!((sum.gauge(Gauge::ActiveMessages), sum.gauge(Gauge::ActiveMessageBytes)), (1, 3));
        assert_eq!(rx.recv().await.as_deref(), Some(&b"abc"[..]));
        advance(Duration::from_secs(10)).await;
        let calls = sums.of("paced").calls;
        advance(Duration::from_secs(3600)).await;
        assert_eq!(sums.of("paced").calls, calls, "nothing has changed for an hour");
    });
}

#[test]
fn flush_reports_immediately_and_needs_no_recorder() {
    paused(async {
        let (builder, sums) = recorded("flushed");
        let (tx, _rx) = builder.report_interval(Duration::from_secs(3600)).build().expect("valid");
        tx.send("abc").await.expect("open");
        tx.monitor().flush();
        sums.of("flushed").assert_is(&tx.monitor());
        let (tx, _rx) = turbostream::channel();
        tx.monitor().flush();
        assert_eq!(tx.monitor().stats().background_tasks, 0);
    });
}

#[test]
fn close_is_reported_and_gauges_return_to_zero() {
    paused(async {
        let (builder, sums) = recorded("ended");
        let (tx, mut rx) = builder.report_interval(Duration::from_secs(3600)).build().expect("valid");
        for _ in 0..3 {
            tx.send("abc").await.expect("open");
        }
        drop(tx);
        assert_eq!(sums.of("ended").counter(Counter::SentMessages), 3, "reported when the channel closed");
        assert_eq!(sums.of("ended").gauge(Gauge::QueuedMessages), 3);
        let kept = rx.recv().await.expect("an accepted message");
        drop(rx);
        let sum = sums.of("ended");
        assert_eq!((sum.counter(Counter::ReceivedMessages), sum.counter(Counter::DroppedUnread)), (1, 2));
        for gauge in Gauge::ALL {
            assert_eq!(sum.gauge(*gauge), 0, "{gauge:?}");
        }
        assert_eq!(kept, "abc");
    });
}

#[test]
fn zero_report_interval_is_rejected() {
    paused(async {
        let built = turbostream::builder().report_interval(Duration::ZERO).build();
        assert!(matches!(built, Err(BuildError::OutOfRange { field: "report_interval", value: 0, .. })));
    });
}

#[test]
fn send_errors_are_counted_by_reason() {
    paused(async {
        let builder = turbostream::builder().segment_bytes(64).segment_messages(2).max_bytes(2 * 208);
        let (tx, rx) = builder.max_message_bytes(64).build().expect("valid");
        while tx.try_send([7; 32]).is_ok() {}
        assert!(tx.send_timeout([7; 32], ms(10)).await.is_err());
        assert!(tx.send([7; 65]).await.is_err());
        assert!(tx.send_many([[7; 65]]).await.is_err());
        assert!(tx.try_send([7; 65]).is_err());
        rx.close();
        assert!(tx.send([7; 32]).await.is_err());
        assert!(tx.send_with(10, |_| 0).await.is_err());
        let send_errors = tx.monitor().stats().send_errors;
        let by_reason = (send_errors.full, send_errors.timed_out, send_errors.too_large, send_errors.closed);
        assert_eq!((by_reason, send_errors.total()), ((1, 1, 3, 2), 7));
    });
}

#[test]
fn monitor_returns_the_channel_name() {
    paused(async {
        let (tx, _rx) = turbostream::builder().name("named").build().expect("valid");
        assert_eq!(tx.monitor().name(), Some("named"));
        assert_eq!(turbostream::channel().0.monitor().name(), None);
    });
}

#[test]
fn recv_timeouts_and_callback_panics_are_counted() {
    paused(async {
        let (tx, mut rx) = turbostream::channel();
        assert!(rx.recv_timeout(ms(5)).await.is_err());
        assert!(rx.recv_timeout(ms(5)).await.is_err());
        tx.send("bad").await.expect("open");
        let callback = rx.on_message(|_| panic!("bad"));
        settle().await;
        let stats = tx.monitor().stats();
        assert_eq!((stats.recv_timeouts, stats.callback_panics), (2, 1));
        assert_eq!(stats.background_tasks, 1, "the callback");
        drop(callback.unregister().await);
        settle().await;
        assert_eq!(tx.monitor().stats().background_tasks, 0);
    });
}

#[test]
fn background_check_without_a_switch_counts_as_skipped() {
    paused(async {
        let strategy = turbostream::Weighted::new(ms(100));
        let (tx, _rx) = turbostream::builder().strategy(strategy).on_demand(false).build().expect("valid");
        tx.send("early").await.expect("open");
        settle().await;
        let before = tx.monitor().stats();
        assert!(before.skipped_switches > 0);
        advance(ms(101)).await;
        let after = tx.monitor().stats();
        assert_eq!((before.switches.strategy, after.switches.strategy), (0, 1));
        advance(Duration::from_secs(60)).await;
        assert_eq!(tx.monitor().stats().skipped_switches, after.skipped_switches, "no message to check");
    });
}

#[test]
fn switch_latency_and_queue_time_are_recorded_per_segment() {
    paused(async {
        let builder = turbostream::builder().strategy(MessageCount(2)).on_demand(false);
        let (tx, mut rx) = builder.build().expect("valid");
        advance(ms(30)).await;
        for _ in 0..6 {
            tx.send("abc").await.expect("open");
        }
        advance(ms(50)).await;
        for _ in 0..6 {
            rx.recv().await.expect("an accepted message");
        }
        let stats = tx.monitor().stats();
        assert_eq!((stats.switches.strategy, stats.switch_latency.count()), (3, 3));
        assert_eq!(
            stats.switch_latency.buckets()[0].count,
            3,
            "the paused clock does not advance during a switch"
        );
        assert_eq!((stats.queue_time.count(), stats.queue_time.buckets()[2].count), (3, 3));
        assert_eq!(stats.queue_time.sum(), ms(150));
        assert_eq!(stats.allocated_segments, 3);
    });
}

#[test]
fn drops_are_counted_by_cause() {
    paused(async {
        for when_full in [WhenFull::DropNewest, WhenFull::DropOldest] {
            let builder = turbostream::builder().segment_bytes(64).segment_messages(2).max_bytes(3 * 208);
            let (tx, rx) = builder.when_full(when_full).build().expect("valid");
            for _ in 0..20 {
                tx.send([7; 32]).await.expect("open");
            }
            let drops = tx.monitor().stats().drops;
            let expected = if when_full == WhenFull::DropNewest { (14, 0, 0) } else { (0, 14, 0) };
            assert_eq!((drops.newest, drops.oldest, drops.unread), expected, "{when_full:?}");
            drop(rx);
            let stats = tx.monitor().stats();
            assert_eq!(stats.switch_latency.count(), stats.switches.total());
            assert_eq!((stats.drops.unread, stats.drops.total()), (6, stats.dropped_messages));
        }
    });
}

#[test]
fn flush_waits_for_a_concurrent_flush() {
    plain(|| {
        let runtime = crate::common::current_runtime(false); // never driven: only flushes report
        let (entered, resume) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let sums = Arc::new(Sums::default());
        let recorder = {
            let (entered, resume, sums) = (entered.clone(), resume.clone(), sums.clone());
            let first = AtomicBool::new(true);
            move |delta: &StatsDelta<'_>| {
                sums.record(delta);
                if first.swap(false, Ordering::SeqCst) {
                    entered.wait();
                    resume.wait();
                }
            }
        };
        let builder =
            turbostream::builder().name("slow").recorder(recorder).runtime(runtime.handle().clone());
        let (tx, _rx) = builder.build().expect("valid");
        let monitor = tx.monitor();
        let slow = std::thread::spawn(move || monitor.flush());
        entered.wait(); // the recorder runs on that thread, with the increments before the send below
        tx.try_send("abc").expect("room");
        let monitor = tx.monitor();
        let flushed = std::thread::spawn(move || monitor.flush());
        resume.wait();
        flushed.join().expect("no panic");
        assert_eq!(sums.of("slow").counter(Counter::SentMessages), 1);
        slow.join().expect("no panic");
    });
}

#[test]
fn recorder_may_flush() {
    plain(|| {
        let runtime = crate::common::current_runtime(false);
        let monitor = Arc::new(Mutex::new(None::<Monitor>));
        let of_recorder = Arc::clone(&monitor);
        let recorder = move |_: &StatsDelta<'_>| {
            if let Some(monitor) = of_recorder.lock().expect("no panic").take() {
                monitor.flush();
            }
        };
        let builder = turbostream::builder().recorder(recorder).runtime(runtime.handle().clone());
        let (tx, _rx) = builder.build().expect("valid");
        *monitor.lock().expect("no panic") = Some(tx.monitor());
        tx.try_send("abc").expect("room");
        tx.monitor().flush();
        assert!(monitor.lock().expect("no panic").is_none(), "it was called");
    });
}

#[test]
fn recorder_panic_is_contained_and_counted() {
    paused(async {
        let panics = Arc::new(AtomicBool::new(true));
        let sums = Arc::new(Sums::default());
        let recorder = {
            let (panics, sums) = (panics.clone(), sums.clone());
            move |delta: &StatsDelta<'_>| {
                assert!(!panics.load(Ordering::Relaxed), "on purpose");
                sums.record(delta);
            }
        };
        let (tx, mut rx) = turbostream::builder().recorder(recorder).build().expect("valid");
        tx.send("before").await.expect("open");
        tx.monitor().flush();
        assert_eq!(tx.monitor().stats().recorder_panics, 1);
        panics.store(false, Ordering::Relaxed);
        tx.send("after").await.expect("open");
        tx.monitor().flush();
        assert_eq!(
            sums.of("").counter(Counter::SentMessages),
            1,
            "the first increment was lost in the panic"
        );
        assert_eq!(sums.of("").counter(Counter::RecorderPanics), 1);
        assert_eq!(rx.recv().await.as_deref(), Some(&b"before"[..]));
    });
}

#[test]
fn recorder_may_use_its_own_channel() {
    plain(|| {
        let runtime = crate::common::current_runtime(false);
        let _context = runtime.enter();
        let own: Arc<Mutex<Option<turbostream::Sender>>> = Arc::default();
        let recorder = {
            let own = own.clone();
            move |delta: &StatsDelta<'_>| {
                let tx = own.lock().expect("no panic").clone();
                if let Some(tx) = tx {
                    tx.monitor().flush();
                    if delta.counter(Counter::SentMessages) == 1 {
                        tx.try_send("from the recorder").expect("room");
                        tx.try_send("from the recorder").expect("room");
                    }
                }
            }
        };
        let (tx, rx) = turbostream::builder().recorder(recorder).build().expect("valid");
        *own.lock().expect("no panic") = Some(tx.clone());
        tx.try_send("from the test").expect("room");
        tx.monitor().flush();
        assert_eq!(rx.len(), 3);
        own.lock().expect("no panic").take();
    });
}

#[test]
fn shared_recorder_keeps_channels_apart() {
    paused(async {
        let sums = Arc::new(Sums::default());
        let open = |name| turbostream::builder().name(name).recorder(sums.clone()).build().expect("valid");
        let ((a, _a), (b, mut b_rx)) = (open("a"), open("b"));
        a.send("1").await.expect("open");
        for _ in 0..5 {
            b.send("22").await.expect("open");
        }
        b_rx.recv().await.expect("an accepted message");
        for (name, tx) in [("a", &a), ("b", &b)] {
            tx.monitor().flush();
            sums.of(name).assert_is(&tx.monitor());
        }
        assert_eq!(sums.of("b").counter(Counter::SentBytes), 10);
    });
}

/// Messages written in place are shortened or abandoned after they are reserved, while concurrent flushes report. The
/// sum must be exact at the end.
#[test]
fn statistics_of_many_threads_add_up_to_the_monitor() {
    multi(async {
        let (builder, sums) = recorded("busy");
        let builder = builder.segment_bytes(4096).segment_messages(64).max_bytes(256 << 10);
        let (tx, mut rx) = builder.report_interval(ms(1)).build().expect("valid");
        let monitor = tx.monitor();
        let flushing = Arc::new(AtomicBool::new(true));
        let flushers: Vec<_> = (0..2)
            .map(|_| {
                let (monitor, flushing) = (monitor.clone(), flushing.clone());
                std::thread::spawn(move || {
                    while flushing.load(Ordering::Relaxed) {
                        monitor.flush();
                    }
                })
            })
            .collect();
        let senders: Vec<_> = (0..3).map(|sender| std::thread::spawn(sending(sender, tx.clone()))).collect();
        drop(tx);
        let mut received = 0_u64;
        while let Some(message) = rx.recv().await {
            received += message.len() as u64;
        }
        for thread in senders {
            thread.join().expect("no panic");
        }
        flushing.store(false, Ordering::Relaxed);
        for thread in flushers {
            thread.join().expect("no panic");
        }
        tokio::task::yield_now().await;
        monitor.flush();
        let stats = monitor.stats();
        assert_eq!((stats.received_bytes, stats.queued_messages), (received, 0));
        assert_eq!(stats.sent_messages, stats.received_messages);
        assert_eq!(stats.switch_latency.count(), stats.switches.total() - stats.switches.on_demand);
        let sum = sums.of("busy");
        for counter in Counter::ALL {
            assert_eq!(sum.counter(*counter), counter.of(&stats), "{counter:?}");
        }
    });
}

fn sending(sender: usize, tx: turbostream::Sender) -> impl FnOnce() + Send + 'static {
    move || {
        for number in 0..2000 {
            match (sender + number) % 4 {
                0 => block_on(tx.send_with(1000, |_| number % 10)).map_err(drop).expect("open"),
                1 => {
                    let panics =
                        AssertUnwindSafe(|| block_on(tx.send_with(500, |_| panic!("in a write closure"))));
                    assert!(catch_unwind(panics).is_err());
                }
                2 => block_on(tx.send(vec![7; 40_000])).map_err(drop).expect("open"),
                _ => block_on(tx.send([7; 100])).map_err(drop).expect("open"),
            }
        }
    }
}

/// Another thread runs a slow recorder call at the time of the flush.
#[test]
fn flush_waits_for_a_report_in_progress() {
    struct Held(Barrier, AtomicBool, Sums);
    impl Recorder for Held {
        fn record(&self, delta: &StatsDelta<'_>) {
            if self.1.swap(false, Ordering::Relaxed) {
                self.0.wait(); // the recorder was called
                self.0.wait(); // the recorder may return
            }
            self.2.record(delta);
        }
    }
    paused(async {
        let held = Arc::new(Held(Barrier::new(2), AtomicBool::new(false), Sums::default()));
        let builder = turbostream::builder().name("held").recorder(Arc::clone(&held));
        let (tx, _rx) = builder.report_interval(Duration::from_secs(3600)).build().expect("valid");
        let monitor = tx.monitor();
        monitor.flush();
        tx.send("1").await.expect("open");
        held.1.store(true, Ordering::Relaxed);
        let other = monitor.clone();
        let reporting = std::thread::spawn(move || other.flush());
        held.0.wait();
        tx.send("2").await.expect("open");
        let flushing = std::thread::spawn({
            let (monitor, held) = (monitor.clone(), Arc::clone(&held));
            move || {
                monitor.flush();
                held.2.of("held").counter(Counter::SentMessages)
            }
        });
        (0..1000).for_each(|_| std::thread::yield_now()); // gives a wrong flush time to return early
        held.0.wait();
        assert_eq!(flushing.join().expect("no panic"), 2, "every message sent before the flush");
        reporting.join().expect("no panic");
    });
}

/// A receiver that cuts waits for nothing: only other switches have a duration.
#[test]
fn switch_on_demand_is_no_sample() {
    paused(async {
        let (builder, sums) = recorded("cut");
        let (tx, mut rx) = builder.build().expect("valid");
        for _ in 0..10 {
            tx.send("abc").await.expect("open");
            rx.recv().await.expect("accepted");
        }
        tx.send("abc").await.expect("open");
        tx.switch();
        tx.monitor().flush();
        let stats = tx.monitor().stats();
        assert_eq!((stats.switches.on_demand, stats.switches.requested), (10, 1));
        assert_eq!(stats.switch_latency.count(), 1);
        sums.of("cut").assert_is(&tx.monitor());
    });
}

/// Notes the largest number of samples in one call.
#[derive(Default)]
struct Largest(AtomicU64, Sums);

impl Recorder for Largest {
    fn record(&self, delta: &StatsDelta<'_>) {
        let samples = delta.histograms().map(|(_, histogram)| histogram.count()).sum();
        self.0.fetch_max(samples, Ordering::Relaxed);
        self.1.record(delta);
    }
}

const MANY_SWITCHES: usize = 10_000;

/// Makes as many switches, each with a sample of both histograms.
async fn switch_often(name: &str) -> (turbostream::Sender, turbostream::Receiver, Arc<Largest>) {
    let largest = Arc::new(Largest::default());
    let builder = turbostream::builder().name(name).strategy(MessageCount(1)).on_demand(false);
    let builder = builder.recorder(largest.clone()).report_interval(Duration::from_secs(10));
    let (tx, mut rx) = builder.build().expect("valid");
    settle().await;
    for _ in 0..MANY_SWITCHES {
        tx.send("abc").await.expect("open");
        rx.recv().await.expect("accepted");
    }
    assert_eq!(largest.1.of(name).calls, 1, "the first report");
    (tx, rx, largest)
}

/// A recorder may take a call of its own for each sample.
#[test]
fn many_samples_are_reported_by_several_calls() {
    paused(async {
        let (tx, rx, largest) = switch_often("flushed").await;
        tx.monitor().flush();
        assert_eq!(largest.0.load(Ordering::Relaxed), 4096);
        assert_eq!(largest.1.of("flushed").calls, 1 + (2 * MANY_SWITCHES).div_ceil(4096));
        largest.1.of("flushed").assert_is(&tx.monitor());

        let (tx, rx_of_dropped, largest) = switch_often("dropped").await;
        drop((tx, rx_of_dropped));
        let samples: u64 = largest.1.of("dropped").histograms.values().map(|(count, _)| count).sum();
        assert_eq!((samples, largest.0.load(Ordering::Relaxed)), (2 * MANY_SWITCHES as u64, 4096));
        drop(rx);
    });
}

/// The task that reports lets other tasks run between the calls of the recorder.
#[test]
fn report_of_many_samples_yields() {
    paused(async {
        let (tx, _rx, largest) = switch_often("periodic").await;
        tokio::time::advance(Duration::from_secs(10)).await;
        let mut most = 0;
        let mut before = 1;
        for _ in 0..100 {
            let now = largest.1.of("periodic").calls;
            most = most.max(now - before);
            before = now;
            tokio::task::yield_now().await;
        }
        assert_eq!((most, before), (1, 1 + (2 * MANY_SWITCHES).div_ceil(4096)));
        largest.1.of("periodic").assert_is(&tx.monitor());
    });
}

/// A recorder that flushes while much is left to report gets it by further calls, and each of them once.
#[test]
fn recorder_may_flush_while_samples_are_left() {
    paused(async {
        let (tx, _rx, largest) = switch_often("nested").await;
        let nested = tx.monitor();
        let flushes = AtomicU64::new(0);
        let recorder = move |_: &StatsDelta<'_>| {
            flushes.fetch_add(1, Ordering::Relaxed);
            nested.flush();
        };
        let (other_tx, _other_rx) = turbostream::builder().recorder(recorder).build().expect("valid");
        other_tx.monitor().flush();
        assert_eq!(largest.1.of("nested").calls, 2, "a flush in a recorder makes one call");
        tx.monitor().flush();
        largest.1.of("nested").assert_is(&tx.monitor());
    });
}

/// A report checks a bounded number of entries under the lock that receivers need. The next ones continue.
#[test]
fn long_queue_with_a_message_written_in_place_is_reported_in_parts() {
    paused(async {
        let (builder, sums) = recorded("long");
        let (tx, _rx) = builder.report_interval(Duration::from_secs(10)).build().expect("valid");
        settle().await;
        for _ in 0..100_000 {
            tx.try_send("abc").expect("room");
        }
        tx.send_with(100, |_| 1).await.map_err(drop).expect("open");
        tokio::time::advance(Duration::from_secs(10)).await;
        let mut before = 0;
        let mut parts = 0;
        for _ in 0..100 {
            tokio::task::yield_now().await;
            let now = sums.of("long").counter(Counter::SentMessages);
            parts += usize::from(now > before);
            before = now;
        }
        assert!(parts > 1, "all entries were checked at once");
        sums.of("long").assert_is(&tx.monitor());
    });
}

/// A message being written, which may reserve more than it writes, is reported only after its commit.
#[test]
fn message_being_written_is_not_reported() {
    paused(async {
        let (builder, sums) = recorded("stalled");
        let (tx, rx) = builder.report_interval(Duration::from_secs(3600)).build().expect("valid");
        tx.send("abc").await.expect("open");
        let monitor = tx.monitor();
        let write = |buf: &mut [u8]| {
            monitor.flush();
            let sum = sums.of("stalled");
            assert!(sum.counter(Counter::SentBytes) <= 3, "{}", sum.counter(Counter::SentBytes));
            buf[0] = 7;
            1
        };
        let mut send = Box::pin(tx.send_with(100, write));
        assert!(poll_once(&mut send).is_ready());
        monitor.flush();
        sums.of("stalled").assert_is(&monitor);
        assert_eq!(sums.of("stalled").counter(Counter::SentBytes), 4);
        assert_eq!(rx.len(), 2);
    });
}

/// The same in a segment that is used again, at each of its entries.
#[test]
fn message_being_written_to_a_segment_used_again_is_not_reported() {
    paused(async {
        let (builder, sums) = recorded("again");
        let builder = builder.segment_bytes(1000).segment_messages(4).max_bytes(4000);
        let (tx, mut rx) = builder.report_interval(Duration::from_secs(3600)).build().expect("valid");
        for round in 0..40 {
            let write = |buf: &mut [u8]| {
                tx.monitor().flush();
                assert_eq!(sums.of("again").counter(Counter::SentBytes), round);
                buf[0] = 7;
                1
            };
            let mut send = Box::pin(tx.send_with(100, write));
            assert!(poll_once(&mut send).is_ready());
            assert_eq!(rx.recv().await.expect("sent").len(), 1);
        }
    });
}

#[test]
fn report_task_ends_with_the_channel() {
    paused(async {
        let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let before = alive();
        let builder = turbostream::builder().recorder(Arc::new(Sums::default()));
        let (tx, rx) = builder.report_interval(Duration::from_secs(3600)).build().expect("valid");
        tx.send("abc").await.expect("open");
        settle().await;
        assert!(alive() > before);
        drop((tx, rx));
        settle().await;
        assert_eq!(alive(), before);
    });
}
