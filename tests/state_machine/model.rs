//! The reference: a plain queue, and counts.
//!
//! Where the channel is free to drop one message or another, and the figures do not tell which, the model goes on with
//! every order that explains them; what is received later tells.

use std::collections::VecDeque;

use bytes::Bytes;
use turbostream::{Batch, Stats};

/// More orders than can be told apart are not worth to be kept.
const MOST_ORDERS: usize = 2000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Message {
    pub(crate) id: u32,
    pub(crate) len: usize,
}

impl Message {
    /// Bytes that tell the message from every other, if there are four of them.
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
pub(crate) struct Volume {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Volume {
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

/// A message that was accepted: as the how manieth of all, and under which sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Placed {
    message: Message,
    ordinal: u64,
    sequence: u64,
}

/// What the channel may hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Order {
    queue: VecDeque<Placed>,
    next_sequence: u64,
}

#[derive(Debug)]
pub(crate) struct Model {
    orders: Vec<Order>,
    pub(crate) accepted: Volume,
    pub(crate) handed_out: Volume,
    pub(crate) dropped: Volume,
    /// All before this ordinal can be read.
    pub(crate) certain: u64,
    /// Nothing from this ordinal on can be.
    pub(crate) possible: u64,
    pub(crate) closed: bool,
    pub(crate) senders: usize,
    pub(crate) receivers: usize,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            orders: vec![Order::default()],
            accepted: Volume::default(),
            handed_out: Volume::default(),
            dropped: Volume::default(),
            certain: 0,
            possible: 0,
            closed: false,
            senders: 1,
            receivers: 1,
        }
    }

    pub(crate) fn queued(&self) -> Volume {
        self.accepted.since(self.handed_out).since(self.dropped)
    }

    pub(crate) fn len(&self) -> usize {
        self.queued().messages as usize
    }

    /// `messages` were accepted one after the other, and the figures say what was `dropped` for them. Each of them was
    /// dropped itself, or took its place, `may_refuse` telling the first; before that the oldest may have been dropped.
    pub(crate) fn accept(
        &mut self,
        messages: &[Message],
        dropped: Volume,
        drops_oldest: bool,
        may_refuse: bool,
    ) {
        let mut found = std::collections::HashSet::new();
        for order in &self.orders {
            let choices = Choices { drops_oldest, may_refuse };
            explain(order.clone(), self.accepted.messages, messages, dropped, choices, &mut found);
        }
        assert!(!found.is_empty(), "no order explains {dropped:?} dropped for {messages:?}: {self:?}");
        self.orders = found.into_iter().collect();
        for message in messages {
            self.accepted.add(message.len);
        }
        self.dropped.messages += dropped.messages;
        self.dropped.bytes += dropped.bytes;
    }

    /// Whether more orders explain what has happened than are worth to be kept: then the case ends.
    pub(crate) fn has_lost_track(&self) -> bool {
        self.orders.len() > MOST_ORDERS
    }

    /// A message was dropped before it was written, and counts with the room that it wanted.
    pub(crate) fn refuse(&mut self, wanted: usize, dropped: Volume, drops_oldest: bool) {
        let message = Message { id: u32::MAX, len: wanted };
        self.accept(&[message], dropped, drops_oldest, true);
        self.orders.retain(|order| order.queue.back().is_none_or(|last| last.message != message));
        assert!(!self.orders.is_empty(), "a message that was never written is queued");
    }

    /// A writer gave up a place: the sequence is missing. What it had dropped to get the place stays so.
    pub(crate) fn abandon(&mut self, dropped: Volume, drops_oldest: bool) {
        self.accept(&[], dropped, drops_oldest, false);
        for order in &mut self.orders {
            order.next_sequence += 1;
        }
    }

    /// Everything accepted by now can be read.
    pub(crate) fn switched(&mut self) {
        self.certain = self.accepted.messages;
        self.possible = self.accepted.messages;
    }

    pub(crate) fn maybe_switched(&mut self) {
        self.possible = self.accepted.messages;
    }

    pub(crate) fn front(&self) -> Option<u64> {
        // The orders agree on how many are queued, not on which.
        self.orders.iter().filter_map(|order| order.queue.front()).map(|placed| placed.ordinal).min()
    }

    /// Whether a receiver must find a message.
    pub(crate) fn must_be_readable(&self) -> bool {
        let fronts = || self.orders.iter().map(|order| order.queue.front());
        fronts().all(|front| front.is_some_and(|placed| placed.ordinal < self.certain))
    }

    /// Whether a receiver can find one.
    fn may_be_readable(&self) -> bool {
        self.front().is_some_and(|ordinal| ordinal < self.possible)
    }

    pub(crate) fn must_be_ended(&self) -> bool {
        self.closed && self.len() == 0
    }

    /// How many receivers must find, at least.
    pub(crate) fn readable(&self) -> usize {
        let readable =
            |order: &Order| order.queue.iter().take_while(|placed| placed.ordinal < self.certain).count();
        self.orders.iter().map(readable).min().unwrap_or(0)
    }

    /// A receiver got the next message.
    pub(crate) fn take(&mut self, payload: &[u8]) -> Message {
        assert!(self.may_be_readable(), "read before it was switched: {self:?}");
        self.orders.retain_mut(|order| {
            order.queue.pop_front().is_some_and(|placed| placed.message.payload() == payload)
        });
        assert!(!self.orders.is_empty(), "not the next message: {} bytes {payload:?}", payload.len());
        self.handed_out.add(payload.len());
        Message { id: u32::MAX, len: payload.len() }
    }

    /// A receiver got a batch of the next messages, by sequence without a gap.
    pub(crate) fn take_batch(&mut self, batch: &Batch) {
        self.orders.retain(|order| {
            let sequences = order.queue.iter().map(|placed| placed.sequence).take(batch.len());
            sequences.eq((batch.first_sequence()..).take(batch.len()))
        });
        assert!(!self.orders.is_empty(), "a batch of other sequences: {batch:?}");
        for payload in batch.iter() {
            self.take(payload);
        }
    }

    /// Whether all that was accepted before the one with this ordinal is out of the channel. Nothing where it depends.
    pub(crate) fn is_past(&self, ordinal: u64) -> Option<bool> {
        let past = |order: &Order| order.queue.front().is_none_or(|placed| placed.ordinal >= ordinal);
        let first = past(&self.orders[0]);
        self.orders.iter().all(|order| past(order) == first).then_some(first)
    }

    /// The last receiver left: what nobody read is dropped.
    pub(crate) fn discard(&mut self) {
        let queued = self.queued();
        self.dropped.messages += queued.messages;
        self.dropped.bytes += queued.bytes;
        for order in &mut self.orders {
            order.queue.clear();
        }
    }

    /// What the figures have to say.
    pub(crate) fn check(&self, stats: &Stats) {
        let queued = self.queued();
        let figures = |messages, bytes| Volume { messages, bytes };
        assert_eq!(Volume::accepted(stats), self.accepted, "accepted");
        assert_eq!(figures(stats.received_messages, stats.received_bytes), self.handed_out, "handed out");
        assert_eq!(Volume::dropped(stats), self.dropped, "dropped");
        assert_eq!(figures(stats.queued_messages, stats.queued_bytes), queued, "queued");
        assert!(stats.memory_bytes() <= stats.max_bytes, "{stats:?}");
        assert_eq!((stats.panics, stats.callback_panics), (0, 0), "an assertion in a strategy or a callback");
        for order in &self.orders {
            assert_eq!(order.queue.len() as u64, queued.messages);
        }
    }
}

