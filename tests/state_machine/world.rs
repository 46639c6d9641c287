//! A channel and its reference side by side.

use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt};
use tokio::time::Instant;
use turbostream::{
    Batch, Callback, Monitor, ReadMode, Receiver, RecvTimeoutError, Sender, TryRecvError, WeakSender,
};

use crate::model::{Kept, Model};
use crate::ops::{AnyStrategy, Op, RecvBy, Setup};
use crate::pending::{Flag, Outcome, Pending, What};

const MOST_SENDERS: usize = 4;
const MOST_RECEIVERS: usize = 3;

pub(crate) struct Sending {
    id: usize,
    tx: Rc<Sender>,
}

pub(crate) struct Receiving {
    id: usize,
    rx: Rc<Receiver>,
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
    senders: Vec<Sending>,
    pub(crate) sinks: Vec<Sinking>,
    weak: Vec<WeakSender>,
    pub(crate) receivers: Vec<Receiving>,
    pub(crate) callbacks: Vec<Callback>,
    pub(crate) called: Arc<Mutex<Vec<Bytes>>>,
    pub(crate) pending: Vec<Pending>,
    pub(crate) forgotten_senders: usize,
    pub(crate) forgotten_receivers: usize,
    pub(crate) kept: Vec<Kept>,
    pub(crate) next_id: u32,
    switches: u64,
    /// From the first message on that was dropped because the last receiver had left, as far as that is known.
    discarded_from: Option<u64>,
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

    fn manage_handles(&mut self, op: Op) {
        match op {
            Op::CloneSender { who } => {
                let Some((_, tx)) = self.sender(who) else { return };
                self.add_sender(Sender::clone(&tx));
            }
            Op::DropSender { who } if !self.senders.is_empty() => {
                let Sending { id, tx } = self.senders.swap_remove(who % self.senders.len());
                self.cancel_all_of(id);
                if Rc::try_unwrap(tx).is_ok() {
                    self.sender_left();
                }
            }
            Op::AddSink { who } => {
                let Some((_, tx)) = self.sender(who) else { return };
                if self.senders.len() + self.sinks.len() < MOST_SENDERS {
                    self.model.senders += 1;
                    let tx = Sender::clone(&tx);
                    self.sinks.push(Sinking { tx, released: false, parked: None, flag: None });
                }
            }
            Op::DropSink { who } if !self.sinks.is_empty() => {
                let sink = self.sinks.swap_remove(who % self.sinks.len());
                let held = !sink.released;
                drop(sink);
                if held {
                    self.sender_left();
                }
            }
            Op::CloneReceiver { who } => {
                let Some(which) = self.receiver(who) else { return };
                if self.receivers.len() + self.callbacks.len() < MOST_RECEIVERS {
                    self.model.receivers += 1;
                    let rx = Receiver::clone(&self.receivers[which].rx);
                    self.add_receiver(rx);
                }
            }
            Op::DropReceiver { who } => {
                if let Some(Ok(rx)) = self.take_receiver(who) {
                    self.drop_receiver(rx);
                }
            }
            op => self.manage_other_ends(op),
        }
    }

    fn manage_other_ends(&mut self, op: Op) {
        match op {
            Op::Downgrade { who } => {
                let Some((_, tx)) = self.sender(who) else { return };
                self.weak.push(tx.downgrade());
            }
            Op::Upgrade { which } if !self.weak.is_empty() => {
                let upgraded = self.weak[which % self.weak.len()].upgrade();
                assert_eq!(upgraded.is_some(), self.model.senders > 0);
                if let Some(tx) = upgraded {
                    self.add_sender(tx);
                }
            }
            Op::Callback { who, batch } => self.register(who, batch),
            Op::Unregister { which } if !self.callbacks.is_empty() => self.unregister(which),
            _ => {}
        }
    }

    pub(crate) fn sender(&self, who: usize) -> Option<(usize, Rc<Sender>)> {
        let sender = self.senders.get(who % self.senders.len().max(1))?;
        Some((sender.id, Rc::clone(&sender.tx)))
    }

    pub(crate) fn sink(&self, who: usize) -> Option<usize> {
        (!self.sinks.is_empty()).then(|| who % self.sinks.len())
    }

    fn receiver(&self, who: usize) -> Option<usize> {
        (!self.receivers.is_empty()).then(|| who % self.receivers.len())
    }

    fn id(&mut self) -> usize {
        self.next_id += 1;
        self.next_id as usize
    }

    fn add_sender(&mut self, tx: Sender) {
        if self.senders.len() + self.sinks.len() < MOST_SENDERS {
            let id = self.id();
            self.model.senders += 1;
            self.senders.push(Sending { id, tx: Rc::new(tx) });
        }
    }

    pub(crate) fn sender_left(&mut self) {
        self.model.senders -= 1;
        if self.model.senders == 0 {
            self.closed();
        }
    }

    fn closed(&mut self) {
        self.model.closed = true;
        self.model.switched();
    }

    fn add_receiver(&mut self, rx: Receiver) {
        let id = self.id();
        self.receivers.push(Receiving { id, rx: Rc::new(rx), polled: None });
    }

