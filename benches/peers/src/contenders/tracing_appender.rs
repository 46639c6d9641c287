use super::Unit;
use crate::workloads::{EventLog, Output};
use tracing_appender::non_blocking::{self, DEFAULT_BUFFERED_LINES_LIMIT, NonBlockingBuilder, WorkerGuard};

/// Each line is a vector, sent through a channel to a writer thread.
pub struct NonBlocking;

impl EventLog for NonBlocking {
    const NAME: &'static str = "tracing-appender";
    const CRATE: &'static str = "tracing-appender";
    const API: &'static str = "non_blocking, not lossy";
    const UNIT: Unit = Unit::Messages;
    const CAPACITY: usize = DEFAULT_BUFFERED_LINES_LIMIT;

    type Writer = non_blocking::NonBlocking;
    type Guard = WorkerGuard;

    fn open(capacity: usize, out: Output) -> (Self::Writer, Self::Guard) {
        NonBlockingBuilder::default().lossy(false).buffered_lines_limit(capacity).finish(out)
    }
}
