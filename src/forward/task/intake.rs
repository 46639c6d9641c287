//! Taking messages out of the channel, one by one or as packs.

use std::task::{Context, Poll};

use super::{MAX_PAYLOADS, Phase, Readiness, Running};
use crate::forward::destination::{Destination, Outgoing};
use crate::forward::error::Rejection;
use crate::forward::packing::{Packed, Packer};
use crate::forward::window::State;

impl<D: Destination> Running<D> {
    /// Takes messages out of the channel while the window has room; returns whether it has taken any.
    ///
    /// A window that was full is refilled once an eighth of it is free. Its confirmations arrive one by one. Messages that
    /// were taken and published one by one, too, would cost the client a write each, and the rest of the window keeps
    /// the engine busy meanwhile.
    pub(super) fn take(&mut self, cx: &mut Context<'_>) -> bool {
        self.is_full &= !self.window.has_room_to_refill();
        if self.is_full {
            return false;
        }
        let mut progressed = false;
        while self.work.taken < MAX_PAYLOADS {
            let has_taken = if self.packer.is_some() { self.take_pack(cx) } else { self.take_one(cx) };
            if !has_taken {
                break;
            }
            progressed = true;
            self.work.taken += 1;
        }
        progressed
    }

    /// Has the next message in `carried`, if there is one.
    fn carry_next(&mut self, cx: &mut Context<'_>) -> bool {
        if self.carried.is_none() && !self.is_drained {
            match self.receiver.poll_recv_retained(cx) {
                Poll::Ready(Some(message)) => self.carried = Some(message),
                Poll::Ready(None) => self.is_drained = true,
                Poll::Pending => {}
            }
        }
        self.carried.is_some()
    }

    fn take_one(&mut self, cx: &mut Context<'_>) -> bool {
        // Checked before a message is taken: at most one is carried.
        if !self.window.has_room(1, 0) {
            self.is_full = true;
            return false;
        }
        if !self.carry_next(cx) {
            return false;
        }
        let window = &self.window;
        let Some(message) = self.carried.take_if(|message| window.has_room(1, message.len())) else {
            self.is_full = true;
            return false;
        };
        self.push(Packed::unpacked(message), State::Waiting);
        true
    }

    /// Whether a pack can be published once it is built. Until then, its messages gather in the channel.
    ///
    /// An empty window takes one pack in any case: the time until the forwarder gives up begins with it.
    fn is_pack_due(&mut self) -> bool {
        let may_publish = self.phase == Phase::Publishing
            && self.readiness != Readiness::Pending
            && self.window.published() < self.max_published.unwrap_or(1);
        self.window.is_empty() || (may_publish && self.window.next_waiting().is_none())
    }

    /// Takes one pack, of what the channel has ready.
    fn take_pack(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(packer) = &self.packer else { return false };
        let max_payload = self.destination.max_payload().unwrap_or(usize::MAX).min(packer.max_bytes());
        let may_begin = self.window.has_room_for_pack(max_payload) && self.is_pack_due();
        if !may_begin || !self.carry_next(cx) {
            return false;
        }
        let (window, Some(packer)) = (&self.window, &mut self.packer) else { return false };
        let Some(first) = self.carried.take_if(|first| window.has_room(1, packer.len_alone(first.len())))
        else {
            return false;
        };
        if !packer.is_packable(first.len()) {
            let rejection = Rejection::new("a message of 4 GiB or more has no length of 32 bits");
            self.push(Packed::unpacked(first), State::Rejected(rejection));
            return true;
        }
        packer.start(first);
        while self.carry_next(cx) && self.add_to_pack(max_payload) {}
        if let Some(packed) = self.packer.as_mut().and_then(Packer::finish) {
            self.push(packed, State::Waiting);
        }
        true
    }

    /// Moves the carried message into the pack, if it fits; returns whether it did.
    fn add_to_pack(&mut self, max_payload: usize) -> bool {
        let (Some(next), Some(packer)) = (&self.carried, &mut self.packer) else { return false };
        let Some(first) = packer.first() else { return false };
        let fits = packer.len_with(next).is_some_and(|len| {
            len <= max_payload && self.window.has_room_in_pack(packer.messages() + 1, len)
        });
        if !fits || !self.destination.may_pack(first, next) {
            return false;
        }
        packer.add(next);
        self.carried = None;
        true
    }

    fn push(&mut self, packed: Packed, state: State<D::Receipt>) {
        let outgoing = self.outgoing(packed);
        self.next_sequence += outgoing.messages as u64;
        self.window.push(outgoing, state, self.now);
        let stats = &mut self.stats;
        stats.peak_in_flight_messages = stats.peak_in_flight_messages.max(self.window.messages() as u64);
        stats.peak_in_flight_bytes = stats.peak_in_flight_bytes.max(self.window.bytes() as u64);
    }

    pub(super) fn outgoing(&self, packed: Packed) -> Outgoing {
        let Packed { payload, first_offset, first_len, messages } = packed;
        let (sequence, id_prefix) = (self.next_sequence, self.id_prefix.clone());
        Outgoing { payload, first_len, first_offset, messages, sequence, id_prefix }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.is_drained && self.carried.is_none() && self.window.is_empty()
    }
}