    /// A receiver with nothing under way; or not, if a future of it was forgotten.
    fn take_receiver(&mut self, who: usize) -> Option<Result<Receiver, Rc<Receiver>>> {
        let which = self.receiver(who)?;
        let Receiving { id, rx, .. } = self.receivers.swap_remove(which);
        self.cancel_all_of(id);
        Some(Rc::try_unwrap(rx).inspect_err(|_| self.forgotten_receivers += 1))
    }

    fn drop_receiver(&mut self, rx: Receiver) {
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

    /// Whether something before this ordinal was dropped because nobody was left to read it.
    pub(crate) fn discarded_before(&self, ordinal: u64) -> bool {
        self.discarded_from.is_some_and(|from| from < ordinal)
    }

    fn drained(&mut self, who: usize) {
        let Some((owner, tx)) = self.sender(who) else { return };
        let what = What::Drained { ordinal: self.model.accepted.messages };
        self.model.switched();
        self.start(owner, what, false, async move { Outcome::Drained(tx.drained().await.is_ok()) });
    }

    fn recv(&mut self, who: usize, by: RecvBy, keep: bool) {
        let Some(which) = self.receiver(who) else { return };
        let (owner, rx) = (self.receivers[which].id, Rc::clone(&self.receivers[which].rx));
        match by {
            RecvBy::Try => match rx.try_recv() {
                Ok(message) => self.received(Some(message), keep),
                Err(TryRecvError::Closed) => self.received(None, keep),
                Err(_) => assert!(!self.model.must_be_readable() && !self.model.must_be_ended(), "not empty"),
            },
            RecvBy::Wait => self.start(owner, What::Recv { deadline: None }, keep, async move {
                Outcome::Received(rx.recv().await)
            }),
            RecvBy::Timeout(limit) => {
                let deadline = Some(Instant::now() + limit);
                self.start(owner, What::Recv { deadline }, keep, async move {
                    match rx.recv_timeout(limit).await {
                        Ok(message) => Outcome::Received(Some(message)),
                        Err(RecvTimeoutError::Closed) => Outcome::Received(None),
                        Err(_) => Outcome::TimedOut,
                    }
                });
            }
            RecvBy::Poll | RecvBy::Stream => {
                drop(rx);
                self.poll_receiver(which, matches!(by, RecvBy::Stream), keep);
            }
            RecvBy::Batch(limit) => self.start(owner, What::RecvBatch { limit }, keep, async move {
                Outcome::ReceivedBatch(rx.recv_batch(limit).await)
            }),
            RecvBy::Batches(limit) => self.start(owner, What::RecvBatch { limit }, keep, async move {
                Outcome::ReceivedBatch(rx.batches(limit).next().await)
            }),
            RecvBy::Many(limit) => {
                let into = Rc::default();
                let what = What::RecvMany { limit, into: Rc::clone(&into) };
                self.start(owner, what, keep, async move {
                    let mut messages = Vec::new();
                    let count = rx.recv_many(&mut messages, limit).await;
                    into.replace(messages);
                    Outcome::ReceivedMany(count)
                });
            }
        }
    }

    pub(crate) fn poll_receiver(&mut self, which: usize, as_stream: bool, keep: bool) {
        let receiver = &mut self.receivers[which];
        let (flag, waker) = Flag::new();
        let mut cx = Context::from_waker(&waker);
        let polled = match Rc::get_mut(&mut receiver.rx) {
            Some(rx) if as_stream => std::pin::Pin::new(rx).poll_next(&mut cx),
            _ => receiver.rx.poll_recv(&mut cx),
        };
        receiver.polled = polled.is_pending().then_some(flag);
        match polled {
            Poll::Ready(message) => self.received(message, keep),
            Poll::Pending => {
                assert!(!self.model.must_be_readable() && !self.model.must_be_ended(), "not ready")
            }
        }
    }

    pub(crate) fn received(&mut self, message: Option<Bytes>, keep: bool) {
        self.note_switches();
        match message {
            Some(message) => {
                self.model.take(&message);
                self.keep(Kept::message(message), keep);
            }
            None => assert!(self.model.must_be_ended(), "ended early"),
        }
    }

    pub(crate) fn received_batch(&mut self, batch: Option<Batch>, limit: usize, keep: bool) {
        self.note_switches();
        match batch {
            Some(batch) => {
                assert!((1..=limit.max(1)).contains(&batch.len()));
                self.model.take_batch(&batch);
                self.keep(Kept::batch(batch), keep);
            }
            None => assert!(self.model.must_be_ended(), "ended early"),
        }
    }

    fn register(&mut self, who: usize, batch: bool) {
        let Some(Ok(rx)) = self.take_receiver(who) else { return };
        let called = Arc::clone(&self.called);
        self.callbacks.push(if batch {
            rx.on_batch(3, move |batch| called.lock().unwrap().extend(batch))
        } else {
            rx.on_message(move |message| called.lock().unwrap().push(message))
        });
    }

    fn unregister(&mut self, which: usize) {
        let callback = self.callbacks.swap_remove(which % self.callbacks.len());
        let rx = callback.unregister().now_or_never().expect("it is not being called");
        self.take_called();
        self.add_receiver(rx);
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
    }
}
