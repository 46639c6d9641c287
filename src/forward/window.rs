//! The window: what was taken out of the channel, and is neither confirmed nor rejected, in order.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::task::coop::unconstrained;
use tokio::time::Instant;

use super::destination::{Confirmation, Outgoing};
use super::error::{BoxError, PublishError, Rejection, StopReason};
use super::packing::{LENGTH_BYTES, Packing, unpack};
use crate::sync::unwind::catch;

/// A payload in the window.
pub(super) struct Entry<R> {
    pub(super) outgoing: Outgoing,
    pub(super) taken_at: Instant,
    /// Whether it was ever published.
    pub(super) was_published: bool,
    pub(super) state: State<R>,
}

pub(super) enum State<R> {
    /// To be published, for the first time or again.
    Waiting,
    Published {
        receipt: R,
        at: Instant,
    },
    /// Confirmed, while an earlier payload is not.
    Confirmed(Confirmation),
    /// Rejected, while an earlier payload is not confirmed.
    Rejected(Rejection),
}

pub(super) struct Window<R> {
    entries: VecDeque<Entry<R>>,
    /// Entries before this index are not `Waiting`.
    next: usize,
    /// How many entries are `Published`.
    published: usize,
    messages: usize,
    bytes: usize,
    max_messages: usize,
    max_bytes: usize,
}

