//! A writer and a reader beside their model.

use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::unconstrained;
use turbostream::{Monitor, Reader, Sender, TryRecvError, TrySendError, Writer};

use crate::common::current_runtime;
use crate::ops::{Op, Setup, case};
use crate::records::Records;

/// Runs the case that `bytes` encode, on one thread with a paused clock.
pub(crate) fn run(bytes: &[u8]) {
    let (setup, ops) = case(bytes);
    current_runtime(true).block_on(unconstrained(async {
        let mut machine = Machine::new(setup);
        for op in ops {
            machine.apply(op);
            machine.check();
        }
        machine.end();
    }));
}

/// Records whether it was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

struct Machine {
    setup: Setup,
    delimiter: Option<u8>,
    records: Records,
    writer: Option<Writer>,
    reader: Option<Reader>,
    monitor: Monitor,
    /// The flags that are set when a waiting writer or reader is woken.
    writing: Option<Arc<Flag>>,
    reading: Option<Arc<Flag>>,
    shut_down: bool,
    closed: bool,
    /// Whether the last refused write ended with a delimiter, while an overlong record is refused.
    refused: Option<bool>,
}

fn wrap(tx: Sender, delimiter: Option<u8>) -> Writer {
    match delimiter {
        Some(delimiter) => tx.into_delimited_writer(delimiter),
        None => tx.into_writer(),
    }
}

/// Polls, and stores the flag of a poll that is pending. A poll that completes without using the channel stays registered and
/// keeps its flag.
fn poll<T>(waiting: &mut Option<Arc<Flag>>, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    let flag = Arc::new(Flag::default());
    match poll(&mut Context::from_waker(&Waker::from(Arc::clone(&flag)))) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => {
            *waiting = Some(flag);
            None
        }
    }
}

impl Machine {
    fn new(setup: Setup) -> Self {
        let (tx, rx) = setup.builder().build().expect("a valid configuration");
        Self {
            delimiter: setup.delimiter,
            monitor: tx.monitor(),
            writer: Some(wrap(tx, setup.delimiter)),
            reader: Some(rx.into_reader()),
            setup,
            records: Records::default(),
            writing: None,
            reading: None,
            shut_down: false,
            closed: false,
            refused: None,
        }
    }

