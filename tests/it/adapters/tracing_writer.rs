//! `TracingWriter`: a thread of its own writes the events of `tracing` subscribers to an output.
#![cfg(feature = "tracing-writer")]

use std::io::{self, ErrorKind, IoSlice, Write};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::common::{current_runtime, impatient, multi, paused, plain};
use static_assertions::assert_impl_all;
use tracing::{Dispatch, dispatcher, error, info};
use turbostream::{BuildError, SendError, TracingWriter, WhenFull, WorkerGuard, WriteReport};

assert_impl_all!(TracingWriter: Clone, Send, Sync, Unpin, std::fmt::Debug);
assert_impl_all!(WorkerGuard: Send, Sync, Unpin, std::fmt::Debug);

/// An output that passes each slice to a function.
struct FnOutput<F>(F);

impl<F: FnMut(&[u8]) -> io::Result<usize>> Write for FnOutput<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.0)(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The bytes written so far.
type Written = Arc<Mutex<Vec<u8>>>;

fn take_all(written: &Written, bytes: &[u8]) -> io::Result<usize> {
    written.lock().expect("no panic").extend_from_slice(bytes);
    Ok(bytes.len())
}

fn lines(written: &Written) -> Vec<String> {
    let text = String::from_utf8(written.lock().expect("no panic").clone()).expect("text");
    text.lines().map(String::from).collect()
}

/// Returns an output that keeps all bytes but blocks until the sender of `gate` sends or is dropped.
fn gated(written: &Written, gate: Receiver<()>) -> impl Write + Send + 'static + use<> {
    let written = Arc::clone(written);
    FnOutput(move |bytes: &[u8]| {
        let _ = gate.recv();
        take_all(&written, bytes)
    })
}

fn collecting(written: &Written) -> impl Write + Send + 'static + use<> {
    let written = Arc::clone(written);
    FnOutput(move |bytes: &[u8]| take_all(&written, bytes))
}

fn small(when_full: WhenFull) -> turbostream::Builder {
    turbostream::builder().max_bytes(16 << 10).when_full(when_full)
}

fn subscriber(writer: &TracingWriter) -> Dispatch {
    let plain =
        tracing_subscriber::fmt().without_time().with_ansi(false).with_level(false).with_target(false);
    Dispatch::new(plain.log_internal_errors(false).with_writer(writer.clone()).finish())
}

/// Writes one line, as a subscriber does.
fn log_line(mut writer: &TracingWriter, line: &str) -> io::Result<()> {
    writer.write_all(format!("{line}\n").as_bytes())
}

fn counts(report: &WriteReport) -> [u64; 3] {
    [report.written_messages, report.dropped_messages, report.failed_messages]
}

fn numbers(count: u64) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

#[test]
fn each_event_is_one_message_from_threads_and_tasks() {
    multi(async {
        let written = Written::default();
        let (writer, guard) = turbostream::builder().tracing_writer(collecting(&written)).expect("valid");
        let dispatch = subscriber(&writer);
        let threads: Vec<_> = (0..3)
            .map(|thread| {
                let dispatch = dispatch.clone();
                thread::spawn(move || {
                    dispatcher::with_default(&dispatch, || {
                        for number in 0..500 {
                            info!(thread, number, "an event");
                        }
                    });
                })
            })
            .collect();
        let task = tokio::spawn(async move {
            for number in 0..500 {
                dispatcher::with_default(&dispatch, || info!(thread = 3, number, "an event"));
                tokio::task::yield_now().await;
            }
        });
        task.await.expect("no panic");
        for thread in threads {
            thread.join().expect("no panic");
        }
        let report = guard.shutdown().await;
        assert!(report.is_complete(), "{report:?}");
        assert_eq!(counts(&report), [2000, 0, 0]);
        assert_eq!(report.written_bytes, written.lock().expect("no panic").len() as u64);
        let lines = lines(&written);
        for thread in 0..4 {
            let end = format!("thread={thread}");
            let of_it: Vec<_> = lines.iter().filter(|line| line.contains(&end)).collect();
            let expected: Vec<_> =
                (0..500).map(|number| format!("an event thread={thread} number={number}")).collect();
            assert_eq!(of_it, expected.iter().collect::<Vec<_>>());
        }
    });
}

