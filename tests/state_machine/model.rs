//! The reference model: a plain queue, and counts.
//!
//! Where the channel may drop one message or another, and the statistics do not say which, the model keeps every order that
//! explains them. Messages received later decide between the orders.

use std::collections::{BTreeMap, HashSet, VecDeque};

use bytes::Bytes;
use turbostream::{Batch, Stats};

/// With more possible orders than this, the case ends.
const MAX_ORDERS: usize = 2000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Message {
    pub(crate) id: u32,
    pub(crate) len: usize,
}

impl Message {
    /// Returns bytes that distinguish the message from every other, if it has at least four.
    pub(crate) fn payload(self) -> Vec<u8> {
        let mut word = u64::from(self.id).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut payload = Vec::with_capacity(self.len + 8);
        payload.extend_from_slice(&self.id.to_le_bytes());
        while payload.len() < self.len {
            payload.extend_from_slice(&word.to_le_bytes());
            word = word.wrapping_mul(0x5851_f42d_4c95_7f2d);
        }
        payload.truncate(self.len);
        payload
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, len: usize) {
        self.messages += 1;
        self.bytes += len as u64;
    }
    pub(crate) fn since(self, before: Self) -> Self {
        Self { messages: self.messages - before.messages, bytes: self.bytes - before.bytes }
    }
    pub(crate) fn dropped(stats: &Stats) -> Self {
        Self { messages: stats.dropped_messages, bytes: stats.dropped_bytes }
    }
    pub(crate) fn accepted(stats: &Stats) -> Self {
        Self { messages: stats.sent_messages, bytes: stats.sent_bytes }
    }
}

/// An accepted message with its number among all accepted messages and its sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Queued {
    message: Message,
    ordinal: u64,
    sequence: u64,
}

/// One possible content of the channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Order {
    queue: VecDeque<Queued>,
    /// What each handle may have taken ahead of the queue. What a lone handle takes ahead is not modelled: it is unseen.
    claims: BTreeMap<usize, VecDeque<Queued>>,
    next_sequence: u64,
}

impl Order {
    /// Puts what `handle` has taken ahead back in front of what was accepted later.
    fn give_back(&mut self, handle: usize) {
        if let Some(claim) = self.claims.remove(&handle) {
            self.queue.extend(claim);
            self.queue.make_contiguous().sort_by_key(|queued| queued.ordinal);
        }
    }

    /// Returns every order that results if `handle` takes the next message, and up to `ahead` more of those before `end`.
    fn take(mut self, handle: usize, payload: &[u8], ahead: usize, end: u64, found: &mut HashSet<Self>) {
        let claimed = self.claims.get_mut(&handle).and_then(VecDeque::pop_front);
        self.claims.retain(|_, claim| !claim.is_empty());
        let was_claimed = claimed.is_some();
        let Some(taken) = claimed.or_else(|| self.queue.pop_front()) else { return };
        if taken.message.payload() != payload {
            return;
        }
        found.insert(self.clone());
        for sequence in (taken.sequence + 1..).take(if was_claimed { 0 } else { ahead }) {
            match self.queue.front() {
                // One message stays at the head.
                Some(next) if next.sequence == sequence && next.ordinal < end && self.queue.len() > 1 => {
                    let next = self.queue.pop_front().expect("just seen");
                    self.claims.entry(handle).or_default().push_back(next);
                    found.insert(self.clone());
                }
                _ => return,
            }
        }
    }

    fn claimed(&self) -> impl Iterator<Item = &Queued> {
        self.claims.values().flatten()
    }

    fn len(&self) -> usize {
        self.queue.len() + self.claimed().count()
    }
}