    fn writer(&mut self) -> Pin<&mut Writer> {
        Pin::new(self.writer.as_mut().expect("always there between operations"))
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Write(bytes) => self.write(&bytes),
            Op::Flush => self.flush(),
            Op::Shutdown => self.shut_down(),
            Op::TakeBuffer => {
                let unfinished = std::mem::take(&mut self.records.unfinished);
                assert_eq!(self.writer().take_buffer(), unfinished);
                if let Some(ended) = self.refused.take() {
                    self.records.discarding = !ended;
                }
            }
            Op::Rewrap(delimiter) => {
                let tx = self.writer.take().expect("there").into_inner();
                self.writing = None;
                self.records.unfinished.clear();
                (self.records.discarding, self.refused) = (false, None);
                self.delimiter = delimiter;
                self.writer = Some(wrap(tx, delimiter));
            }
            Op::Send(len) => self.send(len),
            Op::Read(len) => self.read(len),
            Op::FillBuf { consumed } => self.fill_buf(consumed),
            Op::Recv => self.recv(),
            Op::Close => {
                self.reader.as_ref().expect("there").get_ref().close();
                self.closed();
            }
        }
    }

    fn closed(&mut self) {
        self.closed = true;
        self.records.switched();
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut writing = self.writing.take();
        let polled = poll(&mut writing, |cx| self.writer().poll_write(cx, bytes));
        self.writing = writing;
        match polled {
            None => self.check_waiting(),
            Some(Ok(0)) => assert!(bytes.is_empty(), "wrote nothing"),
            Some(Ok(taken)) => {
                assert!(!self.closed && !self.shut_down && self.refused.is_none());
                assert!(self.delimiter.is_some() || taken == bytes.len(), "wrote half a message");
                self.records.write(&bytes[..taken], self.delimiter);
            }
            Some(Err(error)) => {
                let end = bytes.iter().position(|&byte| Some(byte) == self.delimiter);
                let part = end.map_or(bytes.len(), |at| at + 1);
                let is_long = error.kind() == ErrorKind::InvalidInput;
                if !(is_long && self.refused.is_some()) {
                    self.check_error(error.kind(), self.records.unfinished.len() + part);
                }
                if is_long && self.delimiter.is_some() {
                    assert!(!self.records.discarding, "what is discarded has any length");
                    self.refused = Some(bytes.last().copied() == self.delimiter);
                }
            }
        }
    }

    fn check_error(&self, kind: ErrorKind, len: usize) {
        match kind {
            ErrorKind::BrokenPipe => assert!(self.closed || self.shut_down),
            ErrorKind::InvalidInput => assert!(len > self.setup.max_message_bytes),
            ErrorKind::StorageFull => {
                assert!(self.setup.rejects);
                self.check_full();
            }
            kind => panic!("{kind}"),
        }
    }

    /// Checks that a writer without room has a reason: unread messages.
    fn check_full(&self) {
        assert!(
            !self.closed && !self.records.is_empty(),
            "an empty channel reports `Full`: {:?}",
            self.monitor.stats()
        );
    }

    fn check_waiting(&self) {
        self.check_full();
        assert!(!self.setup.rejects);
        assert_eq!(self.monitor.stats().waiting_senders, 1);
    }

    fn flush(&mut self) {
        let polled = poll(&mut None, |cx| self.writer().poll_flush(cx));
        assert!(matches!(polled, Some(Ok(()))), "no item is pending");
        self.records.switched();
    }

    fn shut_down(&mut self) {
        let mut writing = self.writing.take();
        let polled = poll(&mut writing, |cx| self.writer().poll_shutdown(cx));
        self.writing = writing;
        match polled {
            None => self.check_waiting(),
            Some(Ok(())) => {
                if let Some(ended) = self.refused.take() {
                    self.records.unfinished.clear();
                    self.records.discarding = !ended;
                }
                assert!(self.records.unfinished.is_empty() || !self.closed);
                if !self.records.unfinished.is_empty() {
                    let record = std::mem::take(&mut self.records.unfinished);
                    self.records.push(record);
                }
                self.shut_down = true;
                self.closed();
            }
            Some(Err(error)) => self.check_error(error.kind(), self.records.unfinished.len()),
        }
    }

    fn send(&mut self, len: usize) {
        let message = vec![len as u8; len];
        match self.writer().get_ref().try_send(&message[..]) {
            Ok(()) => {
                assert!(!self.closed);
                self.records.push(message);
            }
            Err(TrySendError::Closed(_)) => assert!(self.closed || self.shut_down),
            Err(TrySendError::TooLarge { .. }) => assert!(len > self.setup.max_message_bytes),
            // Otherwise the channel is full, or the writer waits and is ahead.
            Err(_) => assert!(self.writing.is_some() || !self.records.is_empty()),
        }
    }

    fn reader(&mut self) -> Pin<&mut Reader> {
        Pin::new(self.reader.as_mut().expect("always there between operations"))
    }

    /// Records as taken all messages that are no longer in the channel.
    fn note_taken(&mut self) {
        let queued = self.monitor.stats().queued_messages as usize;
        self.records.take_all_but(queued);
    }

    fn check_pending(&self) {
        let must_be_ready = self.closed || self.records.must_have_bytes(self.setup.on_demand);
        assert!(!must_be_ready, "not ready: {:?}", self.monitor.stats());
        assert_eq!(self.monitor.stats().waiting_receivers, 1);
    }

    fn check_end(&self) {
        assert!(self.closed && !self.records.must_have_bytes(true), "ended early");
    }

    fn read(&mut self, len: usize) {
        let mut space = vec![0; len];
        let mut buf = ReadBuf::new(&mut space);
        let mut reading = self.reading.take();
        let polled = poll(&mut reading, |cx| self.reader().poll_read(cx, &mut buf));
        self.reading = reading;
        self.note_taken();
        match polled {
            None => self.check_pending(),
            Some(result) => {
                result.expect("never fails");
                match buf.filled() {
                    [] if len > 0 => self.check_end(),
                    bytes => self.records.read(bytes),
                }
            }
        }
    }

    fn fill_buf(&mut self, consumed: usize) {
        let mut reading = self.reading.take();
        let polled = poll(&mut reading, |cx| self.reader().poll_fill_buf(cx).map_ok(<[u8]>::to_vec));
        self.reading = reading;
        self.note_taken();
        match polled {
            None => self.check_pending(),
            Some(bytes) => {
                let bytes = bytes.expect("never fails");
                if bytes.is_empty() {
                    self.check_end();
                }
                self.reader().consume(consumed);
                self.records.read(&bytes[..consumed.min(bytes.len())]);
            }
        }
    }

    fn recv(&mut self) {
        let mut rx = self.reader.take().expect("there").into_inner();
        self.reading = None;
        self.records.drop_held();
        match rx.try_recv() {
            Ok(message) => assert_eq!(self.records.take().as_deref(), Some(&message[..])),
            Err(TryRecvError::Closed) => assert!(self.closed && self.records.queued() == 0),
            Err(_) => assert!(!self.closed && !self.records.must_have_message(self.setup.on_demand)),
        }
        self.reader = Some(rx.into_reader());
    }

    /// Checks the statistics, the buffers of both ends, and the wakes after each step.
    fn check(&mut self) {
        let stats = self.monitor.stats();
        self.writing.take_if(|_| stats.waiting_senders == 0);
        self.reading.take_if(|_| stats.waiting_receivers == 0);
        let records = &self.records;
        let totals = (stats.sent_messages, stats.sent_bytes, stats.queued_messages as usize);
        assert_eq!(totals, (records.accepted, records.sent_bytes, records.queued()));
        assert!(stats.memory_bytes() <= stats.max_bytes, "{stats:?}");
        assert_eq!(stats.waiting_senders, usize::from(self.writing.is_some()));
        assert_eq!(stats.waiting_receivers, usize::from(self.reading.is_some()));
        let (Some(writer), Some(reader)) = (&self.writer, &self.reader) else {
            unreachable!("both are there")
        };
        assert_eq!(writer.buffer(), records.unfinished);
        records.check_held(reader.buffer());
        let woken = |flag: &Option<Arc<Flag>>| flag.as_ref().is_none_or(|flag| flag.0.load(Relaxed));
        assert!(woken(&self.writing) || !(self.closed || records.is_empty()), "the writer was not woken");
        let readable = self.closed || records.must_have_bytes(self.setup.on_demand);
        assert!(woken(&self.reading) || !readable, "the reader was not woken");
    }

    /// Reads all remaining bytes, and checks that all memory is freed.
    fn end(mut self) {
        self.reader.as_ref().expect("there").get_ref().close();
        self.closed();
        while !(self.records.is_empty()) {
            self.read(1000);
            self.check();
        }
        self.read(1);
        let (writer, reader) = (self.writer.take(), self.reader.take());
        drop((writer, reader));
        let stats = self.monitor.stats();
        assert_eq!((stats.memory_bytes(), stats.queued_messages), (0, 0), "{stats:?}");
    }
}
