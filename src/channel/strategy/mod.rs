//! Strategies: when the active segment is switched before it is full.

pub(crate) mod active;
pub(crate) mod limits;

use std::time::Duration;

use crate::queue::segment::slot_state::Capacity;

/// The state of the active segment, as a [`SwitchStrategy`] sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveSegment {
    /// Messages written to the segment since the last switch.
    pub messages: usize,
    /// Bytes of their payloads, external ones included.
    pub bytes: usize,
    /// Time since the last switch that was not on demand.
    pub elapsed: Duration,
    /// Time since the first of these messages was written; zero if there are none.
    pub age: Duration,
    /// How many messages the segment can hold.
    pub capacity_messages: usize,
    /// How many bytes the segment can hold.
    pub capacity_bytes: usize,
}

impl ActiveSegment {
    /// Returns the state of a segment without messages, right after a switch.
    pub(crate) fn empty(capacity: Capacity) -> Self {
        Self {
            messages: 0,
            bytes: 0,
            elapsed: Duration::ZERO,
            age: Duration::ZERO,
            capacity_messages: capacity.messages,
            capacity_bytes: capacity.bytes,
        }
    }
}

/// The number of messages or bytes at which a sender asks the strategy again.
///
/// For every message, senders compare two integers with the limits. Until one of the limits is reached, a strategy
/// costs them neither a call nor a read of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchLimits {
    /// Ask once this many messages were written since the last switch.
    pub messages: usize,
    /// Ask once this many bytes were written since the last switch.
    pub bytes: usize,
}

impl SwitchLimits {
    /// Ask after every message.
    pub const EVERY_MESSAGE: Self = Self { messages: 1, bytes: 0 };
    /// Never ask at a send: only time decides.
    pub const NEVER: Self = Self { messages: usize::MAX, bytes: usize::MAX };
}

/// Decides when the active segment is sealed before it is full.
///
/// A full segment is always switched, and an empty one never. Only [`should_switch`](Self::should_switch) is required; the
/// two other methods save calls and wakeups.
///
/// A strategy sees counts, not messages. To switch after a certain message, send it and call
/// [`Sender::switch`](crate::Sender::switch).
///
/// No lock is held while a strategy is called.
///
/// # Panics
///
/// A panic of a strategy is caught and counted, unless panics abort the process. `should_switch` then counts as false,
/// `limits` as [`SwitchLimits::NEVER`], and `next_check` as `None`.
///
/// # Examples
///
/// ```
/// use turbostream::{ActiveSegment, SwitchStrategy};
///
/// /// Switches when half of the segment's bytes are used.
/// struct HalfFull;
///
/// impl SwitchStrategy for HalfFull {
///     fn should_switch(&self, active: &ActiveSegment) -> bool {
///         active.bytes * 2 >= active.capacity_bytes
///     }
/// }
/// # let runtime = tokio::runtime::Runtime::new().unwrap();
/// let (tx, rx) = turbostream::builder().strategy(HalfFull).runtime(runtime.handle().clone()).build()?;
/// # Ok::<(), turbostream::BuildError>(())
/// ```
pub trait SwitchStrategy: Send + Sync + 'static {
    /// Returns whether to switch now.
    ///
    /// Senders call it when a limit is reached, the background task when [`next_check`](Self::next_check) has passed, the
    /// caller of [`set_strategy`](crate::Sender::set_strategy), and the thread that shortens a long backlog. Several threads may
    /// call it at once. The switch may be made by another thread first, or be deferred while receivers have a long backlog:
    /// while sealed segments take three quarters of [`max_bytes`](crate::Builder::max_bytes), or a quarter and at least four of them
    /// if only time makes the strategy switch. To know that, a thread calls it for the same fill with an
    /// [`age`](ActiveSegment::age) and [`elapsed`](ActiveSegment::elapsed) of zero. So it should only decide, and have no side
    /// effects.
    fn should_switch(&self, active: &ActiveSegment) -> bool;

    /// Returns the smallest fill at which [`should_switch`](Self::should_switch) may return true between now and
    /// [`next_check`](Self::next_check).
    ///
    /// By default `should_switch` is called after every message, which reads the clock each time.
    fn limits(&self, active: &ActiveSegment) -> SwitchLimits {
        let _ = active;
        SwitchLimits::EVERY_MESSAGE
    }

    /// Returns after how long time alone may change the decision, if nothing is sent until then.
    ///
    /// The background task sleeps until then. `None` means that only messages can change the decision. By default one
    /// millisecond.
    fn next_check(&self, active: &ActiveSegment) -> Option<Duration> {
        let _ = active;
        Some(Duration::from_millis(1))
    }
}

