//! The reading end as a callback: a task that hands over each message.

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::ops::Deref;
use std::sync::PoisonError;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::receiver::Receiver;
use crate::receiver::batch::Batch;
use crate::sync::{Arc, AtomicBool, Mutex, MutexGuard, Ordering};
use crate::wait::wait_list::WaitList;

/// A function that gets the messages of a [`Receiver`]; see [`Receiver::on_message`] and [`Receiver::on_batch`].
///
/// Dropping it leaves the function registered, as dropping a [`JoinHandle`] leaves its task running.
pub struct Callback {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Has `callback` called with each message from now on, one after the other in the order in which they were
    /// accepted, until it is [unregistered](Callback::unregister) or the channel is closed and drained.
    ///
    /// A task on the channel's runtime does it: the one that the channel was built in, or
    /// [`Builder::runtime`](crate::Builder::runtime). The callback must not block that task for long. It pays a unit of
    /// Tokio's cooperative budget for each message, so that a task which is never kept waiting yields every 128
    /// messages.
    ///
    /// A callback that panics is contained: that is counted in
    /// [`Stats::callback_panics`](crate::Stats::callback_panics), and it is called again with the next message.
    ///
    /// If the runtime shuts down, the callback is not called any more. As long as the [`Callback`] is there, so is the
    /// receiver: the channel stays open, and whoever unregisters goes on where the callback stopped.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, rx) = turbostream::channel();
    /// let (seen_tx, mut seen) = tokio::sync::mpsc::unbounded_channel();
    /// let callback = rx.on_message(move |message| seen_tx.send(message).unwrap());
    ///
    /// tx.send("called with this").await?;
    /// assert_eq!(seen.recv().await.unwrap(), "called with this");
    ///
    /// let rx = callback.unregister().await;
    /// tx.send("received").await?;
    /// assert_eq!(rx.recv().await.unwrap(), "received");
    /// # Ok(()) }
    /// ```
    pub fn on_message(self, callback: impl FnMut(Bytes) + Send + 'static) -> Callback {
        register(self, Receiver::poll_recv, callback)
    }

    /// Has a task call `callback` with up to `limit` messages of one segment at a time, as
    /// [`recv_batch`](Self::recv_batch) gives them. A limit of 0 counts as 1.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, rx) = turbostream::channel();
    /// let (counted_tx, mut counted) = tokio::sync::mpsc::unbounded_channel();
    /// rx.on_batch(1024, move |batch| counted_tx.send(batch.len()).unwrap());
    ///
    /// for _ in 0..1000 {
    ///     tx.send("counted").await?;
    /// }
    /// drop(tx); // ends the task, and `counted` with it
    /// let mut sum = 0;
    /// while let Some(messages) = counted.recv().await {
    ///     sum += messages;
    /// }
    /// assert_eq!(sum, 1000);
    /// # Ok(()) }
    /// ```
    pub fn on_batch(self, limit: usize, callback: impl FnMut(Batch) + Send + 'static) -> Callback {
        register(self, move |receiver, cx| receiver.poll_own_batch(limit, cx), callback)
    }
}

impl Callback {
    /// Ends the calls and gives the receiver back: at once, or after the call that is being made. What the callback did
    /// not get is still in the channel, and comes next.
    ///
    /// That is so too if the channel is closed, and if the runtime has shut down or is not driven. A callback that waits
    /// for its own unregistration waits for ever.
    ///
    /// # Cancel safety
    ///
    /// An `unregister` that is dropped before it returned leaves the callback registered for good, as dropping the
    /// [`Callback`] does. No message is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, rx) = turbostream::channel();
    /// let callback = rx.on_message(|message| println!("{message:?}"));
    /// drop(tx);
    /// let rx = callback.unregister().await;
    /// assert_eq!(rx.recv().await, None);
    /// # Ok(()) }
    /// ```
    pub async fn unregister(self) -> Receiver {
        let receiver = self.shared.give_back().await;
        self.task.abort();
        receiver
    }

    /// Whether the callback will not be called any more: the channel is closed and drained, or the runtime has shut
    /// down.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback").field("finished", &self.is_finished()).finish_non_exhaustive()
    }
}

/// What the task and the handle share.
pub(crate) struct Shared {
    /// The receiver, except while the task polls it and calls the callback, which it does in one go; and once it was
    /// unregistered.
    slot: Mutex<Option<Receiver>>,
    /// Somebody unregisters.
    wanted: AtomicBool,
    /// Who unregisters waits here for the receiver.
    returned: WaitList,
    /// The task waits here while the receiver is wanted.
    resumed: WaitList,
}

