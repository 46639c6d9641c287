//! A destination that stands for an engine on another machine: it confirms late, and loses its connection at times.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};
use turbostream::forward::{Confirmation, Connection, Destination, Outgoing, PublishError};

/// The time from the publish of a message until its confirmation.
const ROUND_TRIP: Duration = Duration::from_millis(100);
/// The connection is up for most of each period, and down at its end.
const PERIOD: Duration = Duration::from_secs(12);
const DOWN_FOR: Duration = Duration::from_secs(1);

pub(crate) struct Distant {
    start: Instant,
}

impl Distant {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Returns the number of the period, and the time until the connection is lost in it; nothing while it is down.
    fn time_to_loss(&self) -> (u64, Option<Duration>) {
        let elapsed = self.start.elapsed().as_micros();
        let (period, at) = (elapsed / PERIOD.as_micros(), elapsed % PERIOD.as_micros());
        let at = Duration::from_micros(at as u64);
        (period as u64, (PERIOD - DOWN_FOR).checked_sub(at).filter(|time| !time.is_zero()))
    }
}

impl Destination for Distant {
    type Receipt = Receipt;

    fn publish(&mut self, _: &Outgoing) -> Receipt {
        let (_, time_to_loss) = self.time_to_loss();
        let is_lost = time_to_loss.is_none_or(|time| time < ROUND_TRIP);
        Receipt { round_trip: Box::pin(sleep(ROUND_TRIP)), is_lost }
    }

    fn connection(&self) -> Connection {
        let (losses, time_to_loss) = self.time_to_loss();
        let is_up = time_to_loss.is_some();
        Connection { is_up, losses: losses + u64::from(!is_up) }
    }
}

/// Resolves after the round trip, or never if the connection was lost meanwhile: then the forwarder publishes again.
pub(crate) struct Receipt {
    round_trip: Pin<Box<Sleep>>,
    is_lost: bool,
}

impl Future for Receipt {
    type Output = Result<Confirmation, PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(self.round_trip.as_mut().poll(cx));
        // If it is lost, the forwarder drops it when the connection is up again.
        if self.is_lost { Poll::Pending } else { Poll::Ready(Ok(Confirmation::Stored)) }
    }
}
