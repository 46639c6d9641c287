//! Random numbers: the run of a forwarder's ids, and the jitter of its pauses.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Returns 64 random bits.
fn random() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    hasher.write_u128(now.as_nanos());
    hasher.finish()
}

/// Returns what all ids of a new forwarder begin with.
pub(super) fn id_prefix(name: &str) -> Arc<str> {
    let run = random();
    let visible = |character: char| if character.is_ascii_graphic() { character } else { '_' };
    let mut prefix: String = name.chars().map(visible).collect();
    if !prefix.is_empty() {
        prefix.push('-');
    }
    format!("{prefix}{run:016x}-").into()
}

/// The pauses between retries: exponential, with jitter.
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    /// The limit of the next pause.
    limit: Duration,
    /// The state of a xorshift generator, never 0.
    random: u64,
}

impl Backoff {
    pub(super) fn new((min, max): (Duration, Duration)) -> Self {
        Self { min, max, limit: min, random: random() | 1 }
    }

    /// Returns the next pause: random, from half of `min` up to a limit that doubles with each call.
    pub(super) fn next(&mut self) -> Duration {
        let limit = self.limit;
        self.limit = limit.saturating_mul(2).min(self.max);
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let part = (self.random >> 11) as f64 / (1_u64 << 53) as f64;
        let least = self.min / 2;
        least + (limit - least).mul_f64(part)
    }

    /// Begins again with `min`.
    pub(super) fn reset(&mut self) {
        self.limit = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_max_and_start_again() {
        let (min, max) = (Duration::from_millis(50), Duration::from_secs(5));
        let mut backoff = Backoff::new((min, max));
        for _ in 0..100 {
            let mut limit = min;
            for _ in 0..12 {
                let pause = backoff.next();
                assert!(pause >= min / 2 && pause <= limit, "{pause:?} of {limit:?}");
                limit = (limit * 2).min(max);
            }
            backoff.reset();
        }
    }

    #[test]
    fn each_run_has_its_own_prefix() {
        let prefixes: std::collections::HashSet<_> = (0..1000).map(|_| id_prefix("host-7")).collect();
        assert_eq!(prefixes.len(), 1000);
        assert!(prefixes.iter().all(|prefix| prefix.starts_with("host-7-") && prefix.ends_with('-')));
        assert_eq!(id_prefix("").len(), 17);
        assert!(id_prefix("a b\r\nc\u{e9}").starts_with("a_b__c_-"));
    }
}
