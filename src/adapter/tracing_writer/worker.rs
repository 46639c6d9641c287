//! The worker thread: receives batches, writes them to `out`, flushes when nothing more is queued.

use std::io::{self, ErrorKind, IoSlice, Write};
use std::mem;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::{Shared, WriteReport};
use crate::receiver::Receiver;
use crate::receiver::batch::Batch;
use crate::sync::unwind::catch;
use crate::wait::blocking;

/// How long the worker waits after a write, so that events coalesce into one batch.
///
/// To wake the worker costs the logging thread several times what logging an event does.
const COALESCE_DELAY: Duration = Duration::from_millis(1);
/// The smallest `max_bytes` with coalescing: a smaller channel could fill up during the delay.
const COALESCE_MIN_BYTES: usize = 1 << 20;

/// What the worker thread owns.
pub(super) struct Worker<W> {
    out: W,
    receiver: Receiver,
    shared: Arc<Shared>,
    report: WriteReport,
}

impl<W: Write> Worker<W> {
    pub(super) fn new(out: W, receiver: Receiver, shared: Arc<Shared>) -> Self {
        Self { out, receiver, shared, report: WriteReport::default() }
    }

    /// Writes until the channel is closed and drained.
    pub(super) fn run(mut self) -> WriteReport {
        self.shared.worker.get_or_init(|| thread::current().id());
        while let Some(batch) =
            blocking::block_on_any_thread(None, self.receiver.recv_batch(usize::MAX)).flatten()
        {
            self.write(&batch);
            drop(batch);
            if self.receiver.is_empty() {
                self.flush();
            }
            self.coalesce();
        }
        self.flush();
        let dropped = self.receiver.monitor().stats().dropped_messages;
        self.report.dropped_messages = dropped + self.shared.refused();
        // Drop `out` before the report is sent: its drop may write too.
        let _ = catch(|| drop(self.out));
        self.report
    }

    /// Waits for `COALESCE_DELAY` or until the channel is closed; not at all if the channel could fill up in that time.
    fn coalesce(&self) {
        let core = self.receiver.core();
        let max_bytes = core.queue.pool.max_bytes();
        if max_bytes < COALESCE_MIN_BYTES || core.queued().1 > max_bytes as u64 / 16 {
            return;
        }
        let closed = core.closing.wait_until(|_| core.is_closed().then_some(()));
        let _ = blocking::block_on_any_thread(Some(COALESCE_DELAY), closed);
    }

    /// Writes the messages of the batch. Counts a message that fails, and continues with the next.
    fn write(&mut self, batch: &Batch) {
        let mut slices = batch.io_slices();
        let mut remaining = &mut slices[..];
        while !remaining.is_empty() {
            match call_out(|| self.out.write_vectored(remaining))
                .and_then(|bytes| check_written(bytes, remaining))
            {
                Ok(bytes) => {
                    let before = remaining.len();
                    IoSlice::advance_slices(&mut remaining, bytes);
                    self.report.written_messages += (before - remaining.len()) as u64;
                    self.report.written_bytes += bytes as u64;
                }
                Err(error) => {
                    if self.has_failed(error) {
                        self.report.failed_messages += 1;
                        remaining = &mut mem::take(&mut remaining)[1..];
                    }
                }
            }
        }
    }

    fn flush(&mut self) {
        loop {
            match call_out(|| self.out.flush()) {
                Ok(()) => return,
                Err(error) => {
                    if self.has_failed(error) {
                        return;
                    }
                }
            }
        }
    }

    /// Returns whether a call of `out` has failed and was not only interrupted. Keeps the first error for the report.
    ///
    /// To drop an error may run code of `out`.
    fn has_failed(&mut self, error: io::Error) -> bool {
        let failed = error.kind() != ErrorKind::Interrupted;
        if failed && self.report.error.is_none() {
            self.report.error = Some(error);
        } else {
            let _ = catch(|| drop(error));
        }
        failed
    }
}

/// Calls a method of `out`, and turns a panic into an error.
fn call_out<T>(method: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch(method).unwrap_or_else(|_| Err(io::Error::other("the writer panicked")))
}

/// Returns `bytes`, or an error if `out` cannot have written so many: none, or more than the slices hold.
fn check_written(bytes: usize, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    if bytes == 0 {
        return Err(ErrorKind::WriteZero.into());
    }
    let mut left = bytes;
    for slice in slices {
        if left <= slice.len() {
            return Ok(bytes);
        }
        left -= slice.len();
    }
    Err(io::Error::other("the writer took more than there was"))
}