impl Shared {
    pub(crate) fn new(receiver: Receiver) -> Self {
        Self {
            slot: Mutex::new(Some(receiver)),
            wanted: AtomicBool::new(false),
            returned: WaitList::new(),
            resumed: WaitList::new(),
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Receiver>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn want(&self, wanted: bool) {
        // ORDERING: Relaxed: `true` only keeps the task from taking the receiver again and again, `false` is followed by
        // the fence of a wake.
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    fn is_wanted(&self) -> bool {
        // ORDERING: Relaxed, as above.
        self.wanted.load(Ordering::Relaxed)
    }

    /// Takes the receiver away from the task, waiting for the call that it is in.
    pub(crate) async fn give_back(&self) -> Receiver {
        struct Wanting<'a>(&'a Shared);
        impl Drop for Wanting<'_> {
            fn drop(&mut self) {
                self.0.want(false);
                self.0.resumed.wake_all();
            }
        }
        self.want(true);
        let wanting = Wanting(self);
        let receiver = self.returned.wait_until(|_| self.slot().take()).await;
        mem::forget(wanting);
        receiver.deregister_own_waiter();
        receiver
    }

    fn take(&self) -> Option<Held<'_>> {
        let receiver = self.slot().take();
        receiver.is_some().then_some(Held { shared: self, receiver })
    }
}

/// The receiver in the hands of the task; goes back where it came from.
struct Held<'a> {
    shared: &'a Shared,
    receiver: Option<Receiver>,
}

impl Deref for Held<'_> {
    type Target = Receiver;
    fn deref(&self) -> &Receiver {
        self.receiver.as_ref().expect("taken by its drop only")
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.shared.slot() = self.receiver.take();
        self.shared.returned.wake(1);
    }
}

/// The task's share. When it is dropped, be it by its runtime, nobody polls the receiver any more.
struct Driving(Arc<Shared>);

impl Drop for Driving {
    fn drop(&mut self) {
        if let Some(receiver) = self.0.take() {
            receiver.deregister_own_waiter();
        }
    }
}

fn register<T: 'static>(
    receiver: Receiver,
    poll: impl FnMut(&Receiver, &mut Context<'_>) -> Poll<Option<T>> + Send + 'static,
    callback: impl FnMut(T) + Send + 'static,
) -> Callback {
    let runtime = receiver.core().background().runtime().cloned().unwrap_or_else(Handle::current);
    let alive = receiver.core().tasks().enter();
    let shared = Arc::new(Shared::new(receiver));
    let driving = drive(Arc::clone(&shared), poll, callback);
    let task = runtime.spawn(async move {
        let _alive = alive;
        driving.await;
    });
    Callback { shared, task }
}

/// Calls `callback` until the channel is closed and drained, or the receiver is gone.
pub(crate) fn drive<T>(
    shared: Arc<Shared>,
    mut poll: impl FnMut(&Receiver, &mut Context<'_>) -> Poll<Option<T>>,
    mut callback: impl FnMut(T),
) -> impl Future<Output = ()> {
    // Out here, so that it is dropped with a future that was never polled.
    let driving = Driving(shared);
    async move {
        let shared = &*driving.0;
        loop {
            let stopped = poll_fn(|cx| call_while_ready(shared, cx, &mut poll, &mut callback)).await;
            if stopped == Stop::Ended {
                return;
            }
            shared.resumed.wait_until(|_| (!shared.is_wanted()).then_some(())).await;
        }
    }
}

/// Why no more calls are made.
#[derive(PartialEq, Eq)]
enum Stop {
    Ended,
    Wanted,
}

/// Makes calls as long as there are messages. A message that was taken is passed on before this returns.
fn call_while_ready<T>(
    shared: &Shared,
    cx: &mut Context<'_>,
    poll: &mut impl FnMut(&Receiver, &mut Context<'_>) -> Poll<Option<T>>,
    callback: &mut impl FnMut(T),
) -> Poll<Stop> {
    let Some(receiver) = shared.take() else { return Poll::Ready(Stop::Ended) };
    while !shared.is_wanted() {
        match poll(&receiver, cx) {
            Poll::Ready(Some(messages)) => receiver.core().call_back(|| callback(messages)),
            Poll::Ready(None) => return Poll::Ready(Stop::Ended),
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Ready(Stop::Wanted)
}