#[derive(Debug)]
pub(crate) struct Model {
    orders: Vec<Order>,
    pub(crate) accepted: Totals,
    pub(crate) received: Totals,
    pub(crate) dropped: Totals,
    /// All messages before this ordinal are readable.
    pub(crate) certain: u64,
    /// No message from this ordinal on is readable.
    pub(crate) possible: u64,
    pub(crate) closed: bool,
    pub(crate) senders: usize,
    pub(crate) receivers: usize,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            orders: vec![Order::default()],
            accepted: Totals::default(),
            received: Totals::default(),
            dropped: Totals::default(),
            certain: 0,
            possible: 0,
            closed: false,
            senders: 1,
            receivers: 1,
        }
    }

    pub(crate) fn queued(&self) -> Totals {
        self.accepted.since(self.received).since(self.dropped)
    }

    pub(crate) fn len(&self) -> usize {
        self.queued().messages as usize
    }

    /// Records that `messages` were accepted in order, while the statistics counted `dropped`. Each message was dropped itself
    /// (only if `may_drop_newest`), or was queued after the oldest ones may have been dropped.
    pub(crate) fn accept(
        &mut self,
        messages: &[Message],
        dropped: Totals,
        drops_oldest: bool,
        may_drop_newest: bool,
    ) {
        let mut found = HashSet::new();
        for order in &self.orders {
            let choices = Choices { drops_oldest, may_drop_newest };
            possible_orders(order.clone(), self.accepted.messages, messages, dropped, choices, &mut found);
        }
        assert!(!found.is_empty(), "no order explains {dropped:?} dropped for {messages:?}: {self:?}");
        self.orders = found.into_iter().collect();
        for message in messages {
            self.accepted.add(message.len);
        }
        self.dropped.messages += dropped.messages;
        self.dropped.bytes += dropped.bytes;
    }

    /// Returns whether there are more possible orders than the model keeps. Then the case ends.
    pub(crate) fn has_too_many_orders(&self) -> bool {
        self.orders.len() > MAX_ORDERS
    }

    /// Records a message that was dropped before it was written. It counts with the room it wanted.
    pub(crate) fn record_refused(&mut self, wanted: usize, dropped: Totals, drops_oldest: bool) {
        let message = Message { id: u32::MAX, len: wanted };
        self.accept(&[message], dropped, drops_oldest, true);
        self.orders.retain(|order| order.queue.back().is_none_or(|last| last.message != message));
        assert!(!self.orders.is_empty(), "a message that was never written is queued");
    }

    /// Records that a sender abandoned its reservation: the sequence is skipped, and messages dropped for it stay dropped.
    pub(crate) fn abandon(&mut self, dropped: Totals, drops_oldest: bool) {
        self.accept(&[], dropped, drops_oldest, false);
        for order in &mut self.orders {
            order.next_sequence += 1;
        }
    }

    /// Records that everything accepted so far is readable.
    pub(crate) fn switched(&mut self) {
        self.certain = self.accepted.messages;
        self.possible = self.accepted.messages;
    }

    pub(crate) fn maybe_switched(&mut self) {
        self.possible = self.accepted.messages;
    }

    pub(crate) fn front(&self) -> Option<u64> {
        // All orders agree on how many messages are queued, but not on which.
        let fronts =
            self.orders.iter().flat_map(|order| order.queue.front().into_iter().chain(order.claimed()));
        fronts.map(|queued| queued.ordinal).min()
    }

    /// Returns whether a receiver must find a message.
    pub(crate) fn must_be_readable(&self) -> bool {
        let fronts = || self.orders.iter().map(|order| order.queue.front());
        fronts().all(|front| front.is_some_and(|queued| queued.ordinal < self.certain))
    }

    /// Returns whether this handle, which may have taken messages ahead, must find a message.
    pub(crate) fn must_be_readable_by(&self, handle: usize) -> bool {
        let is_readable = |order: &Order| {
            order.claims.contains_key(&handle)
                || order.queue.front().is_some_and(|queued| queued.ordinal < self.certain)
        };
        self.orders.iter().all(is_readable)
    }

    /// Records that `handle` found that the channel has ended: all messages were received, or other handles have taken them
    /// ahead.
    pub(crate) fn ended_for(&mut self, handle: usize) {
        assert!(self.closed, "ended early");
        self.orders.retain(|order| order.queue.is_empty() && !order.claims.contains_key(&handle));
        assert!(!self.orders.is_empty(), "ended early");
    }

    /// Returns whether a receiver may find a message.
    fn may_be_readable(&self) -> bool {
        self.front().is_some_and(|ordinal| ordinal < self.possible)
    }

    pub(crate) fn must_be_ended(&self) -> bool {
        self.closed && self.len() == 0
    }

    /// Returns how many messages receivers must find, at least.
    pub(crate) fn readable(&self) -> usize {
        let readable =
            |order: &Order| order.queue.iter().take_while(|queued| queued.ordinal < self.certain).count();
        self.orders.iter().map(readable).min().unwrap_or(0)
    }

    /// Records that a receiver got the next message.
    pub(crate) fn take(&mut self, payload: &[u8]) -> Message {
        assert!(self.may_be_readable(), "read before it was switched: {self:?}");
        self.orders.retain_mut(|order| {
            order.queue.pop_front().is_some_and(|queued| queued.message.payload() == payload)
        });
        assert!(!self.orders.is_empty(), "not the next message: {} bytes {payload:?}", payload.len());
        self.received.add(payload.len());
        Message { id: u32::MAX, len: payload.len() }
    }

    /// Records that `handle` got the next message, and may have taken `ahead` more. A handle that `may_give_back` may have done
    /// so before.
    pub(crate) fn take_by(&mut self, handle: usize, payload: &[u8], ahead: usize, may_give_back: bool) {
        assert!(self.may_be_readable(), "read before it was switched: {self:?}");
        let mut found = HashSet::new();
        for order in self.orders.drain(..) {
            if may_give_back && order.claims.contains_key(&handle) {
                let mut given_back = order.clone();
                given_back.give_back(handle);
                given_back.take(handle, payload, ahead, self.possible, &mut found);
            }
            order.take(handle, payload, ahead, self.possible, &mut found);
        }
        assert!(!found.is_empty(), "not the next message: {} bytes {payload:?}", payload.len());
        self.orders = found.into_iter().collect();
        self.received.add(payload.len());
    }

    /// Records that `handle` has given back what it had taken ahead.
    pub(crate) fn give_back(&mut self, handle: usize) {
        self.orders.iter_mut().for_each(|order| order.give_back(handle));
    }

    /// Records that a receiver got a batch of the next messages, with consecutive sequences.
    pub(crate) fn take_batch(&mut self, batch: &Batch) {
        self.orders.retain(|order| {
            let sequences = order.queue.iter().map(|queued| queued.sequence).take(batch.len());
            sequences.eq((batch.first_sequence()..).take(batch.len()))
        });
        assert!(!self.orders.is_empty(), "a batch of other sequences: {batch:?}");
        for (index, payload) in batch.iter().enumerate() {
            assert_eq!(batch.bytes(index).as_deref(), Some(payload));
            self.take(payload);
        }
    }

    /// Returns whether all messages before this ordinal left the channel, or `None` if the orders disagree.
    pub(crate) fn is_past(&self, ordinal: u64) -> Option<bool> {
        let past = |order: &Order| {
            let mut left = order.queue.front().into_iter().chain(order.claimed());
            left.all(|queued| queued.ordinal >= ordinal)
        };
        let first = past(&self.orders[0]);
        self.orders.iter().all(|order| past(order) == first).then_some(first)
    }

    /// Records that the last receiver was dropped, and the unread messages with it.
    pub(crate) fn discard(&mut self) {
        let queued = self.queued();
        self.dropped.messages += queued.messages;
        self.dropped.bytes += queued.bytes;
        for order in &mut self.orders {
            order.queue.clear();
            order.claims.clear();
        }
    }

    /// Compares the statistics with the model.
    pub(crate) fn check(&self, stats: &Stats) {
        let queued = self.queued();
        let totals = |messages, bytes| Totals { messages, bytes };
        assert_eq!(Totals::accepted(stats), self.accepted, "accepted");
        assert_eq!(totals(stats.received_messages, stats.received_bytes), self.received, "received");
        assert_eq!(Totals::dropped(stats), self.dropped, "dropped");
        assert_eq!(totals(stats.queued_messages, stats.queued_bytes), queued, "queued");
        assert!(stats.memory_bytes() <= stats.max_bytes, "{stats:?}");
        assert_eq!((stats.panics, stats.callback_panics), (0, 0), "an assertion in a strategy or a callback");
        for order in &self.orders {
            assert_eq!(order.len() as u64, queued.messages);
        }
    }
}

