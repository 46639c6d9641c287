//! The thread that writes.

use std::io::{self, ErrorKind, IoSlice, Write};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::{Shared, WriteReport};
use crate::receiver::Receiver;
use crate::receiver::batch::Batch;
use crate::wait::blocking;

/// Having written, the thread lets events gather for so long before it takes the next: waking it costs whoever logs
/// several times what logging does.
const GATHER: Duration = Duration::from_millis(1);
/// In a smaller channel there is no room for what may come meanwhile.
const GATHER_FROM_BYTES: usize = 1 << 20;

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
        while let Some(batch) = blocking::anywhere(None, self.receiver.recv_batch(usize::MAX)).flatten() {
            self.write(&batch);
            drop(batch);
            if self.receiver.is_empty() {
                self.flush();
            }
            self.gather();
        }
        self.flush();
        let dropped = self.receiver.monitor().stats().dropped_messages;
        self.report.dropped_messages = dropped + self.shared.refused();
        // Its drop may write too, and comes before anybody is told.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(self.out)));
        self.report
    }

    /// Waits a moment, or until the channel is closed; not where it could fill up meanwhile.
    fn gather(&self) {
        let core = self.receiver.core();
        let max_bytes = core.queue.pool.max_bytes();
        if max_bytes < GATHER_FROM_BYTES || core.queued().1 > max_bytes as u64 / 16 {
            return;
        }
        let closed = core.closing.wait_until(|_| core.is_closed().then_some(()));
        let _ = blocking::anywhere(Some(GATHER), closed);
    }

    /// Writes each message of the batch, or counts it as failed and goes on behind it.
    fn write(&mut self, batch: &Batch) {
        let mut slices = batch.io_slices();
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            match contained(|| self.out.write_vectored(rest)).and_then(|bytes| within(bytes, rest)) {
                Ok(bytes) => {
                    let before = rest.len();
                    IoSlice::advance_slices(&mut rest, bytes);
                    self.report.written_messages += (before - rest.len()) as u64;
                    self.report.written_bytes += bytes as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.report.error.get_or_insert(error);
                    self.report.failed_messages += 1;
                    rest = &mut mem::take(&mut rest)[1..];
                }
            }
        }
    }

    fn flush(&mut self) {
        loop {
            match contained(|| self.out.flush()) {
                Ok(()) => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.report.error.get_or_insert(error);
                    return;
                }
            }
        }
    }
}

/// A panic of `out` is an error of it.
fn contained<T>(write: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(write)).unwrap_or_else(|_| Err(io::Error::other("the writer panicked")))
}

/// What `out` says to have taken, if that can be: something, and no more than there was.
fn within(bytes: usize, slices: &[IoSlice<'_>]) -> io::Result<usize> {
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
