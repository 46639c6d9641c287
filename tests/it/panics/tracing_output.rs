//! Outputs of the `tracing` writer whose panics or errors panic when they are dropped.
#![cfg(feature = "tracing-writer")]

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, mpsc};

use super::{PanicsOnDrop, contain_nested, drop_while_unwinding, panic_nested};
use crate::common::{multi, poll_once};
use turbostream::TracingWriter;

fn log_lines(mut writer: &TracingWriter, count: usize) {
    for _ in 0..count {
        writer.write_all(b"a line\n").expect("room");
    }
}

/// An output that calls a function for each write, and panics when it is flushed and dropped.
struct Output<F: FnMut() -> io::Result<usize>>(F);

impl<F: FnMut() -> io::Result<usize>> Write for Output<F> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        (self.0)()
    }
    fn flush(&mut self) -> io::Result<()> {
        panic_nested();
    }
}

impl<F: FnMut() -> io::Result<usize>> Drop for Output<F> {
    fn drop(&mut self) {
        panic_nested();
    }
}

/// An error whose drop panics.
struct PanickingError(#[expect(dead_code, reason = "dropped")] PanicsOnDrop);

impl fmt::Debug for PanickingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PanickingError")
    }
}

impl fmt::Display for PanickingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an error whose drop panics")
    }
}

impl Error for PanickingError {}

fn fail(drops: &Arc<AtomicUsize>) -> io::Result<usize> {
    Err(io::Error::other(PanickingError(PanicsOnDrop(Arc::clone(drops)))))
}

#[test]
fn nested_panic_of_output_does_not_end_worker_thread() {
    multi(contain_nested(async {
        let out = Output(|| panic_nested());
        let (writer, guard) = turbostream::builder().tracing_writer(out).expect("valid");
        log_lines(&writer, 3);
        let report = guard.shutdown().await;
        assert_eq!((report.written_messages, report.failed_messages), (0, 3));
        assert!(report.error.is_some());
    }));
}

#[test]
fn errors_that_panic_when_dropped_do_not_end_worker_thread() {
    multi(contain_nested(async {
        let drops = Arc::<AtomicUsize>::default();
        let out = Output(move || fail(&drops));
        let (writer, guard) = turbostream::builder().tracing_writer(out).expect("valid");
        log_lines(&writer, 3);
        let mut report = guard.shutdown().await;
        assert_eq!((report.written_messages, report.failed_messages), (0, 3));
        assert_eq!(report.error.as_ref().expect("the first").to_string(), "an error whose drop panics");
        mem::forget(report.error.take());
    }));
}

#[test]
fn guard_with_panicking_error_dropped_while_unwinding_does_not_abort() {
    multi(contain_nested(async {
        let drops = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&drops);
        let out = Output(move || fail(&counted));
        let (writer, guard) = turbostream::builder().tracing_writer(out).expect("valid");
        log_lines(&writer, 1);
        assert!(drop_while_unwinding(guard));
        assert_eq!(drops.load(Relaxed), 1);
    }));
}

/// Sends when the thread that it belongs to ends, after the result of the thread was dropped.
struct SendsAtEnd(mpsc::Sender<()>);

impl Drop for SendsAtEnd {
    fn drop(&mut self) {
        self.0.send(()).expect("the test waits");
    }
}

thread_local! {
    static AT_END: RefCell<Option<SendsAtEnd>> = const { RefCell::new(None) };
}

#[test]
fn undelivered_report_with_panicking_error_does_not_abort() {
    multi(contain_nested(async {
        let (ended_tx, ended) = mpsc::channel();
        let (gate, waits) = mpsc::channel::<()>();
        let out = Output(move || {
            AT_END.set(Some(SendsAtEnd(ended_tx.clone())));
            let _ = waits.recv();
            fail(&Arc::default())
        });
        let (writer, guard) = turbostream::builder().tracing_writer(out).expect("valid");
        log_lines(&writer, 1);
        let mut shutdown = Box::pin(guard.shutdown());
        assert!(poll_once(&mut shutdown).is_pending());
        drop(shutdown);
        drop(gate);
        ended.recv().expect("the worker thread ends");
    }));
}
