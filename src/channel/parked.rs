//! The parked items of sinks, as the channel counts them; see [`sender::parked`](crate::sender::parked).

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::task::Waker;

use super::Core;
use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering};
use crate::telemetry::stats::Totals;

/// Items that sinks have taken and that wait for room.
#[derive(Default)]
pub(crate) struct ParkedItems {
    items: Mutex<Numbered>,
    /// How many there are. Written under the lock.
    count: AtomicUsize,
}

/// The length of each item, by its number.
#[derive(Default)]
struct Numbered {
    next: u64,
    lengths: BTreeMap<u64, usize>,
}

impl ParkedItems {
    fn lock(&self) -> MutexGuard<'_, Numbered> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, items: &Numbered) {
        // ORDERING: Release: pairs with the Acquire in `is_empty`: a drainer that sees no item sees the messages that were
        // written instead. A thread that has parked an item, or was told of it, sees the count.
        self.count.store(items.lengths.len(), Ordering::Release);
    }

    /// Adds an item; returns its number.
    pub(crate) fn add(&self, len: usize) -> u64 {
        let mut items = self.lock();
        let id = items.next;
        items.next += 1;
        items.lengths.insert(id, len);
        self.count(&items);
        id
    }

    pub(crate) fn remove(&self, id: u64) {
        let mut items = self.lock();
        items.lengths.remove(&id);
        self.count(&items);
    }

    fn is_empty(&self) -> bool {
        // ORDERING: Acquire: see `count`.
        self.count.load(Ordering::Acquire) == 0
    }

    /// Returns how many items there are, and their bytes.
    pub(super) fn totals(&self) -> Totals {
        if self.is_empty() {
            return Totals::default();
        }
        let items = self.lock();
        Totals::of(items.lengths.len(), items.lengths.values().sum())
    }

    /// Returns the number that the next item gets, if there are items now.
    pub(super) fn next(&self) -> Option<u64> {
        if self.is_empty() { None } else { Some(self.lock().next) }
    }

    /// Whether an item with a lower number waits.
    pub(super) fn has_before(&self, id: u64) -> bool {
        !self.is_empty() && self.lock().lengths.first_key_value().is_some_and(|(&first, _)| first < id)
    }
}

impl Core {
    pub(crate) fn parked(&self) -> &ParkedItems {
        &self.parked
    }

    pub(crate) fn wake_drainers(&self) {
        self.drainers.wake();
    }

    /// Wakes the task that polls a sink. Catches a panic of its waker.
    pub(crate) fn wake_owner(&self, waker: Waker) {
        self.payloads.call(|| waker.wake());
    }

    /// Drops a waker, and catches a panic of its drop.
    pub(crate) fn drop_waker(&self, waker: Option<Waker>) {
        self.payloads.call(|| drop(waker));
    }
}
