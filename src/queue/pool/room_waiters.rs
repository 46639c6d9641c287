//! Senders that wait for memory, and who gets what is freed.
//!
//! Senders are served in the order in which they asked. Under the lock of the list, the demands of all waiters are laid
//! out over the free memory in that order: a copied message takes its bytes and an entry of the segment that was laid out
//! last, or begins another one; an external payload takes its own bytes, and an entry in the same way. What is laid out
//! for a waiter is kept for it: a sender that comes later may take only memory beyond that.
//!
//! ```text
//!   free memory: │ segment                 │ 300 KB          │ segment        │ ...
//!                │ 10 B │ 20 B │ entry     │ external bytes  │ 40 B │ newcomer│
//!   waiters:        A      B      C ─────────────C               D
//! ```
//!
//! - A waiter whose demand is free is *woken*. The memory itself stays in the pool until the waiter is polled: a waiter that
//!   is never polled keeps no more than its demand, and once it is dropped nothing of it is left. A registration that a
//!   handle owns, such as a sink, may be given up without a drop: once it was woken, nothing is kept for it, only its
//!   place.
//! - The first waiter whose demand is not free ends the layout: what is freed is kept together for it. There is one
//!   exception. If nothing is queued, and received messages hold the memory that it lacks, it may have to wait for as long
//!   as their owner likes: then those after it are served, until they have taken `max_bytes` in all, which is one lap of
//!   the queue.
//! - Room in the open segment is for every sender, also for one that has not waited. So a woken waiter may find that its
//!   share of an opened segment was taken. It is then *passed*: a whole segment is kept for it, which it opens with its own
//!   entry reserved. One segment is kept so, for the first passed waiter: passed waiters that are never polled do not use up
//!   the memory. So no waiter is passed again once no passed one is before it.
//!
//! Every thread that makes room, and every waiter that leaves the list, lays out the demands anew.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::task::Waker;

use super::Pool;
use crate::queue::segment::EXTERNAL_BYTES;
use crate::queue::segment::slot_state::Capacity;
use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering, fence};
use crate::telemetry::catch_panic::CatchPanic;

/// What a message needs: an entry and its bytes in a segment, or an entry and memory of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) len: usize,
    pub(crate) is_external: bool,
}

impl Demand {
    pub(crate) fn copied(len: usize) -> Self {
        Self { len, is_external: false }
    }

    /// Returns the bytes that it takes in a segment, and those that it takes beside.
    pub(crate) fn split(self) -> (usize, usize) {
        if self.is_external { (EXTERNAL_BYTES, self.len) } else { (self.len, 0) }
    }
}

/// The place of a sender among those that wait. Lower tickets are served first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// The room in the open segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenRoom {
    /// This many messages and bytes, or zero if no segment is open.
    Known(Capacity),
    /// The thread does not see which segment is open. External payloads are woken as if there were an entry for each; and
    /// if no waiter is, the first one that fits if those woken before have room there.
    Unknown,
}

impl OpenRoom {
    pub(crate) const NONE: Self = Self::Known(Capacity { messages: 0, bytes: 0 });
}

struct Waiter {
    ticket: Ticket,
    /// Taken by a wake.
    waker: Option<Waker>,
    demand: Demand,
    /// Whether its demand is kept from its wake until it is polled.
    keeps: bool,
    /// It was woken, and found its share taken.
    passed: bool,
    /// How many bytes later senders may still take while it cannot be served.
    overtakable: usize,
    /// When it began to wait, in nanoseconds of the clock.
    since: u64,
}

#[derive(Default)]
struct Waiters {
    next_ticket: u64,
    by_ticket: VecDeque<Waiter>,
    /// How many of them have a waker.
    asleep: usize,
}

impl Waiters {
    fn find(&self, ticket: Ticket) -> Option<usize> {
        self.by_ticket.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok()
    }

    /// Lays out the demands, and takes the wakers of up to `limit` waiters whose demand is free.
    fn take_fitting(&mut self, mut layout: Layout, limit: usize) -> Vec<Waker> {
        let (mut woken, mut left) = (Vec::new(), self.asleep);
        for waiter in &mut self.by_ticket {
            if left == 0 || layout.is_used_up() || woken.len() == limit {
                break;
            }
            let fits = layout.fits(waiter.demand);
            // Once woken, a waiter that was given up takes nothing from those after it.
            if waiter.keeps || !fits {
                layout.keep(waiter);
            }
            left -= usize::from(waiter.waker.is_some());
            if fits {
                woken.extend(waiter.waker.take());
            }
        }
        self.asleep -= woken.len();
        woken
    }
}