#[test]
fn full_channel_drops_or_rejects_events_by_policy() {
    multi(async {
        for when_full in [WhenFull::DropNewest, WhenFull::DropOldest, WhenFull::Reject] {
            let (written, (open, gate)) = (Written::default(), mpsc::channel());
            let (writer, guard) = small(when_full).tracing_writer(gated(&written, gate)).expect("valid");
            let monitor = writer.monitor();
            let rejected = (0..5000).filter(|number| log_line(&writer, &number.to_string()).is_err()).count();
            assert_eq!(rejected > 0, when_full == WhenFull::Reject);
            drop(open);
            let report = guard.shutdown().await;
            let [kept, dropped, failed] = counts(&report);
            assert_eq!((kept + dropped, failed), (5000, 0), "{when_full:?}");
            assert_eq!(dropped, monitor.stats().dropped_messages + rejected as u64);
            assert!(dropped > 0 && !report.is_complete() && report.error.is_none());
            let lines = lines(&written);
            assert_eq!(lines.len() as u64, kept);
            assert_eq!(lines.last().expect("some") == "4999", when_full == WhenFull::DropOldest);
        }
    });
}

#[test]
fn full_channel_blocks_threads_and_tasks_and_loses_nothing() {
    plain(|| {
        let (written, (open, gate)) = (Written::default(), mpsc::channel());
        let (blocked_tx, blocked) = mpsc::channel();
        // This is the runtime's only thread. Blocking it blocks every task and timer of the channel.
        let service = thread::spawn(move || {
            current_runtime(false).block_on(async {
                let writer = small(WhenFull::Wait).tracing_writer(gated(&written, gate)).expect("valid");
                let (writer, guard) = writer;
                blocked_tx.send(writer.monitor()).expect("the test waits");
                let task = tokio::spawn(async move {
                    for number in 0..5000 {
                        log_line(&writer, &number.to_string()).expect("open");
                        // Uses up the task's budget, so that a Tokio wait would not complete.
                        let _ = futures::poll!(Box::pin(tokio::task::consume_budget()));
                    }
                });
                task.await.expect("no panic");
                let report = guard.shutdown().await;
                assert_eq!(counts(&report), [5000, 0, 0]);
                assert_eq!(lines(&written), numbers(5000));
            });
        });
        let monitor = blocked.recv().expect("the service runs");
        while monitor.stats().waiting_senders == 0 {
            thread::yield_now();
        }
        assert!(monitor.stats().sent_messages < 5000);
        drop(open);
        service.join().expect("no panic");
    });
}

/// Short writes, interruptions and arbitrary slices: the output gets every byte exactly once.
#[test]
fn short_and_interrupted_writes_lose_and_repeat_no_bytes() {
    struct ShortWrites(Written, usize);
    impl Write for ShortWrites {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.write_vectored(&[IoSlice::new(bytes)])
        }
        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            self.1 += 1;
            if self.1 % 3 == 0 {
                return Err(ErrorKind::Interrupted.into());
            }
            let bytes = slices.iter().flat_map(|slice| slice.iter().copied());
            let taken: Vec<u8> = bytes.take(self.1 % 50 + 1).collect();
            take_all(&self.0, &taken)
        }
        fn flush(&mut self) -> io::Result<()> {
            self.1 += 1;
            if self.1 % 2 == 0 { Err(ErrorKind::Interrupted.into()) } else { Ok(()) }
        }
    }
    multi(async {
        let written = Written::default();
        let (writer, guard) =
            small(WhenFull::Wait).tracing_writer(ShortWrites(Arc::clone(&written), 0)).expect("valid");
        for number in 0..3000 {
            log_line(&writer, &number.to_string()).expect("open");
        }
        let report = guard.shutdown().await;
        assert!(report.is_complete(), "{report:?}");
        assert_eq!(lines(&written), numbers(3000));
    });
}

