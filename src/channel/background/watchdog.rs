//! Looks for what an operator should be warned of, from the time somebody says that there may be something until
//! nothing is left.

use std::time::Duration;

use tokio::time::Instant;

use crate::channel::Core;
use crate::telemetry::stats::{Drops, SendErrors, Stats};

/// Between two looks, and so between two events of one kind. What lasts for less is no trouble.
const INTERVAL: Duration = Duration::from_secs(1);
/// Between two events about something that lasts.
const REMINDER: Duration = Duration::from_secs(10);

/// What is told of, and when that was.
#[derive(Default)]
pub(crate) struct Watchdog {
    /// When to look again.
    due: Option<Instant>,
    send_errors: SendErrors,
    drops: Drops,
    stalled: Lasting<u64>,
    held: Lasting<()>,
}

/// Something that may last.
#[derive(Default)]
struct Lasting<T>(Option<Seen<T>>);

struct Seen<T> {
    what: T,
    since: Instant,
    told: Option<Instant>,
}

impl<T: PartialEq> Lasting<T> {
    /// `what` is there now; returns for how long, if that is to be told.
    fn check(&mut self, what: Option<T>, now: Instant) -> Option<Duration> {
        let same = self.0.take_if(|seen| Some(&seen.what) == what.as_ref());
        let seen = self.0.insert(same.or_else(|| what.map(|what| Seen { what, since: now, told: None }))?);
        let lasts = now - seen.since;
        let is_due = seen.told.is_none_or(|told| now - told >= REMINDER);
        (lasts >= INTERVAL && is_due).then(|| {
            seen.told = Some(now);
            lasts
        })
    }

    fn is_there(&self) -> bool {
        self.0.is_some()
    }
}

impl Watchdog {
    /// Tells of what there is; returns when to look again, if at all.
    pub(crate) fn check(&mut self, core: &Core) -> Option<Duration> {
        let now = Instant::now();
        if let Some(wait) = self.due.map(|due| due - now).filter(|wait| !wait.is_zero()) {
            return Some(wait);
        }
        let stats = core.stats();
        let counted = self.warn_of_counts(core, &stats);
        self.warn_of_conditions(core, &stats, now);
        let more = counted || self.stalled.is_there() || self.held.is_there();
        let waiting = stats.waiting_senders > 0;
        self.due = (more || waiting).then(|| now + INTERVAL);
        self.due.map(|_| INTERVAL)
    }

    /// Tells of what was refused or dropped since it was told of last; true if there was something.
    fn warn_of_counts(&mut self, core: &Core, stats: &Stats) -> bool {
        let (before, now) = (std::mem::replace(&mut self.send_errors, stats.send_errors), stats.send_errors);
        if now != before {
            core.events.refused(SendErrors {
                full: now.full.saturating_sub(before.full),
                closed: now.closed.saturating_sub(before.closed),
                too_large: now.too_large.saturating_sub(before.too_large),
                timed_out: now.timed_out.saturating_sub(before.timed_out),
            });
        }
        let (dropped_before, dropped) = (std::mem::replace(&mut self.drops, stats.drops), stats.drops);
        if dropped != dropped_before {
            core.events.dropped(Drops {
                newest: dropped.newest.saturating_sub(dropped_before.newest),
                oldest: dropped.oldest.saturating_sub(dropped_before.oldest),
                unread: dropped.unread.saturating_sub(dropped_before.unread),
            });
        }
        now != before || dropped != dropped_before
    }

    fn warn_of_conditions(&mut self, core: &Core, stats: &Stats, now: Instant) {
        let stalled = core.stalled_message();
        if let (Some(lasts), Some(sequence)) = (self.stalled.check(stalled, now), stalled) {
            core.events.stalled(sequence, lasts, stats);
        }
        let is_held = stats.waiting_senders > 0 && stats.lent_bytes >= stats.max_bytes / 2;
        if let Some(lasts) = self.held.check(is_held.then_some(()), now) {
            core.events.held(lasts, stats);
        }
    }
}