/// What the channel may do for a message that finds no room.
#[derive(Clone, Copy)]
struct Choices {
    drops_oldest: bool,
    may_drop_newest: bool,
}

/// Collects every order that `order` can become if `messages` are accepted and exactly `dropped` is dropped for them.
fn possible_orders(
    order: Order,
    ordinal: u64,
    messages: &[Message],
    dropped: Totals,
    choices: Choices,
    found: &mut HashSet<Order>,
) {
    let Some((&message, rest)) = messages.split_first() else {
        return possible_orders_of_oldest(order, dropped, choices, found);
    };
    let mut order = order;
    let mut left = dropped;
    loop {
        let mut queued = order.clone();
        queued.queue.push_back(Queued { message, ordinal, sequence: queued.next_sequence });
        queued.next_sequence += 1;
        possible_orders(queued, ordinal + 1, rest, left, choices, found);
        if choices.may_drop_newest && left.messages > 0 && left.bytes >= message.len as u64 {
            let left = Totals { messages: left.messages - 1, bytes: left.bytes - message.len as u64 };
            possible_orders(order.clone(), ordinal + 1, rest, left, choices, found);
        }
        if !choices.drops_oldest || !drop_oldest(&mut order, &mut left) {
            return;
        }
    }
}

/// The same without messages: all of `dropped` must be the oldest messages.
fn possible_orders_of_oldest(
    mut order: Order,
    mut dropped: Totals,
    choices: Choices,
    found: &mut HashSet<Order>,
) {
    while dropped.messages > 0 {
        if !choices.drops_oldest || !drop_oldest(&mut order, &mut dropped) {
            return;
        }
    }
    if dropped.bytes == 0 {
        found.insert(order);
    }
}