/// Switches once the active segment holds this many messages.
///
/// The switch follows the message that reaches the number. Messages of other senders may still get into the segment before
/// it: for a number that is never exceeded, set [`segment_messages`](crate::Builder::segment_messages). A full segment is
/// switched in any case, so a number above `segment_messages` is never reached. Zero acts as one, since an empty segment is
/// never switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageCount(pub usize);

impl SwitchStrategy for MessageCount {
    fn should_switch(&self, active: &ActiveSegment) -> bool {
        active.messages > 0 && active.messages >= self.0
    }
    fn limits(&self, _: &ActiveSegment) -> SwitchLimits {
        SwitchLimits { messages: self.0, ..SwitchLimits::NEVER }
    }
    fn next_check(&self, _: &ActiveSegment) -> Option<Duration> {
        None
    }
}

/// Switches once the active segment holds this many bytes.
///
/// All payload bytes count, also those of external payloads, which are not in the segment itself. The switch follows the
/// message that reaches the number, so what becomes readable may exceed it by that message and those of other senders.
/// Without external payloads, a number above [`segment_bytes`](crate::Builder::segment_bytes) is never reached, as a full segment
/// is switched in any case. Zero acts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteCount(pub usize);

impl SwitchStrategy for ByteCount {
    fn should_switch(&self, active: &ActiveSegment) -> bool {
        active.messages > 0 && active.bytes >= self.0
    }
    fn limits(&self, _: &ActiveSegment) -> SwitchLimits {
        SwitchLimits { bytes: self.0, ..SwitchLimits::NEVER }
    }
    fn next_check(&self, _: &ActiveSegment) -> Option<Duration> {
        None
    }
}

/// Switches once this much time has passed since the last switch that was not on demand.
///
/// After a pause the window has passed already, so the first message is switched alone. [`Linger`] lets it wait for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWindow(pub Duration);

impl SwitchStrategy for TimeWindow {
    fn should_switch(&self, active: &ActiveSegment) -> bool {
        active.messages > 0 && active.elapsed >= self.0
    }
    fn limits(&self, active: &ActiveSegment) -> SwitchLimits {
        limits_after(self.0, active.elapsed)
    }
    fn next_check(&self, active: &ActiveSegment) -> Option<Duration> {
        Some(self.0.saturating_sub(active.elapsed))
    }
}

/// Switches once the oldest unread message has waited for this long.
///
/// No message waits longer, and after a pause the first message waits for others like any other one. Kafka calls this
/// `linger`; `tokio_stream`'s `chunks_timeout` counts in the same way.
///
/// **If the receiver stalls**, each switch seals a segment, however little is in it. Once sealed segments take a quarter
/// of [`max_bytes`](crate::Builder::max_bytes), and are at least four, further switches are deferred, and messages fill the active segment; the receiver
/// that shortens this backlog makes the switch. So after a stall with few messages the first segments hold one message or a few
/// each, a batch has those of one segment, and the last segments are full. This applies to every strategy that switches by time.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use turbostream::Linger;
/// let linger = Linger(Duration::from_millis(20));
/// let (tx, mut rx) = turbostream::builder().on_demand(false).strategy(linger).build()?;
/// tokio::spawn(async move {
///     tokio::time::sleep(Duration::from_secs(3600)).await; // a pause
///     for _ in 0..3 {
///         tx.send("row").await.unwrap();
///         tokio::time::sleep(Duration::from_millis(1)).await;
///     }
///     tokio::time::sleep(Duration::from_secs(1)).await;
/// });
/// assert_eq!(rx.recv_batch(500).await.unwrap().len(), 3); // 20 ms after the first row
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linger(pub Duration);

impl SwitchStrategy for Linger {
    fn should_switch(&self, active: &ActiveSegment) -> bool {
        active.messages > 0 && active.age >= self.0
    }
    fn limits(&self, active: &ActiveSegment) -> SwitchLimits {
        limits_after(self.0, active.age)
    }
    fn next_check(&self, active: &ActiveSegment) -> Option<Duration> {
        Some(self.0.saturating_sub(active.age))
    }
}

/// Returns the limits of a strategy that switches once `window` has passed.
fn limits_after(window: Duration, passed: Duration) -> SwitchLimits {
    if passed >= window { SwitchLimits::EVERY_MESSAGE } else { SwitchLimits::NEVER }
}

/// Weighs elapsed time and message count: the default strategy.
///
/// Switches when the segment is full, when the window has passed, or when
/// `time_weight * elapsed / window + count_weight * messages / capacity >= threshold`. With the defaults (0.4,
/// 0.6 and 0.85) a segment that fills quickly is switched early in its window, and one that fills slowly is switched late.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weighted {
    window: Duration,
    time_weight: f64,
    count_weight: f64,
    threshold: f64,
}

