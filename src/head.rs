//! The reading side: which messages come next, and how they are handed out.
//!
//! All receivers of a channel take turns at one [`Head`]. A turn is short, waits for nothing and runs no user
//! code: what might (waking a task, dropping a payload) is noted in [`Aftermath`] and done after the turn.

use bytes::{Buf, Bytes};

use crate::batch::Batch;
use crate::channel::{Core, Switch};
use crate::config::ReadMode;
use crate::page::{Pages, SMALL_BELOW};
use crate::pool::Lease;
use crate::segment::state::{Kind, State};
use crate::segment::{Claim, Content};
use crate::sync::{Arc, spin_limit, spin_loop};

/// Above this length a message is lent in Safe mode.
const LENT_ABOVE: usize = 32 << 10;
/// A receiver that finds the active segment growing lets it grow to this many messages before it seals.
const GATHERED: usize = 1024;

/// Messages and their payload bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Volume {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Volume {
    pub(crate) fn add(&mut self, messages: usize, bytes: usize) {
        self.messages += messages as u64;
        self.bytes += bytes as u64;
    }
}

/// What a turn leaves to be done when it is over.
#[derive(Default)]
pub(crate) struct Aftermath {
    /// A segment was read to its end.
    pub(crate) retired: bool,
    /// Segments that went back to the pool.
    pub(crate) recycled: usize,
    /// Payloads that travelled by reference and are out of the channel.
    pub(crate) released: usize,
    /// Messages that other receivers could take.
    pub(crate) left: usize,
    /// Payloads to be dropped.
    pub(crate) discarded: Vec<Bytes>,
}

/// Whether there is a message to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// The next message can be taken.
    Readable,
    /// Its writer reserved it and has not committed it yet.
    Stalled,
    /// Nothing is sealed, and nothing can be sealed on demand.
    Empty,
    /// Everything was handed out, and nothing more will come.
    Closed,
}

/// The sealed segment being read.
struct Current {
    claim: Claim<Lease>,
    state: State,
    /// The readable part of the segment as one `Bytes` and its offset there, once something is lent from it.
    run: Option<(Bytes, usize)>,
    /// Bytes taken from it so far.
    taken_bytes: u64,
    /// Messages skipped in it so far, as they were abandoned.
    skipped: u64,
    /// What was taken and dropped.
    dropped: Volume,
}

/// The state that receivers take turns at.
pub(crate) struct Head {
    /// The segment that is read, or will be next.
    segment: u64,
    /// The sequence of that segment's first message.
    first_message: u64,
    current: Option<Current>,
    pages: Pages,
    /// From segments that are done with.
    handed_out: Volume,
    dropped: Volume,
}

impl Head {
    pub(crate) fn new(first_sequence: u64) -> Self {
        Self {
            segment: first_sequence,
            first_message: first_sequence,
            current: None,
            pages: Pages::default(),
            handed_out: Volume::default(),
            dropped: Volume::default(),
        }
    }

    /// Finds the next message, sealing the active segment if it has to be and may be.
    pub(crate) fn look(&mut self, core: &Core, after: &mut Aftermath) -> Outlook {
        loop {
            if self.current.is_some() {
                if let Some(outlook) = self.look_at_current(core, after) {
                    return outlook;
                }
            }
            let place = core.pending().place(self.segment);
            let state = place.load();
            match state.kind() {
                Kind::Sealed => self.adopt(core, state),
                Kind::Open if state.messages() > 0 && core.on_demand() => {
                    gather(state, || place.load());
                    core.seal(self.segment, Switch::OnDemand);
                }
                Kind::Closed => return Outlook::Closed,
                Kind::Open | Kind::Ready => return Outlook::Empty,
            }
        }
    }

    /// Nothing if the current segment is done with.
    fn look_at_current(&mut self, core: &Core, after: &mut Aftermath) -> Option<Outlook> {
        let current = self.current.as_mut()?;
        while current.claim.remaining() > 0 {
            if current.claim.readable() == 0 {
                current.run = None;
                if !wait_briefly(|| current.claim.look() > 0) {
                    return Some(Outlook::Stalled);
                }
            }
            if !matches!(current.claim.get(0), Content::Abandoned) {
                return Some(Outlook::Readable);
            }
            current.claim.advance();
            current.skipped += 1;
        }
        self.retire(core, after);
        None
    }

