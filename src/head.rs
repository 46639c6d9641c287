//! The reading side: which messages come next, and how they are handed out.
//!
//! All receivers of a channel take turns at one [`Head`]. A turn is short, waits for nothing and runs no user
//! code: what might (waking a task, dropping a payload) is noted in [`Aftermath`] and done after the turn.

mod aftermath;
mod current;
mod mark;
mod overflow;

use std::mem;
use std::time::Duration;

use bytes::Bytes;

pub(crate) use self::aftermath::Aftermath;
use self::current::Current;
pub(crate) use self::mark::{Mark, Passed};
use crate::batch::Batch;
use crate::channel::{Core, SwitchCause};
use crate::config::ReadMode;
use crate::events::Switched;
use crate::histogram::{Histogram, QUEUE_BOUNDS};
use crate::page::Pages;
use crate::pool::Lease;
use crate::segment::state::{Kind, State};
use crate::spin;
use crate::sync::Arc;
use crate::volume::Volume;

/// A receiver that finds the active segment growing lets it grow by this many messages before it cuts.
const GATHERED: usize = 1024;
/// Turns of a spin before it first looks whether that goes on.
const GATHERING_PAUSE: usize = 8;

/// The pool is told of payloads that are out of the channel once they come to this part of `max_bytes`.
const RELEASED_PART: usize = 8;

/// Whether there is a message to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// The next message can be taken.
    Readable,
    /// Its writer reserved it and has not committed it yet.
    Stalled,
    /// Nothing is sealed, and nothing can be cut.
    Empty,
    /// Everything was handed out, and nothing more will come.
    Closed,
}

/// The state that receivers take turns at.
pub(crate) struct Head {
    /// Of the segment that is read, or will be next.
    sequence: u64,
    /// The sequence of that segment's first message.
    first_message: u64,
    current: Option<Current>,
    pages: Pages,
    /// From segments that are done with.
    handed_out: Volume,
    dropped: Volume,
    /// Those of the dropped messages that made room for newer ones.
    dropped_oldest: u64,
    /// How long the first message of each segment was queued.
    queue_time: Histogram,
    /// Where whoever waits for a mark wants to be told.
    mark: Option<Mark>,
    /// The first message that was dropped because nobody was left to read it.
    discarded_from: Option<Mark>,
    /// Bytes of payloads that travelled by reference and are out of the channel, which the pool still counts.
    released: usize,
}

impl Head {
    pub(crate) fn new(first_sequence: u64) -> Self {
        Self {
            sequence: first_sequence,
            first_message: first_sequence,
            current: None,
            pages: Pages::default(),
            handed_out: Volume::default(),
            dropped: Volume::default(),
            dropped_oldest: 0,
            queue_time: Histogram::new(QUEUE_BOUNDS),
            mark: None,
            discarded_from: None,
            released: 0,
        }
    }

    /// Finds the next message, cutting the active segment if it has to and may.
    pub(crate) fn look(&mut self, core: &Core, after: &mut Aftermath) -> Outlook {
        self.look_and_cut(core, after, core.on_demand())
    }

    /// Finds the next message for somebody who takes nothing: without a cut.
    fn look_without_cut(&mut self, core: &Core, after: &mut Aftermath) -> Outlook {
        self.look_and_cut(core, after, false)
    }

    /// Leaves behind what is sealed and was read, without dropping anything; true if that made room.
    pub(crate) fn leave_read(&mut self, core: &Core, after: &mut Aftermath) -> bool {
        self.look_without_cut(core, after);
        after.released += mem::take(&mut self.released);
        after.recycled > 0 || after.released > 0
    }

    /// Bytes of payloads that are out of the channel, which the pool still counts.
    pub(crate) fn released(&self) -> usize {
        self.released
    }

    /// How many of them the pool is to be told of now: all if a sender waits for memory, otherwise none until they are
    /// many, as each time takes the count's cache line away from the senders. Until then the memory is had by
    /// [`leave_read`](Self::leave_read).
    #[inline(always)]
    pub(crate) fn take_released(&mut self, core: &Core) -> usize {
        let pool = core.pool();
        let due = self.released > 0
            && (pool.space.waiting() > 0 || self.released >= pool.max_bytes() / RELEASED_PART);
        if due { mem::take(&mut self.released) } else { 0 }
    }