/// The senders of a channel that wait for memory.
pub(crate) struct RoomWaiters {
    waiters: Mutex<Waiters>,
    /// The number of waiters, woken ones included. Written under the lock.
    waiting: AtomicUsize,
    /// The number of waiters that were not woken since their last attempt. Written under the lock.
    sleepers: AtomicUsize,
    wakers: CatchPanic,
}

/// The demands laid out so far.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    capacity: Capacity,
    footprint: usize,
    /// What is left of the free memory: nothing once a demand did not fit.
    free: usize,
    /// What is left of the open segment, or of the segment that was laid out last.
    room: Capacity,
    /// The open segment is not known, and has an entry for each external payload.
    has_free_entries: bool,
    /// Woken waiters have room in the open segment, which is not known.
    woken_have_room: bool,
    /// A whole segment was laid out for a passed waiter.
    has_passed: bool,
    /// Nothing is queued: what is not free is lent.
    is_drained: bool,
}

impl Layout {
    fn new(pool: &Pool, room: OpenRoom) -> Self {
        let (room, has_free_entries) = match room {
            OpenRoom::Known(room) => (room, false),
            OpenRoom::Unknown => (Capacity { messages: 0, bytes: 0 }, true),
        };
        let (capacity, footprint) = (pool.capacities.full(), pool.footprint());
        let free = pool.free_bytes();
        let is_drained = free + pool.lent_bytes() >= pool.max_bytes;
        Self {
            capacity,
            footprint,
            free,
            room,
            has_free_entries,
            woken_have_room: false,
            has_passed: false,
            is_drained,
        }
    }

    /// Returns what is left of the free memory.
    pub(super) fn free(&self) -> usize {
        self.free
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.room.messages > 0 && self.room.bytes >= bytes
    }

    /// Whether the demand fits in what is left.
    pub(super) fn fits(&self, demand: Demand) -> bool {
        let (bytes, external) = demand.split();
        let has_entry = self.has_room(bytes) || (self.has_free_entries && demand.is_external);
        let segment = if has_entry { 0 } else { self.footprint };
        segment + external <= self.free
    }

    /// Whether nothing is kept for the waiter: it was woken, and may have been given up.
    fn is_skipped(&self, waiter: &Waiter) -> bool {
        !waiter.keeps && waiter.waker.is_none()
    }

    /// Whether later senders are served although this waiter is not.
    fn is_overtaken(&self, waiter: &Waiter) -> bool {
        !self.is_skipped(waiter)
            && self.needed(waiter) > self.free
            && self.is_drained
            && waiter.overtakable > 0
    }

    fn needed(&self, waiter: &Waiter) -> usize {
        let (bytes, external) = waiter.demand.split();
        let has_entry = self.is_in_open_segment(waiter) || self.has_room(bytes);
        external + if self.is_alone(waiter) || !has_entry { self.footprint } else { 0 }
    }

    /// Whether a whole segment is kept for the waiter: it was passed, and none was before it.
    fn is_alone(&self, waiter: &Waiter) -> bool {
        waiter.passed && !self.has_passed
    }

    fn is_in_open_segment(&self, waiter: &Waiter) -> bool {
        self.woken_have_room && waiter.waker.is_none()
    }

    /// Keeps what a waiter needs; if that is more than is left, keeps all memory, unless the waiter is overtaken.
    fn keep(&mut self, waiter: &Waiter) {
        if self.is_skipped(waiter) {
            return;
        }
        let (needed, is_alone) = (self.needed(waiter), self.is_alone(waiter));
        if needed > self.free {
            if !self.is_overtaken(waiter) {
                self.free = 0;
            }
            return;
        }
        self.free -= needed;
        self.has_passed |= is_alone;
        if is_alone || self.is_in_open_segment(waiter) {
            return;
        }
        let (bytes, _) = waiter.demand.split();
        if !self.has_room(bytes) {
            self.room = self.capacity;
        }
        self.room.messages = self.room.messages.saturating_sub(1);
        self.room.bytes = self.room.bytes.saturating_sub(bytes);
    }

