//! The clock of a channel.

use tokio::time::Instant;

/// Measures nanoseconds since the creation of the channel, in `tokio::time`; under the checkers, time stands still.
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Returns the time, which is never 0.
    #[inline]
    pub(crate) fn nanos(&self) -> u64 {
        if cfg!(any(turbostream_loom, turbostream_shuttle)) {
            return 1;
        }
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Returns how long ago `then` was, which this clock returned.
    #[inline]
    pub(crate) fn nanos_since(&self, then: u64) -> u64 {
        self.nanos().saturating_sub(then)
    }
}
