//! When the active segment is switched although it is not full.

pub(crate) mod active;
pub(crate) mod limits;

use std::time::Duration;

use crate::queue::segment::slot_state::Capacity;

/// What a [`SwitchStrategy`] sees of the active segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveSegment {
    /// Messages written to it since the last switch.
    pub messages: usize,
    /// Bytes of their payloads, those that travel by reference included.
    pub bytes: usize,
    /// Time since the last switch.
    pub elapsed: Duration,
    /// How many messages it can hold.
    pub capacity_messages: usize,
    /// How many bytes it can hold.
    pub capacity_bytes: usize,
}

impl ActiveSegment {
    /// An active segment without messages, right after a switch.
    pub(crate) fn empty(capacity: Capacity) -> Self {
        Self {
            messages: 0,
            bytes: 0,
            elapsed: Duration::ZERO,
            capacity_messages: capacity.messages,
            capacity_bytes: capacity.bytes,
        }
    }
}

/// From how many messages or bytes on a writer has to ask the strategy again.
///
/// Writers compare two integers with it for every message, so that a strategy costs them neither a clock
/// nor a call until one of the limits is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchLimits {
    /// Ask once so many messages came since the last switch.
    pub messages: usize,
    /// Ask once so many bytes came since the last switch.
    pub bytes: usize,
}

impl SwitchLimits {
    /// Ask after every message.
    pub const EVERY_MESSAGE: Self = Self { messages: 1, bytes: 0 };
    /// Never ask a writer: only time decides.
    pub const NEVER: Self = Self { messages: usize::MAX, bytes: usize::MAX };
}

/// Decides when the active segment is sealed and the next one activated.
///
/// A full segment is switched whatever the strategy says, and an empty one never. Implementing
/// [`should_switch`](Self::should_switch) is enough; the two other methods save calls and wakeups.
///
/// A strategy sees figures, not messages: to switch at a certain message, send that and call
/// [`Sender::switch`](crate::Sender::switch). It runs under no lock. If it panics, the panic is contained and counts as
/// "no", unless panics abort the process.
///
/// # Examples
///
/// ```
/// use turbostream::{ActiveSegment, SwitchStrategy};
///
/// /// Switches when half of the segment's bytes are taken.
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
    /// Whether to switch now. Asked when a limit is reached and when the timer looks, by several threads at once if several
    /// are there; and a yes may come too late, or be put off while receivers have a long backlog. So it should do nothing
    /// but answer.
    fn should_switch(&self, active: &ActiveSegment) -> bool;

    /// The smallest fill at which [`should_switch`](Self::should_switch) could say yes between now and
    /// [`next_check`](Self::next_check).
    ///
    /// By default it is asked after every message, with the time that has passed read from the clock.
    fn limits(&self, active: &ActiveSegment) -> SwitchLimits {
        let _ = active;
        SwitchLimits::EVERY_MESSAGE
    }

    /// How long the timer may sleep, if nothing is written, until time alone could change the answer;
    /// `None` if it never does. By default one millisecond.
    fn next_check(&self, active: &ActiveSegment) -> Option<Duration> {
        let _ = active;
        Some(Duration::from_millis(1))
    }
}

/// Switches once the active segment holds this many messages.
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

/// Switches once this much time has passed since the last switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWindow(pub Duration);

impl SwitchStrategy for TimeWindow {
    fn should_switch(&self, active: &ActiveSegment) -> bool {
        active.messages > 0 && active.elapsed >= self.0
    }
    fn limits(&self, active: &ActiveSegment) -> SwitchLimits {
        if active.elapsed >= self.0 { SwitchLimits::EVERY_MESSAGE } else { SwitchLimits::NEVER }
    }
    fn next_check(&self, active: &ActiveSegment) -> Option<Duration> {
        Some(self.0.saturating_sub(active.elapsed))
    }
}

/// Weighs time against count: the default strategy.
///
/// Switches when the segment is full, or the window has passed, or
/// `time_weight * elapsed / window + count_weight * messages / capacity >= threshold`. With the defaults (0.4,
/// 0.6 and 0.85) a segment that fills quickly is switched early in its window, and one that fills slowly late.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weighted {
    window: Duration,
    time_weight: f64,
    count_weight: f64,
    threshold: f64,
}

impl Weighted {
    /// The default weights over `window`.
    pub const fn new(window: Duration) -> Self {
        Self { window, time_weight: 0.4, count_weight: 0.6, threshold: 0.85 }
    }

    /// How much the passed share of the window and the filled share of the messages count.
    #[must_use]
    pub const fn weights(mut self, time: f64, count: f64) -> Self {
        self.time_weight = time;
        self.count_weight = count;
        self
    }

    /// The weighted sum from which on to switch.
    #[must_use]
    pub const fn threshold(mut self, threshold: f64) -> Self {
        self.threshold = threshold;
        self
    }

    /// The share of the window that has passed; all of it where the window is zero.
    fn time_share(&self, elapsed: Duration) -> f64 {
        if self.window.is_zero() { 1.0 } else { elapsed.as_secs_f64() / self.window.as_secs_f64() }
    }

    /// The fewest messages that reach the threshold after `elapsed`.
    fn messages_needed(&self, active: &ActiveSegment) -> usize {
        let missing = self.threshold - self.time_weight * self.time_share(active.elapsed);
        if missing <= 0.0 {
            return 1;
        }
        // A product that rounding leaves a hair above a whole number must not ask for one message more.
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

    /// The limit falls as time passes, and the timer lowers it in steps: what holds is the limit at the end of
    /// the step.
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
    /// The moment at which this many messages are enough.
    fn due(&self, active: &ActiveSegment) -> Duration {
        let filled = active.messages as f64 / active.capacity_messages as f64;
        self.moment((self.threshold - self.count_weight * filled) / self.time_weight)
    }

    /// The time until the limit is lowered next: until a full segment would be due at first, and then a sixteenth
    /// of the window, but at least a millisecond.
    fn step(&self, active: &ActiveSegment) -> Duration {
        let first = self.moment((self.threshold - self.count_weight) / self.time_weight);
        let step = (self.window / 16).max(Duration::from_millis(1));
        first.saturating_sub(active.elapsed).max(step).min(self.window.saturating_sub(active.elapsed))
    }

    /// This share of the window, or its end.
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
            capacity_messages: 100,
            capacity_bytes: 1000,
        }
    }

    #[test]
    fn limits_agree_with_the_decision() {
        let strategies: [&dyn SwitchStrategy; 5] = [
            &Weighted::new(Duration::from_millis(10)),
            &Weighted::new(Duration::from_millis(10)).weights(0.0, 1.0).threshold(0.5),
            &MessageCount(30),
            &ByteCount(301),
            &TimeWindow(Duration::from_millis(7)),
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