impl<R> Window<R>
where
    R: Future<Output = Result<Confirmation, PublishError>> + Unpin,
{
    pub(super) fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            next: 0,
            published: 0,
            messages: 0,
            bytes: 0,
            max_messages,
            max_bytes,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn messages(&self) -> usize {
        self.messages
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns how many payloads are published and not confirmed.
    pub(super) fn published(&self) -> usize {
        self.published
    }

    /// Whether a payload of that size has room. An empty window has room for any.
    pub(super) fn has_room(&self, messages: usize, bytes: usize) -> bool {
        let has_messages = self.messages + messages <= self.max_messages;
        self.is_empty() || (has_messages && self.bytes.saturating_add(bytes) <= self.max_bytes)
    }

    /// Whether an eighth of the window is free.
    pub(super) fn has_room_to_refill(&self) -> bool {
        self.has_room(self.max_messages / 8, self.max_bytes / 8)
    }

    /// Whether a pack of that size has room. An empty window limits its messages, not its bytes: the caller does.
    pub(super) fn has_room_in_pack(&self, messages: usize, bytes: usize) -> bool {
        let has_bytes = self.bytes.saturating_add(bytes) <= self.max_bytes;
        self.messages + messages <= self.max_messages && has_bytes
    }

    /// Whether a quarter of the window is free, or a whole pack fits: a pack begun with less room would be a small one.
    pub(super) fn has_room_for_pack(&self, max_pack: usize) -> bool {
        let messages = self.max_messages.div_ceil(4);
        self.has_room(messages, max_pack.min(self.max_bytes / 4))
    }

    pub(super) fn push(&mut self, outgoing: Outgoing, state: State<R>, now: Instant) {
        self.messages += outgoing.messages;
        self.bytes += outgoing.payload.len();
        self.entries.push_back(Entry { outgoing, taken_at: now, was_published: false, state });
    }

    pub(super) fn front(&self) -> Option<&Entry<R>> {
        self.entries.front()
    }

    pub(super) fn front_mut(&mut self) -> Option<&mut Entry<R>> {
        self.entries.front_mut()
    }

    /// Removes the first entry, which is settled.
    pub(super) fn pop(&mut self) -> Option<Entry<R>> {
        let entry = self.entries.pop_front()?;
        self.next = self.next.saturating_sub(1);
        self.published -= usize::from(matches!(entry.state, State::Published { .. }));
        self.messages -= entry.outgoing.messages;
        self.bytes -= entry.outgoing.payload.len();
        Some(entry)
    }

    /// Returns the next entry to publish.
    pub(super) fn next_waiting(&mut self) -> Option<&mut Entry<R>> {
        while let Some(entry) = self.entries.get(self.next) {
            if matches!(entry.state, State::Waiting) {
                break;
            }
            self.next += 1;
        }
        self.entries.get_mut(self.next)
    }

    /// Notes that the entry of [`next_waiting`](Self::next_waiting) was published; returns how many messages were published
    /// again.
    pub(super) fn note_published(&mut self, receipt: R, now: Instant) -> usize {
        let entry = &mut self.entries[self.next];
        let again = std::mem::replace(&mut entry.was_published, true);
        entry.state = State::Published { receipt, at: now };
        self.next += 1;
        self.published += 1;
        if again { entry.outgoing.messages } else { 0 }
    }

    /// Drops the receipt of the first entry, which has resolved without a confirmation. The caller removes the entry, or
    /// goes back.
    pub(super) fn front_to_waiting(&mut self) {
        if let Some(entry) = self.entries.front_mut() {
            if matches!(std::mem::replace(&mut entry.state, State::Waiting), State::Published { .. }) {
                self.published -= 1;
            }
        }
    }

    /// Polls each receipt once, keeps what is confirmed or rejected, and drops all other receipts: their entries are to be
    /// published again.
    ///
    /// With `in_order`, only what is confirmed up to the first entry that is not counts as confirmed.
    pub(super) fn go_back(&mut self, in_order: bool) -> Result<(), (StopReason, BoxError)> {
        let mut stopped = Ok(());
        let mut is_row = true;
        for entry in &mut self.entries {
            if matches!(entry.state, State::Published { .. }) {
                if let Err(stop) = settle(entry) {
                    stopped = stopped.and(Err(stop));
                }
            }
            match entry.state {
                State::Confirmed(_) if in_order && !is_row => entry.state = State::Waiting,
                State::Waiting => is_row = false,
                _ => {}
            }
        }
        (self.published, self.next) = (0, 0);
        stopped
    }

    /// [`go_back`](Self::go_back) at the end of the forwarder. A receipt that panics confirms nothing.
    pub(super) fn settle_at_end(&mut self) {
        for entry in &mut self.entries {
            if matches!(entry.state, State::Published { .. }) && catch(|| settle(entry)).is_err() {
                let _ = catch(|| entry.state = State::Waiting);
            }
        }
        (self.published, self.next) = (0, 0);
    }

    /// Returns the sequence of the first entry that is not settled, if any entry was published before.
    pub(super) fn first_to_resume(&self) -> Option<u64> {
        let was_published = self.entries.iter().any(|entry| entry.was_published);
        let first = self.entries.iter().find(|entry| matches!(entry.state, State::Waiting));
        first.filter(|_| was_published).map(|entry| entry.outgoing.sequence)
    }

    /// Counts the published entries up to `last` as confirmed: an unbroken row from the first one that waits.
    pub(super) fn confirm_up_to(&mut self, last: u64) {
        for entry in &mut self.entries {
            if !entry.was_published || entry.outgoing.sequence > last {
                break;
            }
            if matches!(entry.state, State::Waiting) {
                entry.state = State::Confirmed(Confirmation::Stored);
            }
        }
    }

    /// Replaces the first entry, a pack, by its messages.
    pub(super) fn take_front_apart(&mut self, packing: Packing) {
        let Some(pack) = self.pop() else { return };
        let sequence = pack.outgoing.sequence;
        for (at, (payload, first_offset)) in singles(&pack.outgoing, packing).into_iter().enumerate().rev() {
            let outgoing = Outgoing {
                first_len: payload.len() - first_offset,
                first_offset,
                messages: 1,
                sequence: sequence + at as u64,
                id_prefix: pack.outgoing.id_prefix.clone(),
                payload,
            };
            self.messages += 1;
            self.bytes += outgoing.payload.len();
            let taken_at = pack.taken_at;
            self.entries.push_front(Entry {
                outgoing,
                taken_at,
                was_published: false,
                state: State::Waiting,
            });
        }
        self.next = 0;
    }

    pub(super) fn into_entries(self) -> impl Iterator<Item = Entry<R>> {
        self.entries.into_iter()
    }
}

/// Polls a receipt once. An entry whose receipt is not ready, or may be retried, is `Waiting` afterwards.
fn settle<R>(entry: &mut Entry<R>) -> Result<(), (StopReason, BoxError)>
where
    R: Future<Output = Result<Confirmation, PublishError>> + Unpin,
{
    let State::Published { receipt, .. } = &mut entry.state else { return Ok(()) };
    // A receipt of Tokio would be pending once the task's budget is spent.
    let polled = Pin::new(&mut unconstrained(receipt)).poll(&mut Context::from_waker(Waker::noop()));
    let (state, result) = match polled {
        Poll::Ready(Ok(confirmation)) => (State::Confirmed(confirmation), Ok(())),
        Poll::Ready(Err(PublishError::Reject(rejection))) => (State::Rejected(rejection), Ok(())),
        Poll::Ready(Err(PublishError::Stop(reason, source))) => (State::Waiting, Err((reason, source))),
        Poll::Ready(Err(PublishError::Retry(_) | PublishError::OutOfOrder(_))) | Poll::Pending => {
            (State::Waiting, Ok(()))
        }
    };
    entry.state = state;
    result
}

/// Returns the payload of each message as it travels alone, and where the message lies in it.
fn singles(outgoing: &Outgoing, packing: Packing) -> Vec<(Bytes, usize)> {
    let payload = &outgoing.payload;
    match packing {
        Packing::Lines => messages_of(payload, packing).map(|message| (message, 0)).collect(),
        Packing::LengthDelimited => {
            let mut at = 0;
            let with_length = |message: Bytes| {
                let start = at;
                at += LENGTH_BYTES + message.len();
                (payload.slice(start..at), LENGTH_BYTES)
            };
            messages_of(payload, packing).map(with_length).collect()
        }
    }
}

fn messages_of(payload: &Bytes, packing: Packing) -> impl Iterator<Item = Bytes> {
    unpack(packing, payload).map(|message| message.expect("the forwarder built the pack"))
}

/// Returns the messages of a payload as they were sent.
pub(super) fn messages_in(outgoing: &Outgoing, packing: Option<Packing>) -> Vec<Bytes> {
    match packing {
        Some(packing) if outgoing.messages > 1 => messages_of(&outgoing.payload, packing).collect(),
        _ => {
            let end = outgoing.first_offset + outgoing.first_len;
            vec![outgoing.payload.slice(outgoing.first_offset..end)]
        }
    }
}
