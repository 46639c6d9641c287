//! Operations that create and drop handles.

use std::cell::RefCell;
use std::rc::Rc;

use turbostream::{Receiver, Sender};

use crate::ops::Op;
use crate::world::{ReceiverState, SenderState, SharedReceiver, SinkState, World};

const MAX_SENDERS: usize = 4;
const MAX_RECEIVERS: usize = 3;

impl World {
    pub(crate) fn manage_handles(&mut self, op: Op) {
        match op {
            Op::CloneSender { handle } => {
                let Some((_, tx)) = self.sender(handle) else { return };
                self.add_sender(Sender::clone(&tx));
            }
            Op::DropSender { handle } if !self.senders.is_empty() => {
                let SenderState { id, tx } = self.senders.swap_remove(handle % self.senders.len());
                self.cancel_all_of(id);
                if Rc::try_unwrap(tx).is_ok() {
                    self.sender_left();
                }
            }
            Op::AddSink { handle } => {
                let Some((_, tx)) = self.sender(handle) else { return };
                if self.senders.len() + self.sinks.len() < MAX_SENDERS {
                    self.model.senders += 1;
                    let tx = Sender::clone(&tx);
                    self.sinks.push(SinkState { tx, released: false, is_waiting: false, flag: None });
                }
            }
            Op::DropSink { handle } if !self.sinks.is_empty() => {
                let sink = self.sinks.swap_remove(handle % self.sinks.len());
                let held = !sink.released;
                drop(sink);
                if held {
                    self.sender_left();
                }
            }
            Op::CloneReceiver { handle } => {
                let Some(which) = self.receiver(handle) else { return };
                if self.receivers.len() + self.callbacks.len() < MAX_RECEIVERS {
                    self.model.receivers += 1;
                    let rx = self.receivers[which].rx.borrow().clone();
                    self.model.give_back(self.receivers[which].id);
                    self.add_receiver(rx);
                }
            }
            Op::DropReceiver { handle } => {
                if let Some(Ok(rx)) = self.take_receiver(handle) {
                    self.drop_receiver(rx);
                }
            }
            op => self.manage_other_handles(op),
        }
    }

    pub(crate) fn manage_other_handles(&mut self, op: Op) {
        match op {
            Op::Downgrade { handle } => {
                let Some((_, tx)) = self.sender(handle) else { return };
                self.weak.push(tx.downgrade());
            }
            Op::Upgrade { which } if !self.weak.is_empty() => {
                let upgraded = self.weak[which % self.weak.len()].upgrade();
                assert_eq!(upgraded.is_some(), self.model.senders > 0);
                if let Some(tx) = upgraded {
                    self.add_sender(tx);
                }
            }
            Op::Callback { handle, batch } => self.register(handle, batch),
            Op::Unregister { which } if !self.callbacks.is_empty() => self.unregister(which),
            _ => {}
        }
    }

    pub(crate) fn sender(&self, handle: usize) -> Option<(usize, Rc<Sender>)> {
        let sender = self.senders.get(handle % self.senders.len().max(1))?;
        Some((sender.id, Rc::clone(&sender.tx)))
    }

    pub(crate) fn sink(&self, handle: usize) -> Option<usize> {
        (!self.sinks.is_empty()).then(|| handle % self.sinks.len())
    }

    pub(crate) fn receiver(&self, handle: usize) -> Option<usize> {
        (!self.receivers.is_empty()).then(|| handle % self.receivers.len())
    }

    pub(crate) fn id(&mut self) -> usize {
        self.next_id += 1;
        self.next_id as usize
    }

    pub(crate) fn add_sender(&mut self, tx: Sender) {
        if self.senders.len() + self.sinks.len() < MAX_SENDERS {
            let id = self.id();
            self.model.senders += 1;
            self.senders.push(SenderState { id, tx: Rc::new(tx) });
        }
    }

    pub(crate) fn sender_left(&mut self) {
        self.model.senders -= 1;
        if self.model.senders == 0 {
            self.closed();
        }
    }

    pub(crate) fn closed(&mut self) {
        self.model.closed = true;
        self.model.switched();
    }

    pub(crate) fn add_receiver(&mut self, rx: Receiver) {
        let id = self.id();
        self.receivers.push(ReceiverState { id, rx: Rc::new(RefCell::new(rx)), polled: None });
    }

    /// Takes a receiver that no future borrows; returns it as `Err` if a forgotten future still does.
    pub(crate) fn take_receiver(&mut self, handle: usize) -> Option<Result<Receiver, SharedReceiver>> {
        let which = self.receiver(handle)?;
        let ReceiverState { id, rx, .. } = self.receivers.swap_remove(which);
        self.cancel_all_of(id);
        // It is dropped, or a callback takes it over.
        self.model.give_back(id);
        Some(Rc::try_unwrap(rx).map(RefCell::into_inner).inspect_err(|rx| {
            self.forgotten_receivers += 1;
            // Nothing takes from it any more: a clone has it give back what it has taken ahead.
            drop(rx.borrow().clone());
        }))
    }

    pub(crate) fn drop_receiver(&mut self, rx: Receiver) {
        drop(rx);
        self.model.receivers -= 1;
        if self.model.receivers == 0 {
            self.closed();
            if self.model.len() > 0 {
                self.discarded_from = self.model.front();
            }
            self.model.discard();
        }
    }

    /// Returns whether a message before this ordinal was dropped with the last receiver.
    pub(crate) fn discarded_before(&self, ordinal: u64) -> bool {
        self.discarded_from.is_some_and(|from| from < ordinal)
    }
}