    /// Starts to read the segment at the head, which is sealed.
    fn adopt(&mut self, core: &Core, state: State) {
        // Whoever sealed it may not have got to that yet, and writers look for the place that `active` names.
        core.pending().advance(self.segment);
        let number = state.segment().expect("a sealed place names its segment");
        let lease = Lease::adopt(Arc::clone(core.pool()), number, state.messages());
        let claim = Claim::new(lease, state.messages());
        self.current =
            Some(Current { claim, state, run: None, taken_bytes: 0, skipped: 0, dropped: Volume::default() });
    }

    /// Leaves the current segment behind, all of which was taken.
    fn retire(&mut self, core: &Core, after: &mut Aftermath) {
        let Some(current) = self.current.take() else { return };
        core.pending().retire(self.segment);
        after.retired = true;
        self.segment = self.segment.wrapping_add(1);
        self.first_message = self.first_message.wrapping_add(current.state.messages() as u64);
        let handed_out = current.handed_out();
        self.handed_out.messages += handed_out.messages;
        self.handed_out.bytes += handed_out.bytes;
        drop(current.run);
        let lease = current.claim.into_segment();
        lease.retire();
        after.recycled += usize::from(lease.recycle_quietly());
    }

    /// Notes that the next message was taken.
    fn took(&mut self, core: &Core, bytes: usize, after: &mut Aftermath) {
        let Some(current) = &mut self.current else { return };
        current.taken_bytes += bytes as u64;
        if current.claim.remaining() == 0 {
            self.retire(core, after);
        }
    }

    /// Takes the next message where that needs nothing but a slice or a small copy, and is not the last that
    /// is known to be readable: the way of nearly all messages.
    #[inline]
    pub(crate) fn take_quickly(&mut self, mode: ReadMode) -> Option<Bytes> {
        let current = self.current.as_mut()?;
        if current.claim.readable() < 2 {
            return None;
        }
        let Content::Inline(bytes, offset) = current.claim.get(0) else { return None };
        let message = match mode {
            ReadMode::ZeroCopy => {
                let (run, start) = current.run.as_ref()?;
                run.slice(offset - start..offset - start + bytes.len())
            }
            ReadMode::Safe => self.pages.try_copy(bytes)?,
        };
        current.taken_bytes += message.len() as u64;
        current.claim.advance();
        Some(message)
    }

    /// Takes the next message; [`look`](Self::look) has found it readable.
    pub(crate) fn take(&mut self, core: &Core, mode: ReadMode, after: &mut Aftermath) -> Bytes {
        let current = self.current.as_mut().expect("a readable message has a segment");
        let message = match current.claim.take_attached() {
            Some(payload) => {
                after.released += payload.len();
                payload
            }
            None => {
                let Content::Inline(bytes, _) = current.claim.get(0) else {
                    unreachable!("neither padding nor attached")
                };
                let lent = match mode {
                    ReadMode::ZeroCopy => true,
                    ReadMode::Safe => is_lent(core, bytes.len(), current.claim.segment()),
                };
                let message = if lent { current.lend() } else { self.pages.copy(bytes) };
                current.claim.advance();
                message
            }
        };
        self.took(core, message.len(), after);
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
        let claim = current.claim.split(current.claim.whole_messages(limit));
        let first = self.first_message.wrapping_add(claim.position() as u64);
        let payload = claim.payload();
        current.taken_bytes += payload.bytes as u64;
        after.released += payload.attached_bytes;
        if current.claim.remaining() == 0 {
            self.retire(core, after);
        }
        Batch::new(claim, first, payload.bytes, mode)
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
        let current = self.current.as_mut().expect("a readable message has a segment");
        let len = match current.claim.take_attached() {
            Some(payload) => {
                let len = payload.len();
                after.released += len;
                after.discarded.push(payload);
                len
            }
            None => {
                let Content::Inline(bytes, _) = current.claim.get(0) else {
                    unreachable!("neither padding nor attached")
                };
                let len = bytes.len();
                current.claim.advance();
                len
            }
        };
        current.dropped.add(1, len);
        self.dropped.add(1, len);
        self.took(core, len, after);
    }

