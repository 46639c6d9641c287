//! A destination around another one that measures how long messages take to be confirmed.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use hdrhistogram::Histogram;
use turbostream::forward::{Confirmation, Connection, Destination, Outgoing, PublishError};

/// Measures one payload in so many, from its first publish until the forwarder sees it confirmed.
///
/// A payload that is published again is measured from the first time, so an outage shows.
pub(crate) struct Timed<D> {
    destination: D,
    every: u64,
    /// Payloads published for the first time.
    payloads: u64,
    /// The highest sequence published.
    last: u64,
    times: Arc<Times>,
}

/// The measured times.
pub(crate) struct Times(Mutex<State>);

struct State {
    /// When the measured payloads in flight were published first, by sequence.
    published: BTreeMap<u64, Instant>,
    nanos: Histogram<u64>,
}

impl Times {
    fn new() -> Self {
        const HOUR: u64 = 3_600_000_000_000;
        let nanos = Histogram::new_with_bounds(1, HOUR, 3).expect("valid bounds");
        Self(Mutex::new(State { published: BTreeMap::new(), nanos }))
    }

    /// Returns the times so far, in nanoseconds.
    pub(crate) fn nanos(&self) -> Histogram<u64> {
        self.with(|state| state.nanos.clone())
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn end(&self, sequence: u64, is_confirmed: bool) {
        self.with(|state| {
            if let Some(published) = state.published.remove(&sequence)
                && is_confirmed
            {
                state.nanos.saturating_record(published.elapsed().as_nanos() as u64);
            }
        });
    }
}

impl<D: Destination> Timed<D> {
    /// Measures one payload in `every` of `destination`.
    pub(crate) fn new(destination: D, every: u64) -> (Self, Arc<Times>) {
        let times = Arc::new(Times::new());
        (Self { destination, every, payloads: 0, last: 0, times: Arc::clone(&times) }, times)
    }

    /// Returns whether this payload is measured.
    fn is_measured(&mut self, sequence: u64) -> bool {
        if sequence <= self.last {
            return self.times.with(|state| state.published.contains_key(&sequence));
        }
        self.last = sequence;
        self.payloads += 1;
        let is_due = self.payloads % self.every == 0;
        if is_due {
            self.times.with(|state| state.published.insert(sequence, Instant::now()));
        }
        is_due
    }
}

impl<D: Destination> Destination for Timed<D> {
    type Receipt = TimedReceipt<D::Receipt>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PublishError>> {
        self.destination.poll_ready(cx)
    }

    fn publish(&mut self, message: &Outgoing) -> Self::Receipt {
        let sequence = message.sequence();
        let measured = self.is_measured(sequence).then(|| (sequence, Arc::clone(&self.times)));
        TimedReceipt { receipt: self.destination.publish(message), measured }
    }

    fn poll_resume(&mut self, cx: &mut Context<'_>, first: u64) -> Poll<Result<Option<u64>, PublishError>> {
        let confirmed = ready!(self.destination.poll_resume(cx, first))?;
        if let Some(last) = confirmed {
            let sequences: Vec<_> = self
                .times
                .with(|state| state.published.range(..=last).map(|(&sequence, _)| sequence).collect());
            for sequence in sequences {
                self.times.end(sequence, true);
            }
        }
        Poll::Ready(Ok(confirmed))
    }

    fn connection(&self) -> Connection {
        self.destination.connection()
    }

    fn strict_order(&mut self) -> bool {
        self.destination.strict_order()
    }

    fn max_payload(&self) -> Option<usize> {
        self.destination.max_payload()
    }

    fn may_pack(&mut self, first: &[u8], next: &[u8]) -> bool {
        self.destination.may_pack(first, next)
    }
}

pub(crate) struct TimedReceipt<R> {
    receipt: R,
    measured: Option<(u64, Arc<Times>)>,
}

impl<R: Future<Output = Result<Confirmation, PublishError>> + Unpin> Future for TimedReceipt<R> {
    type Output = R::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.receipt).poll(cx));
        if let Some((sequence, times)) = &self.measured {
            match &outcome {
                Ok(_) => times.end(*sequence, true),
                Err(PublishError::Reject(_)) => times.end(*sequence, false),
                Err(_) => {} // published again, and still measured
            }
        }
        Poll::Ready(outcome)
    }
}
