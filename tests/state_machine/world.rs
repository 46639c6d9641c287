//! A channel and its model side by side.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use turbostream::{Callback, Monitor, ReadMode, Receiver, Sender, TryRecvError, WeakSender};

use crate::model::{Kept, Model};
use crate::ops::{AnyStrategy, Op, Setup};
use crate::pending::{BoxedFuture, Flag, FutureKind, Outcome, Pending, WaitingSender};

pub(crate) struct SenderState {
    pub(crate) id: usize,
    pub(crate) tx: Rc<Sender>,
}

/// A receiver, shared by the futures that take from clones of it.
pub(crate) type SharedReceiver = Rc<RefCell<Receiver>>;

pub(crate) struct ReceiverState {
    pub(crate) id: usize,
    pub(crate) rx: SharedReceiver,
    /// The flag that `poll_recv` sets when it is woken.
    pub(crate) polled: Option<Arc<Flag>>,
}

pub(crate) struct SinkState {
    pub(crate) tx: Sender,
    pub(crate) released: bool,
    /// Whether it has a place among the senders that wait: from a poll that was pending until it sends.
    pub(crate) is_waiting: bool,
    /// The flag that is set when the sink is woken for room.
    pub(crate) flag: Option<Arc<Flag>>,
}

pub(crate) struct World {
    pub(crate) setup: Setup,
    pub(crate) model: Model,
    pub(crate) monitor: Monitor,
    pub(crate) senders: Vec<SenderState>,
    pub(crate) sinks: Vec<SinkState>,
    pub(crate) weak: Vec<WeakSender>,
    pub(crate) receivers: Vec<ReceiverState>,
    pub(crate) callbacks: Vec<Callback>,
    pub(crate) called: Arc<Mutex<Vec<Bytes>>>,
    pub(crate) pending: Vec<Pending>,
    pub(crate) forgotten: Vec<BoxedFuture>,
    pub(crate) forgotten_senders: Vec<WaitingSender>,
    pub(crate) forgotten_receivers: usize,
    pub(crate) kept: Vec<Kept>,
    pub(crate) next_id: u32,
    switches: u64,
    /// How many futures were started.
    pub(crate) started: usize,
    /// The first message that was dropped with the last receiver, as far as that is known.
    pub(crate) discarded_from: Option<u64>,
}

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        let (tx, rx) = setup.builder().build().expect("a valid configuration");
        let mut world = Self {
            setup,
            model: Model::new(),
            monitor: tx.monitor(),
            senders: vec![SenderState { id: 0, tx: Rc::new(tx) }],
            sinks: Vec::new(),
            weak: Vec::new(),
            receivers: vec![ReceiverState { id: 1, rx: Rc::new(RefCell::new(rx)), polled: None }],
            callbacks: Vec::new(),
            called: Arc::default(),
            pending: Vec::new(),
            forgotten: Vec::new(),
            forgotten_senders: Vec::new(),
            forgotten_receivers: 0,
            kept: Vec::new(),
            next_id: 1,
            switches: 0,
            started: 0,
            discarded_from: None,
        };
        for _ in 1..world.setup.receivers {
            world.manage_handles(Op::CloneReceiver { handle: 0 });
        }
        world
    }

    pub(crate) async fn apply(&mut self, op: &Op) {
        match op.clone() {
            Op::Send { handle, by, len, owned } => self.send(handle, by, len, owned),
            Op::SendMany { handle, lens } => self.send_many(handle, &lens),
            Op::SendWith { handle, max_len, len, ending } => self.send_with(handle, max_len, len, ending),
            Op::SinkSend { handle, len } => self.sink_send(handle, len),
            Op::SinkFlush { handle } => self.flush_sink(handle, false),
            Op::SinkClose { handle } => self.flush_sink(handle, true),
            Op::Recv { handle, by, keep } => self.recv(handle, by, keep),
            Op::Take { handle, by, keep } => self.take(handle, by, keep),
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
                self.drain_called();
            }
            Op::Settle => self.settle().await,
            op => self.manage(op),
        }
        self.check();
    }

    fn manage(&mut self, op: Op) {
        match op {
            Op::Switch { handle } => {
                let Some((_, tx)) = self.sender(handle) else { return };
                tx.switch();
                self.model.switched();
            }
            Op::Drained { handle } => self.drained(handle),
            Op::Closed { handle } => {
                let Some((owner, tx)) = self.sender(handle) else { return };
                self.start(owner, FutureKind::Closed, false, async move {
                    tx.closed().await;
                    Outcome::Closed
                });
            }
            Op::SetStrategy { handle, strategy } => {
                let Some((_, tx)) = self.sender(handle) else { return };
                tx.set_strategy(AnyStrategy::new(strategy));
            }
            Op::SetReadMode { handle, zero_copy } => {
                let Some(which) = self.receiver(handle) else { return };
                self.receivers[which].rx.borrow().set_read_mode(if zero_copy {
                    ReadMode::ZeroCopy
                } else {
                    ReadMode::Safe
                });
            }
            Op::CloseReceiver { handle } => {
                let Some(which) = self.receiver(handle) else { return };
                self.receivers[which].rx.borrow().close();
                self.closed();
            }
            op => self.manage_handles(op),
        }
    }

    fn drained(&mut self, handle: usize) {
        let Some((owner, tx)) = self.sender(handle) else { return };
        let kind = FutureKind::Drained { ordinal: self.model.accepted.messages };
        self.model.switched();
        self.start(owner, kind, false, async move { Outcome::Drained(tx.drained().await.is_ok()) });
    }

    /// After a switch since the last call, accepted messages may be readable.
    pub(crate) fn note_switches(&mut self) {
        let switches = self.monitor.stats().switches.total();
        if self.setup.on_demand {
            self.model.switched();
        } else if std::mem::replace(&mut self.switches, switches) != switches {
            self.model.maybe_switched();
        }
    }

    /// Checks the statistics and the number of waiters after each step.
    fn check(&mut self) {
        self.note_switches();
        let stats = self.monitor.stats();
        self.model.check(&stats);
        let sending = self.pending.iter().filter(|pending| pending.kind.sends()).count();
        let sinking = self.sinks.iter().filter(|sink| sink.is_waiting).count();
        assert_eq!(
            stats.waiting_senders,
            sending + sinking + self.forgotten_senders.len(),
            "waiting senders"
        );
        let receiving =
            self.pending.iter().filter(|pending| pending.kind.receives()).map(|pending| &pending.flag);
        let polled = self.receivers.iter().filter_map(|receiver| receiver.polled.as_ref());
        let flags: Vec<_> = receiving.chain(polled).collect();
        // Those that were woken for a message have left the list; a time limit wakes too.
        let asleep = flags.iter().filter(|flag| !flag.is_set()).count();
        assert!(
            stats.waiting_receivers >= asleep,
            "{} waiting receivers of {asleep}",
            stats.waiting_receivers
        );
        let most = flags.len() + self.callbacks.len() + self.forgotten_receivers;
        assert!(stats.waiting_receivers <= most, "{} waiting receivers of {most}", stats.waiting_receivers);
        if let Some(SenderState { tx, .. }) = self.senders.first() {
            assert_eq!((tx.len(), tx.is_empty()), (self.model.len(), self.model.len() == 0));
            assert_eq!(tx.is_closed(), self.model.closed);
        }
    }

    /// Receives the remaining messages, and checks that all memory is freed.
    pub(crate) async fn end(mut self) {
        self.settle().await;
        self.pending.clear();
        while !self.callbacks.is_empty() {
            self.unregister(0);
        }
        while !self.sinks.is_empty() {
            self.manage_handles(Op::DropSink { handle: 0 });
        }
        while !self.senders.is_empty() {
            self.manage_handles(Op::DropSender { handle: 0 });
        }
        let receivers: Vec<_> =
            self.receivers.iter().map(|receiver| (receiver.id, Rc::clone(&receiver.rx))).collect();
        for (id, rx) in &receivers {
            let take = |rx: &SharedReceiver| rx.borrow_mut().try_recv().ok();
            if !self.model.closed {
                rx.borrow().close();
                self.closed();
            }
            while let Some(message) = take(rx) {
                self.received_by(*id, Some(message), false, false);
            }
        }
        // Only now: each waits for the end until no other handle has a message left.
        for (_, rx) in &receivers {
            assert_eq!(rx.borrow_mut().try_recv(), Err(TryRecvError::Closed));
        }
        assert!(receivers.is_empty() || self.model.len() == 0, "messages were lost");
        drop(receivers);
        while !self.receivers.is_empty() {
            self.manage_handles(Op::DropReceiver { handle: 0 });
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