    /// Asks the writer of the next message for a wake; false if it has committed meanwhile.
    pub(crate) fn await_commit(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.claim.await_commit())
    }

    /// Asks the writer of the next message for a wake; false if there is one already.
    pub(crate) fn await_message(&self, core: &Core) -> bool {
        core.pending().place(self.segment).await_message(self.segment)
    }

    /// Messages that another receiver could take at once.
    pub(crate) fn left(&self, core: &Core) -> usize {
        if let Some(current) = &self.current {
            return current.claim.remaining();
        }
        let state = core.pending().place(self.segment).load();
        match state.kind() {
            Kind::Sealed => state.messages(),
            Kind::Open if core.on_demand() => state.messages(),
            _ => 0,
        }
    }

    pub(crate) fn handed_out(&self) -> Volume {
        let current = self.current.as_ref().map_or_else(Volume::default, Current::handed_out);
        Volume {
            messages: self.handed_out.messages + current.messages,
            bytes: self.handed_out.bytes + current.bytes,
        }
    }

    pub(crate) fn dropped(&self) -> Volume {
        self.dropped
    }

    pub(crate) fn segment(&self) -> u64 {
        self.segment
    }

    /// What was already taken of the segment at the head; `None` while nobody reads it.
    pub(crate) fn taken(&self) -> Option<(State, Volume)> {
        self.current.as_ref().map(|current| (current.state, current.taken()))
    }

    pub(crate) fn has_pages(&self) -> bool {
        !self.pages.is_empty()
    }

    pub(crate) fn drop_pages(&mut self) {
        self.pages = Pages::default();
    }
}

impl Current {
    /// Messages taken from the segment, handed out or dropped.
    fn taken(&self) -> Volume {
        Volume { messages: self.claim.position() as u64 - self.skipped, bytes: self.taken_bytes }
    }

    fn handed_out(&self) -> Volume {
        let taken = self.taken();
        Volume { messages: taken.messages - self.dropped.messages, bytes: taken.bytes - self.dropped.bytes }
    }

    /// The next message as a slice of its segment.
    fn lend(&mut self) -> Bytes {
        let Content::Inline(bytes, offset) = self.claim.get(0) else {
            unreachable!("neither padding nor attached")
        };
        let len = bytes.len();
        let last = self.claim.readable() == 1;
        let (run, start) = match self.run.take() {
            Some(run) => run,
            None => {
                let (run, start) = self.claim.run();
                (Bytes::from_owner(run), start)
            }
        };
        let from = offset - start;
        if last {
            // The run itself serves as the slice of its last message: nobody needs it any more.
            let mut message = run;
            message.advance(from);
            message.truncate(len);
            return message;
        }
        let message = run.slice(from..from + len);
        self.run = Some((run, start));
        message
    }
}

/// Safe mode's rule; see [`ReadMode::Safe`].
pub(crate) fn is_lent(core: &Core, len: usize, lease: &Lease) -> bool {
    len > LENT_ABOVE || (len >= SMALL_BELOW && core.may_lend(lease))
}

/// Looks again a few times before giving up; never on one core, where the other side could not run meanwhile.
fn wait_briefly(mut done: impl FnMut() -> bool) -> bool {
    if done() {
        return true;
    }
    for _ in 0..spin_limit() {
        spin_loop();
        if done() {
            return true;
        }
    }
    false
}

/// Lets the active segment gather more messages while it grows, for a few microseconds at most.
///
/// Sealing two or three at a time costs both sides more than the messages themselves.
fn gather(mut seen: State, mut load: impl FnMut() -> State) {
    if seen.messages() < 2 {
        return;
    }
    let mut pause = 8;
    while pause <= 2 * spin_limit() {
        for _ in 0..pause {
            spin_loop();
        }
        let now = load();
        if now.messages() <= seen.messages() || now.messages() >= GATHERED || !now.is_open() {
            return;
        }
        seen = now;
        // Each look takes the word's cache line away from the writers.
        pause *= 2;
    }
}