#[test]
fn failing_or_panicking_output_loses_only_that_message() {
    multi(async {
        let written = Written::default();
        let kept = Arc::clone(&written);
        let out = FnOutput(move |bytes: &[u8]| match bytes {
            b"3\n" => Err(ErrorKind::StorageFull.into()),
            b"5\n" => panic!("a faulty output"),
            b"7\n" => Ok(0),
            b"9\n" => Ok(usize::MAX),
            _ => take_all(&kept, bytes),
        });
        let (writer, guard) = small(WhenFull::Wait).tracing_writer(out).expect("valid");
        for number in 0..12 {
            log_line(&writer, &number.to_string()).expect("open");
        }
        let report = guard.shutdown().await;
        assert_eq!(counts(&report), [8, 0, 4]);
        assert_eq!(
            report.error.as_ref().map(io::Error::kind),
            Some(ErrorKind::StorageFull),
            "the first error"
        );
        assert!(!report.is_complete());
        assert_eq!(lines(&written), ["0", "1", "2", "4", "6", "8", "10", "11"]);
    });
}

/// The output may get many messages at once. It reports more bytes than all of them have.
#[test]
fn output_that_reports_too_many_bytes_fails_each_message() {
    struct ReportsTooMuch;
    impl Write for ReportsTooMuch {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len() + 1)
        }
        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            Ok(slices.iter().map(|slice| slice.len()).sum::<usize>() + 1)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    multi(async {
        let (writer, guard) = small(WhenFull::Wait).tracing_writer(ReportsTooMuch).expect("valid");
        for number in 0..100 {
            log_line(&writer, &number.to_string()).expect("open");
        }
        let report = guard.shutdown().await;
        assert_eq!(counts(&report), [0, 0, 100]);
        assert_eq!(
            report.error.map(|error| error.to_string()).as_deref(),
            Some("the writer took more than there was")
        );
    });
}

#[test]
fn failing_flush_is_reported() {
    struct Unflushable;
    impl Write for Unflushable {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(ErrorKind::BrokenPipe.into())
        }
    }
    multi(async {
        let (writer, guard) = small(WhenFull::Wait).tracing_writer(Unflushable).expect("valid");
        log_line(&writer, "0").expect("open");
        let report = guard.shutdown().await;
        assert_eq!(report.error.map(|error| error.kind()), Some(ErrorKind::BrokenPipe));
    });
}

#[test]
fn too_long_event_is_rejected_and_counted() {
    multi(async {
        let written = Written::default();
        let builder = small(WhenFull::Wait).max_message_bytes(20);
        let (writer, guard) = builder.tracing_writer(collecting(&written)).expect("valid");
        let dispatch = subscriber(&writer);
        dispatcher::with_default(&dispatch, || {
            info!("short");
            error!("longer than twenty bytes");
            info!("short again");
        });
        let error = log_line(&writer, "longer than twenty bytes").expect_err("too long");
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<SendError<()>>());
        assert!(matches!(inner, Some(SendError::TooLarge { len: 25, max: 20, .. })));
        assert_eq!((&writer).write(b"").expect("an empty write succeeds"), 0);
        assert_eq!(counts(&guard.shutdown().await), [2, 2, 0]);
        assert_eq!(lines(&written).len(), 2);
    });
}