    /// Whether no further demand can fit.
    fn is_used_up(&self) -> bool {
        self.free == 0 && self.room.messages == 0
    }
}

/// A sender's registration. Its owner [removes](RoomWaiters::remove) it before dropping it.
#[derive(Debug)]
pub(crate) struct RoomWaiter {
    ticket: Option<Ticket>,
    keeps: bool,
}

impl RoomWaiter {
    /// A waiter that is polled until it is served or dropped: its demand is kept from its wake until it is polled.
    pub(crate) fn of_future() -> Self {
        Self { ticket: None, keeps: true }
    }

    /// A waiter that its owner may give up, and poll later or never.
    pub(crate) fn of_handle() -> Self {
        Self { ticket: None, keeps: false }
    }

    /// Gives its place to a waiter that is polled until it is served.
    pub(crate) fn hand_over(&mut self) -> Self {
        Self { ticket: self.ticket.take(), keeps: true }
    }

    pub(crate) fn ticket(&self) -> Option<Ticket> {
        self.ticket
    }

    pub(crate) fn is_registered(&self) -> bool {
        self.ticket.is_some()
    }
}

/// The ticket of a waiter that was registered, and whether it had been woken before.
#[derive(Clone, Copy)]
pub(crate) struct Registered {
    pub(crate) ticket: Ticket,
    pub(crate) was_woken: bool,
}

impl RoomWaiters {
    pub(super) fn new() -> Self {
        Self {
            waiters: Mutex::new(Waiters::default()),
            waiting: AtomicUsize::new(0),
            sleepers: AtomicUsize::new(0),
            wakers: CatchPanic::default(),
        }
    }

    /// Returns how many wakers have panicked.
    pub(crate) fn panics(&self) -> u64 {
        self.wakers.panics()
    }

