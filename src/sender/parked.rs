//! Items that a sink has taken while there was no room.
//!
//! `start_send` can neither wait nor refuse. The item becomes a *parked item*: a waiter in the list of senders that wait for
//! room, whose waker sends it. So the thread that makes room for the item sends it, whether the handle is polled or not.
//! Each use of the handle tries to send it too.
//! A parked item counts as queued, and as a sender: the channel does not close by the drop of the last handle before the
//! item is in it.
//!
//! ```text
//!   waiting ──wake──▶ trying ──sent─────────────▶ done
//!      ▲                │  └──channel closed────▶ done, with the item
//!      └───no room──────┘
//! ```

use std::mem;
use std::sync::PoisonError;
// `Wake` takes the `Arc` of std, also in models.
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;

use crate::channel::Core;
use crate::channel::source::PayloadSource;
use crate::queue::pool::room_waiters::RoomWaiter;
use crate::sync::{Arc as CoreArc, Mutex, MutexGuard};

pub(crate) struct ParkedItem {
    core: CoreArc<Core>,
    /// Its number among the parked items of the channel.
    id: u64,
    state: Mutex<State>,
}

struct State {
    step: Step,
    /// The task that polls the sink.
    owner: Option<Waker>,
}

enum Step {
    Waiting(Attempt),
    Trying {
        /// It was woken meanwhile, and has to try again.
        again: bool,
    },
    /// It was sent, or is here because the channel was closed first.
    Done(Option<Bytes>),
}

struct Attempt {
    source: PayloadSource<Bytes>,
    waiter: RoomWaiter,
}

impl ParkedItem {
    /// Parks an item, and tries to send it. It takes over the place of `waiter`.
    pub(super) fn park(core: &CoreArc<Core>, source: PayloadSource<Bytes>, waiter: RoomWaiter) -> Arc<Self> {
        core.add_sender();
        let id = core.parked().add(source.0.len());
        let attempt = Attempt { source, waiter };
        let state = State { step: Step::Waiting(attempt), owner: None };
        let parked = Arc::new(Self { core: CoreArc::clone(core), id, state: Mutex::new(state) });
        Arc::clone(&parked).wake();
        parked
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it was sent, or refused.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.lock().step, Step::Done(_))
    }

    /// Ready once the item was sent, or was refused because the channel is closed: then it is returned once.
    pub(super) fn poll_done(&self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        // A waker's `clone` and `drop` are user code, and run under no lock.
        let owner = cx.waker().clone();
        let mut state = self.lock();
        if let Step::Done(item) = &mut state.step {
            return Poll::Ready(item.take());
        }
        let replaced = state.owner.replace(owner);
        drop(state);
        self.core.drop_waker(replaced);
        Poll::Pending
    }

    /// Tries to send until there is no room and no wake since.
    fn send(self: &Arc<Self>) {
        let mut state = self.lock();
        let mut attempt = match mem::replace(&mut state.step, Step::Trying { again: false }) {
            Step::Waiting(attempt) => attempt,
            Step::Trying { .. } => return state.step = Step::Trying { again: true },
            done => return state.step = done,
        };
        drop(state);
        let waker = Waker::from(Arc::clone(self));
        let mut cx = Context::from_waker(&waker);
        loop {
            let Attempt { source, waiter } = &mut attempt;
            let demand = self.core.demand(source);
            let polled =
                self.core.poll_for_room(waiter, &mut cx, demand, |ticket| self.core.push(source, ticket));
            if let Poll::Ready(sent) = polled {
                return self.finish(attempt.source.0, sent.is_ok());
            }
            let mut state = self.lock();
            if !matches!(state.step, Step::Trying { again: true }) {
                return state.step = Step::Waiting(attempt);
            }
            state.step = Step::Trying { again: false };
        }
    }

    fn finish(&self, item: Bytes, sent: bool) {
        let (sent, refused) = if sent { (Some(item), None) } else { (None, Some(item)) };
        self.core.parked().remove(self.id);
        let mut state = self.lock();
        state.step = Step::Done(refused);
        let owner = state.owner.take();
        drop(state);
        // Later sends of the handle may wait for this item, and drainers too.
        self.core.wake_senders();
        self.core.wake_drainers();
        if let Some(owner) = owner {
            self.core.wake_owner(owner);
        }
        self.core.remove_sender();
        // Last: the drop of a payload that was copied is user code, which may panic.
        self.core.drop_payload(sent);
    }
}

impl Wake for ParkedItem {
    fn wake(self: Arc<Self>) {
        self.send();
    }
}

impl Drop for ParkedItem {
    fn drop(&mut self) {
        // Its handle is gone: the message was accepted, and cannot be received any more.
        if let Step::Done(Some(item)) = mem::replace(&mut self.lock().step, Step::Done(None)) {
            self.core.count_dropped(item.len());
            self.core.drop_payload(item);
        }
    }
}
