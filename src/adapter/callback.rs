//! A receiver as a callback: a task calls a function with each message.
//!
//! At any time, exactly one of these has the receiver:
//!
//! ```text
//!             try_take                         unregister
//!   driver <------------> in Shared (at rest) -----------> unregistering caller
//!     ReceiverGuard::drop
//! ```
//!
//! The driver task takes the receiver for one poll of its future, calls the function while messages are ready, and puts
//! it back. `unregister` sets a flag that ends this loop after the current call, and waits for the receiver. If the
//! `unregister` future is dropped, it clears the flag and wakes the driver, which continues.

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::queue::limit::Limit;
use crate::receiver::Receiver;
use crate::receiver::batch::Batch;
use crate::sync::{Arc, AtomicBool, Mutex, MutexGuard, Ordering};
use crate::wait::wait_list::WaitList;

/// A function registered for the messages of a [`Receiver`]; see [`Receiver::on_message`] and [`Receiver::on_batch`].
///
/// Dropping it leaves the function registered, as dropping a [`JoinHandle`] leaves its task running.
pub struct Callback {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Calls `callback` with each message, one at a time, in the order in which messages were accepted.
    ///
    /// The calls end when the callback is [unregistered](Callback::unregister), or when the channel is closed and
    /// drained.
    ///
    /// A task on the channel's runtime makes the calls. That is the runtime in which the channel was built, or
    /// [`Builder::runtime`](crate::Builder::runtime). The callback must not block that task for long. If the task never
    /// has to wait, it yields every 4096 messages, and every 128 if the callback takes more than 2 µs.
    ///
    /// A panic of the callback is caught and counted in
    /// [`Stats::callback_panics`](crate::Stats::callback_panics). The callback is called again with the next message.
    ///
    /// After the runtime has shut down, the callback is not called any more. The [`Callback`] still owns the receiver:
    /// the channel stays open, and an unregistered receiver continues where the callback stopped.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, mut rx) = turbostream::channel();
    /// let (seen_tx, mut seen) = tokio::sync::mpsc::unbounded_channel();
    /// let callback = rx.on_message(move |message| seen_tx.send(message).unwrap());
    ///
    /// tx.send("called with this").await?;
    /// assert_eq!(seen.recv().await.unwrap(), "called with this");
    ///
    /// let mut rx = callback.unregister().await;
    /// tx.send("received").await?;
    /// assert_eq!(rx.recv().await.unwrap(), "received");
    /// # Ok(()) }
    /// ```
    pub fn on_message(self, callback: impl FnMut(Bytes) + Send + 'static) -> Callback {
        register(self, Receiver::poll_recv, callback)
    }

    /// Calls `callback` with batches, each within `limit`.
    ///
    /// Each batch holds messages of one segment, as returned by [`recv_batch`](Self::recv_batch). A limit of 0
    /// messages counts as 1. Everything else is as for [`on_message`](Self::on_message).
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
    /// drop(tx); // ends the task, which ends `counted`
    /// let mut sum = 0;
    /// while let Some(messages) = counted.recv().await {
    ///     sum += messages;
    /// }
    /// assert_eq!(sum, 1000);
    /// # Ok(()) }
    /// ```
    pub fn on_batch(self, limit: impl Into<Limit>, callback: impl FnMut(Batch) + Send + 'static) -> Callback {
        let limit = limit.into();
        register(self, move |receiver, cx| receiver.poll_recv_batch(cx, limit), callback)
    }
}

impl Callback {
    /// Ends the calls and returns the receiver: at once, or after the call in progress.
    ///
    /// Messages that the callback did not get are still in the channel; the receiver returns them next. This also works
    /// if the channel is closed, and if the runtime has shut down or is not driven. A callback that waits for its own
    /// unregistration deadlocks.
    ///
    /// # Cancel safety
    ///
    /// If this future is dropped before it is ready, the callback stays registered for good, as if the [`Callback`] had
    /// been dropped. No message is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, mut rx) = turbostream::channel();
    /// let callback = rx.on_message(|message| println!("{message:?}"));
    /// drop(tx);
    /// let mut rx = callback.unregister().await;
    /// assert_eq!(rx.recv().await, None);
    /// # Ok(()) }
    /// ```
    pub async fn unregister(self) -> Receiver {
        let receiver = self.shared.unregister().await;
        self.task.abort();
        receiver
    }

    /// Returns whether the calls have ended: the channel is closed and drained, or the runtime has shut down.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback").field("finished", &self.is_finished()).finish_non_exhaustive()
    }
}

/// State shared by the driver task and the [`Callback`].
pub(crate) struct Shared {
    /// The receiver; `None` while the driver has it, and after it was unregistered. The driver puts it back before its
    /// poll returns.
    receiver: Mutex<Option<Receiver>>,
    /// Whether an `unregister` is in progress.
    unregistering: AtomicBool,
    /// `unregister` waits here until the driver has put the receiver back.
    returned: WaitList,
    /// The driver waits here while an `unregister` is in progress.
    resumed: WaitList,
}