    /// Returns how many senders wait, those included that were woken and have not been polled since.
    #[inline]
    pub(crate) fn waiting(&self) -> usize {
        // ORDERING: Relaxed: a statistic; or ordered by a fence, or by a lock that both sides take.
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether a sender waits that was not woken since its last attempt.
    #[inline]
    pub(crate) fn has_sleeper(&self) -> bool {
        // ORDERING: Relaxed: the fence of `register` and that of `Pool::wake_senders` order it; or the lock of the head, which the
        // attempt of a sleeper takes after its registration.
        self.sleepers.load(Ordering::Relaxed) > 0
    }

    /// Returns when the sender that has waited for longest began to wait.
    pub(crate) fn longest_since(&self) -> Option<u64> {
        if self.waiting() == 0 {
            return None;
        }
        self.lock().by_ticket.front().map(|waiter| waiter.since)
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, waiters: &Waiters) {
        // ORDERING: Relaxed, both: a registration is followed by the fence in `register`; a count that is too high only
        // costs the lock.
        self.waiting.store(waiters.by_ticket.len(), Ordering::Relaxed);
        self.sleepers.store(waiters.asleep, Ordering::Relaxed);
    }

    /// Registers a waiter after all others, or replaces its waker; then it sleeps until its demand is free.
    ///
    /// Later senders may take `overtakable` bytes while it cannot be served. The caller makes an attempt after this, and
    /// sleeps if that fails.
    pub(crate) fn register(
        &self,
        waiter: &mut RoomWaiter,
        demand: Demand,
        overtakable: usize,
        waker: &Waker,
        now: impl FnOnce() -> u64,
    ) -> Registered {
        // A waker's `clone` and `drop` are user code, and run under no lock.
        let waker = waker.clone();
        let mut waiters = self.lock();
        let (registered, replaced) = match waiter.ticket.and_then(|ticket| waiters.find(ticket)) {
            Some(at) => {
                let keeps = waiter.keeps;
                let waiter = &mut waiters.by_ticket[at];
                (waiter.demand, waiter.keeps) = (demand, keeps);
                let replaced = waiter.waker.replace(waker);
                let registered = Registered { ticket: waiter.ticket, was_woken: replaced.is_none() };
                waiters.asleep += usize::from(replaced.is_none());
                (registered, replaced)
            }
            None => {
                let ticket = Ticket(waiters.next_ticket);
                waiters.next_ticket += 1;
                waiter.ticket = Some(ticket);
                let (waker, since) = (Some(waker), now());
                waiters.by_ticket.push_back(Waiter {
                    ticket,
                    waker,
                    demand,
                    keeps: waiter.keeps,
                    passed: false,
                    overtakable,
                    since,
                });
                waiters.asleep += 1;
                (Registered { ticket, was_woken: false }, None)
            }
        };
        self.count(&waiters);
        drop(waiters);
        self.wakers.call(|| drop(replaced));
        // ORDERING: SeqCst fence: pairs with the fence in `Pool::wake_senders`. Either the thread that makes room sees
        // this waiter, or the attempt that follows sees the room.
        fence(Ordering::SeqCst);
        registered
    }

    /// Keeps a whole segment for a waiter that was woken and found its share taken.
    pub(crate) fn pass(&self, ticket: Ticket) {
        let mut waiters = self.lock();
        if let Some(at) = waiters.find(ticket) {
            waiters.by_ticket[at].passed = true;
        }
    }

    /// Removes a waiter, if it is registered; returns whether it was. What was kept for it is free for the others then:
    /// the caller wakes them.
    pub(crate) fn remove(&self, waiter: &mut RoomWaiter) -> bool {
        let Some(ticket) = waiter.ticket.take() else { return false };
        let mut waiters = self.lock();
        let removed = waiters.find(ticket).and_then(|at| waiters.by_ticket.remove(at));
        waiters.asleep -= usize::from(removed.as_ref().is_some_and(|waiter| waiter.waker.is_some()));
        self.count(&waiters);
        drop(waiters);
        let was_registered = removed.is_some();
        self.wakers.call(|| drop(removed));
        was_registered
    }

    /// Wakes the waiters whose demand is free.
    #[cold]
    pub(super) fn wake_covered(&self, pool: &Pool, room: OpenRoom) {
        let mut waiters = self.lock();
        let layout = Layout::new(pool, room);
        let mut woken = waiters.take_fitting(layout, usize::MAX);
        if woken.is_empty() && room == OpenRoom::Unknown {
            woken = waiters.take_fitting(Layout { woken_have_room: true, ..layout }, 1);
        }
        self.count(&waiters);
        drop(waiters);
        self.wake_each(woken);
    }

    /// Wakes all waiters, as the channel is closed. The caller has passed a SeqCst fence after that, which pairs with the
    /// fence in `register`: a waiter that is not seen here sees the channel closed.
    pub(crate) fn wake_all_after_fence(&self) {
        if self.waiting() == 0 {
            return;
        }
        let mut waiters = self.lock();
        waiters.asleep = 0;
        let woken = waiters.by_ticket.iter_mut().filter_map(|waiter| waiter.waker.take()).collect();
        self.count(&waiters);
        drop(waiters);
        self.wake_each(woken);
    }

    /// Wakes one by one, so that a waker that panics keeps no other waiter asleep.
    fn wake_each(&self, woken: Vec<Waker>) {
        for waker in woken {
            self.wakers.call(|| waker.wake());
        }
    }

    /// Calls `take`, which takes `bytes`, if they `fit` in the memory that is not kept for waiters before the sender.
    ///
    /// `ticket` is the place of the sender; a sender without one comes after all waiters. While senders wait, `take` is
    /// called under the lock of the list, so that no other sender takes the same memory.
    pub(super) fn take_in_turn<T>(
        &self,
        pool: &Pool,
        ticket: Option<Ticket>,
        room: OpenRoom,
        bytes: usize,
        fit: impl FnOnce(&Layout) -> bool,
        take: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        if ticket.is_none() && self.waiting() == 0 {
            return take();
        }
        let mut waiters = self.lock();
        let end = ticket.map_or(waiters.by_ticket.len(), |ticket| {
            waiters.by_ticket.partition_point(|waiter| waiter.ticket < ticket)
        });
        let mut layout = Layout::new(pool, room);
        let mut overtaken = Vec::new();
        for (at, waiter) in waiters.by_ticket.iter().take(end).enumerate() {
            if layout.is_used_up() {
                break;
            }
            if layout.is_overtaken(waiter) {
                overtaken.push(at);
            }
            layout.keep(waiter);
        }
        let taken = if fit(&layout) { take() } else { None };
        if taken.is_some() {
            for at in overtaken {
                let waiter = &mut waiters.by_ticket[at];
                waiter.overtakable = waiter.overtakable.saturating_sub(bytes);
            }
        }
        taken
    }
}