/// What the channel is free to do for a message that finds no room.
#[derive(Clone, Copy)]
struct Choices {
    drops_oldest: bool,
    may_refuse: bool,
}

/// Every order that `order` becomes if `messages` are accepted and exactly `dropped` is dropped for them.
fn explain(
    order: Order,
    ordinal: u64,
    messages: &[Message],
    dropped: Volume,
    choices: Choices,
    found: &mut std::collections::HashSet<Order>,
) {
    let Some((&message, rest)) = messages.split_first() else {
        return explain_oldest(order, dropped, choices, found);
    };
    let mut order = order;
    let mut left = dropped;
    loop {
        let mut placed = order.clone();
        placed.queue.push_back(Placed { message, ordinal, sequence: placed.next_sequence });
        placed.next_sequence += 1;
        explain(placed, ordinal + 1, rest, left, choices, found);
        if choices.may_refuse && left.messages > 0 && left.bytes >= message.len as u64 {
            let left = Volume { messages: left.messages - 1, bytes: left.bytes - message.len as u64 };
            explain(order.clone(), ordinal + 1, rest, left, choices, found);
        }
        if !choices.drops_oldest || !drop_oldest(&mut order, &mut left) {
            return;
        }
    }
}

/// The same without a message: whatever is left to be explained are the oldest.
fn explain_oldest(
    mut order: Order,
    mut dropped: Volume,
    choices: Choices,
    found: &mut std::collections::HashSet<Order>,
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

fn drop_oldest(order: &mut Order, left: &mut Volume) -> bool {
    let fits = |placed: &Placed| left.messages > 0 && left.bytes >= placed.message.len as u64;
    if !order.queue.front().is_some_and(fits) {
        return false;
    }
    let oldest = order.queue.pop_front().expect("just seen");
    *left = Volume { messages: left.messages - 1, bytes: left.bytes - oldest.message.len as u64 };
    true
}

/// What is kept of what was received, and has to stay as it was.
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

    /// Looks at it in every way there is, the last time.
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