impl Weighted {
    /// Creates a strategy with this window and the default weights and threshold.
    pub const fn new(window: Duration) -> Self {
        Self { window, time_weight: 0.4, count_weight: 0.6, threshold: 0.85 }
    }

    /// Sets the weights of the passed share of the window and of the filled share of the messages.
    #[must_use]
    pub const fn weights(mut self, time: f64, count: f64) -> Self {
        self.time_weight = time;
        self.count_weight = count;
        self
    }

    /// Sets the weighted sum at which to switch.
    #[must_use]
    pub const fn threshold(mut self, threshold: f64) -> Self {
        self.threshold = threshold;
        self
    }

    /// Returns the share of the window that has passed; all of it if the window is zero.
    fn time_share(&self, elapsed: Duration) -> f64 {
        if self.window.is_zero() { 1.0 } else { elapsed.as_secs_f64() / self.window.as_secs_f64() }
    }

    /// Returns the fewest messages that reach the threshold at the elapsed time.
    fn messages_needed(&self, active: &ActiveSegment) -> usize {
        let missing = self.threshold - self.time_weight * self.time_share(active.elapsed);
        if missing <= 0.0 {
            return 1;
        }
        // Rounding may leave the quotient slightly above a whole number: it must not ask for one message more.
        let needed = missing * active.capacity_messages as f64 / self.count_weight - 1e-9;
        if needed.is_nan() { usize::MAX } else { needed.ceil().max(1.0) as usize }
    }
}

impl Default for Weighted {
    fn default() -> Self {
        Self::new(Duration::from_millis(5))
    }
}

impl SwitchStrategy for Weighted {
    fn should_switch(&self, active: &ActiveSegment) -> bool {
        active.messages > 0
            && (active.messages >= active.capacity_messages
                || active.elapsed >= self.window
                || active.messages >= self.messages_needed(active))
    }

    /// The limit falls as time passes, and the background task lowers it in steps: it is set to what it will be at the end
    /// of the step.
    fn limits(&self, active: &ActiveSegment) -> SwitchLimits {
        let elapsed = active.elapsed.saturating_add(self.step(active));
        if elapsed >= self.window {
            return SwitchLimits::EVERY_MESSAGE;
        }
        let messages = self.messages_needed(&ActiveSegment { elapsed, ..*active });
        SwitchLimits { messages, ..SwitchLimits::NEVER }
    }

    fn next_check(&self, active: &ActiveSegment) -> Option<Duration> {
        Some(self.due(active).saturating_sub(active.elapsed).min(self.step(active)))
    }
}

impl Weighted {
    /// Returns the elapsed time at which this many messages are enough.
    fn due(&self, active: &ActiveSegment) -> Duration {
        let filled = active.messages as f64 / active.capacity_messages as f64;
        self.moment((self.threshold - self.count_weight * filled) / self.time_weight)
    }

    /// Returns the time until the limit is lowered next.
    ///
    /// The first step ends when a full segment would be due. Each later one is a sixteenth of the window, but at least a
    /// millisecond.
    fn step(&self, active: &ActiveSegment) -> Duration {
        let first = self.moment((self.threshold - self.count_weight) / self.time_weight);
        let step = (self.window / 16).max(Duration::from_millis(1));
        first.saturating_sub(active.elapsed).max(step).min(self.window.saturating_sub(active.elapsed))
    }

    /// Returns the time at which this share of the window has passed, at most its end.
    fn moment(&self, share: f64) -> Duration {
        let seconds = self.window.as_secs_f64() * share.clamp(0.0, 1.0);
        Duration::try_from_secs_f64(seconds).map_or(self.window, |moment| moment.min(self.window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active(messages: usize, millis: u64) -> ActiveSegment {
        ActiveSegment {
            messages,
            bytes: messages * 10,
            elapsed: Duration::from_millis(millis),
            age: Duration::from_millis(millis),
            capacity_messages: 100,
            capacity_bytes: 1000,
        }
    }

    #[test]
    fn limits_are_reached_whenever_should_switch_is_true() {
        let strategies: [&dyn SwitchStrategy; 6] = [
            &Weighted::new(Duration::from_millis(10)),
            &Weighted::new(Duration::from_millis(10)).weights(0.0, 1.0).threshold(0.5),
            &MessageCount(30),
            &ByteCount(301),
            &TimeWindow(Duration::from_millis(7)),
            &Linger(Duration::from_millis(7)),
        ];
        for strategy in strategies {
            for millis in 0..12 {
                for messages in 1..100 {
                    let active = active(messages, millis);
                    let limits = strategy.limits(&active);
                    let asked = active.messages >= limits.messages || active.bytes >= limits.bytes;
                    assert!(asked || !strategy.should_switch(&active), "{active:?} {limits:?}");
                }
            }
        }
    }
}