impl Shared {
    pub(crate) fn new(receiver: Receiver) -> Self {
        Self {
            receiver: Mutex::new(Some(receiver)),
            unregistering: AtomicBool::new(false),
            returned: WaitList::new(),
            resumed: WaitList::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Receiver>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_unregistering(&self, unregistering: bool) {
        // ORDERING: Relaxed: `true` is a hint that keeps the driver from taking the receiver again and again; the lock
        // of `receiver` orders the handover. `false` is followed by `wake`, which takes the lock of the list in which the
        // driver registers: either the driver reads `false` or it is woken.
        self.unregistering.store(unregistering, Ordering::Relaxed);
    }

    fn is_unregistering(&self) -> bool {
        // ORDERING: Relaxed: see `set_unregistering`.
        self.unregistering.load(Ordering::Relaxed)
    }

    /// Takes the receiver from the driver for good, after the call in progress.
    pub(crate) async fn unregister(&self) -> Receiver {
        /// Lets the driver continue if `unregister` is dropped.
        struct ResumeOnDrop<'a>(&'a Shared);
        impl Drop for ResumeOnDrop<'_> {
            fn drop(&mut self) {
                self.0.set_unregistering(false);
                self.0.resumed.wake();
            }
        }
        self.set_unregistering(true);
        let resume = ResumeOnDrop(self);
        let mut receiver = self.returned.wait_until(|_| self.lock().take()).await;
        mem::forget(resume);
        receiver.deregister_own_waiter();
        receiver
    }

    fn try_take(&self) -> Option<ReceiverGuard<'_>> {
        let receiver = self.lock().take();
        receiver.is_some().then_some(ReceiverGuard { shared: self, receiver })
    }
}

/// The receiver while the driver has it. Its drop puts the receiver back and wakes an `unregister`.
struct ReceiverGuard<'a> {
    shared: &'a Shared,
    receiver: Option<Receiver>,
}

impl Deref for ReceiverGuard<'_> {
    type Target = Receiver;
    fn deref(&self) -> &Receiver {
        self.receiver.as_ref().expect("only the drop takes it")
    }
}

impl DerefMut for ReceiverGuard<'_> {
    fn deref_mut(&mut self) -> &mut Receiver {
        self.receiver.as_mut().expect("only the drop takes it")
    }
}

impl Drop for ReceiverGuard<'_> {
    fn drop(&mut self) {
        *self.shared.lock() = self.receiver.take();
        self.shared.returned.wake();
    }
}

/// The driver's share of the state. Its drop deregisters the receiver's waiter, which no task polls any more.
///
/// The runtime drops it if it shuts down before the driver has ended.
struct DriverGuard(Arc<Shared>);

impl Drop for DriverGuard {
    fn drop(&mut self) {
        if let Some(mut receiver) = self.0.try_take() {
            receiver.deregister_own_waiter();
        }
    }
}

fn register<T: 'static>(
    receiver: Receiver,
    poll: impl FnMut(&mut Receiver, &mut Context<'_>) -> Poll<Option<T>> + Send + 'static,
    callback: impl FnMut(T) + Send + 'static,
) -> Callback {
    let runtime = receiver.core().background().runtime().cloned().unwrap_or_else(Handle::current);
    let alive = receiver.core().tasks().enter();
    let shared = Arc::new(Shared::new(receiver));
    let driver = drive(Arc::clone(&shared), poll, callback);
    let task = runtime.spawn(async move {
        let _alive = alive;
        driver.await;
    });
    Callback { shared, task }
}

/// Calls `callback` until the channel is closed and drained, or the receiver was unregistered.
pub(crate) fn drive<T>(
    shared: Arc<Shared>,
    mut poll: impl FnMut(&mut Receiver, &mut Context<'_>) -> Poll<Option<T>>,
    mut callback: impl FnMut(T),
) -> impl Future<Output = ()> {
    // Outside of the async block, so that a future that was never polled drops it too.
    let guard = DriverGuard(shared);
    async move {
        let shared = &*guard.0;
        loop {
            let stop = poll_fn(|cx| call_while_ready(shared, cx, &mut poll, &mut callback)).await;
            if stop == Stop::Ended {
                return;
            }
            shared.resumed.wait_until(|_| (!shared.is_unregistering()).then_some(())).await;
        }
    }
}

/// Why the driver makes no more calls.
#[derive(PartialEq, Eq)]
enum Stop {
    /// The channel is closed and drained, or the receiver was unregistered.
    Ended,
    /// An `unregister` is in progress.
    Unregistering,
}

/// Calls `callback` while messages are ready. It passes every message that it takes to `callback` before it returns.
fn call_while_ready<T>(
    shared: &Shared,
    cx: &mut Context<'_>,
    poll: &mut impl FnMut(&mut Receiver, &mut Context<'_>) -> Poll<Option<T>>,
    callback: &mut impl FnMut(T),
) -> Poll<Stop> {
    let Some(mut receiver) = shared.try_take() else { return Poll::Ready(Stop::Ended) };
    while !shared.is_unregistering() {
        match poll(&mut receiver, cx) {
            Poll::Ready(Some(messages)) => receiver.core().run_callback(|| callback(messages)),
            Poll::Ready(None) => return Poll::Ready(Stop::Ended),
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Ready(Stop::Unregistering)
}