fn drop_oldest(order: &mut Order, left: &mut Totals) -> bool {
    let fits = |queued: &Queued| left.messages > 0 && left.bytes >= queued.message.len as u64;
    if !order.queue.front().is_some_and(fits) {
        return false;
    }
    let oldest = order.queue.pop_front().expect("just seen");
    *left = Totals { messages: left.messages - 1, bytes: left.bytes - oldest.message.len as u64 };
    true
}

/// A received message or batch that is kept, and the copy that it must stay equal to.
pub(crate) enum Kept {
    Message(Bytes, Vec<u8>),
    Batch(Batch, Vec<Vec<u8>>),
}

impl Kept {
    pub(crate) fn message(message: Bytes) -> Self {
        let copy = message.to_vec();
        Self::Message(message, copy)
    }

    pub(crate) fn batch(batch: Batch) -> Self {
        let copy = batch.iter().map(<[u8]>::to_vec).collect();
        Self::Batch(batch, copy)
    }

    /// Reads it in every way, a last time.
    pub(crate) fn check(self) {
        match self {
            Self::Message(message, copy) => assert_eq!(message, copy, "a kept message changed"),
            Self::Batch(batch, copy) => {
                assert_eq!(batch.payload_bytes(), copy.iter().map(Vec::len).sum::<usize>());
                assert!(batch.io_slices().iter().map(|slice| &slice[..]).eq(copy.iter().map(|c| &c[..])));
                assert!(batch.get(batch.len()).is_none() && batch.get(0) == Some(&copy[0]));
                assert!(batch.into_iter().eq(copy), "a kept batch changed");
            }
        }
    }
}
