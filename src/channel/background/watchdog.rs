//! Warnings for an operator: refused and dropped messages, stalled and waiting senders, memory held by receivers.
//!
//! A thread that may have caused such a condition signals the background task. The task then checks once per second, and
//! stops when nothing is left to warn of. So a failing call pays neither for a clock nor for an event.

use std::time::Duration;

use tokio::time::Instant;

use crate::channel::Core;
use crate::telemetry::stats::{Drops, SendErrors, Stats};

/// The time between two checks, and so between two events of one kind. A condition that lasts less is not reported.
const INTERVAL: Duration = Duration::from_secs(1);
/// The time between two events about a condition that lasts.
const REMINDER: Duration = Duration::from_secs(10);

/// The counts at the last check, and the conditions that last.
#[derive(Default)]
pub(crate) struct Watchdog {
    /// When to check next.
    due: Option<Instant>,
    send_errors: SendErrors,
    drops: Drops,
    stalled: Lasting<u64>,
    held: Lasting<()>,
    waiting: Lasting<()>,
}

/// A condition that is reported once it has lasted for a while.
#[derive(Default)]
struct Lasting<T>(Option<Observed<T>>);

struct Observed<T> {
    subject: T,
    since: Instant,
    reported_at: Option<Instant>,
}

impl<T: PartialEq> Lasting<T> {
    /// Records whether the condition holds now, and for what; returns how long it has lasted, if that is at least `after`
    /// and is to be reported.
    fn check(&mut self, subject: Option<T>, now: Instant, after: Duration) -> Option<Duration> {
        let same = self.0.take_if(|observed| Some(&observed.subject) == subject.as_ref());
        let new = || subject.map(|subject| Observed { subject, since: now, reported_at: None });
        let observed = self.0.insert(same.or_else(new)?);
        let lasts = now - observed.since;
        let is_due = observed.reported_at.is_none_or(|reported_at| now - reported_at >= REMINDER);
        (lasts >= after && is_due).then(|| {
            observed.reported_at = Some(now);
            lasts
        })
    }

    fn holds(&self) -> bool {
        self.0.is_some()
    }
}

impl Watchdog {
    /// Emits the warnings that are due; returns when to check again, if at all.
    pub(crate) fn check(&mut self, core: &Core) -> Option<Duration> {
        let now = Instant::now();
        if let Some(wait) = self.due.map(|due| due - now).filter(|wait| !wait.is_zero()) {
            return Some(wait);
        }
        let stats = core.stats();
        let counted = self.warn_of_counts(core, &stats);
        self.warn_of_conditions(core, &stats, now);
        let is_active = counted || self.stalled.holds() || self.held.holds() || self.waiting.holds();
        let waiting = stats.waiting_senders > 0;
        self.due = (is_active || waiting).then(|| now + INTERVAL);
        self.due.map(|_| INTERVAL)
    }

    /// Warns of messages that were refused or dropped since the last check; returns whether there were any.
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

    /// Warns of a sender that has not committed, of senders that wait while receivers hold memory, and of others that wait
    /// for long.
    fn warn_of_conditions(&mut self, core: &Core, stats: &Stats, now: Instant) {
        let stalled = core.stalled_message();
        if let (Some(lasts), Some(sequence)) = (self.stalled.check(stalled, now, INTERVAL), stalled) {
            core.events.stalled(sequence, lasts, stats);
        }
        let is_held = stats.waiting_senders > 0 && stats.lent_bytes >= stats.max_bytes / 2;
        if let Some(lasts) = self.held.check(is_held.then_some(()), now, INTERVAL) {
            core.events.held(lasts, stats);
        }
        let has_waited = !is_held && stats.longest_wait >= INTERVAL;
        if self.waiting.check(has_waited.then_some(()), now, Duration::ZERO).is_some() {
            core.events.waiting(stats);
        }
    }
}