    #[inline]
    fn look_and_cut(&mut self, core: &Core, after: &mut Aftermath, may_cut: bool) -> Outlook {
        loop {
            if let Some(outlook) = self.current.as_mut().and_then(Current::outlook) {
                return outlook;
            }
            let place = core.pending().place(self.sequence);
            let state = place.load();
            match state.kind() {
                Kind::Sealed => {
                    self.take_in(core, state);
                    self.took(core, after);
                }
                Kind::Open if state.messages() > self.known() && may_cut => {
                    gather(self.known(), state, || place.load());
                    let state = core.cut(self.sequence);
                    let messages = state.messages() - self.known();
                    core.lull().came(messages);
                    let (cause, sequence) = (SwitchCause::OnDemand, self.sequence);
                    after.note(state.is_open().then_some(Switched { cause, sequence, messages }));
                    self.take_in(core, state);
                }
                Kind::Closed => return Outlook::Closed,
                Kind::Open | Kind::Ready => return Outlook::Empty,
            }
        }
    }

    /// How many messages of the segment at the head are known to be sealed or cut.
    fn known(&self) -> usize {
        self.current.as_ref().map_or(0, Current::end)
    }

    /// Whether everything that is known to be sealed or cut was taken.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.current.as_ref().is_none_or(|current| current.remaining() == 0)
    }

    /// Whether there is a segment with nothing but messages that were taken.
    pub(crate) fn holds_rest(&self, core: &Core) -> bool {
        let nothing_new = || core.pending().place(self.sequence).load().messages() == self.known();
        self.current.is_some() && self.is_caught_up() && nothing_new()
    }

    /// Goes on to read the segment at the head up to what `state` says, which is final or a cut.
    fn take_in(&mut self, core: &Core, state: State) {
        let current = self.current.get_or_insert_with(|| {
            let number = state.segment().expect("a place with messages names its segment");
            let lease = Lease::adopt(Arc::clone(core.pool()), number);
            self.queue_time.record(Duration::from_nanos(core.nanos_since(lease.opened_at())));
            Current::new(lease)
        });
        current.extend(state.messages());
        if state.kind() == Kind::Sealed {
            // Whoever sealed it may not have got to that yet, and writers look for the place that `active` names.
            core.pending().advance(self.sequence);
        }
        self.note_mark();
    }

    /// Leaves the current segment behind, which is sealed and all of which was taken.
    fn retire(&mut self, core: &Core, after: &mut Aftermath) {
        let Some(current) = self.current.take() else { return };
        core.pending().retire(self.sequence);
        after.retired = true;
        self.sequence = self.sequence.wrapping_add(1);
        self.handed_out += current.handed_out();
        let (lease, messages) = current.into_lease();
        self.first_message = self.first_message.wrapping_add(messages as u64);
        lease.retire(messages);
        after.recycled += usize::from(lease.recycle_quietly());
    }

    /// After a message was taken, or came into sight: leaves the current segment behind if that was its last.
    fn took(&mut self, core: &Core, after: &mut Aftermath) {
        let Some(current) = &mut self.current else { return };
        current.skip_padding();
        if current.remaining() == 0 {
            current.let_pieces_go();
            self.leave_if_sealed(core, after);
        }
    }

    /// Leaves the current segment behind, all of which was taken, if no more can come.
    fn leave_if_sealed(&mut self, core: &Core, after: &mut Aftermath) {
        let state = core.pending().place(self.sequence).load();
        if state.kind() == Kind::Sealed && state.messages() == self.known() {
            self.take_in(core, state);
            self.retire(core, after);
        }
    }

    /// Gives the rest of the active segment up if all of its messages were taken, so that its memory can be freed.
    pub(crate) fn give_up_rest(&mut self, core: &Core, after: &mut Aftermath) {
        if self.holds_rest(core) {
            let known = self.known();
            let _ = core.pending().place(self.sequence).seal(|seen| seen.messages() == known);
            self.leave_if_sealed(core, after);
        }
    }

    /// Takes the next message where that needs nothing but a slice, and something behind it is known to be committed:
    /// the way of nearly all messages.
    #[inline(always)]
    pub(crate) fn take_quickly(&mut self, mode: ReadMode) -> Option<Bytes> {
        self.current.as_mut()?.take_quickly(mode, &mut self.released)
    }

    /// Takes the next message; [`look`](Self::look) has found it readable.
    pub(crate) fn take(&mut self, core: &Core, mode: ReadMode, after: &mut Aftermath) -> Bytes {
        let current = self.current.as_mut().expect("a readable message has a segment");
        let (message, released) = current.take(core, mode, &mut self.pages);
        self.released += released;
        self.took(core, after);
        message
    }

    /// Takes up to `limit` messages as they lie; the first is readable, and so is the batch.
    pub(crate) fn take_batch(
        &mut self,
        core: &Core,
        limit: usize,
        mode: ReadMode,
        after: &mut Aftermath,
    ) -> Batch {
        let current = self.current.as_mut().expect("a readable message has a segment");
        let (batch, released) = current.take_batch(limit, mode, self.first_message);
        self.released += released;
        self.took(core, after);
        batch
    }

    /// Drops all that can be read. Ends early at a message that is not committed; its writer goes on from there.
    pub(crate) fn discard(&mut self, core: &Core, after: &mut Aftermath) {
        loop {
            match self.look(core, after) {
                Outlook::Readable => self.discard_one(core, after),
                Outlook::Stalled if self.await_commit() => return,
                Outlook::Stalled => {}
                Outlook::Empty | Outlook::Closed => return,
            }
        }
    }

    fn discard_one(&mut self, core: &Core, after: &mut Aftermath) {
        let position = self.position();
        self.discarded_from.get_or_insert(position);
        let current = self.current.as_mut().expect("a readable message has a segment");
        let len = current.discard_one(after);
        self.dropped += Volume::of(1, len);
        self.took(core, after);
    }

    /// The sequence of the next message, if it was seen reserved and is not committed.
    pub(crate) fn stalled_message(&mut self) -> Option<u64> {
        let current = self.current.as_mut()?;
        let is_stalled = current.outlook() == Some(Outlook::Stalled);
        is_stalled.then(|| self.first_message.wrapping_add(current.position() as u64))
    }

    /// Asks the writer of the next message for a wake; false if it has committed meanwhile.
    pub(crate) fn await_commit(&self) -> bool {
        self.current.as_ref().is_some_and(Current::await_commit)
    }

    /// Asks the writer of the next message for a wake; false if there is one already.
    pub(crate) fn await_message(&self, core: &Core) -> bool {
        core.pending().place(self.sequence).await_message(self.sequence, self.known())
    }

    /// Messages that another receiver could take at once.
    pub(crate) fn left(&self, core: &Core) -> usize {
        let remaining = self.current.as_ref().map_or(0, Current::remaining);
        if remaining > 0 {
            return remaining;
        }
        let state = core.pending().place(self.sequence).load();
        match state.kind() {
            Kind::Open if !core.on_demand() => 0,
            Kind::Sealed | Kind::Open => state.messages() - self.known(),
            _ => 0,
        }
    }

    /// Whether the active segment is the one at the head, holds nothing unread, and is still referred to by messages
    /// that were handed out.
    pub(crate) fn has_lent_all(&self, sequence: u64, active: State) -> bool {
        let lent = |current: &Current| current.end() == active.messages() && current.has_lent_all();
        sequence == self.sequence && self.current.as_ref().is_some_and(lent)
    }

    pub(crate) fn handed_out(&self) -> Volume {
        self.handed_out + self.current.as_ref().map_or_else(Volume::default, Current::handed_out)
    }

    pub(crate) fn dropped(&self) -> Volume {
        self.dropped
    }

    pub(crate) fn dropped_oldest(&self) -> u64 {
        self.dropped_oldest
    }

    pub(crate) fn queue_time(&self) -> Histogram {
        self.queue_time
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What was already taken of the segment at the head.
    pub(crate) fn taken(&self) -> Volume {
        self.current.as_ref().map_or_else(Volume::default, Current::taken)
    }

    pub(crate) fn has_pages(&self) -> bool {
        !self.pages.is_empty()
    }

    pub(crate) fn drop_pages(&mut self) {
        self.pages = Pages::default();
    }
}

/// Lets the active segment gather more messages while it grows, for a few microseconds at most.
///
/// Cutting off two or three at a time costs both sides more than the messages themselves.
fn gather(known: usize, mut seen: State, mut load: impl FnMut() -> State) {
    if seen.messages() - known < 2 {
        return;
    }
    spin::look_seldom_until(GATHERING_PAUSE, || {
        let now = load();
        let grown = now.messages() > seen.messages();
        seen = now;
        !grown || now.messages() - known >= GATHERED || !now.is_open()
    });
}