#[test]
fn dropped_guard_writes_all_events_and_closes_the_channel() {
    plain(|| {
        let written = Written::default();
        let runtime = current_runtime(false);
        let (writer, guard) = {
            let _context = runtime.enter();
            small(WhenFull::Wait).tracing_writer(collecting(&written)).expect("valid")
        };
        log_line(&writer, "0").expect("open");
        drop(runtime);
        for number in 1..3000 {
            log_line(&writer, &number.to_string()).expect("open, though the runtime is gone");
        }
        drop(guard);
        assert_eq!(lines(&written), numbers(3000));
        let error = log_line(&writer, "too late").expect_err("closed");
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

/// The guard is dropped during a panic, on the thread that drives the runtime.
#[test]
fn guard_dropped_by_panic_writes_all_events() {
    plain(|| {
        let written = Written::default();
        let kept = Arc::clone(&written);
        let failed = thread::spawn(move || {
            current_runtime(false).block_on(async {
                let (writer, _guard) =
                    small(WhenFull::Wait).tracing_writer(collecting(&kept)).expect("valid");
                for number in 0..100 {
                    log_line(&writer, &number.to_string()).expect("open");
                }
                panic!("the service fails");
            });
        });
        assert!(failed.join().is_err());
        assert_eq!(lines(&written), numbers(100));
    });
}

#[test]
fn dropped_guard_stops_waiting_for_blocked_output() {
    plain(|| {
        let (written, (open, gate)) = (Written::default(), mpsc::channel());
        let runtime = current_runtime(false);
        let (writer, guard) = {
            let _context = runtime.enter();
            small(WhenFull::Wait).tracing_writer(gated(&written, gate)).expect("valid")
        };
        log_line(&writer, "stuck").expect("open");
        drop(guard);
        assert!(written.lock().expect("no panic").is_empty(), "nothing can have been written");
        drop(open);
        while lines(&written) != ["stuck"] {
            thread::yield_now(); // the thread continues in the background
        }
    });
}

#[test]
fn cancelled_shutdown_closes_the_channel() {
    paused(async {
        let (written, (open, gate)) = (Written::default(), mpsc::channel());
        let (writer, guard) = small(WhenFull::Wait).tracing_writer(gated(&written, gate)).expect("valid");
        log_line(&writer, "kept").expect("open");
        assert!(impatient(1, guard.shutdown()).await.is_none());
        assert!(log_line(&writer, "too late").is_err());
        drop(open);
        while lines(&written) != ["kept"] {
            thread::yield_now();
        }
    });
}

#[test]
fn thread_ends_with_last_writer() {
    multi(async {
        let written = Written::default();
        let (writer, guard) = small(WhenFull::Wait).tracing_writer(collecting(&written)).expect("valid");
        let other = writer.clone();
        log_line(&writer, "0").expect("open");
        drop(writer);
        log_line(&other, "1").expect("open");
        drop(other);
        assert_eq!(counts(&guard.shutdown().await), [2, 0, 0]);
        assert_eq!(lines(&written), numbers(2));
    });
}

/// An output that logs: its events are queued, and lost rather than waited for when the channel is full.
#[test]
fn output_that_logs_never_blocks_its_own_thread() {
    multi(async {
        let (written, (open, gate)) = (Written::default(), mpsc::channel::<TracingWriter>());
        let kept = Arc::clone(&written);
        let (full_tx, full) = mpsc::channel();
        let mut own: Option<TracingWriter> = None;
        let out = FnOutput(move |bytes: &[u8]| {
            let own = own.get_or_insert_with(|| gate.recv().expect("the test sends the writer"));
            if bytes == b"0\n" {
                while log_line(own, "from within").is_ok() {}
                full_tx.send(()).expect("the test waits");
            }
            take_all(&kept, bytes)
        });
        let (writer, guard) = small(WhenFull::Wait).tracing_writer(out).expect("valid");
        log_line(&writer, "0").expect("open");
        open.send(writer).expect("the output waits");
        full.recv().expect("the output continues");
        let report = guard.shutdown().await;
        let [wrote, dropped, failed] = counts(&report);
        assert_eq!((dropped, failed), (1, 0));
        assert!(wrote > 1 && lines(&written).len() as u64 == wrote);
    });
}

#[test]
fn invalid_settings_are_rejected() {
    paused(async {
        let rejected = turbostream::builder().max_bytes(0).tracing_writer(io::sink());
        assert!(matches!(rejected, Err(BuildError::OutOfRange { field: "max_bytes", .. })));
    });
    let rejected = turbostream::builder().tracing_writer(io::sink());
    assert_eq!(rejected.err(), Some(BuildError::NoRuntime));
}
