//! A channel and its reference side by side.

use std::rc::Rc;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use turbostream::{Callback, Monitor, ReadMode, Receiver, Sender, TryRecvError, WeakSender};

use crate::model::{Kept, Model};
use crate::ops::{AnyStrategy, Op, Setup};
use crate::pending::{Flag, Outcome, Pending, UnderWay, What};

pub(crate) struct Sending {
    pub(crate) id: usize,
    pub(crate) tx: Rc<Sender>,
}

pub(crate) struct Receiving {
    pub(crate) id: usize,
    pub(crate) rx: Rc<Receiver>,
    /// Where `poll_recv` is to tell of the next message.
    pub(crate) polled: Option<Arc<Flag>>,
}

pub(crate) struct Sinking {
    pub(crate) tx: Sender,
    pub(crate) released: bool,
    /// What `start_send` took and the channel did not, yet.
    pub(crate) parked: Option<crate::model::Message>,
    /// Where it is to be told of room.
    pub(crate) flag: Option<Arc<Flag>>,
}

pub(crate) struct World {
    pub(crate) setup: Setup,
    pub(crate) model: Model,
    pub(crate) monitor: Monitor,
    pub(crate) senders: Vec<Sending>,
    pub(crate) sinks: Vec<Sinking>,
    pub(crate) weak: Vec<WeakSender>,
    pub(crate) receivers: Vec<Receiving>,
    pub(crate) callbacks: Vec<Callback>,
    pub(crate) called: Arc<Mutex<Vec<Bytes>>>,
    pub(crate) pending: Vec<Pending>,
    pub(crate) forgotten: Vec<UnderWay>,
    pub(crate) forgotten_senders: usize,
    pub(crate) forgotten_receivers: usize,
    pub(crate) kept: Vec<Kept>,
    pub(crate) next_id: u32,
    switches: u64,
    /// From the first message on that was dropped because the last receiver had left, as far as that is known.
    pub(crate) discarded_from: Option<u64>,
}

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        let (tx, rx) = setup.builder().build().expect("a valid configuration");
        Self {
            setup,
            model: Model::new(),
            monitor: tx.monitor(),
            senders: vec![Sending { id: 0, tx: Rc::new(tx) }],
            sinks: Vec::new(),
            weak: Vec::new(),
            receivers: vec![Receiving { id: 1, rx: Rc::new(rx), polled: None }],
            callbacks: Vec::new(),
            called: Arc::default(),
            pending: Vec::new(),
            forgotten: Vec::new(),
            forgotten_senders: 0,
            forgotten_receivers: 0,
            kept: Vec::new(),
            next_id: 1,
            switches: 0,
            discarded_from: None,
        }
    }

    pub(crate) async fn apply(&mut self, op: &Op) {
        match op.clone() {
            Op::Send { who, by, len, owned } => self.send(who, by, len, owned),
            Op::SendMany { who, lens } => self.send_many(who, &lens),
            Op::SendWith { who, max_len, len, ending } => self.send_with(who, max_len, len, ending),
            Op::SinkSend { who, len } => self.sink_send(who, len),
            Op::SinkFlush { who } => self.flush_sink(who, false),
            Op::SinkClose { who } => self.flush_sink(who, true),
            Op::Recv { who, by, keep } => self.recv(who, by, keep),
            Op::Poll { which } if !self.pending.is_empty() => {
                let pending = self.pending.swap_remove(which % self.pending.len());
                let woken = pending.flag.take();
                self.poll(pending, woken);
            }
            Op::Poll { .. } => {}
            Op::Cancel { which } => self.cancel(which),
            Op::Forget { which } => self.forget(which),
            Op::DropKept { which } if !self.kept.is_empty() => {
                self.kept.swap_remove(which % self.kept.len()).check();
            }
            Op::DropKept { .. } => {}
            Op::Advance { by } => {
                tokio::time::advance(by).await;
                tokio::task::yield_now().await;
                self.take_called();
            }
            Op::Settle => self.settle().await,
            op => self.manage(op),
        }
        self.check();
    }

    fn manage(&mut self, op: Op) {
        match op {
            Op::Switch { who } => {
                let Some((_, tx)) = self.sender(who) else { return };
                tx.switch();
                self.model.switched();
            }
            Op::Drained { who } => self.drained(who),
            Op::Closed { who } => {
                let Some((owner, tx)) = self.sender(who) else { return };
                self.start(owner, What::Closed, false, async move {
                    tx.closed().await;
                    Outcome::Closed
                });
            }
            Op::SetStrategy { who, strategy } => {
                let Some((_, tx)) = self.sender(who) else { return };
                tx.set_strategy(AnyStrategy::new(strategy));
            }
            Op::SetReadMode { who, zero_copy } => {
                let Some(which) = self.receiver(who) else { return };
                self.receivers[which].rx.set_read_mode(if zero_copy {
                    ReadMode::ZeroCopy
                } else {
                    ReadMode::Safe
                });
            }
            Op::CloseReceiver { who } => {
                let Some(which) = self.receiver(who) else { return };
                self.receivers[which].rx.close();
                self.closed();
            }
            op => self.manage_handles(op),
        }
    }

    fn drained(&mut self, who: usize) {
        let Some((owner, tx)) = self.sender(who) else { return };
        let what = What::Drained { ordinal: self.model.accepted.messages };
        self.model.switched();
        self.start(owner, what, false, async move { Outcome::Drained(tx.drained().await.is_ok()) });
    }

    /// Where a switch was made since the last look, what was accepted may be readable.
    pub(crate) fn note_switches(&mut self) {
        let switches = self.monitor.stats().switches.total();
        if self.setup.on_demand {
            self.model.switched();
        } else if std::mem::replace(&mut self.switches, switches) != switches {
            self.model.maybe_switched();
        }
    }

    /// After each step: the figures, and who is counted as waiting.
    fn check(&mut self) {
        self.note_switches();
        let stats = self.monitor.stats();
        self.model.check(&stats);
        let sending = self.pending.iter().filter(|pending| pending.what.sends()).count();
        let sinking = self.sinks.iter().filter(|sink| sink.flag.is_some()).count();
        assert_eq!(stats.waiting_senders, sending + sinking + self.forgotten_senders, "waiting senders");
        let receiving = self.pending.iter().filter(|pending| pending.what.receives()).count();
        let polled = self.receivers.iter().filter(|receiver| receiver.polled.is_some()).count();
        let least = receiving + polled;
        assert!(stats.waiting_receivers >= least, "{} waiting receivers of {least}", stats.waiting_receivers);
        let most = least + self.callbacks.len() + self.forgotten_receivers;
        assert!(stats.waiting_receivers <= most, "{} waiting receivers of {most}", stats.waiting_receivers);
        if let Some(Sending { tx, .. }) = self.senders.first() {
            assert_eq!((tx.len(), tx.is_empty()), (self.model.len(), self.model.len() == 0));
            assert_eq!(tx.is_closed(), self.model.closed);
        }
    }

    /// What is left is received to the end, and then all memory is given back.
    pub(crate) async fn end(mut self) {
        self.settle().await;
        self.pending.clear();
        while !self.callbacks.is_empty() {
            self.unregister(0);
        }
        while !self.sinks.is_empty() {
            self.manage_handles(Op::DropSink { who: 0 });
        }
        while !self.senders.is_empty() {
            self.manage_handles(Op::DropSender { who: 0 });
        }
        if let Some(receiver) = self.receivers.first() {
            let rx = Rc::clone(&receiver.rx);
            if !self.model.closed {
                rx.close();
                self.closed();
            }
            while let Ok(message) = rx.try_recv() {
                self.received(Some(message), false);
            }
            assert_eq!(self.model.len(), 0, "messages were lost");
            assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
        }
        while !self.receivers.is_empty() {
            self.manage_handles(Op::DropReceiver { who: 0 });
        }
        self.kept.drain(..).for_each(Kept::check);
        self.check();
        assert!(self.model.senders > 0 || self.weak.iter().all(|weak| weak.upgrade().is_none()));
        let stats = self.monitor.stats();
        assert!(self.model.receivers > 0 || stats.memory_bytes() == 0, "{stats:?}");
        self.forgotten.clear();
        let stats = self.monitor.stats();
        assert_eq!((stats.memory_bytes(), stats.waiting_senders, stats.waiting_receivers), (0, 0, 0));
    }
}
